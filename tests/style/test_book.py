"""The book: its index has the chapters' own headings, each chapter says where the command is, and
Chinese text has full-width punctuation. The checks are tried on books with one fault each as well.
Usage: test_book.py PATH-OF-docs/book"""

import pathlib
import re
import sys
import tempfile
import unittest

BOOK = pathlib.Path(sys.argv.pop(1))
ROW = re.compile(r"\| (\d+) \| \[(.*?)\]\((en/\S+\.md)\) \| \[(.*?)\]\((zh/\S+\.md)\) \| .* \|")
CHINESE = re.compile(r"[\u3400-\u9fff]")
WIDE = r"\u3000-\u303f\u3400-\u9fff\uff00-\uffef"  # Chinese characters and full-width marks
CODE = re.compile(r"\]\([^)]*\)|`[^`]*`|\w+\([\w.]*\)")  # and targets of links, and log2(n)
BESIDE = re.compile(rf"[{WIDE}] ?[,:;?!]|[,:;?!] ?[{WIDE}]")
LOOSE = re.compile(r"[,:;?!](?=\s|$)|[()]")  # also behind a Latin word or a number: '8, 16'


def index_faults(book):
    """What the index and the headings do not agree about."""
    rows = ROW.findall((book / "README.md").read_text(encoding="utf-8"))
    linked = []
    for number, *cells in rows:
        for title, name in (cells[:2], cells[2:]):
            linked.append(name)
            path = book / name
            heading = path.read_text(encoding="utf-8").split("\n")[0] if path.is_file() else "none"
            if heading != f"# {number}. {title}":
                yield f"{name}: the index says '{number}. {title}', the heading is '{heading}'"
    chapters = [f"{path.parent.name}/{path.name}" for path in book.glob("*/*.md")]
    for name in sorted(set(chapters) - set(linked)):
        yield f"{name}: not in the index"
    if [int(row[0]) for row in rows] != list(range(1, len(rows) + 1)):
        yield "README.md: the chapters are not numbered 1, 2, 3 …"
    if not rows:
        yield "README.md: no chapters"


def punctuation_faults(book):
    """Half-width marks in lines that have Chinese text. Code has its own marks: spans of it are
    left out, and in indented lines, as in the index of both languages, only a mark beside a Chinese
    character counts."""
    for path in [book / "README.md", *sorted((book / "zh").glob("*.md"))]:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
            if not CHINESE.search(line):
                continue
            prose = CODE.sub("x", line)
            mixed = line.startswith("    ") or ROW.match(line)
            if BESIDE.search(prose) or (not mixed and LOOSE.search(prose)):
                yield f"{path.parent.name}/{path.name}:{number}: half-width punctuation: {line}"


def command_faults(book):
    """Chapters that name the command and not its place: each may be the first that is read."""
    for path in sorted(book.glob("**/*.md")):
        text = path.read_text(encoding="utf-8")
        first = text.find("\n    lucid ")
        place = text.find("`build/release/lucid`")
        if place < 0 or place > first >= 0 or "`make install`" not in text:
            yield f"{path.parent.name}/{path.name}: does not say where the command lucid is"


def faults(book):
    return [*index_faults(book), *punctuation_faults(book), *command_faults(book)]


PLACE = "`build/release/lucid` `make install`\n"
GOOD = {
    "README.md": PLACE + "| 1 | [One: a](en/1.md) | [一：甲](zh/1.md) | `lucid lab a`, `b` |\n",
    "en/1.md": "# 1. One: a\n" + PLACE + "\n    lucid lab a\n",
    "zh/1.md": "# 1. 一：甲\n" + PLACE + "\n    lucid lab a\n\n"
               "大小（20,000 字节），`free(a, b)`，M·log2(n)。\n    f(a, b);    甲，乙\n"
               "| 策略 | first（甲） |\n",
}


class Book(unittest.TestCase):
    def assert_faults(self, expected, **changes):
        """What is found in the good book with these files changed ('zh' for zh/1.md)."""
        names = {"index": "README.md", "en": "en/1.md", "zh": "zh/1.md", "more": "zh/2.md"}
        texts = {**GOOD, **{names[key]: change(GOOD.get(names[key], ""))
                            for key, change in changes.items()}}
        with tempfile.TemporaryDirectory() as root:
            for name, text in texts.items():
                path = pathlib.Path(root, name)
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
            found = faults(pathlib.Path(root))
        self.assertEqual(len(found), len(expected), found)
        for message, part in zip(found, expected):
            self.assertIn(part, message)

    def test_book(self):
        self.assertEqual(faults(BOOK), [])

    def test_good(self):
        self.assert_faults([])

    def test_titles(self):
        self.assert_faults(["en/1.md: the index says"], en=lambda text: text.replace("a", "A", 1))
        self.assert_faults(["zh/1.md: the index says"],
                           index=lambda text: text.replace("[一", "[二"))
        self.assert_faults(["en/1.md: the index", "zh/1.md: the index", "not numbered"],
                           index=lambda text: text.replace("| 1 |", "| 2 |"))
        self.assert_faults(["zh/2.md: not in the index"], more=lambda _: "# 2. 乙\n" + PLACE)
        self.assert_faults(["en/1.md: not", "zh/1.md: not", "no chapters"], index=lambda _: PLACE)

    def test_punctuation(self):
        for wrong in ("甲, 乙\n", "甲,乙\n", "甲: 乙\n", "甲; 乙\n", "甲吗?\n", "大小 8, 16\n",
                      "甲 (乙) 丙\n", "见 kr: 甲\n", "    a = b    甲, 乙\n", "| 甲, 乙 | kr |\n",
                      "用 `a`, 再用 `b`\n"):
            with self.subTest(wrong):
                self.assert_faults(["zh/1.md:9: half-width"], zh=lambda text: text + wrong)

    def test_command(self):
        self.assert_faults(["en/1.md: does not say"], en=lambda text: text.replace(PLACE, ""))
        self.assert_faults(["zh/1.md: does not say"],
                           zh=lambda text: text.replace(PLACE, "") + PLACE)


if __name__ == "__main__":
    unittest.main()
