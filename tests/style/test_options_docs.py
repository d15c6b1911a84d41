"""scripts/options-docs must find every way in which a document and the table of options can differ,
and put it right: each test spoils a copy and reads the message.
Usage: test_options_docs.py SOURCE-DIRECTORY"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1))
TABLE, README, MANUAL = "src/base/options.def", "README.md", "man/liblucid.3"
NEW_ROW = 'LU_OPTION(NEWEST, newest, BYTES, 3L << 10, 0, LONG_MAX, ANY_TIME, "bytes",\n' \
          '          "bytes of something new")\n'


class OptionsDocs(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = pathlib.Path(directory.name)
        shutil.copytree(SOURCE / "src/base", self.root / "src/base")
        shutil.copytree(SOURCE / "include", self.root / "include")
        (self.root / "man").mkdir()
        for name in README, MANUAL:
            shutil.copy(SOURCE / name, self.root / name)

    def run_script(self, *arguments):
        """Exit status and what was printed on standard error."""
        done = subprocess.run([SOURCE / "scripts/options-docs", "--root", self.root, *arguments],
                              text=True, capture_output=True, check=False)
        return done.returncode, done.stderr

    def change(self, name, old, new):
        path = self.root / name
        text = path.read_text(encoding="utf-8")
        self.assertEqual(text.count(old), 1, f"{name}: {old}")
        path.write_text(text.replace(old, new), encoding="utf-8")

    def assert_differs(self, *names):
        """The check says which differ and changes nothing; writing puts them right."""
        before = {name: (self.root / name).read_bytes() for name in (README, MANUAL)}
        status, errors = self.run_script("--check")
        self.assertEqual(status, 1)
        self.assertIn(f"{', '.join(names)} and src/base/options.def differ", errors)
        self.assertEqual(before, {name: (self.root / name).read_bytes() for name in before})
        self.assertEqual(self.run_script(), (0, ""))
        self.assertEqual(self.run_script("--check"), (0, ""))

    def assert_refused(self, message):
        for arguments in [], ["--check"]:
            status, errors = self.run_script(*arguments)
            self.assertEqual(status, 1)
            self.assertIn(message, errors)

    def test_same(self):
        self.assertEqual(self.run_script("--check"), (0, ""))

    def test_new_option(self):
        table = self.root / TABLE
        table.write_text(table.read_text(encoding="utf-8") + NEW_ROW, encoding="utf-8")
        self.assert_differs(README, MANUAL)
        self.assertIn("| `newest` | 3K | from 0 | bytes of something new |\n",
                      (self.root / README).read_text(encoding="utf-8"))
        self.assertIn(".It Cm newest Pq bytes, from 0; default 3K\nBytes of something new.\n",
                      (self.root / MANUAL).read_text(encoding="utf-8"))

    def test_default(self):
        self.change(TABLE, "NUMBER, 500, -1,", "NUMBER, 400, -1,")
        self.assert_differs(README, MANUAL)

    def test_range(self):
        self.change(TABLE, "0, 0, 255, ANY_TIME", "0, 0, 127, ANY_TIME")
        self.assert_differs(README, MANUAL)

    def test_when(self):
        self.change(TABLE, "0, 0, 255, ANY_TIME", "0, 0, 255, AT_START")
        self.assert_differs(README, MANUAL)

    def test_unit(self):
        self.change(TABLE, 'ANY_TIME, "heaps"', 'ANY_TIME, "threads"')
        self.assert_differs(MANUAL)

    def test_summary(self):
        self.change(TABLE, "heaps kept for threads to come", "heaps kept")
        self.assert_differs(README)

    def test_name(self):
        self.change(README, "| `perturb` |", "| `disturb` |")
        self.assert_differs(README)

    def test_missing_in_readme(self):
        path = self.root / README
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not line.startswith("| `abort`")),
                        encoding="utf-8")
        self.assert_differs(README)

    def test_default_in_manual(self):
        self.change(MANUAL, "default 500", "default 501")
        self.assert_differs(MANUAL)

    def test_removed_option(self):
        """The text of an option that is gone is somebody's to remove."""
        self.change(TABLE, "TOP_PAD, top_pad,", "TOP_PAD, bottom_pad,")
        self.assert_refused("man/liblucid.3: there is no option top_pad")

    def test_marks(self):
        self.change(README, "<!-- end of options -->\n", "")
        self.assert_refused("README.md: the marks")

    def test_bad_table(self):
        self.change(TABLE, "NUMBER, 500, -1,", "NUMMER, 500, -1,")
        self.assert_refused("src/base/options.def cannot be compiled")


unittest.main()
