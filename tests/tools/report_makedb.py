#!/usr/bin/env python3
"""report_makedb.py - a database as dscollect writes it, with generated processes

usage: report_makedb.py FILE [--host H] [--boot B] [--seed N] [--processes N] [--snapshots N] [--start T] [--step S]
                        [--kernel K] [--join MODE] [--big] [--hog]

The same arguments give the same rows.  The processes are made run by run, so that every count of a sample agrees with
every other: pages, runs, histograms, runs to cover a share.  --big draws counts without making runs one by one, for
databases of a million samples.  --hog adds a process with more than 65,530 runs.
"""
import argparse
import json
import pathlib
import random
import sqlite3

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "collector" / "schema.sql"
COLUMNS = """snapshot process comm cgroup uid status scan_ns vsz_bytes vmas pages_mapped pte_present runs runs_prot runs_attr
swapped migrating guard marker zero ksm thp hugetlb device file exclusive cover50 cover90 cover95 cover99 cover100
pages_64k pages_2m pages_1g aligned_64k aligned_2m aligned_1g end_vma end_hole end_phys hist_runs hist_pages""".split()
COMMS = ["bash", "python3", "postgres", "systemd", "sshd", "java", "gcc", "cc1", "vim", "nginx", "a,b \"c\"", "naïve<&>"]
GROUPS = ["/", "/system.slice/ssh.service", "/system.slice/postgresql.service", "/user.slice/user-1000.slice", None]


def make_runs(rng, scale):
    """Run lengths of one process: many short ones, some of a huge page."""
    lengths = []
    for _ in range(max(1, int(rng.lognormvariate(4.0 + scale, 1.0)))):
        kind = rng.random()
        if kind < 0.45:
            lengths.append(1)
        elif kind < 0.9:
            lengths.append(1 + int(rng.expovariate(1 / 12)))
        elif kind < 0.985:
            lengths.append(16 * (1 + int(rng.expovariate(1 / 6))))
        else:
            lengths.append(512 * (1 + int(rng.expovariate(1 / (2 + 8 * max(0, scale))))))
    return lengths


def cover(lengths, percent, total):
    got = used = 0
    for length in sorted(lengths, reverse=True):
        if got * 100 >= percent * total:
            break
        got += length
        used += 1
    return used


