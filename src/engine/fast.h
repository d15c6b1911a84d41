/*
 * fast.h - the fast paths of malloc, free and their kin, to be inlined in the surface.
 *
 * Each does its work only when everything is as it should be and otherwise hands the whole call,
 * untouched, to its slow path, which finds out why. All are made of the same parts:
 *
 *     lu__fast_class      size -> class
 *     lu__fast_pop        class -> block
 *     lu__fast_find       pointer -> descriptor, to be believed if it is a span of ours
 *     lu__fast_is_live    the checks of the pointer itself
 *     lu__fast_push       a block back to its span
 *
 * What free takes for granted of a block is said there and nowhere else. user_fast.c makes the same
 * of them for lu_heaps.
 *
 * docs/ARCHITECTURE.md follows malloc and free step by step.
 */
#ifndef LU_FAST_H
#define LU_FAST_H

#include <string.h>

#include "engine/engine.h"
#include "heap/heap.h"

/* The slow paths; those of the other calls are the functions of engine.h. */
void *lu__alloc_slow(size_t size) __attribute__((cold));
void lu__free_slow(void *block) __attribute__((cold));
/* A block of another thread's span; one of a run that is no thread's: perhaps a lu_heap's. */
void lu__free_other(void *block, struct span *span, struct heap *heap);
void lu__free_of_shared(void *block, struct span *span, struct heap *heap);
void lu__free_sized_other(void *block, size_t alignment, size_t size, const char *call,
                          struct heap *heap, struct span *span);
void *lu__resize_move(struct heap *heap, struct span *span, void *block, size_t size);

/* ---------------------------------------------------------------- the parts */

/* The class of `size`; LU_CLASSES if it is too large for all, or 0. */
LU_INLINE uint8_t lu__fast_class(const struct heap *heap, size_t size) {
    uint8_t c;
    if (LU_LIKELY(size <= LU_SMALL_MAX)) {
        c = heap->class_of[size];
    } else if (LU_LIKELY(size <= LU_CLASS_BYTES_MAX)) {
        c = lu__class_mid[(size + 127) >> 7];
    } else {
        return LU_CLASSES;
    }
    return c;
}

/* The smallest class for `size` bytes with blocks on multiples of `align`, a power of two;
 * LU_CLASSES also if size is 0. It is that of the size rounded up to a multiple of `align`: where
 * the step from class to class is a multiple of it, so are the classes; where it is one of the
 * step, the rounded size is a class. Both less 1, what is 0 or too large needs one test. */
LU_INLINE uint8_t lu__fast_class_aligned(const struct heap *heap, size_t align, size_t size) {
    size_t last = (size - 1) | (align - 1);
    if (LU_UNLIKELY(last >= LU_CLASS_BYTES_MAX)) return LU_CLASSES;
    uint8_t c = lu__fast_class(heap, last + 1);
    if (c >= LU_CLASSES) __builtin_unreachable(); /* so that a test for LU_CLASSES costs nothing */
    return c;
}

/* The first block of class `c`, its first word cleared. NULL, with nothing done, if the list has
 * none, has no other, or is damaged. */
LU_INLINE void *lu__fast_pop(struct heap *heap, size_t c) {
    uintptr_t key = heap->keys[c];
    __asm__("" : "+r"(c)); /* the compiler would compute what both addresses have in common */
    uintptr_t block = heap->list[c];
#if defined(__x86_64__)
    __asm__("" : "+a"(block)); /* where it is returned: the compiler would move it at the end */
#endif
    uintptr_t delta = lu__link_delta(key, block);
    if (LU_UNLIKELY(!lu__delta_is_link(delta))) return NULL;
    heap->list[c] = block ^ delta;
    *(uintptr_t *)block = 0;
    if (block == 0) __builtin_unreachable(); /* so that the callers' test for NULL costs nothing */
    return (void *)block;
}

/* In *span the descriptor of the slice that holds `ptr`; false outside the first region. What it
 * says may be believed only if its owner is this heap or `whose` is set: then it is a span's. */
