/* use_heap.h - what takes locks that blocks do not: statistics, and a shared lu_heap. */
#ifndef USE_HEAP_H
#define USE_HEAP_H

#include "check.h"
#include "lucid/lucid.h"

/* Blocks of the heap are smaller than `most` bytes. */
static void use_heap(size_t most) {
    lu_stats_t stats;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    CHECK(heap != NULL);
    for (size_t size = 100; size < most; size *= 3) {
        void *block = lu_heap_malloc(heap, size);
        CHECK(block != NULL);
        if (size % 2 == 0) lu_free(block);
    }
    lu_heap_destroy(heap);
    lu_stats_get(&stats);
}

#endif
