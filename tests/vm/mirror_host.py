#!/usr/bin/env python3
"""mirror_host.py - on the host of mirror.sh: runs dshost, and does for the guest what only the host can

usage: mirror_host.py FOLDER VM

FOLDER holds VM.in and VM.out (the pipes of the guest's port), VM.qmp (the monitor), run/ (dshost's run directory), log, policy.
Starts the daemon unless FOLDER/run has one.  Then one line comes from the guest, a number and one of these, and one goes back as
JSON, a list of that number and the answer:

  status                  the VM's part of `dshost status --json`
  peek PID ADDR           a word of a host process, by /proc/PID/mem
  poke PID ADDR WORD
  line PID ADDR           the line of /proc/PID/maps that holds an address
  kill WHAT [GUEST-PID]   SIGKILL to the capsule or warden of a guest process, to the VM's process (vm), to the daemon, to
                          the VM itself (vmm)
  end GUEST-PID           dshost end
  daemon                  a new daemon
  attach                  dshost attach
  reset                   the VM is reset
  count                   what there is of dshost on this machine, other VMs left out
  remap PID ADDR          a bare loop of mmap() over a mirror's mappings: their number, pages, microseconds
  cpu                     ticks of CPU that the VM's process, its wardens and capsules have used
  log REGEX               lines of the log that match, from the last `log` on
  vms                     how many VMs dshost has
  checks N                keep a number
  life                    how often this VM has asked, and the number kept

Ends when the pipe does.  Numbers are decimal.
"""
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time

folder, vm = sys.argv[1], sys.argv[2]
BIN = os.environ["BIN"]
DSHOST = os.path.realpath(os.path.join(BIN, "dshost"))
SERVICES = os.path.realpath(os.path.join(os.path.dirname(BIN), "shadow"))
run_dir = os.path.join(folder, "run")
log_at = lives = checks = 0


def dshost(*args, timeout=90):
    r = subprocess.run([DSHOST, args[0], "--run-dir", run_dir, *args[1:]], capture_output=True, text=True, timeout=timeout)
    return r.returncode, r.stdout, r.stderr.strip()


def daemon():
    with open(os.path.join(folder, "log"), "a") as log:
        p = subprocess.Popen([DSHOST, "serve", "--run-dir", run_dir, "--policy", os.path.join(folder, "policy"), "--services", SERVICES],
                             stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                             preexec_fn=lambda: signal.alarm(1800))  # should the test be killed, it does not stay for ever
    with open(os.path.join(folder, "daemon.pid"), "w") as f:
        f.write(str(p.pid))
    for _ in range(200):
        if dshost("status")[0] == 0:
            return {"pid": p.pid}
        time.sleep(0.05)
    return {"error": "no daemon"}


def whole_status():
    code, out, err = dshost("status", "--json")
    return json.loads(out) if code == 0 else {"error": err}


def status():
    top = whole_status()
    if "error" in top:
        return top
    for v in top["vms"]:
        if v["name"] == vm:
            return dict(v, daemon=top["daemon"])
    return {"error": f"dshost knows no VM {vm}"}


def ours(pid):
    """Whether a process runs dshost's program or a capsule's."""
    try:
        exe = os.readlink(f"/proc/{pid}/exe")
        with open(f"/proc/{pid}/stat") as f:
            state = f.read().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z" and (exe == DSHOST or os.path.dirname(exe) == SERVICES or exe.startswith("/memfd:capsule"))


