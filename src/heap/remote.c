/*
 * remote.c - freeing blocks of another thread's spans.
 *
 * The freeing thread collects up to 16 KiB of blocks per span in a small ring of chains, and posts
 * a chain with one compare-and-swap on the span's `remote` word:
 *
 *     bit 63   48        32         16         0
 *     | 1 | count (15) | last (16) | first (16) |     first, last: offset / 8 in the window
 *
 * Chains are linked like every free list, with `last` ending it; a later chain goes in front of
 * the earlier, and the word keeps count and last, so that the owner adopts any number of blocks
 * without walking them. Who finds the word 0 also pushes the span on the owner's `pending` stack;
 * the owner takes the whole stack, then each span's word.
 *
 * A span has its word set only while it is on that stack (or in `taken`, to which the owner moves
 * the stack, to take in a bounded number at a time) or about to be pushed, and its blocks count as
 * out until drained: so it cannot end meanwhile, and is never on the stack twice.
 *
 * A fork may come while another thread has set the word and not pushed the span yet, and nobody
 * would push it in the child. So the poster notes the span in its heap, before it sets the word and
 * until it has pushed; the child pushes what it finds noted, with its word set, and on no stack.
 *
 * Memory order: posting releases the chain's links, draining acquires them.
 * What a thread holds back is bounded by LU_RING * 16 KiB; blocks above 8 KiB are posted one by
 * one.
 */
#include "heap/heap.h"
#include "heap/ops.h"

#define BATCH_BYTES 16384u
#define POSTED ((uint64_t)1 << 63)
#define BATCH_BLOCKS 64u
#define COUNT_MOST 0x7fffu
#define POSTS_POOL 8u                  /* full batches between looks at pooled heaps */
#define DRAIN_SPANS 64u                /* taken in at a time */
#define DRAIN_UNSETTLED (128 * LU_KIB) /* or until so much became free that is to go back */

static uintptr_t window_of(uintptr_t block) {
    return block & ~(((uintptr_t)1 << LU_WINDOW_SHIFT) - 1);
}

static uint64_t pack(uintptr_t first, uintptr_t last, uint64_t count) {
    uintptr_t window = window_of(first);
    return POSTED | count << 32 | (uint64_t)((last - window) >> 3) << 16 |
           (uint64_t)((first - window) >> 3);
}
static uintptr_t packed_first(uint64_t word, uintptr_t window) {
    return window + ((word & 0xffff) << 3);
}
static uintptr_t packed_last(uint64_t word, uintptr_t window) {
    return window + (((word >> 16) & 0xffff) << 3);
}
static uint32_t packed_count(uint64_t word) {
    return (uint32_t)(word >> 32) & COUNT_MOST;
}

uint32_t lu__remote_count(const struct span *span) {
    return packed_count(__atomic_load_n(&span->remote, __ATOMIC_RELAXED));
}

uintptr_t lu__remote_first(const struct span *span) {
    uint64_t word = __atomic_load_n(&span->remote, __ATOMIC_ACQUIRE);
    return word == 0 ? 0 : packed_first(word, window_of((uintptr_t)lu__span_start(span)));
}

