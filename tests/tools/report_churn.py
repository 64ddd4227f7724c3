#!/usr/bin/env python3
"""report_churn.py - databases with maps whose churn is known, and the churn computed a second time

usage: report_churn.py make FILE [--seed N] [--host H] [--snapshots N] [--start T]
       report_churn.py check DB... [--csv FILE] [--json FILE]

make writes a database as dscollect --keep-runs does, in the form that rle/map.h draws, with processes that stay, grow,
shrink, move, call exec, end, come late, or miss snapshots.  check decodes the blobs of databases page by page, compares
neighbouring snapshots of each boot page by page, and says "same" or what a CSV or JSON of dsreport has otherwise.
Nothing is shared with dsreport but the library of the checksum.
"""
import argparse
import collections
import csv
import ctypes
import json
import math
import random
import sqlite3
import struct
import sys

import report_makedb

XXH = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
XXH.restype, XXH.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
PERCENTS = (50, 75, 90, 95, 99, 100)


def runs_of(pages):
    runs = []
    for vpn in sorted(pages):
        if runs and vpn == runs[-1][0] + runs[-1][2] and pages[vpn] == runs[-1][1] + runs[-1][2]:
            runs[-1][2] += 1
        else:
            runs.append([vpn, pages[vpn], 1])
    return runs


def blob_of(pages, pid, start):
    runs = runs_of(pages)
    body = b"".join(struct.pack("<QQII", *run, 1) for run in runs)
    head = struct.pack("<8sIHHBBBBIQQQQ", b"DSRUNMAP", 0x01020304, 1, 72, 12, 0, 1, 0, 0, len(runs), len(pages), pid, start)
    head += struct.pack("<Q", XXH(body, len(body)))
    return head + struct.pack("<Q", XXH(head, len(head))) + body


def pages_of(blob):
    pages = {}
    for at in range(72, len(blob), 24):
        vpn, pfn, n, _ = struct.unpack_from("<QQII", blob, at)
        pages.update((vpn + i, pfn + i) for i in range(n))
    return pages


def stretch(rng, pages, n):
    vpn, pfn = rng.randrange(1000, 4000), rng.randrange(1 << 20)
    for i in range(n):
        pages[vpn + i] = pfn + i


def step(rng, kind, pages):
    """What a process of this kind does in an interval."""
    for _ in range(rng.randrange(4) if kind in ("grow", "mixed") else 0):
        stretch(rng, pages, rng.randrange(1, 40))
    for _ in range(rng.randrange(3) if kind in ("shrink", "mixed") and pages else 0):
        first = rng.choice(sorted(pages)) if pages else 0
        for vpn in range(first, first + rng.randrange(1, 30)):
            pages.pop(vpn, None)
    for vpn in rng.sample(sorted(pages), min(len(pages), rng.randrange(6))) if kind in ("move", "mixed") else ():
        pages[vpn] = rng.randrange(1 << 20)


