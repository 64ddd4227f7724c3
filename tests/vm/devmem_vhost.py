#!/usr/bin/env python3
"""devmem_vhost.py - in devmem.sh: VM B's vsock device is served by the dshost of VM A, for which B's memory is /dev/mem

usage, on the host:   devmem_vhost.py MONITOR-OF-A PIPE-TO-A SOCKET-FOR-B RAM-FILE-OF-B CARD-FILE
usage, in VM A:       qemu-system-x86_64 ARGUMENTS        as dshost run makes them; this program by that name, DEVMEM_PORT set

The card is a device that both VMs have, with the same memory.  DEVMEM_CARD says where A has it, "ADDRESS BYTES": this VMM has that from /dev/mem, too,
as one would by memory-backend-file and ivshmem-plain.

A vhost-user device is a socket with descriptors, which cannot go from the host into a VM.  So the outer half takes B's messages
and hands them on by a serial port of A, and the inner half plays a VMM of A: it has B's memory mapped from /dev/mem, where A has a
DIMM, and says what B's QEMU says, with descriptors and addresses of its own.  What eventfds tell goes by the port, too.

First the outer half says where the DIMM is, a line of text; then frames: a letter, the number of bytes (32 bits), the bytes.
  H  the inner half is there          M  a vhost-user message, either way
  K  a queue's number: B has kicked   C  a queue's number: dshost calls          E  B has ended
"""
import json
import mmap
import os
import select
import socket
import struct
import sys
import time

SET_MEM_TABLE, SET_VRING_ADDR, SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR = 5, 9, 12, 13, 14
NO_FD = 0x100
CARD = 1 << 63  # in a region's offset on the port: of the card, not of B's memory


class Frames:
    """The port, from either end."""

    def __init__(self, read_fd, write_fd):
        self.read_fd, self.write_fd, self.bytes = read_fd, write_fd, b""

    def send(self, letter, data=b""):
        data = letter.encode() + struct.pack("<I", len(data)) + data
        while data:
            data = data[os.write(self.write_fd, data):]

    def receive(self):
        """Frames that are complete, after the port was found readable."""
        got, found = os.read(self.read_fd, 65536), []
        if not got:
            time.sleep(0.01)  # the other end has not opened the port yet
        self.bytes += got
        while len(self.bytes) >= 5 and len(self.bytes) >= 5 + struct.unpack_from("<I", self.bytes, 1)[0]:
            n = 5 + struct.unpack_from("<I", self.bytes, 1)[0]
            found.append((chr(self.bytes[0]), self.bytes[5:n]))
            self.bytes = self.bytes[n:]
        return found


def message(s):
    """(request, flags, payload, descriptors) of a vhost-user socket; None at its end."""
    head, fds, _, _ = socket.recv_fds(s, 12, 8)
    if not head:
        return None
    while len(head) < 12:
        head += s.recv(12 - len(head))
    request, flags, size = struct.unpack("<III", head)
    payload = b""
    while len(payload) < size:
        payload += s.recv(size - len(payload))
    return request, flags, payload, fds


def regions(payload):
    n = struct.unpack_from("<I", payload)[0]
    return [struct.unpack_from("<QQQQ", payload, 8 + 32 * i) for i in range(n)]


def table(found):
    return struct.pack("<II", len(found), 0) + b"".join(struct.pack("<QQQQ", *r) for r in found)


# --- on the host ---------------------------------------------------------------------------------------------------

def dimm(monitor):
    """Where A has its one memory device."""
    s = socket.socket(socket.AF_UNIX)
    for _ in range(600):
        try:
            s.connect(monitor)
            break
        except OSError:
            time.sleep(0.1)
    f = s.makefile("rw")
    f.readline()
    for command in "qmp_capabilities", "query-memory-devices":
        f.write(json.dumps({"execute": command}) + "\n")
        f.flush()
        while "return" not in (answer := json.loads(f.readline())):
            pass
    s.close()
    return answer["return"][0]["data"]["addr"]


