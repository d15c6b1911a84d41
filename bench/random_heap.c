/*
 * random_heap.c - random lifetimes over a heap of about 100 MB.
 *
 * An array of slots, each with a live block; every operation takes a slot at random, checks its
 * block, frees it and allocates another size. Nothing has locality: each free touches memory that
 * is in no cache, which is what a large server's heap does, and an allocator's metadata accesses
 * are paid in full.
 */
#include "slots.h"

enum { SLOTS = 260000, REPLACEMENTS = 2000000, LEAST = 16, MOST = 2048 };

int main(int argc, char **argv) {
    static struct bench_block blocks[SLOTS];
    static struct bench_sizes sizes;
    const struct bench_slots slots = {blocks, SLOTS, &sizes};
    struct bench bench;
    bench_init(&bench, "random_heap", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_log_uniform(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    bench_slots_fill(&slots, &random, bench_make_plain);
    bench_slots_replace(&slots, &random, replacements, bench_make_plain);
    bench_slots_free(&slots);
    bench_stop(&bench);
    bench_report(&bench, SLOTS + replacements);
    return 0;
}
