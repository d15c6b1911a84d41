/*
 * batches.c - many blocks allocated, then all freed, newest first or oldest first.
 *
 *     lifo   the order of a parser's or a compiler's tree that is taken down
 *     fifo   the order of a queue: what is freed has long left the cache
 *
 * The batch grows and shrinks from round to round, so the allocator sees memory become free in
 * bulk and be wanted again.
 */
#include "common.h"

enum { LARGEST = 100000, ROUNDS = 110, LEAST = 16, MOST = 256 };

int main(int argc, char **argv) {
    static struct bench_block blocks[LARGEST];
    struct bench bench;
    bench_init(&bench, "batches", "lifo fifo", argc, argv);
    bool lifo = strcmp(bench.mode, "lifo") == 0;
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t rounds = bench_scaled(&bench, ROUNDS), operations = 0;

    bench_start(&bench);
    for (uint64_t round = 0; round < rounds; round++) {
        uint32_t count = 1 + (uint32_t)bench_random_below(&random, LARGEST);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t size = LEAST + (uint32_t)bench_random_below(&random, MOST - LEAST + 1);
            blocks[i] = bench_allocate(size, i);
        }
        for (uint32_t i = 0; i < count; i++)
            bench_check_and_free(&blocks[lifo ? count - 1 - i : i]);
        operations += count;
    }
    bench_stop(&bench);
    bench_report(&bench, operations);
    return 0;
}