LU_INLINE bool lu__fast_find(const struct heap *heap, const void *ptr, struct span **span) {
    uintptr_t at = heap->base_away + (uintptr_t)ptr;
    if (LU_UNLIKELY(at >= heap->size)) { /* NULL, foreign, huge */
        *span = NULL;
        return false;
    }
    *span = (struct span *)((at >> LU_SLICE_SHIFT << LU_DESC_SHIFT) + heap->table);
    return true;
}

/* True if `ptr`, in the first slice of `span`, is the start of a carved block, and does not look
 * free. */
LU_INLINE bool lu__fast_is_live(const struct span *span, const void *ptr) {
    /* One test for "the start of a block" and "already carved": see span/class.c. */
    uint32_t offset = (uint16_t)(uintptr_t)ptr;
    if (LU_UNLIKELY(offset * span->inverse >= LU_RELAXED(span->bound))) return false;
    return LU_LIKELY(!lu__looks_linked(span, (uintptr_t)ptr));
}

/* Free a live block of the heap's own span. */
LU_INLINE void lu__fast_push(struct heap *heap, struct span *span, void *block) {
    lu__list_push(span->key, span->list, (uintptr_t)block);
    if (LU_UNLIKELY(--span->needed == 0)) lu__free_needed(heap, span);
}

/* Free a live block of any thread's span. */
LU_INLINE void lu__fast_give(struct heap *heap, struct span *span, void *block) {
    if (LU_UNLIKELY(LU_RELAXED(span->owner) != heap)) {
        return lu__remote_free(heap, span, (uintptr_t)block);
    }
    lu__fast_push(heap, span, block);
}

/* ---------------------------------------------------------------- allocation */

/* A block from the heap's lists, or NULL as lu__fast_pop. */
LU_INLINE void *lu__fast_take(size_t size) {
    struct heap *heap = lu__heap;
    if (LU_LIKELY(size <= LU_SMALL_MAX)) return lu__fast_pop(heap, heap->class_of[size]);
    if (LU_UNLIKELY(size > LU_CLASS_BYTES_MAX)) return NULL;
    return lu__fast_pop(heap, lu__class_mid[(size + 127) >> 7]);
}

/* The same with an alignment, a power of two. */
LU_INLINE void *lu__fast_take_aligned(size_t alignment, size_t size) {
    struct heap *heap = lu__heap;
    uint8_t c = lu__fast_class_aligned(heap, alignment, size);
    return LU_LIKELY(c < LU_CLASSES) ? lu__fast_pop(heap, c) : NULL;
}

/* As lu__engine_alloc. */
LU_INLINE void *lu__fast_alloc(size_t size) {
    void *block = lu__fast_take(size);
    return LU_LIKELY(block != NULL) ? block : lu__alloc_slow(size);
}

/* Make `size` bytes of a block that was just popped zero. The stores to small blocks may go beyond:
 * all but the smallest block, whose only word is cleared already, are multiples of 16 bytes. */
LU_INLINE void *lu__fast_clear(char *block, size_t size) {
    if (size > 64) return memset(block, 0, size);
    if (size <= 8) return block;
    memset(block, 0, 16);
    memset(block + ((size - 1) & 48), 0, 16);
    if (size > 32) memset(block + 16, 0, 32);
    return block;
}

/* As lu__engine_alloc_zeroed. */
LU_INLINE void *lu__fast_alloc_zeroed(size_t size) {
    char *block = lu__fast_take(size);
    if (LU_UNLIKELY(block == NULL)) return lu__engine_alloc_zeroed(size);
    return lu__fast_clear(block, size);
}

/* ---------------------------------------------------------------- free */

/* The cadence of a single-threaded lu_heap's span is over, or it wakes, or is empty. */
void lu__user_needed(struct span *span) __attribute__((cold));
/* Free a block of a span of LU_OF_USER_SHARED; false, with nothing done: it takes longer. */
bool lu__user_free_shared(struct span *span, void *block) LU_MUST_CHECK;

/* Free a live block of a single-threaded lu_heap's span. */
LU_INLINE void lu__user_push(struct span *span, void *block) {
    lu__list_push(span->key, span->list, (uintptr_t)block);
    if (LU_UNLIKELY(--span->needed == 0)) lu__user_needed(span);
}

