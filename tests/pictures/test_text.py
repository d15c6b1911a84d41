"""Documents as JSON and as text, and a heap drawn by them (draw_heap.c)."""

import json
import os
import re
import tempfile
import unittest

import picturetest
from picturetest import COLOUR, DRAW_HEAP, on_terminal, output, run, sections


def numbers_of(strip_frame):
    """What the last line of a frame tells: {"used": 425, …}."""
    line = strip_frame.rstrip().rsplit("\n", 1)[1]
    return {name.strip(): int(number.replace(",", ""))
            for name, number in re.findall(r"([a-z ]+?) ([\d,]+)(?:,| bytes)", line)}


class Json(unittest.TestCase):
    def setUp(self):
        self.document = json.loads(output("all", "json"))

    def test_is_what_the_header_says(self):
        self.assertEqual(self.document["schema"], "lucid-document/1")
        self.assertEqual(self.document["title"], "A document & its <parts>")
        self.assertEqual([section["type"] for section in self.document["sections"]],
                         ["text", "text", "table", "chart", "chart", "chart", "heap", "heap",
                          "addresses"])

    def test_cells_that_are_numbers_become_numbers(self):
        table = sections(self.document, "table")[0]
        self.assertEqual(table["columns"], ["asked", "distance", "ratio", "remark"])
        self.assertEqual(table["rows"][3], [3, 32, 0.429, "</script><b>&amp;"])
        self.assertEqual(table["rows"][-1], ["0x10", "007", "", "a short row"])

    def test_chart(self):
        chart = sections(self.document, "chart")[0]
        self.assertEqual(chart["x"], {"label": "events", "values": list(range(0, 200, 10))})
        self.assertEqual(chart["y"], {"label": "memory", "unit": "bytes"})
        self.assertEqual([series["name"] for series in chart["series"]], ["held", "live"])
        self.assertEqual(chart["series"][0]["values"][:4], [4096, 8192, None, 16384])
        self.assertEqual(chart["series"][1]["values"][:2], [0.5, 100.5])

    def test_blocks_add_up(self):
        for heap in sections(self.document, "heap"):
            self.assertEqual(len(heap["frames"]), 9)
            for frame in heap["frames"]:
                self.assertEqual(sum(block[1] for block in frame["blocks"]), frame["held"])
                self.assertEqual(sum(block[3] for block in frame["blocks"]), frame["live"])
                self.assertEqual({block[4] for block in frame["blocks"]},
                                 {"used", "free", "cached", "top", "meta"})
        self.assertEqual([heap["left_out"] for heap in sections(self.document, "heap")],
                         [None, "3 threads"])

    def test_addresses(self):
        parts = sections(self.document, "addresses")[0]["parts"]
        self.assertEqual(parts[3], {"name": "heap", "start": "0x555555575000", "bytes": 135168,
                                    "kind": "heap", "note": "135,168 bytes"})
        self.assertEqual(parts[-1]["start"], "0xffff800000000000")

    def test_bytes_that_are_no_utf8(self):
        self.assertIn("? is no UTF-8", self.document["sections"][0]["text"])


