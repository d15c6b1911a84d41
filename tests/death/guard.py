#!/usr/bin/env python3
"""Run the misuses of guarded blocks (guard.c) and check every line that lucid prints of them.

usage: guard.py PROGRAM LIBRARY

The report must name what was done, to which block, at which byte, by which thread, and the stacks
must lead through the functions of the program that did it.
"""

import os
import re
import signal
import subprocess
import sys

SEGV, ABRT = -signal.SIGSEGV, -signal.SIGABRT
AFTER_FREE = "use after free"
BEYOND = "access beyond the block"
BEFORE = "access before the block"
STACK = re.compile(r"  (.*) by thread (\d+):")
FRAME = re.compile(r"    #(\d+) (0x[0-9a-f]+) (\S+)\+0x[0-9a-f]+")

# case: exit status, call, kind, what the second line says, functions that the stacks lead through:
# of the misuse, of the allocation, of the free (None: there is none).
REPORTS = {
    "freed-read": (SEGV, "read", AFTER_FREE, "read at its byte 5", "touch", True),
    "freed-write": (SEGV, "write", AFTER_FREE, "write at its byte 95", "touch", True),
    "over-1": (SEGV, "write", BEYOND, "write 1 byte beyond its end", "touch", False),
    "over-100": (SEGV, "read", BEYOND, "read 100 bytes beyond its end", "touch", False),
    "under-1": (SEGV, "read", BEFORE, "read 1 byte before its start", "touch", False),
    "under-50": (SEGV, "write", BEFORE, "write 50 bytes before its start", "touch", False),
    "slack": (ABRT, "free", "overflow", "found written to 2 bytes beyond its end", "release",
              False),
    "slack-front": (ABRT, "free", BEFORE, "found written to 2 bytes before its start", "release",
                    False),
    "double-free": (ABRT, "free", "double free", "passed again", "release", True),
    "interior": (ABRT, "free", "interior pointer", "passed at its byte 8", "release", False),
    "freed-elsewhere": (SEGV, "read", AFTER_FREE, "read at its byte 0", "touch", True),
    "chained-back": (SEGV, "read", AFTER_FREE, "read at its byte 5", "touch", True),
    "ignored": (SEGV, "read", AFTER_FREE, "read at its byte 5", "touch", True),
    "forked": (SEGV, "read", AFTER_FREE, "read at its byte 0", "touch", True),
}
# case: exit status, reports in it, words that stdout must have
OTHERS = {
    "chained": (0, 3, ["survived=0x6", "handler=0x10"]),
    "goes-on": (0, 2, ["survived=0x2"]),
    "other-fault": (SEGV, 0, []),
    "sent": (SEGV, 0, []),
}


def options_of(case):
    """The LUCID_OPTIONS that a case wants."""
    return "guard_sample:1" + (",abort:0" if case == "goes-on" else "")


def run(program, library, case):
    env = {k: v for k, v in os.environ.items() if k not in ("LUCID_OPTIONS", "LD_PRELOAD")}
    env |= {"LD_PRELOAD": library, "LUCID_OPTIONS": options_of(case)}
    return subprocess.run([program, case], env=env, capture_output=True, text=True, timeout=60)


def stacks_of(lines):
    """[(what, thread, [address...]), ...]"""
    stacks = []
    for line in lines:
        head, frame = STACK.fullmatch(line), FRAME.fullmatch(line)
        if head:
            stacks.append((head[1], int(head[2]), []))
        elif not frame:
            raise ValueError(f"neither a stack nor a frame: {line!r}")
        elif not stacks or int(frame[1]) != len(stacks[-1][2]):
            raise ValueError(f"out of order: {line!r}")
        else:
            stacks[-1][2].append(int(frame[2], 16))
    return stacks


def check_report(done, case):
    status, call, kind, what, function, freed = REPORTS[case]
    facts = {k: int(v, 16) for k, v in (line.split("=") for line in done.stdout.split())}
    lines = done.stderr.splitlines()
    if "survived" in facts or done.returncode != status:
        return f"ended with {done.returncode}, not {status}"
    if facts.get("handler", facts["at"]) != facts["at"]:
        return "the handler was told another address"
    first = f"lucid: {call}(0x{facts['at']:x}): {kind}: block 0x{facts['block']:x} " \
            f"of {facts['size']} bytes"
    if not lines or lines[0] != first:
        return f"the first line is {lines[:1]}, not {first!r}"
    expected = [(what, facts["thread"], function), ("allocated", facts["thread"], "allocate")]
    if case == "forked":
        expected[1] = ("allocated", None, "allocate")
    if freed:
        expected.append(("freed", facts.get("other", facts["thread"]), "release"))
    stacks = stacks_of(lines[1:])
    if len(stacks) != len(expected):
        return f"{len(stacks)} stacks, not {len(expected)}"
    for (text, thread, frames), (want_text, want_thread, name) in zip(stacks, expected):
        if text != want_text or want_thread not in (None, thread):
            return f"{text!r} by {thread}, not {want_text!r} by {want_thread}"
        if not frames or not facts[name] <= frames[0] <= facts[name + "_end"]:
            return f"{text}: frame 0 of {[hex(f) for f in frames]} is not in {name}"
        if len(frames) < 3:
            return f"{text}: only {len(frames)} frames"
    return None


def check_other(done, case):
    status, reports, words = OTHERS[case]
    found = sum(line.startswith("lucid: ") for line in done.stderr.splitlines())
    if done.returncode != status or found != reports:
        return f"ended with {done.returncode}, not {status}; {found} reports, not {reports}"
    missing = [word for word in words if word not in done.stdout.split()]
    return f"stdout lacks {missing}" if missing else None


def judge(case, done):
    """What is wrong with a run that ended (a CompletedProcess), or None."""
    try:
        wrong = (check_report if case in REPORTS else check_other)(done, case)
    except (ValueError, KeyError) as error:
        wrong = repr(error)
    return f"{wrong}\n{done.stdout}{done.stderr}" if wrong else None


def known_cases(program):
    """The cases of the program, which must be those of the tables."""
    known = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    known = known.stdout.split()
    if set(known) != set(REPORTS) | set(OTHERS):
        sys.exit(f"in one table only: {sorted(set(known) ^ (set(REPORTS) | set(OTHERS)))}")
    return known


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    program, library = sys.argv[1:]
    failures = 0
    known = known_cases(program)
    for case in known:
        wrong = judge(case, run(program, library, case))
        failures += wrong is not None
        print(f"FAIL: {case}: {wrong}" if wrong else f"ok: {case}")
    if failures:
        sys.exit(f"{failures} of {len(known)} cases failed")


if __name__ == "__main__":
    main()
