# Work on strings, hashes, regular expressions, sorting, closures and threads, with a sum of every
# result printed. The same output on every run: hashes are read in sorted order only.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);

my $seed = 12345;
sub next_number { $seed = ($seed * 1103515245 + 12345) % 2147483648; return $seed >> 8; }

sub word {
    my $length = next_number() % 14 + 1;
    return join '', map { chr(97 + next_number() % 26) } 1 .. $length;
}

sub say_sum {
    my ($what, $text) = @_;
    utf8::encode($text);
    print "$what ", length $text, " ", sha256_hex($text), "\n";
}

sub text_of {
    my ($count) = @_;
    return join ' ', map { word() . (next_number() % 9 ? '' : "\n") } 1 .. $count;
}

sub work_on_hashes {
    my ($text) = @_;
    my (%count, %by_length, %tree);
    $count{$_}++ for split ' ', $text;
    push @{ $by_length{ length $_ } }, $_ for sort keys %count;
    $tree{ substr $_, 0, 1 }{ substr $_, 0, 2 }{$_} = scalar reverse $_ for sort keys %count;
    delete $count{$_} for grep { $count{$_} % 3 == 1 && length > 6 } sort keys %count;
    my @order = sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    say_sum('counts', join ',', map { "$_=$count{$_}" } @order);
    my @lengths = sort { $a <=> $b } keys %by_length;
    say_sum('lengths', join ';', map { "$_:" . join '', @{ $by_length{$_} } } @lengths);
    my $lines = '';
    for my $first (sort keys %tree) {
        for my $second (sort keys %{ $tree{$first} }) {
            my $leaf = $tree{$first}{$second};
            $lines .= "$first/$second: " . join(' ', map { $leaf->{$_} } sort keys %$leaf) . "\n";
        }
    }
    say_sum('tree', $lines);
}

sub work_on_patterns {
    my ($text) = @_;
    (my $changed = $text) =~ s/\b([b-df-hj-np-tv-z]+)([aeiou]+)(\w*)/\U$1\E<$2>$3/g;
    say_sum('changed', $changed);
    my @found = $text =~ /\b(?=(\w{3,}))(\w*?([aeiou])\w*\3\w*)\b/g;
    say_sum('found', join '|', @found);
    (my $other = $text) =~ tr/a-z/n-za-m/;
    say_sum('rot13', $other);
    my $deep = '(' x 200 . 'x' . ')' x 200;
    my $nested; $nested = qr/\((?:x|(??{ $nested }))\)/;
    print "nested ", ($deep =~ /^$nested$/ ? 'yes' : 'no'), "\n";
    my $wide = join '', map { chr(0x400 + next_number() % 200) } 1 .. 20000;
    $wide =~ s/([\x{400}-\x{420}]+)/"[" . length($1) . "]"/ge;
    say_sum('wide', $wide);
}

sub work_on_strings {
    my $grown = '';
    $grown .= sprintf '%08x:%-12s;', next_number(), word() for 1 .. 30000;
    say_sum('grown', $grown);
    substr($grown, $_ * 13, 5) = word() for 1 .. 5000;
    say_sum('cut', $grown);
    my @records = map { pack 'N n/a* d', next_number(), word(), $_ / 7 } 1 .. 20000;
    say_sum('packed', join '', map { join ',', unpack 'N n/a* d', $_ } sort @records);
    my @makers = map {
        my $n = $_;
        sub { my $m = shift; return sub { return $n * $m + shift } }
    } 1 .. 3000;
    my $sum = 0;
    $sum += $makers[$_]->($_ % 7)->(3) for 0 .. $#makers;
    print "closures $sum\n";
}

sub work_in_threads {
    require threads;
    require Thread::Queue;
    my $queue = Thread::Queue->new;
    my @threads = map { threads->create(sub {
        my %mine;
        while (defined(my $job = $queue->dequeue)) { $mine{$job} = sha256_hex($job x 500) }
        return join ',', map { "$_=$mine{$_}" } sort keys %mine;
    }) } 1 .. 4;
    $queue->enqueue(map { word() . $_ } 1 .. 400);
    $queue->end;
    say_sum('threads', join ',', sort map { split /,/, $_->join } @threads);
}

my $text = text_of(40000);
work_on_hashes($text);
work_on_patterns($text);
work_on_strings();
work_in_threads();
