#!/usr/bin/env python3
"""report_check.py - computes a report a second time, from the tables, and compares with what dsreport --json says

usage: report_check.py REPORT.json DB... [--where SQL]

Nothing is shared with dsreport: rational arithmetic (fractions), quantiles by definition, own joins over the tables
instead of the views.  Quantiles, counts and points of the distribution functions must be equal; correlations, which
need a square root, must agree with 40-digit arithmetic to 1e-14.  Prints "same" or what differs.
"""
import argparse
import collections
import decimal
import json
import math
import sqlite3
import sys
from fractions import Fraction

decimal.getcontext().prec = 40
PERCENTS = (50, 75, 90, 95, 99, 100)
SQL = """SELECT b.host, b.boot_id, s.time, p.pid, p.start_ticks, c.text AS comm, g.text AS cgroup, t.text AS status, x.*
FROM sample x, snapshot s, boot b, process p, name c, name t LEFT JOIN name g ON g.id = x.cgroup
WHERE s.id = x.snapshot AND b.id = s.boot AND p.id = x.process AND c.id = x.comm AND t.id = x.status"""
bad = []


def same(what, got, want):
    if got != want:
        bad.append(f"{what}: dsreport says {got!r}, recomputed {want!r}")


def close(what, got, want):
    if (got is None) != (want is None) or (got is not None and abs(got - want) > 1e-14):
        bad.append(f"{what}: dsreport says {got!r}, recomputed {want!r}")


def read(files, where):
    rows, seen = [], set()
    for file in files:
        db = sqlite3.connect(file)
        db.row_factory = sqlite3.Row
        mine = [dict(r) for r in db.execute(SQL + (f" AND ({where})" if where else ""))]
        new = {(r["host"], r["boot_id"], r["time"]) for r in mine} - seen
        rows += [r for r in mine if (r["host"], r["boot_id"], r["time"]) in new]
        seen |= new
    rows.sort(key=lambda r: (r["time"], r["host"], r["boot_id"], r["pid"], r["start_ticks"]))
    return rows


def quantile(values, percent):
    """The smallest value that at least percent % of the values do not exceed."""
    need = math.ceil(Fraction(percent, 100) * len(values))
    return sorted(values)[need - 1] if values else None


def pearson(x, y):
    x, y = [Fraction(v) for v in x], [Fraction(v) for v in y]
    n = len(x)
    if n < 2:
        return None
    sxx = sum(v * v for v in x) - sum(x) ** 2 / n
    syy = sum(v * v for v in y) - sum(y) ** 2 / n
    sxy = sum(a * b for a, b in zip(x, y)) - sum(x) * sum(y) / n
    if not sxx or not syy:
        return None
    square = sxy * sxy / (sxx * syy)
    root = (decimal.Decimal(square.numerator) / decimal.Decimal(square.denominator)).sqrt()
    return float(root) * (1 if sxy >= 0 else -1)