def make(a):
    rng = random.Random(a.seed)
    db = sqlite3.connect(a.file)
    db.executescript(report_makedb.SCHEMA.read_text())
    kinds = ["still", "grow", "shrink", "move", "mixed", "mixed", "exec", "late", "ends", "gaps", "nomap", "empty", "lone", "big"]
    names = {"ok": 1, "vanished": 2, "after": 3, **{k: 4 + i for i, k in enumerate(dict.fromkeys(kinds))}}
    # a name that needs every kind of quoting
    db.executemany("INSERT INTO name VALUES (?, ?)", [(i, 'a "b",\nc' if t == "mixed" else t) for t, i in names.items()])
    db.execute("INSERT INTO boot VALUES (1, ?, ?, 'k')", (a.host, f"boot-of-{a.host}"))
    memory = []
    for i, _ in enumerate(kinds):
        db.execute("INSERT INTO process VALUES (?, 1, ?, ?)", (i + 1, 500 - 7 * i, 90 + i))
        memory.append({})
        if kinds[i] == "big":  # a map of more than a megabyte
            memory[i].update((2 * v, 3 * v) for v in range(5000, 50000))
        for _ in range(0 if kinds[i] == "empty" else 30):
            stretch(rng, memory[i], rng.randrange(1, 60))
    row = report_makedb.sample_from_runs(rng, [1, 2, 40, 600], "none")
    columns = report_makedb.COLUMNS
    time = a.start
    for s in range(1, a.snapshots + 1):
        db.execute("INSERT INTO snapshot (id, boot, time, duration_ns, tool, join_mode, page_size, n_seen, n_sampled, n_kernel, n_zombie,"
                   " n_vanished, n_denied, n_timeout, n_error) VALUES (?, 1, ?, 1, 't', 'none', 4096, 9, 9, 0, 0, 0, 0, 0, 0)", (s, time))
        time += rng.choice([60, 60, 61.5])
        for i, kind in enumerate(kinds):
            comm, status = kind, "ok"
            if (kind == "late" and s < 5) or (kind == "ends" and s > 6) or (kind == "lone" and s != 4) or (kind == "big" and s > 2):
                continue
            if kind == "exec" and s >= 7:
                comm = "after"
                if s == 7:
                    memory[i] = {}
                    stretch(rng, memory[i], 50)
            if kind == "big" and s == 2:
                memory[i][70000] = 1
            if s > 1:
                step(rng, kind, memory[i])
            if kind == "gaps" and rng.random() < 0.3:
                status = "vanished"
            values = dict(row, snapshot=s, process=i + 1, comm=names[comm], status=names[status], uid=0)
            values.update(pte_present=len(memory[i]), runs=len(runs_of(memory[i])))
            if status != "ok":
                values = {k: values[k] for k in ("snapshot", "process", "comm", "status", "uid")}
            sample = db.execute(f"INSERT INTO sample ({','.join(columns)}) VALUES ({','.join('?' * len(columns))})",
                                [values.get(c) for c in columns]).lastrowid
            if status == "ok" and not (kind == "nomap" and s % 3 == 0):
                db.execute("INSERT INTO run_map VALUES (?, ?)", (sample, blob_of(memory[i], 500 - 7 * i, 90 + i)))
    db.commit()
    db.close()


def compare(was, now):
    """Page by page.  A change goes on as long as the pages follow each other on both sides and changed alike."""
    count, changes, before = collections.Counter(), 0, None
    for vpn in sorted(was.keys() | now.keys()):
        w, n = was.get(vpn), now.get(vpn)
        if w == n:
            continue
        kind = "removed" if n is None else "added" if w is None else "moved"
        count[kind] += 1
        goes_on = before is not None and before == (kind, vpn - 1, None if w is None else w - 1, None if n is None else n - 1)
        changes += not goes_on
        before = (kind, vpn, w, n)
    return count, changes


def pairs_of(files):
    boots, maps = collections.defaultdict(set), collections.defaultdict(dict)
    for file in files:
        db = sqlite3.connect(file)
        for key in db.execute("SELECT b.host, b.boot_id, s.time FROM snapshot s JOIN boot b ON b.id = s.boot"):
            boots[key[:2]].add(key[2])
        for host, boot, time, pid, start, comm, blob in db.execute(
                "SELECT b.host, b.boot_id, s.time, p.pid, p.start_ticks, c.text, m.map FROM run_map m JOIN sample x ON x.id = m.sample"
                " JOIN snapshot s ON s.id = x.snapshot JOIN boot b ON b.id = s.boot JOIN process p ON p.id = x.process JOIN name c ON c.id = x.comm"):
            if len(blob) >= 72 and struct.unpack_from("<Q", blob, 56)[0] == XXH(blob[72:], len(blob) - 72):
                maps[host, boot, pid, start][time] = comm, pages_of(blob)
    rows = []
    for (host, boot, pid, start), at in maps.items():
        times = sorted(boots[host, boot])
        for earlier, later in zip(times, times[1:]):
            if earlier in at and later in at:
                was, (comm, now) = at[earlier][1], at[later]
                count, changes = compare(was, now)
                rows.append(dict(host=host, pid=pid, start_ticks=start, comm=comm, time=later, seconds=later - earlier, pages_before=len(was),
                                 pages_after=len(now), runs_before=len(runs_of(was)), runs_after=len(runs_of(now)), removed=count["removed"],
                                 added=count["added"], moved=count["moved"], changes=changes))
    return rows


