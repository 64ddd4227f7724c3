#!/usr/bin/python3
"""make-golden.py - writes the golden maps from the drawing in rle/map.h, without any of the project's C code

usage: tests/golden/make-golden.py [FOLDER]      (needs Debian's python3-xxhash)

The files are committed and part of the format: version 1 stays readable and is written like this for good.
tests/unit/map.c reads them and has the writer reproduce them; it lists the same runs in C.  A new version of the
format adds files, it does not change these.
"""
import os
import struct
import sys

import xxhash

READ, WRITE, EXEC, SHARE = 1, 2, 4, 8
FILE, ANON, THP, ZERO, JOINED = 1 << 4, 1 << 8, 1 << 10, 1 << 12, 1 << 15
VIRTUAL, FRAME, HOST, FILE_PAGES = 0, 1, 2, 3
MAX = 2**32 - 1

MAPS = {  # name: split, space, key, pid, start_ticks, runs (vpn, pfn, npages, attr)
    "empty.map": (0, FRAME, VIRTUAL, 7, 99, []),
    "paper.map": (1, FRAME, VIRTUAL, 42, 1000, [(1, 5, 3, READ | WRITE)]),
    # text and data of a program side by side in both spaces, a zero page, a huge page
    "attributes.map": (2, FRAME, VIRTUAL, 4194304, 2**40, [
        (0x400, 0x1000, 16, READ | EXEC | FILE | JOINED),
        (0x410, 0x1010, 4, READ | WRITE | ANON | JOINED),
        (0x500, 0x2, 1, READ | ZERO | JOINED),
        (0x501, 0x2, 1, READ | ZERO | JOINED),
        (0x7F0000000, 0x80000, 512, READ | WRITE | SHARE | ANON | THP | JOINED),
        (2**44 - 1, 2**40 - 1, 1, READ),
    ]),
    # a VM's memory: 3 GiB below the hole, and more above it than one run can say
    "ram.map": (0, FILE_PAGES, FRAME, 0, 0, [
        (0, 0, 0xC0000, 0),
        (0x100000, 0xC0000, MAX, 0),
        (0x100000 + MAX, 0xC0000 + MAX, 1000, 0),
    ]),
}


def blob(split, space, key, pid, start_ticks, runs):
    body = b"".join(struct.pack("<QQII", *run) for run in runs)
    head = struct.pack("<8sIHHBBBBIQQQQ", b"DSRUNMAP", 0x01020304, 1, 72, 12, split, space, key, 0,
                       len(runs), sum(run[2] for run in runs), pid, start_ticks)
    head += struct.pack("<Q", xxhash.xxh3_64_intdigest(body))
    return head + struct.pack("<Q", xxhash.xxh3_64_intdigest(head)) + body


folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
for name, content in MAPS.items():
    with open(os.path.join(folder, name), "wb") as f:
        f.write(blob(*content))
