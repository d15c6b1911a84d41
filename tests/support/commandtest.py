"""What tests of programs share: files that CTest names in the environment, a program run to its
end, also on a terminal, and tests with a directory of their own.

A test in another directory finds this module by a line of its own:

    sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
"""

import collections
import fcntl
import functools
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

# Not the caller's PATH: a private python, node or git there is not the program under test.
PATH = "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = "/usr/bin/python3"
COLOUR = re.compile(r"\033\[[0-9;]*m")
SECONDS = 120  # that a program may take


def required(variable, exists, what):
    path = os.environ.get(variable, "")
    if not exists(path):
        sys.exit(f"{variable}={path!r} is not a {what}; CTest sets it (see CMakeLists.txt)")
    return os.path.realpath(path)


def required_file(variable):
    """The file that the variable names; without it there is no test to run."""
    return required(variable, os.path.isfile, "file")


def required_directory(variable):
    return required(variable, os.path.isdir, "directory")


def environment(**changes):
    """A clean environment; a change to None removes a variable."""
    result = {"PATH": PATH, "HOME": "/", "LC_ALL": "C", "TERM": "xterm", **changes}
    return {key: value for key, value in result.items() if value is not None}


Result = collections.namedtuple("Result", "status out err")


def run(argv, env, stdin=subprocess.DEVNULL):
    """Status, and text of stdout and stderr."""
    done = subprocess.run(argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=env, timeout=SECONDS, check=False)
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_on_terminal(argv, env, columns=0):
    """Stdout and stderr are a terminal, which says that it has so many columns (0: it does not
    say): what it showed there, lines ended as terminals do."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                               env=env)
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
    return Result(process.wait(timeout=SECONDS), shown.decode(), "")


class CommandTest(unittest.TestCase):
    @functools.cached_property
    def directory(self):
        """A directory of the test's own."""
        path = tempfile.mkdtemp(prefix="lucid-test-")
        self.addCleanup(shutil.rmtree, path)
        return path

    def path(self, name, content=None):
        """A path in that directory; the file is made if there is content, text or bytes."""
        path = os.path.join(self.directory, name)
        if content is not None:
            with open(path, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
        return path

    def assert_status(self, result, status):
        self.assertEqual(result.status, status,
                         f"exit status\nstdout: {result.out}\nstderr: {result.err}")
