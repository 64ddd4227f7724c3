"""course.py - what a student of the systems course does at a terminal: one coroutine an activity

Each takes (terminal, dice, think): think(mean seconds) is the student looking at the screen, during which whatever
was started stays there, stopped at a breakpoint, open in an editor or waiting for a key.  That is where the sampled
processes are most of the time.  An activity leaves the terminal at the shell's prompt, in ~/labs; Gone passes through
to the caller.  ACTIVITIES lists them with how often they are chosen.
"""
import re

from .terminal import PROMPT

GDB = re.compile(rb"\(gdb\) $")
PHASE = re.compile(rb"phase \d> $")
GDB_OR_PHASE = re.compile(GDB.pattern + b"|" + PHASE.pattern)
ENTER = re.compile(rb"enter to end> $")
ENTER_OR_PROMPT = re.compile(ENTER.pattern + b"|" + PROMPT.pattern)
PYTHON = re.compile(rb">>> $")
LABS = {"datalab": ("bits.c", "btest"), "bomblab": ("bomb.c", "bomb"), "cachelab": ("csim.c", "csim"),
        "malloclab": ("mm.c", "mdriver"), "proclab": ("workers.c", "workers"), "bugs": ("leak.c", "all")}
ANSWERS = ("Border relations with Canada have never been better.", "1 2 4 8 16 32", "6 3", "a wild guess")


async def _back_to_shell(terminal):
    if not await terminal.expect(PROMPT, 5):
        await terminal.interrupt()


async def _finish(terminal, think, mean_s, timeout_s=40):
    """Looks at a program that keeps its memory until enter is pressed, then lets it end."""
    found = await terminal.expect(ENTER_OR_PROMPT, timeout_s)
    if found and found.group().startswith(b"enter"):
        await think(mean_s)
        terminal.send("\r")
    await _back_to_shell(terminal)


async def edit_vim(terminal, dice, think):
    lab = dice.choice(list(LABS))
    terminal.send("vim %s/%s\r" % (lab, LABS[lab][0]))
    for _ in range(dice.randint(1, 6)):
        await think(25)
        terminal.send(dice.choice(("\x06", "\x02", "/for\r", "n", "G", "gg", "20j")))
    await think(10)
    terminal.send("Go/* try %d */\x1b" % dice.randrange(1000))
    await think(30)
    terminal.send(dice.choice(("\x1b:wq!\r", "\x1b:wq!\r", "\x1b:q!\r")))
    await _back_to_shell(terminal)


async def edit_nano(terminal, dice, think):
    lab = dice.choice(list(LABS))
    terminal.send("nano %s/%s\r" % (lab, LABS[lab][0]))
    await think(20)
    terminal.send("\x1b/")  # to the end
    terminal.send("/* noted %d */\r" % dice.randrange(1000))
    await think(50)
    terminal.send("\x0f")
    await think(2)
    terminal.send("\r")
    await think(5)
    terminal.send("\x18")
    if not await terminal.expect(PROMPT, 3):
        terminal.send("n")  # it asks whether to save
    await _back_to_shell(terminal)


async def edit_emacs(terminal, dice, think):
    lab = dice.choice(list(LABS))
    terminal.send("emacs %s/%s\r" % (lab, LABS[lab][0]))
    await think(15)
    for _ in range(dice.randint(1, 8)):
        await think(25)
        terminal.send(dice.choice(("\x16", "\x1bv", "\x0e\x0e\x0e", "\x13for\r")))
    terminal.send("\x1b>/* later */\r")
    await think(20)
    terminal.send("\x18\x13")
    await think(5)
    terminal.send("\x18\x03")
    if not await terminal.expect(PROMPT, 4):
        terminal.send("y")
        if not await terminal.expect(PROMPT, 3):
            terminal.send("yes\r")
    await _back_to_shell(terminal)


async def build(terminal, dice, think):
    """Make, now and then with a mistake just made, which is then taken back."""
    lab = dice.choice(list(LABS))
    source, target = LABS[lab]
    if dice.random() < 0.2:
        await terminal.command("cp %s/%s kept.c; echo 'int broken = ;' >>%s/%s" % (lab, source, lab, source))
        await terminal.command("make -C %s %s" % (lab, target), 60)
        await think(20)
        await terminal.command("mv kept.c %s/%s" % (lab, source))
    await terminal.command("touch %s/%s; make -C %s %s" % (lab, source, lab, target), 60)
    await think(10)
    if lab == "datalab":
        await terminal.command("datalab/btest")
    elif lab == "cachelab":
        await terminal.command("cachelab/csim %d %d 256" % (2 ** dice.randint(3, 9), 2 ** dice.randint(0, 3)))


