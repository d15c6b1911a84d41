"""A guest: the kernel, the initramfs with all that the programs need, and QEMU.

The files of a build are below /build in the guest, and libraries in /lib. init.c says what the plan
and the console look like.
"""

import gzip
import os
import pathlib
import re
import selectors
import stat
import subprocess
import time

from plan import NATIVE, ROOT, SECONDS, SECONDS_EMULATED

# More than the largest block that a program wants (5 GiB), or the kernel refuses it; what of it is
# used is less than 2 GiB.
MEMORY_MIB, PROCESSORS = 6144, 2
GUEST_SECONDS, PROBE_SECONDS = 3600, 30
LINE = re.compile(r"@(kernel|start|out|err|log|end|done)(?: (.*))?")
KVM = "/dev/kvm"

MACHINES = {
    "amd64": {
        "build": NATIVE, "compiler": "gcc", "loader": "/lib64/ld-linux-x86-64.so.2",
        "console": "ttyS0", "qemu": ["qemu-system-x86_64", "-machine", "q35"],
        "processor": "max,-erms,-fsrm",  # which are emulated byte by byte
    },
    "arm64": {
        "build": ROOT / "build" / "aarch64", "compiler": "aarch64-linux-gnu-gcc",
        "loader": "/lib/ld-linux-aarch64.so.1", "console": "ttyAMA0",
        "qemu": ["qemu-system-aarch64", "-machine", "virt,gic-version=3"],
        # One that has all sizes of pages and the atomic instructions, and no more than old kernels
        # know.
        "processor": "cortex-a76",
    },
}


def needed_by(path):
    done = subprocess.run(["readelf", "-d", path], check=True, capture_output=True, text=True)
    return re.findall(r"\(NEEDED\).*\[(.*)\]", done.stdout)


def is_elf(path):
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def library_path(machine, name):
    done = subprocess.run([machine["compiler"], f"-print-file-name={name}"], check=True,
                          capture_output=True, text=True)
    found = pathlib.Path(done.stdout.strip())
    if not found.is_absolute():
        raise FileNotFoundError(f"{machine['compiler']} knows no {name}")
    return found.resolve()


class Initramfs:
    """A cpio archive of the format "newc", built in memory."""

    def __init__(self):
        self.entries = {}

    def add(self, path, mode, data=b""):
        for parent in reversed(pathlib.PurePath(path).parents):
            if str(parent) != "/":
                self.entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
        self.entries[path] = (mode, data)

    def add_file(self, path, source):
        self.add(path, stat.S_IFREG | 0o755, pathlib.Path(source).read_bytes())

    def add_libraries(self, machine, files):
        todo, seen = list(files), set()
        while todo:
            for name in needed_by(todo.pop()):
                if name not in seen:
                    seen.add(name)
                    todo.append(library_path(machine, name))
                    self.add_file(f"/lib/{name}", todo[-1])

    def packed(self):
        parts = []
        entries = [*self.entries.items(), ("/TRAILER!!!", (0, b""))]
        for number, (path, (mode, data)) in enumerate(entries, 1):
            name = path[1:].encode() + b"\0"
            fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0]
            head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
            for part in (head, data):
                parts += [part, b"\0" * (-len(part) % 4)]
        return gzip.compress(b"".join(parts), 1)


def in_guest(word):
    return word.replace(str(NATIVE), "/build")


def plan_line(number, program, emulated):
    seconds = SECONDS_EMULATED if emulated else SECONDS
    words = [str(number), str(seconds), str(program.mib)]
    words += [f"{name}={in_guest(value)}" for name, value in program.environment.items()]
    if emulated:
        words += ["CHECK_SCALE=10", "CHECK_SLOW=10"]
    return "\t".join(words + [in_guest(word) for word in program.command]) + "\n"


