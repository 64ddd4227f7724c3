"""run.py - a study run from its command line to its end: what murphy and hanlon have in common

A workload is a class with
    name, paper_samples        for messages and for --paper
    needs()                    (memory bytes, disk bytes, processes) at the given scale
    prepare()                  builds what the students find when they arrive; before the collector starts
    live()                     coroutine: the term itself; ends only by being cancelled
    status()                   text for the progress line
and this file does the rest: options, refusal, memory settings, the collector, progress, the time limit.

The driver only adds; undoing is the guard's (guard.py).  What it does end itself is the collector, first of all, so
that the last snapshot is whole and nothing of the dismantling is sampled.
"""
import argparse
import asyncio
import json
import os
import shlex
import signal
import sqlite3
import subprocess
import sys
import time

from . import machine
from .guard import guarded, recover
from .processes import is_alive
from .state import EXIT_PARTIAL, EXIT_SYSTEM, EXIT_USAGE, Problem, say

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
COURSE_GID = 20000
FIRST_UID = 20001


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, "%s: %s\n" % (self.prog, message))


def _positive(kind):
    def parse(text):
        value = kind(text)
        if not 0 < value < 1e9:
            raise ValueError
        return value
    parse.__name__ = "positive " + kind.__name__
    return parse


def parser(workload, students, what):
    """The options every workload has.  @students: the default.  @what: one sentence for --help."""
    p = _Parser(prog=workload, description=what, allow_abbrev=False)
    p.add_argument("--scale", type=_positive(float), default=1.0, help="size of data and programs (default 1)")
    p.add_argument("--students", type=_positive(int), default=students, help="students enrolled (default %(default)s)")
    p.add_argument("--duration", type=_positive(float), default=1200, metavar="S",
                   help="seconds to collect for (default 1200)")
    p.add_argument("--interval", type=_positive(int), default=1, metavar="S",
                   help="seconds between snapshots (default 1)")
    p.add_argument("--seed", type=int, default=1, help="same seed, same data and same plans (default 1)")
    p.add_argument("--paper", action="store_true",
                   help="run until the database has as many samples as the paper; --duration is not looked at")
    p.add_argument("--thp", choices=["never", "madvise", "always", "mthp"],
                   help="transparent huge pages during the run: the kernel's three policies, or always with 64 KiB "
                        "ones too (default: as they are)")
    p.add_argument("--age", choices=["as-is", "fresh", "aged"], default="as-is",
                   help="state of the free lists before the run (default as-is)")
    p.add_argument("--age-limit", type=_positive(int), metavar="MIB", help="age no more memory than this")
    p.add_argument("--db", metavar="FILE", default=os.path.join(TOP, "out", "study-%s.db" % workload),
                   help="database to collect into (default out/study-%s.db)" % workload)
    p.add_argument("--join", choices=["none", "head", "full"], help="passed to dscollect")
    p.add_argument("--keep-runs", action="store_true", help="passed to dscollect: keeps every map (large)")
    p.add_argument("--collector", metavar="FILE", default=os.path.join(TOP, "build", "bin", "dscollect"),
                   help="the dscollect to run (default build/bin/dscollect)")
    p.add_argument("--work", metavar="DIR", help="where the run's folder is made (default under /var/lib)")
    p.add_argument("--clean", action="store_true",
                   help="start nothing; clean up after a run that was killed together with its guard (every run does "
                        "that first)")
    return p


def pace(options):
    """Factor for every time a student takes: 1 in a run of some minutes, less in a short one, so that it sees people
    come and go, too; but the more of them there are, the less they are hurried, or the machine would only see that."""
    if options.paper:
        return 1.0
    return min(1.0, max(0.02, options.students / 300, options.duration / 400))


def student_uids(count):
    """uids for @count students that no account and no process has."""
    import pwd
    uids = range(FIRST_UID, FIRST_UID + count)
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                uid = os.stat("/proc/" + name).st_uid
                if uid in uids and is_alive(int(name)):
                    taken.add(uid)
            except OSError:
                pass
    used = sorted(taken.intersection(uids))
    if used:
        raise Problem("the students' user id %d is in use on this machine" % used[0])
    return list(uids)


