"""study.py - the numbers of one reduced study table of data/

Percentiles, correlations and distributions are those of `dsreport --json`.  What dsreport does not say (by program, by
size, why runs end) is computed here from the same database, by the same definition of a percentile: nearest rank, always
a value that occurred.  Both count the same percentiles of runs and ratio once, and Study refuses when they differ.

A study database holds every process of the machine.  `reduce` names those `other` that neither a student ran nor the
workload itself: builds and editors of whoever uses the machine besides.  The numbers are those of the workload's
processes; how many were left out, and what the numbers are with them, is kept in `everything`.
"""
import collections
import json
import os
import sqlite3
import statistics
import subprocess
from types import SimpleNamespace

HERE = os.path.dirname(os.path.abspath(__file__))
EXPAND = os.path.join(HERE, "..", "data", "workloads", "expand")
OTHER = "other"
PERCENTS = (50, 75, 90, 95, 99, 100)
MIB_PAGES = 256
SMALL_PAGES = 4 * MIB_PAGES
# Size classes of a process, in present pages: up to so much, and its name.
SIZES = ((MIB_PAGES, "to 1 MiB"), (4 * MIB_PAGES, "to 4 MiB"), (16 * MIB_PAGES, "to 16 MiB"),
         (64 * MIB_PAGES, "to 64 MiB"), (256 * MIB_PAGES, "to 256 MiB"), (1024 * MIB_PAGES, "to 1 GiB"),
         (None, "over 1 GiB"))
HUGE_ORDER = 9  # of a free block of 2 MiB
Row = collections.namedtuple("Row", "comm raw runs mapped end_vma end_hole end_phys aligned file cover99 snapshot")


class Trouble(Exception):
    """Something that ends the work, told in its text."""


