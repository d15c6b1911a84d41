"""`lucid trace`: what it shows, and what it says of files that are no whole traces."""

import json
import subprocess
import unittest

import tracetest
from tracetest import CALLS, lucid

REP = b"20000\n3\n6\n1\na 0 512\na 1 128\nr 0 640\na 2 128\nf 1\nf 0\n"


class Trace(tracetest.TraceTest):
    def test_info_as_text(self):
        path = self.record(CALLS, "all")
        result = lucid("trace", "info", path)
        self.assert_status(result, 0)
        for label, value in (("format", "lucid 1"), ("command", f"{CALLS} all"), ("threads", "2"),
                             ("end", "the program's exit")):
            self.assertRegex(result.out, rf"(?m)^{label} +{value}$")

    def test_dump_has_as_many_lines_as_there_are_events(self):
        path = self.record(CALLS, "all")
        info = self.info(path)
        result = lucid("trace", "dump", path)
        self.assert_status(result, 0)
        lines = result.out.splitlines()
        self.assertEqual(len(lines), info["events"])
        self.assertRegex(result.out, r"(?m)^\d+ \d alloc \d+ 7021 bytes zeroed$")
        self.assertRegex(result.out, r"(?m)^\d+ \d alloc \d+ 7040 bytes align 64$")
        self.assertRegex(result.out, r"(?m)^\d+ \d resize \d+ -> \d+ 70005 bytes$")
        self.assertRegex(result.out, r"(?m)^\d+ \d thread_end$")
        times = [int(line.split()[0]) for line in lines]
        self.assertEqual(times, sorted(times))

    def test_check(self):
        path = self.record(CALLS, "all")
        result = lucid("trace", "check", path)
        self.assert_status(result, 0)
        self.assertIn("can be read", result.out)
        report = json.loads(lucid("trace", "check", "--json", path).out)
        self.assertEqual((report["schema"], report["whole"]), ("lucid-trace-check-1", True))

    def test_torn(self):
        path = self.record(CALLS, "all")
        with open(path, "rb") as file:
            whole = file.read()
        torn = self.path("torn", whole[:-1])
        result = lucid("trace", "check", torn)
        self.assert_status(result, 1)
        self.assertIn("torn", result.out)
        self.assertTrue(self.info(torn)["torn"])
        self.assertEqual(self.info(torn)["events"], self.info(path)["events"])

    def test_damage_is_refused_with_its_place(self):
        path = self.record(CALLS, "all")
        with open(path, "rb") as file:
            data = bytearray(file.read())
        data[-1] ^= 1
        damaged = self.path("damaged", data)
        for action in ("info", "dump", "check"):
            result = lucid("trace", action, damaged)
            self.assert_status(result, 2)
            self.assertEqual(result.out, "")
            self.assertRegex(result.err, rf"^lucid: {damaged}: byte \d+: [^\n]+\n$")

    def test_other_files_are_refused(self):
        for content in (b"", b"\x7fELF and so on", b"text\n"):
            result = lucid("trace", "info", self.path("other", content))
            self.assert_status(result, 2)
            self.assertRegex(result.err, r"^lucid: \S+other: byte \d+: [^\n]+\n$")
        for path in ("/no/such/file", "/", "/dev/null"):
            self.assert_status(lucid("trace", "info", path), 2)

    def test_rep(self):
        info = self.info(self.path("x.rep", REP))
        self.assertEqual((info["format"], info["events"], info["resizes"]), ("rep", 6, 1))

    def test_bad_arguments(self):
        path = self.path("x.rep", REP)
        for arguments in ([], ["info"], ["what", path], ["info", path, path], ["--no"]):
            result = lucid("trace", *arguments)
            self.assert_status(result, 2)
            self.assertRegex(result.err, r"^lucid[^\n]*: [^\n]+\n$")

    def test_output_that_cannot_be_written(self):
        path = self.record(CALLS, "all")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([tracetest.COMMAND, "trace", "dump", path], stdout=full,
                                  stderr=subprocess.PIPE, env=tracetest.environment(), check=False)
        self.assertEqual(done.returncode, 125, done.stderr)


if __name__ == "__main__":
    unittest.main()
