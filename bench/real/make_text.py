"""Write text that compresses about as well as prose and logs do: make_text.py KILOBYTES."""

import random
import sys

rng = random.Random(1)
LETTERS = "etaoinshrdlucmfwypvbgkqjxz"


def word():
    return "".join(LETTERS[int(len(LETTERS) * rng.random() ** 2)]
                   for _ in range(rng.randrange(2, 12)))


def main():
    words = [word() for _ in range(6000)]
    left = int(sys.argv[1]) * 1024
    number = 0
    while left > 0:
        number += 1
        chosen = [words[int(len(words) * rng.random() ** 3)] for _ in range(rng.randrange(4, 16))]
        line = f"{number} {' '.join(chosen)} {rng.randrange(100000)}\n"[:left]
        sys.stdout.write(line)
        left -= len(line)


main()
