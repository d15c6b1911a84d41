"""Python with PYTHONMALLOC=malloc: JSON text, objects and dictionaries that come and go.

objects.py DOCUMENTS
"""

import json
import random
import sys
import zlib

amount = int(sys.argv[1])
rng = random.Random(1)


class Node:
    def __init__(self, key, text):
        self.key = key
        self.text = text
        self.children = []


def tree(depth):
    node = Node(rng.random(), "n" * rng.randrange(60))
    if depth > 0:
        node.children = [tree(depth - 1) for _ in range(3)]
    return node


def weight(node):
    return len(node.text) + sum(weight(child) for child in node.children)


def document(index):
    return {"id": index, "name": f"item {index}",
            "tags": [f"t{rng.randrange(99)}" for _ in range(8)],
            "parts": [{"n": i, "w": rng.random(), "s": "x" * rng.randrange(40)} for i in range(12)]}


checksum = 0
documents = [document(i) for i in range(amount)]
for round_number in range(4):
    text = json.dumps(documents)
    checksum = zlib.crc32(text.encode(), checksum)
    again = json.loads(text)
    for index in rng.sample(range(amount), amount // 2):
        again[index] = document(index)
    documents = again
counts = {}
for step in range(amount * 330):
    key = str(rng.randrange(amount * 40))
    counts[key] = counts.get(key, "") + "y"
    if len(counts) > amount * 27:
        counts = {name: value for name, value in counts.items() if len(value) > 1}
print(checksum, weight(tree(9 if amount > 500 else 4)), len(counts),
      sum(len(value) for value in counts.values()))
