"""Counting what bench_fastpath does under Valgrind, and keeping the figures: what callgrind.py,
cachegrind.py and counts.py share.

A counter says what it runs and how it reads Valgrind's file (class Counter). The figures of an
allocator are rows of numbers, all of them "less is better":

    {"pair 32": {"malloc": 20.0, "free": 27.6, "total": 47.6}, ...}

Stored figures are a JSON file with these rows, a slack, and what they were made with. A number is
too high if it exceeds the stored one by more than

    the greater of slack["least"] and slack["share"] * stored

and too low in the same way, which is no failure. The numbers must not depend on the machine:

    processor        Valgrind shows the program the features of the real one, by which the C library
                     chooses its string functions; a tunable leaves it the oldest only
    environment      is the same everywhere, and so is the length of every path in it and in argv:
                     the program and the library are links in a directory of each run's own
    clock            is made by the program, from the operations that it has done
    threads          take turns in order (--fair-sched)
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
VALGRIND = "/usr/bin/valgrind"
PROGRAM = "bench_fastpath"
TUNABLES = ":".join([
    "glibc.cpu.hwcaps=" + ",".join("-" + feature for feature in (
        "AVX512VL,AVX512BW,AVX512F,AVX2,AVX,FMA,FMA4,BMI1,BMI2,LZCNT,MOVBE,POPCNT,SSE4_2,SSE4_1,"
        "SSSE3,ERMS,FSRM,RTM,Fast_Unaligned_Copy,Fast_Unaligned_Load,Slow_BSF,"
        "AVX_Fast_Unaligned_Load,Prefer_No_VZEROUPPER").split(",")),
    "glibc.cpu.x86_data_cache_size=32768",
    "glibc.cpu.x86_shared_cache_size=1048576",
    "glibc.cpu.x86_non_temporal_threshold=786432",
    "glibc.cpu.x86_rep_movsb_threshold=2048",
    "glibc.cpu.x86_rep_stosb_threshold=2048",
])


class Failed(Exception):
    """A program did not run under Valgrind on an allocator."""


class Counter:
    """One tool of Valgrind with what is counted by it."""

    name = ""  # of the command and of its messages
    tool = ""  # of Valgrind
    options = ()
    schema = ""
    title = ""  # of the table
    expected = ""  # path of the stored figures
    slack = {"least": 0.0, "share": 0.0}  # where no figures are stored yet

    def rows(self):
        """The names of the rows; the first word is the program's mode, the second its SIZE."""
        raise NotImplementedError

    def measure(self, run, row):
        """The figures of a row: a dictionary. `run(mode, size, count)` runs the program and
        returns the path of Valgrind's file as long as the `with` statement lasts."""
        raise NotImplementedError


# ------------------------------------------------------------------ running ----------------------


