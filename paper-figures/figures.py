"""figures.py - which figures there are, what each is drawn from, and with which gnuplot source"""
import math
import os

from plot import beyond, block, cdf_of, cells, curve, decade_above, draw, names

WORKLOADS = (("murphy", "a"), ("hanlon", "b"))
POLICIES = ("never", "madvise", "always", "mthp")
AGES = ("fresh", "aged")
POLICY_TITLES = {"never": "never", "madvise": "madvise", "always": "always", "mthp": "always + 64 KiB"}
NAMES = tuple(kind + letter for kind in ("figure2", "figure3", "figure4") for _, letter in WORKLOADS) + (
    "feasibility", "cover99") + tuple(
    "%s-%s" % (kind, workload) for kind in ("policies", "ages", "churn") for workload, _ in WORKLOADS) + ("closest",)


def percentiles(entry, kind):
    """The two points of a distribution that the paper gives."""
    return [(float(entry[kind + "_p95"]), 95), (float(entry[kind + "_p99"]), 99)]


def figures_of_one(path, letter, study, entry, end):
    """Figures 2, 3 and 4 of a server.  @end: of the axes of counts, the same for both."""
    marks = block("paper", [percentiles(entry, "runs")]) + "PAPER = 'paper: runs on %s'\n" % entry["name"]
    draw(path("figure2" + letter), "entries.gp", [
        "xmax = %d\n" % end, block("raw", [curve(study.cdf["pte_present"], end)]),
        block("runs", [curve(study.cdf["runs"], end)]), marks])
    draw(path("figure3" + letter), "ratio.gp", [
        block("ratio", [curve(study.cdf["ratio"], 1)]), block("mapped", [mapped_ratio(study)]),
        block("paper", [percentiles(entry, "ratio")]), "PAPER = 'paper: %s'\n" % entry["name"]])
    draw(path("figure4" + letter), "/size.gp", ["xmax = %d\n" % end, block("cells", cells(study.rows))])


def mapped_ratio(study):
    """The ratio's distribution by the other denominator.  To the axis of the other one: a millionth is the unit."""
    values = [row.runs / row.mapped for row in study.rows if row.mapped]
    return curve(thinned(values), 1)


def thinned(values):
    ordered, points, last = sorted(values), [], None
    for number, value in enumerate(ordered, 1):
        place = (int(value * 800), int(number / len(ordered) * 800))
        if place != last or number == len(ordered):
            points.append((value, number))
        last = place
    return {"n": len(ordered), "points": points}


def figure_feasibility(path, studies, paper):
    shown = [workload for workload, _ in WORKLOADS if workload in studies]
    draw(path("feasibility"), "feasibility.gp", [
        names("NAME", [paper[workload]["name"] for workload in shown]),
        block("tail", [beyond(studies[workload].cdf["runs"]) for workload in shown]),
        block("paper", [[(x, 100 - p) for x, p in percentiles(paper[workload], "runs")] for workload in shown]),
        "xmax = %d\n" % max(10 ** 6, *(decade_above(studies[workload].runs.p100) for workload in shown))], len(shown))


def figure_cover(path, studies, paper):
    shown = [workload for workload, _ in WORKLOADS if workload in studies]
    end = decade_above(max(studies[workload].runs.p100 for workload in shown))
    draw(path("cover99"), "cover.gp", [
        "xmax = %d\n" % end, names("NAME", [paper[workload]["name"] for workload in shown]),
        block("runs", [curve(studies[workload].cdf["runs"], end) for workload in shown]),
        block("cover", [curve(cdf_of([row.cover99 for row in studies[workload].rows if row.raw], end), end)
                        for workload in shown])], len(shown))


def figure_policies(path, workload, policies, entry):
    """Curves of the ratio by huge page policy, free lists fresh; without these, aged or as they were."""
    age = next((age for age in AGES if any((workload, policy, age) in policies for policy in POLICIES)), None)
    shown = [policy for policy in POLICIES if (workload, policy, age) in policies]
    if len(shown) < 2:
        return False
    draw(path("policies-" + workload), "curves.gp", [
        names("NAME", [POLICY_TITLES[policy] for policy in shown]),
        "keyrows = 3\narray DASH[%d]\n" % len(shown), *("DASH[%d] = 1\nHUE[%d] = %d\n" % (i + 1, i + 1, i + 1) if i else
                                            "array HUE[%d]\nDASH[1] = 1\nHUE[1] = 1\n" % len(shown) for i in range(len(shown))),
        block("ratio", [curve(policies[workload, policy, age].cdf["ratio"], 1) for policy in shown]),
        block("paper", [percentiles(entry, "ratio")]), "PAPER = 'paper: %s'\n" % entry["name"]], len(shown))
    return True


