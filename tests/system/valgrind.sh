#!/bin/sh
# usage: valgrind.sh PLAIN LIBRARY TOOL
#
# Run PLAIN under Valgrind's TOOL with LIBRARY preloaded: no error may be reported, and it ends as
# it does alone. Under memcheck Valgrind puts its own malloc in front of lucid's; under the tool
# "none" lucid's code runs on Valgrind's processor.
set -eu
plain=$1 library=$2 tool=$3

fail() {
    echo "valgrind.sh: $*" >&2
    exit 1
}
command -v valgrind >/dev/null || fail "valgrind is missing (Debian package valgrind)"
[ -f "$library" ] || fail "no library $library"

set -- --tool="$tool" --error-exitcode=99
[ "$tool" = memcheck ] && set -- "$@" --leak-check=full --errors-for-leak-kinds=definite
out=$(mktemp)
trap 'rm -f "$out"' EXIT
status=0
LD_PRELOAD=$library valgrind "$@" "$plain" >"$out" 2>&1 || status=$?
cat "$out"
[ $status -eq 0 ] || fail "status $status"
grep -q '^plain: done$' "$out" || fail "the program did not come to its end"
grep -q 'lucid: ' "$out" && fail "lucid reported something"
if [ "$tool" = memcheck ]; then
    grep -q 'ERROR SUMMARY: 0 errors' "$out" || fail "errors were reported"
fi
