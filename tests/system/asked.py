#!/usr/bin/env python3
"""A running program is asked for its statistics with gdb, by the command that the documents give.

usage: asked.py ASKED LIBRARY SOURCE MODE

ASKED MODE (asked.c) runs with LIBRARY preloaded. The answer must come, the program go on as if
nothing had been, and the figures be right; but in the mode `inside`, where gdb stops it in the
middle of malloc or free: then it is said that there are none, as the documents say, and those of a
second call, outside, are right.
"""

import os
import pathlib
import re
import subprocess
import sys
import time

ASKED, LIBRARY, SOURCE, MODE = sys.argv[1:]
KEPT = 3000000
COMMAND = "gdb -p PID -batch -ex 'handle all nostop noprint pass' -ex 'call (void) malloc_stats()'"
DOCUMENTS = "README.md", "man/liblucid.3", "man/lucid.1"
CALL = "call (void) malloc_stats()"


def wait_until_blocked(pid):
    """Until the first thread sleeps in the kernel: in poll, as nothing else there waits."""
    for _ in range(2000):
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii")
        if stat.rsplit(")", 1)[1].split()[0] == "S":
            return
        time.sleep(0.01)
    sys.exit("the program does not come to wait in poll")


def gdb(pid, *commands):
    argv = ["gdb", "-nx", "-p", str(pid), "-batch", "-ex", "handle all nostop noprint pass"]
    for command in commands:
        argv += ["-ex", command]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    if done.returncode != 0:
        sys.exit(f"gdb: status {done.returncode}\n{done.stdout}")
    return done.stdout


def figures(text):
    """For each answer, bytes from the system and in use, of all there is."""
    found = re.findall(r"^Total \(incl\. mmap\):\nsystem bytes +=( *\d+)\nin use bytes +=( *\d+)$",
                       text, re.MULTILINE)
    return [(int(system), int(used)) for system, used in found]


def all_parts(text):
    """For each answer that has figures, the parts of what comes from the system."""
    found = re.findall(r"^The system bytes are:\n((?:\w+ *= *\d+\n)+)", text, re.MULTILINE)
    return [[int(number) for number in re.findall(r"= *(\d+)", lines)] for lines in found]


def check(answers, said):
    if MODE == "inside":
        right = (len(answers) == 2 and answers[0] == (0, 0) and answers[1][1] >= KEPT and
                 said.count("(no figures:") == 1)
    elif MODE == "threads": # five threads, each with a block of 40 MiB at most
        right = len(answers) == 1 and KEPT <= answers[0][1] <= KEPT + (5 * 41 << 20)
    else: # its own block, in whole units of 64 KiB, and what libc has for itself
        right = len(answers) == 1 and KEPT <= answers[0][1] <= KEPT + (1 << 20)
    held = [system for system, _ in answers if system != 0]
    if [sum(parts) for parts in all_parts(said)] != held:
        sys.exit(f"{MODE}: the parts do not add up to what is held\n{said}")
    if not right or any(system < used for system, used in answers):
        sys.exit(f"{MODE}: the figures are {answers}\n{said}")


def main():
    # Words of manual pages are apart, and their minus signs are written so.
    for name in DOCUMENTS:
        text = (pathlib.Path(SOURCE) / name).read_text(encoding="utf-8")
        if COMMAND not in text.replace("\\-", "-"):
            sys.exit(f"{name} does not give the command: {COMMAND}")
    environment = {**os.environ, "LD_PRELOAD": LIBRARY, "LUCID_OPTIONS": ""}
    with subprocess.Popen([ASKED, MODE], env=environment, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            if program.stdout.readline() != "ready\n":
                sys.exit(f"{MODE}: the program did not begin")
            if MODE == "inside":
                stop = ["catch syscall munmap", "continue"]
                go_on = ["delete", "tbreak poll", "continue"]
                said = gdb(program.pid, *stop, CALL, *go_on, CALL)
            else:
                if MODE != "signals":
                    wait_until_blocked(program.pid)
                said = gdb(program.pid, CALL)
            _, errors = program.communicate("end\n", timeout=60)
        finally:
            program.kill()
    if program.returncode != 0:
        sys.exit(f"{MODE}: the program ended with {program.returncode}\n{errors}\n{said}")
    check(figures(errors), errors + said)
    print(f"{MODE}: {figures(errors)}")


main()