def samples_in(db):
    """Samples in the database, by the counts beside its snapshots; 0 while there is none yet."""
    if not os.path.exists(db):
        return 0
    try:
        connection = sqlite3.connect("file:%s?mode=ro" % db.replace("?", "%3f").replace("#", "%23"), uri=True, timeout=5)
        try:
            return connection.execute("SELECT coalesce(sum(n_sampled), 0) FROM snapshot_info").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.OperationalError:  # not there yet, or its schema is being made
        return 0


class Progress:
    """One line rewritten in place on a terminal, a line every half minute elsewhere."""

    def __init__(self):
        self._tty = sys.stdout.isatty()
        self._next = 0.0
        self._width = 0

    def show(self, text):
        try:
            if self._tty:
                print("\r" + text + " " * (self._width - len(text)), end="", flush=True)
                self._width = len(text)
            elif time.monotonic() >= self._next:
                print(text, flush=True)
                self._next = time.monotonic() + 30
        except OSError:
            pass  # the terminal has gone; the front process will have seen it, too

    def step(self, text):
        """A line that stays."""
        self.end()
        try:
            print(text, flush=True)
        except OSError:
            pass

    def end(self):
        if self._width:
            self._width = 0
            try:
                print(flush=True)
            except OSError:
                pass


def _start_collector(options):
    command = [options.collector, "--db", options.db, "--quiet"]
    if options.join:
        command += ["--join", options.join]
    if options.keep_runs:
        command += ["--keep-runs"]
    return subprocess.Popen(command + [str(options.interval)], stdin=subprocess.DEVNULL)


def _stop_collector(collector):
    """SIGTERM lets dscollect finish or roll back its snapshot."""
    if collector.poll() is None:
        collector.send_signal(signal.SIGTERM)
        try:
            collector.wait(15)
        except subprocess.TimeoutExpired:
            collector.kill()
            collector.wait()


def _close_database(db):
    """Folds the write-ahead log in: the last to have the database open was this process's reader, which cannot."""
    try:
        connection = sqlite3.connect(db, timeout=10)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
    except sqlite3.Error as error:
        say("%s: %s" % (db, error))


def _minutes(seconds):
    return "%d:%02d" % divmod(int(seconds), 60)


