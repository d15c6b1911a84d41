"""The installed package, used as its users use it: found by CMake and by pkg-config, linked shared
and static into C and C++ programs, and looked at with nm, readelf and mandoc.

CTest sets LUCID_* and the tools' paths (tests/package/CMakeLists.txt) and runs the tests one by
one; test_install comes first and fills the prefix.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import unittest

SOURCE = pathlib.Path(os.environ["LUCID_SOURCE"])
BUILD = pathlib.Path(os.environ["LUCID_BUILD"])
PREFIX = pathlib.Path(os.environ["LUCID_PREFIX"])
SCRATCH = pathlib.Path(os.environ["LUCID_SCRATCH"])
LIBDIR = PREFIX / os.environ["LUCID_LIBDIR"]
VERSION = os.environ["LUCID_VERSION"]
SONAME = "liblucid.so." + VERSION.split(".")[0]
CLASSICS = ("kr", "first", "next", "best", "best_tree", "worst", "buddy", "slab", "dl", "pt")
CONSUMER = SOURCE / "tests/package/consumer"
DOCUMENTS = os.environ["LUCID_DOCDIR"]
CC, CXX = os.environ["CC"], os.environ["CXX"]

# Functions of libc that allocate. fprintf and fwrite on the caller's stream are malloc_info's job.
ALLOCATING = {"malloc", "calloc", "realloc", "free", "strdup", "strndup", "asprintf", "vasprintf",
              "printf", "puts", "fopen", "fdopen", "fmemopen", "getline", "getdelim", "setlocale",
              "qsort", "opendir", "getenv_s", "strerror", "perror", "syslog", "dlopen", "dlsym",
              "pthread_create", "atexit", "abort_message", "backtrace", "setenv", "putenv"}


def run(*argv, env=None, cwd=None):
    """Run to the end and return stdout; anything but exit status 0 fails with what was printed."""
    argv = [str(word) for word in argv]
    try:
        done = subprocess.run(argv, env={**os.environ, **(env or {})}, cwd=cwd, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        raise AssertionError(f"{argv[0]} is not installed (see scripts/deps.sh)") from None
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(argv)}: status {done.returncode}\n"
                             f"{done.stdout}{done.stderr}")
    return done.stdout


def defined_symbols(*nm_options):
    """Names that nm prints for defined symbols; version names and sizes are cut off."""
    lines = run(os.environ["NM"], "--defined-only", *nm_options).splitlines()
    return {line.split()[2].split("@")[0] for line in lines if len(line.split()) == 3}


def expected_symbols():
    text = (SOURCE / "tests/package/exported.txt").read_text()
    return {line for line in text.splitlines() if line and not line.startswith("#")}


def documents():
    """The documents that are installed: names in the source tree and under DOCUMENTS."""
    found = [*(SOURCE / "docs").rglob("*.md"), *(SOURCE / "bench/results").rglob("*.svg")]
    return {str(path.relative_to(SOURCE)) for path in found} | {
        "README.md", "CHANGELOG.md", "LICENSE", "bench/results/README.md", "traces/README.md"}


def readme_commands(begin):
    """The indented lines of README's paragraph that begins so."""
    paragraphs = (SOURCE / "README.md").read_text(encoding="utf-8").split("\n\n")
    found = [text for text in paragraphs if text.startswith("    " + begin)]
    if len(found) != 1:
        raise AssertionError(f"README has {len(found)} paragraphs that begin with '{begin}'")
    return found[0]


def fresh(directory):
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


