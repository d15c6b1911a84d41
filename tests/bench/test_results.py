"""What is read and kept: metrics, counted system calls, saved results, tables, plots."""

import contextlib
import copy
import io
import json
import os
import unittest
import xml.etree.ElementTree

from benchtest import BenchTest, a_document, a_round

import plot
import programs
import results
import syscalls
import tables
from launch import Failed

SVG = "{http://www.w3.org/2000/svg}"
STRACE = """\
strace: Process 5 attached
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000120          12        10           mmap
 30.00    0.000060           3        20        20 openat
  5.00    0.000010           1         7           madvise
  0.00    0.000000           0         1         1 access
------ ----------- ----------- --------- --------- ----------------
100.00    0.000200           5        38        21 total
"""


class Metric(BenchTest):
    def test_wall_clock(self):
        self.assertEqual(programs.Metric("").figure("anything", 1.5), 1.5)

    def test_time(self):
        metric = programs.Metric("time:relative time: ([0-9.]+)s")
        self.assertEqual(metric.figure("x\nrelative time: 2.25s\n", 9), 2.25)

    def test_rate(self):
        metric = programs.Metric("rate:2e6:done ([0-9]+) ops: good")
        self.assertEqual(metric.figure("done 4000000 ops: good", 9), 0.5)

    def test_nothing_printed(self):
        with self.assertRaises(Failed):
            programs.Metric("time:t=([0-9]+)").figure("t=x", 1)

    def test_bad_form(self):
        for text in ("seconds", "time:", "rate:([0-9])", "rate:x:([0-9])", "time:no group"):
            with self.subTest(text), self.assertRaises(ValueError):
                programs.Metric(text)

    def test_tests_file(self):
        path = self.path("tests", "# comment\n\n  # another\na|/|true|\nb|/tmp|x 1|time:(.|x)\n")
        self.assertEqual(programs.read_tests(path), [["a", "/", "true", ""],
                                                     ["b", "/tmp", "x 1", "time:(.|x)"]])
        with self.assertRaises(ValueError):
            programs.read_tests(self.path("bad", "a|true\n"))


class Syscalls(BenchTest):
    def test_parse(self):
        counts = syscalls.parse(STRACE)
        self.assertEqual(counts, {"mmap": 10, "openat": 20, "madvise": 7, "access": 1})
        self.assertEqual(syscalls.of_memory(counts), 17)

    def test_parse_nothing(self):
        self.assertEqual(syscalls.parse("strace: cannot\n"), {})


def two_allocators(time=1.0):
    return a_document({row: {"glibc": [a_round(time, 100 << 20), a_round(time, 100 << 20)],
                             "lucid": [a_round(time / 2, 90 << 20), a_round(time, 90 << 20)]}
                       for row in ("alpha", "beta")})


class Merging(BenchTest):
    def test_adds_rounds_and_rows(self):
        document, other = two_allocators(), two_allocators(0.5)
        other["programs"]["gamma"] = other["programs"].pop("beta")
        results.merge(document, other)
        lengths = {row: len(document["programs"][row]["allocators"]["lucid"])
                   for row in document["programs"]}
        self.assertEqual(lengths, {"alpha": 4, "beta": 2, "gamma": 2})
        self.assertEqual(document["repeats"], 4)

    def test_a_failure_takes_the_figures(self):
        document, other = two_allocators(), two_allocators()
        other["failures"] = {"alpha": {"lucid": "ended"}}
        del other["programs"]["alpha"]["allocators"]["lucid"]
        results.merge(document, other)
        self.assertNotIn("lucid", document["programs"]["alpha"]["allocators"])

    def test_refuses_what_differs(self):
        changes = {
            "machine: cpu": lambda other: other["machine"].update(cpu="D"),
            "allocators: lucid": lambda other: other["allocators"]["lucid"].update(version="2"),
            "allocators: new": lambda other: other["allocators"].update(new={}),
            "scale": lambda other: other.update(scale=0.5),
            "program beta: sha256": lambda other: other["programs"]["beta"].update(sha256="6"),
        }
        for what, change in changes.items():
            other = two_allocators()
            change(other)
            with self.subTest(what), self.assertRaisesRegex(results.Mismatch, what):
                results.merge(two_allocators(), other)

    def test_save_and_load(self):
        path = self.path("result.json")
        results.save(two_allocators(), path)
        self.assertEqual(results.load(path), two_allocators())
        for text in ("{}", "[]", "no JSON", '{"schema": "lucid-bench-1"}'):
            with self.subTest(text), self.assertRaises(SystemExit):
                results.load(self.path("bad.json", text))


