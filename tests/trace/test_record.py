"""`lucid record`: what is recorded, over which allocators, in which order, and what is left of it
when something ends early."""

import os
import re
import signal
import struct
import subprocess
import time
import unittest

import tracetest
from tracetest import CALLS, LIBRARY, OPERATORS, PYTHON, lucid

# Of one call of all_kinds in calls.c: size, alignment, zeroed, resize.
KINDS = [(7001, 0, False, False), (7021, 0, True, False), (7003, 0, False, False),
         (70005, 0, False, True), (7007, 0, False, True), (7040, 64, False, False),
         (7011, 128, False, False), (7013, 256, False, False), (7015, 4096, False, False),
         (8192, 4096, False, False), (7019, 0, False, False)]
NEW = {7101: 0, 7103: 0, 7105: 0, 7107: 0, 7109: 64, 7111: 64, 7113: 64, 7115: 64, 7117: 0,
       7119: 0, 7121: 64, 7123: 64, 7125: 0}
# Spends its time in json on malloc; prints its own processor time, without the start.
JSON = """
import json, time
data = [{"id": i, "name": "n%d" % i, "tags": ["a", "b%d" % (i % 7)], "v": i * 1.5, "x": [i, None]}
        for i in range(1000)]
start = time.process_time()
for _ in range(12):
    assert json.loads(json.dumps(data)) == data
print(time.process_time() - start)
"""


def shape(event):
    return (event["size"], event.get("align", 0), event.get("zeroed", False),
            event["kind"] == "resize")


class Events(tracetest.TraceTest):
    def assert_all_kinds(self, events, threads):
        """Each of `threads` made exactly the calls of all_kinds, and freed each block at once."""
        sizes = {kind[0] for kind in KINDS}
        for thread in threads:
            mine = [e for e in events if e["thread"] == thread]
            made = [e for e in mine if e["kind"] in ("alloc", "resize") and e["size"] in sizes]
            self.assertEqual([shape(e) for e in made], KINDS)
            for event in made:
                ends = [e for e in mine if e["kind"] == "free" and e["block"] == event["block"] or
                        e["kind"] == "resize" and e["old"] == event["block"]]
                self.assertEqual(len(ends), 1, event)
                self.assertGreaterEqual(ends[0]["time_ns"], event["time_ns"])

    def test_every_kind_of_call(self):
        for allocator in (None, "glibc", "lucid"):  # others have no pvalloc, or keep realloc(p, 0)
            with self.subTest(allocator=allocator):
                options = () if allocator is None else ("-a", allocator)
                path = self.record(CALLS, "all", options=options, name=f"all-{allocator}")
                events = self.events(path)
                self.assert_consistent(events)
                ends = [e["thread"] for e in events if e["kind"] == "thread_end"]
                self.assertEqual(len(ends), 1)
                self.assertEqual(self.info(path)["threads"], 2)
                self.assert_all_kinds(events, [ends[0], 1 - ends[0]])
                self.assertTrue(self.info(path)["ended"])

    def test_operators(self):
        for allocator in ("glibc", "lucid", "jemalloc"):
            with self.subTest(allocator=allocator):
                path = self.record(OPERATORS, options=("-a", allocator), name=f"new-{allocator}")
                events = self.events(path)
                made = {e["size"]: e for e in events
                        if e["kind"] == "alloc" and 7100 < e["size"] < 7200}
                # An operator of libstdc++ with an alignment rounds the size up for aligned_alloc.
                if allocator == "lucid":
                    self.assertEqual({size: e.get("align", 0) for size, e in made.items()}, NEW)
                self.assertEqual(sum(1 for e in events if e["kind"] == "alloc" and
                                     7100 < e["size"] < 7200), len(NEW))
                freed = [e["block"] for e in events if e["kind"] == "free"]
                for event in made.values():
                    self.assertEqual(freed.count(event["block"]), 1, event)
                self.assertEqual(self.info(path)["unknown_frees"], 0)

    def test_call_sites(self):
        path = self.record(CALLS, "all", options=("--sites",))
        made = [e for e in self.events(path) if e["kind"] == "alloc" and e["size"] == 7001]
        self.assertEqual(len(made), 2)
        self.assertEqual(made[0]["site"], made[1]["site"])
        self.assertNotEqual(int(made[0]["site"], 16), 0)

    def test_without_sites_there_are_none(self):
        self.assertFalse(any("site" in e for e in self.events(self.record(CALLS, "all"))))


