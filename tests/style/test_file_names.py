"""Documents name what there is. The tables of docs/ARCHITECTURE.md name every file of src/,
classic/ and tools/, and none that is not there; paths, names of C files and functions lu__* in the
documents are of this tree, too; and a comment at the head of a file has the file's own name. The
check is tried on trees with one fault each as well.
Usage: test_file_names.py SOURCE-DIRECTORY

A row of a table "| file | what it is for |" begins with names, separated by commas and semicolons:

    **src/span** span.h     the folder, from here on, and a file in it
    class.c, .h             class.c and class.h
    dl*.c (.h)              all dl*.c and all dl*.h; at least two letters stand before the *
    page/                   all that is below that folder"""

import fnmatch
import pathlib
import re
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1))
ARCHITECTURE = "docs/ARCHITECTURE.md"
TABLED = ("src", "classic", "tools")
DOCUMENTS = ("docs/*.md", "README.md", "CONTRIBUTING.md")
HEADER = "| file | what it is for |"
FOLDER = re.compile(r"\*\*(\S+)\*\*\s*")

FOLDERS = "src|classic|tools|tests|scripts|bench|cmake|include|docs|demo|traces|man"
# What a path may be relative to, besides the root.
BASES = ("src", "include", "tools", "tools/lucid", "tools/lab", "bench", "tests")
PATH = re.compile(rf"(?<![\w./<$~-])(?:{FOLDERS})/[\w./*+-]*[\w*]/?")
C_FILE = re.compile(r"(?<![\w./<$~*-])(?:[\w*]+/)*[\w*]+\.(?:c|h|def)\b")
FUNCTION = re.compile(r"\blu__\w+\b")
PLACEHOLDER = re.compile(r"NAME|FILE|FOLDER|LAYER|DIRECTORY")
HEAD = re.compile(r"/\*\s+(?:\* )?(\S+\.\w+) - ")
FENCE = re.compile(r"(?ms)^```.*?^```$")  # programs and output that are shown
OTHERS = {"bench/security", "lu__module_verb"}  # of mimalloc-bench; of no function


