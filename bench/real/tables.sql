-- sqlite in memory: rows of many lengths, indexes, updates, deletions, sorting and grouping.
-- The parameter :amount is the number of rows.
PRAGMA journal_mode = MEMORY;
CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT, price INTEGER, note TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :amount)
INSERT INTO item
SELECT i, 'item-' || (i * 7919 % 1000003), i * 31 % 1009, printf('%.*c', i * 37 % 180, 'x') FROM n;
CREATE INDEX by_name ON item (name);
CREATE INDEX by_price ON item (price, id);
COMMIT;
BEGIN;
UPDATE item SET note = note || name || note WHERE id % 5 = 0;
DELETE FROM item WHERE id % 7 = 3;
UPDATE item SET name = 'renamed-' || id WHERE price < 100;
COMMIT;
CREATE TABLE total AS
SELECT price, count(*) AS n, group_concat(substr(name, 6), '/') AS names
FROM item GROUP BY price;
SELECT count(*), sum(n), sum(length(names)), max(length(names)) FROM total;
SELECT count(*), sum(length(a.note)) FROM item a JOIN item b ON b.name = 'item-' || (a.id * 3 % 1000003);
SELECT name, length(note) FROM item ORDER BY length(note) DESC, name LIMIT 5;
SELECT count(*), count(DISTINCT substr(note, 1, 90)) FROM item;
