/*
 * plain.c - what a heap does that is not hardened: lu__plain_ops.
 *
 *     alloc      a list of small.c, or a run of large.c
 *     find       where blocks begin in the span; what looks linked is searched for (verify.c)
 *     free       the thread's own span: its list | another thread's: posted (remote.c) |
 *                a lu_heap's: its list, under its lock
 *     look       what is on no list, in no bitmap, and on no purged page is live
 *
 * The fast paths (engine/fast.h) do the common part of this by themselves.
 */
#include "heap/plain.h"

#include <string.h>

#include "base/violation.h"
#include "heap/track.h"

static void *plain_alloc(struct heap *heap, size_t align, size_t size, bool *zero) {
    return lu__plain_alloc(heap, align, size, zero);
}

/* ---------------------------------------------------------------- a block */

static enum lu__block_is plain_find(struct span *span, const void *pointer,
                                    struct lu__block *block) {
    uint32_t size = lu__class_size[span->class_id];
    uintptr_t start = (uintptr_t)lu__span_start(span);
    uint32_t offset = (uint32_t)((uintptr_t)pointer - start);
    if (offset >= __atomic_load_n(&span->limit, __ATOMIC_RELAXED)) return LU_IS_WILD;
    block->at = start + offset / size * size;
    block->bytes = size;
    if (block->at != (uintptr_t)pointer) return LU_IS_INTERIOR;
    uint32_t purged = __atomic_load_n(&span->purged, __ATOMIC_RELAXED);
    bool gone = span->slices == 1 && (lu__block_units(offset, size) & purged) != 0;
    return gone || lu__link_is_free(span, block->at) ? LU_IS_FREE : LU_IS_LIVE;
}

void lu__free_needed(struct heap *heap, struct span *span) {
    if (span->state == LU_SPAN_CURRENT && lu__may_skip_tick(heap)) {
        span->needed = lu__cadence(heap);
        lu__sampler_renewed(heap, span);
        return;
    }
    struct heap *entered = lu__thread_enter();
    if (entered == NULL) { /* a signal handler: the next free of the span looks again */
        span->needed = 1;
        return;
    }
    LU_ASSERT(entered == heap);
    lu__small_needed(heap, span);
    lu__thread_leave(entered);
}

/* Looked at again under the lock: another thread may have freed the block while this one waited,
 * or, if it does wrong, ended the heap; and all that was found then is another's. */
static void free_of_user(struct heap *user, struct span *span, uintptr_t at, const char *call) {
    struct heap *self;
    struct lu__block block;
    enum lu__block_is state = LU_IS_LIVE;
    if (!lu__thread_enter_any(&self)) return; /* a signal handler: lost, rather than a deadlock */
    if (lu__user_lock(user)) {
        bool owns = __atomic_load_n(&span->owner, __ATOMIC_RELAXED) == user;
        if (owns && span->kind == LU_KIND_SMALL) {
            state = plain_find(span, (void *)at, &block);
            if (state == LU_IS_LIVE) lu__small_free(user, span, at);
        }
        lu__user_unlock(user);
    }
    lu__thread_leave(self);
    if (state == LU_IS_LIVE) return;
    lu__violation(LU_DOUBLE_FREE, call, (void *)at, (void *)at, lu__class_size[span->class_id]);
}

static void plain_free(struct span *span, uintptr_t block, const char *call) {
    /* Read once: another thread may end the span, or its heap, at any time, if one does wrong. */
    struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    if (LU_UNLIKELY(owner == NULL)) {
        lu__violation(LU_DOUBLE_FREE, call, (void *)block, NULL, 0);
        return;
    }
    uint8_t kind = __atomic_load_n(&owner->kind, __ATOMIC_RELAXED);
    if (kind == LU_HEAP_OF_USER) return free_of_user(owner, span, block, call);
    if (LU_UNLIKELY(kind != LU_HEAP_OF_THREAD)) return; /* it is ending */
    if (owner == lu__thread_heap()) {
        lu__list_push(span->key, span->list, block);
        if (LU_UNLIKELY(--span->needed == 0)) lu__free_needed(owner, span);
        return;
    }
    struct heap *heap = lu__thread_enter();
    lu__remote_free(heap, span, block);
    if (heap != NULL) lu__thread_leave(heap);
}

static bool plain_resize(struct span *span, uintptr_t block, size_t size) {
    (void)block;
    return size <= LU_CLASS_BYTES_MAX && lu__class_of(size) == span->class_id;
}

/* ---------------------------------------------------------------- walks */

static void mark(struct lu__look *look, uint32_t i) {
    look->free_bits[i / 8] |= (uint8_t)(1u << i % 8);
}

static bool plain_look(struct span *span, struct lu__look *look) {
    uint32_t size = lu__class_size[span->class_id], count = lu__span_carved(span), listed = 0;
    uintptr_t start = (uintptr_t)lu__span_start(span);
    memset(look->free_bits, 0, sizeof look->free_bits);
    for (uintptr_t b = *span->list; b != LU_LIST_END && listed < count; listed++) {
        mark(look, (uint32_t)((b - start) / size));
        b = lu__list_step(span->key, b);
    }
    lu__track_mark(span, look->free_bits);
    for (uint32_t i = 0; i < count && span->slices == 1 && span->purged != 0; i++) {
        if ((lu__block_units(i * size, size) & span->purged) != 0) mark(look, i);
    }
    look->start = start;
    look->size = size;
    look->count = count;
    return false;
}

/* Blocks on the list, at most as many as were carved. */
static uint32_t list_length(const struct span *span, uint32_t carved) {
    uint32_t count = 0;
    uintptr_t start = (uintptr_t)lu__span_start(span);
    uintptr_t block = span->list != NULL ? *span->list : LU_LIST_END;
    while (count < carved && block - start < lu__span_bytes(span)) {
        block = lu__link_next(span->key, block);
        count++;
    }
    return count;
}

static uint32_t plain_live(const struct span *span) {
    uint32_t carved = lu__span_carved(span);
    uint32_t free_blocks = span->unlisted + lu__remote_count(span) + list_length(span, carved);
    return carved > free_blocks ? carved - free_blocks : 0;
}

/* ---------------------------------------------------------------- ends */

static void end_empty(struct heap *heap) {
    for (unsigned c = 0; c < LU_CLASSES; c++) lu__small_demote(heap, c);
}

/* Who uses the heap after this, which is misuse, finds nothing on the fast path. */
static void plain_clear(struct heap *heap) {
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        heap->list[c] = LU_LIST_END;
        heap->keys[c] = LU_NO_KEY;
    }
}

static bool plain_waits(const struct span *span) {
    return span->remote != 0;
}

static void plain_release(struct span *run) {
    if (run->kind == LU_KIND_SMALL && LU_UNLIKELY(run->track != 0)) lu__track_drop(run);
    lu__run_free(run);
}

const struct lu__heap_ops lu__plain_ops = {
    .alloc = plain_alloc,
    .sweep_begin = lu__plain_sweep_begin,
    .sweep_some = lu__plain_sweep_some,
    .sweep_all = lu__plain_sweep_all,
    .end_empty = end_empty,
    .thread_exit = end_empty,
    .make_whole = lu__plain_make_whole,
    .clear = plain_clear,
    .find = plain_find,
    .free = plain_free,
    .resize = plain_resize,
    .take_in = lu__remote_take_span,
    .waits = plain_waits,
    .make_span_whole = lu__plain_make_span_whole,
    .look = plain_look,
    .live = plain_live,
    .release = plain_release,
};
