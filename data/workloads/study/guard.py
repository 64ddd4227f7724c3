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

The state file is the one record of what has to be undone: an entry is written, and synced, before the change it
describes is made.  Entries: the settings changed (file, value before, value set), files made outside the run
folder, the run folder itself, and a token that every process of the run carries in its environment
(DS_STUDY_RUN) and by which the next run finds them.  Processes are ended by descent, by that token, or for having
their working directory in the run folder (a PostgreSQL backend overwrites its environment): never by name.

One run at a time on a machine: a lock, held by all three processes and gone with the last of them.
"""
import ctypes
import errno
import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import stat
import sys
import time

STATE_DIR = "/var/lib/dark-shadows-study"
STATE_FILE = STATE_DIR + "/state.json"
LOCK_FILE = "/run/dark-shadows-study.lock"
TOKEN_VARIABLE = "DS_STUDY_RUN"
EXIT_USAGE, EXIT_SYSTEM, EXIT_PARTIAL, EXIT_BUSY = 1, 2, 4, 75

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


class Problem(Exception):
    """A failure to be told to the user as it is, without a traceback; status is the exit code."""

    def __init__(self, message, status=EXIT_SYSTEM):
        super().__init__(message)
        self.status = status


def _prctl(option, value):
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(%d)" % option)


def say(text):
    """Prints a line on stderr; a terminal that has gone away is no reason to stop cleaning up."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


# --- the record of what has to be undone ------------------------------------------------------------------------------

class State:
    """The state file, kept in memory and written through.  Made by the driver, read by whoever cleans up."""

    def __init__(self, entries):
        self.entries = entries

    @classmethod
    def create(cls, workload, run_dir):
        return cls({"version": 1, "workload": workload, "token": secrets.token_hex(8), "run_dir": run_dir,
                    "boot_id": read_text("/proc/sys/kernel/random/boot_id").strip(), "settings": [], "files": []})

    @classmethod
    def load(cls):
        """The state left by an earlier run, or None."""
        try:
            return cls(json.loads(read_text(STATE_FILE)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Problem("%s is damaged (%s); look at it, undo what it names, and remove it" % (STATE_FILE, error))

    def save(self):
        temporary = STATE_FILE + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(self.entries, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, STATE_FILE)

    def change(self, path, value, read):
        """Writes @value into the setting @path, having recorded what @read(path) gave before.  Return: that."""
        before = read(path)
        if before != value:
            entry = {"file": path, "before": before, "after": value}
            self.entries["settings"].append(entry)
            self.save()
            write_setting(path, value)
        return before

    def own_file(self, path):
        """Says that @path is about to be made, and has to be removed in the end."""
        self.entries["files"].append(path)
        self.save()


def write_setting(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


def read_setting(path):
    """A setting's value: the [chosen] word where the kernel lists all of them, the whole text otherwise."""
    text = read_text(path).strip()
    if "[" in text:
        text = text[text.index("[") + 1:text.index("]")]
    return text


# --- ending processes -------------------------------------------------------------------------------------------------

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
        return [pid for pid in alive if _alive(pid)]

    postmaster, segment = _postmaster(state)
    if postmaster in ours():
        for number, seconds in ((signal.SIGINT, 15), (signal.SIGQUIT, 5)):
            _signal([postmaster], number)
            if not _wait_gone(lambda: [postmaster] if _alive(postmaster) else [], seconds):
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


def _alive(pid):
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


# --- undoing ----------------------------------------------------------------------------------------------------------

def _undo_setting(entry):
    """Puts a setting back.  If somebody else has changed it since, a word is left as they have it; a count, as of
    huge pages, is lowered by what the run had added."""
    path, before, after = entry["file"], entry["before"], entry["after"]
    now = read_setting(path)
    if now == before:
        return
    if now == after:
        write_setting(path, before)
    elif before.isdigit():
        write_setting(path, max(0, int(now) - (int(after) - int(before))))
    else:
        say("%s: somebody changed it to '%s' meanwhile; left so (it was '%s' before the study)" % (path, now, before))


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
                _undo_setting(entry)
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


# --- the three processes ----------------------------------------------------------------------------------------------

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
    except BaseException as error:  # the driver must end here, whatever it is: it is a fork of the guard
        sys.excepthook(type(error), error, error.__traceback__)
        status = EXIT_SYSTEM
    sys.stdout.flush()
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
