#!/usr/bin/python3
"""lucid on musl: built with musl-gcc, preloaded by musl's loader, and linked into static programs.

  musl.py [CHECK...]

The conformance programs that use nothing of glibc's own are compiled with musl-gcc and run in three
ways: on musl's malloc, if it has the same rules, which proves the program; with liblucid.so
preloaded, whose names musl's loader then uses for libc's own calls as well; and all static, with
liblucid.o.
"""

import sys

import buildtest
from buildtest import CONFORMANCE, OPAQUE, SOURCE, run

PROGRAMS = ["basic", "errno_rules", "calloc_zero", "realloc_family", "alignment", "thread_free",
            "stale_words"]
# What they ask for beyond the standards is what glibc does, and lucid on every libc.
GLIBC_RULES = {"errno_rules", "realloc_family", "alignment"}
COMPILER = "musl-gcc"


def compile_program(name, build, *libraries, options=()):
    program = build / f"{name}{'-static' if '-static' in options else ''}"
    run(COMPILER, "-O2", *OPAQUE, "-D_GNU_SOURCE", "-pthread", *options, "-I", CONFORMANCE,
        "-include", SOURCE / "tests/portability/musl.h", "-I", SOURCE / "include",
        CONFORMANCE / f"{name}.c", "-o", program, *libraries)
    return program


def check():
    build = buildtest.build_library("musl", COMPILER, ["-O2"])
    needed = run("readelf", "-d", build / "liblucid.so")
    if "libc.so.6" in needed or "libc.so" not in needed:
        raise buildtest.Failed(f"not linked with musl:\n{needed}")
    for name in PROGRAMS:
        program = compile_program(name, build)
        if name not in GLIBC_RULES:
            run(program)
        run(program, "--strict", env={"LD_PRELOAD": str(build / "liblucid.so"),
                                      "CHECK_SYMBOL": "lu_version"})
        run(compile_program(name, build, build / "liblucid.o", options=["-static"]))
    return f"{len(PROGRAMS)} conformance programs on musl's malloc, preloaded, and static"


if __name__ == "__main__":
    buildtest.main({"musl": check}, sys.argv[1:])
