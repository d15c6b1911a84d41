"""`lucid compare`: rounds, figures, ratios, failures."""

import json
import statistics
import unittest

import tooltest
from tooltest import LIBRARY, PYTHON, lucid, lucid_on_terminal


def compare(*arguments, **keywords):
    return lucid("compare", *arguments, **keywords)


class Figures(tooltest.ToolTest):
    @classmethod
    def setUpClass(cls):
        result = compare("--json", "-a", f"glibc,lucid,twin={LIBRARY}", "-r", "4", "--", PYTHON,
                         "-c", "x = [bytes(i) for i in range(3000)]")
        cls.status = result.status
        cls.report = json.loads(result.out)
        cls.err = result.err

    def test_form(self):
        self.assertEqual(self.status, 0)
        self.assertEqual(self.err, "")
        self.assertEqual(self.report["schema"], "lucid-compare-1")
        self.assertEqual(self.report["repeats"], 4)
        names = [entry["allocator"] for entry in self.report["allocators"]]
        self.assertEqual(names, ["glibc", "lucid", "twin"])
        for entry in self.report["allocators"]:
            self.assertEqual(len(entry["runs"]), 4)

    def test_min_and_median(self):
        measures = {
            "wall_seconds": lambda run: run["wall_seconds"],
            "cpu_seconds": lambda run: run["user_seconds"] + run["system_seconds"],
            "peak_rss_bytes": lambda run: run["peak_rss_bytes"],
            "faults": lambda run: run["minor_faults"] + run["major_faults"],
        }
        for entry in self.report["allocators"]:
            for key, value in measures.items():
                values = [value(run) for run in entry["runs"]]
                median = statistics.median(values)
                with self.subTest(allocator=entry["allocator"], measure=key):
                    self.assertAlmostEqual(entry[key]["min"], min(values), delta=1e-6)
                    self.assertAlmostEqual(entry[key]["median"], median,
                                           delta=1e-6 * max(1.0, median))

    def test_ratios_are_to_the_first(self):
        first = self.report["allocators"][0]
        for entry in self.report["allocators"]:
            ratio = entry["ratio_to_first"]
            self.assert_ratio(ratio["wall_min"], entry["wall_seconds"]["min"],
                              first["wall_seconds"]["min"])
            self.assert_ratio(ratio["cpu_min"], entry["cpu_seconds"]["min"],
                              first["cpu_seconds"]["min"])
            self.assert_ratio(ratio["peak_rss_median"], entry["peak_rss_bytes"]["median"],
                              first["peak_rss_bytes"]["median"])
            self.assert_ratio(ratio["faults_median"], entry["faults"]["median"],
                              first["faults"]["median"])
        self.assertEqual(set(first["ratio_to_first"].values()), {1.0})


class Rounds(tooltest.ToolTest):
    def order(self, *arguments):
        """In which order allocators ran, by what they find preloaded."""
        log = self.path("log", "")
        result = compare(*arguments, "--", "sh", "-c", f'echo "$LD_PRELOAD" >> {log}')
        self.assert_status(result, 0)
        with open(log, encoding="utf-8") as file:
            return ["glibc" if line == "libc.so.6\n" else "lucid" for line in file]

    def test_are_interleaved_and_rotate(self):
        self.assertEqual(self.order("-a", "glibc,lucid", "-w", "0", "-r", "3"),
                         ["glibc", "lucid", "lucid", "glibc", "glibc", "lucid"])

    def test_one_warmup_and_five_repeats_by_default(self):
        self.assertEqual(len(self.order("-a", "glibc,lucid")), 2 * (1 + 5))

    def test_allocators_by_default(self):
        self.assertEqual(set(self.order("-r", "1", "-w", "0")), {"glibc", "lucid"})

    def test_each_run_has_the_whole_stdin(self):
        path = self.path("input", "abc\n")
        with open(path, "rb") as file:
            result = compare("-a", "glibc", "-r", "3", "--", "sh", "-c", "grep -q abc",
                             stdin=file)
        self.assert_status(result, 0)


class Text(tooltest.ToolTest):
    def test_table(self):
        result = compare("-a", "glibc,lucid", "-r", "1", "true")
        self.assert_status(result, 0)
        self.assertEqual(result.err, "")
        lines = result.out.splitlines()
        self.assertRegex(lines[2], r"^allocator +wall min +ratio +wall median +user\+sys +ratio "
                                   r"+peak RSS +ratio +faults +ratio$")
        self.assertRegex(lines[3], r"^glibc .* 1\.00 .* 1\.00 .* 1\.00 .* 1\.00$")
        self.assertRegex(lines[4], r"^lucid ")

    def test_to_a_file(self):
        report = self.path("report")
        result = compare("-a", "glibc", "-r", "1", "-o", report, "true")
        self.assertEqual((result.out, result.err), ("", ""))
        with open(report, encoding="utf-8") as file:
            self.assertIn("wall min", file.read())

    def test_colours_and_progress(self):
        arguments = ("compare", "-a", "glibc,lucid", "-r", "1", "true")
        shown = lucid_on_terminal(*arguments).out
        self.assertRegex(shown, tooltest.COLOUR)
        self.assertIn("timed round 1 of 1: lucid", shown)
        self.assertNotRegex(lucid_on_terminal(*arguments, NO_COLOR="1").out, tooltest.COLOUR)


class Failures(tooltest.ToolTest):
    def test_of_the_command(self):
        result = compare("-a", "glibc", "--", "sh", "-c", "exit 3")
        self.assert_status(result, 125)
        self.assertIn("exit status 3 on glibc", result.err)
        result = compare("-a", "glibc", "--", "sh", "-c", "kill -9 $$")
        self.assert_status(result, 125)
        self.assertIn("signal 9", result.err)

    def test_ignored(self):
        result = compare("-i", "-r", "1", "-a", "glibc", "--", "sh", "-c", "exit 3")
        self.assert_status(result, 0)

    def test_command_missing_or_no_program(self):
        self.assert_status(compare("-a", "glibc", "no-such-command"), 127)
        self.assert_status(compare("-a", "glibc", self.path("data", "x")), 126)

    def test_own(self):
        for arguments in (["-r", "0", "true"], ["-r", "many", "true"], ["-w", "-1", "true"],
                          ["-a", "glibc,glibc", "true"], ["-a", "glibc,", "true"], []):
            with self.subTest(arguments=arguments):
                self.assert_status(compare(*arguments), 125)


if __name__ == "__main__":
    unittest.main()
