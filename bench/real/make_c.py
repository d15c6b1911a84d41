"""Write a C program of some thousand lines for the compiler to work on: make_c.py FUNCTIONS."""

import random
import sys

rng = random.Random(1)
OPERATORS = ["+", "-", "*", "&", "|", "^"]


def expression(names, depth):
    if depth == 0:
        return rng.choice(names + [str(rng.randrange(1, 99))])
    left, right = expression(names, depth - 1), expression(names, depth - 1)
    return f"({left} {rng.choice(OPERATORS)} {right})"


def function(number):
    names = ["a", "b", "i", "t[i & 15]"]
    lines = [f"unsigned f{number}(unsigned a, unsigned b) {{",
             f"    unsigned t[16] = {{a, b, {rng.randrange(1000)}}}, i, r = {number}u;",
             f"    for (i = 0; i < {rng.randrange(4, 40)}; i++) {{"]
    for _ in range(4):
        lines.append(f"        t[(i * {rng.randrange(1, 9)}) & 15] = {expression(names, 3)};")
        lines.append(f"        if (t[i & 15] > {rng.randrange(5000)}) r += {expression(names, 2)};")
        if number > 0:
            lines.append(f"        else r ^= f{rng.randrange(number)}(r, i);")
    lines += ["        switch (r & 7) {"]
    lines += [f"        case {case}: r += {expression(names, 2)}; break;" for case in range(6)]
    lines += ["        }", "    }", "    return r;", "}", ""]
    return lines


def main():
    for number in range(int(sys.argv[1])):
        print("\n".join(function(number)))


main()
