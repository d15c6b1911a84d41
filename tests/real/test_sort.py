"""sort --parallel=2, xz -T2, and tar, gzip and bzip2: the same bytes, and back again."""

import os
import random

import realtest

LINES = 300000
COMPRESSED = 10000000


def lines():
    source = random.Random(21)
    return "".join("%x %d word%s\n" % (source.getrandbits(source.randrange(4, 200)),
                                       source.randrange(10 ** 6), "x" * source.randrange(12))
                   for _ in range(LINES)).encode()


def compressible(size):
    """Bytes that compress well in places and badly in others."""
    source = random.Random(22)
    pieces = [source.randbytes(source.randrange(20, 3000)) for _ in range(200)]
    out, total = [], 0
    while total < size:
        piece = source.choice(pieces) if source.random() < 0.7 else source.randbytes(1500)
        out.append(piece)
        total += len(piece)
    return b"".join(out)


class Sort(realtest.RealTest):
    def compare(self, text, *options):
        sort = realtest.program("sort", "coreutils")
        path = realtest.write(text, self.directory, "lines")

        def work(side, directory):
            argv = [sort, "--parallel=2", *options, "-T", directory, "-o", "sorted", path]
            side.run(argv, directory, env={"LC_ALL": "C"}, timeout=120)
            self.assertEqual(os.listdir(directory), ["sorted"], "temporary files are gone")
            with open(os.path.join(directory, "sorted"), "rb") as file:
                return file.read()
        glibc, lucid = self.both(work)
        # Not assertEqual, which would spend minutes on the difference of two such files.
        self.assertTrue(glibc == lucid, "sort's output differs from that on glibc")
        return lucid

    def test_in_memory(self):
        text = lines()
        result = self.compare(text, "-S", "200M")
        self.assertTrue(result.splitlines() == sorted(text.splitlines()), "not sorted")

    def test_merging_files(self):
        self.compare(lines(), "-S", "3M", "--batch-size=5", "-k2,2n", "-k1,1r",
                     "--compress-program=gzip")


class Archivers(realtest.RealTest):
    def round_trip(self, text, package, compress, decompress):
        tool = realtest.program(compress[0], package)

        def work(side, directory):
            packed = side.run([tool, *compress[1:]], directory, input=text, timeout=120).out
            back = side.run([tool, *decompress], directory, input=packed, timeout=120).out
            self.assertTrue(back == text, f"{side}: {compress}: not what was compressed")
            return len(packed), realtest.sha256(packed)
        size, _ = self.assert_same(work)
        self.assertLess(size, len(text) * 0.8)

    def test_xz_in_two_threads(self):
        self.round_trip(compressible(COMPRESSED), "xz-utils",
                        ["xz", "-T2", "-3", "--block-size=2MiB"], ["-T2", "-d"])

    def test_xz_with_a_large_dictionary(self):
        self.round_trip(compressible(3000000), "xz-utils", ["xz", "-T1", "-9e"], ["-d"])

    def test_bzip2(self):
        self.round_trip(compressible(3000000), "bzip2", ["bzip2", "-9"], ["-d"])

    def test_tar(self):
        tar = realtest.program("tar", "tar")
        realtest.program("gzip", "gzip")
        text = compressible(3000000)

        def work(side, directory):
            tree = os.path.join(directory, "tree")
            for i in range(600):
                os.makedirs(os.path.join(tree, f"part{i % 20}"), exist_ok=True)
                realtest.write(text[i * 5000:i * 5000 + i * 13], tree, f"part{i % 20}", f"f{i}")
            same = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=0644",
                    "--mtime=@1700000000"]
            side.run([tar, "-I", "gzip -n", "-cf", "a.tar.gz", *same, "tree"], directory)
            os.mkdir(os.path.join(directory, "back"))
            side.run([tar, "-xzf", "a.tar.gz", "-C", "back", "--wildcards", "*/f*"], directory)
            for i in range(600):
                path = os.path.join(directory, "back", "tree", f"part{i % 20}", f"f{i}")
                with open(path, "rb") as file:
                    self.assertEqual(file.read(), text[i * 5000:i * 5000 + i * 13])
            return realtest.file_sha256(directory, "a.tar.gz")
        self.assert_same(work)


if __name__ == "__main__":
    realtest.main()
