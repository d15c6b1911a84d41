/*
 * calloc_small.c - zeroed records of 16 to 4,096 bytes with random lifetimes.
 *
 * Every byte of a new block is checked to be zero and is then dirtied, so memory that is reused
 * must really be cleared, and memory that is fresh need not be.
 */
#include "slots.h"

enum { SLOTS = 20000, REPLACEMENTS = 6000000, LEAST = 16, MOST = 4096 };

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

static struct bench_block make_zeroed(uint32_t size, uint32_t tag, uint64_t *random) {
    (void)random;
    size = size / 8 * 8;
    unsigned char *at = calloc(size / 8, 8);
    if (at == NULL) bench_fail("no memory");
    check_zero(at, size);
    memset(at, 0xa5, size);
    return bench_mark(at, size, tag);
}

int main(int argc, char **argv) {
    static struct bench_block blocks[SLOTS];
    static struct bench_sizes sizes;
    const struct bench_slots slots = {blocks, SLOTS, &sizes};
    struct bench bench;
    bench_init(&bench, "calloc_small", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_inverse_square(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    bench_slots_fill(&slots, &random, make_zeroed);
    bench_slots_replace(&slots, &random, replacements, make_zeroed);
    bench_slots_free(&slots);
    bench_stop(&bench);
    bench_report(&bench, SLOTS + replacements);
    return 0;
}
