"""bench/run.py from end to end, with very little work: rounds, resuming, external programs."""

import json
import os
import subprocess
import unittest

import benchtest
from benchtest import BENCH, PYTHON, BenchTest

LIBRARY = benchtest.library()
PROGRAMS = benchtest.programs()
TINY = ("--lib", LIBRARY, "--programs", PROGRAMS, "--scale", "0.01", "--allocators", "glibc,lucid")
ROWS = "^(batches-lifo|lua)$"


def run(*arguments, script="run.py", **variables):
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1",
                   **variables}
    return subprocess.run([PYTHON, os.path.join(BENCH, script), *arguments], env=environment,
                          capture_output=True, text=True, timeout=100, check=False)


def load(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


class Harness(BenchTest):
    def bench(self, *arguments, status=0, **variables):
        done = run(*TINY, *arguments, **variables)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_rounds_resumed_printed_and_drawn(self):
        saved = self.path("result.json")
        output = self.bench("--only", ROWS, "--repeats", "2", "--output", saved)
        for shown in ("batches-lifo ", "lua ", "geometric means over 1 programs", "system calls"):
            self.assertIn(shown, output)
        first = load(saved)
        self.assertEqual(first["schema"], "lucid-bench-2")
        self.assertEqual(set(first["programs"]), {"batches-lifo", "lua"})
        self.assertEqual(first["failures"], {})
        self.assertRegex(first["allocators"]["lucid"]["sha256"], "^[0-9a-f]{64}$")
        for row, about in first["programs"].items():
            for name in ("glibc", "lucid"):
                self.assertEqual(len(about["allocators"][name]), 2)
                for result in about["allocators"][name]:
                    for key in ("seconds", "peak_rss", "final_rss", "mean_rss"):
                        self.assertGreater(result[key], 0, f"{row} {name} {key}")
                self.assertGreater(first["syscalls"][row][name], 0)

        self.bench("--only", ROWS, "--repeats", "1", "--resume", saved, "--no-syscalls")
        again = load(saved)
        self.assertEqual(again["repeats"], 3)
        self.assertEqual(again["programs"]["lua"]["allocators"]["lucid"][:2],
                         first["programs"]["lua"]["allocators"]["lucid"])
        self.assertEqual(again["summary"]["groups"]["all"]["rows"], 2)

        printed = run("--from", saved, "--markdown", "--base", "lucid", "--plots",
                      self.path("more"))
        self.assertEqual(printed.returncode, 0, printed.stderr)
        self.assertTrue(printed.stdout.startswith("| program | lucid | glibc |\n"), printed.stdout)
        self.assertTrue(os.path.isfile(os.path.join(self.path("more"), "time-memory.svg")))
        drawn = run(saved, "--out", self.path("plots"), script="plot.py")
        self.assertEqual(drawn.returncode, 0, drawn.stderr)
        self.assertTrue(os.path.isfile(os.path.join(self.path("plots"), "time-memory.svg")))

        self.bench("--only", ROWS, "--resume", saved, "--scale", "0.02", status=1)
        self.assertEqual(load(saved), again)

    def test_external_programs(self):
        tests = self.path("tests", "# name|directory|command|metric\n"
                          f"wall|{self.path('')}|/usr/bin/env true\n"
                          "rate|/|sh -c 'echo speed: 50'|rate:100:speed: ([0-9]+)\n"
                          "time|/|sh -c 'echo took 7s >&2'|time:took ([0-9]+)s\n"
                          "preload|/|sh -c 'case $LD_PRELOAD in libc*) ;; *) exit 3;; esac'|\n")
        saved = self.path("result.json")
        output = self.bench("--tests", tests, "--group", "external", "--repeats", "1",
                            "--output", saved, status=1)
        self.assertIn("failed: preload on lucid: ended with status 3", output)
        document = load(saved)
        figures = {row: about["allocators"]["glibc"][0]["figure"]
                   for row, about in document["programs"].items()}
        self.assertEqual((figures["rate"], figures["time"]), (2.0, 7.0))
        self.assertGreater(figures["wall"], 0)
        self.assertNotIn("lucid", document["programs"]["preload"]["allocators"])

    def test_peers_of_the_variable(self):
        saved = self.path("result.json")
        self.bench("--allocators", "glibc,twin,lucid", "--only", "^batches-fifo$", "--quick",
                   "--output", saved, PEERS=f"twin={LIBRARY} other={LIBRARY}")
        self.assertEqual(list(load(saved)["allocators"]), ["glibc", "twin", "lucid"])
        tests = self.path("tests", "told|/|sh -c 'test \"$LUCID_OPTIONS\" = limit:1G'|\n")
        output = self.bench("--tests", tests, "--group", "external", "--repeats", "1",
                            "--allocators", "glibc,told", "--output", saved,
                            PEERS=f"told={LIBRARY};LUCID_OPTIONS=limit:1G", status=1)
        self.assertIn("failed: told on glibc", output)
        self.assertNotIn("failed: told on told", output)
        self.assertEqual(load(saved)["allocators"]["told"]["settings"],
                         {"LUCID_OPTIONS": "limit:1G"})
        output = self.bench("--only", "^redis$", "--repeats", "1", "--allocators", "glibc,told",
                            "--output", saved, PEERS=f"told={LIBRARY};LUCID_OPTIONS=limit:700K")
        # A server gets the settings as well, and this one cannot run.
        self.assertIn("failed: redis on told", output)
        self.assertNotIn("failed: redis on glibc", output)
        for bad in ("nothing", "x=/missing", f"lucid={LIBRARY}", f"x={LIBRARY};y"):
            self.bench("--only", "^batches-fifo$", "--quick", "--output", saved, status=1,
                       PEERS=bad)


class Faults(BenchTest):
    def test_are_told(self):
        faults = {
            ("--only", "no such row"): "no program matches",
            ("--allocators", "glibc,nonesuch"): "no such allocator: nonesuch",
            ("--base", "nonesuch"): "the base nonesuch",
            ("--tests", self.path("tests", "a line\n")): "name|directory|command|metric",
            ("--resume", self.path("old.json", "{}")): "is no result of schema",
            ("--lib", "/missing/liblucid.so"): "does not exist",
        }
        for arguments, message in faults.items():
            with self.subTest(arguments):
                done = run(*TINY, "--no-syscalls", "--output", self.path("o"), "--only", "^lua$",
                           *arguments)
                self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
                self.assertIn(message, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
