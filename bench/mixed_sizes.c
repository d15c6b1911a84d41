/*
 * mixed_sizes.c - sizes as programs have them, in a small working set.
 *
 * Sizes are drawn with a frequency that falls with their square, from 8 bytes to 64 KiB; half of
 * all requests are below 16 bytes, and a few are large. The live blocks fit the second-level
 * cache, so this measures the instructions of the fast path with the size never the same twice.
 */
#include "slots.h"

enum { SLOTS = 8192, REPLACEMENTS = 20000000, LEAST = 8, MOST = 65536 };

int main(int argc, char **argv) {
    static struct bench_block blocks[SLOTS];
    static struct bench_sizes sizes;
    const struct bench_slots slots = {blocks, SLOTS, &sizes};
    struct bench bench;
    bench_init(&bench, "mixed_sizes", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_inverse_square(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    bench_slots_fill(&slots, &random, bench_make_plain);
    bench_slots_replace(&slots, &random, replacements, bench_make_plain);
    bench_slots_free(&slots);
    bench_stop(&bench);
    bench_report(&bench, SLOTS + replacements);
    return 0;
}
