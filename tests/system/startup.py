#!/usr/bin/env python3
"""What lucid costs a program that allocates once: system calls, and memory touched.

usage: startup.py ONCE LIBRARY EMPTY

ONCE runs with EMPTY (a library without contents) preloaded, on the C library's malloc, and with
LIBRARY preloaded. The system calls by which the loader maps a preloaded library (from opening it to
closing it, and mprotect inside it) do not count; of the others lucid may make 3 more. It may touch
64 KiB more of anonymous memory, its own relocated data included.
"""

import os
import re
import subprocess
import sys
import tempfile

CALLS_MORE = 3
KIB_MORE = 64


def clean_env():
    return {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LUCID_OPTIONS")}


def number(text):
    return int(text, 16) if text.startswith("0x") else int(text)


def calls_beyond_loading(once, library):
    """The system calls of a run as lines of text, without those that map the library."""
    with tempfile.NamedTemporaryFile(mode="r") as log:
        subprocess.run(["strace", "-o", log.name, "-E", f"LD_PRELOAD={library}", once, "silent"],
                       env=clean_env(), check=True)
        lines = log.read().splitlines()
    rest, ranges, fd = [], [], None
    for line in lines:
        if fd is None and line.startswith("openat(") and f'"{library}"' in line:
            fd = line.rsplit("=", 1)[1].strip()
            continue
        if fd is not None:
            mapped = re.match(r"mmap\(.*?, (\d+), .* = (0x[0-9a-f]+)$", line)
            if mapped:
                at = number(mapped[2])
                ranges.append((at, at + int(mapped[1])))
            if line.startswith(f"close({fd})"):
                fd = None
            continue
        inside = re.match(r"mprotect\((0x[0-9a-f]+),", line)
        if inside and any(a <= number(inside[1]) < b for a, b in ranges):
            continue
        if not line.startswith(("+++", "---")):
            rest.append(line)
    if not ranges:
        sys.exit(f"the trace does not show that {library} is loaded:\n" + "\n".join(lines))
    return rest


def touched(once, library):
    """Anonymous memory, resident memory (KiB) and minor faults: the least of five runs."""
    runs = []
    for _ in range(5):
        env = dict(clean_env(), LD_PRELOAD=library)
        done = subprocess.run([once], env=env, capture_output=True, text=True, check=True)
        runs.append({k: int(v) for k, v in (w.split("=") for w in done.stdout.split())})
    return {name: min(run[name] for run in runs) for name in runs[0]}


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    once, library, empty = sys.argv[1:]
    for path in (once, library, empty):
        if not os.path.exists(path):
            sys.exit(f"{path} is missing")
    base, ours = calls_beyond_loading(once, empty), calls_beyond_loading(once, library)
    base_memory, our_memory = touched(once, empty), touched(once, library)
    print(f"system calls: libc {len(base)}, lucid {len(ours)}, bound {len(base) + CALLS_MORE}")
    for name, unit in (("anonymous", "KiB"), ("rss", "KiB"), ("faults", "")):
        print(f"{name}: libc {base_memory[name]}, lucid {our_memory[name]} {unit}")
    failures = []
    if len(ours) > len(base) + CALLS_MORE:
        failures.append("too many system calls; those of lucid are:\n" + "\n".join(ours))
    if our_memory["anonymous"] > base_memory["anonymous"] + KIB_MORE:
        failures.append(f"more than {KIB_MORE} KiB touched beyond libc's")
    if failures:
        sys.exit("\n".join(failures))


if __name__ == "__main__":
    main()
