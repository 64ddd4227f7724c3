"""device_host - the host's part of device.sh: looks at what has become of devices on the host

usage: device_host.py FOLDER RUN-DIR DSHOST     FOLDER/vm.in, vm.out: the guest's port of that name

Questions and answers are lines.
"""
import json
import subprocess
import sys

folder, run_dir, dshost = sys.argv[1:]


def shadows():
    out = subprocess.run([dshost, "status", "--json", "--run-dir", run_dir], capture_output=True, text=True, timeout=60).stdout
    return [s for vm in json.loads(out)["vms"] for s in vm["shadows"]]


def count():
    return str(len(shadows()))


with open(f"{folder}/vm.out", "r+b", buffering=0) as out, open(f"{folder}/vm.in", "r+b", buffering=0) as answers:
    line = b""
    while True:
        line += out.read(1)
        if not line.endswith(b"\n"):
            continue
        verb, *args = line.decode().split()
        line = b""
        try:
            reply = {"count": count}[verb](*args)
        except Exception as e:  # pylint: disable=broad-except
            reply = f"failed: {e!r}"
        answers.write(reply.replace("\n", " ").encode() + b"\n")
