#!/usr/bin/env python3
"""Run one program per misuse of malloc and check the exact line that the allocator prints.

usage: run.py PROGRAM LIBRARY GROUP

The program (misuse.c) runs with LIBRARY preloaded. It prints the addresses and sizes that it is
about to misuse; with them the line of the table below is made exact, and stderr must be that line
and nothing else. GROUP is the first word of a case's name; `--all` are all of them. Every case that
the program knows must be in the table, and the other way round.
"""

import os
import re
import signal
import subprocess
import sys

FOREIGN = "pointer not from lucid"
WILD = "wild pointer"
OF_BLOCK = ": block {block} of {bytes} bytes"
INTERIOR = "interior pointer" + OF_BLOCK
DOUBLE = "double free" + OF_BLOCK
CORRUPT = "corrupt free list" + OF_BLOCK
SIZE = "size mismatch" + OF_BLOCK
ALIGN = "alignment mismatch" + OF_BLOCK

# case: the line after "lucid: ", or several of which one must come (where what the memory once was
# is not known for certain any more).
ABORTS = {
    "free-stack": "free({pointer}): " + FOREIGN,
    "free-static": "free({pointer}): " + FOREIGN,
    "free-literal": "free({pointer}): " + FOREIGN,
    "free-mmap": "free({pointer}): " + FOREIGN,
    "free-environment": "free({pointer}): " + FOREIGN,
    "free-low": "free({pointer}): " + FOREIGN,
    "free-noncanonical": "free({pointer}): " + FOREIGN,
    "free-first": "free({pointer}): " + FOREIGN,
    "realloc-stack": "realloc({pointer}): " + FOREIGN,
    "realloc-static": "realloc({pointer}): " + FOREIGN,
    "realloc-mmap": "realloc({pointer}): " + FOREIGN,
    "realloc-zero-stack": ["realloc({pointer}): " + FOREIGN, "free({pointer}): " + FOREIGN],
    "usable-stack": "malloc_usable_size({pointer}): " + FOREIGN,
    "usable-static": "malloc_usable_size({pointer}): " + FOREIGN,
    "usable-mmap": "malloc_usable_size({pointer}): " + FOREIGN,
    "free-misaligned": "free({pointer}): " + INTERIOR,
    "free-interior-small": "free({pointer}): " + INTERIOR,
    "free-interior-medium": "free({pointer}): " + INTERIOR,
    "free-interior-large": "free({pointer}): " + INTERIOR,
    "free-interior-slice": "free({pointer}): " + INTERIOR,
    "free-interior-last-slice": "free({pointer}): " + INTERIOR,
    "free-interior-huge": "free({pointer}): " + INTERIOR,
    "free-interior-huge-middle": "free({pointer}): " + INTERIOR,
    "free-end-of-block": "free({pointer}): " + INTERIOR,
    "free-interior-remote": "free({pointer}): " + INTERIOR,
    "realloc-misaligned": "realloc({pointer}): " + INTERIOR,
    "realloc-interior-small": "realloc({pointer}): " + INTERIOR,
    "realloc-interior-large": "realloc({pointer}): " + INTERIOR,
    "realloc-interior-huge": "realloc({pointer}): " + INTERIOR,
    "usable-misaligned": "malloc_usable_size({pointer}): " + INTERIOR,
    "usable-interior-small": "malloc_usable_size({pointer}): " + INTERIOR,
    "usable-interior-large": "malloc_usable_size({pointer}): " + INTERIOR,
    "usable-interior-huge": "malloc_usable_size({pointer}): " + INTERIOR,
    "free-wild": "free({pointer}): " + WILD,
    "realloc-wild": "realloc({pointer}): " + WILD,
    "usable-wild": "malloc_usable_size({pointer}): " + WILD,
    "free-inside-free-memory": ["free({pointer}): " + WILD, "free({pointer}): double free"],
    "free-never-handed-out": "free({pointer}): " + WILD,
    "double-8": "free({pointer}): " + DOUBLE,
    "double-24": "free({pointer}): " + DOUBLE,
    "double-100": "free({pointer}): " + DOUBLE,
    "double-1000": "free({pointer}): " + DOUBLE,
    "double-10000": "free({pointer}): " + DOUBLE,
    "double-60000": "free({pointer}): " + DOUBLE,
    "double-large": ["free({pointer}): double free", "free({pointer}): " + DOUBLE],
    "double-huge": ["free({pointer}): double free", "free({pointer}): " + DOUBLE,
                    "free({pointer}): " + FOREIGN],
    "double-alone": ["free({pointer}): " + DOUBLE, "free({pointer}): double free",
                     "free({pointer}): " + WILD],
    "double-delayed-8": "free({pointer}): " + DOUBLE,
    "double-delayed-100": "free({pointer}): " + DOUBLE,
    "double-delayed-5000": "free({pointer}): " + DOUBLE,
    "double-delayed-all-free": ["free({pointer}): " + DOUBLE, "free({pointer}): double free",
                                "free({pointer}): " + WILD],
    "double-delayed-by-traffic": "free({pointer}): " + DOUBLE,
    "double-last-of-list": ["free({pointer}): " + DOUBLE, "free({pointer}): double free"],
    "double-aligned": "free({pointer}): " + DOUBLE,
    "realloc-after-free": "realloc({pointer}): " + DOUBLE,
    "usable-after-free": "malloc_usable_size({pointer}): " + DOUBLE,
    "free-after-move": "free({pointer}): " + DOUBLE,
    "realloc-zero-then-free": "free({pointer}): " + DOUBLE,
    "double-local-then-remote-8": "free({pointer}): " + DOUBLE,
    "double-local-then-remote-100": "free({pointer}): " + DOUBLE,
    "double-local-then-remote-5000": "free({pointer}): " + DOUBLE,
    "double-local-then-remote-large": ["free({pointer}): double free",
                                       "free({pointer}): " + DOUBLE],
    "double-remote-then-local-8": "free({pointer}): " + DOUBLE,
    "double-remote-then-local-100": "free({pointer}): " + DOUBLE,
    "double-remote-then-local-5000": "free({pointer}): " + DOUBLE,
    "double-remote-then-local-large": ["free({pointer}): double free",
                                       "free({pointer}): " + DOUBLE],
    "double-remote-then-remote": "free({pointer}): " + DOUBLE,
    "double-remote-twice-at-once": "free({pointer}): " + DOUBLE,
    "double-remote-alive-then-local": "free({pointer}): " + DOUBLE,
    "double-remote-arrived-then-local": "free({pointer}): " + DOUBLE,
    "double-orphan": "free({pointer}): " + DOUBLE,
    "corrupt-text": "malloc({pointer}): " + CORRUPT,
    "corrupt-zero": "malloc({pointer}): " + CORRUPT,
    "corrupt-pointer": "malloc({pointer}): " + CORRUPT,
    "corrupt-one-bit": "malloc({pointer}): " + CORRUPT,
    "corrupt-8": "malloc({pointer}): " + CORRUPT,
    "corrupt-5000": "malloc({pointer}): " + CORRUPT,
    "corrupt-calloc": ["malloc({pointer}): " + CORRUPT, "calloc({pointer}): " + CORRUPT],
    "corrupt-remote": "malloc({pointer}): " + CORRUPT,
    "corrupt-trim": ["malloc({pointer}): " + CORRUPT, "malloc_trim({pointer}): " + CORRUPT],
    "corrupt-then-exit": "malloc({pointer}): " + CORRUPT,
    "sized-small": "free_sized({pointer}): " + SIZE,
    "sized-smaller": "free_sized({pointer}): " + SIZE,
    "sized-zero": "free_sized({pointer}): " + SIZE,
    "sized-small-as-large": "free_sized({pointer}): " + SIZE,
    "sized-large-as-small": "free_sized({pointer}): " + SIZE,
    "sized-large": "free_sized({pointer}): " + SIZE,
    "sized-huge": "free_sized({pointer}): " + SIZE,
    "sized-impossible": "free_sized({pointer}): " + SIZE,
    "sized-interior": "free_sized({pointer}): " + INTERIOR,
    "sized-stack": "free_sized({pointer}): " + FOREIGN,
    "sized-double": "free_sized({pointer}): " + DOUBLE,
    "aligned-sized-size": "free_aligned_sized({pointer}): " + SIZE,
    "aligned-sized-alignment": "free_aligned_sized({pointer}): " + ALIGN,
    "delete-size": "operator delete({pointer}): " + SIZE,
    "delete-array-size": "operator delete({pointer}): " + SIZE,
    "delete-large-size": "operator delete({pointer}): " + SIZE,
    "delete-aligned-size": "operator delete({pointer}): " + SIZE,
    "handler-declines": "free({pointer}): " + FOREIGN,
    "handler-removed": "free({pointer}): " + FOREIGN,
    "handler-misuses": "free({pointer}): " + FOREIGN,
}

