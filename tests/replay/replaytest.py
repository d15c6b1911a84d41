"""Shared parts of the tests of `lucid replay`; see tooltest.py for how they are run.

CTest also gives TRACES (the directory of the traces) and BROKEN_MALLOC (broken_malloc.c compiled).
"""

import json
import os
import sys

import tooltest
from commandtest import required_directory, required_file  # found by tooltest

POLICIES = ("kr", "first", "next", "best", "best_tree", "worst", "buddy", "slab", "dl", "pt")
SIMULATED = (*POLICIES, "lucid")
TRACES = required_directory("TRACES")
BROKEN_MALLOC = required_file("BROKEN_MALLOC")


def trace_path(name):
    path = os.path.join(TRACES, name)
    if not os.path.isfile(path):
        sys.exit(f"{path} is missing")
    return path


def rep(ids, operations):
    """The text of a malloc-lab trace."""
    return "\n".join(["0", str(ids), str(len(operations)), "1", *operations, ""])


def without_time(report):
    """What must be the same at every replay on simulated allocators."""
    for allocator in report["results"]["allocators"]:
        del allocator["seconds"]
    report["sections"] = [s for s in report["sections"] if s.get("title") != "Time"]
    return report


class ReplayTest(tooltest.ToolTest):
    def replay(self, trace, *allocators, arguments=(), status=0):
        """The report as JSON."""
        result = tooltest.lucid("replay", trace, "-a", ",".join(allocators), "--json", *arguments)
        self.assert_status(result, status)
        return json.loads(result.out)

    def replay_one(self, trace, allocator, *arguments):
        """What `results` has of the one allocator."""
        report = self.replay(trace, allocator, arguments=["--frames", "0", *arguments])
        self.assertEqual(len(report["results"]["allocators"]), 1)
        return report["results"]["allocators"][0]
