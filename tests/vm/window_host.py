"""window_host - the host's part of window.sh: what the VMM has mapped, and what only the host can do

usage: window_host.py FOLDER RUN-DIR DSHOST     (host_port.py)

Questions: "mappings FILE" counts the VMM's mappings of FOLDER/data/FILE, "gone FILE" waits until there are none, "end NAME"
ends the shadow of the program that has FILE open, "keeper FILE" kills the process that keeps what children inherit, "killed FILE" the one that serves
the VM; both say what has become of FILE.
"""
import os
import signal
import subprocess
import time

from host_port import answer, dshost, run_dir, vms


def vm():
    return vms()[0]


def count(pid, name):
    with open(f"/proc/{pid}/maps") as f:
        return sum(line.rstrip().endswith(f"/data/{name}") for line in f)


def wait_gone(pid, name):
    for _ in range(600):
        if count(pid, name) == 0:
            return "gone"
        time.sleep(0.1)
    return "still there"


def mappings(name):
    return str(count(vm()["vmm"], name))


def gone(name):
    return wait_gone(vm()["vmm"], name)


def end(name):
    for s in vm()["shadows"]:
        fds = f"/proc/{s['capsule']}/fd"
        if any(os.readlink(f"{fds}/{n}").endswith(f"/{name}") for n in os.listdir(fds)):
            subprocess.run([dshost, "end", f"one/{s['pid']}", "--run-dir", run_dir], check=True, timeout=60)
            return "ended"
    return "no such shadow"


def kill_process(comm):
    for p in (int(p) for p in os.listdir("/proc") if p.isdigit()):
        try:
            with open(f"/proc/{p}/comm") as f, open(f"/proc/{p}/cmdline") as g:
                if f.read().strip() == comm and run_dir in g.read():
                    os.kill(p, signal.SIGKILL)
        except OSError:
            continue


def keeper(name):
    kill_process("dshost-estates")
    return gone(name)


def killed(name):
    vmm = vm()["vmm"]
    kill_process("dshost-vm")
    there = wait_gone(vmm, name)
    with open(f"/proc/{vmm}/stat") as f:
        state = f.read().rsplit(")", 1)[1].split()[0]
    return there + (", running" if state in "RSD" else f", {state}")


answer({"mappings": mappings, "gone": gone, "end": end, "keeper": keeper, "killed": killed})
