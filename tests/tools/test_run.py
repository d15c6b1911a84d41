"""`lucid run`: exit statuses, streams, what is measured, what is preloaded, the report's form."""

import os
import re
import shutil
import signal
import subprocess
import time
import unittest

import tooltest
from tooltest import LIBRARY, MEMORY_CALLS, PYTHON, lucid, lucid_on_terminal

CALLS = ["mmap", "munmap", "mremap", "brk", "madvise", "process_madvise", "mprotect"]
MEASURES = ["wall_seconds", "user_seconds", "system_seconds", "peak_rss_bytes", "minor_faults",
            "major_faults"]


class ExitStatus(tooltest.ToolTest):
    def test_is_that_of_the_command(self):
        for status in (0, 1, 7, 125, 126, 127, 255):
            with self.subTest(status=status):
                result = lucid("run", "-a", "glibc", "--", "sh", "-c", f"exit {status}")
                self.assert_status(result, status)
                self.assertIn("wall time", result.err)

    def test_of_a_signal_is_128_and_its_number(self):
        for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGABRT, signal.SIGINT):
            with self.subTest(signal=number):
                result = lucid("run", "-a", "glibc", "sh", "-c", f"kill -{int(number)} $$")
                self.assert_status(result, 128 + number)
                self.assertIn(f"ended by signal {int(number)}", result.err)

    def test_command_not_found(self):
        for command in ("no-such-command", "/no/such/file"):
            for more in ([], ["--versus", "lucid"], ["--syscalls"]):
                with self.subTest(command=command, more=more):
                    result = lucid("run", "-a", "glibc", *more, "--", command)
                    self.assert_status(result, 127)
                    self.assertIn(f"lucid: cannot run {command}: No such file", result.err)
                    self.assertNotIn("wall time", result.err)

    def test_command_not_executable(self):
        file = self.path("data", "no program\n")
        result = lucid("run", "-a", "glibc", file)
        self.assert_status(result, 126)
        self.assertIn("Permission denied", result.err)

    def test_bad_input_is_one_line_and_2(self):
        text = self.path("text.so", "x" * 100)
        cases = {
            ("run",): "no command to run",
            ("run", "--no-such-option", "true"): "unrecognized option",
            ("run", "-a", "no-such", "true"): "no allocator is known as 'no-such'",
            ("run", "-a", "x=/no/such.so", "true"): "No such file",
            ("run", "-a", f"x={text}", "true"): "not an ELF file",
            ("run", "-a", f"={LIBRARY}", "true"): "no name",
            ("run", "-a", "glibc", "--versus", "glibc", "true"): "named twice",
            ("run", "-a", "glibc", "-o", "/no/such/file", "true"): "cannot write /no/such/file",
        }
        for arguments, message in cases.items():
            with self.subTest(arguments=arguments):
                result = lucid(*arguments)
                self.assert_status(result, 2)
                self.assertIn(message, result.err)
                self.assertRegex(result.err, r"^lucid[^\n]*: [^\n]+\n$")
                self.assertEqual(result.out, "")

    def test_own_failures_are_125(self):
        result = lucid("run", "-a", "glibc", "-o", "/dev/full", "true")
        self.assert_status(result, 125)
        self.assertIn("cannot write the report", result.err)

    def test_library_with_a_space_in_its_path_is_refused(self):
        library = self.path("a b.so")
        shutil.copy(LIBRARY, library)
        result = lucid("run", "-a", f"x={library}", "true")
        self.assert_status(result, 2)
        self.assertIn("spaces", result.err)

    def test_missing_lucid_library(self):
        result = lucid("run", "true", LUCID_LIBRARY="/no/such.so")
        self.assert_status(result, 2)
        self.assertIn("LUCID_LIBRARY=/no/such.so", result.err)

    def test_termination_is_passed_on(self):
        ready = self.path("ready")
        script = f"echo > {ready}; exec sleep 60"
        process = subprocess.Popen([tooltest.COMMAND, "run", "-a", "glibc", "sh", "-c", script],
                                   env=tooltest.environment(), stderr=subprocess.PIPE)
        deadline = time.monotonic() + 30
        while not os.path.exists(ready) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.terminate()
        _, err = process.communicate(timeout=30)
        self.assertEqual(process.returncode, 128 + signal.SIGTERM, err)