def figure_ages(path, workload, policies, entry):
    """Curves of the ratio by age of the free lists: solid fresh, dashed aged, for the two policies furthest apart."""
    both = [policy for policy in ("never", "always", "madvise", "mthp")
            if all((workload, policy, age) in policies for age in AGES)][:2]
    if not both:
        return False
    shown = [(policy, age) for policy in both for age in AGES]
    draw(path("ages-" + workload), "curves.gp", [
        names("NAME", ["%s, %s" % pair for pair in shown]), "keyrows = 2\n",
        "array DASH[%d]\narray HUE[%d]\n" % (len(shown), len(shown)),
        *("DASH[%d] = %d\nHUE[%d] = %d\n" % (i + 1, 1 + AGES.index(age), i + 1, 1 + POLICIES.index(policy))
          for i, (policy, age) in enumerate(shown)),
        block("ratio", [curve(policies[workload, policy, age].cdf["ratio"], 1) for policy, age in shown]),
        block("paper", [percentiles(entry, "ratio")]), "PAPER = 'paper: %s'\n" % entry["name"]], len(shown))
    return True


def relations(study, entry):
    """How many times the paper's number ours is, for each number of a kind."""
    return [study.runs.p95 / entry["runs_p95"], study.runs.p99 / entry["runs_p99"], study.ratio.p95 / entry["ratio_p95"],
            study.ratio.p99 / entry["ratio_p99"], study.ratio_mapped.p95 / entry["ratio_p95"],
            study.ratio_mapped.p99 / entry["ratio_p99"]]


def distance(study, entry):
    """Typical factor between the paper's four numbers and ours: the geometric mean, however they differ."""
    logs = [abs(math.log(value)) if value else math.inf for value in relations(study, entry)[:4]]
    return math.exp(sum(logs) / len(logs))


def figure_closest(path, studies, policies, paper):
    """Every setting's percentiles as multiples of the paper's."""
    shown = [workload for workload, _ in WORKLOADS if any(key[0] == workload for key in policies)]
    if not shown:
        return False
    data = ["array TITLE[%d]\n" % len(shown), "npanels = %d\n" % len(shown)]
    rows, seen = 0, []
    for number, workload in enumerate(shown, 1):
        lines, labels = [], []
        for policy in POLICIES:
            for age in AGES:
                if (workload, policy, age) in policies:
                    labels.append("%s, %s" % (policy, age))
                    lines.append([len(labels)] + relations(policies[workload, policy, age], paper[workload]))
        if workload in studies:
            labels.append("the long run")
            lines.append([len(labels)] + relations(studies[workload], paper[workload]))
        data += [block("multiples%d" % number, [lines]), names("LABEL%d" % number, labels),
                 "TITLE[%d] = '%s'\n" % (number, paper[workload]["name"])]
        rows = max(rows, len(labels))
        seen += [value for line in lines for value in line[1:] if value]
    low, high = min(seen), max(seen)
    draw(path("closest"), "closest.gp", data + [
        "nrows = %d\nxmin = %g\nxmax = %g\n" % (rows, 10 ** math.floor(math.log10(low)) / 1.5, 1.5 * decade_above(high))],
         height=480)
    return True


def draw_all(folder, studies, policies, churns, paper):
    """Draws what there are data for into @folder.  Return: for each name, whether it was drawn."""
    drawn = dict.fromkeys(NAMES, False)

    def path(name):
        return os.path.join(folder, name + ".svg")

    def done(name, made=True):
        drawn[name] = bool(made)

    end = decade_above(max([100000] + [study.raw.p100 for study in studies.values()]))
    for workload, letter in WORKLOADS:
        if workload in studies:
            figures_of_one(path, letter, studies[workload], paper[workload], end)
            for kind in ("figure2", "figure3", "figure4"):
                done(kind + letter)
        done("policies-" + workload, figure_policies(path, workload, policies, paper[workload]))
        done("ages-" + workload, figure_ages(path, workload, policies, paper[workload]))
        if workload in churns:
            churns[workload].draw(path("churn-" + workload))
        done("churn-" + workload, workload in churns)
    if studies:
        figure_feasibility(path, studies, paper)
        figure_cover(path, studies, paper)
        done("feasibility")
        done("cover99")
    done("closest", figure_closest(path, studies, policies, paper))
    for name in NAMES:
        if not drawn[name]:
            print("%s.svg: left out, its data are not there" % name)
    return drawn