def files_below(root, folder):
    for path in sorted((root / folder).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(root).as_posix()


def rows(text):
    """Of the rows of all tables of files: the number of the line, and its first cell."""
    in_table = False
    for number, line in enumerate(text.split("\n"), 1):
        in_table = line == HEADER or in_table and line.startswith("|")
        if in_table and line != HEADER and not line.startswith("|--"):
            yield number, line[1:line.index("|", 1)]


def entries(text):
    """The names in them, from the root of the project, as patterns."""
    folder = ""
    for _, cell in rows(text):
        cell, last = cell.strip(), ""
        if match := FOLDER.match(cell):
            folder, cell = match[1], cell[match.end():]
        for name in re.split(r"[,;]\s*", cell):
            if name == ".h":
                yield f"{folder}/{pathlib.Path(last).stem}.h"
                continue
            last = name.removesuffix(" (.h)")
            yield f"{folder}/{last}"
            if last != name:
                yield f"{folder}/{pathlib.Path(last).stem}.h"


def named_by(entry, files):
    if entry.endswith("/"):
        return {name for name in files if name.startswith(entry)}
    folder = entry.rsplit("/", 1)[0]
    return {name for name in files
            if name.rsplit("/", 1)[0] == folder and fnmatch.fnmatchcase(name, entry)}


def table_faults(root):
    """What the tables and the folders do not agree about."""
    files = {name for folder in TABLED for name in files_below(root, folder)}
    there = files | set(files_below(root, "include"))
    named = set()
    for entry in entries((root / ARCHITECTURE).read_text(encoding="utf-8")):
        if "*" in entry and not re.search(r"/\w\w+\*", entry):
            yield f"{ARCHITECTURE}: {entry} is too wide"
            continue
        found = named_by(entry, there)
        if not found:
            yield f"{ARCHITECTURE}: there is no {entry}"
        named |= found
    for name in sorted(files - named):
        yield f"{name}: in no table of {ARCHITECTURE}"


def exists(root, path):
    return (root / path).exists() or any(root.glob(PLACEHOLDER.sub("*", path).rstrip("/")))


def missing(line, root, names, functions):
    """What a line of a document names and is not there."""
    paths = set(PATH.findall(line))
    yield from (name for name in paths if not exists(root, name))
    for name in set(C_FILE.findall(line)) - paths:
        if "/" in name:
            found = any(exists(root / base, name) for base in BASES)
        else:
            found = fnmatch.filter(names, PLACEHOLDER.sub("*", name))
        if not found:
            yield name
    yield from set(FUNCTION.findall(line)) - functions


def document_faults(root):
    """Paths, C files and functions that documents name and that are not there. First cells of the
    tables of files are left out."""
    names = {pathlib.Path(name).name for folder in FOLDERS.split("|")
             for name in files_below(root, folder)}
    functions = {word for folder in ("src", "include", "classic")
                 for name in files_below(root, folder)
                 for word in FUNCTION.findall((root / name).read_text(encoding="utf-8"))}
    for path in sorted(path for pattern in DOCUMENTS for path in root.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        cells = dict(rows(text))
        text = FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
        for number, line in enumerate(text.split("\n"), 1):
            prose = line.replace(cells[number], "") if number in cells else line
            prose = prose.replace("**", " ")  # bold
            for name in sorted(set(missing(prose, root, names, functions)) - OTHERS):
                yield f"{path.relative_to(root)}:{number}: there is no {name}"


def head_faults(root):
    """Files whose opening comment has the name of another."""
    folders = (*TABLED, "tests", "bench")
    for name in (name for folder in folders for name in files_below(root, folder)):
        if name.endswith((".c", ".h", ".def", ".js", ".css")):
            head = HEAD.match((root / name).read_text(encoding="utf-8"))
            if head and head[1] != pathlib.Path(name).name:
                yield f"{name}: the comment at its head is of {head[1]}"


def faults(root):
    return [*table_faults(root), *document_faults(root), *head_faults(root)]


TABLE = f"{HEADER}\n|---|---|\n"
GOOD = {
    ARCHITECTURE: f"# A\n{TABLE}| **include/lucid** lucid.h | public |\n"
                  "| **src/base** a.c, .h; b.c (.h) | lu__a |\n| table.def | a |\n"
                  f"\nAs base/a.c and a.h say, `lu__a`.\n\n{TABLE}| **classic** dl*.c (.h) | dl |\n"
                  "| **tools/lucid/one** page/; c.c | c |\n"
                  "\n| file | other |\n|---|---|\n| x.py | y |\n",
    "README.md": "`src/base`, tests/unit/test_NAME.c, tests/unit/*.c, scripts/do, one/c.c;\n"
                 "build/release/tests/unit/none\n"
                 "```c none.c\nlu__none();\n```\n#include <stdio.h>\n",
    "CONTRIBUTING.md": "test_NAME.c, test_*.c\n", "docs/B.md": "tools/lucid/one/page/x.js.\n",
    "include/lucid/lucid.h": "", "src/base/a.c": "lu__a", "src/base/a.h": "", "src/base/b.c": "",
    "src/base/b.h": "", "src/base/table.def": "", "classic/dl.c": "", "classic/dl_x.c": "",
    "classic/dl.h": "", "tools/lucid/one/c.c": "", "tools/lucid/one/page/x.js": "",
    "tests/unit/test_a.c": "", "scripts/do": "",
}


class FileNames(unittest.TestCase):
    def assert_faults(self, expected, **changes):
        """What is found in the good tree with these changes: of a file's text, or None to remove
        the file. The name of a file is written with __ for a slash and _DOT_ for a dot."""
        files = dict(GOOD)
        for key, change in changes.items():
            name = key.replace("__", "/").replace("_DOT_", ".")
            files[name] = change(files.get(name, "")) if change else None
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                if text is None:
                    continue
                path = pathlib.Path(root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            self.assertEqual(faults(pathlib.Path(root)), expected)

    def test_documents(self):
        self.assertEqual(faults(SOURCE), [])

    def test_good(self):
        self.assert_faults([])

    def test_file_in_no_table(self):
        for name in ("src/base/new.c", "src/new/a.c", "classic/README.md", "tools/x.txt",
                     "tools/lucid/one/new/x.js", "src/base/dl_new.c"):
            with self.subTest(name):
                key = name.replace("/", "__").replace(".", "_DOT_")
                self.assert_faults([f"{name}: in no table of {ARCHITECTURE}"],
                                   **{key: lambda _: "x"})
        self.assert_faults([], classic__dl_new_DOT_c=lambda _: "x",
                           tools__lucid__one__page__new__x_DOT_js=lambda _: "x")

    def test_name_without_file(self):
        for missing, entry in (("src__base__a_DOT_h", "src/base/a.h"),
                               ("src__base__b_DOT_h", "src/base/b.h"),
                               ("src__base__table_DOT_def", "src/base/table.def"),
                               ("classic__dl_DOT_h", "classic/dl*.h"),
                               ("tools__lucid__one__page__x_DOT_js", "tools/lucid/one/page/"),
                               ("include__lucid__lucid_DOT_h", "include/lucid/lucid.h")):
            with self.subTest(entry):
                self.assert_faults([f"{ARCHITECTURE}: there is no {entry}"], **{missing: None},
                                   README_DOT_md=lambda _: "", docs__B_DOT_md=lambda _: "",
                                   CONTRIBUTING_DOT_md=lambda _: "",
                                   docs__ARCHITECTURE_DOT_md=lambda text: text.replace(
                                       " and a.h", ""))

    def test_heads(self):
        for head in "/*\n * a.c - good\n */", "/* a.c - good */", "/* of b.c - no */", "/* b.c */":
            self.assert_faults([], src__base__a_DOT_c=lambda _, head=head: head + "\nlu__a();\n")
        for head in "/*\n * b.c - other\n */", "/* b.c - other */":
            self.assert_faults(["src/base/a.c: the comment at its head is of b.c"],
                               src__base__a_DOT_c=lambda _, head=head: head + "\nlu__a();\n")

    def test_wide_pattern(self):
        for wide in ("*.c", "d*.c"):
            self.assert_faults([f"{ARCHITECTURE}: classic/{wide} is too wide",
                                f"{ARCHITECTURE}: classic/{wide[:-1]}h is too wide",
                                *(f"classic/{name}: in no table of {ARCHITECTURE}"
                                  for name in ("dl.c", "dl.h", "dl_x.c"))],
                               docs__ARCHITECTURE_DOT_md=lambda text, wide=wide: text.replace(
                                   "dl*.c", wide))

    def test_path_without_file(self):
        for line, name in (("`src/base/none.c`", "src/base/none.c"), ("src/none.", "src/none"),
                           ("(tests/unit/none_NAME.c)", "tests/unit/none_NAME.c"),
                           ("see base/none.h", "base/none.h"), ("none.c", "none.c"),
                           ("in two/c.c, says", "two/c.c"), ("none_*.h", "none_*.h"),
                           ("scripts/none --check", "scripts/none"),
                           ("tools/lucid/c.c", "tools/lucid/c.c"), ("`lu__none(x)`", "lu__none")):
            for document in ("README.md", "CONTRIBUTING.md", "docs/B.md", ARCHITECTURE):
                with self.subTest(line=line, document=document):
                    key = document.replace("/", "__").replace(".", "_DOT_")
                    at = GOOD[document].count("\n") + 1
                    self.assert_faults([f"{document}:{at}: there is no {name}"],
                                       **{key: lambda text, line=line: text + line + "\n"})


if __name__ == "__main__":
    unittest.main()