class Streams(tooltest.ToolTest):
    def test_output_of_the_command_is_untouched(self):
        result = lucid("run", "-a", "glibc", "--", "sh", "-c", "printf out; printf err >&2")
        self.assertEqual(result.out, "out")
        self.assertTrue(result.err.startswith("err\n"), result.err)

    def test_only_one_run_of_several_is_shown(self):
        result = lucid("run", "-a", "glibc", "--versus", "lucid", "--", "sh", "-c",
                       "echo out; echo err >&2")
        self.assert_status(result, 0)
        self.assertEqual(result.out, "out\n")
        self.assertEqual(result.err.count("err\n"), 1, result.err)

    def test_report_to_a_file(self):
        report = self.path("report")
        result = lucid("run", "-a", "glibc", "-o", report, "--", "echo", "hello")
        self.assertEqual((result.out, result.err), ("hello\n", ""))
        with open(report, encoding="utf-8") as file:
            self.assertIn("peak RSS", file.read())

    def test_a_file_that_exists_is_kept_unless_forced(self):
        report = self.path("report", "mine")
        result = lucid("run", "-a", "glibc", "-o", report, "--", "echo", "hello")
        self.assert_status(result, 2)
        self.assertEqual(result.err, f"lucid: {report} exists; --force overwrites it\n")
        self.assertEqual(result.out, "")
        with open(report, encoding="utf-8") as file:
            self.assertEqual(file.read(), "mine")
        self.assert_status(lucid("run", "-a", "glibc", "--force", "-o", report, "true"), 0)
        with open(report, encoding="utf-8") as file:
            self.assertIn("peak RSS", file.read())

    def test_stdin_of_one_run_is_ours(self):
        process = subprocess.run([tooltest.COMMAND, "run", "-a", "glibc", "cat"], input=b"abc",
                                 stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 env=tooltest.environment(), timeout=60, check=True)
        self.assertEqual(process.stdout, b"abc")

    def test_stdin_file_is_rewound_for_each_run(self):
        path = self.path("input", "first\nsecond\n")
        with open(path, "rb") as file:
            os.lseek(file.fileno(), len("first\n"), os.SEEK_SET)
            result = lucid("run", "-a", "glibc", "--versus", "lucid", "--", "sh", "-c",
                           "cat; test $? = 0", stdin=file)
        self.assert_status(result, 0)
        self.assertEqual(result.out, "second\n")

    def test_no_colours_and_no_progress_without_a_terminal(self):
        result = lucid("run", "-a", "glibc", "--versus", "lucid", "true")
        self.assertNotIn("\033", result.err)
        self.assertNotIn("\r", result.err)

    def test_colours_on_a_terminal_unless_forbidden(self):
        arguments = ("run", "-a", "glibc", "true")
        self.assertRegex(lucid_on_terminal(*arguments).out, tooltest.COLOUR)
        self.assertRegex(lucid_on_terminal(*arguments, NO_COLOR="").out, tooltest.COLOUR)
        for changes in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            with self.subTest(changes):
                self.assertNotRegex(lucid_on_terminal(*arguments, **changes).out, tooltest.COLOUR)

    def test_progress_on_a_terminal(self):
        shown = lucid_on_terminal("run", "-a", "glibc", "--versus", "lucid", "true").out
        self.assertIn("lucid: counting system calls", shown)
        self.assertIn("lucid: timing", shown)


class Preload(tooltest.ToolTest):
    def maps(self, *arguments, **changes):
        result = lucid("run", *arguments, "--", "cat", "/proc/self/maps", **changes)
        self.assert_status(result, 0)
        return result.out

    def test_lucid_is_the_default(self):
        self.assertIn(LIBRARY, self.maps())

    def test_glibc_runs_without_it(self):
        self.assertNotIn(LIBRARY, self.maps("-a", "glibc"))

    def test_peers_of_debian(self):
        for name in ("jemalloc", "mimalloc", "tcmalloc", "tcmalloc_minimal"):
            with self.subTest(name):
                self.assertIn(f"/lib{name}.so", self.maps("-a", name))

    def test_library_by_path(self):
        library = self.path("other.so")
        shutil.copy(LIBRARY, library)
        self.assertIn(library, self.maps("-a", f"other={library}"))

    def test_what_is_preloaded_already_stays(self):
        other = self.path("other.so")
        shutil.copy(LIBRARY, other)
        result = lucid("run", "-a", "glibc", "--", "sh", "-c", "echo $LD_PRELOAD",
                       LD_PRELOAD=other)
        self.assertEqual(result.out, f"libc.so.6:{other}\n")


