"""processes.py - ends what a run has started: by descent, by its mark, by its folder, never by name

A process belongs to the run if it is below this one (front and guard are child subreapers, so what loses its parents
stays below them), or carries the run's token in its environment, or works in the run's folder (a PostgreSQL backend
overwrites its environment).  The last two find what is left when front and guard were killed too.
"""
import ctypes
import os
import signal
import time

from .state import TOKEN_VARIABLE, Problem, read_text, say

_libc = ctypes.CDLL(None, use_errno=True)


def _parents():
    """PID -> parent PID of everything that runs; the comm field may hold blanks and brackets, so cut at the last one."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = read_text("/proc/%s/stat" % name).rpartition(")")[2].split()
                parents[int(name)] = int(fields[1])
            except (OSError, IndexError):
                pass
    return parents


def descendants(root):
    children = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def marked(state):
    """Processes that carry the run's token or work in its folder, this one and its parent left out."""
    mark = ("%s=%s" % (TOKEN_VARIABLE, state.entries["token"])).encode()
    run_dir = state.entries["run_dir"]
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in (os.getpid(), os.getppid()):
            continue
        try:
            cwd = os.readlink("/proc/%s/cwd" % name)
            with open("/proc/%s/environ" % name, "rb") as file:
                if mark in file.read().split(b"\0") or cwd == run_dir or cwd.startswith(run_dir + "/"):
                    found.append(int(name))
        except OSError:
            pass
    return found


def _signal(pids, number):
    for pid in pids:
        try:
            os.kill(pid, number)
            if number == signal.SIGTERM:
                os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            pass


def _reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _wait_gone(list_pids, seconds):
    end = time.monotonic() + seconds
    while True:
        _reap()
        left = list_pids()
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def _postmaster(state):
    """(pid, shared memory id) from postmaster.pid of the run's cluster; (0, None) where there is none."""
    try:
        lines = read_text(state.entries["run_dir"] + "/pgdata/postmaster.pid").splitlines()
        return int(lines[0]), (lines[6].split()[1] if len(lines) > 6 else None)
    except (OSError, ValueError, IndexError):
        return 0, None


def end_processes(state):
    """Ends everything of the run: PostgreSQL in its own order first, the rest by SIGTERM, what is left by SIGKILL."""
    def ours():
        alive = set(descendants(os.getpid())) | set(marked(state))
        return [pid for pid in alive if is_alive(pid)]

    postmaster, segment = _postmaster(state)
    if postmaster in ours():
        for number, seconds in ((signal.SIGINT, 15), (signal.SIGQUIT, 5)):
            _signal([postmaster], number)
            if not _wait_gone(lambda: [postmaster] if is_alive(postmaster) else [], seconds):
                break
    _signal(ours(), signal.SIGTERM)
    _signal(_wait_gone(ours, 1.5), signal.SIGHUP)  # an interactive bash ignores SIGTERM
    left = _wait_gone(ours, 1.5)
    for _ in range(20):  # again and again: a process may have forked between the look and the signal
        if not left:
            break
        _signal(left, signal.SIGKILL)
        left = _wait_gone(ours, 0.5)
    _remove_segment(segment)
    if left:
        raise Problem("processes that do not end: %s" % " ".join(map(str, left)))


def is_alive(pid):
    """Whether the process still runs; one that has ended and waits to be looked at by its parent does not."""
    try:
        return read_text("/proc/%d/stat" % pid).rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def _remove_segment(segment):
    """A postmaster that was killed leaves its few bytes of System V memory; removed only while nobody is attached."""
    if segment is None:
        return
    for line in read_text("/proc/sysvipc/shm").splitlines()[1:]:
        fields = line.split()
        if fields[1] == segment and fields[6] == "0":
            if _libc.shmctl(int(segment), 0, None) != 0:
                say("could not remove shared memory segment %s: ipcrm -m %s" % (segment, segment))
