"""redis-server under redis-benchmark, with a check of all data afterwards.

Once without persistence, and once with: BGSAVE and BGREWRITEAOF fork while writes go on, then the
server is stopped and started again on its files.
"""

import os
import random
import socket

import realtest

BENCHMARKS = "ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin," \
             "lrange_100,lrange_600,mset"
KEYS = 6000


class Client:
    """A client of Redis's protocol (RESP2) that sends many commands at once."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), 60)
        self.file = self.socket.makefile("rb")

    def close(self):
        self.file.close()
        self.socket.close()

    def call(self, *words):
        return self.call_all([words])[0]

    def call_all(self, commands):
        replies = []
        for start in range(0, len(commands), 200):
            batch = commands[start:start + 200]
            self.socket.sendall(b"".join(encode(command) for command in batch))
            replies += [self._reply() for _ in batch]
        return replies

    def _reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._reply() for _ in range(int(rest))]
        raise AssertionError(f"redis answered {line!r}")

    def info(self, section, field):
        for line in self.call("INFO", section).decode().splitlines():
            name, _, value = line.partition(":")
            if name == field:
                return value
        raise AssertionError(f"INFO {section} has no {field}")


def encode(words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def known_strings(seed):
    """Keys and values of all lengths, the same ones every time."""
    source = random.Random(seed)
    return {f"string:{i}": source.randbytes(int(2 ** source.uniform(0, 13)))
            for i in range(KEYS)}


def write_known(client, strings):
    """Strings, lists, hashes, sets and sorted sets, some changed and deleted again."""
    source = random.Random(7)
    client.call_all([("SET", key, value) for key, value in strings.items()])
    commands = []
    for i in range(KEYS):
        text = "%x" % source.getrandbits(source.randrange(4, 600))
        commands += [("RPUSH", f"list:{i % 50}", text), ("HSET", f"hash:{i % 80}", i, text),
                     ("SADD", f"set:{i % 30}", text), ("ZADD", f"zset:{i % 20}", i, text)]
        if i % 3 == 0:
            commands += [("LPOP", f"list:{i % 50}"), ("HDEL", f"hash:{i % 80}", i - 240)]
        if i % 5 == 0:
            commands.append(("ZREMRANGEBYRANK", f"zset:{i % 20}", 0, 2))
    client.call_all(commands)


def change_known(client, strings):
    """Grow, cut and delete strings, in redis and in our copy alike."""
    commands = []
    for i, key in enumerate(sorted(strings)):
        if i % 4 == 0:
            commands.append(("APPEND", key, "x" * i))
            strings[key] += b"x" * i
        elif i % 4 == 1:
            commands.append(("DEL" if i % 8 == 1 else "UNLINK", key))
            del strings[key]
        elif i % 4 == 2:
            commands.append(("SETRANGE", key, 20000, "end"))
            padded = strings[key].ljust(20000, b"\0")
            strings[key] = padded[:20000] + b"end" + padded[20003:]
    client.call_all(commands)


class Redis(realtest.RealTest):
    def setUp(self):
        super().setUp()
        self.redis = realtest.program("redis-server", "redis-server")
        self.benchmark = realtest.program("redis-benchmark", "redis-tools")

    def start(self, side, directory, port, *options):
        argv = [self.redis, "--port", port, "--bind", "127.0.0.1", "--dir", directory,
                "--daemonize", "no", "--enable-debug-command", "yes", *options]
        return side.server([str(word) for word in argv], directory,
                           ready=lambda: realtest.answers(port))

    def run_benchmark(self, side, directory, port, requests):
        argv = [self.benchmark, "-h", "127.0.0.1", "-p", port, "-n", requests, "-c", 20, "-P", 8,
                "-d", 200, "-r", 5000, "--threads", 2, "--csv", "-t", BENCHMARKS]
        done = side.run([str(word) for word in argv], directory, timeout=150)
        names = [line.split(b",")[0] for line in done.out.splitlines()]
        return [name for name in names if name != b'"test"']

    def check_strings(self, client, strings):
        values = client.call_all([("GET", key) for key in strings])
        wrong = [key for key, value in zip(strings, values) if value != strings[key]]
        self.assertEqual(wrong, [], "strings are not as they were written")

    def test_benchmark_then_data(self):
        def work(side, directory):
            port = realtest.free_port()
            with self.start(side, directory, port, "--save", "", "--appendonly", "no",
                            "--io-threads", 2, "--io-threads-do-reads", "yes"):
                ran = self.run_benchmark(side, directory, port, 6000)
                client = Client(port)
                strings = known_strings(1)
                client.call("SELECT", 1)
                write_known(client, strings)
                self.check_strings(client, strings)
                client.call("SELECT", 0)
                self.assertGreater(client.call("DBSIZE"), 1000)
                client.call("FLUSHDB", "ASYNC")
                client.call("SELECT", 1)
                first = client.call("DEBUG", "DIGEST")
                change_known(client, strings)
                self.check_strings(client, strings)
                second = client.call("DEBUG", "DIGEST")
                self.assertNotEqual(first, second)
                count = client.call("DBSIZE")
                client.close()
            return ran, first, second, count
        ran, *_ = self.assert_same(work)
        self.assertEqual(len(ran), 17, ran)

    def save_while_writing(self, client, directory):
        """Fork for a dump and for a log while writes go on; returns the digest at the end."""
        strings = known_strings(2)
        write_known(client, strings)
        client.call("BGSAVE")
        change_known(client, strings)
        realtest.wait_until(lambda: client.info("persistence", "rdb_bgsave_in_progress") == "0",
                            60, "BGSAVE ended")
        self.assertEqual(client.info("persistence", "rdb_last_bgsave_status"), "ok")
        self.assertTrue(os.path.getsize(os.path.join(directory, "dump.rdb")) > 1000000)
        client.call("BGREWRITEAOF")
        change_known(client, strings)
        realtest.wait_until(lambda: client.info("persistence", "aof_rewrite_in_progress") == "0"
                            and client.info("persistence", "aof_rewrite_scheduled") == "0",
                            60, "BGREWRITEAOF ended")
        self.assertEqual(client.info("persistence", "aof_last_bgrewrite_status"), "ok")
        self.check_strings(client, strings)
        return client.call("DEBUG", "DIGEST")

    def test_save_and_restart(self):
        def work(side, directory):
            port = realtest.free_port()
            options = ["--save", "1 1", "--appendonly", "yes", "--appendfsync", "no"]
            with self.start(side, directory, port, *options):
                client = Client(port)
                digest = self.save_while_writing(client, directory)
                client.close()
            with self.start(side, directory, port, *options):
                client = Client(port)
                realtest.wait_until(lambda: client.info("persistence", "loading") == "0", 30,
                                    "redis has loaded its files")
                self.assertEqual(client.call("DEBUG", "DIGEST"), digest, "after the restart")
                client.close()
            return digest
        self.assert_same(work)


if __name__ == "__main__":
    realtest.main()
