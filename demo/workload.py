"""A few seconds of ordinary Python work that allocates all the time: a database in memory, JSON
text, and a dictionary whose entries come and go. It prints a checksum, so that two runs can be
seen to have done the same. `make run` runs it on two allocators."""

import json
import random
import sqlite3
import zlib

ROWS = 100_000
DOCUMENTS = 400
CHURN = 1_200_000


def database(rng):
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price INTEGER, note TEXT)")
    rows = ((f"item-{rng.randrange(10**9)}", rng.randrange(1000), "x" * rng.randrange(200))
            for _ in range(ROWS))
    db.executemany("INSERT INTO item (name, price, note) VALUES (?, ?, ?)", rows)
    db.execute("CREATE INDEX by_name ON item (name)")
    db.execute("DELETE FROM item WHERE id % 3 = 0")
    query = "SELECT price, count(*), group_concat(name) FROM item GROUP BY price ORDER BY price"
    checksum = 0
    for price, count, names in db.execute(query):
        checksum = zlib.crc32(f"{price} {count} {names}".encode(), checksum)
    db.close()
    return checksum


def documents(rng):
    checksum = 0
    for number in range(DOCUMENTS):
        document = {f"key{i}": {"id": i, "tags": [rng.randrange(100) for _ in range(8)],
                                "text": "abc" * rng.randrange(40)} for i in range(250)}
        text = json.dumps({"number": number, "body": document}, sort_keys=True)
        checksum = zlib.crc32(json.dumps(json.loads(text), sort_keys=True).encode(), checksum)
    return checksum


def dictionary(rng):
    entries = {}
    for step in range(CHURN):
        key = rng.randrange(100_000)
        if key in entries:
            del entries[key]
        else:
            entries[key] = [step, str(step) * rng.randrange(1, 12)]
    return zlib.crc32(repr(sorted(entries.items())).encode())


def main():
    rng = random.Random(42)
    for work in (database, documents, dictionary):
        print(f"{work.__name__}: {work(rng):08x}")


main()