class Tables(BenchTest):
    def setUp(self):
        self.document = two_allocators()
        self.document["failures"] = {"beta": {"lucid": "ended badly"}}
        del self.document["programs"]["beta"]["allocators"]["lucid"]
        self.document["syscalls"] = {"alpha": {"glibc": 12}}
        tables.add_summary(self.document)

    def test_text(self):
        text = tables.text(self.document)
        self.assertRegex(text, r"\nalpha +1\.000 +100\.0 +50\.0 +0\.50 0\.90 0\.90\n")
        self.assertRegex(text, r"\nbeta +1\.000 .* failed\n")
        self.assertRegex(text, r"\nlucid +0\.500 \[0\.500, 1\.000\] +0\.900 \[0\.900, 0\.900\]")
        self.assertRegex(text, r"\nalpha +12 +-\n")
        self.assertIn("failed: beta on lucid: ended badly", text)
        self.assertIn("left out, as not measured on all: beta", text)

    def test_markdown(self):
        lines = tables.markdown(self.document).splitlines()
        self.assertEqual(lines[:4], ["| program | glibc | lucid |", "|---|---|---|",
                                     "| alpha | 1.00 / 100.0 | 0.50 / 90.0 |",
                                     "| beta | 1.00 / 100.0 | failed |"])
        self.assertEqual(lines[4], "| **time, real programs** (1 rows) | 1.000 | "
                                   "0.500 (0.50-1.00) |")

    def test_summary_is_json(self):
        again = json.loads(json.dumps(self.document["summary"]))
        self.assertEqual(again["groups"]["real"]["allocators"]["lucid"]["time"]["mean"], 0.5)


def with_curves():
    document = two_allocators()
    for name, by_name in (("scaling", ("glibc", "lucid")), ("growth-heap", ("glibc", "lucid")),
                          ("growth-bump", ("glibc",))):
        points = [{"threads": n, "ops_per_second": 1e7 * n, "live": 10 ** n, "ns_per_op": 9.0 * n}
                  for n in (1, 2, 4)]
        document["programs"][name] = {
            "group": "synthetic", "sha256": "7",
            "allocators": {each: [a_round(1, 100, points=points)] for each in by_name}}
    document["programs"]["growth-bump"]["independent"] = True
    return document


class Plots(BenchTest):
    def draw(self, document, name):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return plot.draw_all(document, "glibc", None, self.path(name))

    def test_well_formed_and_repeatable(self):
        paths = self.draw(with_curves(), "one")
        self.assertEqual([os.path.basename(path) for path in paths],
                         ["time-memory.svg", "scaling.svg", "growth.svg"])
        for path, again in zip(paths, self.draw(copy.deepcopy(with_curves()), "two")):
            with open(path, "rb") as file:
                content = file.read()
            with open(again, "rb") as file:
                self.assertEqual(content, file.read(), path)
            self.assertLess(len(content), 100000)
            root = xml.etree.ElementTree.fromstring(content)
            self.assertEqual(root.tag, SVG + "svg")
            texts = ["".join(each.itertext()) for each in root.iter(SVG + "text")]
            self.assertIn("lucid", texts)
            self.assertIn("glibc", texts)

    def test_what_is_missing_is_not_drawn(self):
        paths = self.draw(two_allocators(), "some")
        self.assertEqual([os.path.basename(path) for path in paths], ["time-memory.svg"])

    def test_curve_takes_the_best_round(self):
        rounds = [{"points": [{"x": 2, "y": 5}, {"x": 1, "y": 7}]}, {"points": [{"x": 2, "y": 4}]},
                  {"seconds": 1}]
        self.assertEqual(list(plot.curve(rounds, "x", "y", min).items()), [(1, 7), (2, 4)])


if __name__ == "__main__":
    unittest.main(verbosity=2)
