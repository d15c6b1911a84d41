/*
 * growth.c - what a pair of malloc and free costs as the heap grows.
 *
 *     live blocks:  10^4 -> measure -> 10^5 -> measure -> ... -> 10^7 times the scale
 *
 * At each point blocks are replaced, a small batch at a time: all of the batch are checked and
 * freed, then as many are allocated and written to. They are chosen at random first ("ns_per_op"),
 * then in the order in which they were made ("ns_sequential").
 *
 *     heap    by malloc and free
 *     bump    each block has its place for good, cut off one mapping; freeing it is no work and
 *             replacing it uses the same place again. What this costs more as memory grows is
 *             misses of caches and TLB, which any allocator pays
 *
 * The size of a block follows from its number, so that both modes touch the same amount of memory.
 */
#include "common.h"

enum { BATCH = 32, FIRST = 10000, LAST = 10000000, REPLACEMENTS = 600000, UNIT = 16 };
#define BUMP_BYTES ((size_t)64 << 30) /* reserved, not touched */

struct heap {
    unsigned char **blocks; /* by number */
    uint64_t live;
    uint64_t random;
    unsigned char *bump, *bump_end; /* NULL with mode heap */
};

/* 16, 32, 48 or 64 bytes. */
static uint32_t size_of(uint64_t number) {
    return UNIT * (1 + (uint32_t)((number * 0x9e3779b97f4a7c15u) >> 62));
}

static void allocate(struct heap *heap, uint64_t number) {
    uint32_t size = size_of(number);
    unsigned char *at = heap->blocks[number];
    if (heap->bump == NULL) {
        at = malloc(size);
    } else if (at == NULL) {
        at = heap->bump;
        heap->bump += size;
        if (heap->bump > heap->bump_end) bench_fail("no memory");
    }
    heap->blocks[number] = bench_mark(at, size, (uint32_t)number).at;
}

static void release(const struct heap *heap, uint64_t number) {
    const struct bench_block block = {heap->blocks[number], size_of(number), (uint32_t)number};
    bench_check(&block);
    if (heap->bump == NULL) free(block.at);
}

static void replace_batch(struct heap *heap, const uint64_t *numbers) {
    for (unsigned i = 0; i < BATCH; i++) release(heap, numbers[i]);
    for (unsigned i = 0; i < BATCH; i++) allocate(heap, numbers[i]);
}

/* Nanoseconds for one replacement. A batch has no number twice: each is from a part of its own. */
static double measure(struct heap *heap, uint64_t replacements, bool at_random) {
    uint64_t batches = replacements / BATCH + 1, part = heap->live / BATCH, next = 0;
    uint64_t numbers[BATCH], began = proc_now();
    for (uint64_t b = 0; b < batches; b++) {
        for (unsigned i = 0; i < BATCH; i++)
            numbers[i] = at_random ? i * part + bench_random_below(&heap->random, part) : next + i;
        replace_batch(heap, numbers);
        next = next + 2 * BATCH <= heap->live ? next + BATCH : 0;
    }
    return (double)(proc_now() - began) / (double)(batches * BATCH);
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "growth", "heap bump", argc, argv);
    uint64_t last = bench_scaled(&bench, LAST), operations = 0;
    struct heap heap = {bench_map((last + FIRST) * sizeof(unsigned char *)), 0,
                        bench_random_state(&bench, 0), NULL, NULL};
    if (strcmp(bench.mode, "bump") == 0) {
        heap.bump = bench_map(BUMP_BYTES);
        heap.bump_end = heap.bump + BUMP_BYTES;
    }

    bench_start(&bench);
    for (uint64_t live = FIRST; live == FIRST || live <= last; live *= 10) {
        for (; heap.live < live; heap.live++, operations++) allocate(&heap, heap.live);
        double random_cost = measure(&heap, REPLACEMENTS, true);
        double sequential_cost = measure(&heap, REPLACEMENTS, false);
        operations += 2 * REPLACEMENTS;
        bench_add_point(&bench, "\"live\": %lu, \"ns_per_op\": %.2f, \"ns_sequential\": %.2f", live,
                        random_cost, sequential_cost);
    }
    bench_stop(&bench);
    bench_report(&bench, operations);
    for (uint64_t number = 0; number < heap.live; number++) release(&heap, number);
    return 0;
}
