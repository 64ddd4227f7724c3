"""terminal.py - a student's terminal: a login shell on a pseudo-terminal, typed into and read from by the driver

The driver is one process with a few hundred of these on one asyncio loop.  What a terminal shows is read at once and
thrown away, except for its last TAIL_BYTES, in which expect() looks for a prompt.  The shell is a session leader with
the pty as its controlling terminal and the student's numeric uid (setsid -c, then setpriv: both exec, so the shell
is the driver's child): no account is made.  Closing the driver's side is what a lost connection is: the shell and
its foreground job get SIGHUP, as with sshd.
"""
import asyncio
import fcntl
import os
import re
import signal
import struct
import subprocess
import termios

from .state import TOKEN_VARIABLE

TAIL_BYTES = 4096
PROMPT = re.compile(rb"\$ $")


class Gone(Exception):
    """The terminal has ended under its user: the shell exited or was killed."""


class Terminal:
    def __init__(self, uid, gid, home, name, env=None):
        """Logs @name in: a bash as login shell for @uid/@gid in @home."""
        self._tail = b""
        self._news = asyncio.Event()
        self.closed = False
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 110, 0, 0))
        environment = {"HOME": home, "USER": name, "LOGNAME": name, "SHELL": "/bin/bash", "TERM": "xterm",
                       "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin",
                       TOKEN_VARIABLE: os.environ[TOKEN_VARIABLE]}
        environment.update(env or {})
        try:
            os.fchown(slave, uid, gid)
            self._shell = subprocess.Popen(
                ["setsid", "-c", "setpriv", "--reuid=%d" % uid, "--regid=%d" % gid, "--clear-groups",
                 "bash", "--login", "-i"],
                stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=home)
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)
        os.set_blocking(self._master, False)
        asyncio.get_running_loop().add_reader(self._master, self._read)

    def _read(self):
        try:
            data = os.read(self._master, 65536)
        except BlockingIOError:
            return
        except OSError:  # EIO: nobody has the other side open any more
            data = b""
        if not data:
            self._hang_up()
            return
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        self._news.set()

    def _hang_up(self):
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
        self._news.set()

    def send(self, text):
        """Types @text (no newline is added).  What a full pty does not take is lost, as in a hung terminal."""
        if self.closed:
            raise Gone()
        self._tail = b""
        try:
            os.write(self._master, text.encode())
        except BlockingIOError:
            pass
        except OSError:
            self._hang_up()
            raise Gone() from None

    async def expect(self, pattern=PROMPT, timeout_s=20.0):
        """Waits until what was shown since the last send() matches.  Return: the match, or None at the timeout."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while True:
            found = pattern.search(self._tail)
            if found:
                return found
            if self.closed:
                raise Gone()
            left = end - loop.time()
            if left <= 0:
                return None
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except asyncio.TimeoutError:
                pass

    async def command(self, line, timeout_s=30.0):
        """Types a command line and waits for the shell's prompt; interrupts what takes longer than @timeout_s."""
        self.send(line + "\r")
        await asyncio.sleep(0.01)
        if not await self.expect(timeout_s=timeout_s):
            await self.interrupt()

    async def interrupt(self):
        """^C until the shell answers; whatever ignores that is killed by hanging up."""
        for key in ("\x03", "\x03", "\x1c"):
            self.send(key)
            if await self.expect(timeout_s=3):
                return
        self._hang_up()
        raise Gone()

    async def log_out(self):
        """`exit`, then, for what is still there, the lost connection and in the end SIGKILL."""
        if not self.closed:
            try:
                self.send("\x03")
                await self.expect(timeout_s=1)
                self.send("exit\r")
            except Gone:
                pass
            await self._gone(1.0)
            self._hang_up()
        if not await self._gone(2.0):
            try:
                os.killpg(self._shell.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
            await self._gone(2.0)

    async def _gone(self, seconds):
        for _ in range(int(seconds / 0.05)):
            if self._shell.poll() is not None:
                return True
            await asyncio.sleep(0.05)
        return self._shell.poll() is not None