class Order(tracetest.TraceTest):
    THREADS, ROUNDS = 4, 8000

    def test_reuse_across_threads_never_inverts(self):
        for allocator in ("glibc", "lucid", "jemalloc"):
            with self.subTest(allocator=allocator):
                path = self.record(CALLS, "threads", str(self.THREADS), str(self.ROUNDS),
                                   options=("-a", allocator), name=f"threads-{allocator}")
                info = self.info(path)
                # Each round is an allocation and a free; some frees are of NULL, and as many are at
                # the end.
                self.assertEqual(info["unknown_frees"], 0)
                self.assertEqual(info["double_allocs"], 0)
                self.assertEqual(info["lost"], 0)
                self.assertGreaterEqual(info["allocs"], self.THREADS * self.ROUNDS)
                self.assertLess(info["allocs"], self.THREADS * self.ROUNDS + 100)
                self.assertEqual(info["threads"], self.THREADS + 1)
                live = self.assert_consistent(self.events(path))
                self.assertEqual(len(live), info["live_blocks"])
                self.assertLess(len(live), 60)


class Early(tracetest.TraceTest):
    def start_forever(self, trace):
        counter = self.path("counter")
        process = subprocess.Popen([tracetest.COMMAND, "record", "-q", "-o", trace, "--", CALLS,
                                    "forever", counter], env=tracetest.environment(),
                                   stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        deadline = time.monotonic() + 60
        while self.count(counter) < 300000 and time.monotonic() < deadline:
            time.sleep(0.02)
        with open(f"/proc/{process.pid}/task/{process.pid}/children", encoding="utf-8") as file:
            child = int(file.read().split()[0])
        return process, child, counter

    @staticmethod
    def count(path):
        try:
            with open(path, "rb") as file:
                return struct.unpack("<Q", file.read(8))[0]
        except (FileNotFoundError, struct.error):
            return 0

    def test_killed_program(self):
        trace = self.path("trace")
        process, child, counter = self.start_forever(trace)
        os.kill(child, signal.SIGKILL)
        self.assertEqual(process.wait(timeout=60), 128 + signal.SIGKILL)
        info = self.info(trace)
        self.assertFalse(info["ended"])
        self.assertFalse(info["torn"])
        self.assertGreaterEqual(info["events"], self.count(counter))  # none is missing
        self.assertLess(info["events"], self.count(counter) + 200)

    def test_killed_recorder(self):
        trace = self.path("trace")
        process, child, counter = self.start_forever(trace)
        process.kill()
        process.wait(timeout=60)
        os.kill(child, signal.SIGKILL)
        time.sleep(0.2)
        info = self.info(trace)  # raw
        self.assertFalse(info["ended"])
        self.assertGreaterEqual(info["events"], self.count(counter))
        self.assertLess(info["events"], self.count(counter) + 200)

    def test_no_space(self):
        """The program goes on, and what was recorded stays."""
        path = self.path("trace")
        result = lucid("record", "-o", path, "--", "sh", "-c",
                       f"ulimit -f 300; exec {CALLS} threads 2 100000")
        self.assertIn("the recording ends here", result.err)
        self.assert_status(result, 0)
        info = self.info(path)
        self.assertGreater(info["events"], 1000)
        self.assertGreater(info["lost"], 0)
        self.assertEqual(lucid("trace", "check", path).status, 1)


class Processes(tracetest.TraceTest):
    def test_a_program_that_is_executed_is_recorded_alone(self):
        path = self.record(CALLS, "exec", CALLS, "all")
        sizes = [e["size"] for e in self.events(path) if e["kind"] == "alloc"]
        self.assertEqual(sizes.count(7001), 2)
        self.assertNotIn(9001, sizes)
        self.assertEqual(self.info(path)["command"], f"{CALLS} all")

    def test_children_are_not_recorded(self):
        path = self.record(CALLS, "fork")
        sizes = [e["size"] for e in self.events(path) if e["kind"] == "alloc"]
        self.assertEqual(sizes.count(7001), 1)
        self.assertEqual(os.listdir(self.directory), ["trace"])

    def test_children_are_recorded_if_asked(self):
        path = self.record(CALLS, "fork", options=("--children",))
        files = sorted(os.listdir(self.directory))
        self.assertEqual(len(files), 2)
        self.assertRegex(files[1], r"^trace\.\d+$")
        for file in (path, self.path(files[1])):
            sizes = [e["size"] for e in self.events(file) if e["kind"] == "alloc"]
            self.assertEqual(sizes.count(7001), 1)
            self.assertTrue(self.info(file)["ended"])

    def test_children_that_execute_something(self):
        self.record("sh", "-c", f"{CALLS} all; {CALLS} all; true", options=("--children",))
        files = sorted(os.listdir(self.directory))
        self.assertEqual(len(files), 3, files)
        for name in files[1:]:
            self.assertEqual(self.info(self.path(name))["command"], f"{CALLS} all")


class Files(tracetest.TraceTest):
    def test_exit_status(self):
        for status in (0, 3, 125):
            self.record("sh", "-c", f"exit {status}", name=f"trace{status}", status=status)
        self.record("sh", "-c", "kill -TERM $$", name="killed", status=128 + signal.SIGTERM)
        for command, status in (("no-such-command", 127), (self.path("data", b"x"), 126)):
            result = lucid("record", "-o", self.path("none"), command)
            self.assert_status(result, status)
            self.assertFalse(os.path.exists(self.path("none")))

    def test_a_file_that_exists_is_kept_unless_forced(self):
        path = self.path("trace", b"mine")
        result = lucid("record", "-o", path, "true")
        self.assert_status(result, 2)
        self.assertEqual(result.err, f"lucid: {path} exists; --force overwrites it\n")
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"mine")
        self.record(CALLS, "all", options=("--force",))
        self.assertGreater(self.info(path)["events"], 20)

    def test_bad_input(self):
        for arguments in (["true"], ["-o", self.path("x")], ["-o", "/no/such/x", "true"],
                          ["-o", "/dev/null", "true"], ["-o", self.directory, "true"],
                          ["-a", "no-such", "-o", self.path("x"), "true"], ["--what"]):
            with self.subTest(arguments=arguments):
                result = lucid("record", *arguments)
                self.assert_status(result, 2)
                self.assertRegex(result.err, r"^lucid[^\n]*: [^\n]+\n$")

    def test_nothing_to_record(self):
        result = lucid("record", "-o", self.path("trace"), "/sbin/ldconfig", "--version")
        self.assert_status(result, 125)  # Debian links it statically
        self.assertIn("nothing was recorded", result.err)
        self.assertEqual(os.listdir(self.directory), [])

    def test_nothing_else_is_left(self):
        self.record(CALLS, "all")
        self.assertEqual(os.listdir(self.directory), ["trace"])

    def test_summary(self):
        result = lucid("record", "-o", self.path("trace"), CALLS, "all")
        self.assertRegex(result.err, r"^lucid: \S+trace: \d+ events of 2 threads, "
                                     r"\d\.\d bytes each, [\d.]+ \w+ compressed\n$")