def quantile(ordered, percent):
    """Nearest rank, as dsreport(1) has it; None of nothing."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)] if ordered else None


def quantiles(values):
    ordered = sorted(values)
    return SimpleNamespace(n=len(ordered), **{"p%d" % p: quantile(ordered, p) for p in PERCENTS})


def share(part, whole):
    return part / whole if whole else None


def run(command, what):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Trouble("%s: %s" % (what, (result.stderr or result.stdout).strip() or "status %d" % result.returncode))
    return result.stdout


def report_of(dsreport, database):
    return json.loads(run([dsreport, "--json", "-", database], database))


class Numbers:
    """What a report says of its samples, under the names that the text uses."""

    def __init__(self, report):
        group = report["groups"][0]
        for name, key in (("runs", "runs"), ("raw", "pte_present"), ("ratio", "ratio"), ("ratio_mapped", "ratio_mapped"),
                          ("runs_prot", "runs_prot"), ("cover99", "cover99")):
            values = group["quantiles"][key]
            setattr(self, name, SimpleNamespace(n=values["n"], **{"p%d" % p: values[str(p)] for p in PERCENTS}))
        totals = {key: value["sum"] for key, value in group["totals"].items()}
        self.cdf = group["cdf"]
        self.samples, self.processes = group["samples"], group["processes"]
        self.snapshots = report["snapshots"]
        self.seconds = report["last"] - report["first"]
        self.below_6000 = share(group["samples_below_6000_runs"], self.samples)
        self.beyond = group["samples_beyond_65530_runs"]
        self.within_limit = share(self.samples - self.beyond, self.samples)
        self.beyond_processes = len(report["beyond_65530_runs"])
        correlation = group["correlation"]
        self.corr, self.corr_log = correlation["all_samples"], correlation["log10_size"]
        self.corr_latest, self.lag = correlation["latest_of_each_process"], correlation["ratio_with_its_previous"]
        self.factor_total = share(totals["pte_present"], totals["runs"])
        self.factor_median = 1 / self.ratio.p50 if self.ratio.p50 else None
        ends = totals["end_vma"] + totals["end_hole"] + totals["end_phys"]
        self.end_vma, self.end_hole, self.end_phys = (share(totals[key], ends) for key in ("end_vma", "end_hole", "end_phys"))


class Study:
    """One table: @base names it without its endings.  @scratch: a folder for its database.  @deep: all of it, else
    only what a curve and a line of a table need.

    The database's path stays valid as long as @scratch: with the workload's processes alone.
    """

    def __init__(self, base, dsreport, scratch, deep=True):
        self.database = os.path.join(scratch, os.path.basename(base) + ".db")
        run([EXPAND, base, self.database], base)
        with open(base + ".json", encoding="utf-8") as file:
            self.manifest = json.load(file)
        first = self.manifest["runs"][0] if self.manifest["runs"] else None
        if not first:
            raise Trouble("%s.json says nothing of the run that the table is of" % base)
        self.settings, self.machine = SimpleNamespace(**first["settings"]), SimpleNamespace(**first["machine"])
        self.details, self.command = first.get("details", {}), first["command"]
        self.everything = Numbers(report_of(dsreport, self.database)) if deep else None
        connection = sqlite3.connect(self.database)
        try:
            self._read(connection, dsreport, deep)
        finally:
            connection.close()

    def __getattr__(self, name):
        # what is not of the study is of its numbers
        return getattr(self.__dict__["numbers"], name)

    def _read(self, connection, dsreport, deep):
        others = "comm = (SELECT id FROM name WHERE text = '%s')" % OTHER
        ok = "status = (SELECT id FROM name WHERE text = 'ok')"
        self.left_out = connection.execute("SELECT count(*) FROM sample WHERE %s AND %s" % (others, ok)).fetchone()[0]
        with connection:
            connection.execute("DELETE FROM sample WHERE " + others)
        report = report_of(dsreport, self.database)
        self.numbers = Numbers(report)
        use = max(report["settings"], key=lambda s: s["snapshots"])
        self.kernel, self.thp, self.max_map_count = use["kernel"], use["thp_enabled"], use["max_map_count"]
        times = [row[0] for row in connection.execute("SELECT time FROM snapshot ORDER BY time")]
        self.interval = statistics.median(b - a for a, b in zip(times, times[1:])) if len(times) > 1 else None
        self.free_huge = free_huge([row[0] for row in connection.execute("SELECT buddyinfo FROM snapshot ORDER BY time")])
        if deep:
            self.rows = [Row(*row) for row in connection.execute(
                "SELECT n.text, pte_present, runs, pages_mapped, end_vma, end_hole, end_phys, aligned_2m, file, cover99, "
                "snapshot FROM sample JOIN name n ON n.id = comm WHERE %s" % ok)]
            self._detail()
            self._thin(connection, dsreport)

    def _detail(self):
        self._compare("runs", [row.runs for row in self.rows])
        self._compare("ratio", [row.runs / row.raw for row in self.rows if row.raw])
        # Runs that ended at the end of a mapping or at a page that is not there: so many there would be in physical
        # memory without any fragmentation.
        self.floor = quantiles((row.end_vma + row.end_hole) / row.raw for row in self.rows if row.raw)
        # Memory of files, which the policy for huge pages does not concern; and room for a huge page at all.
        self.file = quantiles(row.file / row.raw for row in self.rows if row.raw and row.file is not None)
        self.with_huge = share(sum(bool(row.aligned) for row in self.rows), len(self.rows))
        by_program = collections.defaultdict(list)
        for row in self.rows:
            by_program[row.comm].append(row)
        ranked = sorted(by_program, key=lambda comm: (-len(by_program[comm]), comm))
        self.programs = [self._class(comm, by_program[comm]) for comm in ranked]
        self.sizes, least = [], 0
        for most, name in SIZES:
            rows = [row for row in self.rows if row.raw > least and (most is None or row.raw <= most)]
            self.sizes.append(self._class(name, rows))
            least = most
        ordered = sorted(self.rows, key=lambda row: row.raw)
        self.largest = self._class("largest 1 %", ordered[-max(1, len(ordered) // 100):])
        self.rest = self._class("the other 99 %", ordered[:-max(1, len(ordered) // 100)])
        server = [row for row in self.rows if row.comm == "postgres"]
        self.server = self._class("postgres", server)
        self.everyone_else = self._class("all but postgres", [row for row in self.rows if row.comm != "postgres"])
        self.server_peak = max(collections.Counter(row.snapshot for row in server).values(), default=0)

    def _class(self, name, rows):
        raw = sum(row.raw for row in rows)
        with_pages = [row for row in rows if row.raw]
        return SimpleNamespace(
            name=name, samples=len(rows), share=share(len(rows), len(self.rows)), raw=quantiles(row.raw for row in rows),
            mapped=quantiles(row.mapped for row in rows), runs=quantiles(row.runs for row in rows),
            ratio=quantiles(row.runs / row.raw for row in with_pages),
            floor=quantiles((row.end_vma + row.end_hole) / row.raw for row in with_pages),
            least=min((row.raw for row in rows), default=None),
            aligned=share(sum(row.aligned or 0 for row in rows), raw),
            physical=share(sum(row.end_phys for row in rows), sum(row.runs for row in rows)))

    def above(self, ratio=None, runs=None):
        """The samples beyond a ratio or a number of runs: their share, whose they are, how small they are."""
        rows = [row for row in self.rows if row.raw and (row.runs / row.raw > ratio if ratio is not None else row.runs > runs)]
        count = collections.Counter(row.comm for row in rows)
        names = ["`%s`" % comm for comm, _ in sorted(count.items(), key=lambda pair: (-pair[1], pair[0]))[:3]]
        return SimpleNamespace(
            share=share(len(rows), len(self.rows)), programs=" and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]])),
            small=share(sum(row.raw <= SMALL_PAGES for row in rows), len(rows)), raw=quantiles(row.raw for row in rows),
            floor=share(sum((row.end_vma + row.end_hole) / row.raw > (ratio or 0) for row in rows), len(rows)))

    def _compare(self, name, values):
        mine, theirs = quantiles(values), getattr(self.numbers, name)
        for p in PERCENTS:
            if getattr(mine, "p%d" % p) != getattr(theirs, "p%d" % p):
                raise Trouble("%s: dsreport and this program disagree about the %d. percentile of %s: %r, %r"
                              % (self.database, p, name, getattr(theirs, "p%d" % p), getattr(mine, "p%d" % p)))

    def _thin(self, connection, dsreport):
        """The same with a snapshot a minute: does it matter how often one looks?"""
        self.minute = None
        if self.interval and self.interval < 60 and self.numbers.seconds >= 60:
            last, kept = None, []
            for key, time in connection.execute("SELECT id, time FROM snapshot ORDER BY time").fetchall():
                # half an interval of grace: snapshots come a little early or late
                if last is None or time - last >= 60 - self.interval / 2:
                    kept.append(key)
                    last = time
            thin = self.database + "-minute"
            with sqlite3.connect(thin) as copy:
                connection.backup(copy)
                copy.execute("PRAGMA foreign_keys = OFF")
                copy.execute("CREATE TEMP TABLE kept AS SELECT value FROM json_each(?)", (json.dumps(kept),))
                copy.execute("DELETE FROM sample WHERE snapshot NOT IN (SELECT value FROM kept)")
                copy.execute("DELETE FROM snapshot WHERE id NOT IN (SELECT value FROM kept)")
            copy.close()
            self.minute = Numbers(report_of(dsreport, thin))
            os.unlink(thin)


def free_huge(buddyinfos):
    """Median over the snapshots: the share of free memory that lies in blocks of 2 MiB and more; None if not known."""
    shares = []
    for text in buddyinfos:
        free = huge = 0
        for zone in json.loads(text) if text else ():
            for order, blocks in enumerate(zone["free"]):
                free += blocks << order
                huge += blocks << order if order >= HUGE_ORDER else 0
        if free:
            shares.append(huge / free)
    return statistics.median(shares) if shares else None
