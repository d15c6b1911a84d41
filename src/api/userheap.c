/*
 * userheap.c - lu_heap_*: first-class heaps for programs.
 *
 * A lu_heap_t is a heap of the engine that no thread is bound to. A shared one has a lock around
 * every change; for a single-threaded one the program promises that there is no need. Blocks
 * are freed by lu_free like all others: the engine finds their heap by the descriptor.
 *
 * Every call has a fast path made of the parts of engine/fast.h. A hardened heap's lists are always
 * empty, so that it needs no test of its own:
 *
 *     not alone?     lock it, if it is free         else the engine, which waits
 *     pop, or look up, check and push                else the engine, which refills and reports
 */
#include <errno.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/fast.h"
#include "heap/limit.h"
#include "engine/user.h"
#include "lucid/lucid.h"

static struct heap *inner(lu_heap_t *heap) {
    return (struct heap *)(void *)heap;
}

static void *refuse(int error) {
    errno = error;
    return NULL;
}

lu_heap_t *lu_heap_create(unsigned flags) {
    if (flags > LU_HEAP_SINGLE_THREADED) return refuse(EINVAL);
    struct lu__limit_tries tries = {0};
    struct heap *heap;
    do {
        heap = lu__heap_make(LU_HEAP_OF_USER);
    } while (heap == NULL && lu__limit_reached(LU_SLICE, NULL, &tries));
    if (heap == NULL) return refuse(ENOMEM);
    heap->shared = flags != LU_HEAP_SINGLE_THREADED;
    heap->alone = !heap->shared;
    return (lu_heap_t *)(void *)heap;
}

void lu_heap_destroy(lu_heap_t *handle) {
    if (handle == NULL) return;
    struct heap *heap = inner(handle);
    if (!lu__thread_mark()) return; /* a signal handler: leak the heap, rather than deadlock */
    if (lu__user_lock(heap)) {
        /* A thread that waits for the lock, which is misuse, finds no heap. */
        __atomic_store_n(&heap->kind, LU_HEAP_UNMADE, __ATOMIC_RELAXED);
        lu__user_clear(heap);
        lu__user_unlock(heap);
        lu__heap_recycle(heap);
    }
    lu__inside_leave();
}

/* ---------------------------------------------------------------- allocation */

/* The fast paths end in a tail call for everything else, so that they need no frame. */

/* A destroyed heap, which only a faulty program uses, is neither single-threaded nor shared: its
 * lists may be a page of zeros. */
LU_INLINE bool may_try(struct heap *heap) {
    return LU_LIKELY(heap->shared) && LU_LIKELY(lu__user_try(heap));
}

/* As lu__fast_pop. */
LU_INLINE void *take(struct heap *heap, uint8_t c) {
    if (LU_LIKELY(heap->alone)) return lu__fast_pop(heap, c);
    return LU_LIKELY(may_try(heap)) ? lu__user_leave(heap, lu__fast_pop(heap, c)) : NULL;
}

/* As lu__small_last. */
static void *take_last(struct heap *heap, uint8_t c) {
    if (c >= LU_CLASSES) return NULL;
    if (heap->alone) return (void *)lu__small_last(heap, c);
    return may_try(heap) ? lu__user_leave(heap, (void *)lu__small_last(heap, c)) : NULL;
}

static LU_NOINLINE void *malloc_slow(struct heap *heap, size_t size) {
    if (size > LU_ENGINE_MAX) return refuse(ENOMEM);
    void *block = take_last(heap, lu__fast_class(heap, size));
    return block != NULL ? block : lu__user_alloc(heap, 8, size, false);
}

static LU_NOINLINE void *leave_and_malloc(struct heap *heap, size_t size) {
    (void)lu__user_leave(heap, NULL);
    return malloc_slow(heap, size);
}

static LU_NOINLINE void *malloc_shared(struct heap *heap, size_t size) {
    if (LU_UNLIKELY(!may_try(heap))) return malloc_slow(heap, size);
    void *block = lu__fast_pop(heap, lu__fast_class(heap, size));
    if (LU_LIKELY(block != NULL)) return lu__user_leave(heap, block);
    return leave_and_malloc(heap, size);
}

