"""machine.py - the machine under the workload: is it large enough, and its memory settings for the time of a run

Every change goes through State.change() or State.own_file() (state.py), which record how to undo it first.

Ages of the free list.  Which frames a process gets depends on what the kernel's free lists look like, and that on
what ran before.  Two reproducible states beside `as-is`:

    fresh   page cache dropped and memory compacted: large free blocks, handed out in order.
    aged    free memory filled with a file in tmpfs and then freed again except for a page here and there at random
            places (one of every AGE_KEEP on average), which stay until the end of the run.  What is free then lies in
            short stretches and in random order, as on a machine whose page cache has turned over for weeks.  The
            pages belong to a file, not to a process, so they appear in no sample; they are movable, so compaction
            can undo the state where the kernel wants large blocks badly enough, as it can on a real machine.
"""
import ctypes
import glob
import os
import random

from .state import Problem, read_setting, read_text

THP_DIR = "/sys/kernel/mm/transparent_hugepage"
NR_HUGEPAGES = "/proc/sys/vm/nr_hugepages"
MIB = 1 << 20
PAGE = 4096
AGE_KEEP = 12            # one page of this many stays
AGE_RESERVE = 3 << 30    # bytes of available memory that ageing does not touch
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2


def meminfo():
    """/proc/meminfo in bytes (counts without a unit as they are)."""
    values = {}
    for line in read_text("/proc/meminfo").splitlines():
        words = line.split()
        values[words[0].rstrip(":")] = int(words[1]) * (1024 if len(words) > 2 else 1)
    return values