def make_initramfs(path, architecture, programs, emulated):
    machine, image = MACHINES[architecture], Initramfs()
    build, files = machine["build"], {}
    for program in programs:
        for word in (*program.command, *program.environment.values()):
            if word.startswith(str(NATIVE)):
                files[in_guest(word)] = word.replace(str(NATIVE), str(build))
    for name, source in files.items():
        image.add_file(name, source)
    library = library_path(machine, "libgcc_s.so.1")  # which pthread_exit loads
    image.add_file("/lib/libgcc_s.so.1", library)
    image.add_libraries(machine, [name for name in files.values() if is_elf(name)] + [library])
    image.add_file(machine["loader"], library_path(machine, os.path.basename(machine["loader"])))
    os_header = str(ROOT / "src" / "os" / "os.h")  # which tests/faults/every_call reads
    image.add_file(os_header, os_header)
    image.add_file("/init", build / "tests" / "kernels" / "kernels_init")
    for name in ("proc", "sys", "dev", "tmp"):
        image.add(f"/{name}", stat.S_IFDIR | 0o755)
    plan = "".join(plan_line(i, p, emulated) for i, p in enumerate(programs))
    image.add("/plan", stat.S_IFREG | 0o644, plan.encode())
    path.write_bytes(image.packed())


def command_of(architecture, kernel, initramfs, emulated):
    machine = MACHINES[architecture]
    accelerator = ["-accel", "tcg,thread=multi", "-cpu", machine["processor"]]
    if not emulated:
        accelerator = ["-accel", "kvm", "-cpu", "host"]
    return ["nice", *machine["qemu"], *accelerator, "-smp", str(PROCESSORS), "-m", str(MEMORY_MIB),
            "-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
            "-kernel", str(kernel), "-initrd", str(initramfs),
            "-append", f"console={machine['console']} loglevel=3 panic=-1 random.trust_cpu=on "
            "no_timer_check"]  # emulated timers may be too slow for the check at the start


def lines_of(process, deadline):
    """What the console says, line by line, until its end or the deadline."""
    selector, rest = selectors.DefaultSelector(), b""
    selector.register(process.stdout, selectors.EVENT_READ)
    while (left := deadline - time.monotonic()) > 0:
        if not selector.select(left):
            break
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.decode("ascii", "replace").strip("\r")
    if rest:
        yield rest.decode("ascii", "replace")


def plain(text):
    return re.sub(r"\\x([0-9a-f]{2})", lambda m: chr(int(m[1], 16)), text)


class Results:
    """What the console says, taken apart."""

    def __init__(self, programs):
        self.programs = programs
        self.kernel, self.ended, self.others = "", False, []
        self.texts = {}

    def take(self, line):
        """The number of a program that just ended, with its CompletedProcess; or None."""
        found = LINE.fullmatch(line)
        if found is None:
            self.others.append(line)
            return None
        kind, text = found[1], found[2] or ""
        if kind == "kernel":
            self.kernel = text
        elif kind == "start":
            self.texts = {"out": [], "err": [], "log": []}
        elif kind in ("out", "err", "log"):
            self.texts[kind].append(plain(text))
        elif kind == "done":
            self.ended = True
        else:
            return self.completed(*text.split())
        return None

    def completed(self, number, how, value, _):
        program = self.programs[int(number)]
        out, err, log = ("".join(f"{line}\n" for line in self.texts[kind])
                         for kind in ("out", "err", "log"))
        status = {"exit": int(value), "signal": -int(value)}.get(how)
        done = subprocess.CompletedProcess(program.command, status, out, err)
        if how == "timeout":
            return program, f"still running after {value} s\n{out}{err}{log}"
        wrong = program.judge(done)
        return program, f"{wrong}{log}" if wrong else None


def run_guest(architecture, kernel, directory, programs, emulated, report,
              seconds=GUEST_SECONDS):
    """Boot and run all programs; report(program, what is wrong or None) for each that ended.

    Returns the Results. Everything that the console said is in directory/console.txt."""
    initramfs = directory / "initramfs.gz"
    make_initramfs(initramfs, architecture, programs, emulated)
    command = command_of(architecture, kernel, initramfs, emulated)
    results = Results(programs)
    with open(directory / "console.txt", "w", encoding="utf-8") as log, \
         subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as process:
        try:
            for line in lines_of(process, time.monotonic() + seconds):
                log.write(line + "\n")
                log.flush()
                ended = results.take(line)
                if ended:
                    report(*ended)
        finally:
            process.kill()
    return results


def needs_emulation(architecture, kernel, directory):
    """Whether KVM cannot boot this kernel here: /dev/kvm may be there and no guest run."""
    native = {"amd64": "x86_64", "arm64": "aarch64"}[architecture] == os.uname().machine
    if not native or not os.access(KVM, os.R_OK | os.W_OK):
        return True
    results = run_guest(architecture, kernel, directory, [], False, None, PROBE_SECONDS)
    return not results.ended