/* As lu__engine_free, for a block of a span that is not the heap's. The arguments stand where free
 * has them, so that no instruction moves them. */
LU_INLINE void lu__fast_free_other(void *block, struct span *span, struct heap *heap) {
    if (LU_LIKELY(span->whose == LU_OF_THREAD)) return lu__free_other(block, span, heap);
    if (LU_LIKELY(span->whose == LU_OF_USER) && LU_LIKELY(lu__fast_is_live(span, block))) {
        return lu__user_push(span, block);
    }
    lu__free_of_shared(block, span, heap);
}

/* As lu__engine_free. */
LU_INLINE void lu__fast_free(void *block) {
    struct heap *heap = lu__heap;
    struct span *span;
    if (LU_UNLIKELY(!lu__fast_find(heap, block, &span))) return lu__free_slow(block);
    if (LU_UNLIKELY(LU_RELAXED(span->owner) != heap)) return lu__fast_free_other(block, span, heap);
    if (LU_UNLIKELY(!lu__fast_is_live(span, block))) return lu__free_slow(block);
    lu__fast_push(heap, span, block);
}

/* As lu__engine_free_sized, for a block that is to be of class `c`. */
LU_INLINE void lu__fast_free_class(struct heap *heap, uint8_t c, void *block, size_t alignment,
                                   size_t size, const char *call) {
    struct span *span;
    if (LU_UNLIKELY(!lu__fast_find(heap, block, &span)) || LU_UNLIKELY(span->class_id != c)) {
        return lu__engine_free_sized(block, alignment, size, call);
    }
    if (LU_UNLIKELY(LU_RELAXED(span->owner) != heap)) {
        return lu__free_sized_other(block, alignment, size, call, heap, span);
    }
    if (LU_UNLIKELY(!lu__fast_is_live(span, block))) {
        return lu__engine_free_sized(block, alignment, size, call);
    }
    lu__fast_push(heap, span, block);
}

/* As lu__engine_free_sized without an alignment. */
LU_INLINE void lu__fast_free_sized(void *block, size_t size, const char *call) {
    struct heap *heap = lu__heap;
    lu__fast_free_class(heap, lu__fast_class(heap, size), block, 0, size, call);
}

/* As lu__engine_free_sized. */
LU_INLINE void lu__fast_free_aligned_sized(void *block, size_t alignment, size_t size,
                                           const char *call) {
    struct heap *heap = lu__heap;
    /* A power of two or 0, which no class is for, and the block is a multiple of it. */
    if (LU_UNLIKELY(((uintptr_t)block | alignment) & (alignment - 1))) {
        return lu__engine_free_sized(block, alignment, size, call);
    }
    uint8_t c = lu__fast_class_aligned(heap, alignment, size);
    lu__fast_free_class(heap, c, block, alignment, size, call);
}

/* ---------------------------------------------------------------- resize and questions */

/* The same lookup for who leaves the block where it is. */
LU_INLINE bool lu__fast_find_live(const struct heap *heap, const void *block, struct span **span) {
    return LU_LIKELY(lu__fast_find(heap, block, span)) &&
           LU_LIKELY((*span)->whose != LU_OF_NOBODY) && LU_LIKELY(lu__fast_is_live(*span, block));
}

/* As lu__engine_resize. */
LU_INLINE void *lu__fast_resize(void *block, size_t size) {
    struct heap *heap = lu__heap;
    struct span *span;
    if (LU_UNLIKELY(!lu__fast_find_live(heap, block, &span))) return lu__engine_resize(block, size);
    if (span->class_id == lu__fast_class(heap, size)) return block;
    return lu__resize_move(heap, span, block, size);
}

/* As lu__engine_usable. */
LU_INLINE size_t lu__fast_usable(const void *block, const char *call) {
    struct span *span;
    if (LU_UNLIKELY(!lu__fast_find_live(lu__heap, block, &span))) {
        return lu__engine_usable(block, call);
    }
    return lu__class_size[span->class_id];
}

#endif