class Text(unittest.TestCase):
    def frames(self, text, cell, legend):
        """Compare every strip with the JSON: bytes of the cells, and the figures below them."""
        document = json.loads(output("all", "json"))
        heaps = re.split(r"\n\nheap of ", text)[1:]
        self.assertEqual(len(heaps), 2)
        for shown, heap in zip(heaps, sections(document, "heap")):
            self.assertIn(legend, shown)
            drawn = re.split(r"\nevent ", shown)[1:]
            self.assertEqual(len(drawn), len(heap["frames"]))
            for strip, frame in zip(drawn, heap["frames"]):
                self.assertTrue(strip.startswith(f"{frame['event']}: held {frame['held']:,} "))
                cells = "".join(re.findall(r"\n  \+0x[0-9a-f]+ +(\S+)", strip))
                self.assertEqual(16 * len(cells), frame["held"])
                figures = numbers_of(strip.split("\n\n")[0].split("\nLeft out")[0])
                self.assertEqual(sum(figures.values()), frame["held"])
                self.assertEqual(figures["used"], frame["live"])
                for name, mark in cell.items():
                    blocks = [b for b in frame["blocks"] if b[4] == name]
                    self.assertEqual(figures[name], sum(b[1] for b in blocks))
                    self.assertEqual(16 * cells.count(mark), figures[name])
                headers = sum(b[2] for b in frame["blocks"] if b[4] == "used")
                self.assertEqual(figures["header"], headers)

    def test_plain(self):
        text = output("all", "text")
        self.frames(text, {"free": ".", "cached": "c", "top": "_", "meta": "@"}, "1 cell = 16")
        strips = text.split("\nheap of ", 1)[1]
        self.assertTrue(strips.isascii(), "a strip has characters that are not ASCII")
        self.assertNotRegex(text, COLOUR)

    def test_rich(self):
        text = on_terminal("all", "text")
        self.assertRegex(text, COLOUR)
        self.frames(COLOUR.sub("", text), {"free": "░", "cached": "▚", "top": "·", "meta": "▓"},
                    "█ used")
        self.assertIn("┌──", text)
        self.assertRegex(text, "[▂▃▄▅▆▇]")

    def test_terminals_that_get_plain_text(self):
        plain = output("all", "text")
        for changes in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": None}):
            with self.subTest(changes):
                self.assertEqual(on_terminal("all", "text", **changes), plain)
        no_utf8 = on_terminal("all", "text", LC_ALL="C")
        self.assertEqual(COLOUR.sub("", no_utf8), plain)

    def test_tables_are_aligned(self):
        lines = output("all", "text").split("distance of neighbours\n")[1].split("\n\n")[0]
        rows = lines.split("\n")
        self.assertEqual(rows[0], "asked  distance  ratio  remark")
        self.assertEqual(rows[4], "3      32        0.429  </script><b>&amp;")

    def test_texts_are_filled_and_pictures_kept(self):
        text = output("all", "text")
        self.assertIn("\n    a picture\n      of it\n", text)
        self.assertTrue(all(len(line) <= 80 for line in text.split("\n\n")[1].split("\n")))

    def test_charts_have_figures(self):
        chart = output("all", "text").split("\nmemory\n")[1].split("\n\n")[0]
        self.assertRegex(chart, r"held +\S.*4\.0 KiB to 80\.0 KiB")
        self.assertRegex(chart, r"(?m)^ +190 +80\.0 KiB +1\.9 KiB$")
        self.assertRegex(chart, r"(?m)^ +20 +- +200 B$")

    def test_address_space_is_drawn_from_above(self):
        space = output("all", "text").split("high addresses\n")[1]
        names = re.findall(r"(?m)^  0x[0-9a-f]{16}\| (\S+)", space)
        self.assertEqual(names, ["kernel", "stack", "libc.so.6", "heap", "bss", "data", "text"])
        self.assertIn("124.0 KiB of nothing", space)

    def rows_of(self, text, title):
        """A table as rows of words, with the columns that stand below put beside the others."""
        parts = text.split(f"\n{title}\n")[1].split("\n\n")
        found = {}
        for part in parts:
            if part.startswith("Measured"):
                break
            for line in part.split("\n"):
                words = line.split()
                if words and re.fullmatch(r"a\d", words[0]):
                    found.setdefault(words[0], []).extend(words[1:])
        return found

    def test_tables_fit(self):
        want = {f"a{i}": ["2,922,257", f"{1000 * i:,}", "2,993", "0.25", "12", "-1,234,567"]
                for i in range(3)}
        plain = output("full", "text")
        self.assertLessEqual(max(len(line) for line in plain.split("\n")), 100)
        self.assertEqual(self.rows_of(plain, "Figures"), want)
        for columns in (40, 50, 72, 80, 120, 250):
            with self.subTest(columns):
                text = COLOUR.sub("", on_terminal("full", "text", columns=columns))
                figures = text.split("\nHeld\n")[0]
                self.assertLessEqual(max(len(line) for line in figures.split("\n")), columns)
                self.assertEqual(self.rows_of(text, "Figures"), want)
        wide = on_terminal("full", "text", columns=250, LC_ALL="C", NO_COLOR="1")
        self.assertIn("allocator  held at most, bytes  resident at most, bytes  util", wide)

    def test_long_cells_are_broken(self):
        text = output("full", "text").split("\nMeasured\n")[1].split("\n\n")[0]
        lines = text.split("\n")
        self.assertGreater(len(lines), 2)
        self.assertLessEqual(max(len(line) for line in lines), 80)
        self.assertRegex(lines[1], r"^pt  malloc\(128 KiB\).* yes$")
        told = " ".join(re.sub(r"^(pt)?\s+|\s+(yes)?$", "", line) for line in lines[1:])
        self.assertTrue(told.endswith("and the block is 16 bytes past their beginning, 大小"), told)

    def test_chart_figures_fit(self):
        text = output("full", "text").split("\nHeld\n")[1].split("\naddress space\n")[0]
        self.assertLessEqual(max(len(line) for line in text.split("\n")), 100)
        for name in [f"allocator{i}" for i in range(14) if i != 6] + ["live"]:
            self.assertEqual(len(re.findall(rf"\b{name}\b", text)), 2, name)

    def test_calls_are_told(self):
        self.assertIn("live 425\n  after malloc(24) = +0x40\n", output("full", "text"))

    def test_empty_document(self):
        self.assertEqual(output("empty", "text"), "A document & its <parts>\n")


