"""The command `lucid lab` itself: its list, its forms of output, its exit statuses.

CTest gives LUCID_COMMAND and LUCID_LIBRARY in the environment. That every experiment holds is
checked by tests of their own (CMakeLists.txt); here are those that are quick.
"""

import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from commandtest import required_file  # noqa: E402

COMMAND = required_file("LUCID_COMMAND")
BROKEN = required_file("LAB_BROKEN")  # its malloc aborts
LIAR = required_file("LAB_LIAR")  # tells facts of its own
BOOK = pathlib.Path(__file__).resolve().parents[2] / "docs" / "book"
HERE = pathlib.Path(__file__).resolve().parent
# What CMakeLists.txt runs, one test each.
TESTED = re.search(r"foreach\(name (malloc1[^)]*)\)", (HERE / "CMakeLists.txt").read_text()
                   ).group(1).split()

# Those that take no second.
QUICK = ["malloc1", "threshold", "steps", "untouched", "kr", "slab", "mapping", "addresses",
         "misuse"]
SIMULATED = {"kr", "fits", "slab"}  # and mapping: no allocator of a process
MEMBERS = {
    "text": {"text"},
    "table": {"title", "columns", "rows"},
    "chart": {"title", "x", "y", "series"},
    "heap": {"title", "allocator", "frames", "left_out"},
    "addresses": {"title", "parts"},
}


def lab(*arguments, before=None, **changes):
    environment = {**os.environ, "LC_ALL": "C", "TERM": "dumb", **changes}
    return subprocess.run([COMMAND, "lab", *arguments], env=environment, text=True, timeout=100,
                          stdin=subprocess.DEVNULL, capture_output=True, check=False,
                          preexec_fn=before)


