"""CPython's own test modules, every object a malloc block (PYTHONMALLOC=malloc).

Every single test's outcome is compared with its outcome on glibc's malloc.
"""

import glob
import os
import xml.etree.ElementTree as ElementTree

import debsource
import realtest

MODULES = ["test_dict", "test_list", "test_json", "test_re", "test_threading", "test_subprocess",
           "test_zlib"]
# test_sqlite3 lies outside of the installed package `test` (see debsource.py).
RUN_SQLITE = """
import sys, test
test.__path__.append(sys.argv.pop(1))
from test.libregrtest import main
main()
"""
SHOW_MAPS = """
import os, subprocess, sys
code = "import sys; sys.stdout.write(open('/proc/self/maps').read())"
exec(code)
subprocess.run([sys.executable, "-c", code], check=True)
assert os.environ["PYTHONMALLOC"] == "malloc"
"""


def outcomes(path):
    """{test: "ok" | "skipped" | "failed"} out of a JUnit file."""
    found = {}
    for case in ElementTree.parse(path).iter("testcase"):
        kinds = {child.tag for child in case}
        bad = kinds & {"error", "failure"}
        found[case.get("name")] = "failed" if bad else "skipped" if "skipped" in kinds else "ok"
    return found


class CPython(realtest.RealTest):
    def setUp(self):
        super().setUp()
        self.python = realtest.program("python3", "python3")
        self.env = {"PYTHONMALLOC": "malloc", "PYTHONDONTWRITEBYTECODE": "1"}

    def run_python(self, side, directory, *args, timeout=60, status=0):
        # Not traced: the loader's log would be an open file that test_subprocess finds.
        return side.run([self.python, *args], directory, env=self.env, timeout=timeout,
                        status=status, trace=False)

    def test_python_and_its_children_use_the_library(self):
        def work(side, directory):
            out = self.run_python(side, directory, "-c", SHOW_MAPS).out.decode()
            wanted = side.preload if side is realtest.LUCID else "/libc.so.6"
            self.assertEqual(out.count("[stack]"), 2)
            firsts = [line for line in out.splitlines()
                      if line.endswith(wanted) and line.split()[2] == "00000000"]
            self.assertEqual(len(firsts), 2, f"{wanted} in two processes")
            return True
        self.both(work)

    def compare(self, least, *args):
        """Run regrtest on both sides; at least `least` tests must pass, as many as on glibc."""
        def work(side, directory):
            report = os.path.join(directory, "report.xml")
            done = self.run_python(side, directory, *args, "--junit-xml", report, "--timeout",
                                   "100", "--tempdir", directory, timeout=220, status=None)
            self.assertTrue(os.path.exists(report), f"{side}: no report; output:\n"
                            f"{realtest.tail(done.out)}{realtest.tail(done.err)}")
            side.check_messages(done.out, args)  # of the workers
            return outcomes(report), realtest.tail(done.out, 6000)
        (glibc, _), (lucid, output) = self.both(work)
        worse = {name: lucid.get(name, "missing") for name, outcome in glibc.items()
                 if outcome != "failed" and lucid.get(name) != outcome}
        passed = sum(outcome == "ok" for outcome in lucid.values())
        print(f"{passed} of {len(lucid)} tests passed on lucid; failed on glibc:",
              [name for name, outcome in glibc.items() if outcome == "failed"])
        self.assertFalse(worse, f"{len(worse)} tests ended otherwise than on glibc: "
                         f"{sorted(worse.items())[:20]}; the output on lucid:\n{output}")
        self.assertGreaterEqual(passed, least)
        return lucid

    def test_modules(self):
        if not glob.glob("/usr/lib/python3.*/test/test_dict.py"):
            self.fail("CPython's tests are missing: apt-get install libpython3.11-testsuite")
        ran = self.compare(1000, "-m", "test", "-j2", *MODULES)
        for module in MODULES:
            self.assertTrue(any(f"test.{module}." in name for name in ran), module)

    def test_sqlite3_module(self):
        directory = debsource.sqlite_tests()
        parts = [os.path.basename(path)[:-len(".py")] for path in
                 sorted(glob.glob(os.path.join(directory, "test_sqlite3", "test_*.py")))]
        ran = self.compare(400, "-c", RUN_SQLITE, directory,
                           *["test_sqlite3." + part for part in parts])
        self.assertTrue(all("test.test_sqlite3." in name for name in ran))


if __name__ == "__main__":
    realtest.main()
