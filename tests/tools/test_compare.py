"""`lucid compare`: rounds, figures, ratios, samples, several commands, plots, failures."""

import json
import os
import statistics
import unittest
import xml.etree.ElementTree

import tooltest
from tooltest import LIBRARY, PYTHON, lucid, lucid_on_terminal


def compare(*arguments, **keywords):
    return lucid("compare", *arguments, **keywords)


MEASURES = {
    "wall_seconds": lambda run: run["wall_seconds"],
    "cpu_seconds": lambda run: run["user_seconds"] + run["system_seconds"],
    "peak_rss_bytes": lambda run: run["peak_rss_bytes"],
    "mean_rss_bytes": lambda run: run["mean_rss_bytes"],
    "final_rss_bytes": lambda run: run["final_rss_bytes"],
    "faults": lambda run: run["minor_faults"] + run["major_faults"],
}
RATIOS = {
    "wall_min": ("wall_seconds", "min"),
    "wall_median": ("wall_seconds", "median"),
    "cpu_min": ("cpu_seconds", "min"),
    "peak_rss_median": ("peak_rss_bytes", "median"),
    "mean_rss_median": ("mean_rss_bytes", "median"),
    "final_rss_median": ("final_rss_bytes", "median"),
    "faults_median": ("faults", "median"),
}
# Long enough to be sampled.
WORK = "x = [bytes(i) for i in range(3000)]\nimport time\ntime.sleep(0.05)"


class Figures(tooltest.ToolTest):
    @classmethod
    def setUpClass(cls):
        result = compare("--json", "-a", f"glibc,lucid,twin={LIBRARY}", "-r", "4", "--", PYTHON,
                         "-c", WORK)
        cls.status = result.status
        cls.report = json.loads(result.out)
        cls.allocators = cls.report["commands"][0]["allocators"]
        cls.err = result.err

    def test_form(self):
        self.assertEqual(self.status, 0)
        self.assertEqual(self.err, "")
        self.assertEqual(self.report["schema"], "lucid-compare-2")
        self.assertEqual((self.report["repeats"], self.report["warmups"]), (4, 1))
        self.assertEqual([command["command"] for command in self.report["commands"]],
                         [[PYTHON, "-c", WORK]])
        for entries in (self.allocators, self.report["summary"]):
            self.assertEqual([entry["allocator"] for entry in entries], ["glibc", "lucid", "twin"])
        for entry in self.allocators:
            self.assertEqual(len(entry["runs"]), 4)
            self.assertIsNone(entry["syscalls"])

    def test_min_and_median(self):
        for entry in self.allocators:
            for key, value in MEASURES.items():
                values = [value(run) for run in entry["runs"]]
                median = statistics.median(values)
                with self.subTest(allocator=entry["allocator"], measure=key):
                    self.assertAlmostEqual(entry[key]["min"], min(values), delta=1e-6)
                    self.assertAlmostEqual(entry[key]["median"], median,
                                           delta=1e-6 * max(1.0, median))

    def test_ratios_are_to_the_first(self):
        first = self.allocators[0]
        for entry in self.allocators:
            for name, (key, figure) in RATIOS.items():
                with self.subTest(allocator=entry["allocator"], ratio=name):
                    self.assert_ratio(entry["ratio_to_first"][name], entry[key][figure],
                                      first[key][figure])
        self.assertEqual({first["ratio_to_first"][name] for name in RATIOS}, {1.0})
        self.assertEqual(first["ratio_to_first"]["wall_interval"], [1.0, 1.0])

    def test_interval_is_within_what_was_measured(self):
        base = [run["wall_seconds"] for run in self.allocators[0]["runs"]]
        for entry in self.allocators[1:]:
            values = [run["wall_seconds"] for run in entry["runs"]]
            low, high = entry["ratio_to_first"]["wall_interval"]
            self.assertLess(low, high)
            self.assertGreaterEqual(low, min(values) / max(base) * 0.9999)
            self.assertLessEqual(high, max(values) / min(base) * 1.0001)

    def test_summary_of_one_command_is_that_command(self):
        for entry, summary in zip(self.allocators, self.report["summary"]):
            ratio = entry["ratio_to_first"]
            for name in RATIOS:
                self.assert_ratio(summary["geometric_mean"][name], ratio[name], 1)
            self.assertEqual(summary["geometric_mean"]["wall_interval"], ratio["wall_interval"])
            self.assert_ratio(summary["worst"]["peak_rss_bytes"]["ratio"],
                              ratio["peak_rss_median"], 1)


