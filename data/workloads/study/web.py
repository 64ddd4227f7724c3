"""web.py - Apache before the database: one small application (murphy.d/app.wsgi) for each student

Apache listens on 127.0.0.1 alone, on a port that was free a moment ago.  Its own worker processes run as www-data;
each student's application is a mod_wsgi daemon process of its own, as on a machine where everybody develops one
(as www-data with the students' group: mod_wsgi wants an account, and the students have none).  The binary of apache2-bin is run with a configuration of ours: no service, no site of the
machine's is touched.
"""
import asyncio
import socket
import subprocess

from .state import Problem

APACHE = "/usr/sbin/apache2"
MODULES = "/usr/lib/apache2/modules/mod_%s.so"
HEAD = """\
ServerRoot {dir}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {dir}/apache.pid
ErrorLog {dir}/error.log
LogLevel warn
DefaultRuntimeDir {dir}
Mutex file:{dir}
{modules}
User www-data
Group www-data
StartServers 2
MinSpareThreads 25
MaxSpareThreads 75
ThreadsPerChild 25
MaxRequestWorkers 100
WSGISocketPrefix {dir}/wsgi
WSGISocketRotation Off
<Directory "{app_dir}">
  Require all granted
</Directory>
"""
STUDENT = """\
WSGIDaemonProcess {name} user=www-data group=#{gid} processes=1 threads=2 display-name=(web:{name}) lang=C.UTF-8
WSGIScriptAlias /~{name} "{app_dir}/app.wsgi" process-group={name} application-group=%{{GLOBAL}}
<Location "/~{name}">
  SetEnv STUDENT_PGHOST {socket_dir}
  SetEnv STUDENT_PGUSER {name}
</Location>
"""


class Front:
    def __init__(self, folder, app_dir, students, socket_dir, gid):
        """@students: objects with a name.  @folder is Apache's own, made here by the caller."""
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        modules = "\n".join("LoadModule %s_module %s" % (name, MODULES % name)
                            for name in ("mpm_event", "authz_core", "env", "wsgi"))
        self._config = folder + "/apache.conf"
        with open(self._config, "w", encoding="ascii") as file:
            file.write(HEAD.format(dir=folder, port=self.port, modules=modules, app_dir=app_dir))
            for student in students:
                file.write(STUDENT.format(name=student.name, gid=gid,
                                          app_dir=app_dir, socket_dir=socket_dir))
        self._process = None

    def start(self):
        with open(self._folder + "/error.log", "ab") as log:
            self._process = subprocess.Popen([APACHE, "-f", self._config, "-DFOREGROUND"], stdin=subprocess.DEVNULL,
                                             stdout=log, stderr=log, cwd="/")
        for _ in range(100):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                try:
                    self._process.wait(0.1)
                    break
                except subprocess.TimeoutExpired:
                    pass
        with open(self._folder + "/error.log", encoding="utf-8", errors="replace") as log:
            raise Problem("Apache does not start: %s" % log.read().strip()[-500:])

    async def get(self, path):
        """One visitor's request.  Return: the status code, or 0 where there was no answer."""
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self.port), 10)
        except (OSError, asyncio.TimeoutError):
            return 0
        try:
            writer.write(("GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n" % path).encode())
            answer = await asyncio.wait_for(reader.read(64), 25)
            while await asyncio.wait_for(reader.read(65536), 25):
                pass
            return int(answer.split()[1])
        except (OSError, asyncio.TimeoutError, IndexError, ValueError):
            return 0
        finally:
            writer.close()


def random_page(dice, words):
    """A path a visitor asks for.  @words: function that fills {cmte} and so on."""
    return words(dice.choice(("/committee?id={cmte}", "/zip?prefix={zip3}", "/day?date={day}", "/")))
