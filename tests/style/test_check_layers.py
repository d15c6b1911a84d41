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
            "src/api/malloc.c": HEAD + '#include "engine/engine.h"\n' + function(70),
            "tools/lucid/frame/main.c": HEAD + '#include "frame/frame.h"\n#include "base/base.h"\n',
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

    def check_objects(self, sources, tables=""):
        """Errors for objects of these sources, by layer."""
        with tempfile.TemporaryDirectory() as root:
            header = pathlib.Path(root, "src/heap/ops.h")
            header.parent.mkdir(parents=True)
            header.write_text(tables)
            objects = []
            for layer, text in sources.items():
                path = pathlib.Path(root, "src", layer, "a.c")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                objects.append(f"{path}.o")
                subprocess.run(["cc", "-fPIC", "-c", path, "-o", objects[-1]], check=True)
            listed = pathlib.Path(root, "objects")
            listed.write_text("\n".join(objects))
            done = subprocess.run([CHECK, "--root", root, "--objects", listed], text=True,
                                  capture_output=True)
            self.assertEqual(done.returncode, 1 if done.stderr else 0)
            return done.stderr

    def test_calls(self):
        low, high = "int low(void) { return 1; }", "int low(void); int high(void) { return low(); }"
        self.assertEqual(self.check_objects({"os": low, "api": high, "harden": high}), "")
        self.assertIn("src/os/a.c:1: layer os may not use low of src/heap/a.c",
                      self.check_objects({"heap": low, "os": high}))
        for layer, other in ("harden", "sample"), ("sample", "harden"), ("heap", "engine"):
            self.assertIn(f"src/{layer}/a.c:1: layer {layer} may not use low of src/{other}/a.c",
                          self.check_objects({other: low, layer: high}))

    def test_tables(self):
        table = "struct x_ops { int (*f)(void); }; int f(void);"
        up = {"heap": table + "extern const struct x_ops ops; int call(void) { return ops.f(); }",
              "engine": table + "int f(void) { return 1; } const struct x_ops ops = {f};"}
        declared = "extern const struct x_ops ops LU_HIDDEN;\n"
        self.assertIn("may not use ops of src/engine/a.c", self.check_objects(up))
        self.assertEqual(self.check_objects(up, declared), "")
        up["engine"] = up["engine"].replace("const struct x_ops ops", "int (*ops)(void)")
        up["engine"] = up["engine"].replace("= {f}", "= f")
        up["heap"] = "extern int (*ops)(void); int call(void) { return ops(); }"
        self.assertIn("may not use ops of src/engine/a.c",
                      self.check_objects(up, declared))

    def test_classic(self):
        self.assert_clean({"classic/a.c": HEAD + '#include "classic/a.h"\n#include "os/os.h"\n',
                           "tools/x/a.c": HEAD + '#include "classic/a.h"\n'})
        self.assert_fault({"classic/a.c": HEAD + '#include "api/surface.h"\n'},
                          'classic/a.c:2: layer classic may not include "api/surface.h"')
        self.assert_fault({"classic/a.c": HEAD + '#include "a.h"\n'}, 'write "classic/a.h"')
        self.assert_fault({"src/api/a.c": HEAD + '#include "classic/a.h"\n'},
                          'layer api may not include "classic/a.h"')
        self.assert_fault({"src/classic/a.c": HEAD}, "src/ holds the layers")
        self.assert_fault({"tests/x/a.c": HEAD + '#include "src/os/os.h"\n'},
                          '"src/os/os.h" is named from the root of the project')

    def test_folders_of_tools(self):
        one = {"tools/lucid/one/one.h": "", "tools/lucid/one/parts.h": "", "tools/lab/lab.h": "",
               "tools/record/trace_format.h": "", "tools/lab/probe/probe.h": ""}
        self.assert_clean(one | {
            "tools/lucid/one/a.c": HEAD + '#include "one/parts.h"\n#include "lucid/lucid.h"\n',
            "tools/lucid/two/a.c": HEAD + '#include "one/one.h"\n#include "lab/lab.h"\n',
            "tools/lab/a.c": HEAD + '#include "record/trace_format.h"\n#include "os/os.h"\n',
            "tests/tools/a.c": HEAD + '#include "one/parts.h"\n'})
        for place in ("lucid/two", "lab", "record"):
            self.assert_fault(one | {f"tools/{place}/a.c": HEAD + '#include "one/parts.h"\n'},
                              f'tools/{place}/a.c:2: "one/parts.h" is private to its folder, '
                              'which offers "one/one.h"')
        self.assert_fault(one | {"tools/lucid/one/a.c": HEAD + '#include "record/record.h"\n'},
                          '"record/record.h" is private to its folder')
        self.assert_fault(one | {"tools/lucid/one/a.c": HEAD + '#include "probe/list.h"\n'},
                          '"probe/list.h" is private to its folder')
        self.assert_fault(one | {"tools/lucid/one/a.c": HEAD + '#include "parts.h"\n'},
                          'write "one/parts.h"')
        self.assert_fault(one | {"tools/lucid/one/a.c": HEAD + '#include "lucid/one/one.h"\n'},
                          'write "one/one.h"')
        self.assert_fault({"tools/lucid/a.c": HEAD}, "belongs in a folder of tools/lucid")

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
                           "classic/a.c": HEAD + "static struct lu__lock lock;\n"})

    def test_no_opening_comment(self):
        self.assert_fault({"src/os/a.c": "#include <errno.h>\n"}, "does not open with a comment")

    def test_empty_tree(self):
        status, errors = self.check({"README": "nothing here\n"})
        self.assertEqual(status, 1)
        self.assertIn("no files", errors)


if __name__ == "__main__":
    unittest.main()