def sample_from_runs(rng, lengths, join):
    total = sum(lengths)
    bins = max(lengths).bit_length()
    hist_runs, hist_pages = [0] * bins, [0] * bins
    for length in lengths:
        hist_runs[length.bit_length() - 1] += 1
        hist_pages[length.bit_length() - 1] += length
    n = len(lengths)
    end_vma, end_hole = n // 3, n // 4
    known = join != "none"
    row = dict(
        scan_ns=rng.randrange(50000, 5000000), vmas=max(1, n // 4), pages_mapped=total + rng.randrange(0, 4 * total + 1),
        pte_present=total, runs=n, runs_prot=n + n // 50, runs_attr=(n + n // 10) if known else None,
        swapped=rng.randrange(0, 5), migrating=0, guard=rng.randrange(0, 3), marker=0,
        zero=total // 100 if known else None, ksm=0 if known else None,
        thp=sum(x for x in lengths if x >= 512) if known else None,
        hugetlb=0 if known else None, device=0 if known else None, file=total // 2, exclusive=total // 3,
        pages_64k=sum(x for x in lengths if x >= 16), pages_2m=sum(x for x in lengths if x >= 512),
        pages_1g=sum(x for x in lengths if x >= 262144),
        aligned_64k=sum(x // 16 * 16 for x in lengths if x >= 31), aligned_2m=sum(x // 512 * 512 for x in lengths if x >= 1023),
        aligned_1g=0, end_vma=end_vma, end_hole=end_hole, end_phys=n - end_vma - end_hole,
        hist_runs=json.dumps(hist_runs, separators=(",", ":")), hist_pages=json.dumps(hist_pages, separators=(",", ":")))
    for percent in (50, 90, 95, 99, 100):
        row[f"cover{percent}"] = cover(lengths, percent, total)
    row["vsz_bytes"] = row["pages_mapped"] * 4096
    return row


def main():
    p = argparse.ArgumentParser()
    p.add_argument("file")
    p.add_argument("--host", default="alpha")
    p.add_argument("--boot", default="11111111-2222-3333-4444-555555555555")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--processes", type=int, default=60)
    p.add_argument("--snapshots", type=int, default=20)
    p.add_argument("--start", type=float, default=1767225600.25)  # 2026-01-01T00:00:00.25Z
    p.add_argument("--step", type=float, default=900)
    p.add_argument("--kernel", default="6.1.0-test #1 SMP")
    p.add_argument("--join", default="head")
    p.add_argument("--big", action="store_true")
    p.add_argument("--hog", action="store_true")
    a = p.parse_args()
    rng = random.Random(a.seed)
    db = sqlite3.connect(a.file)
    db.executescript(SCHEMA.read_text())
    names = {}

    def name(text):
        if text is None:
            return None
        if text not in names:
            names[text] = len(names) + 1
            db.execute("INSERT INTO name VALUES (?, ?)", (names[text], text))
        return names[text]

    db.execute("INSERT INTO boot VALUES (1, ?, ?, ?)", (a.host, a.boot, a.kernel))
    template = sample_from_runs(rng, [1, 2, 40, 600], a.join)
    processes = []
    for i in range(a.processes):
        db.execute("INSERT INTO process VALUES (?, 1, ?, ?)", (i + 1, 100 + i, 5000 + 7 * i))
        lengths = [1] if a.big else make_runs(rng, rng.uniform(-1.5, 2.5))
        if a.hog and i == 0:
            lengths = [1 + k % 3 for k in range(70000)]
        processes.append((i + 1, rng.choice(COMMS), rng.choice(GROUPS), rng.choice([0, 0, 1000, 1001]), lengths))
    for s in range(a.snapshots):
        rows, bad = [], 0
        for pid, comm, group, uid, lengths in processes:
            status = "ok"
            if pid != 1 and rng.random() < 0.02:
                status = rng.choice(["vanished", "denied", "timeout"])
                bad += 1
            row = dict(snapshot=s + 1, process=pid, comm=name(comm), cgroup=name(group), uid=uid, status=name(status))
            if status == "ok" and pid == 2:  # an address space without a page
                row.update(dict.fromkeys(COLUMNS[6:-2], 0), hist_runs="[]", hist_pages="[]", pages_mapped=33)
            elif status == "ok" and a.big:
                n = int(rng.lognormvariate(6, 1.5)) + 1
                total = n + int(n * rng.expovariate(1 / 12))
                row.update(template, pte_present=total, runs=n, pages_mapped=2 * total)
            elif status == "ok":
                row.update(sample_from_runs(rng, lengths, a.join))
                if rng.random() < 0.3:  # the process grows
                    lengths.extend(make_runs(rng, -2))
            rows.append(tuple(row.get(c) for c in COLUMNS))
        n = len(rows)
        db.execute("INSERT INTO snapshot (id, boot, time, uptime_s, duration_ns, tool, join_mode, page_size, mem_total_bytes,"
                   " mem_free_bytes, thp_enabled, thp_defrag, thp_shmem, mthp, buddyinfo, ksm_run, hugetlb_total, max_map_count,"
                   " distinct_pages, n_seen, n_sampled, n_kernel, n_zombie, n_vanished, n_denied, n_timeout, n_error)"
                   " VALUES (?,1,?,?,?,?,?,4096,?,?,?,?,?,?,?,0,0,65530,NULL,?,?,?,?,?,?,?,?)",
                   (s + 1, a.start + s * a.step, 1000 + s * a.step, 12345678, "0.1.0", a.join, 25769803776, 12884901888,
                    "madvise", "madvise", "never", '{"64kB":"never","2048kB":"inherit"}', '[]',
                    n + 90 + 1, n - bad, 90, 1, bad, 0, 0, 0))
        db.executemany(f"INSERT INTO sample ({','.join(COLUMNS)}) VALUES ({','.join('?' * len(COLUMNS))})", rows)
    db.commit()
    db.execute("PRAGMA journal_mode=WAL")
    db.close()


if __name__ == "__main__":
    main()
