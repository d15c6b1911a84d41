"""The checks of bench/callgrind.py and bench/cachegrind.py find what they are for.

    test_counts.py BENCH LIBRARY PROGRAM
"""

import contextlib
import copy
import io
import json
import os
import sys
import tempfile
import unittest

BENCH, LIBRARY, PROGRAM = sys.argv[1:4]
sys.path.insert(0, BENCH)

import cachegrind  # noqa: E402
import callgrind  # noqa: E402
import peers  # noqa: E402
import valgrind  # noqa: E402

FAST = ("pair", "sized", "new")


class Differences(unittest.TestCase):
    def setUp(self):
        self.stored = valgrind.load(callgrind.Instructions())
        self.rows = copy.deepcopy(self.stored["rows"])

    def faults(self):
        return valgrind.differences(self.stored, self.rows)[0]

    def test_the_same_is_fine(self):
        self.assertEqual(valgrind.differences(self.stored, self.rows), ([], []))

    def test_one_instruction_more_is_found(self):
        for row, figures in self.stored["rows"].items():
            if row.split()[0] not in FAST:
                continue
            for name in figures:
                with self.subTest(row=row, name=name):
                    self.rows[row][name] += 1
                    self.assertEqual(len(self.faults()), 1)
                    self.assertIn(f"{row}: {name} ", self.faults()[0])
                    self.rows[row][name] -= 1

    def test_one_less_is_a_gain(self):
        self.rows["pair 32"]["free"] -= 1
        faults, gains = valgrind.differences(self.stored, self.rows)
        self.assertEqual(faults, [])
        self.assertIn("pair 32: free", gains[0])

    def test_rows_that_come_and_go_are_found(self):
        self.rows["pair 33"] = self.rows.pop("pair 32")
        self.assertEqual(len(self.faults()), 2)

    def test_figures_that_come_and_go_are_found(self):
        del self.rows["pair 32"]["total"]
        self.assertEqual(len(self.faults()), 1)

    def test_every_miss_is_stored_with_a_small_slack(self):
        stored = valgrind.load(cachegrind.Misses())
        self.assertLessEqual(stored["slack"]["share"], 0.05)
        self.assertEqual(list(stored["rows"]), cachegrind.Misses().rows())
        for row, figures in stored["rows"].items():
            self.assertEqual(set(figures), set(cachegrind.FIGURES), row)
            self.assertGreater(figures["D1 misses"], 0, row)


class Check(unittest.TestCase):
    """The whole way, with one row and a file of stored figures of its own."""

    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="lucid-counts-test-")
        self.addCleanup(self.directory.cleanup)
        self.counter = callgrind.Instructions()
        self.counter.expected = os.path.join(self.directory.name, "expected.json")
        self.counter.rows = lambda: ["pair 32"]
        lucid = peers.Allocator("lucid", LIBRARY)
        self.rows = valgrind.measure_all(self.counter, PROGRAM, [lucid])["lucid"]
        with contextlib.redirect_stdout(io.StringIO()):
            valgrind.write(self.counter, self.rows, LIBRARY)

    def store(self, change):
        with open(self.counter.expected, encoding="utf-8") as file:
            stored = json.load(file)
        change(stored)
        with open(self.counter.expected, "w", encoding="utf-8") as file:
            json.dump(stored, file)

    def check(self):
        """The verdict, and what was said to stdout and stderr."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            fine = valgrind.check(self.counter, self.rows, LIBRARY)
        return fine, out.getvalue(), err.getvalue()

    def test_what_was_written_passes(self):
        self.assertEqual(self.check(), (True, "", ""))

    def test_worse_fails_and_says_what_to_do(self):
        def change(stored):
            stored["rows"]["pair 32"]["malloc"] -= 1
            stored["made_with"]["compiler"] = "another compiler"
        self.store(change)
        fine, _, err = self.check()
        self.assertFalse(fine)
        for part in ("pair 32: malloc", "bench/counts.py --write", "another compiler"):
            self.assertIn(part, err)

    def test_better_is_said_and_passes(self):
        self.store(lambda stored: stored["rows"]["pair 32"].update(malloc=1000))
        fine, out, err = self.check()
        self.assertTrue(fine)
        self.assertEqual(err, "")
        self.assertIn("pair 32: malloc", out)

    def test_writing_keeps_the_slack(self):
        self.store(lambda stored: stored["slack"].update(least=0.25))
        with contextlib.redirect_stdout(io.StringIO()):
            valgrind.write(self.counter, self.rows, LIBRARY)
        self.assertEqual(valgrind.load(self.counter)["slack"]["least"], 0.25)

    def test_a_missing_or_foreign_file_ends_the_check(self):
        self.store(lambda stored: stored.update(schema="other"))
        with self.assertRaisesRegex(SystemExit, "--write"):
            valgrind.load(self.counter)
        os.remove(self.counter.expected)
        with self.assertRaisesRegex(SystemExit, "--write"):
            valgrind.load(self.counter)

    def test_a_program_that_fails_is_a_failure(self):
        self.counter.rows = lambda: ["nonsense 32"]
        with contextlib.redirect_stderr(io.StringIO()) as err:
            rows = valgrind.measure_all(self.counter, PROGRAM,
                                        [peers.Allocator("lucid", LIBRARY)])["lucid"]
        self.assertEqual(rows, {"nonsense 32": None})
        self.assertIn("usage", err.getvalue())


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
