"""Start a program for the benchmarks: with a time limit, in an environment that is given whole."""

import contextlib
import os
import signal
import socket
import subprocess
import time

NOT_PRELOADED = "cannot be preloaded"


class Failed(Exception):
    """A program did not do on an allocator what it must."""


def execute(command, environment, stdin=None, stdout=subprocess.PIPE, cwd=None, timeout=None):
    """Run a command to its end; returns its output as bytes (None if `stdout` is a file). Fails if
    it ends otherwise than well, takes too long, or the loader could not preload the allocator."""
    with subprocess.Popen(command, env=environment, cwd=cwd, stdin=stdin or subprocess.DEVNULL,
                          stdout=stdout, stderr=subprocess.PIPE, start_new_session=True) as child:
        try:
            output, errors = child.communicate(timeout=timeout)
        except BaseException as reason:
            end_group(child)
            if isinstance(reason, subprocess.TimeoutExpired):
                raise Failed(f"took more than {timeout:.0f} s") from None
            raise
    message = errors.decode(errors="replace").strip()
    if child.returncode != 0:
        raise Failed(f"ended with status {child.returncode}: {message[-500:]}")
    if NOT_PRELOADED in message:
        raise Failed(message[-500:])
    return output


def end_group(child):
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


@contextlib.contextmanager
def traced_server(command, environment, port, cwd, timeout=30):
    """Run a tracer's command, whose child is a server, while the block runs: from when the server
    listens on `port`. Then the server is asked to end, and with it ends the tracer."""
    with open(os.path.join(cwd, "server.log"), "wb") as log, \
         subprocess.Popen(command, env=environment, cwd=cwd, stdin=subprocess.DEVNULL, stdout=log,
                          stderr=log, start_new_session=True) as tracer:
        try:
            wait_for_port(port, tracer, timeout)
            yield
            with open(f"/proc/{tracer.pid}/task/{tracer.pid}/children", encoding="ascii") as file:
                os.kill(int(file.read().split()[0]), signal.SIGTERM)
            status = tracer.wait(timeout)
        except BaseException as reason:
            end_group(tracer)
            if isinstance(reason, subprocess.TimeoutExpired):
                raise Failed("the server did not end") from None
            raise
    if status != 0:
        raise Failed(f"the server ended with status {status}")


def wait_for_port(port, child, timeout):
    end = time.monotonic() + timeout
    while not is_listening(port):
        if child.poll() is not None:
            raise Failed(f"the server ended with status {child.returncode} at its start")
        if time.monotonic() > end:
            raise Failed(f"the server did not listen after {timeout} s")
        time.sleep(0.02)


def is_listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def free_port():
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]
