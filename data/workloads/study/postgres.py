"""postgres.py - a private PostgreSQL server: own data folder, unix socket only, huge pages where they can be had

The server runs as the system user postgres (it refuses root).  Who may connect: the socket's folder lets in the
group the students have and nobody else; within it `fec` is open to them, and the superuser's role to the system user
postgres alone (peer).  Nothing listens on TCP.  Durability is off: the data is generated and thrown away.

dynamic_shared_memory_type=mmap keeps the workers' segments inside the data folder, and so inside what the guard
removes; the few bytes of System V memory that a killed server leaves are in postmaster.pid, where the guard looks.
"""
import glob
import os
import pwd
import shutil
import subprocess
import sys

from . import machine
from .state import Problem

MIB = machine.MIB
HBA = "local all postgres peer\nlocal fec all trust\n"


def buffers_bytes(scale):
    """shared_buffers: a quarter of the machine, PostgreSQL's own advice for a server of its own, times @scale."""
    return max(16 * MIB, int(machine.meminfo()["MemTotal"] / 4 * scale) // (2 * MIB) * (2 * MIB))


class Server:
    def __init__(self, run_dir, student_gid):
        self.data = run_dir + "/pgdata"
        self.socket_dir = run_dir + "/pgsocket"
        self._log = run_dir + "/postgresql.log"
        self._gid = student_gid
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"), key=lambda p: float(p.split("/")[4]))
        if not found:
            raise Problem("no PostgreSQL server under /usr/lib/postgresql")
        self._bin = os.path.dirname(found[-1])
        try:
            self._user = pwd.getpwnam("postgres")
        except KeyError:
            raise Problem("no system user postgres; the package postgresql-common makes it") from None
        self._process = None

    def _as_postgres(self, *command):
        return ["setpriv", "--reuid=%d" % self._user.pw_uid, "--regid=%d" % self._user.pw_gid,
                "--groups=%d" % self._gid, *command]

    def _run(self, *command, **options):
        result = subprocess.run(self._as_postgres(*command), cwd=self.data, capture_output=True, text=True,
                                check=False, **options)
        if result.returncode != 0:
            raise Problem("%s failed: %s" % (os.path.basename(command[0]), result.stderr.strip()[-500:]))
        return result.stdout

    def create(self, buffers, connections):
        """Makes the cluster and its configuration; @buffers: bytes of shared_buffers."""
        for folder, mode in ((self.data, 0o700), (self.socket_dir, 0o750)):
            os.mkdir(folder, mode)
            shutil.chown(folder, self._user.pw_uid, self._gid if folder == self.socket_dir else self._user.pw_gid)
        with open(self._log, "w", encoding="ascii") as file:
            os.fchown(file.fileno(), self._user.pw_uid, self._user.pw_gid)
        self._run(self._bin + "/initdb", "-D", self.data, "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
                  "--username=postgres", "--auth=peer")
        with open(self.data + "/pg_hba.conf", "w", encoding="ascii") as file:
            file.write(HBA)
        settings = {
            "listen_addresses": "''", "unix_socket_directories": "'%s'" % self.socket_dir,
            "unix_socket_permissions": "0777", "max_connections": connections,
            "shared_buffers": "%dkB" % (buffers // 1024), "dynamic_shared_memory_type": "mmap",
            "work_mem": "16MB", "maintenance_work_mem": "256MB", "effective_cache_size": "%dkB" % (buffers // 512),
            "max_parallel_workers": 2, "max_parallel_workers_per_gather": 1, "jit": "off",
            "statement_timeout": "20s", "idle_session_timeout": 0,
            "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "minimal",
            "max_wal_senders": 0, "max_wal_size": "4GB", "logging_collector": "off", "log_min_messages": "fatal",
        }
        with open(self.data + "/postgresql.auto.conf", "w", encoding="ascii") as file:
            file.writelines("%s = %s\n" % item for item in settings.items())

    def huge_pages_needed(self):
        """How many huge pages of the default size the configured shared memory takes (PostgreSQL 15 tells)."""
        return int(self._run(self._bin + "/postgres", "-D", self.data, "-C", "shared_memory_size_in_huge_pages"))

    def start(self, huge_pages):
        """@huge_pages: bool; the pages must have been reserved."""
        with open(self._log, "a", encoding="ascii") as log:
            self._process = subprocess.Popen(
                self._as_postgres(self._bin + "/postgres", "-D", self.data,
                                  "-c", "huge_pages=" + ("on" if huge_pages else "off")),
                cwd=self.data, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        ready = subprocess.run([self._bin + "/pg_isready", "-q", "-h", self.socket_dir, "-t", "30"], check=False)
        tries = 0
        while ready.returncode != 0 and tries < 300 and self._process.poll() is None:
            tries += 1
            try:
                self._process.wait(0.1)
            except subprocess.TimeoutExpired:
                ready = subprocess.run([self._bin + "/pg_isready", "-q", "-h", self.socket_dir], check=False)
        if ready.returncode != 0:
            with open(self._log, encoding="utf-8", errors="replace") as log:
                raise Problem("PostgreSQL does not start: %s" % log.read().strip()[-500:])

    def sql(self, text, database="fec"):
        """Runs statements as the superuser.  Return: their output, unaligned."""
        return self._run(self._bin + "/psql", "-h", self.socket_dir, "-U", "postgres", "-d", database, "-qXAt",
                         "-v", "ON_ERROR_STOP=1", "-f", "-", input=text)

    def copy_in(self, table, producer):
        """COPY @table FROM what the command @producer prints, without passing through this process."""
        with subprocess.Popen(producer, stdout=subprocess.PIPE, stderr=sys.stderr) as source:
            try:
                self._run_copy(table, source.stdout)
            finally:
                source.stdout.close()
            if source.wait() != 0:
                raise Problem("generating %s failed with status %d" % (table, source.returncode))

    def _run_copy(self, table, stream):
        result = subprocess.run(
            self._as_postgres(self._bin + "/psql", "-h", self.socket_dir, "-U", "postgres", "-d", "fec", "-qX",
                              "-c", "SET statement_timeout = 0", "-c", "COPY %s FROM STDIN" % table),
            cwd=self.data, stdin=stream, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise Problem("loading %s failed: %s" % (table, result.stderr.strip()[-500:]))

    def version(self):
        return self.sql("SHOW server_version", "postgres").strip()
