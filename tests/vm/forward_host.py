"""forward_host - the host's part of forward.sh: a server, a client, and what only the host can do to a shadow

usage: forward_host.py FOLDER RUN-DIR DSHOST PORT     (host_port.py)

Questions: "end PID" ends the shadow of a guest process as its own crash would, "get PORT" asks a server that runs
in the guest, "count" tells how many shadows there are.
"""
import http.server
import os
import signal
import sys
import threading
import time
import urllib.request

from host_port import answer, count, shadows


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


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[4])), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
answer({"end": end, "get": get, "count": count})
