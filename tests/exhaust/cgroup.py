#!/usr/bin/env python3
"""limit:cgroup, in a real memory control group where the machine lets us make one.

usage: cgroup.py AT_LIMIT LIBRARY LUCID

A group below our own gets a limit of 160 MiB. In it, `lucid options` must say what follows from
that, and a program that takes all the memory it can get must be refused before the kernel kills
it. Where no group can be made, the output says why, and only what can be checked is: the effective
limit is what this script finds in the files of our own groups, and the program keeps to it given as
a number.
"""

import json
import os
import subprocess
import sys

MIB = 1 << 20
GROUP_MIB = 160
TAKEN_MIB = ["100", "150"]  # the least and the most that a program must get in it
NONE = 1 << 60


def own_group():
    """(directory of our memory group, its mount, name of the limit file), or None."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        lines = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in lines:
        if "memory" in controllers.split(","):
            return "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes"
    for number, controllers, path in lines:
        if number == "0" and controllers == "":
            return "/sys/fs/cgroup", path, "memory.max"
    return None


def number_in(path):
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
    except OSError:
        return NONE
    return int(text) if text.isdigit() else NONE


def expected_limit(mount, path, name):
    """The rule of limit:cgroup, in another language."""
    least, high = NONE, NONE
    parts = [part for part in path.split("/") if part]
    for depth in range(len(parts) + 1):
        directory = os.path.join(mount, *parts[:depth])
        least = min(least, number_in(os.path.join(directory, name)))
        if name == "memory.max":
            high = min(high, number_in(os.path.join(directory, "memory.high")))
    limit = high
    if least < NONE:
        rest = min(max(least // 16, 8 * MIB), 256 * MIB)
        limit = min(limit, least - min(rest, least // 2))
    return 0 if limit >= NONE else max(limit, MIB)


def make_group(mount, path, name):
    """A new group below ours, with a limit; or None and the reason."""
    parent = mount + path.rstrip("/")
    group = os.path.join(parent, f"lucid-test-{os.getpid()}")
    if name == "memory.max":
        try:
            with open(os.path.join(parent, "cgroup.subtree_control"), encoding="ascii") as file:
                if "memory" not in file.read().split():
                    return None, f"{parent} does not pass the memory controller on"
        except OSError as error:
            return None, str(error)
    try:
        os.mkdir(group)
    except OSError as error:
        return None, str(error)
    try:
        with open(os.path.join(group, name), "w", encoding="ascii") as file:
            file.write(str(GROUP_MIB * MIB))
    except OSError as error:
        os.rmdir(group)
        return None, str(error)
    return group, None


def run(command, group=None, **variables):
    env = {k: v for k, v in os.environ.items() if k not in ("LD_PRELOAD", "LUCID_OPTIONS")}
    env.update(variables)

    def enter():
        if group:
            with open(os.path.join(group, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))

    done = subprocess.run(command, env=env, preexec_fn=enter, capture_output=True, text=True,
                          timeout=120)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{done.stderr}{' '.join(command)}: status {done.returncode}")
    return done.stdout


def effective_limit(lucid, group=None):
    listed = json.loads(run([lucid, "options", "--json"], group, LUCID_OPTIONS="limit:cgroup"))
    limit = next(entry for entry in listed["options"] if entry["key"] == "limit")
    if limit["origin"] != "cgroup":
        sys.exit(f"the origin of the limit is {limit['origin']}")
    return int(limit["value"])


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    at_limit, library, lucid = sys.argv[1:]
    found = own_group()
    if found is None:
        sys.exit("this machine has no memory control group at all: /proc/self/cgroup names none")
    mount, path, name = found
    expected, got = expected_limit(mount, path, name), effective_limit(lucid)
    if got != expected:
        sys.exit(f"limit:cgroup gives {got}, but from the files follows {expected}")
    preload = {"LD_PRELOAD": library, "CHECK_SYMBOL": "lu_version"}
    print("limit given as a number:")
    print(run([at_limit, "85", "120"], **preload, LUCID_OPTIONS="limit:120M"))
    group, reason = make_group(mount, path, name)
    if group is None:
        print(f"NOT CHECKED on this machine: a real control group ({reason})")
        return
    try:
        expected = (GROUP_MIB - 10) * MIB
        got = effective_limit(lucid, group)
        if got != expected:
            sys.exit(f"in a group of {GROUP_MIB} MiB limit:cgroup gives {got}, not {expected}")
        print(f"in a group of {GROUP_MIB} MiB:")
        print(run([at_limit, *TAKEN_MIB], group, **preload, LUCID_OPTIONS="limit:cgroup"))
    finally:
        os.rmdir(group)


if __name__ == "__main__":
    main()