async def _term(workload, options, collector, progress):
    """Students live and the collector collects, until the time or the number of samples is reached."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    start = time.monotonic()
    life = asyncio.create_task(workload.live())
    try:
        while not stop.is_set():
            passed, samples = time.monotonic() - start, samples_in(options.db)
            goal = ("of %s samples" % format(workload.paper_samples, ",") if options.paper
                    else "of " + _minutes(options.duration))
            processes = sum(name.isdigit() for name in os.listdir("/proc"))
            progress.show("%s  %s %s  %s samples  %s  %d processes  load %.1f" % (
                workload.name, _minutes(passed), goal, format(samples, ","), workload.status(), processes,
                os.getloadavg()[0]))
            if samples >= workload.paper_samples if options.paper else passed >= options.duration:
                return 0
            if collector.poll() is not None:
                raise Problem("dscollect ended by itself with status %d" % collector.returncode)
            if life.done():
                life.result()
                raise Problem("the students' side ended by itself")
            try:
                await asyncio.wait_for(stop.wait(), min(2.0, max(0.1, options.duration - passed)))
            except asyncio.TimeoutError:
                pass
        return EXIT_PARTIAL
    finally:
        _stop_collector(collector)
        life.cancel()
        progress.end()


def _write_settings(workload, options, samples_before, seconds):
    """FILE.json beside the database: how it was made, for the manifest that `reduce` writes."""
    def git(*command):
        try:  # -c: root may run this in somebody else's clone, where git would refuse
            result = subprocess.run(["git", "-c", "safe.directory=" + TOP, "-C", TOP, *command], capture_output=True,
                                    text=True, check=False)
        except OSError:
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    settings = {k: v for k, v in vars(options).items() if k not in ("db", "work", "collector")}
    path = options.db + ".json"
    runs = []
    if samples_before:
        try:
            with open(path, encoding="utf-8") as file:
                runs = json.load(file)["runs"]
        except (OSError, ValueError, KeyError):
            runs = []  # collected into before, by other means
    runs.append({"workload": workload.name, "settings": settings, "machine": machine.describe(),
                 "commit": git("rev-parse", "HEAD"), "changed_since_commit": bool(
                     git("status", "--porcelain", "--untracked-files=no")),
                 "command": shlex.join(["data/workloads/" + workload.name] + _without_paths(sys.argv[1:])),
                 "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - seconds)),
                 "seconds": round(seconds), "samples": samples_in(options.db) - samples_before,
                 "details": workload.details})
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"runs": runs}, file, indent=1, sort_keys=True)
        file.write("\n")


def _without_paths(arguments):
    """The command line for the record: FILE in place of what names a place on this machine."""
    kept, hide = [], False
    for word in arguments:
        kept.append("FILE" if hide else word)
        hide = word in ("--db", "--work", "--collector")
        if word.split("=")[0] in ("--db", "--work", "--collector") and "=" in word:
            kept[-1] = word.split("=")[0] + "=FILE"
    return kept


def _check_work(folder):
    """The run's folder must be reachable for the students and the server, who are not root."""
    if not os.path.isdir(folder):
        raise Problem("--work %s: no such folder" % folder, EXIT_USAGE)
    while True:
        if not os.stat(folder).st_mode & 0o001:
            raise Problem("--work: other users cannot pass through %s; name another folder, or chmod o+x it" % folder,
                          EXIT_USAGE)
        if folder == "/":
            return
        folder = os.path.dirname(folder)


def check(workload, options):
    """Refuses before anything is changed."""
    if os.geteuid() != 0:
        raise Problem("needs root: it reads page tables, sets huge pages and starts sessions of other users")
    if not os.access(options.collector, os.X_OK):
        raise Problem("no collector at %s; run make first, or name one with --collector" % options.collector)
    if options.work:
        _check_work(os.path.realpath(options.work))
    lacking = subprocess.run([os.path.join(os.path.dirname(__file__), "..", "deps"), "check", workload.name],
                             capture_output=True, text=True, check=False).stdout.split()
    if lacking:
        raise Problem("packages missing: %s; data/workloads/deps install %s" % (" ".join(lacking), workload.name))
    memory, disk, processes = workload.needs()
    machine.require("%s with %d students at scale %g" % (workload.name, options.students, options.scale),
                    memory, disk, options.work or "/var/lib", processes)
    os.makedirs(os.path.dirname(os.path.abspath(options.db)), exist_ok=True)


def drive(workload, options, state):
    """The driver's work (see guarded() in guard.py)."""
    progress = Progress()
    options.db = os.path.abspath(options.db)
    start = time.monotonic()
    workload.prepare(state, progress)
    samples_before = samples_in(options.db)
    progress.step("%s: ready after %.0f s; collecting into %s" % (workload.name, time.monotonic() - start, options.db))
    collector = _start_collector(options)
    start = time.monotonic()
    status = EXIT_PARTIAL
    try:
        status = asyncio.run(_term(workload, options, collector, progress))
    finally:
        _stop_collector(collector)
        _write_settings(workload, options, samples_before, time.monotonic() - start)
        say("%s: %s samples in %s; ending sessions and restoring settings"
            % (workload.name, format(samples_in(options.db), ","), options.db))
        _close_database(options.db)
    return status


def main(workload, options):
    """What murphy and hanlon do after reading their options.  Return: the exit code."""
    try:
        if options.clean:
            return recover()
        check(workload, options)
        return guarded(workload.name, lambda state: drive(workload, options, state), options.work)
    except (Problem, OSError) as problem:
        say("%s: %s" % (workload.name, problem))
        return getattr(problem, "status", EXIT_SYSTEM)
