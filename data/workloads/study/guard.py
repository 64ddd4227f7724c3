"""guard.py - starts a workload so that nothing of it outlives it

Theory of operation.  Three processes:

    front    what the user started.  Waits; on ^C, SIGTERM or SIGHUP asks the guard to stop.
    guard    child of the front, in a session of its own.  Waits for the front (a pipe that reads end-of-file when the
             front is gone, however it went) and for the driver.  When either ends, it stops the driver and cleans up.
    driver   child of the guard.  Does the work and only ever adds: processes, settings, folders.

Front and guard are child subreapers (prctl(2)), so whatever the driver starts, and whatever that starts, stays in the
tree below the guard even after its own parents have gone, and below the front if the guard goes.  Killing any one of
the three, with any signal, leaves another that cleans up.  Only where all are killed at once (or the machine is
reset) something stays behind; the state file then tells the next run what.

Cleaning up is one function, clean(), whoever calls it: it ends the run's processes (processes.py), then undoes what
the state file names (state.py).

One run at a time on a machine: a lock, held by all three processes and gone with the last of them.
"""
import ctypes
import errno
import fcntl
import os
import select
import shutil
import signal
import stat
import sys
import time

from .processes import end_processes
from .state import (EXIT_BUSY, EXIT_PARTIAL, EXIT_SYSTEM, STATE_DIR, STATE_FILE, TOKEN_VARIABLE, Problem, State, read_text,
                    say, undo_setting)

LOCK_FILE = "/run/dark-shadows-study.lock"
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def _prctl(option, value):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(%d)" % option)


def clean(state):
    """Undoes everything the state names, whatever can be; raises Problem with what could not."""
    failed = []
    same_boot = state.entries["boot_id"] == read_text("/proc/sys/kernel/random/boot_id").strip()
    if same_boot:
        try:
            end_processes(state)
        except Problem as problem:
            failed.append(str(problem))
        for entry in reversed(state.entries["settings"]):
            try:
                undo_setting(entry)
            except OSError as error:
                failed.append("%s: %s" % (entry["file"], error.strerror))
    for path in state.entries["files"]:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            failed.append("%s: %s" % (path, error.strerror))
    if os.path.isdir(state.entries["run_dir"]):
        try:
            shutil.rmtree(state.entries["run_dir"])
        except OSError as error:
            failed.append("%s: %s" % (error.filename, error.strerror))
    if failed:
        raise Problem("could not clean up: %s; %s remembers it and the next run tries again"
                      % ("; ".join(failed), STATE_FILE))
    os.unlink(STATE_FILE)
    try:
        os.rmdir(STATE_DIR)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise


def _lock():
    """Takes the machine-wide lock for the life of the process (and its forks)."""
    fd = os.open(LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 100, 0).decode(errors="replace").strip()
        raise Problem("another study is running or cleaning up (%s); wait for it to end" % holder, EXIT_BUSY)
    os.ftruncate(fd, 0)
    os.pwrite(fd, ("process %d\n" % os.getpid()).encode(), 0)


def _recover():
    """Undoes what a run left that was killed with its guard."""
    state = State.load()
    if state is not None:
        say("An earlier run of %s was killed with its guard; cleaning up after it." % state.entries["workload"])
        clean(state)


def _make_state_dir():
    os.makedirs(STATE_DIR, mode=0o711, exist_ok=True)
    info = os.lstat(STATE_DIR)
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != 0:
        raise Problem("%s is not a folder of root's; remove it" % STATE_DIR)


def _be_driver(work, state):
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ[TOKEN_VARIABLE] = state.entries["token"]
    try:
        status = work(state)
    except Problem as problem:
        say("%s: %s" % (state.entries["workload"], problem))
        status = problem.status
    except OSError as error:
        say("%s: %s" % (state.entries["workload"], error))
        status = EXIT_SYSTEM
    except BaseException as error:  # the driver must end here, whatever it is: it is a fork of the guard
        sys.excepthook(type(error), error, error.__traceback__)
        status = EXIT_SYSTEM
    try:
        sys.stdout.flush()
    except OSError:
        pass  # whoever read it has gone
    os._exit(status)


def _be_guard(work, state, front_gone):
    os.setsid()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    driver = os.fork()
    if driver == 0:
        os.close(front_gone)
        _be_driver(work, state)
    poll = select.poll()
    poll.register(front_gone, select.POLLIN)
    status, kill_at = None, None
    while status is None:
        if kill_at is None:
            if poll.poll(300) and not stop:
                stop.append(True)
            if stop:
                os.kill(driver, signal.SIGTERM)
                kill_at = time.monotonic() + 30
        else:
            time.sleep(0.05)
            if time.monotonic() > kill_at:
                os.kill(driver, signal.SIGKILL)
        while True:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
            if pid == driver:
                status = os.waitstatus_to_exitcode(wait_status)
            if pid in (0, driver):
                break
    if status < 0:
        if not stop:
            say("%s: the driver was killed by signal %d; cleaning up" % (state.entries["workload"], -status))
        status = EXIT_PARTIAL
    return _clean_up(status)


def _clean_up(status):
    """Cleans by what the state file says now: the driver has written to it, this process's copy is from before."""
    try:
        state = State.load()
        if state is not None:
            clean(state)
    except Problem as problem:
        say(str(problem))
        return EXIT_SYSTEM
    return status


def recover():
    """Only that: cleans up after a run that was killed together with its guard.  Return: exit code."""
    if os.geteuid() != 0:
        raise Problem("needs root to end the processes and restore the settings of an earlier run")
    _lock()
    if State.load() is None:
        say("No earlier run has left anything behind.")
    else:
        _recover()
    return 0


def guarded(workload, work, work_dir=None):
    """Runs @work(state) in a driver process, and undoes all it did when it ends in whatever way.

    @workload: the name for messages.  @work_dir: where the run folder is made; None for STATE_DIR.
    Return: the exit code for the process: work's own, or one of the EXIT_ values.
    """
    _lock()
    _make_state_dir()
    _recover()
    _make_state_dir()
    state = State.create(workload, "")
    state.entries["run_dir"] = "%s/run-%s" % (os.path.realpath(work_dir or STATE_DIR), state.entries["token"])
    state.save()
    os.mkdir(state.entries["run_dir"], 0o711)
    os.chmod(state.entries["run_dir"], 0o711)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    front_gone, front_alive = os.pipe()
    sys.stdout.flush()
    guard = os.fork()
    if guard == 0:
        os.close(front_alive)
        try:
            status = _be_guard(work, state, front_gone)
        except BaseException as error:
            sys.excepthook(type(error), error, error.__traceback__)
            status = _clean_up(EXIT_SYSTEM)
        os._exit(status)
    os.close(front_gone)

    def ask(number, _frame):
        try:
            os.kill(guard, signal.SIGTERM)
        except ProcessLookupError:
            pass
        if number == signal.SIGINT:
            say("\nStopping; what has been collected is kept.")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ask)
    status = os.waitstatus_to_exitcode(os.waitpid(guard, 0)[1])
    if status < 0:
        say("%s: its guard was killed by signal %d; cleaning up from here" % (workload, -status))
        status = _clean_up(EXIT_PARTIAL)
    return status
