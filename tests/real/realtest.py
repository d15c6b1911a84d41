"""Shared parts of the tests that run Debian's programs on lucid and on glibc's malloc.

A test does the same work on two *sides*, GLIBC and LUCID, each in a directory of its own and both
at the same time, and compares what came out. A side is an environment: LD_PRELOAD names either
the library under test (path in LUCID_LIBRARY, given by CTest) or libc.so.6, so that programs that
Debian links with another allocator (redis with jemalloc) really run on glibc's malloc there.

That a program is on its side is checked, never assumed:
  - `program()` asks the dynamic loader for every symbol binding of the program, and no malloc
    name of any object in it may lead elsewhere;
  - `Side.run()` lets the loader log which libraries every process started (children too), and
    each must have started the side's library; a server is looked up in /proc/PID/maps.

A missing program is a failure that names its Debian package. Nothing is skipped.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from commandtest import PATH, PYTHON, required_file  # noqa: E402,F401

C_NAMES = {"malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc", "memalign",
           "valloc", "pvalloc", "malloc_usable_size"}
BINDING = re.compile(r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `(\w+)'")
OPERATOR = re.compile(r"_Z(nw|na|dl|da)[mP]")  # operator new and delete, mangled
OUR_MESSAGE = re.compile(r"^lucid: .*$", re.MULTILINE)


class Result:
    """What a finished command left: output, and the programs it was made of."""

    def __init__(self, status, out, err, programs):
        self.status = status      # exit status, or minus the signal's number
        self.out = out            # bytes
        self.err = err            # bytes
        self.programs = programs  # base names of the dynamically linked programs that ran


class Side:
    """One allocator under which programs run."""

    def __init__(self, name, preload):
        self.name = name
        self.preload = preload

    def __repr__(self):
        return self.name

    def environment(self, home, extra=None):
        env = {"PATH": PATH, "HOME": home, "TMPDIR": home, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
               "TZ": "UTC", "LD_PRELOAD": self.preload}
        if "LUCID_OPTIONS" in os.environ:
            env["LUCID_OPTIONS"] = os.environ["LUCID_OPTIONS"]
        env.update(extra or {})
        return env

    def run(self, argv, cwd, input=None, env=None, timeout=60, status=0, trace=True):
        """Run a command to its end and return a Result; another exit status than `status`, a
        violation line or a process without the side's library fails. None takes any status."""
        log = tempfile.mkdtemp(prefix="loader-", dir=cwd) if trace else None
        extra = dict(env or {})
        if trace:
            extra.update(LD_DEBUG="libs", LD_DEBUG_OUTPUT=os.path.join(log, "log"))
        process = subprocess.Popen(
            argv, cwd=cwd, env=self.environment(cwd, extra), start_new_session=True,
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(input, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"{self}: {argv} did not end within {timeout} s; stderr:\n"
                                 f"{tail(err)}") from None
        programs = self._programs_in(log, argv) if trace else []
        self.check_messages(err, argv)
        if status is not None and process.returncode != status:
            raise AssertionError(f"{self}: {argv} ended with {process.returncode}, not {status}\n"
                                 f"stdout:\n{tail(out)}\nstderr:\n{tail(err)}")
        return Result(process.returncode, out, err, programs)

    def _programs_in(self, log, argv):
        """Read the loader's logs, one for each process, and remove them."""
        programs = []
        for name in os.listdir(log):
            with open(os.path.join(log, name), errors="replace") as file:
                text = file.read()
            started = re.findall(r"initialize program: (\S+)", text)
            programs += [os.path.basename(path) for path in started]
            if self is LUCID and f"calling init: {self.preload}\n" not in text:
                raise AssertionError(f"{argv}: a process ({started}) ran without {self.preload}")
        shutil.rmtree(log)
        if not programs:
            raise AssertionError(f"{self}: {argv}: the loader saw no dynamically linked program")
        return programs

    def check_messages(self, text, what):
        """Fail if the library complained in `text` (bytes: stderr or a log)."""
        found = OUR_MESSAGE.findall(text.decode(errors="replace"))
        if found:
            raise AssertionError(f"{self}: {what}: the library said: {found[:5]}")

    def check_process(self, pid):
        """Fail unless the running process `pid` has the side's library mapped."""
        with open(f"/proc/{pid}/maps") as file:
            maps = file.read()
        wanted = self.preload if self is LUCID else "/libc.so.6"
        if wanted + "\n" not in maps:
            raise AssertionError(f"{self}: process {pid} has not mapped {wanted}")

    @contextlib.contextmanager
    def server(self, argv, cwd, ready, stop=signal.SIGTERM, env=None, timeout=30):
        """Run a server while the block runs; `ready()` is true once it answers. Stopped by the
        signal `stop` (None: it must have ended by itself), it must end with status 0."""
        errors = os.path.join(cwd, "server.stderr")
        with open(errors, "ab") as file:
            process = subprocess.Popen(argv, cwd=cwd, env=self.environment(cwd, env),
                                       stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                                       start_new_session=True)
        try:
            def alive_and_ready():
                if process.poll() is not None:
                    raise AssertionError(f"{argv} ended with {process.returncode} at its start")
                return ready()
            wait_until(alive_and_ready, timeout, f"{argv[0]} answers")
            self.check_process(process.pid)
            yield process
            if stop is not None:
                process.send_signal(stop)
            status = process.wait(timeout)
            if status != 0:
                raise AssertionError(f"{argv[0]} ended with {status}")
            with open(errors, "rb") as file:
                self.check_messages(file.read(), argv[0])
        except BaseException as error:
            with open(errors, "rb") as file:
                error.args = (f"{self}: {error}; the server's output:\n{tail(file.read())}",)
            raise
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()


LUCID = Side("lucid", required_file("LUCID_LIBRARY"))
GLIBC = Side("glibc", "libc.so.6")
SIDES = (GLIBC, LUCID)


@functools.lru_cache(maxsize=None)
def program(name, package):
    """The path of a program of Debian; fails naming the package if it is missing, and if one of
    its malloc names is bound elsewhere than to the side's library."""
    path = shutil.which(name, path=PATH)
    if path is None:
        raise AssertionError(f"{name} is not installed: apt-get install {package}")
    for side in SIDES:
        check_bindings(path, side)
    return path


def check_bindings(path, side):
    """Let the loader bind every symbol of a program without starting it (as ldd -r does)."""
    env = side.environment("/", {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes",
                                 "LD_BIND_NOW": "yes", "LD_DEBUG": "bindings"})
    done = subprocess.run([os.path.realpath(path)], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=60)
    bound = BINDING.findall((done.stdout + done.stderr).decode(errors="replace"))
    wanted = side.preload if side is LUCID else "/libc.so.6"
    names = [binding for binding in bound if binding[2] in C_NAMES]
    if side is LUCID:
        # The operators of libstdc++ (in the program or beside it) end in our malloc; others not.
        names += [binding for binding in bound if OPERATOR.match(binding[2])
                  and binding[1] != os.path.realpath(path) and "libstdc++" not in binding[1]]
    if not any(name == "malloc" for _, _, name in names):
        raise AssertionError(f"{side}: {path}: the loader bound no malloc; is it static?")
    # An executable at a fixed address whose code takes the address of free lends its own jump to
    # free to all (python3.11); that jump is bound as well, and is looked at as the program's own.
    lent = {(user, name) for user, owner, name in names if user != owner}
    for user, owner, name in names:
        if not owner.endswith(wanted) and (owner, name) not in lent:
            raise AssertionError(f"{side}: {path}: {name} as used by {user} is that of {owner}")


class RealTest(unittest.TestCase):
    """A test with a directory of its own, that does one piece of work on both sides."""

    maxDiff = 2000

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="lucid-real-")
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        os.chmod(self.directory, 0o755)

    def both(self, work):
        """work(side, directory) on both sides at once: the results of glibc and of lucid."""
        def in_directory(side):
            path = os.path.join(self.directory, side.name)
            os.makedirs(path, exist_ok=True)
            return work(side, path)
        with concurrent.futures.ThreadPoolExecutor(len(SIDES)) as pool:
            futures = [pool.submit(in_directory, side) for side in SIDES]
            return [future.result() for future in futures]

    def assert_same(self, work):
        """Both sides must return the same, and something; returns it."""
        glibc, lucid = self.both(work)
        self.assertTrue(glibc, "the work gave no result to compare")
        self.assertEqual(glibc, lucid, "lucid's result is not that of glibc")
        return lucid


def free_port():
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def answers(port):
    """True if something listens on a port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def wait_until(condition, timeout, what):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s in vain until: {what}")
        time.sleep(0.05)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file_sha256(*parts):
    with open(os.path.join(*parts), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(data, *parts):
    """Write text or bytes to a file; returns its path."""
    path = os.path.join(*parts)
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    return path


def tail(data, count=4000):
    return data[-count:].decode(errors="replace")


def main():
    unittest.main(verbosity=2)
