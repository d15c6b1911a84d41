"""Single calls: their tables and bars, and a small run of the programs that measure them."""

import json
import os
import subprocess
import unittest

import benchtest
from benchtest import BENCH, PYTHON, BenchTest, a_document, a_round

import calls
import figures
import peers
import programs
import tables

LIBRARY = benchtest.library()
PROGRAMS = benchtest.programs()


def a_call(call, p9999=500, **others):
    return {"call": call, "count": 10, "p50": 1, "p99": 20, "p999": 30, "p9999": p9999,
            "max": 9e6, "own_p9999": p9999, "own_max": 2e6, "worked": 0, "waited": 0, "behind": 3,
            "preempted": 4, "stolen": 1, **others}


def latency(by_name):
    """allocator -> list of rounds, each a list of points."""
    rounds = {name: [a_round(1, 5, points=points) for points in each]
              for name, each in by_name.items()}
    return a_document({"latency-busy": rounds}, group="latency")


def walk(count, longest, rate=0):
    return {"count": count, "calls": 5, "longest": longest, "mean": 10, "rate": rate}


def walks(row, by_name):
    rounds = {name: [a_round(1, 5, points=points) for points in each]
              for name, each in by_name.items()}
    return a_document({row: rounds}, group="walks")


class Tables(BenchTest):
    def test_latency(self):
        document = latency({"glibc": [[a_call("free", 700)], [a_call("free", 500, worked=2)]],
                            "lucid": [[a_call("free", 9), a_call("between")]]})
        tables.add_summary(document)
        text = tables.text(document)
        self.assertRegex(text, r"\nfree p99\.99 +500 \(600\) +9\n")
        self.assertRegex(text, r"\nfree of 1 ms: worked, waited, behind, other +1, 0, 3, 5 +0, 0, ")
        self.assertRegex(text, r"\nbetween longest, charged +- +2000000\n")
        self.assertNotIn("between p99", text)
        self.assertNotIn("malloc", text.split("what lucid")[0])
        self.assertIn("| free p99.99 | 500 (600) | 9 |", tables.markdown(document))

    def test_walks(self):
        document = walks("walks-limit", {
            "glibc": [[walk(10, 5000)]],
            "lucid": [[walk(10, 8000, 2e6), walk(1000, 4e6, 1e6)], [walk(10, 2000, 3e6)]]})
        tables.add_summary(document)
        text = tables.text(document)
        self.assertRegex(text, r"\nlimit 10 +5 +2 \(5\)\n")
        self.assertRegex(text, r"\nlimit 1000 +- +4e\+03\n|\nlimit 1000 +- +4000\n")
        self.assertRegex(text, r"\nlimit 10 +- +3 \(2\.5\)\n")

    def test_no_mean_is_of_them(self):
        document = a_document({"a": {"glibc": [a_round(1, 5)], "lucid": [a_round(1, 5)]}})
        other = latency({"glibc": [[a_call("free")]], "lucid": [[a_call("free")]]})
        document["programs"].update(other["programs"])
        self.assertEqual(list(figures.rows_of(document)), ["a"])
        self.assertEqual(list(figures.rows_of(document, ["latency"])), ["latency-busy"])
        self.assertEqual(figures.rows_on_all(document, "glibc", ["latency"]), ({}, []))
        tables.add_summary(document)
        self.assertEqual(list(document["summary"]["groups"]), ["real"])
        self.assertIn("latency-busy: ", tables.text(document))


