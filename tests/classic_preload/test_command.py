"""The command on the classic allocators: `lucid run -a NAME` finds each, the program runs on the
process's real break, and the libraries show the malloc names and nothing else.

CTest gives LUCID_COMMAND, LUCID_CLASSICS (the names, comma-separated) and NM.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

COMMAND = pathlib.Path(os.environ["LUCID_COMMAND"])
NAMES = os.environ["LUCID_CLASSICS"].split(",")
EXPORTED = pathlib.Path(__file__).parent.parent / "package/exported.txt"
PROGRAM = "lines = [str(i) * 3 for i in range(20000)]; print(sum(map(len, lines)))"
BAD_INPUT = 2


def lucid(*arguments):
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/", "LC_ALL": "C"}
    return subprocess.run([COMMAND, *arguments], env=env, stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=100, check=False)


def library(name):
    return COMMAND.parent / "classic" / f"liblucid-{name}.so"


class Command(unittest.TestCase):
    def test_names(self):
        """The list is that of the source, and the help names them all."""
        registry = pathlib.Path(__file__).parent.parent.parent / "classic/registry.c"
        for name in NAMES:
            self.assertIn(f"&lu__policy_{name},", registry.read_text())
        self.assertEqual(registry.read_text().count("&lu__policy_"), len(NAMES))
        for command in "run", "compare":
            words = re.findall(r"\w+", lucid(command, "--help").stdout)
            for name in NAMES:
                self.assertIn(name, words, f"lucid {command} --help")

    def test_run(self):
        for name in NAMES:
            with self.subTest(name=name):
                done = lucid("run", "-a", name, "--", "true")
                self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
                done = lucid("run", "-a", name, "--", "/usr/bin/cat", "/proc/self/maps")
                self.assertIn(f"{library(name)}\n", done.stdout)
                self.assertIn("[heap]\n", done.stdout)

    def test_break_moves(self):
        """More than libc's own question where the break is."""
        for name in NAMES:
            with self.subTest(name=name):
                done = lucid("run", "-a", name, "--syscalls", "--json", "--", "/usr/bin/python3",
                             "-I", "-c", PROGRAM)
                self.assertEqual(done.returncode, 0, done.stderr)
                run = json.loads(done.stderr)["run"]
                self.assertEqual(run["library"], str(library(name)))
                self.assertGreaterEqual(run["memory_calls"]["brk"], 4, run["memory_calls"])

    def test_compare(self):
        with tempfile.TemporaryDirectory() as directory:
            done = lucid("compare", "-a", "glibc,kr,pt", "-r", "2", "--json", "-o",
                         os.path.join(directory, "report"), "--", "/usr/bin/cat", "/dev/null")
            self.assertEqual(done.returncode, 0, done.stderr)
            text = pathlib.Path(directory, "report").read_text()
            for name in "kr", "pt":
                self.assertIn(str(library(name)), text)

    def test_unknown(self):
        done = lucid("run", "-a", "krr", "--", "true")
        self.assertEqual(done.returncode, BAD_INPUT)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertIn("'krr'", done.stderr)

    def test_symbols(self):
        lines = EXPORTED.read_text().splitlines()
        wanted = {line for line in lines
                  if line and not line.startswith(("#", "lu_", "_Z"))} - {"dlopen"}
        self.assertIn("malloc", wanted)
        for name in NAMES:
            out = subprocess.run([os.environ["NM"], "-D", "--defined-only", library(name)],
                                 capture_output=True, text=True, check=True).stdout
            found = {line.split()[-1].split("@")[0] for line in out.splitlines()}
            self.assertEqual(found, wanted, name)


if __name__ == "__main__":
    if not os.access("/usr/bin/strace", os.X_OK):
        sys.exit("/usr/bin/strace is missing (Debian package strace)")
    unittest.main(verbosity=2)
