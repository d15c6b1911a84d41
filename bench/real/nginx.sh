#!/bin/bash
# A client of nginx: nginx.sh PORT REQUESTS FILE
#
# Asks for the file as it is, compressed, and through nginx as its own proxy, and for a text, on
# kept and on new connections. Prints what does not depend on time: how many answers there were,
# their length, and a digest of one of each kind.
set -eu
port=$1
requests=$2
file=$3

digest() {
    exec 3<>"/dev/tcp/127.0.0.1/$port"
    printf 'GET %s HTTP/1.0\r\n\r\n' "$1" >&3
    sed '1,/^\r$/d' <&3 | sha256sum
    exec 3>&-
}

visit() {
    local path=$1
    shift
    ab -q -n "$requests" -c 8 "$@" "http://127.0.0.1:$port$path" |
        grep -E '^(Document Length|Complete requests|Failed requests|Non-2xx|HTML transferred)'
    digest "$path"
}

visit "/$file" -k
visit "/$file"
visit "/packed/$file" -k -H 'Accept-Encoding: gzip'
visit "/proxied/$file" -k
visit "/text/$file" -k
