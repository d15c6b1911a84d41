/*
 * calloc_small.c - zeroed records of 16 to 4,096 bytes with random lifetimes.
 *
 * Every byte of a new block is checked to be zero and is then dirtied, so memory that is reused
 * must really be cleared, and memory that is fresh need not be.
 */
#include "common.h"

#include <stdlib.h>

enum { SLOTS = 20000, REPLACEMENTS = 3000000, LEAST = 16, MOST = 4096 };

static void check_zero(const unsigned char *block, uint32_t size) {
    uint64_t all = 0, word;
    uint32_t at = 0;
    for (; at + sizeof(word) <= size; at += (uint32_t)sizeof(word)) {
        memcpy(&word, block + at, sizeof(word));
        all |= word;
    }
    for (; at < size; at++) all |= block[at];
    if (all != 0) bench_fail("memory from calloc is not zero");
}

int main(int argc, char **argv) {
    static struct bench_block slots[SLOTS];
    static struct bench_sizes sizes;
    struct bench bench;
    bench_init(&bench, "calloc_small", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_inverse_square(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    for (uint64_t i = 0; i < replacements; i++) {
        struct bench_block *slot = &slots[bench_random_below(&random, SLOTS)];
        uint32_t size = bench_sizes_draw(&sizes, &random);
        if (slot->at != NULL) bench_check(slot);
        free(slot->at);
        unsigned char *block = calloc(size / 8, 8);
        if (block == NULL) bench_fail("no memory");
        size = size / 8 * 8;
        check_zero(block, size);
        memset(block, 0xa5, size);
        *slot = bench_mark(block, size, (uint32_t)i);
    }
    for (uint32_t i = 0; i < SLOTS; i++) free(slots[i].at);
    bench_stop(&bench);
    bench_report(&bench, replacements);
    return 0;
}
