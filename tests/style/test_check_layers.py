"""scripts/check-layers must find every kind of fault: each test writes a small tree with one fault
and reads the message.   Usage: test_check_layers.py PATH-OF-CHECK-LAYERS"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECK = sys.argv.pop(1)
HEAD = "/* what it owns */\n"


def function(lines):
    """A function of that many lines."""
    return "int f(void) {\n" + "    ;\n" * (lines - 2) + "}\n"


class CheckLayers(unittest.TestCase):
    def check(self, files):
        """Exit status and messages for a tree of these files."""
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                path = pathlib.Path(root, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            done = subprocess.run([CHECK, "--root", root], text=True, capture_output=True)
            return done.returncode, done.stderr

    def assert_fault(self, files, message):
        status, errors = self.check(files)
        self.assertIn(message, errors)
        self.assertEqual(status, 1)

    def assert_clean(self, files):
        self.assertEqual(self.check(files), (0, ""))

    def test_clean(self):
        self.assert_clean({
            "include/lucid/lucid.h": "#include <stddef.h>\n",
            "src/base/base.h": '#include "lucid/lucid.h"\n',
            "src/heap/heap.c": HEAD + '#include "base/base.h"\n#include "heap/heap.h"\n',
            "src/api/malloc.c": HEAD + '#include "heap/engine.h"\n' + function(70),
            "tools/lucid/main.c": HEAD + '#include "tool.h"\n#include "base/base.h"\n',
            "src/os/table.c": HEAD + "static const int table[] = {\n" + "    1,\n" * 99 + "};\n"})

    def test_upward(self):
        self.assert_fault({"src/base/a.c": HEAD + '\n#include "os/os.h"\n'},
                          'src/base/a.c:3: layer base may not include "os/os.h"')
        self.assert_fault({"src/heap/a.h": '#  include "api/surface.h"\n'},
                          'src/heap/a.h:1: layer heap may not include "api/surface.h"')

    def test_beside(self):
        self.assert_clean({"src/store/a.c": HEAD + '#include "os/os.h"\n#include "store/a.h"\n',
                           "src/api/a.c": HEAD + '#include "store/a.h"\n'})
        self.assert_fault({"src/store/a.c": HEAD + '#include "heap/heap.h"\n'},
                          'layer store may not include "heap/heap.h"')
        self.assert_fault({"src/heap/a.c": HEAD + '#include "store/a.h"\n'},
                          'layer heap may not include "store/a.h"')

    def test_include_without_layer(self):
        self.assert_fault({"src/heap/a.c": HEAD + '#include "heap.h"\n'}, 'write "heap/heap.h"')

    def test_unknown_layer(self):
        self.assert_fault({"src/heap/a.c": HEAD + '#include "lab/x.h"\n'}, "is of no layer")
        self.assert_fault({"src/misc/a.c": HEAD}, "src/ holds the layers")

    def test_public_header(self):
        self.assert_fault({"include/lucid/lucid.h": '#include "base/base.h"\n'},
                          "the public header may not include")

    def test_source_included(self):
        self.assert_fault({"tests/unit/a.c": HEAD + '#include "../b.c"\n'},
                          'includes a source file: "../b.c"')

    def test_sizes(self):
        self.assert_fault({"src/os/a.c": HEAD + function(71)}, "src/os/a.c:2: function of 71 lines")
        self.assert_fault({"bench/a.c": HEAD * 601}, "file of 601 lines")
        self.assert_fault({"tests/x/a.py": "#" * 101 + "\n"}, "a.py:1: line of 101 columns")

    def test_split_signature(self):
        text = HEAD + "static int f(int first,\n             int second) {\n"
        text += "    ;\n" * 70 + "}\n"
        self.assert_fault({"src/os/a.c": text}, "function of")

    def test_lock_without_rank(self):
        self.assert_fault({"src/heap/a.c": HEAD + "static struct lu__lock pool_lock;\n"},
                          "src/heap/a.c:2: a lock without a rank")
        self.assert_clean({"src/heap/a.c": HEAD + "static struct lu__lock a = LU_LOCK_INIT(R);\n",
                           "src/classic/a.c": HEAD + "static struct lu__lock lock;\n"})

    def test_no_opening_comment(self):
        self.assert_fault({"src/os/a.c": "#include <errno.h>\n"}, "does not open with a comment")

    def test_empty_tree(self):
        status, errors = self.check({"README": "nothing here\n"})
        self.assertEqual(status, 1)
        self.assertIn("no files", errors)


if __name__ == "__main__":
    unittest.main()
