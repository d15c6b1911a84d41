"""Write problems for an SMT solver, each checked and dropped again: make_smt.py PROBLEMS.

By turns: bit vectors (a hidden factoring), arrays and linear integers, and functions.
"""

import random
import sys

rng = random.Random(1)


def bit_vectors(number):
    left, right = rng.randrange(1 << 8, 1 << 9), rng.randrange(1 << 8, 1 << 9)
    return ["(declare-const x (_ BitVec 20))", "(declare-const y (_ BitVec 20))",
            "(assert (bvult x #x00400))", "(assert (bvult y #x00400))",
            "(assert (bvugt x #x00001))", "(assert (bvugt y #x00001))",
            f"(assert (= (bvmul x y) (_ bv{left * right + number % 2} 20)))"]


def integers(number):
    names = [f"i{n}" for n in range(18)]
    lines = [f"(declare-const {name} Int)" for name in names]
    lines += [f"(assert (and (>= {name} 0) (<= {name} 60)))" for name in names]
    for _ in range(16):
        chosen = rng.sample(names, 4)
        terms = " ".join(f"(* {rng.randrange(-9, 10)} {name})" for name in chosen)
        lines.append(f"(assert (<= (+ {terms}) {rng.randrange(10, 90) - number % 7}))")
        low, high = rng.sample(names, 2)
        lines.append(f"(assert (or (< {low} {high}) (> {high} {rng.randrange(40)})))")
    return lines


def functions(number):
    lines = ["(declare-sort S 0)", "(declare-fun f (S S) S)", "(declare-fun p (S) Bool)"]
    names = [f"s{n}" for n in range(40)]
    lines += [f"(declare-const {name} S)" for name in names]
    for _ in range(90):
        a, b, c, d = rng.sample(names, 4)
        lines.append(f"(assert (or (= (f {a} {b}) {c}) (and (p {d}) (= {a} (f {c} {d})))))")
        lines.append(f"(assert (or (not (p {b})) (not (= {c} {d})) (= (f {a} {a}) {b})))")
    return lines + [f"(assert (distinct {' '.join(names[:4 + number % 5])}))"]


def main():
    print("(set-logic ALL)")
    kinds = [bit_vectors, integers, functions]
    for number in range(int(sys.argv[1])):
        print("(push 1)")
        print("\n".join(kinds[number % len(kinds)](number)))
        print("(check-sat)\n(pop 1)")


main()
