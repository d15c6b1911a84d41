"""Write commands for `redis-cli --pipe`: values of all lengths that are set, changed and deleted.

make_redis.py KEYS

They use database 1 and begin by emptying it.
"""

import random
import sys

rng = random.Random(1)


def send(*words):
    words = [str(word).encode() for word in words]
    parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
    sys.stdout.buffer.write(b"".join(parts))


def text(most):
    """1 to `most` letters, short ones being likelier."""
    return "v" * int(most ** rng.random())


def main():
    count = int(sys.argv[1])
    send("SELECT", 1)
    send("FLUSHDB")
    for i in range(count):
        send("SET", f"string:{i}", text(4000))
        send("RPUSH", f"list:{i % (count // 60 + 1)}", text(500))
        send("HSET", f"hash:{i % (count // 90 + 1)}", i, text(300))
        send("SADD", f"set:{i % (count // 70 + 1)}", f"{i}-{text(200)}")
        send("ZADD", f"zset:{i % (count // 80 + 1)}", i * 7919 % 1000, text(100))
        if i % 3 == 0:
            send("APPEND", f"string:{rng.randrange(i + 1)}", text(900))
            send("DEL", f"string:{rng.randrange(i + 1)}")
            send("LPOP", f"list:{rng.randrange(count // 60 + 1)}")


main()
