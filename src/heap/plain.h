/* plain.h - heaps that are not hardened: what lu__plain_ops is made of. See ops.h for each. */
#ifndef LU_PLAIN_H
#define LU_PLAIN_H

#include "heap/ops.h"

/* ---------------------------------------------------------------- here */

/* As lu__plain_ops.alloc; for the engine, which knows what most heaps are. */
LU_INLINE void *lu__plain_alloc(struct heap *heap, size_t align, size_t size, bool *zero) {
    unsigned c = LU_CLASSES;
    if (align <= 16) {
        if (size <= LU_CLASS_BYTES_MAX) c = lu__class_of(align <= 8 ? size : LU_MAX(size, align));
    } else {
        c = lu__class_of_aligned(align, size);
    }
    if (c < LU_CLASSES) return lu__small_alloc(heap, c, zero);
    lu__tick(heap);
    return lu__large_alloc(heap->kind == LU_HEAP_OF_USER ? heap : NULL, align, size, zero);
}

/* ---------------------------------------------------------------- plain_sweep.c */

/* What a pass costs, in steps of about 0.1 us; also for the pace of sweep.c. */
#define LU_WORK_SPAN 60u /* to see which pages of a span are free */
#define LU_WORK_CALL 30u /* a call of the kernel for some of them */

void lu__plain_sweep_begin(struct heap *heap, bool all);
uint32_t lu__plain_sweep_some(struct heap *heap, uint32_t work);
size_t lu__plain_sweep_all(struct heap *heap, bool again);

/* ---------------------------------------------------------------- fork.c */

void lu__plain_make_whole(struct heap *heap);
void lu__plain_make_span_whole(struct heap *heap, struct span *span);

#endif
