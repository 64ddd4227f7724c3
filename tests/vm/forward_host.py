"""forward_host - the host's part of forward.sh: a server, a client, and what only the host can do to a shadow

usage: forward_host.py FOLDER RUN-DIR DSHOST PORT     FOLDER/vm.in, vm.out: the guest's port of that name

Questions and answers are lines: "end PID" ends the shadow of a guest process as its own crash would, "get PORT" asks a server that runs
in the guest, "count" tells how many shadows there are.
"""
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request

folder, run_dir, dshost, port = sys.argv[1:]


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"from the host: " + self.path.encode() + b"\n"
        if self.path == "/much":
            body = bytes(range(256)) * 4096
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def shadows():
    out = subprocess.run([dshost, "status", "--json", "--run-dir", run_dir], capture_output=True, text=True, timeout=20).stdout
    return [s for vm in json.loads(out)["vms"] for s in vm["shadows"]]


def end(pid):
    for s in shadows():
        if s["pid"] == int(pid):
            os.kill(s["capsule"], signal.SIGKILL)
            return "done"
    return "no such shadow"


def get(port):
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/file", timeout=5) as r:
                return r.read().decode().strip()
        except OSError as e:
            last = e
            time.sleep(0.1)
    return f"no answer: {last}"


def count():
    for _ in range(50):  # an end takes a moment
        n = len(shadows())
        if n == 0:
            break
        time.sleep(0.1)
    return str(n)


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
with open(f"{folder}/vm.out", "r+b", buffering=0) as out, open(f"{folder}/vm.in", "r+b", buffering=0) as answers:
    line = b""
    while True:
        line += out.read(1)
        if not line.endswith(b"\n"):
            continue
        verb, *args = line.decode().split()
        line = b""
        try:
            reply = {"end": end, "get": get, "count": count}[verb](*args)
        except Exception as e:  # pylint: disable=broad-except
            reply = f"failed: {e!r}"
        answers.write(reply.replace("\n", " ").encode() + b"\n")
