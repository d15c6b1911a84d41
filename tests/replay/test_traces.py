"""The traces that come with the project: whole, as README.md says, replayable; and cutting them."""

import glob
import json
import os
import re
import subprocess
import sys
import unittest

from replaytest import TRACES, ReplayTest, trace_path, without_time
from tooltest import lucid

THREADED = "threads.trace"


def info_of(path):
    return json.loads(lucid("trace", "info", "--json", path).out)


def listed():
    """The rows of README.md: name, then events, threads, live at most, live at the end, kept."""
    with open(os.path.join(TRACES, "README.md"), encoding="utf-8") as file:
        rows = [line.strip("| \n").split(" | ") for line in file if line.startswith("| ")]
    return {row[0] + ".trace": row[2:] for row in rows if len(row) == 7 and row[0] != "trace"}


class Shipped(ReplayTest):
    def test_readme_tells_what_they_are(self):
        there = {os.path.basename(path) for path in glob.glob(os.path.join(TRACES, "*.trace"))}
        rows = listed()
        self.assertEqual(set(rows), there)
        self.assertGreaterEqual(len(there), 10)
        for name, row in rows.items():
            with self.subTest(name):
                info = info_of(trace_path(name))
                self.assertEqual(row, [f"{info['events']:,}", str(info["threads"]),
                                       f"{info['peak_live_bytes']:,}", f"{info['live_bytes']:,}",
                                       "whole" if info["ended"] else "beginning"])

    def test_they_are_sound_and_can_be_replayed(self):
        for name in listed():
            with self.subTest(name):
                path = trace_path(name)
                self.assert_status(lucid("trace", "check", path), 0)
                report = self.replay(path, "pt", "lucid", "glibc",
                                     arguments=["--frames", "0", "--every", "2000"])
                for result in report["results"]["allocators"]:
                    self.assertIsNone(result["error"])
                    self.assertEqual(result["failures"], 0)
                    self.assertEqual(result["samples"]["live"][-1],
                                     info_of(path)["live_bytes"])
                # pt is glibc's algorithm, so it must touch as much.
                pt, _, glibc = (r["peak_resident_bytes"] for r in report["results"]["allocators"])
                self.assertLess(abs(pt - glibc), 0.05 * glibc + 65536)

    def test_threads_give_the_same_twice(self):
        path = trace_path(THREADED)
        self.assertGreater(info_of(path)["threads"], 8)
        arguments = ["--frames", "2", "--every", "2000"]
        first = self.replay(path, "pt", "lucid", "slab", arguments=arguments)
        second = self.replay(path, "pt", "lucid", "slab", arguments=arguments)
        self.assertEqual(without_time(first), without_time(second))

    def test_every_policy_replays_a_real_program(self):
        result = lucid("replay", trace_path("git.trace"), "--frames", "0", "--every", "500", "-a",
                       "kr,first,next,best,best_tree,worst,buddy,slab,dl,pt,lucid,jemalloc")
        self.assert_status(result, 0)
        self.assertEqual(result.err, "")

    def test_the_synthetic_ones_are_what_their_script_makes(self):
        subprocess.run([sys.executable, os.path.join(TRACES, "make-synthetic"), "--output",
                        self.directory], check=True)
        made = sorted(os.listdir(self.directory))
        self.assertEqual(made, sorted(os.path.basename(path)
                                      for path in glob.glob(os.path.join(TRACES, "*.rep"))))
        for name in made:
            with open(os.path.join(self.directory, name), encoding="ascii") as fresh, \
                    open(trace_path(name), encoding="ascii") as shipped:
                self.assertEqual(fresh.read(), shipped.read(), name)


class Cut(ReplayTest):
    def cut(self, path, events, *more, status=0):
        output = self.path("cut.trace")
        result = lucid("trace", "cut", path, "-o", output, "--events", str(events), *more)
        self.assert_status(result, status)
        return output, result

    def dump(self, path):
        return lucid("trace", "dump", path).out.splitlines()

    def test_the_beginning_is_kept(self):
        whole = self.dump(trace_path("git.trace"))
        for events in (1, 2, 1000, 13000):
            with self.subTest(events):
                output, _ = self.cut(trace_path("git.trace"), events, "--force")
                kept = self.dump(output)
                self.assertEqual(kept, whole[:len(kept)])
                self.assertTrue(events <= len(kept) <= events + 5, len(kept))
                self.assertFalse(info_of(output)["ended"])
                self.assert_status(lucid("trace", "check", output), 0)

    def test_all_is_kept(self):
        output, _ = self.cut(trace_path("git.trace"), 1000000)
        self.assertEqual(self.dump(output), self.dump(trace_path("git.trace")))
        self.assertTrue(info_of(output)["ended"])

    def test_threads_are_cut_at_the_same_time(self):
        output, _ = self.cut(trace_path(THREADED), 150000)
        kept, whole = self.dump(output), self.dump(trace_path(THREADED))
        self.assertTrue(149900 < len(kept) < 150100, len(kept))
        last = max(int(line.split()[0]) for line in kept)
        self.assertLess(last, int(whole[150200].split()[0]))
        self.assertEqual(sorted(kept), sorted(whole[:len(kept)]))
        self.assert_status(lucid("trace", "check", output), 0)

    def test_refused(self):
        git = trace_path("git.trace")
        output, _ = self.cut(git, 100)
        for arguments in ([git, "-o", output, "--events", "5"], [git, "--events", "5"],
                          [git, "-o", self.path("x")], [git, git, "-o", self.path("x")],
                          [git, "-o", self.path("x"), "--events", "0"],
                          [output, "-o", output, "--force", "--events", "5"],
                          [trace_path("steps.rep"), "-o", self.path("x"), "--events", "5"],
                          [self.path("missing"), "-o", self.path("x"), "--events", "5"]):
            with self.subTest(arguments):
                result = lucid("trace", "cut", *arguments)
                self.assert_status(result, 2)
                self.assertTrue(re.fullmatch("lucid.*: .*\n", result.err), result.err)
                self.assertFalse(os.path.exists(self.path("x")))
        self.assertEqual(info_of(output)["schema"], "lucid-trace-info-1")


if __name__ == "__main__":
    unittest.main()
