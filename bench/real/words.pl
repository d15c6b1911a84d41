# Perl: hashes of arrays, regular expressions, string growth and sorting.
# words.pl LINES
use strict;
use warnings;

my $amount = shift;
my $seed = 1;
sub draw { $seed = ($seed * 48271) % 2147483647; return $seed % $_[0]; }

my (%index, @lines);
my $sum = 0;
for my $i (1 .. $amount) {
    push @lines, join ' ', map { chr(97 + draw(26)) x (1 + draw(12)) } 1 .. 6;
}
for my $round (1 .. 3) {
    for my $i (0 .. $#lines) {
        for my $word ($lines[$i] =~ /(\w+)/g) {
            push @{$index{$word}}, $i;
        }
        $lines[$i] =~ s/(\w+) (\w+)/$2 $1/g;
        $lines[$i] .= 'x' if draw(3) == 0;
    }
    for my $word (sort keys %index) {
        $sum = ($sum * 31 + scalar @{$index{$word}}) % 1000000007;
        delete $index{$word} if @{$index{$word}} % 3 == 0;
    }
}
my $text = '';
$text .= $_ for sort { length $a <=> length $b || $a cmp $b } @lines;
print "$sum ", length $text, ' ', scalar keys %index, "\n";