# case: (LUCID_OPTIONS, lines on stderr, a word that stdout must have); the program ends with 0.
GOES_ON = {
    "handler-goes-on": ("", [], "six violations survived"),
    "handler-corrupt-goes-on": ("", [], "damage survived"),
    "survive": ("abort:0", ["free({pointer}): " + FOREIGN, "free({pointer}): " + INTERIOR,
                            "free({pointer}): " + DOUBLE], "survived"),
}

# case of misuse_hard.c: what stderr must be, as a regular expression, or the signal that ends it;
# the first word of its name gives the options.
OPTIONS = {"hard1": "harden:1", "hard2": "harden:2,guard_sample:1000000000"}  # no sample by chance
AT = ": block {block} of [0-9]+ bytes"
FAULT = signal.SIGSEGV
HARDENED = {
    "hard1-double-at-once": "free\\({pointer}\\): double free" + AT,
    "hard1-double-at-once-medium": "free\\({pointer}\\): double free" + AT,
    "hard1-double-at-once-large": "free\\({pointer}\\): double free",
    "hard1-double-waited-large": "free\\({pointer}\\): double free",
    "hard1-double-delayed": "free\\({pointer}\\): double free" + AT,
    "hard1-double-reused": "free\\({pointer}\\): double free" + AT,
    "hard1-double-remote": "free\\({pointer}\\): double free" + AT,
    "hard1-write-freed-small": "(malloc|free)\\({pointer}\\): write after free" + AT,
    "hard1-write-freed-first-byte": "(malloc|free)\\({pointer}\\): write after free" + AT,
    "hard1-write-freed-medium": "(malloc|free)\\({pointer}\\): write after free" + AT,
    "hard1-write-freed-large": FAULT,
    "hard1-read-freed-large": FAULT,
    "hard1-read-waited-large": FAULT,
    "hard1-overflow-zeros": "free\\({pointer}\\): overflow" + AT,
    "hard1-overflow-word": "free\\({pointer}\\): overflow" + AT,
    "hard1-overflow-guard": FAULT,
    "hard1-underflow": "free\\({pointer}\\): overflow: block 0x[0-9a-f]+ of [0-9]+ bytes",
    "hard1-read-behind-large": FAULT,
    "hard1-write-before-large": FAULT,
    "hard1-use-nothing": FAULT,
    "hard2-overflow-odd": "free\\({pointer}\\): overflow" + AT,
    "hard2-overflow-24": "free\\({pointer}\\): overflow" + AT,
    "hard2-overflow-medium": "free\\({pointer}\\): overflow" + AT,
    "hard2-write-freed-neighbour":
        "free\\(0x[0-9a-f]+\\): (write after free|overflow): block 0x[0-9a-f]+ of [0-9]+ bytes",
    "hard2-first": "read\\(0x[0-9a-f]+\\): access beyond the block" + AT + ".*",
    "hard2-double-delayed": "free\\({pointer}\\): double free" + AT,
}
TWO = OF_BLOCK.replace("{bytes}", "24")
GOES_ON |= {
    "hard1-stale": ("harden:1", [], "nothing stale"),
    "hard1-large-again": ("harden:1", [], "large blocks again"),
    "hard1-random-order": ("harden:1", [], "in random order"),
    "hard1-empty": ("harden:1,guard_zero:0", [], "empty blocks are blocks"),
    "hard1-goes-on": ("harden:1,abort:0", ["free({pointer}): double free" + TWO,
                                           "free({pointer}): overflow" + TWO,
                                           "malloc({pointer}): write after free" +
                                           OF_BLOCK.replace("{bytes}", "200")],
                      "went on"),
}

