"""The rows of the table: the programs that are measured, how they run and what must come out.

    synthetic   our own, bench_NAME: they print their figures as JSON and check their data
    heaps       our own, with heaps of the program where the allocator has them; in no mean
    latency     our own as well: how long single calls take while a server's threads are busy
    walks       calls beside very many things in the heap; some call what few allocators have
    real        Debian's, on inputs that scripts in bench/real write: their output must be the same
                on every allocator; servers are measured while a client works, and the client's
                output is what is compared
    external    from a file (--tests), for programs that are built elsewhere

Real and external programs run under bench_measure, which adds up processes and their descendants.
"""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys

import launch
import peers
from launch import Failed

HERE = os.path.dirname(os.path.abspath(__file__))

# Program and, where it has any, mode. They are built as bench_PROGRAM.
SYNTHETIC = ["random_heap", "mixed_sizes", "batches lifo", "batches fifo", "calloc_small",
             "aligned_blocks", "realloc_growth", "large_zeroed", "columns", "phase_change",
             "server", "producer_consumer", "phased_threads", "false_sharing active",
             "false_sharing passive", "thread_churn", "startup", "fleet google", "fleet meta",
             "growth heap", "growth bump", "scaling", "idle_threads"]
# Heaps that a program makes itself: the rows are compared with each other.
HEAPS = ["heap_pairs thread", "heap_pairs alone", "heap_pairs shared"]
# These call no allocator: they run on the first one only.
INDEPENDENT = {"growth bump"}
# Rows of the same group that not every allocator can run.
OBJECTS = {"objects plain": "any", "objects construct": "any", "objects cache": "lucid"}
# Programs about single calls. Which allocators have what they call: any, where nothing is said.
LATENCY = {"latency busy": "any", "latency purging": "any"}
WALKS = {f"walks {mode}": need for mode, need in {
    "free-young": "any", "large-malloc": "any", "huge-malloc": "any", "huge-free": "any",
    "heap-destroy": "lucid", "fork": "any", "stats-beside": "mallinfo2", "trim-beside": "mallinfo2",
    "remote-refill": "any", "sweep": "any", "stale-list": "any", "thread-start": "any",
    "thread-exit": "any", "pool-tick": "any", "stale-heaps": "any", "cache-create": "lucid",
    "cache-destroy": "lucid", "cache-fork": "lucid", "limit": "lucid"}.items()}


class Task:
    """How a real program is run. In words, {real} is bench/real, {work} a directory of generated
    files, {port} a free port, {amount} what makes it last a second or more."""

    def __init__(self, command, amount, stdin=os.devnull, makes=None, prepare=(), server=None):
        self.command = command
        self.amount = amount
        self.stdin = stdin
        self.makes = makes or {}  # file -> script that writes it, and its argument if not amount
        self.prepare = prepare    # commands that are run once, on no allocator in particular
        self.server = server      # then `command` is its client, and runs on none either


REAL = {
    "python": Task("/usr/bin/python3 {real}/objects.py {amount}", 1500),
    "sqlite": Task("/usr/bin/sqlite3 -cmd '.param set :amount {amount}' :memory:", 200000,
                   stdin="{real}/tables.sql"),
    "perl": Task("/usr/bin/perl {real}/words.pl {amount}", 80000),
    "ruby": Task("/usr/bin/ruby {real}/objects.rb {amount}", 10000),
    "lua": Task("/usr/bin/lua5.4 {real}/strings.lua {amount}", 100000),
    "gcc": Task("/usr/bin/gcc -O2 -S -o /dev/stdout program.c", 100,
                makes={"program.c": "make_c.py"}),
    "g++": Task("/usr/bin/g++ -O1 -std=c++17 -S -o /dev/stdout program.cc", 3,
                makes={"program.cc": "make_cc.py"}),
    "z3": Task("/usr/bin/z3 -smt2 {work}/problems.smt2", 150,
               makes={"problems.smt2": "make_smt.py"}),
    "redis": Task("/bin/sh {real}/redis.sh {port} {amount} {work}/commands.redis", 25000,
                  makes={"commands.redis": "make_redis.py 12000"},
                  server="/usr/bin/redis-server --port {port} --bind 127.0.0.1 --dir {work} "
                         "--save '' --appendonly no --daemonize no --enable-debug-command yes"),
    "git": Task("/bin/sh {real}/history.sh {work}/history.git", 500,
                makes={"history": "make_history.py"},
                prepare=("git init -q --bare -b main {work}/history.git",
                         "git -C {work}/history.git fast-import --quiet <{work}/history")),
    "xz": Task("/usr/bin/xz -T2 --block-size=1MiB -4 -c text", 3000,
               makes={"text": "make_text.py"}),
    "nginx": Task("/bin/bash {real}/nginx.sh {port} {amount} page", 2500,
                  makes={"page": "make_text.py 16"},
                  server="/usr/sbin/nginx -p {work} -c {work}/nginx.conf "
                         "-e {work}/nginx-error.log"),
}