class Python(tracetest.TraceTest):
    """The work that the format and the recording are made for."""

    def test_bytes_and_time(self):
        def seconds(text):
            return float(re.search(r"^([\d.]+)$", text, re.MULTILINE)[1])
        alone, recorded, bytes_each = [], [], 0.0
        for number in range(3):  # the best of three, interleaved: other work disturbs both alike
            done = subprocess.run([PYTHON, "-c", JSON], stdout=subprocess.PIPE, check=True,
                                  env=tracetest.environment(PYTHONMALLOC="malloc"))
            alone.append(seconds(done.stdout.decode()))
            result = lucid("record", "-o", self.path(f"trace{number}"), "--", PYTHON, "-c", JSON,
                           PYTHONMALLOC="malloc")
            self.assert_status(result, 0)
            recorded.append(seconds(result.out))
            bytes_each = float(re.search(r"([\d.]+) bytes each", result.err)[1])
        self.assertLessEqual(bytes_each, 6.0)
        self.assertGreater(bytes_each, 1.0)
        self.assertLess(min(recorded), 3 * min(alone), f"{recorded} against {alone}")
        info = self.info(self.path("trace0"))
        self.assertGreater(info["events"], 100000)
        self.assertEqual((info["unknown_frees"], info["double_allocs"], info["lost"]), (0, 0, 0))

    def test_over_lucid(self):
        path = self.record(PYTHON, "-c", "x = [str(i) for i in range(5000)]",
                           options=("-a", "lucid"), PYTHONMALLOC="malloc")
        self.assertGreater(self.info(path)["allocs"], 5000)
        result = lucid("record", "-o", self.path("maps"), "-a", "lucid", "--", "cat",
                       "/proc/self/maps")
        self.assertIn(LIBRARY, result.out)
        self.assertIn("liblucid-record.so", result.out)


if __name__ == "__main__":
    unittest.main()