class Samples(tooltest.ToolTest):
    """Resident memory while a command runs. 64 MiB are well above what python holds by itself."""

    MIB = 1 << 20

    def run_of(self, script):
        result = compare("--json", "-a", "glibc", "-r", "1", "-w", "0", "--", PYTHON, "-c",
                         "import os, subprocess, sys, time\n" + script)
        self.assert_status(result, 0)
        return json.loads(result.out)["commands"][0]["allocators"][0]["runs"][0]

    def test_memory_that_is_given_back_is_in_the_mean_and_not_in_the_final(self):
        run = self.run_of("x = bytearray(64 << 20)\ntime.sleep(0.6)\ndel x\ntime.sleep(0.6)")
        self.assertGreater(run["peak_rss_bytes"], 64 * self.MIB)
        self.assertGreater(run["mean_rss_bytes"], 16 * self.MIB)
        self.assertLess(run["mean_rss_bytes"], 64 * self.MIB)
        self.assertLess(run["final_rss_bytes"], 32 * self.MIB)

    def test_memory_that_is_kept_is_in_the_final(self):
        run = self.run_of("x = bytearray(64 << 20)\ntime.sleep(0.3)\nos._exit(0)")
        self.assertGreater(run["final_rss_bytes"], 64 * self.MIB)

    def test_children_count_together(self):
        child = "import time; x = bytearray(64 << 20); time.sleep(1)"
        run = self.run_of(f"p = [subprocess.Popen([sys.executable, '-c', {child!r}]) "
                          "for i in 'ab']\nfor each in p: each.wait()")
        self.assertGreater(run["peak_rss_bytes"], 128 * self.MIB)


class Commands(tooltest.ToolTest):
    """Several commands: SLOW takes ten times as long on lucid as on glibc."""

    SLOW = "sleep $(case $LD_PRELOAD in libc.so.6) echo 0.1;; *) echo 1;; esac)"

    def test_geometric_mean_interval_and_worst(self):
        result = compare("--json", "-r", "3", "-w", "0", "-c", "sleep 0.1", "-c", self.SLOW)
        self.assert_status(result, 0)
        report = json.loads(result.out)
        self.assertEqual([command["command"] for command in report["commands"]],
                         [["sleep", "0.1"], ["sh", "-c", self.SLOW]])
        ratios = [command["allocators"][1]["ratio_to_first"] for command in report["commands"]]
        lucid_summary = report["summary"][1]
        mean = lucid_summary["geometric_mean"]
        for name in RATIOS:
            known = [ratio[name] for ratio in ratios if ratio[name]]
            with self.subTest(ratio=name):
                self.assertAlmostEqual(mean[name], statistics.geometric_mean(known), delta=1e-5)
        low, high = ratios[1]["wall_interval"]
        self.assertGreater(low, 1.2)
        self.assertLess(mean["wall_interval"][0], mean["wall_interval"][1])
        self.assertLess(mean["wall_interval"][1], high)
        worst = lucid_summary["worst"]["wall_seconds"]
        self.assertEqual(worst["command"], 1)
        self.assertAlmostEqual(worst["ratio"], ratios[1]["wall_median"], delta=1e-5)

    def test_of_a_file(self):
        path = self.path("commands", "# two commands\n\n  true\n\ttest -n 'a  b'\n")
        result = compare("--json", "-r", "1", "-w", "0", "-a", "glibc", "--commands", path, "--",
                         "echo", "third")
        self.assert_status(result, 0)
        words = [command["command"] for command in json.loads(result.out)["commands"]]
        self.assertEqual(words[0], ["true"])
        self.assertEqual(words[2], ["echo", "third"])
        self.assertIn("a  b", words[1])

    def test_assignments_in_front(self):
        result = compare("--json", "-r", "1", "-w", "0", "-a", "glibc", "-c",
                         "A='x y' sh -c 'test \"$A\" = \"x y\"'")
        self.assert_status(result, 0)
        self.assertEqual(json.loads(result.out)["commands"][0]["command"][:2], ["env", "A=x y"])

    def test_table(self):
        result = compare("-r", "1", "-w", "0", "-c", "true", "-c", "exit 0; false")
        self.assert_status(result, 0)
        self.assertIn("lucid compare [1]: true\n", result.out)
        self.assertIn("lucid compare [2]: sh -c 'exit 0; false'\n", result.out)
        self.assertRegex(result.out, r"geometric means of the ratios, 2 commands")
        self.assertRegex(result.out, r"(?m)^lucid .* \d\.\d\d \[[12]\]$")

    def test_failure_says_which(self):
        result = compare("-r", "1", "-w", "0", "-c", "true", "-c", "exit 3;")
        self.assert_status(result, 125)
        self.assertIn("the command [2] ended with exit status 3", result.err)

    def test_that_are_none(self):
        for arguments in (["-c", ""], ["-c", "'"], ["--commands", self.path("none", "# no\n")],
                          ["--commands", "/no/such/file"]):
            with self.subTest(arguments=arguments):
                result = compare("-a", "glibc", *arguments)
                self.assert_status(result, 2)
                self.assertIn("lucid: ", result.err)


