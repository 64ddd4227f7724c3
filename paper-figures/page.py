"""page.py - text with numbers in it: README.in.md and numbers.in.md become README.md and numbers.md

    {{murphy.ratio.p95|ratio}}      an expression and its format (below); no number in the text is typed by hand
    {{if EXPRESSION}}               lines up to {{else}} or {{end}} are there when it is true and known
    {{claim EXPRESSION}}            lines up to {{end}} state something that follows from EXPRESSION.  When the data say
                                    otherwise, they are left out and reported: somebody has to write them anew.
    {{note EXPRESSION}}TEXT{{.}}    the same within a line; {{when EXPRESSION}}TEXT{{.}} is not reported, for a sentence that
                                    has an opposite beside it

Expressions are Python over the names in `facts`.  What is not in data/ is an Absent: any part of it is Absent, too, and
an expression with one in it is neither true nor false.
"""
import itertools
import re
import textwrap

from study import Trouble

WIDTH = 118
SPLIT = re.compile(r"^\{\{(if|claim|else|end)(?: (.*))?\}\}$")
NOTE = re.compile(r"\{\{(note|when) (.*?)\}\}(.*?)\{\{\.\}\}")
VALUE = re.compile(r"\{\{(.*?)(?:\|(\w+))?\}\}")


class Absent:
    """Not known: as a part of it, of it, and in every comparison and calculation."""
    seen = False

    def _absent(self, *_):
        Absent.seen = True
        return self

    def _false(self, *_):
        Absent.seen = True
        return False

    __getattr__ = __getitem__ = __call__ = __add__ = __radd__ = __sub__ = __rsub__ = _absent
    __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = __abs__ = _absent
    __lt__ = __gt__ = __le__ = __ge__ = __eq__ = __ne__ = __bool__ = _false
    __hash__ = None

    def __iter__(self):
        Absent.seen = True
        return iter(())


ABSENT = Absent()
FORMATS = {
    "n": lambda v: format(round(v), ","),
    "ratio": lambda v: "%.4f" % v if v < 0.99995 else "1",
    "corr": lambda v: ("%.3f" % v).replace("-", "−"),
    "pct": lambda v: "%.4g %%" % (100 * v) if v > 0.9999 or v < 0.001 else "%.1f %%" % (100 * v),
    "pct3": lambda v: "%.3f %%" % (100 * v),
    "times": lambda v: "%.3g" % v if v < 100 else "%.0f" % v,
    "gib": lambda v: "%.3g GiB" % (v / (1 << 30)),
    "pages": lambda v: "%.3g %s" % next((v * 4096 / (1 << s), u) for s, u in ((30, "GiB"), (20, "MiB"), (10, "KiB"))
                                       if v * 4096 >= 1 << s or u == "KiB"),
    "minutes": lambda v: "%.0f" % (v / 60),
    "s1": lambda v: "%.3g" % v,
    "s": str,
}


def show(value, form):
    if value is None or isinstance(value, Absent):
        return "–"
    return FORMATS[form or "s"](value)


def table(rows, columns):
    """Lines of a table.  @columns: (heading, function of a row, format)."""
    lines = ["| " + " | ".join(heading for heading, _, _ in columns) + " |",
             "|---" + "|---:" * (len(columns) - 1) + "|"]
    for row in rows:
        lines.append("| " + " | ".join(show(get(row), form) for _, get, form in columns) + " |")
    return "\n".join(lines)


class Page:
    def __init__(self, name, facts):
        self.name, self.facts, self.untrue = name, facts, []

    def _value(self, expression, line):
        Absent.seen = False
        try:
            return eval(expression, {"__builtins__": {"abs": abs, "max": max, "min": min}},
                        self.facts)
        except Exception as error:  # whatever a wrong expression raises, its place is what helps
            raise Trouble("%s, line %d: {{%s}}: %s: %s" % (self.name, line, expression, type(error).__name__, error)) from None

    def _holds(self, kind, expression, line):
        """Whether the text that hangs on @expression stays."""
        value = self._value(expression, line)
        if Absent.seen or value is None:
            return False
        if not value and kind in ("note", "claim"):
            self.untrue.append("%s, line %d: the data do not show %s; write this anew" % (self.name, line, expression))
        return bool(value)

    def _line(self, text, line):
        text = NOTE.sub(lambda m: m[3] if self._holds(m[1], m[2], line) else "", text)
        return VALUE.sub(lambda m: show(self._value(m[1], line), m[2]), text)

    def fill(self, text):
        """The page that the template @text makes."""
        out, open_blocks = [], []
        for number, line in enumerate(text.split("\n"), 1):
            found = SPLIT.match(line)
            if not found:
                if all(open_blocks):
                    out.append(self._line(line, number))
            elif found[1] in ("if", "claim"):
                open_blocks.append(all(open_blocks) and self._holds(found[1], found[2], number))
            elif not open_blocks:
                raise Trouble("%s, line %d: %s without a beginning" % (self.name, number, line))
            elif found[1] == "else":
                open_blocks[-1] = all(open_blocks[:-1]) and not open_blocks[-1]
            else:
                open_blocks.pop()
        if open_blocks:
            raise Trouble("%s: {{end}} is missing at its end" % self.name)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(wrapped(out)))


def wrapped(lines):
    """Paragraphs broken anew, as numbers are longer or shorter than their names; all else as it is."""
    for plain, group in itertools.groupby(lines, lambda line: line[:1].isalnum() or line[:1] == '"'):
        if plain:
            yield from textwrap.wrap(" ".join(group), WIDTH, break_long_words=False, break_on_hyphens=False)
        else:
            yield from group