class Measures(tooltest.ToolTest):
    def report(self, *arguments):
        result = lucid("run", "--json", *arguments)
        self.assert_status(result, 0)
        return result.json()

    def test_times(self):
        run = self.report("-a", "glibc", "--", "sleep", "0.3")["run"]
        self.assertGreaterEqual(run["wall_seconds"], 0.3)
        self.assertLess(run["user_seconds"] + run["system_seconds"], 0.2)
        busy = ("import time; e = time.process_time() + 0.3\n"
                "while time.process_time() < e: pass")
        run = self.report("-a", "glibc", "--", PYTHON, "-c", busy)["run"]
        self.assertGreaterEqual(run["user_seconds"] + run["system_seconds"], 0.29)

    def test_peak_rss_and_faults(self):
        mib = 1 << 20
        small = self.report("-a", "glibc", "--", PYTHON, "-c", "pass")["run"]
        large = self.report("-a", "glibc", "--", PYTHON, "-c", "b'x' * (64 << 20)")["run"]
        self.assertAlmostEqual(large["peak_rss_bytes"] - small["peak_rss_bytes"], 64 * mib,
                               delta=2 * mib)
        self.assertGreater(small["peak_rss_bytes"], 2 * mib)
        self.assertGreater(large["minor_faults"], small["minor_faults"])

    def test_system_calls_are_counted_exactly(self):
        counts = {}
        for repeats in (0, 10):
            report = self.report("-a", "glibc", "--syscalls", "--", MEMORY_CALLS, str(repeats))
            counts[repeats] = report["run"]["memory_calls"]
        self.assertEqual(sorted(counts[0]), sorted([*CALLS, "total"]))
        for call in CALLS:
            with self.subTest(call):
                self.assertEqual(counts[10][call] - counts[0][call], 30)
        for some in counts.values():
            self.assertEqual(some["total"], sum(some[call] for call in CALLS))

    def test_system_calls_are_not_counted_unasked(self):
        self.assertIsNone(self.report("-a", "glibc", "true")["run"]["memory_calls"])
        report = self.report("-a", "glibc", "--versus", "lucid", "--no-syscalls", "true")
        self.assertIsNone(report["run"]["memory_calls"])

    def test_what_a_counted_run_leaves_behind_is_ended(self):
        note = self.path("pids")
        result = lucid("run", "-a", "glibc", "--syscalls", "-o", "/dev/null", "--", "sh", "-c",
                       f"sleep 30 >/dev/null 2>&1 & echo $! >> {note}")
        self.assert_status(result, 0)
        with open(note, encoding="utf-8") as file:
            timed, counted = (int(line) for line in file)
        os.kill(timed, signal.SIGKILL)  # of the timed run: still there
        deadline = time.monotonic() + 10
        while is_running(counted) and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertFalse(is_running(counted))


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Report(tooltest.ToolTest):
    def test_json_of_one_run(self):
        report = lucid("run", "--json", "-a", "glibc", "--", "sh", "-c", "exit 3", "a b").json()
        self.assertEqual(report["schema"], "lucid-run-1")
        self.assertEqual(report["command"], ["sh", "-c", "exit 3", "a b"])
        self.assertEqual(report["versus"], [])
        run = report["run"]
        self.assertEqual((run["allocator"], run["exit_status"], run["signal"]), ("glibc", 3, None))
        for measure in MEASURES:
            self.assertGreaterEqual(run[measure], 0, measure)

    def test_json_ratios(self):
        report = lucid("run", "--json", "-a", "lucid", "--versus", "glibc", "--versus",
                       f"twin={LIBRARY}", "--", PYTHON, "-c", "x = list(range(100000))").json()
        run = report["run"]
        self.assertEqual([other["allocator"] for other in report["versus"]], ["glibc", "twin"])
        for other in report["versus"]:
            for measure in MEASURES:
                self.assert_ratio(other["ratio"][measure], run[measure], other[measure])
            self.assert_ratio(other["ratio"]["memory_calls"], run["memory_calls"]["total"],
                              other["memory_calls"]["total"])

    def test_table(self):
        report = lucid("run", "-a", "lucid", "--versus", "glibc", "--", "true").err
        lines = report.splitlines()
        header = next(line for line in lines if "lucid/glibc" in line)
        self.assertEqual(header.split(), ["glibc", "lucid", "lucid/glibc"])
        rss = next(line for line in lines if line.startswith("peak RSS"))
        number = r"([\d.]+) (KiB|MiB)"
        self.assertRegex(rss, rf"^peak RSS +{number} +{number} +\d+\.\d\d$")
        scale = {"KiB": 1, "MiB": 1024}
        values = re.findall(number, rss)
        theirs, ours = (float(value) * scale[unit] for value, unit in values)
        self.assertAlmostEqual(float(rss.split()[-1]), ours / theirs, delta=0.1)
        for label in ("wall time", "user time", "system time", "page faults, minor",
                      "page faults, major", "memory system calls", "  mmap", "  mprotect"):
            self.assertTrue(any(line.startswith(label) for line in lines), label)

    def test_different_endings_are_told(self):
        script = 'case "$LD_PRELOAD" in libc.so.6*) exit 0;; *) exit 9;; esac'
        result = lucid("run", "-a", "glibc", "--versus", "lucid", "--", "sh", "-c", script)
        self.assert_status(result, 0)
        self.assertIn("lucid: exit status 9", result.err)


