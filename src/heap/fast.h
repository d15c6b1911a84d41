/*
 * fast.h - the fast paths of malloc and free, to be inlined in the surface.
 *
 * Both do their work only when everything is as it should be and otherwise hand the whole call to
 * the slow path, which finds out why. docs/ARCHITECTURE.md follows them step by step.
 */
#ifndef LU_FAST_H
#define LU_FAST_H

#include "heap/engine.h"
#include "heap/heap.h"

void *lu__alloc_slow(size_t size) __attribute__((cold));
void lu__free_slow(void *block) __attribute__((cold));
void lu__free_other(struct heap *heap, struct span *span, uintptr_t block);
void lu__free_needed(struct heap *heap, struct span *span) __attribute__((cold));

LU_INLINE void *lu__fast_pop(struct heap *heap, unsigned c, size_t size) {
    uintptr_t block = heap->list[c];
#if defined(__x86_64__)
    __asm__("" : "+a"(block)); /* where it is returned: the compiler would move it at the end */
#endif
    uintptr_t delta = lu__link_delta(heap->key, block);
    if (LU_UNLIKELY(!lu__delta_is_link(delta))) return lu__alloc_slow(size);
    heap->list[c] = block ^ delta;
    *(uintptr_t *)block = 0;
    return (void *)block;
}

/* As lu__engine_alloc. */
LU_INLINE void *lu__fast_alloc(size_t size) {
    if (LU_LIKELY(size <= LU_SMALL_MAX)) {
        return lu__fast_pop(lu__heap, lu__heap->class_of[size], size);
    }
    if (LU_LIKELY(size <= LU_CLASS_BYTES_MAX)) {
        return lu__fast_pop(lu__heap, lu__class_mid[(size + 127) >> 7], size);
    }
    return lu__alloc_slow(size);
}

/* As lu__engine_free. */
LU_INLINE void lu__fast_free(void *ptr) {
    struct heap *heap = lu__heap;
    uintptr_t block = (uintptr_t)ptr;
    uintptr_t at = heap->base_away + block;
    if (LU_UNLIKELY(at >= heap->size)) return lu__free_slow(ptr); /* NULL, foreign, huge */
    struct span *span = (struct span *)((at >> LU_SLICE_SHIFT << LU_DESC_SHIFT) + heap->base);
    if (LU_UNLIKELY(LU_RELAXED(span->owner) != heap)) return lu__free_other(heap, span, block);
    /* One test for "the start of a block" and "already carved": see span/class.c. */
    uint32_t offset = (uint16_t)block;
    if (LU_UNLIKELY(offset * span->inverse >= span->bound)) return lu__free_slow(ptr);
    if (LU_UNLIKELY(lu__looks_linked(heap, block))) {
        return lu__free_slow(ptr); /* freed before? */
    }
    lu__list_push(heap->key, span->list, block);
    if (LU_UNLIKELY(--span->needed == 0)) lu__free_needed(heap, span);
}

#endif