# Violations that go on: (LUCID_OPTIONS, regular expressions of the lines on stderr, in any order,
# those of the statistics left out). Lines that name a place must all name the same.
ANY = "0x[0-9a-f]+"
WRONG_SIZE = f"(free_sized|operator delete)\\({ANY}\\): size mismatch: block {ANY} of [0-9]+ bytes"
WRONG_ALIGNED = f"free_aligned_sized\\({ANY}\\): (size|alignment) mismatch: block {ANY} of .* bytes"


def times(line, most):
    """The lines of a violation that happened up to `most` times at one place."""
    return [line] + [f"{line}, {10 ** n} times at (?P<place>{ANY})"
                     for n in range(1, 10) if 10 ** n <= most]


SIZED = [WRONG_SIZE, f"{WRONG_SIZE}, 10 times at {ANY}"] + 2 * [
    WRONG_ALIGNED, f"(free_aligned_sized|operator delete)\\({ANY}\\): .*, 10 times at {ANY}"]
COUNTED = {
    "goes-on-sized": ("abort:0", SIZED),
    "goes-on-sized-remote": ("abort:0", times(WRONG_SIZE, 100)),
    "goes-on-sized-hard": ("abort:0,harden:1", SIZED),
    "goes-on-heaps": ("abort:0", times(f"lu_heap_free\\({ANY}\\): wrong heap", 11)),
    "goes-on-counted": ("abort:0", times(WRONG_SIZE, 12345)),
    "goes-on-stats": ("abort:0,stats:1", times(WRONG_SIZE, 12345) + ["  violations 12345"]),
    "goes-on-places": ("abort:0", 3 * [WRONG_SIZE]),
    "goes-on-kinds": ("abort:0", [WRONG_SIZE, f"free_sized\\({ANY}\\): double free: block .*",
                                  f"free_sized\\({ANY}\\): pointer not from lucid",
                                  f"free_sized\\({ANY}\\): interior pointer: block .*"]),
    "goes-on-threads": ("abort:0", times(WRONG_SIZE, 10000)),
    "goes-on-forked": ("abort:0", times(WRONG_SIZE, 10)),
    "goes-on-handler-told": ("", []),
    "goes-on-handler-frees": ("", []),
}


