#!/usr/bin/python3
"""Count cache misses and mispredicted branches per operation under cachegrind.

    bench/cachegrind.py                         lucid, build/release/liblucid.so
    bench/cachegrind.py --lib NAME=PATH ...     others; "glibc" is the C library's own
    bench/cachegrind.py --check                 fail if a workload misses more than
                                                bench/cachegrind-expected.json says
    bench/cachegrind.py --write                 write that file (bench/counts.py --write writes
                                                callgrind's as well)

An operation is a malloc and a free, with the program's own use of the block: where the allocator
put it decides what that misses. Each workload of bench/fastpath.c is run with two counts of
operations, and the difference of the misses is divided by that of the operations.

    random 60000    a random one of 60,000 blocks of 8 to 256 bytes is replaced: 8 MB, eight times
                    the last cache
    batch 500       200 blocks of 500 bytes, then all freed: three times the first cache
    mixed 300       the oldest of 300 blocks of 16 bytes to 16 KiB is replaced

The caches are simulated, with the geometry below; the processor's own play no part.
"""

import os
import re

import valgrind

CACHES = ("--I1=32768,8,64", "--D1=32768,8,64", "--LL=1048576,16,64")
# Workload: two counts of operations. They cover whole rounds of the batches.
ROWS = {
    "random 60000": (20000, 140000),
    "batch 500": (20000, 140000),
    "mixed 300": (20000, 140000),
}
# Figure: the events of cachegrind that it sums up.
FIGURES = {
    "D1 misses": ("D1mr", "D1mw"),
    "LL misses": ("DLmr", "DLmw"),
    "mispredicted": ("Bcm", "Bim"),
}


def totals(path):
    """event -> count, of the whole run."""
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read()
    events = re.search(r"^events: (.*)$", text, re.MULTILINE)
    summary = re.search(r"^summary: (.*)$", text, re.MULTILINE)
    if not events or not summary:
        raise valgrind.Failed("cachegrind wrote no summary")
    return dict(zip(events[1].split(), map(int, summary[1].split())))


class Misses(valgrind.Counter):
    name = tool = "cachegrind"
    options = ("--cache-sim=yes", "--branch-sim=yes", *CACHES)
    schema = "lucid-cachegrind-1"
    title = "misses per operation"
    expected = os.path.join(valgrind.HERE, "cachegrind-expected.json")
    # Where code and data happen to lie moves these figures a little.
    slack = {"least": 0.03, "share": 0.03}

    def rows(self):
        return list(ROWS)

    def measure(self, run, row):
        counted = []
        for count in ROWS[row]:
            with run(*row.split(), count) as path:
                counted.append(totals(path))
        operations = ROWS[row][1] - ROWS[row][0]
        more = {event: counted[1][event] - counted[0][event] for event in counted[0]}
        return {figure: round(max(0, sum(more[event] for event in events)) / operations, 3)
                for figure, events in FIGURES.items()}


if __name__ == "__main__":
    valgrind.main([Misses()], __doc__)