def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return int(f.read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def count():
    others = {v["process"] for v in whole_status().get("vms", []) if v["name"] != vm}
    pids = []
    for pid in [int(d) for d in os.listdir("/proc") if d.isdigit() and ours(d)]:
        up = pid
        while up > 1 and up not in others:
            up = parent(up)
        if up not in others:
            pids.append(pid)
    names = {}
    fds = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                words = f.read().split("\0")
            names[pid] = " ".join(words[:3]).strip()
            fds[pid] = len(os.listdir(f"/proc/{pid}/fd"))
        except OSError:
            names[pid] = "?"
    with open("/proc/self/mountinfo") as f:
        mounts = len(f.readlines())
    cgroups = sum("dshost" in d or "shadow" in d for _, dirs, _ in os.walk("/sys/fs/cgroup") for d in dirs)
    status_now = status()
    children = sum(1 for p in pids if p != status_now.get("daemon"))
    return {"processes": len(pids), "children": children, "names": sorted(names.values()), "mounts": mounts,
            "files": sorted(os.listdir(run_dir)), "cgroups": cgroups,
            "fds": {"daemon": fds.get(status_now.get("daemon"), 0), "vm": fds.get(status_now.get("process"), 0)}}


def memory(pid, addr, word=None):
    with open(f"/proc/{pid}/mem", "rb" if word is None else "r+b", buffering=0) as f:
        f.seek(addr)
        if word is None:
            return {"word": struct.unpack("<Q", f.read(8))[0]}
        f.write(struct.pack("<Q", word))
        return {}


def maps_line(pid, addr):
    with open(f"/proc/{pid}/maps") as f:
        for line in f:
            lo, hi = (int(x, 16) for x in line.split()[0].split("-"))
            if lo <= addr < hi:
                return {"line": line.strip(), "from": lo, "to": hi, "prot": line.split()[1]}
    return {"line": ""}


def kill(what, guest_pid="0"):
    s = status()
    if "error" in s:
        return s
    if what in ("capsule", "warden"):
        pid = next((x[what] for x in s["shadows"] if x["pid"] == int(guest_pid) and x["state"] == "run"), 0)
    else:
        pid = s[{"vm": "process", "vmm": "vmm"}.get(what, "daemon")]
    if not pid:
        return {"error": f"no {what} of {guest_pid}"}
    os.kill(pid, signal.SIGKILL)
    for _ in range(500):
        if what == "vmm" or not ours(pid):
            return {"pid": pid}
        time.sleep(0.01)
    return {"error": f"{what} {pid} does not die"}


def monitor(command):
    s = socket.socket(socket.AF_UNIX)
    s.connect(os.path.join(folder, vm + ".qmp"))
    f = s.makefile("rw")
    f.readline()
    for c in ("qmp_capabilities", command):
        f.write(json.dumps({"execute": c}) + "\n")
        f.flush()
        while "return" not in f.readline():
            pass
    s.close()
    return {}


def remap(pid, addr):
    r = subprocess.run([os.path.join(os.path.dirname(BIN), "tests/bench/remap"), str(pid), format(addr, "x"), "9"], capture_output=True,
                       text=True, timeout=120)
    if r.returncode:
        return {"error": r.stderr.strip()}
    return dict(zip(("mappings", "pages", "us"), (int(x) for x in r.stdout.split())))


def cpu():
    ticks = 0
    for pid in [int(d) for d in os.listdir("/proc") if d.isdigit() and ours(d)]:
        try:
            with open(f"/proc/{pid}/stat") as f:
                ticks += sum(int(x) for x in f.read().rsplit(")", 1)[1].split()[11:13])
        except OSError:
            pass
    return {"ticks": ticks}


def log(pattern):
    global log_at
    with open(os.path.join(folder, "log"), errors="replace") as f:
        f.seek(log_at)
        text = f.read()
        log_at = f.tell()
    return {"lines": [x for x in text.splitlines() if re.search(pattern, x)]}


def obey(words):
    global lives, checks
    verb, args = words[0], words[1:]
    if verb == "life":
        lives += 1
        return {"n": lives, "checks": checks}
    if verb == "checks":
        checks = int(args[0])
        return {}
    if verb == "vms":
        return {"n": len(whole_status().get("vms", []))}
    if verb == "end":
        code, _, err = dshost("end", f"{vm}/{args[0]}")
        return {"code": code, "text": err}
    if verb == "attach":
        code, out, err = dshost("attach", "--qmp", os.path.join(folder, vm + ".qmp"), "--name", vm, timeout=120)
        return {"code": code, "text": (out + err).strip()}
    simple = {"status": status, "daemon": daemon, "count": count, "cpu": cpu}
    if verb in simple:
        return simple[verb]()
    if verb == "reset":
        return monitor("system_reset")
    if verb == "log":
        return log(" ".join(args))
    if verb == "kill":
        return kill(*args)
    if verb in ("peek", "poke"):
        return memory(*(int(a) for a in args))
    if verb == "remap":
        return remap(*(int(a) for a in args))
    if verb == "line":
        return maps_line(*(int(a) for a in args))
    return {"error": "what?"}


def main():
    if dshost("status")[0] != 0:
        daemon()
    # Opened for both directions, so that it does not end with one of QEMU's lives.
    to_guest = os.open(os.path.join(folder, vm + ".in"), os.O_RDWR)
    with os.fdopen(os.open(os.path.join(folder, vm + ".out"), os.O_RDWR), "r") as from_guest:
        for line in iter(from_guest.readline, ""):
            number, *words = line.split() or ["0"]
            try:
                answer = obey(words or ["?"])
            except Exception as e:  # the guest's test is to hear of it, whatever it is
                answer = {"error": f"{type(e).__name__}: {e}"}
            data = (json.dumps([number, answer]) + "\n").encode()
            while data:
                data = data[os.write(to_guest, data):]


main()
