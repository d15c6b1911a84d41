/*
 * heap_pairs.c - blocks from a heap that the program made, against the thread's own.
 *
 *     heap_pairs thread     malloc, free
 *     heap_pairs alone      lu_heap_malloc from a single-threaded heap, free
 *     heap_pairs shared     lu_heap_malloc from a shared heap, free
 *
 * One thread replaces the oldest of a few blocks of 16 to 256 bytes, again and again, so that all
 * but the calls themselves costs next to nothing. An allocator without lu_heap_malloc is asked by
 * malloc in all three; the rows of lucid are to be compared with each other.
 */
#include "common.h"

#include <dlfcn.h>
#include <stdio.h>

enum { LIVE = 8, SIZES = 64, REPLACEMENTS = 60000000, LEAST = 16, MOST = 256 };
enum { SHARED, SINGLE_THREADED };

typedef void *heap_create(unsigned flags);
typedef void *heap_malloc(void *heap, size_t size);

static void *thread_malloc(void *heap, size_t size) {
    (void)heap;
    return malloc(size);
}

static void replace(heap_malloc *obtain, void *heap, const uint32_t *sizes, uint64_t count) {
    struct bench_block blocks[LIVE];
    for (uint32_t i = 0; i < LIVE; i++) blocks[i] = bench_mark(obtain(heap, LEAST), LEAST, i);
    for (uint64_t i = 0; i < count; i++) {
        struct bench_block *block = &blocks[i % LIVE];
        uint32_t size = sizes[i % SIZES];
        bench_check(block);
        free(block->at);
        *block = bench_mark(obtain(heap, size), size, (uint32_t)i);
    }
    for (uint32_t i = 0; i < LIVE; i++) free(blocks[i].at);
}

int main(int argc, char **argv) {
    struct bench bench;
    uint32_t sizes[SIZES];
    bench_init(&bench, "heap_pairs", "thread alone shared", argc, argv);
    uint64_t random = bench_random_state(&bench, 0), count = bench_scaled(&bench, REPLACEMENTS);
    for (size_t i = 0; i < SIZES; i++) {
        sizes[i] = (uint32_t)(LEAST + bench_random_below(&random, MOST - LEAST + 1));
    }
    heap_malloc *obtain = thread_malloc;
    void *heap = NULL;
    heap_create *create = (heap_create *)dlsym(RTLD_DEFAULT, "lu_heap_create");
    if (create != NULL && strcmp(bench.mode, "thread") != 0) {
        heap = create(strcmp(bench.mode, "alone") == 0 ? SINGLE_THREADED : SHARED);
        obtain = (heap_malloc *)dlsym(RTLD_DEFAULT, "lu_heap_malloc");
        if (heap == NULL || obtain == NULL) bench_fail("no heap");
    }
    bench_start(&bench);
    replace(obtain, heap, sizes, count);
    bench_stop(&bench);
    bench_report(&bench, count);
    return 0;
}
