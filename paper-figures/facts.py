"""facts.py - the names that the pages' expressions know: studies, the paper, tables made of them"""
from types import SimpleNamespace

from figures import AGES, POLICIES, distance
from page import ABSENT, show, table

PROGRAMS_SHOWN = 12


def programs(study):
    """The workload's programs with most samples, a line each."""
    return table(study.programs[:PROGRAMS_SHOWN], [
        ("program", lambda c: "`%s`" % c.name, "s"), ("samples", lambda c: c.samples, "n"), ("share", lambda c: c.share, "pct"),
        ("present memory, median", lambda c: c.raw.p50, "pages"), ("runs, median", lambda c: c.runs.p50, "n"),
        ("runs, 95 %", lambda c: c.runs.p95, "n"), ("ratio, median", lambda c: c.ratio.p50, "ratio"),
        ("ratio, 95 %", lambda c: c.ratio.p95, "ratio"), ("ratio without fragmentation, median", lambda c: c.floor.p50, "ratio"),
        ("runs ended by another frame", lambda c: c.physical, "pct")])


def sizes(study):
    """Samples by present memory, a line a class."""
    return table([c for c in study.sizes if c.samples], [
        ("present memory", lambda c: c.name, "s"), ("samples", lambda c: c.samples, "n"), ("share", lambda c: c.share, "pct"),
        ("runs, 95 %", lambda c: c.runs.p95, "n"), ("runs, most", lambda c: c.runs.p100, "n"),
        ("ratio, median", lambda c: c.ratio.p50, "ratio"), ("ratio, 95 %", lambda c: c.ratio.p95, "ratio"),
        ("ratio, 99 %", lambda c: c.ratio.p99, "ratio"), ("ratio without fragmentation, median", lambda c: c.floor.p50, "ratio")])


def settings(workload, policies, long_run, paper):
    """Every run under another policy, a line each, between the paper's line and that of the long run."""
    rows = [SimpleNamespace(label="the paper", study=None)]
    rows += [SimpleNamespace(label="%s, %s" % (policy, age), study=policies[workload, policy, age])
             for policy in POLICIES for age in AGES if (workload, policy, age) in policies]
    if long_run is not ABSENT:
        rows.append(SimpleNamespace(label="the long run", study=long_run))

    def of(variable, percent, key=None):
        return lambda row: (getattr(getattr(row.study, variable), percent) if row.study
                            else getattr(paper, "%s_%s" % (key, percent)) if key else None)

    def plain(name):
        return lambda row: getattr(row.study, name) if row.study else None
    return table(rows, [
        ("huge pages, free lists", lambda row: row.label, "s"), ("samples", plain("samples"), "n"),
        ("runs, 95 %", of("runs", "p95", "runs"), "n"), ("runs, 99 %", of("runs", "p99", "runs"), "n"),
        ("ratio, median", of("ratio", "p50"), "ratio"),
        ("ratio, 95 %", of("ratio", "p95", "ratio"), "ratio"), ("ratio, 99 %", of("ratio", "p99", "ratio"), "ratio"),
        ("runs / mapped, 95 %", of("ratio_mapped", "p95"), "ratio"), ("runs / mapped, 99 %", of("ratio_mapped", "p99"), "ratio"),
        ("99 % of memory, runs, 95 %", of("cover99", "p95"), "n"), ("beyond 65,530 runs", plain("beyond"), "n"),
        ("free memory in 2 MiB blocks", plain("free_huge"), "pct")])


def nearest(workload, policies, paper):
    """The setting whose four numbers are nearest to the paper's, and by which factor (distance()); ABSENT of none."""
    here = {key: distance(study, paper) for key, study in policies.items() if key[0] == workload}
    if not here:
        return ABSENT
    key = min(here, key=lambda k: (here[k], k))
    return SimpleNamespace(policy=key[1], age=key[2], study=policies[key], factor=here[key])


def churn_table(churns):
    """Churn of each server, a line each."""
    def of(variable, percent):
        return lambda pair: getattr(getattr(pair[1], variable), percent)
    return table(sorted(churns.items(), reverse=True), [
        ("server", lambda pair: pair[0].capitalize(), "s"), ("pairs of maps", lambda pair: pair[1].pairs, "n"),
        ("processes", lambda pair: pair[1].processes, "n"), ("seconds between", lambda pair: pair[1].interval, "s1"),
        ("without a change", lambda pair: pair[1].unchanged, "pct"), ("changes, 95 %", of("changes", "p95"), "n"),
        ("changes, 99 %", of("changes", "p99"), "n"), ("changes, most", of("changes", "p100"), "n"),
        ("runs, 95 %", of("runs", "p95"), "n"), ("runs, 99 %", of("runs", "p99"), "n"),
        ("of the changed pages new", lambda pair: pair[1].added_share, "pct"),
        ("gone", lambda pair: pair[1].removed_share, "pct"), ("moved", lambda pair: pair[1].moved_share, "pct")])


def extreme(workload, policies, value, best):
    """Of the settings, the one with the least or (@best max) greatest value; ABSENT of none."""
    here = {key: value(study) for key, study in policies.items() if key[0] == workload}
    if not here:
        return ABSENT
    key = best(sorted(here), key=lambda k: here[k])
    return SimpleNamespace(policy=key[1], age=key[2], study=policies[key], value=here[key])


def of_policies(policies):
    return lambda *key: policies.get(key, ABSENT)


def facts_of(studies, policies, churns, paper, drawn):
    """All of it, by name."""
    entries = {name: SimpleNamespace(**entry) for name, entry in paper.items()}
    known = {workload: studies.get(workload, ABSENT) for workload in ("murphy", "hanlon")}
    known.update(
        kernel=" and ".join(sorted({study.machine.kernel for study in studies.values()})) or ABSENT,
        paper=SimpleNamespace(**entries), drawn=lambda name: drawn[name],
        churns=lambda: churn_table(churns), churn=lambda workload: churns.get(workload, ABSENT), policy=of_policies(policies),
        has_policies=bool(policies), show=show, programs=programs, sizes=sizes,
        lowest=lambda workload, value: extreme(workload, policies, value, min),
        highest=lambda workload, value: extreme(workload, policies, value, max),
        settings=lambda workload: settings(workload, policies, known[workload], entries[workload]),
        nearest=lambda workload: nearest(workload, policies, paper[workload]))
    return known
