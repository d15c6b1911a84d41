"""Shared parts of the tests of documents.

CTest gives in the environment: MAKE_DOCUMENT (make_document.c compiled) and LUCID_COMMAND."""

import json
import os
import pty
import re
import subprocess
import sys


def required_file(variable):
    path = os.environ.get(variable, "")
    if not os.path.isfile(path):
        sys.exit(f"{variable}={path!r} is not a file; CTest sets it (see CMakeLists.txt)")
    return os.path.realpath(path)


MAKE = required_file("MAKE_DOCUMENT")
COMMAND = required_file("LUCID_COMMAND")
PAGE_DATA_BYTES = 5_000_000
COLOUR = re.compile(r"\033\[[0-9;]*m")


def environment(**changes):
    result = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C.UTF-8", "TERM": "xterm"}
    result.update(changes)
    return {key: value for key, value in result.items() if value is not None}


def run(*arguments, program=MAKE, **changes):
    return subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                          env=environment(**changes), timeout=120, check=False)


def output(*arguments, **options):
    """What it wrote; it must succeed."""
    done = run(*arguments, **options)
    if done.returncode != 0:
        raise AssertionError(f"{arguments}: status {done.returncode}: {done.stderr.decode()}")
    return done.stdout.decode()


def on_terminal(*arguments, program=MAKE, **changes):
    ours, theirs = pty.openpty()
    process = subprocess.Popen([program, *arguments], stdin=subprocess.DEVNULL, stdout=theirs,
                               stderr=theirs, env=environment(**changes))
    os.close(theirs)
    shown = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not some:
            break
        shown += some
    os.close(ours)
    if process.wait(timeout=120) != 0:
        raise AssertionError(f"{arguments}: {shown.decode()}")
    return shown.decode().replace("\r\n", "\n")


def sections(document, kind):
    return [section for section in document["sections"] if section["type"] == kind]


def page_document(page):
    """The document that a page holds, and how many bytes it takes there."""
    text = page.split('<script type="application/json" id="document">', 1)[1]
    text = text.split("</script>", 1)[0]
    return json.loads(text), len(text.encode())
