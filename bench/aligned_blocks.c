/*
 * aligned_blocks.c - blocks aligned to 16 bytes up to 64 KiB, as vector code, page buffers and
 * direct input and output ask for them; smaller alignments are the more frequent ones.
 */
#include "common.h"

#include <stdlib.h>

enum { SLOTS = 4096, REPLACEMENTS = 3000000, LEAST = 16, MOST = 8192 };

/* 16, half of the time; 32, a quarter; ...; 64 KiB. */
static size_t draw_alignment(uint64_t *random) {
    unsigned ones = (unsigned)__builtin_ctzll(bench_random(random) | (uint64_t)1 << 12);
    return (size_t)16 << ones;
}

int main(int argc, char **argv) {
    static struct bench_block slots[SLOTS];
    static struct bench_sizes sizes;
    struct bench bench;
    bench_init(&bench, "aligned_blocks", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_inverse_square(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    for (uint64_t i = 0; i < replacements; i++) {
        struct bench_block *slot = &slots[bench_random_below(&random, SLOTS)];
        uint32_t size = bench_sizes_draw(&sizes, &random);
        size_t alignment = draw_alignment(&random);
        void *block = NULL;
        if (slot->at != NULL) bench_check(slot);
        free(slot->at);
        if (posix_memalign(&block, alignment, size) != 0) bench_fail("no memory");
        if ((uintptr_t)block % alignment != 0) bench_fail("a block is not aligned");
        *slot = bench_mark(block, size, (uint32_t)i);
    }
    for (uint32_t i = 0; i < SLOTS; i++) free(slots[i].at);
    bench_stop(&bench);
    bench_report(&bench, replacements);
    return 0;
}