class Files(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory(prefix="lucid-pictures-")
        self.addCleanup(self.directory.cleanup)

    def path(self, name):
        return os.path.join(self.directory.name, name)

    def reduced(self, kind):
        path = self.path(kind + ".html")
        output(kind, "html", path)
        with open(path, encoding="utf-8") as file:
            document, size = picturetest.page_document(file.read())
        self.assertLessEqual(size, picturetest.PAGE_DATA_BYTES)
        return document, size

    def test_a_page_is_never_overwritten_without_force(self):
        path = self.path("page.html")
        with open(path, "w", encoding="utf-8") as file:
            file.write("mine")
        done = run("all", "html", path)
        self.assertEqual(done.status, 2)
        self.assertRegex(done.err, r"\Alucid: .*page\.html exists.*--force.*\n\Z")
        with open(path, encoding="utf-8") as file:
            self.assertEqual(file.read(), "mine")
        output("all", "html", path, "--force")
        with open(path, encoding="utf-8") as file:
            self.assertTrue(file.read().startswith("<!DOCTYPE html>"))

    def test_a_page_that_cannot_be_written(self):
        self.assertEqual(run("all", "html", "/no/such/page.html").status, 2)
        self.assertEqual(run("all", "html", "/dev/full").status, 125)

    def test_a_small_document_is_whole(self):
        path = self.path("all.html")
        output("all", "html", path)
        with open(path, encoding="utf-8") as file:
            document, _ = picturetest.page_document(file.read())
        self.assertEqual(document, json.loads(output("all", "json")))

    def assert_sums_kept(self, heap):
        """Merging must not change what a frame holds."""
        for frame in heap["frames"]:
            self.assertEqual(sum(block[1] for block in frame["blocks"]), frame["held"])
            self.assertEqual(sum(block[3] for block in frame["blocks"]), frame["live"])
            ends = [block[0] + block[1] for block in frame["blocks"]]
            starts = [block[0] for block in frame["blocks"]]
            self.assertTrue(all(a <= b for a, b in zip(ends, starts[1:])), "blocks overlap")

    def test_one_frame_of_many_blocks(self):
        document, size = self.reduced("wide")
        heap = document["sections"][0]
        self.assert_sums_kept(heap)
        blocks = heap["frames"][0]["blocks"]
        self.assertEqual(sum(block[6] if len(block) > 6 else 1 for block in blocks), 300000)
        self.assertGreater(size, 500_000, "far more was left out than had to be")
        self.assertIn("put together by state", heap["left_out"])

    def test_many_frames(self):
        document, size = self.reduced("many")
        first, second = document["sections"]
        for heap in (first, second):
            self.assert_sums_kept(heap)
            self.assertRegex(heap["left_out"], r"^[\d,]+ of 2,000 frames are kept$")
            self.assertEqual(heap["frames"][0]["event"], 0)
            self.assertEqual(heap["frames"][-1]["event"], 19990)
        self.assertEqual([frame["event"] for frame in first["frames"]],
                         [frame["event"] for frame in second["frames"]])
        self.assertGreater(size, 1_000_000, "far more was left out than had to be")


class DrawnHeap(unittest.TestCase):
    def test_strips_add_up(self):
        text = output("text", program=DRAW_HEAP)
        self.assertIn("The strips add up to what is held.", text)
        self.assertRegex(text, r"(?m)^ *10 +free\(d\)$")
        self.assertEqual(len(re.findall(r"(?m)^event \d+: held", text)), 11)
        self.assertTrue(text.isascii())
        self.assertIn("█", on_terminal("text", program=DRAW_HEAP))

    def test_json(self):
        document = json.loads(output("json", program=DRAW_HEAP))
        self.assertIs(document["holds"], True)
        frames = sections(document, "heap")[0]["frames"]
        self.assertEqual(frames[0]["held"], 0)
        for frame in frames:
            self.assertEqual(sum(block[1] for block in frame["blocks"]), frame["held"])
        self.assertEqual(frames[-1]["live"], 0)


if __name__ == "__main__":
    unittest.main()
