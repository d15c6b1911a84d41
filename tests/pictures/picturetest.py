"""Shared parts of the tests of documents.

CTest gives in the environment: MAKE_DOCUMENT and DRAW_HEAP (make_document.c and draw_heap.c
compiled)."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import commandtest  # noqa: E402
from commandtest import COLOUR, required_file  # noqa: E402,F401

MAKE = required_file("MAKE_DOCUMENT")
DRAW_HEAP = required_file("DRAW_HEAP")
PAGE_DATA_BYTES = 5_000_000


def environment(**changes):
    return commandtest.environment(**{"LC_ALL": "C.UTF-8", **changes})


def run(*arguments, program=MAKE, **changes):
    return commandtest.run([program, *arguments], environment(**changes))


def assert_success(arguments, done):
    if done.status != 0:
        raise AssertionError(f"{arguments}: status {done.status}: {done.out}{done.err}")


def output(*arguments, **options):
    """What it wrote; it must succeed."""
    done = run(*arguments, **options)
    assert_success(arguments, done)
    return done.out


def on_terminal(*arguments, program=MAKE, columns=0, **changes):
    done = commandtest.run_on_terminal([program, *arguments], environment(**changes), columns)
    assert_success(arguments, done)
    return done.out.replace("\r\n", "\n")


def sections(document, kind):
    return [section for section in document["sections"] if section["type"] == kind]


def page_document(page):
    """The document that a page holds, and how many bytes it takes there."""
    text = page.split('<script type="application/json" id="document">', 1)[1]
    text = text.split("</script>", 1)[0]
    return json.loads(text), len(text.encode())
