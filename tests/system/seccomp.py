#!/usr/bin/env python3
"""Run programs under seccomp filters that allow what docs/PORTABILITY.md says, and nothing else.

usage: seccomp.py PROGRAM LIBRARY ROOT

The table "System calls" of docs/PORTABILITY.md (below ROOT) is read: the calls of each group. Each
work of PROGRAM (seccomp.c) runs with LIBRARY preloaded and the calls of its groups allowed; all
others kill it, or fail with EPERM, and it must come to its end. Then it is killed for each call of
its groups that is taken away: so the table has what is needed and nothing else. Calls that no work
can be made to make are named below. Works that need no thread come to their end also where all but
mmap fails, with EPERM or ENOSYS. Last, every call that the source makes is in the table.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

START = "every program"
BACK = "giving memory back"
MOVE = "realloc of large blocks"
THREADS = "threads"
LIBC = "threads, libc's own"
REPORT = "reports of misuse"
HANDLER = "a violation handler"
STATS = "`stats`"
FILE = "`stats_file`"
LIMIT = "memory was refused"
HARDEN = "`harden`"
SAMPLE = "`guard_sample`"
STORE = "stores"
CGROUP = "`limit:cgroup`"
ELSE = "no vDSO, no AT_RANDOM"

# What is run: LUCID_OPTIONS, work, groups. What stats print goes to a pipe.
RUNS = [
    ("", "nothing", [START]),
    ("purge_delay:-1", "small", [START]),
    ("purge_delay:-1,reserve:16M", "small", [START]),
    ("", "small", [START, BACK]),
    ("", "late", [START, BACK]),
    ("purge_delay:0", "purge", [START, BACK]),
    ("", "resize", [START, BACK, MOVE]),
    ("purge_delay:-1", "resize", [START, MOVE]),
    ("", "threads", [START, BACK, THREADS, LIBC]),
    ("purge_delay:-1", "threads", [LIBC]),
    ("abort:0,purge_delay:-1", "misuse", [START, REPORT]),
    ("purge_delay:-1", "handler", [START, HANDLER]),
    ("stats:1,purge_delay:-1", "nothing", [START, STATS]),
    ("stats:json,purge_delay:-1,stats_file:FILE.%p", "nothing", [START, FILE]),
    ("", "full ulimit:400000000", [START, BACK, LIMIT]),
    ("harden:1", "small", [START, BACK, HARDEN]),
    ("harden:2", "purge", [START, BACK, HARDEN, SAMPLE]),
    ("harden:2,purge_delay:-1,guard_sample:1000000000", "small", [START, HARDEN, SAMPLE]),
    ("harden:1", "threads", [START, BACK, HARDEN, THREADS, LIBC]),
    ("harden:1,purge_delay:-1", "small", [START, HARDEN]),
    ("guard_sample:20,purge_delay:-1", "small", [START, SAMPLE]),
    ("", "store FILE", [STORE]),
]
# Whatever fails, these come to an end; with mmap alone, if nothing kills.
REFUSED = [("", work) for work in ("small", "late", "purge", "resize")] + [
    ("harden:1", "small"), ("harden:2", "purge"), ("guard_sample:20", "small"),
    ("stats:1", "nothing"), ("abort:0", "misuse"), ("", "nothing ulimit:1000000000"),
    ("", "full ulimit:400000000")]

# Taken away, no work is killed for certain.
UNSEEN = {
    (THREADS, "futex"): "waiting takes two threads that meet",
    (THREADS, "unshare"): "the same, and one that is not there",
    (THREADS, "mmap"): "that of libc's row and of every program",
    (THREADS, "madvise"): "that of libc's row",
    (LIBC, "clone"): "of a libc or kernel without clone3",
    (LIBC, "madvise"): "of stacks that were used deeply",
    (LIBC, "munmap"): "of more stacks than libc keeps",
    (HANDLER, "sched_yield"): "as futex",
    (SAMPLE, "tgkill"): "sends on a SIGSEGV that another process has sent",
    (SAMPLE, "rt_sigreturn"): "as the program's own handlers",
    (CGROUP, "openat"): "when loaded, before any filter of the program itself",
    (CGROUP, "read"): "the same",
    (CGROUP, "close"): "the same",
    (ELSE, "clock_gettime"): "there are both",
    (ELSE, "getrandom"): "the same",
    (STORE, "futex"): "as above",
    (STORE, "unlinkat"): "where the file system has no O_TMPFILE",
}


def read_table(root):
    """The calls of each group."""
    text = (root / "docs/PORTABILITY.md").read_text()
    section = text.split("\n## System calls", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")]
            for line in section.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if row[0] != "group"]
    assert rows and all(len(row) == 4 for row in rows), rows
    table = {row[0]: re.findall(r"`(\w+)`", row[1]) for row in rows}
    named = {value for name, value in globals().items()
             if name.isupper() and isinstance(value, str)}
    assert set(table) == named, f"in the table or here only: {set(table) ^ named}"
    assert all(table.values()), table
    return table


def check_source(root, table):
    """Every call that src makes by number is in the table."""
    known = {call for calls in table.values() for call in calls}
    made = set()
    for path in (root / "src").rglob("*.[ch]"):
        made |= set(re.findall(r"\bSYS_(\w+)", path.read_text()))
    assert len(made) > 15, made
    return [f"docs/PORTABILITY.md has no call {call}, which the library makes"
            for call in sorted(made - known)]


class Runner:
    def __init__(self, program, library, directory):
        self.program, self.library, self.directory = program, library, directory
        self.count = 0

    def run(self, mode, options, work, calls):
        """The status: 0, another exit status, or minus the signal."""
        self.count += 1
        path = os.path.join(self.directory, str(self.count))
        env = {key: value for key, value in os.environ.items()
               if not key.startswith(("LUCID_", "LD_"))}
        env |= {"LD_PRELOAD": self.library, "LUCID_OPTIONS": options.replace("FILE", path)}
        command = [self.program, mode, ",".join(sorted(calls))]
        command += [path if word == "FILE" else word for word in work.split()]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        if done.returncode == 2:
            sys.exit(f"{command}: {done.stderr}")
        return done.returncode


def text_of(options, work):
    return f"{work} with LUCID_OPTIONS='{options}'"


def check_groups(runner, table):
    faults, needed = [], set()
    for options, work, groups in RUNS:
        calls = {call for group in groups for call in table[group]}
        for mode in ("kill", "EPERM"):
            status = runner.run(mode, options, work, calls)
            if status != 0:
                faults.append(f"{text_of(options, work)}, allowed {sorted(calls)}, "
                              f"others {mode}: status {status}")
        for call in calls:
            of = [group for group in groups if call in table[group]]
            if len(of) != 1 or (of[0], call) in needed or (of[0], call) in UNSEEN:
                continue
            if runner.run("kill", options, work, calls - {call}) == -signal.SIGSYS:
                needed.add((of[0], call))
    for group, calls in table.items():
        faults += [f"no work needs {call} of the group {group}" for call in calls
                   if (group, call) not in needed and (group, call) not in UNSEEN]
    return faults


def check_refused(runner):
    faults = []
    for options, work in REFUSED:
        for allowed in ({"mmap"}, {"mmap", "munmap"}):
            for mode in ("EPERM", "ENOSYS"):
                status = runner.run(mode, options, work, allowed)
                if status != 0:
                    faults.append(f"{text_of(options, work)}, only {sorted(allowed)}, others "
                                  f"{mode}: status {status}")
    # What is refused is not asked for again and again: each is a call of the kernel.
    for options in ("harden:1", "harden:2"):
        status = runner.run("count", options, "purge", {"mmap", "munmap", "rt_sigreturn"})
        if status != 0:
            faults.append(f"{text_of(options, 'purge')}: status {status}, too many refusals")
    return faults


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, library, root = sys.argv[1:]
    table = read_table(pathlib.Path(root))
    faults = check_source(pathlib.Path(root), table)
    with tempfile.TemporaryDirectory() as directory:
        runner = Runner(program, library, directory)
        faults += check_groups(runner, table)
        faults += check_refused(runner)
    for fault in faults:
        print("FAIL:", fault)
    print(f"{runner.count} runs, {len(faults)} faults")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