class Statistics(tooltest.ToolTest):
    def test_of_the_process_itself(self):
        report = lucid("run", "--json", "--", PYTHON, "-c", "x = list(range(1000))").json()
        run = report["run"]
        stats = run["stats"]
        self.assertEqual(stats["schema"], "lucid-stats-1")
        self.assertEqual(run["stats_pid"], run["pid"])
        self.assertEqual(run["other_processes_with_stats"], 0)
        self.assertGreater(stats["live_bytes"], 0)
        self.assertGreaterEqual(stats["peak_held_bytes"], stats["live_bytes"])
        self.assertEqual(sum(stats["held"].values()), stats["held_bytes"])
        self.assertEqual(stats["held_bytes"] + stats["metadata_bytes"] + stats["unbacked_bytes"],
                         stats["committed_bytes"])
        for member in stats["classes"]:
            self.assertLessEqual({"block_bytes", "live_blocks", "free_blocks", "spans"},
                                 set(member))

    def test_of_children(self):
        script = f"import subprocess; subprocess.run(['{PYTHON}', '-c', 'pass'], check=True)"
        run = lucid("run", "--json", "--", PYTHON, "-c", script).json()["run"]
        self.assertEqual(run["stats_pid"], run["pid"])
        self.assertEqual(run["other_processes_with_stats"], 1)

    def test_of_a_child_where_the_process_wrote_none(self):
        script = f"{PYTHON} -c pass; kill -9 $$"
        result = lucid("run", "--json", "--", "sh", "-c", script)
        self.assert_status(result, 128 + signal.SIGKILL)
        run = result.json()["run"]
        self.assertIsNotNone(run["stats"])
        self.assertNotEqual(run["stats_pid"], run["pid"])

    def test_as_text(self):
        report = lucid("run", "--", PYTHON, "-c", "x = list(range(1000))").err
        self.assertRegex(report, r"What lucid did \(process \d+, when it ended\)")
        self.assertRegex(report, r"live in the program +[\d.]+ \w+ in [\d,]+ blocks")
        self.assertRegex(report, r"held +[\d.]+ \w+, at most [\d.]+ \w+: the sum of\n"
                                 r"    live, small blocks +[\d.]+ \w+\n")
        self.assertRegex(report, r"\n    without memory +[\d.]+ \w+\n")
        self.assertIn("returned to system", report)
        self.assertRegex(report, r"block bytes +live blocks +live bytes +free blocks +spans")
        self.assertRegex(report, r"\n +32 +[\d,]+ +[\d.]+ \w+ +[\d,]+ +[\d,]+\n")

    def test_where_there_are_none(self):
        result = lucid("run", "--", "sh", "-c", "kill -9 $$")
        self.assertIn("lucid wrote no statistics: a signal ended the program", result.err)
        self.assertIsNone(lucid("run", "--json", "-a", "glibc", "true").json()["run"]["stats"])

    def test_users_own_options_stay(self):
        result = lucid("run", "-o", "/dev/null", "--", "sh", "-c", "echo $LUCID_OPTIONS",
                       LUCID_OPTIONS="abort:1")
        self.assertRegex(result.out, r"^abort:1,stats:json,stats_file:/\S+%p\.json\n$")

    def test_nothing_is_left_in_the_temporary_directory(self):
        result = lucid("run", "--versus", "glibc", "--", PYTHON, "-c", "pass",
                       TMPDIR=self.directory)
        self.assert_status(result, 0)
        self.assertEqual(os.listdir(self.directory), [])


if __name__ == "__main__":
    unittest.main()
