#!/usr/bin/python3
"""same_calls.py - whether interception saw the calls that a program makes without it

usage: same_calls.py NATIVE PRELOADED TRACE [uncertain=NR,NR...]

NATIVE is what oracle -l wrote about a run without the library.  PRELOADED is what oracle -l wrote about a run with it, of which
only who made whom is used; TRACE is what the library's hook was asked about in that run (probe.c, DS_PROBE_TRACE).

Processes and threads are matched by who made them: the second child of the first process is so in both.  Each program that a
process executes is a part.  Of each part the calls have to be the same in the same order, apart from
  - the first of a part: the dynamic linker's, before the library is there.  Only calls that a linker makes may be missing;
  - calls that the kernel makes again after a signal, which the hook is asked about once;
  - rt_sigreturn, the end of a handler: what it would do can only be done by the kernel, so no hook is asked;
  - those in uncertain: how often they are made depends on time (futex).  With any, order is not looked at, counts are.
"""
import struct
import sys
from collections import Counter

EXEC = (59, 322)
SIGRETURN = 15
# What ld.so calls: execve (the exec itself) read close mmap mprotect munmap brk pread64 access arch_prctl futex set_tid_address
# openat newfstatat set_robust_list prlimit64 getrandom rseq readlink
LINKER = {59, 322, 0, 3, 9, 10, 11, 12, 17, 21, 158, 202, 218, 257, 262, 273, 302, 318, 334, 89}


def read_log(path):
    """names of threads by id, and their calls"""
    calls, made = {}, {}
    first = None
    for line in open(path):
        what, tid, other = line.split()
        tid, other = int(tid), int(other)
        first = first or tid
        if what == "made":
            made.setdefault(tid, []).append(other)
        elif what == "call":
            if other != SIGRETURN:
                calls.setdefault(tid, []).append(other & 0xffffffff)
        elif what == "exec":  # the call that did it was made before
            calls.setdefault(tid, []).append("exec")
    names, todo = {first: "0"}, [first]
    while todo:
        parent = todo.pop()
        for n, child in enumerate(made.get(parent, [])):
            names[child] = f"{names[parent]}.{n}"
            todo.append(child)
    return names, calls


def parts(sequence):
    """a process's calls, split where it became another program"""
    out = [[]]
    for nr in sequence:
        if nr == "exec":
            out.append([])
        else:
            out[-1].append(nr)
    return out


def read_trace(path):
    data = open(path, "rb").read()
    count = struct.unpack_from("<Q", data)[0]
    calls = {}
    for at in range(1, count + 1):
        tid, nr = struct.unpack_from("<II", data, 8 * at)
        calls.setdefault(tid, []).append(nr)
    return calls


def split_like(native_parts, hooked):
    """the hook's calls of a process, split behind each exec that succeeded; a failed one is followed by further calls of the same part"""
    out, at = [], 0
    for n, part in enumerate(native_parts):
        execs = sum(nr in EXEC for nr in part)  # the last one succeeded, unless it is the last part
        end = len(hooked)
        if n + 1 < len(native_parts):
            end = at
            while execs and end < len(hooked):
                execs -= hooked[end] in EXEC
                end += 1
        out.append(hooked[at:end])
        at = end
    return out


def main():
    native_names, native = read_log(sys.argv[1])
    names, _ = read_log(sys.argv[2])
    hooked = read_trace(sys.argv[3])
    uncertain = set()
    for word in sys.argv[4:]:
        uncertain = {int(n) for n in word.removeprefix("uncertain=").split(",")}
    theirs = {names.get(tid, f"?{tid}"): seq for tid, seq in hooked.items()}
    bad = seen = linker = 0
    for tid, sequence in native.items():
        name = native_names[tid]
        all_parts = parts(sequence)
        if name == "0":  # what became the first program is not the program's
            all_parts = [p for p in all_parts if p]
        mine = theirs.pop(name, [])
        for n, (part, got) in enumerate(zip(all_parts, split_like(all_parts, mine))):
            began = n > 0 or name == "0"
            missing = part[:len(part) - len(got)] if began else []
            want = part[len(missing):]
            if uncertain:
                have, need = Counter(got), Counter(part)
                missing = [nr for nr, k in (need - have).items() if nr not in uncertain] if began else []
                extra = have - need
                wrong = [nr for nr in extra if nr not in uncertain]
                if not began:
                    wrong += [nr for nr in need - have if nr not in uncertain]
            else:
                wrong = want != got
            if wrong or set(missing) - LINKER:
                bad += 1
                print(f"process {name} part {n}: not the same\n  native {want}\n  hook   {got}\n  before the library {missing}")
            seen += len(got)
            linker += len(missing)
    for name, sequence in theirs.items():
        bad += 1
        print(f"process {name}: {len(sequence)} calls of a process that there is not without the library")
    print(f"{seen} calls seen, {linker} of dynamic linkers before the library was there")
    sys.exit(1 if bad or not seen else 0)


main()
