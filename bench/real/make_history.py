"""Write a history for `git fast-import`: commits that change lines of some files and rename others.

make_history.py COMMITS
"""

import random
import sys

rng = random.Random(1)
FILES = 150


def line():
    return " ".join(f"{rng.choice('abcdefgh')}{rng.randrange(300)}" for _ in range(9))


def data(text):
    return f"data {len(text)}\n{text}\n"


def write_commit(number, changed, renamed):
    print("commit refs/heads/main")
    print(f"mark :{number}")
    print(f"committer Somebody <somebody@example.org> {1500000000 + 60 * number} +0000")
    print(data(f"change {number}\n\n{line()}\n"), end="")
    if number > 1:
        print(f"from :{number - 1}")
    for old, new in renamed:
        print(f"R {old} {new}")
    for name, lines in changed.items():
        print(f"M 100644 inline {name}")
        print(data("\n".join(lines) + "\n"), end="")
    print()


def edit(lines):
    for _ in range(rng.randrange(1, 12)):
        place = rng.randrange(len(lines))
        lines[place:place + rng.randrange(3)] = [line() for _ in range(rng.randrange(1, 4))]


def main():
    files = {f"dir{n % 12}/file{n}.txt": [line() for _ in range(rng.randrange(20, 300))]
             for n in range(FILES)}
    write_commit(1, files, [])
    for number in range(2, int(sys.argv[1]) + 2):
        names = rng.sample(sorted(files), 6)
        renamed = []
        if number % 5 == 0:
            old = names.pop()
            new = f"dir{number % 12}/file{number}-renamed.txt"
            renamed.append((old, new))
            files[new] = files.pop(old)
            names.append(new)
        for name in names:
            edit(files[name])
        write_commit(number, {name: files[name] for name in names}, renamed)


main()
