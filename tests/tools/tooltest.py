"""Shared parts of the tests of the command `lucid`.

CTest gives in the environment: LUCID_COMMAND (the command), LUCID_LIBRARY (liblucid.so), and
MEMORY_CALLS (memory_calls.c compiled). By hand, for example:

    LUCID_COMMAND=build/release/lucid LUCID_LIBRARY=build/release/liblucid.so \\
    MEMORY_CALLS=build/release/tests/tools/memory_calls python3 tests/tools/test_run.py
"""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

# Not the caller's PATH: a wrapper script in front of python3 would be the program under test.
PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = "/usr/bin/python3"
COLOUR = re.compile(r"\033\[[0-9;]*m")


def required_file(variable):
    path = os.environ.get(variable, "")
    if not os.path.isfile(path):
        sys.exit(f"{variable}={path!r} is not a file; CTest sets it (see tooltest.py)")
    return os.path.realpath(path)


COMMAND = required_file("LUCID_COMMAND")
LIBRARY = required_file("LUCID_LIBRARY")
MEMORY_CALLS = required_file("MEMORY_CALLS")

for needed in (PYTHON, "/bin/sh", "/usr/bin/cat", "/usr/bin/grep"):
    if not os.path.exists(needed):
        sys.exit(f"{needed} is missing; the tests run it")


def environment(**changes):
    """A clean environment; a change to None removes a variable."""
    result = {"PATH": PATH, "HOME": "/", "LC_ALL": "C", "TERM": "xterm", "LUCID_LIBRARY": LIBRARY}
    result.update(changes)
    return {key: value for key, value in result.items() if value is not None}


class Result:
    def __init__(self, status, out, err):
        self.status = status
        self.out = out
        self.err = err

    def json(self):
        """The report of `run --json`, which is on stderr after whatever the child wrote there."""
        return json.loads(self.err)


def lucid(*arguments, stdin=subprocess.DEVNULL, command=COMMAND, **changes):
    """Run the command; text of stdout and stderr."""
    done = subprocess.run([command, *arguments], stdin=stdin, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment(**changes), timeout=120,
                          check=False)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def lucid_on_terminal(*arguments, **changes):
    """Run the command with stdout and stderr on a terminal; what it showed there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=theirs,
                               stderr=theirs, env=environment(**changes))
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not some:
            break
        shown += some
    os.close(ours)
    return Result(process.wait(timeout=120), shown.decode(), "")


class ToolTest(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lucid-tool-test-")
        self.addCleanup(shutil.rmtree, self.directory)

    def path(self, name, content=None):
        """A path in a directory of the test's own; the file is made if there is content."""
        path = os.path.join(self.directory, name)
        if content is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(content)
        return path

    def assert_status(self, result, status):
        self.assertEqual(result.status, status,
                         f"exit status\nstdout: {result.out}\nstderr: {result.err}")

    def assert_ratio(self, shown, a, b):
        """`shown` is a / b as JSON has it: null where b is 0, else close."""
        if b == 0:
            self.assertIsNone(shown)
        else:
            self.assertAlmostEqual(shown, a / b, delta=1e-5 * max(1.0, a / b))