def check(a):
    want, bad = pairs_of(a.db), []
    identity = lambda r: (r["host"], int(r["pid"]), int(r["start_ticks"]))
    if a.csv:
        with open(a.csv, newline="", encoding="utf-8") as f:
            got = list(csv.DictReader(f))
        keys = [(*identity(r), float(r["time"])) for r in got]
        if len({k[:3] for k in keys}) != sum(1 for i, k in enumerate(keys) if not i or keys[i - 1][:3] != k[:3]) or any(
                x[:3] == y[:3] and x[3] >= y[3] for x, y in zip(keys, keys[1:])):
            bad.append("rows are not ordered by process, then time")
        by_key = {(*identity(r), r["time"]): r for r in want}
        for key, r in zip(keys, got):
            w = by_key.pop(key, None)
            wrong = [c for c in r if w is None or (r[c] != w[c] if c in ("host", "comm") else float(r[c]) != w[c])]
            if wrong:
                bad.append(f"{key}: {[(c, r[c], w and w[c]) for c in wrong]}")
        bad += [f"missing: {k}" for k in by_key]
    if a.json:
        with open(a.json, encoding="utf-8") as f:
            c = json.load(f)["churn"]
        values = collections.defaultdict(list)
        for r in want:
            changed = r["removed"] + r["added"] + r["moved"]
            for name, x in dict(changes=r["changes"], runs=r["runs_after"], changed_pages=changed, removed_pages=r["removed"], added_pages=r["added"],
                                moved_pages=r["moved"], seconds=r["seconds"]).items():
                values[name].append(x)
            if r["runs_after"]:
                values["changes_per_run"].append(r["changes"] / r["runs_after"])
            if r["pages_before"] + r["added"]:
                values["changed_share"].append(changed / (r["pages_before"] + r["added"]))
        expect = {"pairs": len(want), "processes": len({identity(r) for r in want}), "changes": sum(values["changes"]),
                  "pairs_without_change": values["changes"].count(0)}
        for key, x in expect.items():
            if c[key] != x:
                bad.append(f"{key}: {c[key]}, recomputed {x}")
        for kind in ("removed", "added", "moved"):
            x = {"pages": sum(values[kind + "_pages"]), "pairs_without": values[kind + "_pages"].count(0)}
            if c["kinds"][kind] != x:
                bad.append(f"{kind}: {c['kinds'][kind]}, recomputed {x}")
        if set(c["quantiles"]) != set(values):
            bad.append(f"quantiles of {set(c['quantiles']) ^ set(values)}")
        for name, v in values.items():
            x = {"n": len(v), **{str(p): sorted(v)[math.ceil(len(v) * p / 100) - 1] for p in PERCENTS}}
            if c["quantiles"][name] != x:
                bad.append(f"{name}: {c['quantiles'][name]}, recomputed {x}")
        for name in ("changes", "runs"):
            wrong = [p for p in c["cdf"][name]["points"] if sum(x <= p[0] for x in values[name]) != p[1]]
            if wrong or not c["cdf"][name]["points"]:
                bad.append(f"distribution of {name}: {wrong}")
    print("\n".join(bad[:20]) if bad else f"same {len(want)}")


def main():
    p = argparse.ArgumentParser()
    sub = p.add_subparsers(dest="do", required=True)
    m = sub.add_parser("make")
    m.add_argument("file")
    m.add_argument("--seed", type=int, default=1)
    m.add_argument("--host", default="alpha")
    m.add_argument("--snapshots", type=int, default=12)
    m.add_argument("--start", type=float, default=1767225600.25)
    k = sub.add_parser("check")
    k.add_argument("db", nargs="+")
    k.add_argument("--csv")
    k.add_argument("--json")
    a = p.parse_args()
    (make if a.do == "make" else check)(a)
    return 0


if __name__ == "__main__":
    sys.exit(main())
