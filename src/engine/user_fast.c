/*
 * user_fast.c - free of a block that is not of the calling thread's heap: the fast paths, and those
 * of lu_heaps.
 *
 * free has compared the span's owner with the thread's heap (fast.h) when it comes here, so that
 * nothing of this costs the thread's own blocks anything. span->whose tells what may be done:
 *
 *     LU_OF_THREAD        collect the block for its owner (remote.c)
 *     LU_OF_USER          push it on the span's list: the program promises that no other thread
 *                         is in the heap now
 *     LU_OF_USER_SHARED   the same under the heap's lock, if that is free
 *     else                all the long way (free.c), which tells misuse apart
 *
 * The long way is taken with nothing done: also where the lock is held, as only there somebody
 * waits, and knows its holder. What changes a shared heap holds its lock all the time, and the
 * thread is marked as inside, as on the long way (os/lock.h). A single-threaded heap is changed as
 * a thread's heap is, without a mark, and so that it is whole after every store.
 */
#include "engine/fast.h"
#include "heap/user.h"

/* span->needed has come down to 0. The heap is locked, if it is shared; the thread is inside. */
static void needed_inside(struct heap *owner, struct span *span) {
    if (span->state == LU_SPAN_CURRENT && lu__may_skip_tick(owner)) {
        span->needed = lu__cadence(owner);
    } else {
        lu__small_needed(owner, span);
    }
}

void lu__user_needed(struct span *span) {
    struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    if (LU_UNLIKELY(owner == NULL)) return; /* the heap is being destroyed, which is misuse */
    if (!lu__thread_mark()) { /* a signal handler: the next free of the span looks again */
        span->needed = 1;
        return;
    }
    needed_inside(owner, span);
    lu__inside_leave();
}

static LU_COLD void needed_shared(struct heap *owner, struct span *span) {
    needed_inside(owner, span);
    (void)lu__user_leave(owner, NULL);
}

void *lu__user_leave_rarely(struct heap *heap, void *result, bool waits) {
    if (waits) lu__lock_wake(&heap->lock);
    lu__inside_leave();
    return result;
}

/* ---------------------------------------------------------------- free */

/* What is called here is called last, so that the common ways need no frame; with all arguments in
 * their places, and not static, as the compiler would drop those that are not needed and have the
 * others moved. */

static LU_COLD void leave_and_free(void *block, struct heap *owner) {
    (void)lu__user_leave(owner, NULL);
    lu__free_slow(block);
}

/* The owner is read once: where another thread destroys the heap at this moment, which no program
 * may do, the span is nobody's then. */
LU_INLINE struct heap *try_owner(const struct span *span) {
    struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    return LU_LIKELY(owner != NULL) && LU_LIKELY(lu__user_try(owner)) ? owner : NULL;
}

/* `owner` is locked. */
LU_INLINE bool may_push(const struct heap *owner, const struct span *span, const void *block) {
    return LU_LIKELY(LU_RELAXED(span->owner) == owner) && LU_LIKELY(lu__fast_is_live(span, block));
}

LU_INLINE void push_and_leave(struct heap *owner, struct span *span, void *block) {
    lu__list_push(span->key, span->list, (uintptr_t)block);
    if (LU_UNLIKELY(--span->needed == 0)) return needed_shared(owner, span);
    (void)lu__user_leave(owner, NULL);
}

bool lu__user_free_shared(struct span *span, void *block) {
    struct heap *owner = try_owner(span);
    if (LU_UNLIKELY(owner == NULL)) return false;
    if (LU_LIKELY(may_push(owner, span, block))) {
        push_and_leave(owner, span, block);
        return true;
    }
    (void)lu__user_leave(owner, NULL);
    return false;
}

void lu__free_of_shared(void *block, struct span *span, struct heap *heap) {
    (void)heap;
    if (LU_UNLIKELY(span->whose != LU_OF_USER_SHARED)) return lu__free_slow(block);
    struct heap *owner = try_owner(span);
    if (LU_UNLIKELY(owner == NULL)) return lu__free_slow(block);
    if (LU_LIKELY(may_push(owner, span, block))) return push_and_leave(owner, span, block);
    leave_and_free(block, owner);
}

void lu__free_other(void *block, struct span *span, struct heap *heap) {
    if (LU_LIKELY(lu__fast_is_live(span, block))) {
        lu__remote_collect(heap, span, (uintptr_t)block);
    } else {
        lu__free_of_shared(block, span, heap);
    }
}

static bool free_sized(struct heap *heap, struct span *span, void *block) {
    if (LU_UNLIKELY(span->whose == LU_OF_USER_SHARED)) return lu__user_free_shared(span, block);
    /* First whether it is a span: else the block may not be there to be looked at. */
    if (LU_UNLIKELY(span->whose != LU_OF_THREAD && span->whose != LU_OF_USER)) return false;
    if (LU_UNLIKELY(!lu__fast_is_live(span, block))) return false;
    if (LU_LIKELY(span->whose == LU_OF_THREAD)) {
        lu__remote_collect(heap, span, (uintptr_t)block);
    } else {
        lu__user_push(span, block);
    }
    return true;
}

void lu__free_sized_other(void *block, size_t alignment, size_t size, const char *call,
                          struct heap *heap, struct span *span) {
    if (LU_UNLIKELY(!free_sized(heap, span, block))) {
        lu__engine_free_sized(block, alignment, size, call);
    }
}
