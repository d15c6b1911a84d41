#!/bin/sh
# A client of redis: redis.sh PORT REQUESTS COMMANDS
#
# Fills database 1 with what the file COMMANDS says and checks it by its digest; sends REQUESTS of
# each of some kinds to database 0 and checks what must have come of them. Then both are emptied.
# Prints the same whenever the server has done its work.
set -eu
port=$1
requests=$(($2 / 16 * 16 + 16)) # whole batches, or redis-benchmark sends a few more
commands=$3

ask() {
    redis-cli -p "$port" "$@"
}

ask --pipe <"$commands" | grep '^errors: 0,' | sed 's/, replies.*//'
ask DEBUG DIGEST
redis-benchmark -p "$port" -q -n "$requests" -c 20 -P 16 -d 300 -r 20000 \
    -t set,get,incr,lpush,rpush,lpop,sadd,hset,zadd,lrange_100 >/dev/null
ask EVAL '
    local wrong = 0
    for _, key in ipairs(redis.call("KEYS", "key:*")) do
        if redis.call("STRLEN", key) ~= 300 then wrong = wrong + 1 end
    end
    local sum = 0
    for _, key in ipairs(redis.call("KEYS", "counter:*")) do
        sum = sum + redis.call("GET", key)
    end
    return {wrong, sum, redis.call("LLEN", "mylist")}' 0
ask FLUSHDB
ask DEBUG DIGEST
ask -n 1 FLUSHDB
ask DBSIZE
