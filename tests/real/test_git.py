"""git: a repository made in the test, cloned, repacked, collected and checked.

All object ids must be those that git gives on glibc's malloc; git's own check of every object
(fsck) must find nothing. Packing runs in two threads.
"""

import os
import random

import realtest

COMMITS = 250
FILES = 60

CONFIG = """
[user]
    name = Tester
    email = tester@example.org
[init]
    defaultBranch = trunk
[gc]
    autoDetach = false
[pack]
    threads = 2
    windowMemory = 20m
[protocol "file"]
    allow = always
"""


def line(source):
    return " ".join("%x" % source.getrandbits(source.randrange(4, 40))
                    for _ in range(source.randrange(1, 12)))


def history():
    """A history for git fast-import: files that grow and change on two branches with merges."""
    source = random.Random(5)
    files = {f"dir{i % 7}/file{i}.txt": [line(source) for _ in range(source.randrange(3, 400))]
             for i in range(FILES)}
    out = []
    for commit in range(1, COMMITS + 1):
        touched = sorted(files) if commit == 1 else source.sample(sorted(files), 5)
        branch = "refs/heads/side" if commit % 10 == 5 else "refs/heads/trunk"
        message = f"Commit {commit}\n\n{line(source)}\n"
        out.append(f"commit {branch}\nmark :{commit}\n"
                   f"committer Tester <tester@example.org> {1600000000 + commit * 60} +0000\n"
                   f"data {len(message)}\n{message}")
        if commit > 1:
            out.append(f"from :{commit - 1}\n")
            if commit % 10 == 9:
                out.append(f"merge :{commit - 4}\n")
        for name in touched:
            lines = files[name]
            for _ in range(source.randrange(1, 12)):
                lines.insert(source.randrange(len(lines) + 1), line(source))
            del lines[source.randrange(len(lines))]
            text = "\n".join(lines) + "\n"
            out.append(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
    out.append("tag v1\nfrom :200\ntagger Tester <tester@example.org> 1700000000 +0000\n"
               "data 8\nA tag.\n\n")
    return "".join(out).encode()


class Git(realtest.RealTest):
    def setUp(self):
        super().setUp()
        self.program = realtest.program("git", "git")
        self.history = history()

    def git(self, side, directory, *args, input=None, timeout=60):
        """git in directory/repo (or as -C says), with times and settings of our own."""
        env = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_DATE": "1700000000 +0000",
               "GIT_COMMITTER_DATE": "1700000000 +0000", "GIT_TERMINAL_PROMPT": "0"}
        return side.run([self.program, *args], directory, input=input, env=env, timeout=timeout)

    def make(self, side, directory):
        realtest.write(CONFIG, directory, ".gitconfig")
        self.git(side, directory, "init", "--quiet", "repo")
        self.git(side, directory, "-C", "repo", "fast-import", "--quiet", input=self.history)
        self.git(side, directory, "-C", "repo", "checkout", "--quiet", "trunk")
        realtest.write(random.Random(3).randbytes(3000000), directory, "repo", "large.bin")
        self.git(side, directory, "-C", "repo", "add", "--all")
        self.git(side, directory, "-C", "repo", "commit", "--quiet", "-m", "A large file")

    def objects(self, side, directory, repository):
        """(number, digest) of all objects' ids, types and sizes, and the references."""
        listed = self.git(side, directory, "-C", repository, "cat-file", "--batch-all-objects",
                          "--batch-check").out
        references = self.git(side, directory, "-C", repository, "rev-parse", "--branches",
                              "--tags", "--remotes", "HEAD").out
        return len(listed.splitlines()), realtest.sha256(listed), references

    def check(self, side, directory, repository):
        done = self.git(side, directory, "-C", repository, "fsck", "--full", "--strict",
                        "--no-dangling")
        self.assertEqual(done.out, b"", "fsck")

    def test_clone_gc_fsck(self):
        def work(side, directory):
            self.make(side, directory)
            made = self.objects(side, directory, "repo")
            address = "file://" + os.path.join(directory, "repo")
            self.git(side, directory, "clone", "--quiet", address, "cloned")
            cloned = self.objects(side, directory, "cloned")
            self.check(side, directory, "cloned")
            programs = self.git(side, directory, "-C", "repo", "gc", "--quiet", "--aggressive",
                                "--prune=now", timeout=120).programs
            self.assertGreaterEqual(len(programs), 4, programs)
            self.check(side, directory, "repo")
            self.assertEqual(self.objects(side, directory, "repo"), made, "after gc")
            self.git(side, directory, "clone", "--quiet", "--bare", "--depth", "20", address,
                     "shallow")
            self.check(side, directory, "shallow")
            return made, cloned, self.objects(side, directory, "shallow")
        (made, cloned, _) = self.assert_same(work)
        self.assertEqual(made[:2], cloned[:2], "the clone has all objects")
        self.assertGreater(made[0], 1500)

    def test_work_on_history(self):
        commands = [["log", "-p", "--stat", "trunk", "--format=%H %T %an %s"],
                    ["log", "--graph", "--oneline", "--all"],
                    ["blame", "--line-porcelain", "dir0/file0.txt"],
                    ["grep", "-n", "-E", "(a|b)+[0-9]f? ", "v1", "--", "dir1", "dir2"],
                    ["diff", "--patience", "--word-diff=porcelain", "v1", "trunk"],
                    ["rev-list", "--objects", "--all"],
                    ["archive", "--format=tar", "v1"],
                    ["shortlog", "-s", "trunk"]]

        def work(side, directory):
            self.make(side, directory)
            results = []
            for command in commands:
                out = self.git(side, directory, "-C", "repo", *command).out
                self.assertTrue(out, command)
                results.append((command[0], len(out), realtest.sha256(out)))
            self.git(side, directory, "-C", "repo", "checkout", "--quiet", "-b", "new", "v1")
            self.git(side, directory, "-C", "repo", "cherry-pick", "trunk")
            self.git(side, directory, "-C", "repo", "rebase", "--quiet", "--onto", "trunk~9",
                     "new~1")
            return results, self.objects(side, directory, "repo")
        self.assert_same(work)


if __name__ == "__main__":
    realtest.main()
