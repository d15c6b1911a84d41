"""The allocators that a benchmark runs on: where they are, what version, and that they work.

An allocator is a name and what LD_PRELOAD must be for it. glibc is libc.so.6 itself, because some
programs are linked with another malloc. Peers come from Debian's packages and from the variable
PEERS="name=path,name=path" (spaces do as well), which wins where a name is in both. A path may be
followed by settings: "patient=/usr/lib/libjemalloc.so.2;MALLOC_CONF=dirty_decay_ms:60000".
"""

import hashlib
import os
import re
import subprocess
import sys

LIBRARY_DIRECTORIES = ["/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/usr/lib64", "/usr/lib"]
SONAMES = {
    "jemalloc": ["libjemalloc.so.2"],
    "mimalloc": ["libmimalloc.so.3", "libmimalloc.so.2"],
    "tcmalloc": ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"],
}

# Run in a process of its own that has the library preloaded: most cannot be loaded later.
ASK_VERSION = r"""
import ctypes, sys
library = ctypes.CDLL(None)
def text(name):
    function = getattr(library, name)
    function.restype = ctypes.c_char_p
    return function
if hasattr(library, "lu_version"):
    print(text("lu_version")().decode()); sys.exit()
if hasattr(library, "mi_version"):
    number = library.mi_version()
    parts = (number // 10000, number // 100 % 100, number % 100) if number >= 10000 else \
            (number // 100, number // 10 % 10, number % 10)
    print("%d.%d.%d" % parts); sys.exit()
if hasattr(library, "tc_version"):
    major, minor, patch = ctypes.c_int(), ctypes.c_int(), ctypes.c_char_p()
    version = text("tc_version")(ctypes.byref(major), ctypes.byref(minor), ctypes.byref(patch))
    print(version.decode().removeprefix("gperftools ")); sys.exit()
if hasattr(library, "mallctl"):
    value, size = ctypes.c_char_p(), ctypes.c_size_t(8)
    if library.mallctl(b"version", ctypes.byref(value), ctypes.byref(size), None, 0) == 0:
        print(value.value.decode().split("-g")[0])
"""


# The whole environment of a measured program, but for the preload: nothing of the caller's gets in.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "HOME": "/",
               "TZ": "UTC", "PYTHONHASHSEED": "0", "PERL_HASH_SEED": "0", "PYTHONMALLOC": "malloc",
               "PYTHONDONTWRITEBYTECODE": "1", "GIT_CONFIG_NOSYSTEM": "1"}


class Allocator:
    def __init__(self, name, preload, settings=None):
        self.name = name
        self.preload = preload
        self.settings = settings or {}  # what its own variables are set to

    def variables(self):
        """What makes a program use it."""
        return {**self.settings, "LD_PRELOAD": self.preload}

    def environment(self):
        return {**ENVIRONMENT, **self.variables()}

    def is_in_maps(self, maps):
        """True if the /proc/PID/maps of a process show the library."""
        return (os.path.realpath(self.preload) if "/" in self.preload else self.preload) in maps

    def has_own_interface(self):
        """True of lucid, under whatever name: functions of its own are benchmarked as well."""
        if "/" not in self.preload:
            return False
        with open(self.preload, "rb") as file:
            return b"lu_cache_create" in file.read()

    def check(self):
        """End the program if the loader cannot preload the library."""
        done = subprocess.run(["/bin/cat", "/proc/self/maps"], env=self.environment(),
                              capture_output=True, text=True, check=False)
        if done.returncode != 0 or not self.is_in_maps(done.stdout):
            sys.exit(f"bench: {self.name}: {self.preload} cannot be preloaded: {done.stderr}")

    def describe(self):
        """What the saved results say of it."""
        if "/" not in self.preload:
            return {"library": self.preload, "version": os.confstr("CS_GNU_LIBC_VERSION")}
        path = os.path.realpath(self.preload)
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
        asked = subprocess.run([sys.executable, "-c", ASK_VERSION], capture_output=True,
                               text=True, check=False, env=self.environment())
        described = {"library": path, "version": asked.stdout.strip() or None, "sha256": digest,
                     "package": package_of(path)}
        return {**described, "settings": self.settings} if self.settings else described


def package_of(path):
    """Debian's package and version of a file, or None."""
    try:
        owner = subprocess.run(["dpkg-query", "-S", path], capture_output=True, text=True,
                               check=True).stdout.split(":", 1)[0]
        shown = subprocess.run(["dpkg-query", "-W", owner], capture_output=True, text=True,
                               check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return " ".join(shown.split())


def from_variable():
    """PEERS="name=path,name=path;VARIABLE=value" as a dictionary, name to path and settings."""
    peers = {}
    for part in filter(None, re.split(r"[,\s]+", os.environ.get("PEERS", ""))):
        named, *settings = part.split(";")
        name, equals, path = named.partition("=")
        if not name or not equals or not os.path.isfile(path):
            sys.exit(f"bench: PEERS: '{part}' is not name=path of a file")
        if not all("=" in setting for setting in settings):
            sys.exit(f"bench: PEERS: '{part}' has something other than VARIABLE=value")
        if name in ("glibc", "lucid"):
            sys.exit(f"bench: PEERS: '{name}' is taken; give '{path}' another name")
        peers[name] = (os.path.abspath(path), dict(each.split("=", 1) for each in settings))
    return peers


def installed():
    """The peers that Debian's packages brought, name to path."""
    found = {}
    for name, sonames in SONAMES.items():
        paths = [os.path.join(directory, soname) for soname in sonames
                 for directory in LIBRARY_DIRECTORIES]
        existing = [path for path in paths if os.path.exists(path)]
        if existing:
            found[name] = (existing[0], {})
        else:
            print(f"bench: {name} is not installed and is left out", file=sys.stderr)
    return found


def find(library, with_installed=True):
    """lucid (unless `library` is None), glibc, and every peer, each checked to work."""
    allocators = [Allocator("glibc", "libc.so.6")]
    if library is not None:
        if not os.path.isfile(library):
            sys.exit(f"bench: {library} does not exist; build it, or name another with --lib")
        allocators.append(Allocator("lucid", os.path.abspath(library)))
    peers = {**(installed() if with_installed else {}), **from_variable()}
    allocators += [Allocator(name, *where) for name, where in peers.items()]
    for allocator in allocators:
        allocator.check()
    return allocators