class SystemCalls(tooltest.ToolTest):
    def setUp(self):
        super().setUp()
        if not os.path.exists("/usr/bin/strace"):
            self.fail("strace is missing (Debian package strace); this test runs it")

    def test_are_counted(self):
        script = "import os\nfor i in range(321): os.getppid()"
        result = compare("--json", "--syscalls", "-r", "1", "-w", "0", "--", PYTHON, "-c",
                         f"import subprocess, sys; {script!r}; "
                         f"subprocess.run([sys.executable, '-c', {script!r}])")
        self.assert_status(result, 0)
        entries = json.loads(result.out)["commands"][0]["allocators"]
        for entry in entries:
            calls = entry["syscalls"]["calls"]
            self.assertEqual(calls["getppid"], 321)
            self.assertEqual(calls["execve"], 2)
            self.assertEqual(entry["syscalls"]["total"], sum(calls.values()))
        self.assert_ratio(entries[1]["ratio_to_first"]["syscalls"],
                          entries[1]["syscalls"]["total"], entries[0]["syscalls"]["total"])

    def test_run_on_the_allocator(self):
        log = self.path("log", "")
        result = compare("--syscalls", "-a", "lucid", "-r", "1", "-w", "0", "--", "sh", "-c",
                         f'echo "$LD_PRELOAD" >> {log}')
        self.assert_status(result, 0)
        self.assertRegex(result.out, r"faults +ratio +syscalls +ratio\n")
        with open(log, encoding="utf-8") as file:
            self.assertEqual(file.read(), f"{LIBRARY}\n" * 2)

    def test_without_strace(self):
        result = compare("--syscalls", "/bin/true", PATH=self.directory)
        self.assert_status(result, 125)
        self.assertIn("--syscalls needs strace", result.err)
        self.assertIn("Debian package strace", result.err)