def options_of(case):
    """The LUCID_OPTIONS that a case wants."""
    if case in HARDENED:
        return OPTIONS[case.split("-")[0]]
    if case in COUNTED:
        return COUNTED[case][0]
    return GOES_ON[case][0] if case in GOES_ON else ""


def run(program, library, case):
    env = {k: v for k, v in os.environ.items() if k not in ("LUCID_OPTIONS", "LD_PRELOAD")}
    env["LD_PRELOAD"] = library
    if options_of(case):
        env["LUCID_OPTIONS"] = options_of(case)
    return subprocess.run([program, case], env=env, capture_output=True, text=True, timeout=60)


def facts_of(done):
    """What the program announced, a dictionary for each misuse."""
    return [dict(word.split("=") for word in line.split())
            for line in done.stdout.splitlines() if line.startswith("pointer=")]


def status_text(status):
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


def judge_abort(case, status, facts, stdout, lines):
    templates = ABORTS[case] if isinstance(ABORTS[case], list) else [ABORTS[case]]
    if not facts:
        return f"the program announced nothing, {status_text(status)}, stderr {lines}"
    expected = ["lucid: " + template.format(**facts[-1]) for template in templates]
    if "survived" in stdout:
        return f"not noticed; expected {expected[0]!r}"
    if len(lines) != 1 or lines[0] not in expected:
        return f"stderr is {lines}, expected {' or '.join(map(repr, expected))}; " \
               f"{status_text(status)}"
    if status != -signal.SIGABRT:
        return f"ended with {status_text(status)}, not SIGABRT"
    return None