class Run:
    """A run of the program under Valgrind; as a context, the path of Valgrind's file."""

    def __init__(self, counter, program, allocator, arguments):
        self.directory = tempfile.TemporaryDirectory(prefix="lucid-valgrind-")
        try:
            self.start(counter, program, allocator, [str(argument) for argument in arguments])
        except Failed:
            self.directory.cleanup()
            raise

    def start(self, counter, program, allocator, arguments):
        self.path = os.path.join(self.directory.name, "out")
        os.symlink(os.path.abspath(program), os.path.join(self.directory.name, "fastpath"))
        environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "GLIBC_TUNABLES": TUNABLES,
                       "LD_PRELOAD": allocator.preload}
        if "/" in allocator.preload:
            os.symlink(os.path.abspath(allocator.preload),
                       os.path.join(self.directory.name, "allocator.so"))
            environment["LD_PRELOAD"] = "./allocator.so"
        command = [VALGRIND, f"--tool={counter.tool}", f"--{counter.tool}-out-file={self.path}",
                   "--quiet", "--fair-sched=yes", *counter.options, "./fastpath", *arguments]
        done = subprocess.run(command, env=environment, cwd=self.directory.name,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0 or not os.path.exists(self.path):
            raise Failed(f"{' '.join(arguments)} on {allocator.name} failed with status "
                         f"{done.returncode}: {done.stderr.strip()}")

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        self.directory.cleanup()


def measure_row(counter, program, allocator, row):
    """The figures of a row; None, and a message, where it does not run."""
    try:
        return counter.measure(lambda *arguments: Run(counter, program, allocator, arguments), row)
    except Failed as failure:
        print(f"{counter.name}: {failure}", file=sys.stderr)
        return None


def measure_all(counter, program, allocators):
    """allocator -> row -> figures"""
    jobs = [(allocator, row) for allocator in allocators for row in counter.rows()]
    results = {allocator.name: {} for allocator in allocators}
    with concurrent.futures.ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        measured = pool.map(lambda job: measure_row(counter, program, *job), jobs)
        for (allocator, row), figures in zip(jobs, measured):
            results[allocator.name][row] = figures
    return results


def show(counter, results):
    names = list(dict.fromkeys(name for rows in results.values() for figures in rows.values()
                               for name in figures or {}))
    width = max([8] + [len(name) for name in names]) + 2
    print(f"{counter.title}\n\n{'':<14}" + "".join(f"{name:>{width}}" for name in names))
    for allocator, rows in results.items():
        if len(results) > 1:
            print(f"{allocator}")
        for row, figures in rows.items():
            cells = [f"{figures[name]:.2f}" if name in figures else "" for name in names] \
                if figures else ["failed"]
            print(f"{row:<14}" + "".join(f"{cell:>{width}}" for cell in cells).rstrip())
    print()


# ------------------------------------------------------------------ stored figures ---------------


def made_with(library):
    """What the figures depend on besides the sources."""
    comment = subprocess.run(["readelf", "-p", ".comment", library], capture_output=True,
                             text=True, check=False).stdout
    compilers = sorted(set(re.findall(r"\]\s+(\S.*)", comment)))
    valgrind = subprocess.run([VALGRIND, "--version"], capture_output=True, text=True, check=True)
    return {"compiler": ", ".join(compilers) or "unknown", "valgrind": valgrind.stdout.strip(),
            "libc": os.confstr("CS_GNU_LIBC_VERSION")}


def load(counter):
    try:
        with open(counter.expected, encoding="utf-8") as file:
            stored = json.load(file)
    except FileNotFoundError:
        sys.exit(f"{counter.name}: {counter.expected} is missing; bench/counts.py --write makes it")
    if stored.get("schema") != counter.schema:
        sys.exit(f"{counter.name}: {counter.expected} is not of schema {counter.schema}; "
                 "bench/counts.py --write makes it anew")
    return stored


def differences(stored, rows):
    """(faults, gains) as lists of sentences: what is too high or cannot be compared, and what
    became better by more than the slack."""
    least, share = stored["slack"]["least"], stored["slack"]["share"]
    faults = [f"{row}: stored, but no longer measured" for row in stored["rows"] if row not in rows]
    gains = []
    for row, figures in rows.items():
        before = stored["rows"].get(row)
        if before is None or set(before) != set(figures):
            faults.append(f"{row}: what is stored of it is not what is measured")
            continue
        for name, now in figures.items():
            slack = max(least, share * before[name])
            sentence = f"{row}: {name} {now:g}, stored {before[name]:g}, slack {slack:.2g}"
            if now > before[name] + slack:
                faults.append(sentence)
            elif now < before[name] - slack:
                gains.append(sentence)
    return faults, gains


def check(counter, rows, library):
    """Compare with the stored figures and say what to do; true if nothing became worse."""
    stored = load(counter)
    faults, gains = differences(stored, rows)
    if gains:
        print(f"{counter.name}: better than stored:", *gains, sep="\n  ")
        print("  bench/counts.py --write keeps that.")
    if not faults:
        return True
    print(f"{counter.name}: worse than stored:", *faults, sep="\n  ", file=sys.stderr)
    now = made_with(library)
    for what, before in stored["made_with"].items():
        if now[what] != before:
            print(f"  The figures were stored with {what} {before}; this is {now[what]}.",
                  file=sys.stderr)
    print("  If a fast path became longer by accident, mend it: docs/ARCHITECTURE.md has it step\n"
          f"  by step, and {counter.tool}_annotate shows where. If the price is meant, run\n"
          "  `bench/counts.py --write` on a release build and commit\n"
          f"  bench/{os.path.basename(counter.expected)} with the reason.", file=sys.stderr)
    return False


def write(counter, rows, library):
    """Store the figures; the slack stays as it is in the file."""
    slack = counter.slack
    if os.path.exists(counter.expected):
        with open(counter.expected, encoding="utf-8") as file:
            slack = json.load(file).get("slack", slack)
    with open(counter.expected, "w", encoding="utf-8") as file:
        json.dump({"schema": counter.schema, "made_with": made_with(library), "slack": slack,
                   "rows": rows}, file, indent=1)
        file.write("\n")
    print(f"wrote {counter.expected}")


# ------------------------------------------------------------------ the command ------------------


def parse_arguments(description):
    parser = argparse.ArgumentParser(description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", action="append", metavar="[NAME=]PATH",
                        help="a library to measure, or glibc (default: "
                        "build/release/liblucid.so); may be repeated")
    parser.add_argument("--program", help="bench_fastpath (default: in bench/ beside the first "
                        "library)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true",
                      help="fail if a figure of the first library is higher than stored")
    mode.add_argument("--write", action="store_true",
                      help="store the figures of the first library")
    args = parser.parse_args()
    args.lib = args.lib or [os.path.join(HERE, "..", "build", "release", "liblucid.so")]
    first = args.lib[0].rpartition("=")[2]
    args.program = args.program or os.path.join(os.path.dirname(first), "bench", PROGRAM)
    return args


def allocator_of(text):
    name, equals, path = text.rpartition("=")
    if text == "glibc":
        return peers.Allocator("glibc", "libc.so.6")
    if not os.path.isfile(path):
        sys.exit(f"bench: {path} does not exist; build it (make), or name another with --lib")
    allocator = peers.Allocator(name if equals else "lucid", os.path.abspath(path))
    allocator.check()
    return allocator


def use(counter, args, allocators):
    """Measure with one counter and do as the arguments say; true if all is well."""
    results = measure_all(counter, args.program, allocators)
    own = results[allocators[0].name]
    if args.json:
        print(json.dumps({"schema": counter.schema, "allocators": results}, indent=1))
    else:
        show(counter, results)
    if None in own.values():
        return False
    if args.write:
        write(counter, own, allocators[0].preload)
    return not args.check or check(counter, own, allocators[0].preload)


def main(counters, description):
    args = parse_arguments(description)
    for needed, package in ((VALGRIND, "valgrind"), ("/usr/bin/readelf", "binutils")):
        if not os.path.exists(needed):
            sys.exit(f"bench: {needed} is missing (Debian package {package})")
    if not os.path.exists(args.program):
        sys.exit(f"bench: {args.program} is missing; build it (make bench), or name another with "
                 "--program")
    allocators = [allocator_of(text) for text in args.lib]
    fine = [use(counter, args, allocators) for counter in counters]
    sys.exit(0 if all(fine) else 1)
