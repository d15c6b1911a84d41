#!/usr/bin/python3
"""Run the benchmarks on lucid, glibc and every peer that is found, and print ratios.

    bench/run.py --lib build/release/liblucid.so [--quick] [--repeats N] [--only REGEX] ...
    PEERS="snmalloc=/path/libsnmalloc.so" bench/run.py ...

Every round runs each program once on each allocator, beginning with another one each time, so that
whatever else the machine does falls on all alike. Of the rounds, the shortest time and the median
of peak memory count. The table shows them for the first allocator, and ratios to it for the others;
geometric means over all programs come last. Everything measured is saved as JSON, with versions.

Programs check their data, and real ones must print the same on every allocator. Where one fails on
a peer the table says so and goes on without it; where it fails on lucid or glibc, so does the run.
"""

import argparse
import datetime
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile

import peers

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20

# Program and, where it has any, mode. They are built as bench_PROGRAM.
SYNTHETIC = ["random_heap", "mixed_sizes", "batches lifo", "batches fifo", "calloc_small",
             "aligned_blocks", "realloc_growth", "large_zeroed", "phase_change", "server",
             "producer_consumer", "phased_threads", "false_sharing active",
             "false_sharing passive", "thread_churn", "startup"]
# Command, and what it reads. {real} is bench/real, {work} a directory with generated files.
REAL = {
    "python": (["/usr/bin/python3", "{real}/objects.py"], None),
    "sqlite": (["/usr/bin/sqlite3", ":memory:"], "{real}/tables.sql"),
    "lua": (["/usr/bin/lua5.4", "{real}/strings.lua"], None),
    "perl": (["/usr/bin/perl", "{real}/words.pl"], None),
    "gcc": (["/usr/bin/gcc", "-O2", "-S", "-o", "/dev/stdout", "{work}/program.c"], None),
}
QUICK_SCALE = 0.15


class Failed(Exception):
    """A program did not do on an allocator what it must."""


class Program:
    """One row of the table: how it is run, and what must come out."""

    def __init__(self, name):
        self.name = name
        self.expected = None  # output of the first run

    def run(self, allocator):
        raise NotImplementedError

    def execute(self, allocator, command, **keywords):
        done = subprocess.run(command, env=allocator.environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, check=False, **keywords)
        if done.returncode != 0:
            message = done.stderr.decode(errors="replace").strip()
            raise Failed(f"ended with status {done.returncode}: {message}")
        return done.stdout


class Synthetic(Program):
    def __init__(self, words, directory, scale):
        super().__init__(words.replace(" ", "-"))
        program, *mode = words.split()
        self.command = [os.path.join(directory, f"bench_{program}"), "-s", str(scale), *mode]
        require(self.command[0], "build the benchmarks first")

    def run(self, allocator):
        return json.loads(self.execute(allocator, self.command))


class Real(Program):
    def __init__(self, name, directory, work):
        super().__init__(name)
        command, self.input = REAL[name]
        places = {"real": os.path.join(HERE, "real"), "work": work}
        self.result = os.path.join(work, "measured.json")
        self.command = [os.path.join(directory, "bench_measure"), self.result,
                        *(word.format(**places) for word in command)]
        self.input = self.input and self.input.format(**places)
        require(self.command[0], "build the benchmarks first")
        require(self.command[2], "install it: scripts/deps.sh bench")

    def run(self, allocator):
        with open(self.input or os.devnull, "rb") as file:
            output = self.execute(allocator, self.command, stdin=file)
        if self.expected is None:
            self.expected = output
        if output != self.expected:
            raise Failed("printed something else than on the first allocator")
        with open(self.result, encoding="utf-8") as file:
            return json.load(file)


def require(path, advice):
    if not os.path.exists(path):
        sys.exit(f"bench: {path} is missing: {advice}")


def make_programs(args, work):
    with open(os.path.join(work, "program.c"), "wb") as file:
        subprocess.run([sys.executable, os.path.join(HERE, "real", "make_c.py"), "80"],
                       stdout=file, check=True)
    scale = args.scale or (QUICK_SCALE if args.quick else 1.0)
    programs = [Synthetic(words, args.programs, scale) for words in SYNTHETIC
                if re.search(args.only, words.replace(" ", "-"))]
    return programs + [Real(name, args.programs, work) for name in REAL
                       if re.search(args.only, name)]


class Progress:
    """A line on stderr that is rewritten, if that is a terminal."""

    def __init__(self):
        self.shown = sys.stderr.isatty()

    def say(self, text):
        if self.shown:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def measure(programs, allocators, repeats):
    """Two dictionaries, program name -> allocator name -> a list of what each round gave, or a
    message: what was measured, and what failed."""
    results = {program.name: {} for program in programs}
    failures = {program.name: {} for program in programs}
    progress = Progress()
    for turn in range(repeats):
        first = turn % len(allocators)
        for program in programs:
            for allocator in allocators[first:] + allocators[:first]:
                if allocator.name in failures[program.name]:
                    continue
                progress.say(f"round {turn + 1} of {repeats}: {program.name} on {allocator.name}")
                try:
                    result = program.run(allocator)
                    results[program.name].setdefault(allocator.name, []).append(result)
                except Failed as failure:
                    failures[program.name][allocator.name] = str(failure)
                    results[program.name].pop(allocator.name, None)
    progress.say("")
    return results, failures


