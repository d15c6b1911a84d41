"""What the tests of this directory share: running commands, building the library with other
compilers and flags, and compiling programs against it.

The environment says where things are: LUCID_SOURCE, LUCID_SCRATCH, and LUCID_PROGRAMS, the
directory with the conformance programs of the build that runs the tests.
"""

import os
import pathlib
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(os.environ["LUCID_SOURCE"])
SCRATCH = pathlib.Path(os.environ["LUCID_SCRATCH"])
CONFORMANCE = SOURCE / "tests/conformance"
TIMEOUT = 300
# The compiler must not know what malloc does, or it removes the calls that are tested.
OPAQUE = [f"-fno-builtin-{name}" for name in (
    "malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "memalign")]


class Failed(Exception):
    pass


def run(*argv, env=None, fails=False, cwd=None):
    """Run to the end; what was printed. The exit status must be 0, or with `fails` another."""
    argv = [str(word) for word in argv]
    try:
        done = subprocess.run(argv, env={**os.environ, **(env or {})}, text=True, cwd=cwd,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=TIMEOUT)
    except FileNotFoundError:
        raise Failed(f"{argv[0]} is not installed (scripts/deps.sh test cross)") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(argv)}: not done after {TIMEOUT} s") from None
    if (done.returncode != 0) != fails:
        raise Failed(f"{' '.join(argv)}: status {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def configure(name, *settings, fails=False):
    """Configure the project in a fresh directory of this name; (directory, what CMake said)."""
    build = SCRATCH / name
    shutil.rmtree(build, ignore_errors=True)
    said = run("cmake", "-S", SOURCE, "-B", build, "-G", "Ninja", "-DLU_WERROR=ON",
               "-DLUCID_TESTS=OFF", "-DLUCID_BENCH=OFF", "-DLUCID_COMMAND=OFF",
               *(f"-D{setting}" for setting in settings), fails=fails)
    return build, said


def build_library(name, compiler, flags, link_flags=()):
    """The library made with this C compiler and these flags alone; its directory."""
    build, _ = configure(name, f"CMAKE_C_COMPILER={compiler}", "CMAKE_BUILD_TYPE=Release",
                         f"CMAKE_C_FLAGS_RELEASE={' '.join(flags)}",
                         f"CMAKE_SHARED_LINKER_FLAGS={' '.join(link_flags)}")
    run("cmake", "--build", build, "-j", "2", "--target", "product")
    return build


def main(checks, arguments):
    """Call checks[name]() for each of the arguments, or for all; exit status 1 if one failed."""
    unknown = [name for name in arguments if name not in checks]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)} (known: {', '.join(checks)})")
    SCRATCH.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in arguments or checks:
        try:
            print(f"{name}: {checks[name]()}", flush=True)
        except Failed as error:
            print(f"{name}: FAILED: {error}", flush=True)
            failed += 1
    sys.exit(1 if failed else 0)
