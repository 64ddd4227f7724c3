"""columns.py - the file a study database is reduced to: columns of integers as text, made to be compressed

    dark-shadows study table 1            first line: what this is, and the version of the format
    @table sample 770123                  a table and its number of rows; its columns follow
    @words comm ["bash", "psql", ...]     for a column of text: its different values, as JSON; the column holds indices
    @column comm                          a column, and in the next line its values:
    0 0*1432 1 -1 n*3 ...                 each as the difference to the value before (that of the last row not NULL,
                                          0 at first), `n` for NULL; `*N` says that the same comes N times
    @end

The rows of `sample` are sorted by process and then by snapshot, and most processes do not change from one snapshot to
the next, so most differences are zero.  One value a token, no other layout: a reader needs no more than this page.
The file is passed through zstd.  Nothing in it depends on when or where it is written, so the same rows give the same
bytes.
"""
import itertools
import json
import subprocess

from .state import Problem

FIRST_LINE = "dark-shadows study table 1"
ZSTD = ["zstd", "-19", "--long=27", "-T1", "--no-progress", "-q", "-c"]

# Columns kept of each table, as they are called in snapshot_info and process_sample.  Left out: what says whose
# machine it is (host, boot_id, cgroup), pid and start time (process is a number of its own), scan_ns (noise; the
# snapshot's duration is kept).
SNAPSHOT = ("time_ms uptime_ms duration_ns page_size mem_total_bytes mem_free_bytes ksm_run hugetlb_total max_map_count "
            "distinct_pages n_seen n_sampled n_kernel n_zombie n_vanished n_denied n_timeout n_error "
            "kernel tool join_mode thp_enabled thp_defrag thp_shmem mthp buddyinfo").split()
SAMPLE = ("process snapshot comm status uid vsz_bytes vmas pages_mapped pte_present runs runs_prot runs_attr swapped "
          "migrating guard marker zero ksm thp hugetlb device file exclusive cover50 cover90 cover95 cover99 cover100 "
          "pages_64k pages_2m pages_1g aligned_64k aligned_2m aligned_1g end_vma end_hole end_phys hist_runs "
          "hist_pages").split()
TEXT = set("kernel tool join_mode thp_enabled thp_defrag thp_shmem mthp buddyinfo comm status hist_runs hist_pages".split())


def encode(values):
    """A column's line."""
    def differences():
        last = 0
        for value in values:
            if value is None:
                yield "n"
            else:
                yield value - last
                last = value
    tokens = []
    for token, same in itertools.groupby(differences()):
        count = sum(1 for _ in same)
        tokens.append("%s*%d" % (token, count) if count > 1 else str(token))
    return " ".join(tokens)


def decode(line, rows):
    """The values of a column's line; Problem where it is not @rows of them."""
    values, last = [], 0
    try:
        for token in line.split():
            step, _, times = token.partition("*")
            count = int(times) if times else 1
            if not 1 <= count <= rows - len(values):
                raise Problem("a column is longer than its table")
            if step == "n":
                values.extend([None] * count)
                continue
            step = int(step)
            if step == 0:
                values.extend([last] * count)
                continue
            for _ in range(count):
                last += step
                values.append(last)
    except ValueError:
        raise Problem("not a number in a column: %.20s" % token) from None
    if len(values) != rows:
        raise Problem("a column has %d values, its table %d rows" % (len(values), rows))
    return values


def write_table(write, name, columns, rows):
    """@write: function taking text.  @rows: list of tuples with the @columns' values."""
    write("@table %s %d\n" % (name, len(rows)))
    for index, column in enumerate(columns):
        values = [row[index] for row in rows]
        if column in TEXT:
            words = {}
            values = [None if value is None else words.setdefault(value, len(words)) for value in values]
            write("@words %s %s\n" % (column, json.dumps(list(words))))
        write("@column %s\n%s\n" % (column, encode(values)))


def read_tables(lines):
    """Tables of a file, by name: (number of rows, {column: values}).  @lines: iterator over its lines."""
    tables, words, rows, columns, ended = {}, {}, 0, None, False
    if next(lines, "").rstrip("\n") != FIRST_LINE:
        raise Problem("not a study table of version 1: its first line is not '%s'" % FIRST_LINE)
    for line in lines:
        kind, _, rest = line.rstrip("\n").partition(" ")
        if kind == "@table":
            name, count = rest.split()
            rows, columns, words = int(count), {}, {}
            tables[name] = (rows, columns)
        elif kind == "@words":
            column, _, text = rest.partition(" ")
            words[column] = json.loads(text)
        elif kind == "@column" and columns is not None:
            values = decode(next(lines, ""), rows)
            if rest in words:
                known = words[rest]
                values = [None if value is None else known[value] for value in values]
            columns[rest] = values
        elif kind == "@end":
            ended = True
        else:
            raise Problem("a line that means nothing: %.40s" % line)
    if not ended:
        raise Problem("the table is cut off: its last line, @end, is missing")
    return tables


def compress(text_chunks, path):
    """Writes the chunks through zstd into @path."""
    with open(path, "wb") as file:
        with subprocess.Popen(ZSTD, stdin=subprocess.PIPE, stdout=file) as zstd:
            for chunk in text_chunks:
                zstd.stdin.write(chunk.encode())
            zstd.stdin.close()
            if zstd.wait() != 0:
                raise Problem("zstd failed with status %d writing %s" % (zstd.returncode, path))


def uncompressed(path):
    """Lines of the file @path."""
    with subprocess.Popen(["zstd", "-d", "-q", "--long=27", "-c", path], stdout=subprocess.PIPE, text=True) as zstd:
        yield from zstd.stdout
        if zstd.wait() != 0:
            raise Problem("zstd could not read %s (status %d)" % (path, zstd.returncode))