LU_INLINE void push(struct span *span) {
    struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    if (LU_UNLIKELY(owner == NULL)) return; /* two threads freed its last block at once */
    struct span *top = __atomic_load_n(&owner->pending, __ATOMIC_RELAXED);
    do {
        __atomic_store_n(&span->pending_next, top, __ATOMIC_RELAXED);
    } while (!__atomic_compare_exchange_n(&owner->pending, &top, span, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
}

void lu__remote_push(struct span *span) {
    push(span);
}

LU_INLINE void post(struct span *span, uintptr_t first, uintptr_t last, uint32_t count) {
    uintptr_t window = window_of(first), key = span->key;
    uint64_t old = __atomic_load_n(&span->remote, __ATOMIC_RELAXED), new;
    do {
        uintptr_t next = old != 0 ? packed_first(old, window) : LU_LIST_END;
        __atomic_store_n((uintptr_t *)last, (next ^ last) ^ key, __ATOMIC_RELAXED);
        new = old != 0 ? pack(first, packed_last(old, window), packed_count(old) + count)
                       : pack(first, last, count);
    } while (!__atomic_compare_exchange_n(&span->remote, &old, new, true, __ATOMIC_RELEASE,
                                          __ATOMIC_RELAXED));
    if (old == 0) push(span);
}

/* By the thread whose heap it is. */
LU_INLINE void post_noted(struct heap *heap, struct span *span, uintptr_t first, uintptr_t last,
                          uint32_t count) {
    struct span *before = lu__remote_pushes(heap, span);
    post(span, first, last, count);
    lu__remote_pushed(heap, before);
}

static void post_batch(struct heap *heap, struct remote_batch *batch) {
    struct span *span = batch->span;
    batch->span = NULL;
    post_noted(heap, span, batch->first, batch->last, batch->capacity - batch->room);
    /* Perhaps in a later life of the span, which does not set it anew: a search looks at rings in
     * vain, but at none too few. */
    (void)__atomic_fetch_sub(&span->rings, 1, __ATOMIC_RELAXED);
}

void lu__remote_begin(struct heap *heap, struct remote_batch *batch, struct span *span,
                      uintptr_t block) {
    if (batch->span != NULL) post_batch(heap, batch);
    uint32_t size = lu__class_size[span->class_id];
    uint32_t most = LU_MIN(BATCH_BYTES / size, BATCH_BLOCKS);
    if (most <= 1) return post_noted(heap, span, block, block, 1);
    batch->capacity = most;
    batch->room = most - 1;
    batch->first = batch->last = block;
    __atomic_store_n((uintptr_t *)block, (LU_LIST_END ^ block) ^ span->key, __ATOMIC_RELAXED);
    (void)__atomic_fetch_add(&span->rings, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_RELEASE); /* a forked child must not see the old chain */
    batch->span = span;
}

/* Take in what waits for one pooled heap. */
static bool drain_pooled(struct heap *heap, void *arg) {
    (void)arg;
    return !lu__remote_take_in(heap);
}

/* The owner may have ended: then it is for others to take in what is freed, and who only frees has
 * no other slow path. */
static LU_COLD void post_and_look(struct heap *heap, struct remote_batch *batch) {
    post_batch(heap, batch);
    lu__sweep_wake_pool();
    if (++heap->posts % POSTS_POOL != 0) return;
    struct heap *entered = lu__thread_enter(); /* NULL: in a slow path already */
    if (entered == NULL) return;
    lu__pool_some(drain_pooled, NULL);
    lu__tick(entered);
    lu__thread_leave(entered);
}

void lu__remote_post(struct heap *heap, struct remote_batch *batch) {
    if (LU_UNLIKELY(lu__pool_count() != 0)) {
        post_and_look(heap, batch);
    } else {
        post_batch(heap, batch);
    }
}

void lu__remote_free(struct heap *heap, struct span *span, uintptr_t block) {
    if (heap == NULL) {
        post(span, block, block, 1);
    } else if (heap != lu__thread_heap()) {
        post_noted(heap, span, block, block, 1);
    } else {
        lu__remote_collect(heap, span, block);
    }
}

void lu__remote_flush(struct heap *heap) {
    for (size_t i = 0; i < LU_RING; i++) {
        if (heap->ring[i].span != NULL) post_batch(heap, &heap->ring[i]);
    }
}

LU_INLINE void take_span(struct heap *heap, struct span *span) {
    /* Read before the word is cleared: from then on the span may be pushed again. */
    struct span *next = __atomic_load_n(&span->pending_next, __ATOMIC_RELAXED);
    uint64_t word = __atomic_exchange_n(&span->remote, 0, __ATOMIC_ACQUIRE);
    heap->taken = next;
    uintptr_t window = window_of((uintptr_t)lu__span_start(span));
    LU_ASSERT(word != 0);
    lu__small_return(heap, span, packed_first(word, window), packed_last(word, window),
                     packed_count(word));
}

void lu__remote_take_span(struct heap *heap, struct span *span) {
    take_span(heap, span);
}

/* Take in what was posted to the first span of `taken`. */
LU_INLINE void take_in_first(struct heap *heap) {
    struct span *span = heap->taken;
    const struct lu__heap_ops *ops = lu__run_ops(span);
    if (LU_LIKELY(ops == &lu__plain_ops)) return take_span(heap, span);
    ops->take_in(heap, span);
}

static void take_stack(struct heap *heap) {
    if (heap->taken != NULL) return;
    heap->taken = __atomic_exchange_n(&heap->pending, NULL, __ATOMIC_ACQUIRE);
}

void lu__remote_drain(struct heap *heap) {
    uint32_t tick_left = heap->tick_left, spans = 0;
    heap->tick_left = UINT32_MAX; /* the work of one call: a tick may follow, not come between */
    lu__run_settle_later();
    while (spans < DRAIN_SPANS && lu__run_unsettled() < DRAIN_UNSETTLED) {
        take_stack(heap);
        if (heap->taken == NULL) break;
        take_in_first(heap);
        spans++;
    }
    lu__run_settle();
    heap->tick_left = tick_left > spans ? tick_left - spans : 1;
}

void lu__remote_drain_all(struct heap *heap) {
    while (heap->taken != NULL) take_in_first(heap);
    take_stack(heap);
    while (heap->taken != NULL) take_in_first(heap);
}

static bool is_on(const struct span *stack, const struct span *span) {
    while (stack != NULL && stack != span) stack = stack->pending_next;
    return stack != NULL;
}

void lu__remote_fork_child(struct heap *heap) {
    struct span *span = heap->posting;
    if (span == NULL) return; /* nothing written: that would copy a page for every heap */
    heap->posting = NULL;
    if (span->kind != LU_KIND_SMALL || span->owner == NULL) return;
    bool waits = lu__run_ops(span)->waits(span);
    const struct heap *owner = span->owner;
    /* A busy owner may have it in hand: an orphan, or interrupted by the handler that forked. */
    if (owner->busy) return;
    if (waits && !is_on(owner->pending, span) && !is_on(owner->taken, span)) lu__remote_push(span);
}
