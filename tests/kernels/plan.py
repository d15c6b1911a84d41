"""What runs in a guest, and what is right: the programs of programs.txt, out of CTest's list.

The list is that of the preset release; a guest of another processor runs the same programs out of
the build for that. A test that is a script on this machine (misuses, the control group) becomes the
programs that the script would run, judged by the script's own functions.
"""

import dataclasses
import importlib.util
import json
import pathlib
import re
import subprocess
import sys
import typing

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
NATIVE = ROOT / "build" / "release"
SECONDS, SECONDS_EMULATED = 300, 900


@dataclasses.dataclass
class Program:
    """One program to run in a guest. Paths in `command` and `environment` are of NATIVE."""
    name: str
    group: str
    command: list
    environment: dict
    mib: int = 0  # the limit of a control group to run in
    judge: typing.Callable = None  # of a CompletedProcess: what is wrong, or None


def judge_status(done):
    if done.returncode == 0:
        return None
    return f"status {done.returncode}\n{done.stdout}{done.stderr}"


def load(script):
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def misuses(name, group, script, arguments):
    """The cases of tests/death/run.py or guard.py."""
    program, library, *chosen = arguments
    for case in script.known_cases(program):
        if chosen and not script.is_of_group(case, chosen[0]):
            continue
        environment = {"LD_PRELOAD": library}
        if script.options_of(case):
            environment["LUCID_OPTIONS"] = script.options_of(case)
        yield Program(f"{name.split('.')[0]}.{case}", group, [program, case], environment,
                      judge=lambda done, case=case: script.judge(case, done))


def control_group(name, group, script, arguments):
    """The program of tests/exhaust/cgroup.py, in a control group that is made for it."""
    program, library, _ = arguments
    yield Program(name, group, [program, *script.TAKEN_MIB],
                  {"LD_PRELOAD": library, "CHECK_SYMBOL": "lu_version",
                   "LUCID_OPTIONS": "limit:cgroup"}, mib=script.GROUP_MIB, judge=judge_status)


SCRIPTS = {"death/run.py": misuses, "death/guard.py": misuses, "exhaust/cgroup.py": control_group}


def properties_of(test):
    found = {entry["name"]: entry["value"] for entry in test["properties"]}
    return dict(word.split("=", 1) for word in found.get("ENVIRONMENT", []))


def tests_of_ctest():
    """name without the preset: (command, environment), without those for other allocators."""
    text = subprocess.run(["ctest", "--test-dir", NATIVE, "--show-only=json-v1"], check=True,
                          capture_output=True, text=True).stdout
    tests = {}
    for test in json.loads(text)["tests"]:
        environment = properties_of(test)
        if environment.get("LD_PRELOAD", str(NATIVE)).startswith(str(NATIVE)):
            tests[test["name"].removeprefix("release/")] = (test["command"], environment)
    return tests


def programs_of(name, group, arguments, test):
    command, environment = test
    if command[0] != "/usr/bin/python3":
        return [Program(name, group, command[:1] + (arguments or command[1:]), environment,
                        judge=judge_status)]
    path = next(pathlib.Path(word) for word in command if word.endswith(".py"))
    make = SCRIPTS.get(f"{path.parent.name}/{path.name}")
    if make is None:
        sys.exit(f"kernels: {name} is a script that no guest can run")
    return make(name, group, load(path), command[command.index(str(path)) + 1:])


def rows():
    for line in (HERE / "programs.txt").read_text(encoding="ascii").splitlines():
        if not line.startswith("#") and line.strip():
            first, *columns = [part.strip() for part in line.split(" | ")]
            yield *first.split(), (columns + ["-", "-"])[:2]


def read_programs(emulated):
    """All programs of programs.txt, in its order."""
    tests, programs = tests_of_ctest(), []
    for group, pattern, columns in rows():
        chosen = [name for name in tests if re.fullmatch(pattern, name)]
        if not chosen:
            sys.exit(f"kernels: no test of the preset release is called {pattern}")
        column = columns[1 if emulated else 0]
        if column != "no":
            arguments = [] if column == "-" else column.split()
            for name in chosen:
                programs += programs_of(name, group, arguments, tests[name])
    return programs
