"""perl on programs/workload.pl (strings, hashes, regular expressions, sorting, threads) and on
some of its own modules: the same output."""

import os
import random

import realtest

HERE = os.path.dirname(os.path.abspath(__file__))

# Data::Dumper, Storable, JSON::PP and Encode build and take apart large structures.
MODULES = """
use strict; use warnings;
use Data::Dumper; use Storable qw(freeze thaw dclone); use JSON::PP; use Encode; use Text::Wrap;
$Data::Dumper::Sortkeys = 1; $Data::Dumper::Indent = 1;
local $/; my $data = JSON::PP->new->decode(<STDIN>);
my $copy = thaw(freeze(dclone($data)));
print JSON::PP->new->canonical->pretty->encode($copy);
print Dumper($copy);
print wrap('', '  ', map { $_->{name} } @$copy), "\\n";
print encode('UTF-16BE', decode('UTF-8', join '', map { $_->{name} } @$copy));
"""


class Perl(realtest.RealTest):
    def setUp(self):
        super().setUp()
        self.perl = realtest.program("perl", "perl")

    def test_workload(self):
        def work(side, directory):
            script = os.path.join(HERE, "programs", "workload.pl")
            return side.run([self.perl, script], directory, timeout=120).out
        self.assertEqual(len(self.assert_same(work).splitlines()), 13)

    def test_modules(self):
        source = random.Random(9)
        records = ", ".join(
            '{"name": "%x", "list": [%s], "inner": {"a": null, "b": {"c": true, "d": %d}}}'
            % (source.getrandbits(source.randrange(8, 300)),
               ", ".join(str(source.randrange(10 ** 6)) for _ in range(source.randrange(20))), i)
            for i in range(700))

        def work(side, directory):
            out = side.run([self.perl, "-e", MODULES], directory,
                           input=f"[{records}]".encode()).out
            self.assertGreater(len(out), 200000)
            return len(out), realtest.sha256(out)
        self.assert_same(work)


if __name__ == "__main__":
    realtest.main()
