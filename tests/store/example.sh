#!/bin/sh
# Run the example of docs/STORE.md as the text says, and compare the program there with example.c.
#   example.sh PROGRAM SOURCE DOCUMENT
set -eu
program=$1
source=$2
document=$3
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

fail() {
    echo "example: $*" >&2
    exit 1
}

# The document shows the file without its first line.
sed 1d "$source" >"$directory/expected"
sed -n '/^```c example.c/,/^```$/p' "$document" | sed '1d;$d' >"$directory/shown"
[ -s "$directory/shown" ] || fail "$document shows no program"
diff -u "$directory/shown" "$directory/expected" >&2 || fail "$document shows another program"

"$program" "$directory/words" one two >"$directory/out" || fail "first run: status $?"
[ "$(tr '\n' ' ' <"$directory/out")" = "two one " ] || fail "first run: $(cat "$directory/out")"
"$program" "$directory/words" three >"$directory/out" || fail "second run: status $?"
[ "$(tr '\n' ' ' <"$directory/out")" = "three two one " ] ||
    fail "second run: $(cat "$directory/out")"

echo "no store" >"$directory/foreign"
if "$program" "$directory/foreign" 2>"$directory/out"; then
    fail "a text file was taken for a store"
fi
grep -q "not a store: magic number at offset 0" "$directory/out" || fail "$(cat "$directory/out")"
