/*
 * aligned_blocks.c - blocks aligned to 16 bytes up to 64 KiB, as vector code, page buffers and
 * direct input and output ask for them; smaller alignments are the more frequent ones.
 */
#include "slots.h"

enum { SLOTS = 4096, REPLACEMENTS = 6000000, LEAST = 16, MOST = 8192 };

/* 16, half of the time; 32, a quarter; ...; 64 KiB. */
static size_t draw_alignment(uint64_t *random) {
    unsigned ones = (unsigned)__builtin_ctzll(bench_random(random) | (uint64_t)1 << 12);
    return (size_t)16 << ones;
}

static struct bench_block make_aligned(uint32_t size, uint32_t tag, uint64_t *random) {
    size_t alignment = draw_alignment(random);
    void *at = NULL;
    if (posix_memalign(&at, alignment, size) != 0) bench_fail("no memory");
    if ((uintptr_t)at % alignment != 0) bench_fail("a block is not aligned");
    return bench_mark(at, size, tag);
}

int main(int argc, char **argv) {
    static struct bench_block blocks[SLOTS];
    static struct bench_sizes sizes;
    const struct bench_slots slots = {blocks, SLOTS, &sizes};
    struct bench bench;
    bench_init(&bench, "aligned_blocks", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_inverse_square(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    bench_slots_fill(&slots, &random, make_aligned);
    bench_slots_replace(&slots, &random, replacements, make_aligned);
    bench_slots_free(&slots);
    bench_stop(&bench);
    bench_report(&bench, SLOTS + replacements);
    return 0;
}