def judge_hardened(case, status, facts, stdout, lines):
    want = HARDENED[case]
    if not facts:
        return f"the program announced nothing, {status_text(status)}, stderr {lines}"
    if case == "hard1-underflow" and status == -FAULT and not lines:
        return None  # the first block of its span: a guard is what lies before it
    if isinstance(want, signal.Signals):
        if status == -want and not lines:
            return None
        return f"{status_text(status)}, not {want.name}; stdout {stdout!r}, stderr {lines}"
    pattern = "lucid: " + re.sub(r"{(pointer|block)}", lambda m: facts[-1][m[1]], want)
    sampled = case == "hard2-first"  # then stacks follow, and the fault is the end
    if len(lines) != 1 and not sampled or not re.fullmatch(pattern, lines[0]):
        return f"stderr is {lines}, expected {pattern!r}; {status_text(status)}"
    if sampled:
        return None if status == -FAULT else f"ended with {status_text(status)}"
    return None if status == -signal.SIGABRT else f"ended with {status_text(status)}"


def judge_goes_on(case, status, facts, stdout, lines):
    _, templates, word = GOES_ON[case]
    if templates and len(facts) != len(templates):
        return f"{len(facts)} misuses announced, {status_text(status)}, stderr {lines}"
    expected = ["lucid: " + t.format(**fact) for t, fact in zip(templates, facts)]
    if lines != expected:
        return f"stderr is {lines}, expected {expected}; {status_text(status)}"
    if status != 0 or word not in stdout:
        return f"ended with {status_text(status)}, stdout {stdout!r}"
    return None


def judge_counted(case, status, _facts, stdout, lines):
    if status != 0 or "survived" not in stdout:
        return f"ended with {status_text(status)}, stdout {stdout!r}, stderr {lines[:9]}"
    other = "lucid (.*): statistics|lucid:   (?!violations)"
    left = [line for line in lines if not re.match(other, line)]
    places = set()
    for pattern in COUNTED[case][1]:
        matches = [match for line in left if (match := re.fullmatch("lucid: " + pattern, line))]
        if not matches:
            return f"no line {pattern!r} in {len(lines)} lines {lines[:9]}"
        left.remove(matches[0][0])
        places.add(matches[0].groupdict().get("place"))
    if left or len(places - {None}) > 1:
        return f"{len(left)} lines too many: {left[:9]}, or places: {places}"
    return None


def judge(case, done):
    """What is wrong with a run that ended (a CompletedProcess), or None."""
    by_kind = judge_abort if case in ABORTS else judge_goes_on
    if case in HARDENED:
        by_kind = judge_hardened
    if case in COUNTED:
        by_kind = judge_counted
    return by_kind(case, done.returncode, facts_of(done), done.stdout, done.stderr.splitlines())


def known_cases(program):
    """The cases of the program, which must be those of the tables."""
    known = subprocess.run([program, "--list"], capture_output=True, text=True, check=True)
    known = known.stdout.split()
    table = set(ABORTS) | set(GOES_ON) | set(HARDENED) | set(COUNTED)
    if set(known) != table:
        sys.exit(f"in the program or in the table only: {sorted(set(known) ^ table)}")
    return known


def is_of_group(case, group):
    return group == "--all" or re.match(rf"{re.escape(group)}(-|$)", case)


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, library, group = sys.argv[1:]
    if not os.path.exists(library):
        sys.exit(f"no library {library}")
    cases = [case for case in known_cases(program) if is_of_group(case, group)]
    if not cases:
        sys.exit(f"no case of group {group}")
    failures = 0
    for case in cases:
        try:
            wrong = judge(case, run(program, library, case))
        except subprocess.TimeoutExpired:
            wrong = "still running after 60 s"
        print(f"{'FAIL' if wrong else 'ok'}: {case}{': ' + wrong if wrong else ''}")
        failures += wrong is not None
    if failures:
        sys.exit(f"{failures} of {len(cases)} cases failed")


if __name__ == "__main__":
    main()
