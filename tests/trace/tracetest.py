"""Shared parts of the tests of traces: programs, recording, and a trace as Python sees it.

CTest gives LUCID_COMMAND, LUCID_LIBRARY, TRACE_CALLS (calls.c) and TRACE_OPERATORS (operators.cc).
"""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import commandtest  # noqa: E402
from commandtest import PYTHON, required_file  # noqa: E402,F401

COMMAND = required_file("LUCID_COMMAND")
LIBRARY = required_file("LUCID_LIBRARY")
CALLS = required_file("TRACE_CALLS")
OPERATORS = required_file("TRACE_OPERATORS")


def environment(**changes):
    return commandtest.environment(**{"LUCID_LIBRARY": LIBRARY, **changes})


def lucid(*arguments, **changes):
    return commandtest.run([COMMAND, *arguments], environment(**changes))


class TraceTest(commandtest.CommandTest):
    def record(self, *command, options=(), name="trace", status=0, **changes):
        path = self.path(name)
        result = lucid("record", "-o", path, *options, "--", *command, **changes)
        self.assert_status(result, status)
        return path

    def info(self, path):
        result = lucid("trace", "info", "--json", path)
        self.assert_status(result, 0)
        report = json.loads(result.out)
        self.assertEqual(report["schema"], "lucid-trace-info-1")
        return report

    def events(self, path):
        result = lucid("trace", "dump", "--json", path)
        self.assert_status(result, 0)
        return [json.loads(line) for line in result.out.splitlines()]

    def assert_consistent(self, events):
        """Blocks appear once, in order, and go once."""
        live, count = {}, 0
        for event in events:
            kind = event["kind"]
            if kind in ("free", "resize"):
                gone = event["old" if kind == "resize" else "block"]
                self.assertIn(gone, live, event)
                del live[gone]
            if kind in ("alloc", "resize"):
                self.assertEqual(event["block"], count, event)
                live[event["block"]] = event["size"]
                count += 1
        return live
