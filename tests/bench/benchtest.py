"""Shared parts of the tests of the benchmark harness.

CTest gives in the environment: LUCID_LIBRARY (liblucid.so) and LUCID_BENCH_PROGRAMS (where the
bench_ programs are). By hand, for example:

    LUCID_LIBRARY=build/release/liblucid.so LUCID_BENCH_PROGRAMS=build/release/bench \\
    python3 tests/bench/test_harness.py
"""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
BENCH = os.path.join(HERE, "..", "..", "bench")
sys.path[:0] = [BENCH, os.path.join(HERE, "..", "support")]

from commandtest import (PYTHON, CommandTest as BenchTest, required_directory,  # noqa: E402,F401
                         required_file)


def library():
    return required_file("LUCID_LIBRARY")


def programs():
    return required_directory("LUCID_BENCH_PROGRAMS")


def a_round(seconds, peak, **others):
    """What one run of a program gives."""
    return {"seconds": seconds, "peak_rss": peak, "final_rss": peak // 2, "mean_rss": peak,
            "minor_faults": 100, "major_faults": 0, "mappings": 20, **others}


def a_document(rows, group="real", **about):
    """A result with rows, row -> allocator -> rounds."""
    names = list(dict.fromkeys(name for by_name in rows.values() for name in by_name))
    programs_ = {row: {"group": group, "sha256": "5", "allocators": by_name}
                 for row, by_name in rows.items()}
    return {"schema": "lucid-bench-2", "date": "2026-01-01", "arguments": [],
            "machine": {"cpu": "C", "processors": 2}, "scale": 1.0, "base": names[0],
            "repeats": 2, "allocators": {name: {"version": "1.0"} for name in names},
            "programs": programs_, "syscalls": {}, "syscalls_all": {}, "failures": {},
            "summary": {}, **about}