def require(path, advice):
    if not os.path.exists(path):
        sys.exit(f"bench: {path} is missing: {advice}")


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_measured(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)


class Program:
    """One row of the table."""

    group = None
    independent = False  # of the allocator

    def __init__(self, name, executable, timeout):
        self.name = name
        self.executable = executable
        self.timeout = timeout
        self.expected = None  # digest of the output of the first run

    def describe(self):
        """What must agree between results that are merged."""
        return {"group": self.group, "sha256": digest(os.path.realpath(self.executable))}

    def can_run_on(self, _allocator):
        """False if the allocator does not have what the program calls."""
        return True

    def run(self, allocator):
        """Figures of one run, as a dictionary."""
        raise NotImplementedError

    def trace(self, tracer):
        """Run once with the words `tracer` in front: they preload the allocator."""
        raise NotImplementedError

    def check_output(self, path):
        found = digest(path)
        if self.expected is None:
            self.expected = found
        if found != self.expected:
            raise Failed("printed something else than on the first allocator")


class Synthetic(Program):
    group = "synthetic"

    def __init__(self, words, places, scale, timeout, group="synthetic"):
        self.group = group
        program, *mode = words.split()
        path = os.path.join(places["programs"], f"bench_{program}")
        super().__init__(words.replace(" ", "-"), path, timeout)
        self.independent = words in INDEPENDENT
        self.command = [path, "-s", str(scale), *mode]
        require(path, "build the benchmarks first")

    def run(self, allocator):
        output = launch.execute(self.command, allocator.environment(), timeout=self.timeout)
        return json.loads(output)

    def trace(self, tracer):
        launch.execute([*tracer, *self.command], peers.ENVIRONMENT, timeout=self.timeout)


class SingleCalls(Synthetic):
    """Of the group latency or walks, or OBJECTS. `need` says what an allocator must have: "any"
    nothing but malloc, "mallinfo2" what glibc has beside it, "lucid" lucid's own interface."""

    def __init__(self, words, need, group, places, scale, timeout):
        super().__init__(words, places, scale, timeout)
        self.need = need
        self.group = group

    def can_run_on(self, allocator):
        return (self.need == "any" or allocator.has_own_interface()
                or (self.need == "mallinfo2" and allocator.name == "glibc"))


class Real(Program):
    group = "real"

    def describe(self):
        return {**super().describe(), "amount": self.amount, "batch": self.task.server is None}

    def __init__(self, name, places, scale, timeout):
        self.task = REAL[name]
        self.amount = max(1, round(self.task.amount * scale))
        self.places = {**places, "amount": self.amount, "real": os.path.join(HERE, "real")}
        self.work = places["work"]
        main = self.words(self.task.server or self.task.command)
        super().__init__(name, main[0], timeout)
        for path in (main[0], self.words(self.task.command)[0]):
            require(path, "install it: scripts/deps.sh bench")
        require(places["measure"], "build the benchmarks first")
        self.result = os.path.join(self.work, "measured.json")
        self.output = os.path.join(self.work, "output")
        self.made = False

    def words(self, text, port=0):
        return [word.format(port=port, **self.places) for word in shlex.split(text)]

    def make(self):
        """Write the inputs, once and only for rows that are run."""
        if self.made:
            return
        self.made = True
        for name, script in self.task.makes.items():
            script, *argument = script.split()
            with open(os.path.join(self.work, name), "wb") as file:
                subprocess.run([sys.executable, os.path.join(HERE, "real", script),
                                *(argument or [str(self.amount)])], stdout=file, check=True)
        for command in self.task.prepare:
            subprocess.run(["/bin/sh", "-c", command.format(**self.places)], check=True,
                           env=peers.ENVIRONMENT)

    def run(self, allocator):
        self.make()
        self.run_measured([self.places["measure"], self.result,
                           *self.words(self.task.command)], allocator.environment())
        return read_measured(self.result)

    def trace(self, tracer):
        self.make()
        self.run_measured([*tracer, *self.words(self.task.command)], peers.ENVIRONMENT)

    def run_measured(self, command, environment):
        stdin = self.task.stdin.format(**self.places)
        with open(stdin, "rb") as given, open(self.output, "wb") as output:
            launch.execute(command, environment, given, output, self.work, self.timeout)
        self.check_output(self.output)


