#!/usr/bin/env python3
"""Resident memory after load has fallen, on lucid and on the C library's malloc.

usage: heap_load.py PROGRAM LIBRARY sparse|trim|idle

sparse  1 GB of small blocks, 95 % of it freed at random, 3,000 calls of light use, or more while
        memory goes back: at most 1.1 times what the C library keeps after malloc_trim(0), with
        nobody calling it on lucid
trim    256 MiB, all freed, malloc_trim(0): back to the start, but for 4 MiB
idle    256 MiB, all freed, 3,000 calls of light use: back to the start, but for 8 MiB
"""

import os
import subprocess
import sys


def measure(program, library, *arguments):
    """The figures of one run, in KiB."""
    env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LUCID_OPTIONS")}
    if library:
        env.update(LD_PRELOAD=library, CHECK_SYMBOL="lu_version")
    done = subprocess.run([program, *arguments], env=env, capture_output=True, text=True,
                          timeout=120)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)} on {library or 'libc'}: status {done.returncode}\n"
                 f"{done.stderr}")
    figures = dict(word.split("=") for word in done.stdout.split())
    print(f"{library or 'libc'}: {' '.join(arguments)}: {done.stdout.strip()} KiB")
    return {name: int(value) for name, value in figures.items()}


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    program, library, what = sys.argv[1:]
    if what == "sparse":
        ours = measure(program, library, "sparse", "1000", "wait")["after"]
        trimmed = measure(program, None, "sparse", "1000", "trim")["after"]
        bound, words = trimmed * 1.1, f"1.1 x libc after malloc_trim ({trimmed} KiB)"
    elif what in ("trim", "idle"):
        figures = measure(program, library, "all", "256", "trim" if what == "trim" else "wait")
        ours, slack = figures["after"], 4096 if what == "trim" else 8192
        bound, words = figures["start"] + slack, f"start + {slack} KiB"
    else:
        sys.exit(__doc__)
    print(f"resident: {ours} KiB, bound {bound:.0f} KiB: {words}")
    if ours > bound:
        sys.exit("too much memory stays resident")


if __name__ == "__main__":
    main()