def _pid_room():
    """How many more processes this machine lets run: PID space, threads, and the pids cgroup, whichever is least."""
    room = [int(read_text("/proc/sys/kernel/pid_max")), int(read_text("/proc/sys/kernel/threads-max"))]
    running = sum(name.isdigit() for name in os.listdir("/proc"))
    room = [limit - running for limit in room]
    for line in read_text("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "pids"):
            folder = ("/sys/fs/cgroup/pids" if controllers else "/sys/fs/cgroup") + path
            try:
                limit = read_text(folder + "/pids.max").strip()
                if limit != "max":
                    room.append(int(limit) - int(read_text(folder + "/pids.current")))
            except OSError:
                pass
    return min(room)


def require(what, memory_bytes, disk_bytes, disk_dir, processes):
    """Refuses, by Problem, a machine on which @what (a text) would not fit."""
    available = meminfo()["MemAvailable"]
    if available < memory_bytes:
        raise Problem("%s needs %d MiB of available memory, there are %d; use a smaller --scale or fewer --students"
                      % (what, memory_bytes // MIB, available // MIB))
    disk = os.statvfs(disk_dir)
    if disk.f_bavail * disk.f_frsize < disk_bytes:
        raise Problem("%s needs %d MiB of disk under %s, there are %d; use a smaller --scale or another --work folder"
                      % (what, disk_bytes // MIB, disk_dir, disk.f_bavail * disk.f_frsize // MIB))
    room = _pid_room()
    if room < processes:
        raise Problem("%s needs room for %d processes, the limits of this machine leave %d; use fewer --students, or "
                      "raise kernel.pid_max or the pids limit of this cgroup" % (what, processes, room))


def set_thp(state, word):
    """Sets the policy for transparent huge pages, and with `mthp` the smaller sizes too (64 KiB, as on a machine that
    wants them everywhere): the 2 MiB policy is then `always` as well."""
    if word is None:
        return
    if not os.path.isdir(THP_DIR):
        raise Problem("this kernel has no transparent huge pages; leave --thp out")
    if word == "mthp":
        size = THP_DIR + "/hugepages-64kB/enabled"
        if not os.path.exists(size):
            raise Problem("this kernel has no 64 KiB transparent huge pages (Linux 6.8 has)")
        state.change(size, "always", read_setting)
    state.change(THP_DIR + "/enabled", "always" if word == "mthp" else word, read_setting)


def reserve_huge_pages(state, pages):
    """Adds @pages huge pages of the default size to those free now.  Return: whether the kernel had them; if not,
    those it could find are given back."""
    if pages < 0 or not os.path.exists(NR_HUGEPAGES):
        return False
    before = int(read_setting(NR_HUGEPAGES))
    lacking = pages - meminfo()["HugePages_Free"] + meminfo()["HugePages_Rsvd"]
    if lacking <= 0:
        return True
    state.change(NR_HUGEPAGES, str(before + lacking), read_setting)
    if int(read_setting(NR_HUGEPAGES)) < before + lacking:
        _write("/proc/sys/vm/drop_caches", "3")
        _write("/proc/sys/vm/compact_memory", "1")
        _write(NR_HUGEPAGES, str(before + lacking))
    if int(read_setting(NR_HUGEPAGES)) < before + lacking:
        _write(NR_HUGEPAGES, str(before))
        return False
    return True


def _write(path, text):
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
    except OSError:
        pass  # a hint to the kernel; the caller looks at the result


def set_age(state, age, seed, limit_bytes=None):
    """Puts the free lists into the state @age (see the head of this file); `as-is` does nothing.  @limit_bytes: age no
    more memory than that."""
    if age == "as-is":
        return
    os.sync()
    _write("/proc/sys/vm/drop_caches", "3")
    _write("/proc/sys/vm/compact_memory", "1")
    if age == "aged":
        room = os.statvfs("/dev/shm")
        size = min(meminfo()["MemFree"] - AGE_RESERVE, room.f_bavail * room.f_frsize - 64 * MIB, limit_bytes or 1 << 60)
        if size < 64 * MIB:
            raise Problem("not enough free memory (and room in /dev/shm) to age it; use --age fresh or as-is")
        _fragment(state, size // PAGE, random.Random(seed))


def _fragment(state, pages, dice):
    path = "/dev/shm/dark-shadows-aged-" + state.entries["token"]
    state.own_file(path)
    libc = ctypes.CDLL(None, use_errno=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        block = b"\1" * (4 * MIB)
        for offset in range(0, pages * PAGE, len(block)):
            os.pwrite(fd, block, offset)
        # Punched in random order too, a stretch at a time: the order of freeing is the order of later use.
        starts, at = [], 0
        while at < pages:
            length = dice.randint(1, 2 * AGE_KEEP - 1)
            starts.append((at, length - 1))
            at += length
        dice.shuffle(starts)
        mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
        for start, length in starts:
            if length and libc.fallocate(fd, mode, ctypes.c_long(start * PAGE), ctypes.c_long(length * PAGE)) != 0:
                raise Problem("%s: fallocate: %s" % (path, os.strerror(ctypes.get_errno())))
    finally:
        os.close(fd)


def describe():
    """The machine in a few words for a manifest: nothing that tells whose it is or where."""
    model = [line.split(":", 1)[1].strip() for line in read_text("/proc/cpuinfo").splitlines()
             if line.startswith("model name")]
    thp = {}
    for path in sorted(glob.glob(THP_DIR + "/*")):
        name = os.path.basename(path)
        if name in ("enabled", "defrag", "shmem_enabled"):
            thp[name] = read_setting(path)
        elif name.startswith("hugepages-"):
            thp[name] = read_setting(path + "/enabled") if os.path.exists(path + "/enabled") else None
    info = meminfo()
    return {"cpu": model[0] if model else os.uname().machine, "cpus": os.cpu_count(), "arch": os.uname().machine,
            "memory_bytes": info["MemTotal"], "swap_bytes": info["SwapTotal"],
            "kernel": os.uname().release, "transparent_hugepage": thp,
            "hugetlb_pages": info.get("HugePages_Total", 0), "overcommit": read_setting("/proc/sys/vm/overcommit_memory"),
            "randomize_va_space": read_setting("/proc/sys/kernel/randomize_va_space")}
