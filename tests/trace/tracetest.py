"""Shared parts of the tests of traces: programs, recording, and a trace as Python sees it.

CTest gives LUCID_COMMAND, LUCID_LIBRARY, TRACE_CALLS (calls.c) and TRACE_OPERATORS (operators.cc).
"""

import collections
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = "/usr/bin/python3"


def required_file(variable):
    path = os.environ.get(variable, "")
    if not os.path.isfile(path):
        sys.exit(f"{variable}={path!r} is not a file; CTest sets it (see tracetest.py)")
    return os.path.realpath(path)


COMMAND = required_file("LUCID_COMMAND")
LIBRARY = required_file("LUCID_LIBRARY")
CALLS = required_file("TRACE_CALLS")
OPERATORS = required_file("TRACE_OPERATORS")

Result = collections.namedtuple("Result", "status out err")


def environment(**changes):
    return {"PATH": PATH, "HOME": "/", "LC_ALL": "C", "LUCID_LIBRARY": LIBRARY, **changes}


def lucid(*arguments, **changes):
    done = subprocess.run([COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment(**changes), timeout=120,
                          check=False)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


class TraceTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lucid-trace-test-")
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name, content=None):
        path = os.path.join(self.directory, name)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content)
        return path

    def assert_status(self, result, status):
        self.assertEqual(result.status, status, f"exit status; {result.out}\n{result.err}")

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