class Plot(tooltest.ToolTest):
    def setUp(self):
        super().setUp()
        if not os.path.exists("/usr/bin/gnuplot"):
            self.fail("gnuplot is missing (Debian package gnuplot-nox); this test runs it")

    def test_is_drawn(self):
        path = self.path("plot.svg")
        result = compare("-a", f"glibc,lucid,twin_1={LIBRARY}", "-r", "2", "--plot", path, "true")
        self.assert_status(result, 0)
        self.assertEqual(result.err, "")
        root = xml.etree.ElementTree.parse(path).getroot()
        self.assertTrue(root.tag.endswith("}svg"))
        words = " ".join("".join(root.itertext()).split())
        for text in ("glibc", "lucid", "twin_1", "Pareto front", "peak RSS", "time",
                     "1 command, 2 runs each; ratios to glibc"):
            self.assertIn(text, words)

    def tables(self, slow, fat):
        """What gnuplot gets, points and front, when a command is slow on one allocator and needs
        much memory on one."""
        script = self.path("script")
        fake = self.path("gnuplot", f"#!/bin/sh\ncat > {script}\n")
        os.chmod(fake, 0o755)
        command = ("import os, time; own = os.environ['LD_PRELOAD'] == 'libc.so.6'; "
                   "name = 'glibc' if own else 'lucid'; "
                   f"x = bytearray(name == {fat!r} and 9 << 23); "
                   f"time.sleep(1 if name == {slow!r} else 0.1)")
        result = compare("-r", "1", "-w", "0", "--force", "--plot", self.path("plot.svg"), "--",
                         PYTHON, "-c",
                         command, PATH=f"{self.directory}:{tooltest.PATH}")
        self.assert_status(result, 0)
        with open(script, encoding="utf-8") as file:
            text = file.read()
        tables = [text.split(f"<< {end}\n")[1].split(end)[0]
                  for end in ("END_OF_POINTS", "END_OF_FRONT")]
        return [[line.split() for line in table.splitlines()] for table in tables]

    def test_front_has_who_is_not_beaten(self):
        points, front = self.tables(slow="lucid", fat="lucid")
        self.assertEqual([point[0] for point in points], ['"glibc"', '"lucid"'])
        self.assertEqual(front, [["1", "1"]])
        points, front = self.tables(slow="glibc", fat="lucid")
        self.assertEqual([point[0] for point in points], ['"lucid"', '"glibc"'])
        self.assertEqual(front, [point[1:3] for point in points])

    def test_without_gnuplot(self):
        result = compare("--plot", self.path("plot.svg"), "/bin/true", PATH=self.directory)
        self.assert_status(result, 125)
        self.assertIn("--plot needs gnuplot", result.err)
        self.assertIn("gnuplot-nox", result.err)

    def test_gnuplot_that_fails_or_file_that_cannot_be_written(self):
        fake = self.path("gnuplot", "#!/bin/sh\nexit 1\n")
        os.chmod(fake, 0o755)
        taken = self.path("taken.svg", "mine")
        for path, message, status in (
                (self.path("plot.svg"), "gnuplot failed", 125),
                ("/no/such/plot.svg", "cannot write /no/such/plot.svg", 2),
                (taken, f"{taken} exists; --force overwrites it", 2)):
            with self.subTest(path=path):
                result = compare("-r", "1", "-w", "0", "--plot", path, "--", "sh", "-c",
                                 "sleep 0.05", PATH=f"{self.directory}:{tooltest.PATH}")
                self.assert_status(result, status)
                self.assertIn(message, result.err)


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
        self.assertRegex(lines[2], r"^allocator +wall min +ratio +wall median +ratio "
                                   r"+95 % interval +user\+sys +ratio$")
        self.assertRegex(lines[3], r"^glibc .* 1\.00 .* 1\.00 +1\.00-1\.00 .* 1\.00$")
        self.assertRegex(lines[4], r"^lucid .*-")
        self.assertRegex(lines[6], r"^allocator +peak RSS +ratio +mean RSS +ratio +final RSS "
                                   r"+ratio +faults +ratio$")
        self.assertRegex(lines[7], r"^glibc .* 1\.00 .* 1\.00$")
        self.assertRegex(lines[8], r"^lucid ")
        self.assertNotIn("geometric", result.out)
        self.assertLessEqual(max(map(len, lines)), 80)
        many = compare("-a", "glibc,lucid", "-r", "1", "-c", "true", "-c", "echo", "--syscalls")
        self.assert_status(many, 0)
        self.assertLessEqual(max(map(len, many.out.splitlines())), 100)
        self.assertRegex(many.out, r"(?m)^allocator +worst wall +worst peak\nglibc +1\.00 \[\d\]")

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
                self.assert_status(compare(*arguments), 2)


if __name__ == "__main__":
    unittest.main()
