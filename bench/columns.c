/*
 * columns.c - the same index of many arrays, one index after the other, as in sums over columns.
 *
 * No call is made while it is seen what calls are good for: where blocks begin decides how many of
 * them fall into one set of a cache. An allocator loses here whose large blocks all begin at
 * multiples of a power of two.
 */
#include "common.h"

enum { MOST = 256, TOUCHED = 1 << 22, ROUNDS = 4 };

/* Powers of two, a little more, and sizes in between. Of the largest only the front is used. */
static const struct shape {
    size_t arrays, bytes;
} shapes[] = {
    {64, 72 << 10},  {32, 130 << 10}, {64, 128 << 10},         {64, 200000},
    {64, 256 << 10}, {64, 1 << 20},   {MOST, (256 << 10) + 4}, {32, (33 << 20) + 100},
};

/* Add to one index of all after the other, from the first again at the end, `touches` times. */
static void add_up(uint32_t *volatile *arrays, const struct shape *shape, uint64_t touches) {
    size_t length = shape->bytes / sizeof(uint32_t);
    uint64_t indexes = touches / shape->arrays;
    size_t used = indexes / ROUNDS < length ? indexes / ROUNDS : length;
    for (uint64_t n = 0, i = 0; n < indexes; n++) {
        for (size_t a = 0; a < shape->arrays; a++) arrays[a][i]++;
        if (++i >= used) i = 0;
    }
}

int main(int argc, char **argv) {
    static uint32_t *volatile arrays[MOST];
    struct bench bench;
    bench_init(&bench, "columns", NULL, argc, argv);
    uint64_t touches = bench_scaled(&bench, (uint64_t)ROUNDS * TOUCHED), operations = 0;
    bench_start(&bench);
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++, operations += touches) {
        for (size_t a = 0; a < shapes[s].arrays; a++) {
            arrays[a] = malloc(shapes[s].bytes);
            if (arrays[a] == NULL) bench_fail("no memory");
            arrays[a][0] = 0;
        }
        add_up(arrays, &shapes[s], touches);
        uint32_t sum = arrays[0][0];
        for (size_t a = 0; a < shapes[s].arrays; a++) {
            if (arrays[a][0] != sum) bench_fail("a block was overwritten");
            free(arrays[a]);
        }
    }
    bench_stop(&bench);
    bench_report(&bench, operations);
    return 0;
}
