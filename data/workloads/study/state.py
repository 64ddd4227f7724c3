"""state.py - the state file: the one record of what a run has to undo

An entry is written, and synced, before the change it describes is made.  Entries: the settings changed (file, value
before, value set), files made outside the run folder, the run folder itself, and the token that every process of the
run carries in its environment (TOKEN_VARIABLE).  The driver writes it; whoever cleans up (guard.py) reads it again.
"""
import json
import os
import secrets
import sys

STATE_DIR = "/var/lib/dark-shadows-study"
STATE_FILE = STATE_DIR + "/state.json"
TOKEN_VARIABLE = "DS_STUDY_RUN"
EXIT_USAGE, EXIT_SYSTEM, EXIT_PARTIAL, EXIT_BUSY = 1, 2, 4, 75


class Problem(Exception):
    """A failure to be told to the user as it is, without a traceback; status is the exit code."""

    def __init__(self, message, status=EXIT_SYSTEM):
        super().__init__(message)
        self.status = status


def say(text):
    """Prints a line on stderr; a terminal that has gone away is no reason to stop cleaning up."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


class State:
    """The state file, kept in memory and written through.  Made by the driver, read by whoever cleans up."""

    def __init__(self, entries):
        self.entries = entries

    @classmethod
    def create(cls, workload, run_dir):
        return cls({"version": 1, "workload": workload, "token": secrets.token_hex(8), "run_dir": run_dir,
                    "boot_id": read_text("/proc/sys/kernel/random/boot_id").strip(), "settings": [], "files": []})

    @classmethod
    def load(cls):
        """The state left by an earlier run, or None."""
        try:
            return cls(json.loads(read_text(STATE_FILE)))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise Problem("%s is damaged (%s); look at it, undo what it names, and remove it" % (STATE_FILE, error))

    def save(self):
        temporary = STATE_FILE + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(self.entries, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, STATE_FILE)

    def change(self, path, value, read):
        """Writes @value into the setting @path, having recorded what @read(path) gave before.  Return: that."""
        before = read(path)
        if before != value:
            entry = {"file": path, "before": before, "after": value}
            self.entries["settings"].append(entry)
            self.save()
            write_setting(path, value)
        return before

    def own_file(self, path):
        """Says that @path is about to be made, and has to be removed in the end."""
        self.entries["files"].append(path)
        self.save()


def write_setting(path, value):
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


def read_setting(path):
    """A setting's value: the [chosen] word where the kernel lists all of them, the whole text otherwise."""
    text = read_text(path).strip()
    if "[" in text:
        text = text[text.index("[") + 1:text.index("]")]
    return text


def undo_setting(entry):
    """Puts a setting back.  If somebody else has changed it since, a word is left as they have it; a count, as of
    huge pages, is lowered by what the run had added."""
    path, before, after = entry["file"], entry["before"], entry["after"]
    now = read_setting(path)
    if now == before:
        return
    if now == after:
        write_setting(path, before)
    elif before.isdigit():
        write_setting(path, max(0, int(now) - (int(after) - int(before))))
    else:
        say("%s: somebody changed it to '%s' meanwhile; left so (it was '%s' before the study)" % (path, now, before))
