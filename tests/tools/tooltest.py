"""Shared parts of the tests of the command `lucid`.

CTest gives in the environment: LUCID_COMMAND (the command), LUCID_LIBRARY (liblucid.so), and
MEMORY_CALLS (memory_calls.c compiled). By hand, for example:

    LUCID_COMMAND=build/release/lucid LUCID_LIBRARY=build/release/liblucid.so \\
    MEMORY_CALLS=build/release/tests/tools/memory_calls python3 tests/tools/test_run.py
"""

import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import commandtest  # noqa: E402
from commandtest import COLOUR, PATH, PYTHON, required_file  # noqa: E402,F401

COMMAND = required_file("LUCID_COMMAND")
LIBRARY = required_file("LUCID_LIBRARY")
MEMORY_CALLS = required_file("MEMORY_CALLS")

for needed in (PYTHON, "/bin/sh", "/usr/bin/cat", "/usr/bin/grep"):
    if not os.path.exists(needed):
        sys.exit(f"{needed} is missing; the tests run it")


def environment(**changes):
    """A clean environment; a change to None removes a variable."""
    return commandtest.environment(**{"LUCID_LIBRARY": LIBRARY, **changes})


class Result(commandtest.Result):
    def json(self):
        """The report of `run --json`, which is on stderr after whatever the child wrote there."""
        return json.loads(self.err)


def lucid(*arguments, stdin=subprocess.DEVNULL, command=COMMAND, **changes):
    """Run the command; text of stdout and stderr."""
    return Result(*commandtest.run([command, *arguments], environment(**changes), stdin))


def lucid_on_terminal(*arguments, **changes):
    """Run the command with stdout and stderr on a terminal; what it showed there."""
    return Result(*commandtest.run_on_terminal([COMMAND, *arguments], environment(**changes)))


class ToolTest(commandtest.CommandTest):
    def assert_ratio(self, shown, a, b):
        """`shown` is a / b as JSON has it: null where b is 0, else close."""
        if b == 0:
            self.assertIsNone(shown)
        else:
            self.assertAlmostEqual(shown, a / b, delta=1e-5 * max(1.0, a / b))
