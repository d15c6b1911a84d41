"""How many system calls a program makes on an allocator, counted by `strace -f -c`.

Tracing makes each call many times slower, so this is never part of a timed run, and the work is
smaller. Programs sample their own memory by the clock, so only the calls by which an allocator
asks for memory, gives it back or waits are compared; the sum of all is kept beside them.
"""

import os
import re
import sys

from launch import Failed

STRACE = "/usr/bin/strace"
MEMORY = {"mmap", "munmap", "mremap", "brk", "madvise", "process_madvise", "mprotect",
          "sched_yield", "futex", "membarrier"}
ROW = re.compile(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+) +(?:\d+ +)?(\w+)$", re.MULTILINE)


def parse(text):
    """{call: how often} of the table that strace -c writes."""
    counts = {name: int(count) for count, name in ROW.findall(text)}
    counts.pop("total", None)
    return counts


def of_memory(counts):
    return sum(count for name, count in counts.items() if name in MEMORY)


def count(program, allocator, work):
    """The calls of one run: of memory, and all."""
    report = os.path.join(work, "strace.txt")
    program.trace([STRACE, "-f", "-c", "-o", report, "-E", f"LD_PRELOAD={allocator.preload}"])
    with open(report, encoding="utf-8", errors="replace") as file:
        counts = parse(file.read())
    if not counts:
        raise Failed("strace counted nothing")
    return {"memory": of_memory(counts), "all": sum(counts.values())}


def count_all(programs, allocators, work, say):
    """{"memory": row -> allocator -> count, "all": the same}; what fails is said and left out."""
    if not os.path.exists(STRACE):
        sys.exit(f"bench: {STRACE} is missing: scripts/deps.sh bench, or --no-syscalls")
    result = {"memory": {}, "all": {}}
    for program in programs:
        for allocator in allocators[:1] if program.independent else allocators:
            say(f"system calls: {program.name} on {allocator.name}")
            try:
                counted = count(program, allocator, work)
            except Failed as failure:
                say("")
                print(f"bench: system calls of {program.name} on {allocator.name}: {failure}",
                      file=sys.stderr)
                continue
            for kind, number in counted.items():
                result[kind].setdefault(program.name, {})[allocator.name] = number
    return result
