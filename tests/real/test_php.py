"""php with its extensions, which it opens with RTLD_DEEPBIND: without lucid's dlopen their malloc
would be libc's. The same output on both sides, and the loader's word for whose malloc they use."""

import os

import realtest

HERE = os.path.dirname(os.path.abspath(__file__))
EXTENSIONS = ["curl", "dom", "gd", "intl", "mbstring", "pdo", "pdo_sqlite", "sqlite3", "xsl"]
PACKAGES = "php8.2-cli php8.2-{curl,gd,intl,mbstring,sqlite3,xml}"
LINES = 18


class Php(realtest.RealTest):
    def setUp(self):
        super().setUp()
        self.php = realtest.program("php8.2", PACKAGES)

    def compare(self, env):
        """The script on both sides, which must print the same."""
        path = os.path.join(HERE, "programs", "workload.php")

        def work(side, directory):
            argv = [self.php, "-d", "opcache.enable_cli=1", path]
            return side.run(argv, directory, env=env, timeout=90).out.decode()
        out = self.assert_same(work)
        self.assertEqual(len(out.splitlines()), LINES, f"is one of {PACKAGES} missing?\n{out}")

    def test_zend_allocator(self):
        self.compare({})

    def test_system_allocator(self):
        self.compare({"USE_ZEND_ALLOC": "0"})

    def test_hardened(self):
        for level in 1, 2:
            for zend in "1", "0":
                with self.subTest(level=level, zend=zend):
                    self.compare({"USE_ZEND_ALLOC": zend, "LUCID_OPTIONS": f"harden:{level}"})

    def test_bindings(self):
        """The malloc names of every extension, and of all that they need, are lucid's."""
        log = os.path.join(self.directory, "log")
        realtest.LUCID.run([self.php, "-r", ""], self.directory, trace=False, env={
            "LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": log, "LD_BIND_NOW": "yes"})
        [name] = [name for name in os.listdir(self.directory) if name.startswith("log.")]
        with open(os.path.join(self.directory, name), errors="replace") as file:
            bound = [found.groups() for found in map(realtest.BINDING.search, file) if found]
        bound = [binding for binding in bound if binding[2] in realtest.C_NAMES]
        wrong = [binding for binding in bound if binding[1] != realtest.LUCID.preload]
        self.assertEqual(wrong, [])
        users = {os.path.basename(user) for user, _, _ in bound}
        for extension in EXTENSIONS:
            self.assertIn(f"{extension}.so", users)


if __name__ == "__main__":
    realtest.main()
