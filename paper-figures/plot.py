"""plot.py - datablocks for gnuplot, and gnuplot

The look is that of dsreport's figures: plots/style.gp goes before every source.  What is drawn depends on the data
alone, and so do the bytes of the SVG, for one version of gnuplot.
"""
import math
import os
import subprocess

from study import Trouble

HERE = os.path.dirname(os.path.abspath(__file__))
PLOTS = os.path.join(HERE, "..", "plots")
GRID = 800                 # a curve is thinned to so many columns and rows: finer than a pixel
CELLS_PER_DECADE, CELL_ROWS, DENSITY_CLASSES = 32, 125, 5   # the scatter plot's, as in dsreport(1)


def block(name, blocks):
    """Datablock @name of several blocks of rows; an empty one keeps its place."""
    text = "\n\n\n".join("\n".join(" ".join("%.7g" % v if isinstance(v, float) else str(v) for v in row) for row in rows)
                         or "NaN NaN" for rows in blocks)
    return "$%s << EOD\n%s\nEOD\n" % (name, text)


def names(variable, values):
    lines = ["array %s[%d]" % (variable, len(values))]
    for number, value in enumerate(values):
        lines.append("%s[%d] = '%s'" % (variable, number + 1, value.replace("'", "").replace("_", "\\\\_")))
    return "\n".join(lines) + "\n"


def curve(cdf, end):
    """Rows (value, percent of samples) of one of dsreport's distributions, drawn on to @end."""
    points = [(float(x), 100.0 * count / cdf["n"]) for x, count in cdf["points"]]
    return [(points[0][0], 0.0)] + points + [(float(end), 100.0)] if points else []


def cdf_of(values, log_end):
    """The same of plain values, thinned for a logarithmic axis to @log_end."""
    ordered = sorted(values)
    points, last = [], None
    for number, value in enumerate(ordered, 1):
        if number < len(ordered) and ordered[number] == value:
            continue
        place = (int(math.log10(max(value, 1)) / math.log10(log_end) * GRID), int(number / len(ordered) * GRID))
        if place != last or number == len(ordered):
            points.append((value, number))
        last = place
    return {"n": len(ordered), "points": points}


def beyond(cdf):
    """Rows (value, percent of samples above it): the upper tail of a distribution."""
    return [(float(x), 100.0 * (cdf["n"] - count) / cdf["n"]) for x, count in cdf["points"] if count < cdf["n"] and x >= 1]


def decade_above(value):
    return 10 ** max(1, math.ceil(math.log10(max(value, 1))))


def density_class(count):
    number = 0
    while count >= 10 and number + 2 < DENSITY_CLASSES:
        count //= 10
        number += 1
    return number + (count > 1 or number > 0)


def cells(rows):
    """Figure 4: the samples by cells of size and ratio; a block for each class of density."""
    count = {}
    for row in rows:
        if row.raw:
            key = (int(math.log10(row.raw) * CELLS_PER_DECADE), min(int(row.runs / row.raw * CELL_ROWS), CELL_ROWS - 1))
            count[key] = count.get(key, 0) + 1
    blocks = [[] for _ in range(DENSITY_CLASSES)]
    for column, row in sorted(count):
        blocks[density_class(count[column, row])].append(
            ("%.4g" % 10 ** ((column + 0.5) / CELLS_PER_DECADE), "%.6g" % ((row + 0.5) / CELL_ROWS)))
    return blocks


def draw(path, source, data, ngroups=1, height=430):
    """Draws the gnuplot source @source (of this folder, or of plots/ when it begins with a slash) into @path."""
    script = ["set terminal svg size 640,%d dynamic enhanced font 'Helvetica,14' background '#ffffff'\n" % height,
              "ngroups = %d\n" % ngroups, *data]
    for name in ("/style.gp", source):
        with open(PLOTS + name if name[0] == "/" else os.path.join(HERE, name), encoding="utf-8") as file:
            script.append(file.read())
    environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "XDG_CACHE_HOME")}
    try:
        result = subprocess.run(["gnuplot", "-d", "/dev/stdin"], input="".join(script), capture_output=True, text=True,
                                check=False, env=dict(environment, LC_ALL="C.UTF-8", TZ="UTC"))
    except FileNotFoundError:
        raise Trouble("gnuplot: not found; install it (Debian: apt-get install gnuplot-nox)") from None
    if result.returncode != 0 or not result.stdout or result.stderr.strip():
        raise Trouble("gnuplot, drawing %s: %s" % (os.path.basename(path), " ".join(result.stderr.split()) or "no output"))
    with open(path, "w", encoding="utf-8") as file:
        file.write(result.stdout)
