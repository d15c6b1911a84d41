/*
 * random_heap.c - random lifetimes over a heap of about 100 MB.
 *
 * An array of slots, each with a live block; every operation takes a slot at random, checks its
 * block, frees it and allocates another size. Nothing has locality: each free touches memory that
 * is in no cache, which is what a large server's heap does, and an allocator's metadata accesses
 * are paid in full.
 */
#include "common.h"

#include <stdlib.h>

enum { SLOTS = 260000, REPLACEMENTS = 2000000, LEAST = 16, MOST = 2048 };

int main(int argc, char **argv) {
    static struct bench_block slots[SLOTS];
    static struct bench_sizes sizes;
    struct bench bench;
    bench_init(&bench, "random_heap", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_log_uniform(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t size = bench_sizes_draw(&sizes, &random);
        slots[i] = bench_mark(malloc(size), size, i);
    }
    for (uint64_t i = 0; i < replacements; i++) {
        struct bench_block *slot = &slots[bench_random_below(&random, SLOTS)];
        uint32_t size = bench_sizes_draw(&sizes, &random);
        bench_check(slot);
        free(slot->at);
        *slot = bench_mark(malloc(size), size, (uint32_t)i);
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        bench_check(&slots[i]);
        free(slots[i].at);
    }
    bench_stop(&bench);
    bench_report(&bench, SLOTS + replacements);
    return 0;
}
