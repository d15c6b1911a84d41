"""The sqlite3 command on a workload whose every result is checked by a sum.

Tables, indexes, triggers, full text, JSON, windows, big and small blobs, ATTACH, VACUUM, in a file
and in memory; at the end the sha256 of the dump and of the database file.
"""

import os

import realtest

ROWS = 60000

TABLES = f"""
PRAGMA page_size=4096; PRAGMA cache_size=-8000; PRAGMA threads=2;
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT, part INTEGER, price REAL, data BLOB);
CREATE TABLE log(at INTEGER, what TEXT);
CREATE TRIGGER changed AFTER UPDATE ON item WHEN new.id % 97 = 0
  BEGIN INSERT INTO log VALUES(new.id, printf('%s -> %s', old.name, new.name)); END;
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
INSERT INTO item SELECT i, printf('name-%x-%d', i * 2654435761 % 4294967296, i), i * 7919 % 1000,
  (i * 31 % 10007) / 8.0, zeroblob(i % 41 * (1 + (i % 500 = 0) * 90)) FROM n;
COMMIT;
CREATE INDEX by_name ON item(name);
CREATE INDEX by_part ON item(part, price);
"""

CHANGES = """
BEGIN;
UPDATE item SET name = upper(name) || '-' || hex(part), price = price + 1 WHERE id % 3 = 0;
DELETE FROM item WHERE id % 11 = 0;
INSERT OR REPLACE INTO item SELECT id * 2, replace(name, 'name', 'again'), part, price, data
  FROM item WHERE id % 5 = 0;
SAVEPOINT undone; DELETE FROM item; ROLLBACK TO undone;
COMMIT;
"""

TEXT = """
CREATE VIRTUAL TABLE words USING fts5(body);
INSERT INTO words SELECT group_concat(name, ' ') FROM item GROUP BY part;
INSERT INTO words(words) VALUES('optimize');
SELECT snippet(words, 0, '[', ']', '...', 8) FROM words WHERE words MATCH 'again OR name'
  ORDER BY rank, rowid LIMIT 300;
"""

QUESTIONS = """
SELECT count(*), sum(length(name)), sum(id), total(price), sum(length(data)) FROM item;
SELECT part, count(*), group_concat(substr(name, 1, 6)) FROM item WHERE id < 6000 GROUP BY part;
SELECT id, sum(price) OVER (PARTITION BY part ORDER BY id ROWS 20 PRECEDING) AS s,
  rank() OVER (PARTITION BY part ORDER BY name) FROM item WHERE part < 40 ORDER BY s, id;
SELECT a.id, b.name FROM item a JOIN item b ON b.part = a.part AND b.price = a.price + 1
  ORDER BY b.name, a.id LIMIT 3000;
SELECT DISTINCT substr(name, -3) FROM item ORDER BY 1;
SELECT json_group_object(id, json_array(part, price, name)) FROM item WHERE id % 50 = 0;
SELECT sum(j.value) FROM item, json_each(json_array(item.id, part, length(name))) j
  WHERE item.id < 20000;
SELECT name FROM item ORDER BY -part, name COLLATE NOCASE LIMIT 5;
SELECT name FROM item ORDER BY substr(name, 7) DESC, id LIMIT 4000;
SELECT count(*), sum(at), max(what) FROM log;
"""

# A copy of a text a hundred times over: large blocks that grow.
LARGE = """
WITH RECURSIVE t(i, s) AS (SELECT 0, 'seed' UNION ALL
  SELECT i + 1, s || hex(s) FROM t WHERE i < 12)
SELECT i, length(s), length(replace(s, '3', 'three')) FROM t;
SELECT length(group_concat(name || quote(data))) FROM item;
"""

END = "PRAGMA integrity_check; VACUUM; ANALYZE; PRAGMA integrity_check;\n"


class Sqlite(realtest.RealTest):
    def setUp(self):
        super().setUp()
        self.sqlite = realtest.program("sqlite3", "sqlite3")

    def answers(self, side, directory, database, script):
        argv = [self.sqlite, "-batch", "-bail", database]
        return side.run(argv, directory, input=script.encode(), timeout=120).out

    def test_database_in_a_file(self):
        def work(side, directory):
            out = self.answers(side, directory, "file.db", TABLES + CHANGES + TEXT + QUESTIONS
                               + LARGE + END)
            self.assertTrue(out.endswith(b"\nok\nok\n"), "integrity_check")
            dump = self.answers(side, directory, "file.db", ".dump\n.sha3sum\n")
            return (len(out), realtest.sha256(out), len(dump), realtest.sha256(dump),
                    realtest.file_sha256(directory, "file.db"))
        out_bytes, _, dump_bytes, *_ = self.assert_same(work)
        self.assertGreater(out_bytes, 200000)
        self.assertGreater(dump_bytes, 5000000)

    def test_database_in_memory(self):
        def work(side, directory):
            other = os.path.join(directory, "other.db")
            script = (TABLES + CHANGES + QUESTIONS + f"ATTACH '{other}' AS other;\n"
                      "CREATE TABLE other.copy AS SELECT * FROM item ORDER BY name;\n"
                      + END + ".dump\n")
            out = self.answers(side, directory, ":memory:", script)
            self.assertIn(b"COMMIT;", out[-100:])
            return len(out), realtest.sha256(out), realtest.file_sha256(other)
        self.assert_same(work)


if __name__ == "__main__":
    realtest.main()
