#!/usr/bin/python3
"""Count the instructions of malloc and free under callgrind.

    bench/callgrind.py                          lucid, build/release/liblucid.so
    bench/callgrind.py --lib NAME=PATH ...      others; "glibc" is the C library's own
    bench/callgrind.py --check                  fail if an operation of lucid costs more than
                                                bench/callgrind-expected.json says
    bench/callgrind.py --write                  write that file

bench/fastpath.c calls malloc and free from loops that are functions of their own. Callgrind's file
says how often each loop called malloc and what these calls cost, with all that they called. Every
loop is run with two counts, and the difference of the costs is divided by that of the calls: what
happens once, such as setting the heap up, falls out, and slow paths count in so far as they recur.

    pair     malloc, then free of the same block      one thread
    batch    200 mallocs, then 200 frees in order     one thread
    remote   200 mallocs, then another thread frees   two threads

The counts do not depend on the machine's load, so unlike times they can be compared exactly.
"""

import argparse
import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile

import peers

HERE = os.path.dirname(os.path.abspath(__file__))
EXPECTED = os.path.join(HERE, "callgrind-expected.json")
SCHEMA = "lucid-callgrind-1"
SIZES = (8, 32, 500, 2000, 10000)
# Mode: sizes, and the loops that call malloc and free.
MODES = {
    "pair": (SIZES, "fastpath_pair", "fastpath_pair"),
    "batch": (SIZES, "fastpath_fill", "fastpath_drain"),
    "remote": ((32, 500, 2000), "fastpath_fill", "fastpath_drain"),
}
COUNTS = (20000, 60000)
# Half an instruction: an amortised slow path need not recur equally often in every build.
SLACK = 0.5
# An address with several names has any of them in callgrind's file: gperftools' malloc is also its
# operator new[].
KINDS = {"malloc": re.compile(r"alloc|operator new"), "free": re.compile(r"free|operator delete")}
NAME = re.compile(r"\((\d+)\)(?: (.*))?")


class Failed(Exception):
    """A program did not run under valgrind on an allocator."""


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
            sys.exit(f"callgrind: {caller} never called {kind}; it called "
                     f"{', '.join(called) or 'nothing'}")
        return sum(calls for calls, _ in found), sum(cost for _, cost in found)


def run(program, allocator, arguments):
    with tempfile.TemporaryDirectory(prefix="lucid-callgrind-") as directory:
        path = os.path.join(directory, "out")
        command = ["/usr/bin/valgrind", "--tool=callgrind", f"--callgrind-out-file={path}",
                   "--compress-strings=yes", "--compress-pos=no", "--quiet", program, *arguments]
        done = subprocess.run(command, env=allocator.environment(), capture_output=True,
                              text=True, check=False)
        if done.returncode != 0 or not os.path.exists(path):
            raise Failed(f"{' '.join(arguments)} on {allocator.name} failed with status "
                         f"{done.returncode}: {done.stderr.strip()}")
        return Profile(path)


def measure(program, allocator, mode, size):
    """Instructions of one malloc and of one free; None, and a message, where it does not run."""
    try:
        few, many = (run(program, allocator, [mode, str(size), str(count)]) for count in COUNTS)
    except Failed as failure:
        print(f"callgrind: {failure}", file=sys.stderr)
        return None
    _, allocating, freeing = MODES[mode]
    result = {}
    for caller, kind in ((allocating, "malloc"), (freeing, "free")):
        calls0, cost0 = few.cost_of(caller, kind)
        calls1, cost1 = many.cost_of(caller, kind)
        result[kind] = round((cost1 - cost0) / (calls1 - calls0), 2)
    return result


def measure_all(program, allocators):
    """allocator -> "mode size" -> {"malloc": instructions, "free": instructions}"""
    jobs = [(allocator, mode, size) for allocator in allocators for mode in MODES
            for size in MODES[mode][0]]
    results = {allocator.name: {} for allocator in allocators}
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        measured = pool.map(lambda job: measure(program, *job), jobs)
        for (allocator, mode, size), result in zip(jobs, measured):
            results[allocator.name][f"{mode} {size}"] = result
    return results


def show(results):
    print("instructions per call: malloc + free\n")
    print(f"{'loop':<14}" + "".join(f"{name:>18}" for name in results))
    for operation in next(iter(results.values())):
        line = f"{operation:<14}"
        for by_operation in results.values():
            cost = by_operation[operation]
            shown = f"{cost['malloc']:.1f} + {cost['free']:.1f}" if cost else "failed"
            line += shown.rjust(18)
        print(line)


def compare(results):
    """Print what costs more than expected, or is not expected at all; true if nothing does."""
    try:
        with open(EXPECTED, encoding="utf-8") as file:
            expected = json.load(file)["operations"]
    except FileNotFoundError:
        sys.exit(f"callgrind: {EXPECTED} is missing; --write makes it")
    faults = [f"{operation} is no longer measured" for operation in expected
              if operation not in results]
    for operation, cost in results.items():
        for call, now in cost.items():
            before = expected.get(operation, {}).get(call)
            if before is None:
                faults.append(f"{operation}: {call} has no expected cost")
            elif now > before + SLACK:
                faults.append(f"{operation}: {call} costs {now} instructions, expected {before}")
            elif now < before - SLACK:
                print(f"{operation}: {call} costs {now} instructions, less than the {before} "
                      "expected; --write keeps that")
    for fault in faults:
        print(f"callgrind: {fault}", file=sys.stderr)
    return not faults


def write(results):
    with open(EXPECTED, "w", encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, "operations": results}, file, indent=1)
        file.write("\n")
    print(f"\nwrote {EXPECTED}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", action="append", metavar="[NAME=]PATH",
                        help="a library to measure, or glibc (default: "
                        "build/release/liblucid.so); may be repeated")
    parser.add_argument("--program", help="bench_fastpath (default: in bench/ beside the first "
                        "library)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="compare with what is expected")
    mode.add_argument("--write", action="store_true", help="write what is expected")
    args = parser.parse_args()
    args.lib = args.lib or ["build/release/liblucid.so"]
    first = args.lib[0].rpartition("=")[2]
    args.program = args.program or os.path.join(os.path.dirname(first), "bench", "bench_fastpath")
    return args


def allocator_of(text):
    name, equals, path = text.rpartition("=")
    if text == "glibc":
        return peers.Allocator("glibc", "libc.so.6")
    if not os.path.isfile(path):
        sys.exit(f"callgrind: {path} does not exist")
    allocator = peers.Allocator(name if equals else "lucid", os.path.abspath(path))
    allocator.check()
    return allocator


def main():
    args = parse_arguments()
    for needed in ("/usr/bin/valgrind", args.program):
        if not os.path.exists(needed):
            sys.exit(f"callgrind: {needed} is missing")
    allocators = [allocator_of(text) for text in args.lib]
    results = measure_all(args.program, allocators)
    if args.json:
        print(json.dumps({"schema": SCHEMA, "allocators": results}, indent=1))
    else:
        show(results)
    own = results[allocators[0].name]
    if None in own.values():
        sys.exit(1)
    if args.write:
        write(own)
    if args.check and not compare(own):
        sys.exit(1)


if __name__ == "__main__":
    main()
