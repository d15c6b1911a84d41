#!/usr/bin/python3
"""Count the instructions of malloc, free and their kin under callgrind.

    bench/callgrind.py                          lucid, build/release/liblucid.so
    bench/callgrind.py --lib NAME=PATH ...      others; "glibc" is the C library's own
    bench/callgrind.py --check                  fail if an operation of lucid costs more than
                                                bench/callgrind-expected.json says
    bench/callgrind.py --write                  write that file (bench/counts.py --write writes
                                                cachegrind's as well)

bench/fastpath.c calls the allocator from loops that are functions of their own. Callgrind's file
says how often each loop called malloc and free and what these calls cost, with all that they
called. Every loop is run with two counts, and the difference of the costs is divided by that of the
calls: what happens once, such as setting the heap up, falls out, and slow paths count in so far as
they recur.

    pair      malloc, then free of the same block      one thread
    calloc    calloc, then free                        one thread
    aligned   aligned_alloc(64, size), then free       one thread
    sized     malloc, then free_sized                  one thread
    new       operator new, then sized delete          one thread
    cache     lu_cache_alloc, then lu_cache_free       one thread
    realloc   the size goes down and up by one byte    one thread
    alone     lu_heap_malloc from a single-threaded heap, then free
    shared    lu_heap_malloc from a shared heap, then free
    own       lu_heap_malloc from a single-threaded heap, then lu_heap_free
    batch     200 mallocs, then 200 frees in order     one thread
    remote    200 mallocs, then another thread frees   two threads

The counts depend neither on the machine nor on its load (bench/valgrind.py says how), so unlike
times they can be compared exactly.
"""

import os
import re

import valgrind

SIZES = (8, 32, 500, 2000, 10000)
# Mode: sizes, and for each kind of call the loop that makes it.
PAIR = {
    "pair": SIZES,
    "calloc": (32, 500),
    "aligned": (64, 500),
    "sized": (32, 2000),
    "new": (32, 2000),
    "cache": (32, 200, 2000),
}
MODES = {
    **{mode: (sizes, {"malloc": f"fastpath_{mode}", "free": f"fastpath_{mode}"})
       for mode, sizes in PAIR.items()},
    "alone": ((32, 500, 2000), {"malloc": "fastpath_heap", "free": "fastpath_heap"}),
    "shared": ((32, 500, 2000), {"malloc": "fastpath_heap", "free": "fastpath_heap"}),
    "own": ((32, 2000), {"malloc": "fastpath_own", "free": "fastpath_own"}),
    "realloc": ((32, 500), {"realloc": "fastpath_realloc"}),
    "batch": (SIZES, {"malloc": "fastpath_fill", "free": "fastpath_drain"}),
    "remote": ((32, 500, 2000), {"malloc": "fastpath_fill", "free": "fastpath_drain"}),
}
COUNTS = (20000, 60000)
# An address with several names has any of them in callgrind's file: gperftools' malloc is also its
# operator new[].
KINDS = {"malloc": re.compile(r"alloc|memalign|operator new"),
         "free": re.compile(r"free|operator delete"),
         "realloc": re.compile(r"realloc")}
NAME = re.compile(r"\((\d+)\)(?: (.*))?")


class Profile:
    """What functions called, from a callgrind file: caller -> callee -> (calls, instructions)."""

    def __init__(self, path):
        self.names = {}
        self.calls = {}
        with open(path, encoding="utf-8", errors="replace") as file:
            self.read(file)

    def name(self, text):
        """The name that "(12) malloc" gives, or "(12)" repeats; callgrind numbers versions of a
        function with a quote and a digit, which are dropped."""
        match = NAME.match(text)
        number, name = match.groups()
        if name is not None:
            self.names[number] = name
        return self.names[number].split("'")[0]

    def read(self, file):
        caller = callee = None
        count = 0
        for line in file:
            if line.startswith("fn="):
                caller = self.name(line[3:].rstrip())
            elif line.startswith("cfn="):
                callee = self.name(line[4:].rstrip())
            elif line.startswith("calls="):
                count = int(line[6:].split()[0])
                cost = int(next(file).split()[1])
                old = self.calls.setdefault(caller, {}).get(callee, (0, 0))
                self.calls[caller][callee] = (old[0] + count, old[1] + cost)

    def cost_of(self, caller, kind):
        """(calls, instructions) of what `caller` called to allocate or to free."""
        called = self.calls.get(caller, {})
        found = [cost for name, cost in called.items() if KINDS[kind].search(name)]
        if not found:
            raise valgrind.Failed(f"{caller} never called {kind}; it called "
                                  f"{', '.join(called) or 'nothing'}")
        return sum(calls for calls, _ in found), sum(cost for _, cost in found)


class Instructions(valgrind.Counter):
    name = tool = "callgrind"
    options = ("--compress-strings=yes", "--compress-pos=no")
    schema = "lucid-callgrind-2"
    title = "instructions per call"
    expected = os.path.join(valgrind.HERE, "callgrind-expected.json")
    # Below one instruction for everything up to 100 of them.
    slack = {"least": 0.4, "share": 0.004}

    def rows(self):
        return [f"{mode} {size}" for mode, (sizes, _) in MODES.items() for size in sizes]

    def measure(self, run, row):
        mode, size = row.split()
        profiles = []
        for count in COUNTS:
            with run(mode, size, count) as path:
                profiles.append(Profile(path))
        figures = {}
        for kind, caller in MODES[mode][1].items():
            (calls0, cost0), (calls1, cost1) = (profile.cost_of(caller, kind)
                                                for profile in profiles)
            figures[kind] = round((cost1 - cost0) / (calls1 - calls0), 2)
        if len(figures) > 1:
            figures["total"] = round(sum(figures.values()), 2)
        return figures


if __name__ == "__main__":
    valgrind.main([Instructions()], __doc__)
