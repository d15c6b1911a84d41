#!/usr/bin/python3
"""Systems that lucid does not run on: configuration says so, and so does the compiler.

  refused.py [CHECK...]
"""

import sys

import buildtest
from buildtest import SOURCE, Failed, run

MESSAGE = "lucid runs on 64-bit Linux, x86-64 or aarch64"


def expect(said, *parts):
    text = " ".join(said.split())
    for part in parts:
        if part not in text:
            raise Failed(f"no '{part}' in\n{said}")
    return "refused with a clear message"


def configured_32_bit():
    """gcc -m32, without the libraries of 32 bits that are not installed."""
    _, said = buildtest.configure("refused-32", "CMAKE_C_FLAGS=-m32",
                                  "CMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY", fails=True)
    return expect(said, MESSAGE, "with 32-bit pointers")


def configured_system(system, processor):
    _, said = buildtest.configure(f"refused-{processor}", f"CMAKE_SYSTEM_NAME={system}",
                                  f"CMAKE_SYSTEM_PROCESSOR={processor}", fails=True)
    return expect(said, MESSAGE, f"this is {system}, {processor}")


def compiled(*flags):
    """Who compiles the sources by hand meets the same end."""
    said = run("gcc", *flags, "-I", SOURCE / "src", "-fsyntax-only", "-D_GNU_SOURCE",
               SOURCE / "src/os/kernel.c", fails=True)
    return expect(said, "lucid runs on 64-bit x86-64 and little-endian aarch64 only")


if __name__ == "__main__":
    buildtest.main({
        "configure-i386": configured_32_bit,
        "configure-riscv64": lambda: configured_system("Linux", "riscv64"),
        "configure-aarch64_be": lambda: configured_system("Linux", "aarch64_be"),
        "configure-FreeBSD": lambda: configured_system("FreeBSD", "x86_64"),
        "compile-x32": lambda: compiled("-mx32", "-ffreestanding"),
    }, sys.argv[1:])