class Bars(BenchTest):
    def bar(self, document, asked):
        found, = [bar for bar in calls.check(document) if bar.asked.startswith(asked)]
        return found

    def test_percentile(self):
        def check(ours, theirs):
            document = latency({"lucid": [[a_call("malloc", ours)], [a_call("malloc", ours * 2)]],
                                "jemalloc": [[a_call("malloc", theirs)]]})
            return self.bar(document, "p99.99")
        self.assertTrue(check(100, 100).met)
        self.assertFalse(check(101, 100).met)
        self.assertIn("malloc 101 ns (100)", check(101, 100).found)
        self.assertIsNone(self.bar(latency({"lucid": [[a_call("free")]]}), "p99.99").met)

    def test_long_calls(self):
        asked = "no call of 1 ms that is not"
        self.assertTrue(self.bar(latency({"lucid": [[a_call("free")]]}), asked).met)
        found = self.bar(latency({"lucid": [[a_call("free", worked=1)]]}), asked)
        self.assertFalse(found.met)
        self.assertIn("free 1 worked, 0 waited, 2.0 ms", found.found)
        self.assertFalse(self.bar(latency({"lucid": [[a_call("free", waited=1)]]}), asked).met)
        # Not in every round, and not the allocator's.
        self.assertTrue(self.bar(latency({"lucid": [[a_call("free", worked=1)],
                                                    [a_call("free")]]}), asked).met)
        self.assertTrue(self.bar(latency({"lucid": [[a_call("between", worked=1)]]}), asked).met)

    def test_walks(self):
        asked = "no call of 1 ms, whatever"
        document = walks("walks-fork", {"lucid": [[walk(10, 999999)]]})
        self.assertTrue(self.bar(document, asked).met)
        document = walks("walks-fork", {"lucid": [[walk(10, 5), walk(1000, 2e6)]]})
        self.assertEqual(self.bar(document, asked).found, "fork 1000 2.0 ms")

    def test_limit(self):
        for rate, met in ((1e6, True), (0.7e6, False)):
            document = walks("walks-limit", {"lucid": [[walk(1, 5, 1.2e6), walk(999, 5, rate)]]})
            self.assertIs(self.bar(document, "near a limit").met, met)

    def test_nothing_measured(self):
        self.assertEqual(calls.check(a_document({"a": {"lucid": [a_round(1, 5)]}})), [])


class Programs(BenchTest):
    def test_who_can_run_what(self):
        glibc = peers.Allocator("glibc", "libc.so.6")
        renamed = peers.Allocator("before", LIBRARY)
        places = {"programs": PROGRAMS}
        for need, runs in (("any", (True, True)), ("mallinfo2", (True, True)),
                           ("lucid", (False, True))):
            program = programs.SingleCalls("walks limit", need, "walks", places, 1, 9)
            self.assertEqual((program.can_run_on(glibc), program.can_run_on(renamed)), runs)

    def test_every_row_runs_on_lucid(self):
        """With ten of everything."""
        for words in programs.WALKS:
            if words == "walks limit":  # it has its own size; below
                continue
            program, mode = words.split()
            with self.subTest(mode):
                self.run_on(LIBRARY, program, "-s", "0.0001", mode)

    def run_on(self, preload, program, *arguments):
        done = subprocess.run([os.path.join(PROGRAMS, f"bench_{program}"), *arguments],
                              env={"PATH": "/usr/bin:/bin", "LD_PRELOAD": preload},
                              capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        for point in found["points"]:
            self.assertGreater(point["calls"], 0, arguments)
        return found

    def test_from_end_to_end(self):
        saved = self.path("result.json")
        done = subprocess.run(
            [PYTHON, os.path.join(BENCH, "run.py"), "--lib", LIBRARY, "--programs", PROGRAMS,
             "--scale", "0.01", "--allocators", "glibc,lucid", "--repeats", "2", "--output", saved,
             "--only", "^(latency-(busy|purging)|walks-(free-young|cache-create))$"],
            env={"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        for shown in ("latency-busy: ", "latency-purging: ", "malloc p99.99", "free-young 10 ",
                      "near a limit"):
            self.assertIn(shown, done.stdout)
        self.assertNotIn("geometric means", done.stdout)
        with open(saved, encoding="utf-8") as file:
            document = json.load(file)
        self.assertEqual(document["failures"], {})
        self.assertEqual(document["syscalls"], {})
        rows = document["programs"]
        self.assertEqual(set(rows["walks-cache-create"]["allocators"]), {"lucid"})
        self.assertEqual(set(rows["walks-free-young"]["allocators"]), {"glibc", "lucid"})
        for name in ("glibc", "lucid"):
            rounds = rows["latency-busy"]["allocators"][name]
            self.assertEqual(len(rounds), 2)
            for result in rounds:
                by_call = {point["call"]: point for point in result["points"]}
                self.assertEqual(set(by_call), set(calls.CALLS))
                self.assertEqual(result["threads"], 8)
                self.assertGreater(result["timer_ns"], 0)
                for call in ("malloc", "free", "between"):  # others are rare, and the time short
                    self.assertGreater(by_call[call]["count"], 0)
                for point in by_call.values():
                    self.assertEqual(point["long"], sum(point[cause] for cause in (
                        "worked", "waited", "behind", "preempted", "stolen")))
                    percentiles = [point[key] for key in ("p50", "p99", "p999", "p9999")]
                    self.assertEqual(percentiles, sorted(percentiles))


if __name__ == "__main__":
    unittest.main(verbosity=2)
