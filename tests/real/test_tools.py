"""openssl, ssh-keygen, gdb and vim on small tasks with a fixed result."""

import os
import random

import realtest

TREE_SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
struct node { int key; const char *name; struct node *left, *right; };
static struct node *plant_node(struct node *n, int key)
{
    if (!n) {
        n = calloc(1, sizeof *n);
        n->key = key;
        n->name = key % 2 ? "odd" : "even";
    } else if (key < n->key) {
        n->left = plant_node(n->left, key);
    } else {
        n->right = plant_node(n->right, key);
    }
    return n;
}
static int walk_tree(const struct node *n, int depth)
{
    return n ? walk_tree(n->left, depth + 1) + walk_tree(n->right, depth + 1) + 1 : 0;
}
int main(void)
{
    struct node *root = NULL;
    for (unsigned i = 0, x = 1; i < 200; i++, x = x * 1103515245 + 12345)
        root = plant_node(root, (int)(x >> 8 & 0xffff));
    return walk_tree(root, 0) == 200 ? 0 : 1;
}
"""

# No addresses, and names are asked for before the library is there: it may have some of its own.
GDB_COMMANDS = """
set pagination off
set width 0
set confirm off
set print address off
set startup-with-shell off
set debuginfod enabled off
info line walk_tree
info types node
info functions walk_tree
ptype struct node
break walk_tree if depth == 6
run
backtrace
frame 2
info locals
delete
finish
list plant_node
continue
"""

VIM_SCRIPT = r"""
set nocompatible nomore viminfo= noswapfile undolevels=500
%s/\v(\w+)-(\d+)/\=submatch(2) . ':' . toupper(submatch(1))/ge
g/7\d*:/move 0
sort n /\d\+:/
let words = {}
for line in getline(1, '$')
  for word in split(line)
    let words[word] = get(words, word, 0) + 1
  endfor
endfor
call append('$', sort(map(items(words), 'v:val[0] . "=" . v:val[1]')))
normal! ggVGgu
for i in range(30)
  normal! ggdG
  undo
  execute 'normal! ' . (i * 7 + 1) . 'GyypV~'
endfor
call append('$', map(range(2000), 'printf("%04d %s", v:val, sha256(string(v:val)))'))
syntax on
set filetype=c
redraw!
write! out.txt
quitall!
"""


class OpenSsl(realtest.RealTest):
    def setUp(self):
        super().setUp()
        self.openssl = realtest.program("openssl", "openssl")

    def test_keys_and_certificates(self):
        """A key and a certificate made on one side must serve on the other."""
        text = random.Random(1).randbytes(500000)

        def make(side, directory):
            realtest.write(text, directory, "text")
            for argv in (["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048",
                          "-out", "key"],
                         ["req", "-x509", "-new", "-key", "key", "-subj", "/CN=lucid/O=test",
                          "-days", "30", "-out", "certificate"],
                         ["pkey", "-in", "key", "-pubout", "-out", "public"],
                         ["dgst", "-sha256", "-sign", "key", "-out", "signature", "text"]):
                side.run([self.openssl, *argv], directory)
            return True

        def use(side, directory):
            other = os.path.join(self.directory, "lucid" if side.name == "glibc" else "glibc")
            results = []
            for argv in (["verify", "-CAfile", "certificate", "certificate"],
                         ["dgst", "-sha256", "-verify", "public", "-signature", "signature",
                          "text"],
                         ["x509", "-in", "certificate", "-noout", "-subject", "-ext",
                          "basicConstraints"]):
                results.append(side.run([self.openssl, *argv], other).out)
            return results
        self.both(make)
        results = self.assert_same(use)
        self.assertEqual(results[:2], [b"certificate: OK\n", b"Verified OK\n"])

    def test_ciphers_and_digests(self):
        text = random.Random(2).randbytes(2000000)

        def work(side, directory):
            sums = []
            for cipher in ("aes-256-cbc", "aes-128-ctr", "camellia-192-cbc", "chacha20"):
                key = ["-pass", "pass:lucid", "-pbkdf2", "-iter", "1000", "-S", "0102030405060708"]
                packed = side.run([self.openssl, "enc", "-" + cipher, *key], directory,
                                  input=text).out
                back = side.run([self.openssl, "enc", "-d", "-" + cipher, *key], directory,
                                input=packed).out
                self.assertTrue(back == text, cipher)
                sums.append(realtest.sha256(packed))
            for digest in ("sha1", "sha3-512", "blake2b512"):
                sums.append(side.run([self.openssl, "dgst", "-" + digest], directory,
                                     input=text).out)
            return sums
        self.assert_same(work)


class SshKeygen(realtest.RealTest):
    def test_keys_and_signatures(self):
        keygen = realtest.program("ssh-keygen", "openssh-client")

        def work(side, directory):
            results = []
            for kind in ("ed25519", "ecdsa", "rsa"):
                side.run([keygen, "-q", "-t", kind, "-N", "", "-C", "test", "-f", kind], directory)
                public = side.run([keygen, "-y", "-f", kind], directory).out
                with open(os.path.join(directory, kind + ".pub"), "rb") as file:
                    self.assertEqual(file.read(), public, kind)
                realtest.write(b"tester " + public, directory, "allowed")
                signed = side.run([keygen, "-Y", "sign", "-f", kind, "-n", "file"], directory,
                                  input=b"a text").out
                realtest.write(signed, directory, "signature")
                verified = side.run([keygen, "-Y", "verify", "-f", "allowed", "-I", "tester", "-n",
                                     "file", "-s", "signature"], directory, input=b"a text").out
                results.append(verified.split(b" key ")[0])
            return results
        self.assertIn(b'Good "file" signature for tester', self.assert_same(work)[0])


class Gdb(realtest.RealTest):
    def test_a_session(self):
        gdb = realtest.program("gdb", "gdb")
        gcc = realtest.program("gcc", "gcc")

        def work(side, directory):
            realtest.write(TREE_SOURCE, directory, "tree.c")
            realtest.write(GDB_COMMANDS, directory, "commands")
            side.run([gcc, "-g", "-O0", "tree.c", "-o", "tree"], directory)
            out = side.run([gdb, "-nx", "-batch", "-x", "commands", "./tree"], directory,
                           timeout=120).out.decode()
            # The process's number and the address of the line, and where the loader lies.
            lines = [line for line in out.splitlines() if "0x" not in line
                     and not line.startswith(("[Inferior", "[Thread", "Using host"))]
            return lines, "exited normally" in out
        lines, ended = self.assert_same(work)
        self.assertTrue(ended, lines)
        self.assertTrue(any("walk_tree (n=" in line for line in lines), lines)
        self.assertGreater(len(lines), 25, lines)


class Vim(realtest.RealTest):
    def test_a_script(self):
        vim = realtest.program("vim", "vim")
        source = random.Random(4)
        text = "".join(" ".join("w%x-%d" % (source.randrange(900), source.randrange(5000))
                                for _ in range(source.randrange(1, 12))) + "\n"
                       for _ in range(3000))

        def work(side, directory):
            realtest.write(text, directory, "in.txt")
            realtest.write(VIM_SCRIPT, directory, "script.vim")
            side.run([vim, "-u", "NONE", "-i", "NONE", "-n", "-es", "-S", "script.vim", "in.txt"],
                     directory, env={"TERM": "dumb"}, timeout=120)
            size = os.path.getsize(os.path.join(directory, "out.txt"))
            return size, realtest.file_sha256(directory, "out.txt")
        size, _ = self.assert_same(work)
        self.assertGreater(size, 200000)


if __name__ == "__main__":
    realtest.main()
