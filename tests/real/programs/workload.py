"""asyncio, threads, processes, pickle, decimal and ctypes, with a sum of every result printed."""

import asyncio
import bz2
import concurrent.futures
import ctypes
import decimal
import hashlib
import lzma
import multiprocessing
import pickle
import random


def sha256(data):
    return hashlib.sha256(data).hexdigest()


async def handle(reader, writer):
    while line := await reader.readline():
        writer.write(b"%s %d\n" % (line.strip()[::-1], len(line)))
        await writer.drain()
    writer.close()


async def visit(path, number):
    reader, writer = await asyncio.open_unix_connection(path)
    got = []
    for i in range(60):
        writer.write(b"client %d says %s\n" % (number, b"x" * (number * i % 500)))
        got.append(await reader.readline())
    writer.close()
    return sha256(b"".join(got))


async def talk():
    server = await asyncio.start_unix_server(handle, "socket")
    sums = await asyncio.gather(*(visit("socket", number) for number in range(40)))
    server.close()
    print("asyncio", sha256("".join(sums).encode()))


def job(number):
    source = random.Random(number)
    data = {source.getrandbits(64): [source.random() for _ in range(i % 20)] for i in range(1500)}
    copy = pickle.loads(pickle.dumps(data))
    packed = lzma.compress(repr(copy).encode(), preset=1) + bz2.compress(repr(data).encode(), 1)
    return sha256(packed)


def main():
    asyncio.run(talk())
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        print("threads", list(pool.map(job, range(8))))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("processes", pool.map(job, range(8)))
    decimal.getcontext().prec = 3000
    print("decimal", sha256(str(decimal.Decimal(2).sqrt() ** 3).encode()))
    arrays = [(ctypes.c_int * n)(*range(n)) for n in range(1, 800)]
    print("ctypes", sum(sum(array) for array in arrays))


if __name__ == "__main__":
    main()
