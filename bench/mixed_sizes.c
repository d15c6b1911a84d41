/*
 * mixed_sizes.c - sizes as programs have them, in a small working set.
 *
 * Sizes are drawn with a frequency that falls with their square, from 8 bytes to 64 KiB; half of
 * all requests are below 16 bytes, and a few are large. The live blocks fit the second-level
 * cache, so this measures the instructions of the fast path with the size never the same twice.
 */
#include "common.h"

#include <stdlib.h>

enum { SLOTS = 8192, REPLACEMENTS = 9000000, LEAST = 8, MOST = 65536 };

int main(int argc, char **argv) {
    static struct bench_block slots[SLOTS];
    static struct bench_sizes sizes;
    struct bench bench;
    bench_init(&bench, "mixed_sizes", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_inverse_square(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    for (uint32_t i = 0; i < SLOTS; i++) slots[i] = bench_mark(malloc(1), 1, i);
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