def check_group(name, got, rows):
    ok = [r for r in rows if r["status"] == "ok"]
    present = [r for r in ok if r["pte_present"]]
    ratio = lambda r: r["runs"] / r["pte_present"]
    values = {
        "pte_present": [r["pte_present"] for r in ok],
        "runs": [r["runs"] for r in ok],
        "ratio": [ratio(r) for r in present],
        "ratio_mapped": [r["runs"] / r["pages_mapped"] for r in ok if r["pages_mapped"]],
        "runs_prot": [r["runs_prot"] for r in ok if r["runs_prot"] is not None],
        "runs_attr": [r["runs_attr"] for r in ok if r["runs_attr"] is not None],
    }
    for c in (50, 90, 95, 99, 100):
        values[f"cover{c}"] = [r[f"cover{c}"] for r in ok if r[f"cover{c}"] is not None]
    same(f"{name} samples", got["samples"], len(ok))
    same(f"{name} without pages", got["samples_without_pages"], len(ok) - len(present))
    same(f"{name} processes", got["processes"], len({(r["host"], r["boot_id"], r["pid"], r["start_ticks"]) for r in ok}))
    same(f"{name} below 6000", got["samples_below_6000_runs"], sum(r["runs"] < 6000 for r in ok))
    same(f"{name} beyond 65530", got["samples_beyond_65530_runs"], sum(r["runs"] > 65530 for r in ok))
    for var, q in got["quantiles"].items():
        same(f"{name} {var} n", q["n"], len(values[var]))
        for p in PERCENTS:
            same(f"{name} {var} {p} %", q[str(p)], quantile(values[var], p))
    for var, cdf in got["cdf"].items():
        same(f"{name} cdf {var} n", cdf["n"], len(values[var]))
        for x, count in cdf["points"]:
            same(f"{name} cdf {var} at {x}", count, sum(v <= x for v in values[var]))
        if values[var]:
            same(f"{name} cdf {var} ends", cdf["points"][-1], [max(values[var]), len(values[var])])
    latest, pairs = {}, []
    for r in present:
        key = (r["host"], r["boot_id"], r["pid"], r["start_ticks"])
        if key in latest:
            pairs.append((ratio(latest[key]), ratio(r)))
        latest[key] = r
    c = got["correlation"]
    close(f"{name} r", c["all_samples"], pearson([ratio(r) for r in present], [r["pte_present"] for r in present]))
    close(f"{name} r log", c["log10_size"], pearson([ratio(r) for r in present], [math.log10(r["pte_present"]) for r in present]))
    close(f"{name} r latest", c["latest_of_each_process"],
          pearson([ratio(r) for r in latest.values()], [r["pte_present"] for r in latest.values()]))
    close(f"{name} r previous", c["ratio_with_its_previous"], pearson([a for a, _ in pairs], [b for _, b in pairs]))
    same(f"{name} pairs", c["pairs"], len(pairs))
    for column, t in got["totals"].items():
        there = [r for r in ok if r[column] is not None]
        same(f"{name} sum {column}", (t["sum"], t["samples"], t["pte_present"]),
             (sum(r[column] for r in there), len(there), sum(r["pte_present"] for r in there)))
    for hist in ("hist_runs", "hist_pages"):
        want = collections.Counter()
        for r in ok:
            want.update(dict(enumerate(json.loads(r[hist]))))
        same(f"{name} {hist}", {i: v for i, v in enumerate(got[hist]) if v}, {i: v for i, v in want.items() if v})


def check_lists(got, rows):
    ok = [r for r in rows if r["status"] == "ok"]
    most = {}
    for r in ok:
        key = (r["host"], r["boot_id"], r["pid"], r["start_ticks"])
        if key not in most or r["runs"] > most[key]["runs"]:
            most[key] = r
    order = sorted(most.values(), key=lambda r: (-r["runs"], -r["pte_present"], r["host"], r["pid"], r["start_ticks"]))
    pick = lambda r: (r["host"], r["pid"], r["comm"], r["runs"], r["pte_present"], r["time"])
    same("top_runs", [pick(r) for r in got["top_runs"]], [pick(r) for r in order[:len(got["top_runs"])]])
    same("beyond", [pick(r) for r in got["beyond_65530_runs"]], [pick(r) for r in order if r["runs"] > 65530])
    same("other statuses", got["samples_by_other_status"], dict(collections.Counter(r["status"] for r in rows if r["status"] != "ok")))
    series = collections.defaultdict(list)
    for r in ok:
        series[(r["host"], r["time"])].append(r)
    for m in got["time_series"]:
        there = series[(m["host"], m["time"])]
        same(f"at {m['time']}", (m["samples"], m["pte_present"], m["runs"], m["ratio_p50"]),
             (len(there), sum(r["pte_present"] for r in there), sum(r["runs"] for r in there),
              quantile([r["runs"] / r["pte_present"] for r in there if r["pte_present"]], 50)))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("report")
    p.add_argument("db", nargs="+")
    p.add_argument("--where")
    a = p.parse_args()
    got = json.load(open(a.report, encoding="utf-8"))
    rows = read(a.db, a.where)
    check_group("all", got["groups"][0], rows)
    hosts = sorted({r["host"] for r in rows})
    if len(got["groups"]) > 1:
        same("groups", [g["name"] for g in got["groups"][1:]], hosts)
        for g in got["groups"][1:]:
            check_group(g["name"], g, [r for r in rows if r["host"] == g["name"]])
    check_lists(got, rows)
    print("\n".join(bad[:20]) if bad else "same")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
