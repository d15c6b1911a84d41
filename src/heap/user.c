/*
 * user.c - first-class heaps: what they need beyond an ordinary heap.
 *
 * A lu_heap links every run it owns (heap->all, through span->all_next), so that all can be given
 * back at once and every block can be visited (visit.c). Huge blocks are found one by one in
 * the list of all: while one is ended, no lock is held but the heap's.
 */
#include "heap/user.h"

#include "heap/ops.h"
#include "span/huge.h"

void lu__user_clear(struct heap *heap) {
    struct span *next;
    for (struct span *span = heap->all; span != NULL; span = next) {
        next = span->all_next;
        __atomic_store_n(&span->owner, NULL, __ATOMIC_RELAXED);
        lu__run_ops(span)->release(span);
    }
    heap->all = heap->sweep_at = heap->walk_at = NULL;
    heap->run_count = heap->walking = 0;
    lu__heap_ops(heap)->clear(heap);
    struct lu__huge huge;
    uintptr_t from = 0;
    while (heap->has_huge && lu__huge_next(heap, &from, &huge)) (void)lu__huge_free(huge.block);
    heap->has_huge = 0;
}