class Server(Real):
    """A real program that serves a client; time is that of the client."""

    def commands(self, port):
        """Words of the server and of the client, with all that the server reads written anew."""
        self.make()
        self.write_configuration(port)
        return self.words(self.task.server, port), self.words(self.task.command, port)

    def write_configuration(self, port):
        user = "user root;" if os.geteuid() == 0 else ""
        with open(os.path.join(HERE, "real", "nginx.conf"), encoding="utf-8") as file:
            text = file.read()
        for name, value in (("WORK", self.work), ("PORT", str(port)), ("USER", user)):
            text = text.replace(f"@{name}@", value)
        with open(os.path.join(self.work, "nginx.conf"), "w", encoding="utf-8") as file:
            file.write(text)

    def run(self, allocator):
        port = launch.free_port()
        server, client = self.commands(port)
        own = [f"{name}={value}" for name, value in allocator.variables().items()]
        self.run_measured([self.places["measure"], self.result, "--server", str(port), "--",
                           "/usr/bin/env", *own, *server, "--", *client], peers.ENVIRONMENT)
        return read_measured(self.result)

    def trace(self, tracer):
        port = launch.free_port()
        server, client = self.commands(port)
        with launch.traced_server([*tracer, *server], peers.ENVIRONMENT, port, self.work):
            self.run_measured(client, peers.ENVIRONMENT)


class Metric:
    """How the figure of an external program is found: "" is the wall clock, time:REGEX group 1 of
    REGEX in the output (less is better), rate:K:REGEX K divided by it."""

    FORM = re.compile(r"(?:time:|rate:([0-9.eE+]+):)(.+)", re.DOTALL)

    def __init__(self, text):
        self.numerator = self.regex = None
        if text:
            match = self.FORM.fullmatch(text)
            if not match or re.compile(match.group(2)).groups < 1:
                raise ValueError(f"metric '{text}' is not time:REGEX or rate:K:REGEX with a group")
            self.numerator = match.group(1) and float(match.group(1))
            self.regex = re.compile(match.group(2))

    def figure(self, output, seconds):
        if self.regex is None:
            return seconds
        match = self.regex.search(output)
        value = float(match.group(1)) if match else 0
        if value <= 0:
            raise Failed(f"printed no figure that matches {self.regex.pattern}")
        return self.numerator / value if self.numerator else value


class External(Program):
    group = "external"

    def describe(self):
        return {**super().describe(), "batch": True}

    def __init__(self, name, directory, command, metric, places, timeout):
        self.directory = directory
        self.command = shlex.split(command)
        self.metric = Metric(metric)
        if not self.command or not os.path.isdir(directory):
            raise ValueError(f"'{name}' has no command, or {directory} is no directory")
        super().__init__(name, self.find(self.command[0]), timeout)
        self.measure = places["measure"]
        self.result = os.path.join(places["work"], "measured.json")
        require(self.measure, "build the benchmarks first")

    def find(self, word):
        for directory in ["", *peers.ENVIRONMENT["PATH"].split(":")]:
            path = os.path.join(self.directory, directory, word)
            if os.path.isfile(path):
                return path
        raise ValueError(f"'{word}' is no program")

    def run(self, allocator):
        output = self.execute([self.measure, self.result, *self.command], allocator.environment())
        result = read_measured(self.result)
        result["figure"] = self.metric.figure(output.decode(errors="replace"), result["seconds"])
        return result

    def trace(self, tracer):
        self.execute([*tracer, *self.command], peers.ENVIRONMENT)

    def execute(self, command, environment):
        return launch.execute(["/bin/sh", "-c", 'exec "$@" 2>&1', "sh", *command], environment,
                              cwd=self.directory, timeout=self.timeout)


def read_tests(path):
    """The programs of a --tests file: lists of name, directory, command and metric."""
    programs = []
    with open(path, encoding="utf-8") as file:
        for line in file.read().splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                fields = line.split("|", 3)
                if len(fields) < 3 or not fields[0]:
                    raise ValueError(f"'{line}' is not name|directory|command|metric")
                programs.append([*fields, ""][:4])
    return programs


def make_programs(args, work, scale):
    """All rows that `args` choose: groups, names, the file of external ones."""
    def is_wanted(group, name):
        return (not args.group or group in args.group) and re.search(args.only, name)
    places = {"programs": args.programs, "work": work,
              "measure": os.path.join(args.programs, "bench_measure")}
    rows = [Synthetic(words, places, scale, args.timeout) for words in SYNTHETIC
            if is_wanted("synthetic", words.replace(" ", "-"))]
    rows += [Synthetic(words, places, scale, args.timeout, "heaps") for words in HEAPS
             if is_wanted("heaps", words.replace(" ", "-"))]
    rows += [SingleCalls(words, need, group, places, scale, args.timeout)
             for group, programs in (("synthetic", OBJECTS), ("latency", LATENCY), ("walks", WALKS))
             for words, need in programs.items() if is_wanted(group, words.replace(" ", "-"))]
    rows += [(Server if REAL[name].server else Real)(name, places, scale, args.timeout)
             for name in REAL if is_wanted("real", name)]
    try:
        rows += [External(*fields, places, args.timeout)
                 for fields in (read_tests(args.tests) if args.tests else [])
                 if is_wanted("external", fields[0])]
    except (OSError, ValueError, re.error) as fault:
        sys.exit(f"bench: {args.tests}: {fault}")
    check_names([row.name for row in rows])
    return rows


def check_names(names):
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        sys.exit(f"bench: two programs are named {', '.join(sorted(twice))}: rename one, or choose "
                 "with --group")
