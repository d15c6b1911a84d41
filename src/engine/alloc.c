/*
 * alloc.c - malloc's slow paths: what the lists of the fast path do not have.
 *
 * An allocation enters the thread's heap, or locks the lu_heap, and takes what that gives
 * (heap/ops.h); at the limit memory is given back, and it tries again (heap/limit.c). In a signal
 * handler that interrupted its own thread in a slow path there is emergency memory (emergency.c).
 *
 * No function here touches errno except to say ENOMEM.
 */
#include <errno.h>
#include <string.h>

#include "base/options.h"
#include "engine/emergency.h"
#include "engine/hardened_fast.h"
#include "engine/parts.h"
#include "engine/user.h"
#include "engine/zero.h"
#include "heap/limit.h"
#include "heap/plain.h"
#include "os/os.h"
#include "sample/guard.h"

/* From `heap`, which is entered or locked. */
static void *alloc_in(struct heap *heap, size_t align, size_t size, bool *zero) {
    if (size == 0 && align <= 16 && heap->kind == LU_HEAP_OF_THREAD) {
        void *name = lu__zero_alloc();
        *zero = true;
        if (name != NULL) return name;
    }
    const struct lu__heap_ops *ops = lu__heap_ops(heap);
    if (LU_LIKELY(ops == &lu__plain_ops)) return lu__plain_alloc(heap, align, size, zero);
    return ops->alloc(heap, align, size, zero);
}

void *lu__user_alloc(struct heap *heap, size_t align, size_t size, bool zeroed) {
    bool zero = false;
    void *block;
    struct lu__limit_tries tries = {0};
    do {
        struct heap *self; /* frees of the heap's blocks go by what it knows of the region */
        if (!lu__thread_enter_any(&self)) { /* a signal handler */
            block = lu__emergency_alloc(align, size);
            zero = true;
            continue;
        }
        block = NULL;
        if (lu__user_lock(heap)) {
            block = alloc_in(heap, align, size, &zero);
            lu__user_unlock(heap);
        }
        lu__thread_leave(self);
    } while (block == NULL && lu__limit_reached(size, heap, &tries));
    if (block == NULL) {
        errno = ENOMEM;
    } else if (zeroed && !zero) {
        memset(block, 0, size);
    }
    return block;
}

/* For the calling thread. */
static void *alloc_here(size_t align, size_t size, bool zeroed) {
    bool zero = false;
    void *block = NULL;
    struct lu__limit_tries tries = {0};
    do {
        struct heap *heap = lu__thread_enter();
        if (heap != NULL) {
            if (heap->sampler != NULL) block = lu__guard_try(heap, align, size, &zero);
            if (block == NULL) block = alloc_in(heap, align, size, &zero);
            lu__thread_leave(heap);
        } else if (lu__thread_interrupted() || !lu__span_was_refused()) {
            block = lu__emergency_alloc(align, size);
            zero = true;
        } /* else the limit forbids a heap for the thread */
    } while (block == NULL && lu__limit_reached(size, NULL, &tries));
    if (LU_UNLIKELY(block == NULL)) {
        errno = ENOMEM;
    } else if (zeroed) {
        if (!zero) memset(block, 0, size);
    } else if (LU_UNLIKELY(lu__perturbing)) {
        memset(block, (unsigned char)~lu__perturb_byte, size);
    }
    return block;
}

/* The last block of the list of class `c`, or NULL. */
static void *last_of(unsigned c) {
    return c < LU_CLASSES ? (void *)lu__small_last(lu__heap, c) : NULL;
}

void *lu__alloc_long(size_t size, bool zeroed) {
    return alloc_here(8, size, zeroed);
}

static LU_NOINLINE void *alloc_last(size_t size) {
    void *block = last_of(lu__fast_class(lu__heap, size));
    return block != NULL ? block : alloc_here(8, size, false);
}

void *lu__alloc_slow(size_t size) {
    return lu__short_heap != NULL ? lu__hard_malloc(size) : alloc_last(size);
}

void *lu__engine_alloc(size_t size) {
    return lu__fast_alloc(size);
}

void *lu__engine_alloc_zeroed(size_t size) {
    if (lu__short_heap != NULL) return lu__hard_calloc(size);
    void *block = last_of(lu__fast_class(lu__heap, size));
    /* A list that is empty is refilled with memory that may be known to be zero. */
    return block != NULL ? memset(block, 0, size) : alloc_here(8, size, true);
}

void *lu__engine_alloc_aligned(size_t alignment, size_t size) {
    void *block = last_of(lu__fast_class_aligned(lu__heap, alignment, size));
    return block != NULL ? block : alloc_here(alignment, size, false);
}

size_t lu__engine_good_size(size_t size) {
    if (size > LU_ENGINE_MAX) return 0;
    if (size == 0 && lu__option(LU_OPT_GUARD_ZERO) != 0) return 0;
    if (size <= LU_CLASS_BYTES_MAX) return lu__class_size[lu__class_of(size)];
    size_t pages = lu__align_up(size, LU_OS_PAGE);
    return pages > LU_ENGINE_MAX ? 0 : pages;
}
