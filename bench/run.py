#!/usr/bin/python3
"""Run the benchmarks on lucid, glibc and every peer that is found, and print ratios.

    bench/run.py --lib build/release/liblucid.so [--quick] [--repeats N] [--only REGEX] ...
    PEERS="snmalloc=/path/libsnmalloc.so" bench/run.py ...      besides Debian's peers
    bench/run.py --tests FILE ...       also programs of a file: name|directory|command|metric
    bench/run.py --resume FILE ...      add rounds to a saved result of this machine
    bench/run.py --from FILE... [--markdown]    print the table of saved results again

Every round runs each program once on each allocator, beginning with another one each time, so that
whatever else the machine does falls on all alike. Of the rounds, the shortest time and the median
of memory count. The table shows them for the base, and ratios to it for the others; then come
geometric means with their intervals, tables of single calls, and what lucid is to reach. All is
saved as JSON after every round, with versions; --plots or bench/plot.py draws it.

Programs check their data, and real ones must print the same on every allocator. Where one fails on
a peer the table says so and goes on without it; where it fails on lucid or glibc, so does the run.

Metrics of --tests: empty for the wall clock; time:REGEX, group 1 of which is the time in what the
program prints; rate:K:REGEX for K divided by it.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile

import figures
import peers
import programs
import results
import syscalls
import tables
from launch import Failed

QUICK_SCALE = 0.15
SYSCALL_SCALE = 0.05


class Progress:
    """A line on stderr that is rewritten, if that is a terminal."""

    def __init__(self):
        self.shown = sys.stderr.isatty()

    def say(self, text):
        if self.shown:
            print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def run_once(document, program, allocator):
    """Run and keep what it gave, or that it failed."""
    try:
        results.add_round(document, program, allocator.name, program.run(allocator))
    except Failed as failure:
        results.add_failure(document, program, allocator.name, str(failure))


def measure(document, rows, allocators, args, say):
    """Add rounds to the document, saving it after each."""
    done = {program.name: results.rounds_of(document, program.name) for program in rows}
    for turn in range(args.repeats):
        for program in rows:
            first = (done[program.name] + turn) % len(allocators)
            chosen = allocators[first:] + allocators[:first]
            failed = document["failures"].get(program.name, {})
            for allocator in allocators[:1] if program.independent else chosen:
                if allocator.name not in failed and program.can_run_on(allocator):
                    say(f"round {turn + 1} of {args.repeats}: {program.name} on {allocator.name}")
                    run_once(document, program, allocator)
        say("")
        document["summary"] = {}  # of the rounds before
        results.save(document, args.output)


def count_syscalls(document, args, allocators, say):
    """Counted anew only for rows that have no counts, and do a fixed amount of work."""
    work = tempfile.mkdtemp(prefix="lucid-bench-")
    try:
        rows = [program for program in programs.make_programs(args, work, SYSCALL_SCALE)
                if program.name not in document["syscalls"] and program.group not in figures.APART]
        counted = syscalls.count_all(rows, allocators, work, say)
    finally:
        shutil.rmtree(work)
    say("")
    document["syscalls"].update(counted["memory"])
    document["syscalls_all"].update(counted["all"])


def begin(args, rows, allocators):
    """The document that rounds are added to: a new one, or that of --resume if it fits."""
    document = results.create(allocators, args.scale, args.base)
    if not args.resume:
        return document
    before = results.load(args.resume)
    try:
        results.check_mergeable(before, document)
        for program in rows:
            row = before["programs"].get(program.name)
            if row:
                program.expected = row.get("output")
                results.check_described(program, row)
    except results.Mismatch as difference:
        sys.exit(f"bench: cannot add to {args.resume}: {difference}")
    before.update(date=document["date"], base=args.base)
    return before


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--lib", default="build/release/liblucid.so", help="lucid's library")
    add("--without-lucid", action="store_true", help="run the others only")
    add("--programs", help="where the bench_ programs are (default: bench/ beside the library)")
    add("--tests", metavar="FILE", help="external programs: name|directory|command|metric")
    add("--repeats", type=int, help="rounds (default: 3, with --quick 1)")
    add("--quick", action="store_true", help="one round of small amounts of work")
    add("--scale", type=float, help="multiply the amounts of work")
    add("--timeout", type=float, default=300, help="seconds a program may take (default: 300)")
    add("--only", default="", metavar="REGEX", help="programs whose name matches")
    add("--group", action="append", choices=tables.ALL_GROUPS, help="only programs of this "
        "group; may be repeated")
    add("--allocators", help="only these, in this order (default: glibc, lucid, all that are "
        "installed, PEERS)")
    add("--base", help="the allocator that ratios are to (default: glibc, else the first)")
    add("--no-syscalls", action="store_true", help="do not count system calls (as with --quick)")
    add("--output", metavar="FILE", help="where to save results (default: that of --resume, else "
        "bench-results.json beside the programs)")
    add("--resume", "--merge", metavar="FILE", help="add rounds to this result")
    add("--from", dest="saved", nargs="+", metavar="FILE", help="run nothing: print the table of "
        "these results, merged; --output saves them as one")
    add("--plots", metavar="DIR", help="draw the result there, as bench/plot.py does")
    add("--markdown", action="store_true", help="print the table of the documents instead")
    args = parser.parse_args()
    args.programs = os.path.abspath(args.programs or
                                    os.path.join(os.path.dirname(args.lib), "bench"))
    args.repeats = args.repeats or (1 if args.quick else 3)
    args.scale = args.scale or (QUICK_SCALE if args.quick else 1.0)
    if not args.saved:
        args.output = args.output or args.resume or os.path.join(args.programs,
                                                                 "bench-results.json")
    return args


def choose(allocators, names):
    if names is None:
        return allocators
    by_name = {allocator.name: allocator for allocator in allocators}
    wanted = re.split(r"[,\s]+", names)
    missing = [name for name in wanted if name not in by_name]
    if missing:
        sys.exit(f"bench: no such allocator: {', '.join(missing)}; there are {', '.join(by_name)}")
    return [by_name[name] for name in wanted]


def choose_base(names, wanted):
    base = wanted or ("glibc" if "glibc" in names else names[0])
    if base not in names:
        sys.exit(f"bench: the base {base} is none of {', '.join(names)}")
    return base


def report(document, args):
    """Print the tables, and keep what was computed for them."""
    tables.add_summary(document)
    if args.output:
        results.save(document, args.output)
    print(tables.markdown(document) if args.markdown else tables.text(document), end="")
    if args.plots:
        import plot  # only who draws needs matplotlib
        plot.draw_all(document, document["base"], args.group, args.plots)


def show_saved(args):
    """What --from does."""
    document, *others = map(results.load, args.saved)
    try:
        for other in others:
            results.merge(document, other)
    except results.Mismatch as difference:
        sys.exit(f"bench: these results cannot be one: {difference}")
    document["base"] = choose_base(list(document["allocators"]), args.base or document["base"])
    report(document, args)


def is_serious(document):
    """True if something failed on lucid or on glibc, which must not be."""
    return any(name in ("lucid", "glibc") for by_name in document["failures"].values()
               for name in by_name)


def run(args, work):
    allocators = choose(peers.find(None if args.without_lucid else args.lib), args.allocators)
    args.base = choose_base([allocator.name for allocator in allocators], args.base)
    allocators.sort(key=lambda allocator: allocator.name != args.base)
    rows = programs.make_programs(args, work, args.scale)
    if not rows:
        sys.exit(f"bench: no program matches '{args.only}'")
    document = begin(args, rows, allocators)
    say = Progress().say
    measure(document, rows, allocators, args, say)
    if not args.no_syscalls and not args.quick:
        count_syscalls(document, args, allocators, say)
    report(document, args)
    print(f"saved in {args.output}")
    return 1 if is_serious(document) else 0


def main():
    args = parse_arguments()
    if args.saved:
        return show_saved(args)
    work = tempfile.mkdtemp(prefix="lucid-bench-")
    try:
        return run(args, work)
    except KeyboardInterrupt:
        sys.exit(f"\nbench: interrupted; whole rounds are saved in {args.output}")
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    sys.exit(main())