class Lab(unittest.TestCase):
    def holds(self, done):
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(done.stderr, "")

    def refused(self, done, text):
        """Bad input: one line that says what is wrong, and nothing done."""
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertRegex(done.stderr, rf"\Alucid[^\n]*{text}[^\n]*\n\Z")

    def test_list(self):
        listed = lab("--json")
        self.holds(listed)
        experiments = json.loads(listed.stdout)["experiments"]
        self.assertEqual([entry["name"] for entry in experiments], TESTED)
        for entry in experiments:
            self.assertGreater(len(entry["expect"]), 100, entry["name"])
        text = lab()
        self.holds(text)
        for name in TESTED:
            self.assertRegex(text.stdout, rf"(?m)^ +{name} +\S")

    def test_text_ends_with_the_verdict(self):
        done = lab("kr")
        self.holds(done)
        self.assertEqual(done.stdout.strip().splitlines()[-1], "kr: holds")
        self.assertIn("step 8", done.stdout)

    def test_json(self):
        done = lab("malloc1", "--json")
        self.holds(done)
        document = json.loads(done.stdout)
        self.assertEqual(document["schema"], "lucid-document/1")
        results = document["results"]
        self.assertEqual((results["experiment"], results["holds"]), ("malloc1", True))
        self.assertTrue(all(check["holds"] for check in results["checks"]))
        facts = {entry["of"]: entry["facts"] for entry in results["facts"]}
        self.assertEqual(set(facts), {"glibc", "pt", "lucid"})
        self.assertEqual(facts["pt"]["offset"], 16)
        self.assertEqual(facts["glibc"]["map_bytes"], 132 * 1024)

    def check_document(self, document, name):
        self.assertEqual(document["schema"], "lucid-document/1")
        kinds = [section["type"] for section in document["sections"]]
        self.assertEqual((kinds[0], kinds[-2:]), ("text", ["table", "text"]), name)
        for section in document["sections"]:
            self.assertLessEqual(set(section) - {"type"}, MEMBERS[section["type"]], name)
        for table in (section for section in document["sections"] if section["type"] == "table"):
            self.assertTrue(table["rows"], f"{name}: {table['title']} is empty")
            for row in table["rows"]:
                self.assertEqual(len(row), len(table["columns"]), row)
        for chart in (section for section in document["sections"] if section["type"] == "chart"):
            self.assertTrue(chart["series"], f"{name}: {chart['title']} is empty")
            for series in chart["series"]:
                self.assertEqual(len(series["values"]), len(chart["x"]["values"]))
                self.assertNotIn(None, series["values"], f"{name}: {chart['title']}")
        results = document["results"]
        self.assertEqual((results["schema"], results["experiment"]), ("lucid-lab-1", name))
        self.assertGreater(len(results["checks"]), 3, name)
        self.assertEqual(results["holds"], all(check["holds"] for check in results["checks"]))
        rows = document["sections"][-2]["rows"]
        self.assertEqual([row[2] == "yes" for row in rows],
                         [check["holds"] for check in results["checks"]])

    def test_documents(self):
        done = lab(*QUICK, "--json")
        self.holds(done)
        documents = json.loads(done.stdout)
        self.assertEqual([document["results"]["experiment"] for document in documents], QUICK)
        for name, document in zip(QUICK, documents):
            self.check_document(document, name)
            self.assertEqual(name in SIMULATED, document["results"]["facts"] == [])
        heaps = {section["allocator"]: section["frames"]
                 for document in documents for section in document["sections"]
                 if section["type"] == "heap"}
        self.assertEqual(set(heaps), {"kr", "slab", "buddy"})
        self.assertEqual(len(heaps["kr"]), 8)
        for allocator, frames in heaps.items():
            for frame in frames:
                self.assertEqual(sum(block[1] for block in frame["blocks"]), frame["held"])
                used = [block for block in frame["blocks"] if block[4] == "used"]
                self.assertEqual(sum(block[3] for block in used), frame["live"])
                self.assertTrue(all(block[5] < frame["event"] for block in used), allocator)
        # p2 of the notes was made in step 3: in step 8 it is 5 steps old.
        ages = [block[5] for block in heaps["kr"][7]["blocks"] if block[4] == "used"]
        self.assertEqual(ages, [5])
        self.assertGreater(max(block[5] for block in heaps["slab"][-1]["blocks"]), 1000)

    def test_headings_differ(self):
        for document in json.loads(lab("addresses", "fits", "--json").stdout):
            titles = [section["title"] for section in document["sections"] if "title" in section]
            self.assertEqual(len(titles), len(set(titles)), titles)

    def test_frames_begin_at_the_beginning_and_name_calls(self):
        document = json.loads(lab("fits", "--json").stdout)
        heaps = [section for section in document["sections"] if section["type"] == "heap"]
        self.assertEqual(len(heaps), 5)
        for heap in heaps:
            self.assertEqual([frame["event"] for frame in heap["frames"]],
                             [1, *range(2000, 20001, 2000)])
            for frame in heap["frames"]:
                asked, place = re.fullmatch(r"malloc\(([\d,]+)\) = \+0x([0-9a-f]+)",
                                            frame["call"]).groups()
                fresh = [b for b in frame["blocks"] if b[4] == "used" and b[5] == 0]
                self.assertIn((int(place, 16), int(asked.replace(",", ""))),
                              [(b[0] + b[2], b[3]) for b in fresh])
        kr = json.loads(lab("kr", "--json").stdout)
        heap = next(section for section in kr["sections"] if section["type"] == "heap")
        self.assertEqual(heap["frames"][3]["call"], "free(p1)")

    def test_text_fits(self):
        text = lab(*QUICK, "giveback").stdout
        for line in text.splitlines():
            self.assertLessEqual(len(line), 100, line)
            # Numbers are written in one way, and rounded; addresses are of another kind.
            self.assertNotRegex(line, r"(?<![\w.+/-])\d{5,}(?![\w-])")
            self.assertNotRegex(line, r"\d\.\d{5,}")
        self.assertRegex(text, r"(?m)^ *8 +(\d\.\d|\d+\.\d) (KiB|MiB)|^ *8 +0 B")

    def test_a_probe_that_dies(self):
        names = [name for name in TESTED
                 if name not in SIMULATED | {"mapping", "misuse", "giveback"}]
        done = lab(*names, "-a", f"broken={BROKEN}", "--json")
        self.assertEqual(done.returncode, 1, done.stderr)
        for name, document in zip(names, json.loads(done.stdout), strict=True):
            results = document["results"]
            self.assertFalse(results["holds"], name)
            complaints = [check["measured"] for check in results["checks"] if not check["holds"]]
            self.assertRegex(complaints[0], r"the probe '\w+' ended with (134|1): broken: I refuse",
                             name)
        text = lab("malloc1", "-a", f"broken={BROKEN},kr")
        self.assertEqual(text.returncode, 1)
        self.assertEqual(text.stdout.strip().splitlines()[-1], "malloc1: does not hold")
        self.assertRegex(text.stdout, r"(?m)^broken .*ended with 134.* NO$")
        self.assertRegex(text.stdout, r"(?m)^kr .* yes$")
        # What dies in all of these was not the misuse.
        misuse = lab("misuse", "-a", f"broken={BROKEN}")
        self.assertIn("9 of 9 misuses", misuse.stdout)

    def test_facts(self):
        done = lab("malloc1", "--json", "-a", f"liar={LIAR}")
        self.holds(done)
        facts = json.loads(done.stdout)["results"]["facts"][0]["facts"]
        self.assertEqual(facts["liar"], 42)
        self.assertEqual(facts["told"], "a text | with ? and blanks")
        self.assertEqual(facts["points"], [[1, 2], [3, 4.5]])
        self.assertEqual(len(facts["long"]), 100000 - 8)
        self.assertEqual(facts["word"], 0)
        for name in "no_number", "what", "alone", "", "x":
            self.assertNotIn(name, facts)
        self.assertGreaterEqual(facts["usable_bytes"], 1)  # the probe's own

    def test_surroundings(self):
        """What is set where the command runs does not show in what its probes measure."""
        plain = lab("malloc1", "--json", "-a", "glibc", LD_PRELOAD=LIAR)
        self.holds(plain)
        self.assertNotIn("liar", json.loads(plain.stdout)["results"]["facts"][0]["facts"])

        def no_limit():
            hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
            resource.setrlimit(resource.RLIMIT_STACK, (hard, hard))
            for descriptor in range(3, 20):
                os.dup2(2, descriptor)  # taken, among them the one for facts
        self.holds(lab("addresses", "malloc1", before=no_limit))

    def test_chosen_allocators(self):
        done = lab("malloc1", "--json", "-a", "kr,lucid")
        self.holds(done)
        facts = json.loads(done.stdout)["results"]["facts"]
        self.assertEqual([entry["of"] for entry in facts], ["kr", "lucid"])
        # What is known of glibc and lucid is not expected of others.
        self.holds(lab("malloc1", "threshold", "steps", "faults", "addresses", "misuse",
                       "-a", "kr,buddy,slab"))
        self.assertIn("-a is not used", lab("kr", "-a", "lucid").stdout)

    def test_what_does_not_hold(self):
        done = lab("threshold", "-a", "lucid", LUCID_OPTIONS="mmap_threshold:16M")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stdout.strip().splitlines()[-1], "threshold: does not hold")
        # The others are run all the same.
        both = lab("threshold", "kr", "-a", "lucid", LUCID_OPTIONS="mmap_threshold:16M")
        self.assertEqual(both.returncode, 1)
        self.assertEqual(both.stdout.strip().splitlines()[-1], "kr: holds")

    def test_page(self):
        with tempfile.TemporaryDirectory() as place:
            page = pathlib.Path(place, "kr.html")
            self.holds(lab("kr", "--html", str(page)))
            text = page.read_text(encoding="utf-8")
            self.assertIn("Kernighan", text)
            self.assertLess(len(text), 5_000_000)
            before = page.stat().st_mtime_ns
            self.refused(lab("kr", "--html", str(page)), "exists; --force overwrites it")
            self.assertEqual(page.stat().st_mtime_ns, before)
            self.holds(lab("kr", "--html", str(page), "--force"))
            report = pathlib.Path(place, "report")
            self.holds(lab("kr", "-o", str(report)))
            self.assertIn("kr: holds", report.read_text(encoding="utf-8"))
            self.refused(lab("kr", "-o", str(report)), "exists; --force overwrites it")

    def test_book(self):
        """Every command of the book exists, every experiment is in it, in both languages."""
        chapters = {}
        for language in ("en", "zh"):
            texts = {path.name: path.read_text(encoding="utf-8")
                     for path in sorted((BOOK / language).glob("*.md"))}
            chapters[language] = {name: re.findall(r"(?m)^    (lucid [^#\n]*?)(?:  .*)?$", text)
                                  for name, text in texts.items()}
        self.assertEqual(chapters["en"], chapters["zh"])
        commands = [command for found in chapters["en"].values() for command in found]
        named = {command.split()[2] for command in commands if command.startswith("lucid lab ")}
        self.assertEqual(named, set(TESTED))
        for line in (BOOK / "README.md").read_text(encoding="utf-8").splitlines():
            for link in re.findall(r"\]\((\S+\.md)\)", line):
                self.assertTrue((BOOK / link).is_file(), link)

    def test_bad_input(self):
        self.refused(lab("no_such"), "no experiment is called 'no_such'")
        self.refused(lab("malloc1", "-a", "no_such"), "no_such")
        self.refused(lab("--no-such"), "no-such")
        self.refused(lab("kr", "fits", "--html", "x"), "--html is for one experiment")
        self.refused(lab("kr", "-o", "/no/such/place"), "/no/such/place")
        self.refused(lab("kr", "--overcommit"), "--overcommit is for the experiment 'untouched'")
        self.refused(lab("all", "-a", "lucid,lucid"), "named twice")


if __name__ == "__main__":
    unittest.main()
