"""service.py - in a guest whose process 1 is systemd: a service of ours, and what a service manager may do to it"""
import os
import signal
import subprocess

import shadows as s

ROOT = os.environ.get("DS_ROOT")  # where all is installed, for a guest that has systemd; empty: it has not


def systemctl(*args):
    r = subprocess.run(["systemctl", *args], capture_output=True, text=True)
    return r.returncode, (r.stdout + r.stderr).strip()


def install():
    """What make install made, into this guest."""
    subprocess.run(["cp", "-a", ROOT + "/.", "/"], check=True)
    systemctl("daemon-reload")


class Service:
    def __init__(self, name, works):
        """works: whether it does its work now."""
        self.name, self.works = name, works

    def drop_in(self, *lines):
        folder = f"/run/systemd/system/{self.name}.service.d"
        os.makedirs(folder, exist_ok=True)
        with open(folder + "/test.conf", "w") as f:
            f.write("\n".join(("[Service]", *lines, "")))
        systemctl("daemon-reload")

    def show(self, key):
        return systemctl("show", "-P", key, self.name)[1]

    def pid(self):
        return int(self.show("MainPID"))

    def journal(self):
        subprocess.run(["journalctl", "--sync"], capture_output=True)
        return subprocess.run(["journalctl", "-u", self.name, "-o", "cat", "--no-pager"], capture_output=True, text=True).stdout

    def start(self):
        return systemctl("start", self.name)

    def stop(self):
        """How it ended: success."""
        systemctl("stop", self.name)
        return self.show("Result")

    def processes(self):
        try:
            with open(f"/sys/fs/cgroup/system.slice/{self.name}.service/cgroup.procs") as f:
                return f.read().split()
        except OSError:
            return []

    def life(self, t):
        """Start, kill, restart, stop."""
        t.eq(self.start(), (0, ""), f"{self.name}.service starts")
        t.ok(self.show("ActiveState") == "active" and self.works(), "and is ready when systemctl comes back", systemctl("status", self.name)[1])
        first = self.pid()
        os.kill(first, signal.SIGKILL)
        back = s.until(lambda: self.show("ActiveState") == "active" and self.pid() not in (0, first) and self.works(), 60)
        t.ok(back and self.show("NRestarts") == "1", "it is killed: systemd starts another one, which works", systemctl("status", self.name)[1])
        second = self.pid()
        t.ok(systemctl("restart", self.name)[0] == 0 and self.pid() != second and self.works(), "systemctl restart")
        t.eq(self.stop(), "success", "systemctl stop")
        t.ok(not self.processes() and not self.works(), "and nothing of it is left", self.processes())
