"""Input that `lucid replay` refuses: one line, exit status 2, nothing written."""

import os
import unittest

from replaytest import ReplayTest, rep, trace_path
from tooltest import lucid

HEADER = "0\n2\n3\n1\n"
GOOD = HEADER + "a 0 10\na 1 20\nf 0\n"


class Traces(ReplayTest):
    def assert_refused(self, result, *words):
        self.assert_status(result, 2)
        self.assertEqual(result.out, "")
        self.assertEqual(result.err.count("\n"), 1, result.err)
        for word in words:
            self.assertIn(word, result.err)

    def test_the_good_one_is_good(self):
        variants = (GOOD, GOOD.rstrip("\n"), GOOD.replace("\n", "\r\n"), "\n\n" + GOOD + "\n \n",
                    GOOD.replace(" ", " \t "))
        for text in variants:
            self.assert_status(lucid("replay", self.path("good", text), "-a", "kr"), 0)

    def test_faults(self):
        faults = [
            ("0\n", len("0\n"), "it ends before the number of ids"),
            ("0\n2\n3\n", len("0\n2\n3\n"), "it ends before the weight"),
            ("0\nx\n3\n1\n", 2, "the number of ids is not a number"),
            ("0\n-1\n3\n1\n", 2, "the number of ids is not a number"),
            ("0 2\n3\n1\n", 0, "the suggested heap size is not a number on a line of its own"),
            ("0\n99999999999999999999\n3\n1\n", 2, "the number of ids is not a number"),
            ("0\n1000000\n3\n1\n", 2, "larger than the whole file"),
            ("0\n2\n1000000\n1\n", 4, "larger than the whole file"),
            (GOOD.replace("a 1", "b 1"), len(HEADER) + 7, "none of a, f and r"),
            (GOOD.replace("a 1", "alloc 1"), len(HEADER) + 7, "none of a, f and r"),
            (GOOD.replace("a 1", "a 2"), len(HEADER) + 9, "no id below"),
            (GOOD.replace("a 1", "a -1"), len(HEADER) + 9, "no id below"),
            (GOOD.replace("20", "20x"), len(HEADER) + 11, "this is no size"),
            (GOOD.replace("20", "-20"), len(HEADER) + 11, "this is no size"),
            (GOOD.replace("20", "9" * 19), len(HEADER) + 11, "this is no size"),
            (GOOD.replace("20", "20 30"), len(HEADER) + 7, "an id and a size, and no more"),
            (GOOD.replace("20", ""), len(HEADER) + 7, "an id and a size, and no more"),
            (GOOD.replace("f 0", "f 0 0"), len(HEADER) + 14, "an id, and no more"),
            (GOOD.replace("a 1", "a 0"), len(HEADER) + 7, "allocated already"),
            (GOOD.replace("a 1", "r 1"), len(HEADER) + 7, "not allocated"),
            (HEADER + "a 0 10\nf 0\nf 0\n", len(HEADER) + 11, "not allocated"),
            (HEADER + "a 0 10\nf 0\n", len(HEADER) + 11, "it ends after 2 of 3 operations"),
            (GOOD + "a 0 1\n", len(GOOD), "more operations than the header says"),
        ]
        for text, offset, reason in faults:
            with self.subTest(text):
                result = lucid("replay", self.path("bad.rep", text), "-a", "kr")
                self.assert_refused(result, f"byte {offset}: ", reason)

    def test_no_trace(self):
        self.assert_refused(lucid("replay", self.path("missing")), "missing")
        self.assert_refused(lucid("replay", self.directory))
        self.assert_refused(lucid("replay", self.path("empty", "")))
        self.assert_refused(lucid("replay", self.path("text", "all work and no play\n")))
        self.assert_refused(lucid("replay", "/bin/true"))
        self.assert_refused(lucid("replay", self.path("none.rep", rep(0, []))), "no events")

    def test_arguments(self):
        good = trace_path("steps.rep")
        for arguments in ([], [good, good], [good, "-a", "no-such"], [good, "-a", ""],
                          [good, "-a", "kr,,first"], [good, "-a", "kr,kr"],
                          [good, "-a", "glibc,glibc"], [good, "-a", "x=/nonexistent"],
                          [good, "-a", "x=/usr/bin/python3.so"], [good, "--every", "0"],
                          [good, "--every", "x"], [good, "--repeat", "0"], [good, "--no-such"],
                          [good, "--frames", "-1"], [good, "-a", "real:no-such"]):
            with self.subTest(arguments):
                self.assert_refused(lucid("replay", *arguments))

    def test_a_library_without_malloc(self):
        library = os.path.realpath("/lib/x86_64-linux-gnu/libm.so.6")
        result = lucid("replay", trace_path("steps.rep"), "-a", f"none={library}")
        self.assert_refused(result, "has no malloc")


class Files(ReplayTest):
    def test_nothing_is_overwritten(self):
        good = trace_path("steps.rep")
        for option in ("-o", "--html"):
            with self.subTest(option):
                there = self.path("there", "precious")
                result = lucid("replay", good, "-a", "kr", option, there)
                self.assert_status(result, 2)
                self.assertRegex(result.err, "^lucid: .*there exists; --force overwrites it\n$")
                with open(there, encoding="utf-8") as file:
                    self.assertEqual(file.read(), "precious")
                self.assert_status(lucid("replay", good, "-a", "kr", option, there, "--force"), 0)
                with open(there, encoding="utf-8") as file:
                    self.assertIn("Replay of", file.read())

    def test_output_that_cannot_be_made(self):
        for option in ("-o", "--html"):
            result = lucid("replay", trace_path("steps.rep"), "-a", "kr", option,
                           "/nonexistent/file")
            self.assert_status(result, 2)

    def test_help(self):
        result = lucid("replay", "--help")
        self.assert_status(result, 0)
        for word in ("--allocators", "--every", "--html", "--force", "--repeat", "record"):
            self.assertIn(word, result.out)


if __name__ == "__main__":
    unittest.main()
