#!/usr/bin/python3
"""The library built with other compilers, levels of optimisation and flags, and used.

  matrix.py [COMBINATION...]     all of them by default

For each combination: liblucid.so, liblucid.o and liblucid.a are built with it, without a warning;
the conformance programs run with the shared library preloaded; and C++ programs that are compiled
with the same flags run with the library linked in, shared, as the object, and all static.
"""

import os
import pathlib
import sys

import buildtest
from buildtest import CONFORMANCE, OPAQUE, SOURCE, run

PROGRAMS = ["basic", "alignment", "errno_rules", "calloc_zero", "realloc_family", "usable_size",
            "glibc_extras", "aliases", "thread_free", "thread_exit", "small_stack", "stale_words",
            "cxx_operators", "cxx_replaced_12", "cxx_replaced_48"]
MODULES = ["opener", "hidden/maker", "hidden/taker"]  # for deepbind, whose dlopen is assembly
CXX = {"gcc": "g++", "clang": "clang++"}
# What understands clang's LTO is its own linker.
LINK = {"clang-lto": ["-fuse-ld=lld"]}


def combinations():
    """Name -> (compiler, flags)."""
    table = {}
    for compiler in CXX:
        for level in "-O0", "-O1", "-O2", "-O3", "-Os":
            table[compiler + level] = (compiler, [level])
        table[f"{compiler}-lto"] = (compiler, ["-O2", "-flto"])
        table[f"{compiler}-native"] = (compiler, ["-O3", "-march=native"])
        table[f"{compiler}-hidden"] = (compiler, ["-O2", "-fvisibility=hidden"])
        table[f"{compiler}-hardened"] = (compiler, [
            "-O2", "-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-fcf-protection",
            "-fstack-clash-protection"])
    return table


def conformance(build, programs):
    directory = pathlib.Path(os.environ["LUCID_PROGRAMS"])
    env = {"LD_PRELOAD": str(build / "liblucid.so"), "CHECK_SYMBOL": "lu_version"}
    for name in programs:
        run(directory / f"conformance_{name}", "--strict", env=env)
    modules = [directory / "deepbind" / f"{name}.so" for name in MODULES]
    run(directory / "conformance_deepbind", *modules, "--strict", env=env)


def programs(name, build, compiler, flags):
    """Compile the C++ programs with each form of the library and run them; how many runs."""
    forms = {"shared": [build / "liblucid.so", f"-Wl,-rpath,{build}"],
             "object": [build / "liblucid.o", "-rdynamic"],
             "archive": [build / "liblucid.a", "-Wl,-u,malloc"],
             "static": ["-static", build / "liblucid.o"]}
    runs = 0
    for source, wanted in ("exceptions", forms), ("cxx_operators", ["shared", "object"]):
        place = SOURCE / "tests/portability" if source == "exceptions" else CONFORMANCE
        compiled = build / f"{source}.o"
        run(CXX[compiler], *flags, *OPAQUE, "-std=c++17", "-fsized-deallocation",
            "-pthread", "-D_GNU_SOURCE", "-I", CONFORMANCE, "-I", SOURCE / "include", "-c",
            place / f"{source}.cc", "-o", compiled)
        for form in wanted:
            program = build / f"{source}-{form}"
            run(CXX[compiler], *flags, *LINK.get(name, []), "-pthread", "-o", program, compiled,
                *forms[form])
            run(program, "--strict")
            runs += 1
    return runs


def check(name, compiler, flags):
    build = buildtest.build_library(name, compiler, flags, LINK.get(name, []))
    conformance(build, PROGRAMS)
    runs = programs(name, build, compiler, flags)
    return (f"{compiler} {' '.join(flags)}: {len(PROGRAMS) + 1} conformance programs, "
            f"{runs} C++ programs linked with the library")


if __name__ == "__main__":
    buildtest.main({name: (lambda name=name, how=how: check(name, *how))
                    for name, how in combinations().items()}, sys.argv[1:])
