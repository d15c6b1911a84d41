"""The subcommands that run nothing: options, version, help, and the dispatch itself."""

import json
import pathlib
import re
import subprocess
import unittest

import tooltest
from tooltest import lucid, lucid_on_terminal

COMMANDS = ("run", "compare", "record", "trace", "replay", "lab", "options", "version", "help")
MANUAL = pathlib.Path(__file__).resolve().parents[2] / "man" / "lucid.1"


class Options(tooltest.ToolTest):
    def options(self, **changes):
        result = lucid("options", "--json", **changes)
        self.assert_status(result, 0)
        report = json.loads(result.out)
        self.assertEqual(report["schema"], "lucid-options-1")
        return {entry["key"]: entry for entry in report["options"]}, result.err

    def test_defaults(self):
        options, err = self.options()
        self.assertEqual(err, "")
        for key in ("stats", "stats_file", "limit", "purge_delay", "mmap_threshold",
                    "trim_threshold", "arena_max", "perturb", "abort", "reserve"):
            self.assertIn(key, options)
        for entry in options.values():
            with self.subTest(entry["key"]):
                self.assertEqual(entry["origin"], "default")
                self.assertEqual(entry["value"], entry["default"])
                self.assertTrue(entry["summary"])

    def test_environment(self):
        options, err = self.options(LUCID_OPTIONS="purge_delay:1234,perturb:7")
        self.assertEqual(err, "")
        for key, value in (("purge_delay", "1234"), ("perturb", "7")):
            self.assertEqual(options[key]["value"], value)
            self.assertEqual(options[key]["origin"], "environment")
        self.assertEqual(options["limit"]["origin"], "default")

    def test_bad_key_is_reported_once(self):
        _, err = self.options(LUCID_OPTIONS="no_such_key:1")
        self.assertEqual(err.count("no_such_key"), 1, err)

    def test_the_command_itself_has_none(self):
        for options in ("stats:1", "no_such_key:1"):
            for arguments in (["version"], ["run", "-a", "glibc", "-o", "/dev/null", "true"]):
                with self.subTest(options=options, arguments=arguments):
                    result = lucid(*arguments, LUCID_OPTIONS=options)
                    self.assert_status(result, 0)
                    self.assertEqual(result.err, "")

    def test_as_text(self):
        result = lucid("options", LUCID_OPTIONS="purge_delay:1234")
        self.assertRegex(result.out, r"(?m)^key +default +value +origin +what it is$")
        self.assertRegex(result.out, r"(?m)^purge_delay +\S+ +1234 +environment +\S")

    def test_colours(self):
        self.assertRegex(lucid_on_terminal("options").out, tooltest.COLOUR)
        self.assertNotRegex(lucid_on_terminal("options", NO_COLOR="1").out, tooltest.COLOUR)
        self.assertLessEqual(max(len(line) for line in lucid("options").out.split("\n")), 100)


class HelpAndVersion(tooltest.ToolTest):
    def test_version(self):
        for word in ("version", "--version"):
            result = lucid(word)
            self.assert_status(result, 0)
            self.assertRegex(result.out, r"^lucid \d+\.\d+\.\d+\n$")

    def test_help_lists_every_command(self):
        for word in ("help", "--help"):
            result = lucid(word)
            self.assert_status(result, 0)
            self.assertEqual(tuple(re.findall(r"(?m)^  (\w+) +\w", result.out)), COMMANDS)

    def test_the_manual_has_every_command(self):
        manual = MANUAL.read_text()
        headings = set(re.findall(r"lucid (\w+)", " ".join(re.findall(r"(?m)^\.Ss (.*)$", manual))))
        self.assertEqual(headings, set(COMMANDS))

    def test_help_of_a_command_is_its_own(self):
        for command in COMMANDS:
            with self.subTest(command):
                result = lucid("help", command)
                self.assert_status(result, 0)
                self.assertTrue(result.out.startswith(f"Usage: lucid {command}"), result.out)
                self.assertEqual(result.out, lucid(command, "--help").out)

    def test_mistakes(self):
        for arguments in ([], ["no-such"], ["help", "no-such"], ["version", "more"],
                          ["options", "more"]):
            with self.subTest(arguments=arguments):
                result = lucid(*arguments)
                self.assert_status(result, 2)
                self.assertRegex(result.err, r"^[^\n]+\n$")
                self.assertEqual(result.out, "")
                self.assertTrue(result.err.startswith("lucid"), result.err)

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([tooltest.COMMAND, "help"], stdout=full, stderr=subprocess.PIPE,
                                  env=tooltest.environment(), check=False)
        self.assertEqual(done.returncode, 125, done.stderr)


if __name__ == "__main__":
    unittest.main()
