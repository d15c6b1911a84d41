/*
 * userheap.c - lu_heap_*: first-class heaps for programs.
 *
 * A lu_heap_t is a heap of the engine that no thread is bound to. A shared one has a lock around
 * every operation; for a single-threaded one the program promises that there is no need. Blocks
 * are freed by lu_free like all others: the engine finds their heap by the descriptor.
 */
#include <errno.h>

#include "heap/engine.h"
#include "heap/limit.h"
#include "heap/user.h"
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
    return (lu_heap_t *)(void *)heap;
}

void lu_heap_destroy(lu_heap_t *handle) {
    if (handle == NULL) return;
    struct heap *heap = inner(handle);
    if (!lu__thread_mark()) return; /* a signal handler: all is lost, rather than a deadlock */
    if (lu__user_lock(heap)) {
        lu__user_clear(heap);
        lu__user_unlock(heap);
        lu__heap_recycle(heap);
    }
    lu__inside_leave();
}

void *lu_heap_malloc(lu_heap_t *heap, size_t size) {
    if (size > LU_ENGINE_MAX) return refuse(ENOMEM);
    return lu__user_alloc(inner(heap), 8, size, false);
}

void *lu_heap_calloc(lu_heap_t *heap, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total) || total > LU_ENGINE_MAX) {
        return refuse(ENOMEM);
    }
    return lu__user_alloc(inner(heap), 8, total, true);
}

void *lu_heap_aligned_alloc(lu_heap_t *heap, size_t alignment, size_t size) {
    if (!lu__is_pow2(alignment)) return refuse(EINVAL);
    if (size > LU_ENGINE_MAX || alignment > LU_ENGINE_MAX - size) return refuse(ENOMEM);
    return lu__user_alloc(inner(heap), alignment, size, false);
}

void *lu_heap_realloc(lu_heap_t *heap, void *block, size_t size) {
    if (block == NULL) return lu_heap_malloc(heap, size);
    if (!lu__user_has(inner(heap), block, "lu_heap_realloc", false)) return refuse(EINVAL);
    if (size == 0) {
        lu__engine_free(block);
        return NULL;
    }
    return lu__user_resize(inner(heap), block, size);
}

void lu_heap_free(lu_heap_t *heap, void *block) {
    if (block == NULL || !lu__user_has(inner(heap), block, "lu_heap_free", true)) return;
    lu__engine_free(block);
}

bool lu_heap_walk(lu_heap_t *handle, lu_visit_fn *visit, void *arg) {
    struct heap *heap = inner(handle);
    if (!lu__thread_mark()) return false;
    bool locked = lu__user_lock(heap);
    lu__inside_leave();
    if (!locked) return false;
    bool whole = lu__user_walk(heap, visit, arg); /* of the program: not inside */
    lu__user_unlock(heap);
    return whole;
}
