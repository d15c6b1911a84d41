"""Python, SQLite and GCC on a classic allocator (path in LUCID_LIBRARY): every process is on it,
and the results are those on glibc's malloc.

The work is small, because some of these allocators look at every free block on every call.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "real"))
import realtest

PYTHON = r"""
import hashlib, json, os, random, re, threading, zlib

source = random.Random(5)
def value(depth):
    if depth == 0:
        return source.choice([None, True, source.random(), "text %x" % source.getrandbits(40)])
    return {"key %d" % i: [value(depth - 1) for _ in range(source.randrange(5))] for i in range(4)}

data = {str(i): value(3) for i in range(25)}
text = json.dumps(data, indent=1, sort_keys=True)
assert json.loads(text) == data
words = re.findall(r"[a-f0-9]{4,}", text)
swapped = re.sub(r'"key (\d+)": \[', lambda match: '"%s": [' % match.group(1)[::-1], text)
print(len(text), hashlib.sha256(swapped.encode()).hexdigest())
print(hashlib.sha256(" ".join(sorted(set(words))).encode()).hexdigest())
print(zlib.crc32(zlib.decompress(zlib.compress(text.encode(), 9))))

results = {}
def work(number):
    table = {}
    for i in range(4000):
        table[i * number % 1009] = bytes(i % 700)
        if i % 3 == 0:
            table.pop(i % 1009, None)
    results[number] = sum(map(len, table.values()))
threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sorted(results.items()))

buffer = bytearray()
for i in range(3000):
    buffer += b"%d " % i * (i % 40)
print(hashlib.sha256(buffer).hexdigest())

child = os.fork()
if child == 0:
    os._exit(len(json.loads(text)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

SQL = """
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, part INTEGER, price REAL);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
INSERT INTO item SELECT i, printf('name-%x', i * 2654435761 % 4294967296), i * 7919 % 100,
  (i * 31 % 10007) / 8.0 FROM n;
COMMIT;
CREATE INDEX by_name ON item(name);
CREATE INDEX by_part ON item(part, price);
UPDATE item SET name = upper(name) WHERE id % 3 = 0;
DELETE FROM item WHERE id % 11 = 0;
SELECT count(*), sum(length(name)), total(price) FROM item;
SELECT part, count(*), group_concat(substr(name, 6)) FROM item WHERE id < 1000 GROUP BY part;
SELECT a.id, b.name FROM item a JOIN item b ON b.part = a.part AND b.id = a.id + 100
  ORDER BY b.name LIMIT 200;
SELECT sum(j.value) FROM item, json_each(json_array(item.id, part)) j WHERE item.id < 2000;
SELECT name FROM item ORDER BY substr(name, 7) DESC, id LIMIT 500;
PRAGMA integrity_check;
"""


def c_source(functions):
    body = """
static unsigned table_%d[64];
int function_%d(int a, const char *text) {
    unsigned sum = (unsigned)a;
    for (int i = 0; text[i] != 0; i++) {
        table_%d[i & 63] += (unsigned)text[i] * %du;
        switch (text[i] & 7) {
        case 0: sum ^= table_%d[(i * 7) & 63]; break;
        case 1: sum = sum << 3 | sum >> 29; break;
        case 3: sum += (unsigned)i * sum; break;
        default: sum -= %du;
        }
    }
    return (int)(sum >> 1);
}
"""
    source = "#include <stdio.h>\n#include <string.h>\n#include <stdlib.h>\n"
    source += "".join(body % ((n,) * 6) for n in range(functions))
    source += "int main(void) {\n"
    for n in range(functions):
        source += f'    printf("%d\\n", function_{n}({n}, "some text for function {n}"));\n'
    return source + "    return 0;\n}\n"


class Programs(realtest.RealTest):
    def test_python(self):
        python = realtest.program("python3", "python3")

        def work(side, directory):
            done = side.run([python, "-I", "-c", PYTHON], directory, timeout=100)
            self.assertEqual(done.programs, [os.path.basename(python)])
            return done.out
        self.assertIn(b"25\n", self.assert_same(work))

    def test_sqlite(self):
        sqlite = realtest.program("sqlite3", "sqlite3")

        def work(side, directory):
            out = side.run([sqlite, "-batch", "base"], directory, SQL.encode(), timeout=100).out
            return out, realtest.file_sha256(directory, "base")
        self.assertTrue(self.assert_same(work)[0].endswith(b"\nok\n"))

    def test_gcc(self):
        gcc = realtest.program("gcc", "gcc")

        def work(side, directory):
            realtest.write(c_source(12), directory, "source.c")
            done = side.run([gcc, "-O2", "-o", "program", "source.c"], directory, timeout=100)
            for tool in "cc1", "as", "collect2", "ld":
                self.assertIn(tool, done.programs)
            output = side.run([os.path.join(directory, "program")], directory).out
            return output, realtest.file_sha256(directory, "program")
        self.assertEqual(len(self.assert_same(work)[0].splitlines()), 12)


if __name__ == "__main__":
    realtest.main()