def outer(monitor, pipe, path, ram, card):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    port = Frames(os.open(pipe + ".out", os.O_RDWR), os.open(pipe + ".in", os.O_RDWR))
    os.write(port.write_fd, f"{dimm(monitor)}\n".encode())
    while ("H", b"") not in port.receive():
        pass
    s, _ = listener.accept()
    kick, call = {}, {}
    poll = select.poll()
    for fd in s.fileno(), port.read_fd:
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == s.fileno():
                m = message(s)
                if not m:
                    port.send("E")
                    return
                request, flags, payload, fds = m
                if request == SET_MEM_TABLE:
                    known = {os.stat(ram).st_ino: 0, os.stat(card).st_ino: CARD}
                    payload = table([(*r[:3], r[3] | known[os.fstat(f).st_ino]) for r, f in zip(regions(payload), fds) if os.fstat(f).st_ino in known])
                elif request in (SET_VRING_KICK, SET_VRING_CALL) and fds:
                    queue, events = payload[0], kick if request == SET_VRING_KICK else call
                    if queue in events:
                        if events is kick:
                            poll.unregister(kick[queue])
                        os.close(events[queue])
                    events[queue] = fds.pop()
                    if events is kick:
                        poll.register(kick[queue], select.POLLIN)
                for f in fds:
                    os.close(f)
                port.send("M", struct.pack("<III", request, flags, len(payload)) + payload)
            elif fd == port.read_fd:
                for letter, data in port.receive():
                    if letter == "M":
                        s.sendall(data)
                    elif letter == "C" and data[0] in call:
                        os.eventfd_write(call[data[0]], 1)
            else:
                queue = next((q for q in kick if kick[q] == fd), None)
                try:
                    os.eventfd_read(fd)
                except BlockingIOError:
                    continue
                port.send("K", bytes([queue]))


# --- in VM A -------------------------------------------------------------------------------------------------------

class Inner:
    def __init__(self, argv):
        words = dict(w.split("=", 1) for a in argv if a.startswith("memory-backend-file,") for w in a.split(",") if "=" in w)
        path = next(a.split("path=", 1)[1] for a in argv if a.startswith("socket,") and a.endswith(".vsock"))
        self.at = int(words["offset"])
        self.mem = os.open(words["mem-path"], os.O_RDWR)
        self.map = mmap.mmap(self.mem, int(words["size"]), offset=self.at)
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.base = address_of(self.map)
        self.card_at, card_bytes = (int(n) for n in os.environ.get("DEVMEM_CARD", "0 0").split())
        if card_bytes:
            self.card_map = mmap.mmap(self.mem, card_bytes, offset=self.card_at)
            self.card_base = address_of(self.card_map)
        self.moved = []  # B's address, bytes, ours
        self.kick, self.call = {}, {}

    def where(self, offset):
        """our address, and the physical one, of what is at an offset of B's memory, or of the card"""
        if offset & CARD:
            return self.card_base + (offset & ~CARD), self.card_at + (offset & ~CARD)
        return self.base + offset, self.at + offset

    def forward(self, data):
        """What B's QEMU says, said of our memory."""
        request, flags, size = struct.unpack_from("<III", data)
        payload, fds = data[12:], []
        if request == SET_MEM_TABLE:
            found = regions(payload)
            self.moved = [(r[2], r[1], self.where(r[3])[0]) for r in found]
            payload = table([(r[0], r[1], *self.where(r[3])) for r in found])
            fds = [self.mem] * len(found)
        elif request == SET_VRING_ADDR:
            words = list(struct.unpack("<IIQQQQ", payload))
            words[2:5] = [next(ours + a - theirs for theirs, n, ours in self.moved if theirs <= a < theirs + n) for a in words[2:5]]
            payload = struct.pack("<IIQQQQ", *words)
        elif request in (SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR) and not struct.unpack("<Q", payload)[0] & NO_FD:
            fds = [os.eventfd(0, os.EFD_NONBLOCK)]
            if request != SET_VRING_ERR:
                (self.kick if request == SET_VRING_KICK else self.call)[payload[0]] = fds[0]
        # The payload of a message that brings descriptors may not come before its head.
        socket.send_fds(self.s, [struct.pack("<III", request, flags, len(payload)) + payload], fds)

    def serve(self, port):
        while True:
            calls = {fd: q for q, fd in self.call.items()}
            for fd in select.select([self.s, port.read_fd, *calls], [], [])[0]:
                if fd is self.s:
                    m = message(self.s)
                    if not m:
                        return
                    port.send("M", struct.pack("<III", m[0], m[1], len(m[2])) + m[2])
                elif fd == port.read_fd:
                    for letter, data in port.receive():
                        if letter == "E":
                            return
                        if letter == "K":
                            os.eventfd_write(self.kick[data[0]], 1)
                        else:
                            self.forward(data)
                else:
                    os.eventfd_read(fd)
                    port.send("C", bytes([calls[fd]]))


def address_of(area):
    import ctypes
    return ctypes.addressof(ctypes.c_char.from_buffer(area))


def main():
    if os.path.basename(sys.argv[0]) != "qemu-system-x86_64":
        outer(*sys.argv[1:])
        return
    vmm = Inner(sys.argv[1:])
    if "DEVMEM_PORT" not in os.environ:  # nobody's VM: says what memory it has, and no more
        ends = [(0, len(vmm.map), vmm.base, vmm.at)]
        socket.send_fds(vmm.s, [struct.pack("<III", SET_MEM_TABLE, 1, 40) + table(ends)], [vmm.mem])
        vmm.s.recv(1)
        return
    fd = os.open(os.environ["DEVMEM_PORT"], os.O_RDWR)
    port = Frames(fd, fd)
    port.send("H")
    vmm.serve(port)


main()