class Package(unittest.TestCase):
    maxDiff = None

    def test_install(self):
        """The prefix is filled in one place and then moved: the package is relocatable."""
        staged = fresh(SCRATCH) / "staged"
        run(os.environ["CMAKE"], "--install", BUILD, "--prefix", staged)
        shutil.rmtree(PREFIX, ignore_errors=True)
        PREFIX.parent.mkdir(parents=True, exist_ok=True)
        staged.rename(PREFIX)
        found = {str(path.relative_to(PREFIX)) for path in PREFIX.rglob("*") if not path.is_dir()}
        lib = LIBDIR.relative_to(PREFIX)
        cmake = {f"{lib}/cmake/lucid/{name}" for name in (
            "lucidConfig.cmake", "lucidConfigVersion.cmake", "lucidTargets.cmake",
            "lucidTargets-release.cmake")}
        self.assertEqual(found, cmake | {
            "bin/lucid", "include/lucid/lucid.h", "share/man/man1/lucid.1",
            "share/man/man3/liblucid.3", f"{lib}/liblucid.a", f"{lib}/liblucid.o",
            f"{lib}/liblucid.so", f"{lib}/{SONAME}", f"{lib}/liblucid.so.{VERSION}",
            f"{lib}/pkgconfig/lucid.pc"} | {
            f"{lib}/lucid/liblucid-{name}.so" for name in (*CLASSICS, "record")} | {
            f"{lib}/lucid/lucid-probe"} | {f"{DOCUMENTS}/{name}" for name in documents()})

    def test_find_package(self):
        build = fresh(SCRATCH / "find_package")
        run(os.environ["CMAKE"], "-G", "Ninja", "-S", CONSUMER, "-B", build,
            f"-DCMAKE_PREFIX_PATH={PREFIX}", f"-DCMAKE_C_COMPILER={CC}",
            f"-DCMAKE_CXX_COMPILER={CXX}")
        run(os.environ["CMAKE"], "--build", build)
        for kind in "lucid", "static":
            run(build / f"consumer_{kind}", VERSION)
            run(build / f"consumer_cxx_{kind}")
            run(build / f"silent_{kind}")
        self.assertIn(SONAME, run(os.environ["READELF"], "-d", build / "consumer_lucid"))
        self.assertNotIn("liblucid", run(os.environ["READELF"], "-d", build / "consumer_static"))

    def test_pkg_config(self):
        env = {"PKG_CONFIG_PATH": str(LIBDIR / "pkgconfig")}
        self.assertEqual(run("pkg-config", "--modversion", "lucid", env=env).strip(), VERSION)
        flags = run("pkg-config", "--cflags", "--libs", "lucid", env=env).split()
        program = SCRATCH / "pkg_config"
        run(CC, "-o", program, CONSUMER / "consumer.c", *flags)
        run(program, VERSION, env={"LD_LIBRARY_PATH": str(LIBDIR)})

    def test_readme_commands(self):
        """What README says of a prefix of one's own, word by word, for README's own program."""
        place = fresh(SCRATCH / "readme")
        readme = (SOURCE / "README.md").read_text(encoding="utf-8")
        (place / "server.c").write_text(re.search(r"```c\n(.*?)```", readme, re.DOTALL)[1])
        lib = str(LIBDIR.relative_to(PREFIX)) # on Debian it is as README has it
        shared = readme_commands("export PKG_CONFIG_PATH=$PREFIX/").replace("/lib", f"/{lib}")
        static = readme_commands("cc -static").replace("/usr/local/lib", str(LIBDIR))
        found = {"LD_LIBRARY_PATH": "", "PKG_CONFIG_PATH": "", "PREFIX": str(PREFIX)}
        header = {"C_INCLUDE_PATH": str(PREFIX / "include")} # /usr/local/include needs no word
        for commands, more in (shared, {}), (static, header):
            run("sh", "-euc", commands, cwd=place, env={**found, **more})
            printed = run("./server", cwd=place, env=found)
            self.assertEqual(printed.splitlines(),
                             [f"round {i}: kept until the heap ends" for i in (1, 2, 3)])
            (place / "server").rename(place / f"server-{len(more)}")
        self.assertIn(SONAME, run(os.environ["READELF"], "-d", place / "server-0"))
        self.assertNotIn("liblucid", run(os.environ["READELF"], "-d", place / "server-1"))

    def test_documents(self):
        """Documents that are named are installed, and their links lead to what is there."""
        for page in "include/lucid/lucid.h", "share/man/man3/liblucid.3", "share/man/man1/lucid.1":
            text = (PREFIX / page).read_text(encoding="utf-8")
            for name in re.findall(r"share/doc/lucid/([\w./-]+\w)", text):
                self.assertTrue((PREFIX / DOCUMENTS / name).is_file(), f"{page} names {name}")
            self.assertEqual(re.findall(r"(?<!share/doc/lucid/)\bdocs/[\w/]+\.md", text), [], page)
        links = 0
        for document in (PREFIX / DOCUMENTS).rglob("*.md"):
            for link in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
                if not link.startswith(("http:", "https:")):
                    links += 1
                    self.assertTrue((document.parent / link).exists(), f"{document}: {link}")
        self.assertGreater(links, 20)

    def link_and_run(self, compiler, source, library, *options):
        program = SCRATCH / f"{library}{''.join(options)}-{source}"
        program.unlink(missing_ok=True)
        run(compiler, "-O1", *options, "-I", PREFIX / "include", "-o", program, CONSUMER / source,
            LIBDIR / library)
        run(program)

    def test_static_object(self):
        for options in ["-static"], ["-static-pie"], []:
            self.link_and_run(CC, "consumer.c", "liblucid.o", *options)
            self.link_and_run(CC, "silent.c", "liblucid.o", *options)
            self.link_and_run(CXX, "consumer.cc", "liblucid.o", *options)

    def test_static_archive(self):
        for options in ["-static"], ["-static-pie"], []:
            self.link_and_run(CC, "consumer.c", "liblucid.a", *options)
            self.link_and_run(CXX, "consumer.cc", "liblucid.a", *options)

    def test_exported_symbols(self):
        """Exactly the symbols of exported.txt, and every function of the header among them."""
        found = defined_symbols("-D", LIBDIR / "liblucid.so")
        self.assertEqual(sorted(found), sorted(expected_symbols()))
        header = (PREFIX / "include/lucid/lucid.h").read_text()
        declared = re.findall(r"^LU_API [^;(]*?\b(lu_\w+)\(", header, re.MULTILINE)
        self.assertEqual(len(declared), len(re.findall(r"^LU_API\b", header, re.MULTILINE)))
        self.assertIn("lu_malloc", declared)
        self.assertLessEqual(set(declared), found)

    def test_object_symbols(self):
        """The object for static links shows the same names but dlopen, and no internal ones."""
        for library in "liblucid.o", "liblucid.a":
            self.assertEqual(sorted(defined_symbols("-g", LIBDIR / library)),
                             sorted(expected_symbols() - {"dlopen"}))

    def test_shared_object(self):
        library = LIBDIR / "liblucid.so"
        self.assertEqual(os.readlink(library), SONAME)
        self.assertEqual(os.readlink(LIBDIR / SONAME), f"liblucid.so.{VERSION}")
        dynamic = run(os.environ["READELF"], "-dW", library)
        self.assertIn(f"soname: [{SONAME}]", dynamic)
        self.assertEqual(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic), ["libc.so.6"])
        for flag in "BIND_NOW", "STATIC_TLS", "NODELETE":
            self.assertIn(flag, dynamic)
        for tag in "TEXTREL", "RPATH", "RUNPATH":
            self.assertNotIn(tag, dynamic)
        self.assertIn("GNU_RELRO", run(os.environ["READELF"], "-lW", library))

    def test_no_allocating_calls(self):
        """The library calls nothing that would call malloc, and so itself, again; but for dlsym,
        called in dlopen, which allocates anyway."""
        lines = run(os.environ["NM"], "-D", "--undefined-only", LIBDIR / "liblucid.so").splitlines()
        imported = {line.split()[-1].split("@")[0] for line in lines}
        self.assertIn("abort", imported)
        self.assertEqual(imported & ALLOCATING, {"dlsym"})

    def test_command(self):
        """The installed command finds the installed library by itself."""
        command = PREFIX / "bin/lucid"
        env = {"LUCID_LIBRARY": ""}
        self.assertEqual(run(command, "version", env=env), f"lucid {VERSION}\n")
        maps = run(command, "run", "--no-syscalls", "--", "/bin/cat", "/proc/self/maps", env=env)
        self.assertIn(str(LIBDIR / f"liblucid.so.{VERSION}"), maps)
        maps = run(command, "run", "-a", "kr", "--no-syscalls", "--", "/bin/cat", "/proc/self/maps",
                   env=env)
        self.assertIn(str(LIBDIR / "lucid/liblucid-kr.so"), maps)

    def test_manual(self):
        """The pages are well-formed and complete: subcommands, options and functions."""
        pages = {name: PREFIX / "share/man" / f"man{name[-1]}" / name
                 for name in ("lucid.1", "liblucid.3")}
        run("mandoc", "-T", "lint", "-W", "warning", *pages.values())
        command = pages["lucid.1"].read_text()
        subcommands = re.findall(r"^  (\w+)  ", run(PREFIX / "bin/lucid", "--help"), re.MULTILINE)
        self.assertIn("run", subcommands)
        for name in subcommands:
            self.assertRegex(command, rf"(?m)^\.Cm {name}$")
            for option in re.findall(r"--([a-z-]+)", run(PREFIX / "bin/lucid", name, "--help")):
                if option not in ("help", "usage"):
                    self.assertIn(rf"Fl \-{option}", command)
        library = pages["liblucid.3"].read_text()
        listed = json.loads(run(PREFIX / "bin/lucid", "options", "--json"))
        keys = re.findall(r'"key": "(\w+)"', json.dumps(listed))
        self.assertIn("limit", keys)
        for key in keys:
            self.assertRegex(library, rf"(?m)^\.It Cm {key} Pq ")
        for symbol in expected_symbols():
            if symbol.startswith("lu_") and symbol != "lu_layout":
                self.assertRegex(library, rf"(?m)^\.F[no] {symbol}\b")


if __name__ == "__main__":
    unittest.main()