void *lu_heap_malloc(lu_heap_t *handle, size_t size) {
    struct heap *heap = inner(handle);
    if (LU_UNLIKELY(!heap->alone)) return malloc_shared(heap, size);
    void *block = lu__fast_pop(heap, lu__fast_class(heap, size));
    return LU_LIKELY(block != NULL) ? block : malloc_slow(heap, size);
}

static LU_NOINLINE void *calloc_slow(struct heap *heap, size_t size) {
    if (size > LU_ENGINE_MAX) return refuse(ENOMEM);
    void *block = take_last(heap, lu__fast_class(heap, size));
    return block != NULL ? memset(block, 0, size) : lu__user_alloc(heap, 8, size, true);
}

void *lu_heap_calloc(lu_heap_t *handle, size_t count, size_t size) {
    struct heap *heap = inner(handle);
    size_t total;
    if (LU_UNLIKELY(__builtin_mul_overflow(count, size, &total))) return refuse(ENOMEM);
    void *block = take(heap, lu__fast_class(heap, total));
    return LU_LIKELY(block != NULL) ? lu__fast_clear(block, total) : calloc_slow(heap, total);
}

static LU_NOINLINE void *aligned_slow(struct heap *heap, size_t alignment, size_t size) {
    if (size > LU_ENGINE_MAX || alignment > LU_ENGINE_MAX - size) return refuse(ENOMEM);
    void *block = take_last(heap, lu__fast_class_aligned(heap, alignment, size));
    return block != NULL ? block : lu__user_alloc(heap, alignment, size, false);
}

void *lu_heap_aligned_alloc(lu_heap_t *handle, size_t alignment, size_t size) {
    struct heap *heap = inner(handle);
    if (LU_UNLIKELY(!lu__is_pow2(alignment))) return refuse(EINVAL);
    uint8_t c = lu__fast_class_aligned(heap, alignment, size);
    void *block = LU_LIKELY(c < LU_CLASSES) ? take(heap, c) : NULL;
    return LU_LIKELY(block != NULL) ? block : aligned_slow(heap, alignment, size);
}

/* ---------------------------------------------------------------- free and realloc */

/* True if the fast path of free would find `block` to be a live one of a span of the heap. */
LU_INLINE bool find_live(const struct heap *heap, const void *block, struct span **span) {
    return LU_LIKELY(lu__fast_find_live(lu__heap, block, span)) &&
           LU_LIKELY(LU_RELAXED((*span)->owner) == heap);
}

static LU_NOINLINE void free_slow(struct heap *heap, void *block) {
    if (block != NULL && lu__user_has(heap, block, "lu_heap_free", true)) lu__engine_free(block);
}

void lu_heap_free(lu_heap_t *handle, void *block) {
    struct heap *heap = inner(handle);
    struct span *span;
    if (LU_UNLIKELY(!find_live(heap, block, &span))) return free_slow(heap, block);
    if (LU_LIKELY(span->whose == LU_OF_USER)) return lu__user_push(span, block);
    if (LU_UNLIKELY(!lu__user_free_shared(span, block))) free_slow(heap, block);
}

static LU_NOINLINE void *realloc_slow(struct heap *heap, void *block, size_t size) {
    if (!lu__user_has(heap, block, "lu_heap_realloc", false)) return refuse(EINVAL);
    if (size == 0) {
        lu__engine_free(block);
        return NULL;
    }
    return lu__user_resize(heap, block, size);
}

void *lu_heap_realloc(lu_heap_t *handle, void *block, size_t size) {
    struct heap *heap = inner(handle);
    struct span *span;
    if (block == NULL) return lu_heap_malloc(handle, size);
    if (LU_UNLIKELY(!find_live(heap, block, &span))) return realloc_slow(heap, block, size);
    uint8_t c = lu__fast_class(heap, size);
    if (LU_LIKELY(span->class_id == c)) return block;
    void *moved = take(heap, c);
    if (LU_UNLIKELY(moved == NULL)) return realloc_slow(heap, block, size);
    memcpy(moved, block, LU_MIN(size, lu__class_size[span->class_id]));
    lu__fast_free(block);
    return moved;
}

bool lu_heap_walk(lu_heap_t *handle, lu_visit_fn *visit, void *arg) {
    return lu__user_walk(inner(handle), visit, arg);
}
