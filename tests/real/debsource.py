"""CPython's own tests of sqlite3, out of Debian's source package of /usr/bin/python3.

Debian's libpython3.11-testsuite holds every test module but test_sqlite3, which it leaves out by
oversight, so that one is taken from the source package with apt (which checks the signature and
the digests), from the archive that this machine's apt already uses. It needs the network once
and no privileges; the result stays in a cache directory. Run as a program it fills the cache.
"""

import glob
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

VERSION = "3.11"
PACKAGE = "python" + VERSION
WANTED = "test_sqlite3"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def cache_directory():
    """LUCID_REAL_CACHE (given by CTest), or a place of the user's."""
    default = os.path.join(os.path.expanduser("~"), ".cache", "lucid-real")
    return os.environ.get("LUCID_REAL_CACHE") or default


def archive():
    """(address, release) of the Debian archive in apt's own configuration."""
    done = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
         "Created-By: Packages", "Origin: Debian"], capture_output=True, text=True, timeout=60)
    for line in done.stdout.splitlines():
        address, release, component = line.split()
        if component == "main" and "-" not in release:
            return address, release
    raise AssertionError("apt knows no Debian archive; run apt-get update: " + done.stderr)


def apt(work, *command):
    """Run apt-get with a source list and an index of our own in the directory `work`."""
    options = ["Dir::Etc::sourcelist=" + os.path.join(work, "sources.list"),
               "Dir::Etc::sourceparts=-", "Dir::State::lists=" + os.path.join(work, "lists"),
               "Dir::Cache=" + os.path.join(work, "cache"), "APT::Sandbox::User=root",
               "Acquire::Languages=none", "Acquire::Retries=3"]
    argv = ["apt-get", "--quiet"] + [word for option in options for word in ("-o", option)]
    done = subprocess.run(argv + list(command), cwd=work, capture_output=True, text=True,
                          timeout=300)
    if done.returncode != 0:
        raise AssertionError(f"{PACKAGE}'s source could not be fetched (apt-get "
                             f"{' '.join(command)}):\n{done.stdout[-500:]}{done.stderr[-2000:]}")


def fetch(work):
    """Download the upstream archive of the source package into `work`; returns its path."""
    address, release = archive()
    for directory in ("lists/partial", "cache/archives/partial"):
        os.makedirs(os.path.join(work, directory))
    with open(os.path.join(work, "sources.list"), "w") as file:
        file.write(f"deb-src [signed-by={KEYRING}] {address} {release} main\n")
    apt(work, "update")
    apt(work, "source", "--download-only", "--tar-only", PACKAGE)
    found = glob.glob(os.path.join(work, PACKAGE + "_*.orig.tar.*"))
    if not found:
        raise AssertionError(f"apt-get source {PACKAGE} left no .orig.tar file")
    return found[0]


def unpack(archive_path, target):
    """Take Lib/test/test_sqlite3 out of the archive into the directory `target`."""
    inside = f"/Lib/test/{WANTED}/"
    with tarfile.open(archive_path) as tar:
        members = [member for member in tar if member.isfile() and inside in member.name]
        for member in members:
            data = tar.extractfile(member).read()
            with open(os.path.join(target, os.path.basename(member.name)), "wb") as file:
                file.write(data)
    if not members:
        raise AssertionError(f"{archive_path} has no {inside}")


def sqlite_tests():
    """The directory that holds the package test_sqlite3, fetched if it is not there yet."""
    home = os.path.join(cache_directory(), PACKAGE)
    if not os.path.exists(os.path.join(home, WANTED, "__init__.py")):
        os.makedirs(home, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=home) as work:
            ready = os.path.join(work, WANTED)
            os.mkdir(ready)
            unpack(fetch(work), ready)
            # In place at once and whole, whatever another run does at the same time.
            shutil.rmtree(os.path.join(home, WANTED), ignore_errors=True)
            os.rename(ready, os.path.join(home, WANTED))
    return home


if __name__ == "__main__":
    try:
        print(sqlite_tests())
    except AssertionError as error:
        sys.exit(str(error))
