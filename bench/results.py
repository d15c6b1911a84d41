"""The saved result: a JSON document that several runs may add rounds to, and that all tables and
plots are made from.

    schema, date, arguments, machine, scale, repeats
    base            the allocator that ratios are to
    allocators      name -> library, version, digest
    programs        row -> group, digests of the program and its output, allocators: name -> [round]
    syscalls        row -> name -> count, of memory (syscalls_all: of every kind)
    failures        row -> name -> message
    summary         what figures.py makes of it

Rounds are added only where both documents are of one machine, one scale and the same versions of
allocators and programs: else figures would be compared that cannot be.
"""

import datetime
import json
import os
import platform
import re
import sys

SCHEMA = "lucid-bench-2"


class Mismatch(Exception):
    """Two results cannot be one."""


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        models = re.findall(r"model name\s*: (.*)", file.read())
    with open("/proc/meminfo", encoding="utf-8") as file:
        kilobytes = int(re.search(r"MemTotal: *(\d+)", file.read()).group(1))
    with open("/sys/kernel/mm/transparent_hugepage/enabled", encoding="utf-8") as file:
        huge_pages = re.search(r"\[(\w+)\]", file.read())
    return {"cpu": models[0] if models else None, "processors": os.cpu_count(),
            "memory_gib": round(kilobytes / (1 << 20)), "kernel": platform.release(),
            "libc": os.confstr("CS_GNU_LIBC_VERSION"),
            "transparent_huge_pages": huge_pages.group(1) if huge_pages else None}


def create(allocators, scale, base):
    return {
        "schema": SCHEMA,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "arguments": sys.argv[1:],
        "machine": machine(),
        "scale": scale,
        "base": base,
        "repeats": 0,
        "allocators": {allocator.name: allocator.describe() for allocator in allocators},
        "programs": {},
        "syscalls": {},
        "syscalls_all": {},
        "failures": {},
        "summary": {},
    }


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError) as fault:
        sys.exit(f"bench: {path}: {fault}")
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        sys.exit(f"bench: {path} is no result of schema {SCHEMA}")
    return document


def save(document, path):
    """Written beside and renamed: an interrupted run leaves the last whole result."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    os.replace(path + ".new", path)


def add_round(document, program, name, result):
    """Keep what one run gave: `program` is a programs.Program, `name` the allocator's."""
    row = document["programs"].setdefault(program.name, {**program.describe(), "allocators": {}})
    if program.independent:
        row["independent"] = True
    if program.expected is not None:
        row["output"] = program.expected
    rounds = row["allocators"].setdefault(name, [])
    rounds.append(result)
    document["repeats"] = max(document["repeats"], len(rounds))


def add_failure(document, program, name, message):
    """A row has no figures on an allocator on which it ever failed."""
    document["failures"].setdefault(program.name, {})[name] = message
    row = document["programs"].get(program.name)
    if row:
        row["allocators"].pop(name, None)


def rounds_of(document, row):
    """How many rounds of a row there are."""
    by_name = document["programs"].get(row, {}).get("allocators", {})
    return max(map(len, by_name.values()), default=0)


def check_same(what, ours, theirs):
    if ours != theirs:
        raise Mismatch(f"{what} differs: {ours!r} and {theirs!r}")


def check_mergeable(document, other):
    """Raise Mismatch unless rounds of `other` may be added to `document`."""
    for key in ("schema", "machine", "scale", "allocators"):
        ours, theirs = document[key], other[key]
        if isinstance(ours, dict):
            for name in {**ours, **theirs}:
                check_same(f"{key}: {name}", ours.get(name), theirs.get(name))
        check_same(key, ours, theirs)
    for name in document["programs"].keys() & other["programs"].keys():
        check_rows(name, document["programs"][name], other["programs"][name])


def check_rows(name, ours, theirs):
    for key in (ours.keys() | theirs.keys()) - {"allocators"}:
        check_same(f"program {name}: {key}", ours.get(key), theirs.get(key))


def check_described(program, row):
    """Raise Mismatch unless a program is the one that a saved row is of."""
    for key, value in program.describe().items():
        check_same(f"program {program.name}: {key}", row.get(key), value)


def merge(document, other):
    """Add the rounds of `other` to `document`."""
    check_mergeable(document, other)
    for name, row in other["programs"].items():
        ours = document["programs"].setdefault(name, {**row, "allocators": {}})
        for allocator, rounds in row["allocators"].items():
            ours["allocators"].setdefault(allocator, []).extend(rounds)
    for key in ("syscalls", "syscalls_all", "failures"):
        for name, by_name in other[key].items():
            document[key].setdefault(name, {}).update(by_name)
    for name, by_name in document["failures"].items():
        for allocator in by_name:
            document["programs"].get(name, {"allocators": {}})["allocators"].pop(allocator, None)
    document["repeats"] = max(rounds_of(document, name) for name in document["programs"])
    document["date"] = max(document["date"], other["date"])
    return document
