#!/usr/bin/env python3
"""replug.py - a QEMU that needs not boot loses the doorbell that dshost gave it, gets another one, and all of it is rung

usage: replug.py DSHOST RUN-DIR FOLDER; the daemon of RUN-DIR runs.  Prints "lives", or how QEMU ended.

What the guest's kernel does to let a device go, it does itself: a write to the ejection register of the pc machine, by QEMU's -qtest.  The other
doorbell has a server of its own here, with more descriptors, so that those of the first have other uses now.
"""
import array
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

dshost, run_dir, folder = sys.argv[1:]
connections = []
PATIENCE_S = 60


def dial(path):
    end = time.time() + PATIENCE_S
    while True:
        s = socket.socket(socket.AF_UNIX)
        try:
            s.connect(path)
            s.settimeout(PATIENCE_S)
            return s.makefile("rw")
        except OSError:
            s.close()
            if qemu.poll() is not None or time.time() > end:
                raise
            time.sleep(0.05)


def until(fn):
    end = time.time() + PATIENCE_S
    while not fn() and time.time() < end:
        time.sleep(0.05)


def ask(verb, **arguments):
    try:
        monitor.write(json.dumps({"execute": verb, "arguments": arguments}) + "\n")
        monitor.flush()
        while line := monitor.readline():
            answer = json.loads(line)
            if "return" in answer or "error" in answer:
                return answer
    except OSError:
        pass
    try:
        print(f"QEMU ended with {qemu.wait(PATIENCE_S)} when it was told: {verb}")
    except subprocess.TimeoutExpired:
        print(f"QEMU does not answer: {verb}")
    sys.exit(1)


def told():
    """Waits until QEMU has read all that a doorbell's server says, a descriptor with each message: until no more come."""
    seen = 0
    while seen < (now := len(os.listdir(f"/proc/{qemu.pid}/fd"))) or now < 128:
        seen = now
        for _ in range(20):  # rounds of its main loop
            ask("query-status")


def port(number, value):
    qtest.write(f"outl {number:#x} {value:#x}\n")
    qtest.flush()
    qtest.readline()


def server(path, doorbells):
    """Listens; tells who comes, as a server of ivshmem does, while QEMU waits in device_add.  Return: the doorbells."""
    bells = [os.eventfd(0) for _ in range(doorbells)]
    window = os.memfd_create("window")
    os.ftruncate(window, 1 << 20)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)

    def tell():
        s, _ = listener.accept()
        connections.append(s)
        for number, fd in [(0, None), (0, None), (-1, window)] + [(i + 1, fd) for i, fd in enumerate(bells)]:
            s.sendmsg([struct.pack("<q", number)],
                      [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd is not None else [])
    threading.Thread(target=tell, daemon=True).start()
    return bells


qemu = subprocess.Popen([dshost, "run", "--run-dir", run_dir, "--name", "replug", "--", "qemu-system-x86_64", "-S", "-nodefaults", "-display", "none",
                         "-machine", "pc,accel=tcg", "-m", "64", "-qmp", f"unix:{folder}/replug.qmp,server=on,wait=off", "-qtest",
                         f"unix:{folder}/replug.qtest,server=on,wait=off", "-qtest-log", "/dev/null"],
                        preexec_fn=lambda: signal.alarm(300))  # should the test be killed, it does not stay for ever
try:
    monitor, qtest = dial(f"{folder}/replug.qmp"), dial(f"{folder}/replug.qtest")
    ask("qmp_capabilities")
    slot = next(d["slot"] for b in ask("query-pci")["return"] for d in b["devices"] if d["qdev_id"] == "dark-doorbell")
    told()
    assert "return" in ask("device_del", id="dark-doorbell")
    port(0xae10, 0)  # the bus
    port(0xae08, 1 << slot)
    until(lambda: all(x["name"] != "dark-doorbell" for x in ask("qom-list", path="/machine/peripheral")["return"]))
    until(lambda: "return" in ask("chardev-remove", id="dark-doorbell-socket"))
    bells = server(f"{folder}/replug.doorbell", 250)
    address = {"type": "unix", "data": {"path": f"{folder}/replug.doorbell"}}
    assert "return" in ask("chardev-add", id="other", backend={"type": "socket", "data": {"addr": address, "server": False}})
    assert "return" in ask("device_add", driver="ivshmem-doorbell", id="other", chardev="other", vectors=1)
    told()
    for bell in bells:
        os.eventfd_write(bell, 1)
    for _ in range(20):  # rounds of its main loop
        ask("query-status")
    print("lives")
finally:
    qemu.kill()
    qemu.wait()
