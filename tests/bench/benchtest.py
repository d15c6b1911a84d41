"""Shared parts of the tests of the benchmark harness.

CTest gives in the environment: LUCID_LIBRARY (liblucid.so) and LUCID_BENCH_PROGRAMS (where the
bench_ programs are). By hand, for example:

    LUCID_LIBRARY=build/release/liblucid.so LUCID_BENCH_PROGRAMS=build/release/bench \\
    python3 tests/bench/test_harness.py
"""

import os
import shutil
import sys
import tempfile
import unittest

BENCH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench")
sys.path.insert(0, BENCH)
PYTHON = "/usr/bin/python3"


def from_environment(variable, exists):
    path = os.environ.get(variable, "")
    if not exists(path):
        sys.exit(f"{variable}={path!r} does not exist; CTest sets it (see benchtest.py)")
    return os.path.realpath(path)


def library():
    return from_environment("LUCID_LIBRARY", os.path.isfile)


def programs():
    return from_environment("LUCID_BENCH_PROGRAMS", os.path.isdir)


class BenchTest(unittest.TestCase):
    def path(self, name, content=None):
        """A path in a directory of the test's own; the file is made if there is content."""
        if not hasattr(self, "directory"):
            self.directory = tempfile.mkdtemp(prefix="lucid-bench-test-")
            self.addCleanup(shutil.rmtree, self.directory)
        path = os.path.join(self.directory, name)
        if content is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
        return path


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