async def run_big(terminal, dice, think):
    """Programs whose memory is the point: malloc lab, blocked transpose, an array hardly touched."""
    what = dice.choice((
        "make -s -C malloclab mdriver && malloclab/mdriver %d %d" % (dice.randint(1, 99),
                                                                     dice.choice((2000, 20000, 60000))),
        "make -s -C cachelab trans && cachelab/trans %d 16" % dice.choice((128, 256, 512, 1000)),
        "make -s -C bugs bigarray && bugs/bigarray %d %d" % (dice.choice((8, 16, 64, 96)),
                                                             dice.choice((4096, 65536, 128))),
        "make -s -C bugs leak && bugs/leak"))
    terminal.send(what + "\r")
    await _finish(terminal, think, 40)


async def run_buggy(terminal, dice, think):
    name = dice.choices(("segv", "useafter 1", "overrun", "loop"), (4, 4, 4, 1))[0]
    await terminal.command("make -s -C bugs %s; (ulimit -t 1; bugs/%s)" % (name.split()[0], name), 15)
    await think(15)


async def workers(terminal, dice, think):
    terminal.send("make -s -C proclab workers && proclab/workers %d 600\r" % dice.randint(2, 4))
    await think(40)
    await terminal.interrupt()


async def gdb_batch(terminal, dice, think):
    name = dice.choice(("segv", "overrun", "useafter"))
    commands = "-ex run -ex bt -ex 'info registers'"
    await terminal.command("make -s -C bugs %s; gdb -q -batch %s bugs/%s" % (name, commands, name), 30)
    await think(30)


async def gdb_bomb(terminal, dice, think):
    """Breakpoints in the bomb, an answer, a look at the registers, and long thought."""
    await terminal.command("make -s -C bomblab bomb")
    terminal.send("gdb -q bomblab/bomb\r")
    if not await terminal.expect(GDB, 20):
        return await terminal.interrupt()
    for line in ("break explode_bomb", "break phase_%d" % dice.randint(1, 3), "run"):
        await think(8)
        terminal.send(line + "\r")
        await terminal.expect(GDB_OR_PHASE, 20)
    for _ in range(dice.randint(2, 10)):
        await think(35)
        found = await terminal.expect(GDB_OR_PHASE, 1)
        if found is None:
            break
        if found.group().startswith(b"phase"):
            terminal.send(dice.choice(ANSWERS) + "\r")
        else:
            terminal.send(dice.choice(("disas", "info registers", "x/s $rdi", "bt", "stepi", "nexti", "x/8xw $rsp",
                                       "continue", "info frame")) + "\r")
        await terminal.expect(GDB_OR_PHASE, 10)
    terminal.send("\x03")
    await terminal.expect(GDB, 5)
    terminal.send("quit\r")
    await _back_to_shell(terminal)


async def valgrind(terminal, dice, think):
    name = dice.choice(("leak", "useafter", "overrun"))
    terminal.send("make -s -C bugs %s; valgrind --leak-check=full bugs/%s\r" % (name, name))
    await _finish(terminal, think, 25, 60)
    await think(20)


async def script(terminal, dice, think):
    what = dice.choice(("sieve.py %d" % dice.choice((10000, 100000, 400000)), "words.py */*.c", "life.py"))
    terminal.send("/usr/bin/python3 scripts/%s\r" % what)
    await _finish(terminal, think, 35)


async def python_shell(terminal, dice, think):
    terminal.send("/usr/bin/python3 -q\r")
    if not await terminal.expect(PYTHON):
        return await terminal.interrupt()
    for line in ("x = [i * i for i in range(%d)]" % dice.choice((100, 10000, 200000)), "sum(x)", "hex(-5 & 0xffffffff)",
                 "d = {str(i): i for i in range(%d)}" % dice.choice((100, 20000)), "1 << 40"):
        await think(25)
        terminal.send(line + "\r")
        await terminal.expect(PYTHON, 10)
    terminal.send("exit()\r")
    await _back_to_shell(terminal)


async def read(terminal, dice, think):
    lab = dice.choice(list(LABS))
    terminal.send("less %s/%s\r" % (lab, LABS[lab][0]))
    for _ in range(dice.randint(1, 4)):
        await think(25)
        terminal.send(" ")
    terminal.send("q")
    await _back_to_shell(terminal)


async def disassemble(terminal, _dice, think):
    await terminal.command("make -s -C bomblab bomb; objdump -d bomblab/bomb >bomb.s; grep -c call bomb.s")
    await think(30)


async def idle(_terminal, _dice, think):
    await think(90)


ACTIVITIES = {edit_vim: 7, edit_nano: 3, edit_emacs: 3, build: 8, run_big: 4, run_buggy: 3, workers: 1, gdb_batch: 2,
              gdb_bomb: 6, valgrind: 3, script: 3, python_shell: 3, read: 4, disassemble: 2, idle: 6}