def figures(rounds):
    return {"seconds": min(round["seconds"] for round in rounds),
            "peak_rss": statistics.median(round["peak_rss"] for round in rounds)}


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(value) for value in values))


def cell(pair, width):
    return f"{pair['seconds']:.2f}  {pair['peak_rss']:.2f}".rjust(width)


def tabulate(results, names):
    """Print the table; returns the geometric means, allocator -> (time, memory). A mean is over the
    programs that ran on that allocator and on the first."""
    base, others = names[0], names[1:]
    ratios = {name: {"seconds": [], "peak_rss": []} for name in others}
    width = {name: max(len(name), 10) + 2 for name in others}
    print(f"time (shortest) and peak memory (median): {base} in seconds and MiB, then the ratios "
          "to it\n")
    print(f"{'program':<22}{base:>16}" + "".join(f"{n:>{width[n]}}" for n in others))
    for program, by_name in results.items():
        if base not in by_name:
            continue
        own = figures(by_name[base])
        line = f"{program:<22}{own['seconds']:>8.3f}{own['peak_rss'] / MIB:>8.1f}"
        for name in others:
            if name not in by_name:
                line += "failed".rjust(width[name])
                continue
            theirs = figures(by_name[name])
            pair = {key: theirs[key] / own[key] for key in own}
            for key, value in pair.items():
                ratios[name][key].append(value)
            line += cell(pair, width[name])
        print(line)
    means = {name: {key: geometric_mean(values) for key, values in ratios[name].items()}
             for name in others if ratios[name]["seconds"]}
    print(f"\n{'geometric mean':<22}{'1.00':>8}{'1.00':>8}"
          + "".join(cell(means[name], width[name]) for name in means))
    return means


def tell_failures(failures):
    """Print them; True if one was on lucid or on glibc, which they must not be."""
    serious = False
    for program, by_name in failures.items():
        for name, message in by_name.items():
            print(f"failed: {program} on {name} {message}")
            serious |= name in ("lucid", "glibc")
    return serious


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = re.findall(r"model name\s*: (.*)", file.read())
    with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="utf-8") as file:
        huge_pages = re.search(r"\[(\w+)\]", file.read())
    return {"cpu": models[0] if models else None, "processors": os.cpu_count(),
            "kernel": platform.release(), "libc": os.confstr("CS_GNU_LIBC_VERSION"),
            "transparent_huge_pages": huge_pages.group(1) if huge_pages else None}


def save(args, allocators, results, failures, means):
    document = {
        "schema": "lucid-bench-1",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "arguments": sys.argv[1:],
        "machine": machine(),
        "repeats": args.repeats,
        "allocators": {allocator.name: allocator.describe() for allocator in allocators},
        "geometric_means_to_first": means,
        "failures": failures,
        "programs": results,
    }
    with open(args.output, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    print(f"\nsaved in {args.output}")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", default="build/release/liblucid.so", help="lucid's library")
    parser.add_argument("--without-lucid", action="store_true", help="run the others only")
    parser.add_argument("--programs", help="where the bench_ programs are (default: bench/ beside "
                        "the library)")
    parser.add_argument("--repeats", type=int, help="rounds (default: 3, with --quick 1)")
    parser.add_argument("--quick", action="store_true", help="one round of small amounts of work")
    parser.add_argument("--scale", type=float, help="multiply the amounts of work")
    parser.add_argument("--only", default="", help="programs whose name matches this expression")
    parser.add_argument("--allocators", help="only these, in this order; the first is the base "
                        "(default: glibc, lucid, all that are installed, PEERS)")
    parser.add_argument("--output", help="where to save results (default: bench-results.json "
                        "beside the programs)")
    args = parser.parse_args()
    args.programs = args.programs or os.path.join(os.path.dirname(args.lib), "bench")
    args.output = args.output or os.path.join(args.programs, "bench-results.json")
    args.repeats = args.repeats or (1 if args.quick else 3)
    return args


def choose(allocators, names):
    if names is None:
        return allocators
    by_name = {allocator.name: allocator for allocator in allocators}
    missing = [name for name in names.split(",") if name not in by_name]
    if missing:
        sys.exit(f"bench: no such allocator: {', '.join(missing)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names.split(",")]


def main():
    args = parse_arguments()
    allocators = choose(peers.find(None if args.without_lucid else args.lib), args.allocators)
    work = tempfile.mkdtemp(prefix="lucid-bench-")
    try:
        programs = make_programs(args, work)
        if not programs:
            sys.exit(f"bench: no program matches '{args.only}'")
        results, failures = measure(programs, allocators, args.repeats)
    finally:
        shutil.rmtree(work)
    means = tabulate(results, [allocator.name for allocator in allocators])
    serious = tell_failures(failures)
    save(args, allocators, results, failures, means)
    return 1 if serious else 0


if __name__ == "__main__":
    sys.exit(main())
