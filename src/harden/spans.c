/*
 * spans.c - spans of hardened heaps: birth, refill in random order, end.
 *
 *     | blocks ............................ | guard slice |      run of slices, the last without
 *       carved 4 KiB at a time                               access
 *
 * A heap lists, by kind, the spans that have something to give. A span of which nothing is READY
 * leaves the list (`queued` is 0 then), and the thread that makes a block READY pushes it on the
 * owner's pending stack (as remote.c does). It pushes first and changes the state last, for until
 * then the span cannot end; so it may happen that the owner looks in between and finds nothing. The
 * sweep, which visits all spans of the heap, finds such a span later.
 *
 * All but lu__hard_ready is the owner's, or under the lock of a lu_heap.
 */
#include <string.h>

#include "harden/parts.h"
#include "os/os.h"

#define CARVE_BYTES 4096u
#define GUARDS_MOST 8192u /* each splits a mapping in two; the system allows 65,530 */
#define LOOKS 4u          /* at spans before more is carved */
#define CHUNK_LEAST 64u
#define CHUNK_SIZES 9u /* 64 bytes to 16 KiB, by doubling: the states of a span */

typedef uint64_t eight_states __attribute__((may_alias));

static uint32_t guards; /* guard slices that stand; relaxed atomic */

/* ---------------------------------------------------------------- memory for states */

static struct lu__lock chunk_lock = LU_LOCK_INIT(LU_RANK_CHUNK);
static void *chunks[CHUNK_SIZES]; /* free ones, linked by their first word */

static unsigned chunk_size_of(size_t bytes) {
    unsigned i = 0;
    while (((size_t)CHUNK_LEAST << i) < bytes) i++;
    return i;
}

/* Zeroed. */
static void *chunk_alloc(size_t bytes) {
    unsigned i = chunk_size_of(bytes);
    size_t size = (size_t)CHUNK_LEAST << i;
    LU_ASSERT(i < CHUNK_SIZES);
    lu__lock_acquire(&chunk_lock);
    if (chunks[i] == NULL) {
        bool zero;
        struct span *run = lu__hard_meta(1, &zero);
        char *at = run != NULL ? lu__span_start(run) : NULL;
        for (size_t k = LU_SLICE / size; run != NULL && k-- > 0;) {
            *(void **)(void *)(at + k * size) = chunks[i];
            LU_SET(chunks[i], at + k * size);
        }
    }
    void *chunk = chunks[i];
    if (chunk != NULL) LU_SET(chunks[i], *(void **)chunk);
    lu__lock_release(&chunk_lock);
    return chunk != NULL ? memset(chunk, 0, size) : NULL;
}

static void chunk_free(void *chunk, size_t bytes) {
    unsigned i = chunk_size_of(bytes);
    lu__lock_acquire(&chunk_lock);
    *(void **)chunk = chunks[i];
    LU_SET(chunks[i], chunk);
    lu__lock_release(&chunk_lock);
}

/* ---------------------------------------------------------------- lists */

/* At the end of the list: a span gets back more of its blocks the longer it waits for its turn. */
static void list_add(struct hard *hard, struct span *span) {
    struct span **last = &hard->last[span->class_id];
    span->next = NULL;
    span->prev = *last;
    if (*last != NULL) {
        (*last)->next = span;
    } else {
        hard->spans[span->class_id] = span;
    }
    *last = span;
    span->state = LU_SPAN_PARTIAL;
}

static void list_remove(struct hard *hard, struct span *span) {
    if (span->next != NULL) {
        span->next->prev = span->prev;
    } else {
        hard->last[span->class_id] = span->prev;
    }
    if (span->prev != NULL) {
        span->prev->next = span->next;
    } else {
        hard->spans[span->class_id] = span->next;
    }
    span->next = span->prev = NULL;
    span->state = LU_SPAN_SLEEPING;
}

/* ---------------------------------------------------------------- birth and end */

static bool guard_lift(struct span *span) {
    char *end = lu__span_start(span) + lu__span_bytes(span);
    if (!span->guarded) return true;
    if (lu__os_commit(end - LU_SLICE, LU_SLICE) != 0) return false;
    span->guarded = 0;
    __atomic_fetch_sub(&guards, 1, __ATOMIC_RELAXED);
    return true;
}

/* A run, with a guard slice if there may be one more. */
static struct span *run_of(enum lu__kind kind, uint32_t slices, bool *zero) {
    bool guard = lu__harden.guard_slices &&
                 __atomic_load_n(&guards, __ATOMIC_RELAXED) < GUARDS_MOST;
    size_t absent = (size_t)(kind == LU_KIND_SMALL ? slices + guard : guard) << LU_SLICE_SHIFT;
    struct span *span = lu__run_alloc_sparse(slices + guard, slices, kind, absent, zero);
    if (span == NULL) return NULL;
    char *end = lu__span_start(span) + ((size_t)slices << LU_SLICE_SHIFT);
    span->guarded = guard;
    if (guard) __atomic_fetch_add(&guards, 1, __ATOMIC_RELAXED);
    if (guard && lu__os_protect(end, LU_SLICE) != 0) {
        /* It may be closed in part: it is lifted later as any other. */
    }
    return span;
}

struct span *lu__hard_meta(uint32_t slices, bool *zero) {
    return run_of(LU_KIND_META, slices, zero);
}

static struct span *span_create(struct heap *heap, unsigned c) {
    uint32_t slices = lu__class_slices(c);
    uint32_t capacity = (uint32_t)((slices << LU_SLICE_SHIFT) / lu__class_size[c]);
    uint8_t *states = chunk_alloc(capacity);
    if (states == NULL) return NULL;
    bool zero;
    struct span *span = run_of(LU_KIND_SMALL, slices, &zero);
    if (span == NULL) {
        chunk_free(states, capacity);
        return NULL;
    }
    span->hardened = 1;
    span->zero = zero || lu__harden.zero_on_free;
    span->whose = heap->kind == LU_HEAP_OF_THREAD ? LU_OF_THREAD_HARDENED : LU_OF_NOBODY;
    span->touched = 0;
    span->list = NULL;
    span->head = (uintptr_t)states;
    span->class_id = (uint8_t)c;
    span->inverse = lu__class_inverse[c];
    span->needed = 0;
    span->capacity = (uint16_t)capacity;
    span->queued = 1;
    span->unlisted = 0;
    __atomic_store_n(&span->remote, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&span->purged, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&span->bound, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&span->limit, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&span->owner, heap, __ATOMIC_RELEASE);
    heap->span_count[c]++;
    lu__heap_link(heap, span);
    list_add(heap->hard, span);
    return span;
}

static bool small_end(struct span *span) {
    char *start = lu__span_start(span);
    if (!guard_lift(span)) return false;
    /* Canaries: what is free in a hardened process is zero, and tells nothing. */
    if (lu__harden.zero_on_free) memset(start, 0, span->limit);
    chunk_free(lu__hard_states(span), span->capacity);
    span->hardened = 0;
    span->head = LU_LIST_END;
    return true;
}

/* ---------------------------------------------------------------- runs set aside */

/* Of heaps that have ended, where the kernel would not open a guard again. Nobody owns them, and
 * they are tried once more at the end of other heaps and at sweeps. */
static struct lu__lock aside_lock = LU_LOCK_INIT(LU_RANK_LEAF);
static struct span *aside; /* linked by `next` */

static bool is_gone(struct span *span) {
    if (span->kind == LU_KIND_SMALL ? !small_end(span) : !guard_lift(span)) return false;
    if (span->kind == LU_KIND_META) lu__span_forget_meta(span);
    lu__run_free(span);
    return true;
}

static void end_or_set_aside(struct span *span) {
    __atomic_store_n(&span->owner, NULL, __ATOMIC_RELAXED);
    if (is_gone(span)) return;
    lu__lock_acquire(&aside_lock);
    span->next = aside;
    __atomic_store_n(&aside, span, __ATOMIC_RELAXED);
    lu__lock_release(&aside_lock);
}

static void retry_aside(void) {
    if (LU_LIKELY(__atomic_load_n(&aside, __ATOMIC_RELAXED) == NULL)) return;
    lu__lock_acquire(&aside_lock);
    struct span *span = aside, *next;
    __atomic_store_n(&aside, NULL, __ATOMIC_RELAXED);
    lu__lock_release(&aside_lock);
    for (; span != NULL; span = next) {
        next = span->next;
        end_or_set_aside(span);
    }
}

void lu__hard_release(struct span *span) {
    if (span->kind == LU_KIND_SMALL) {
        end_or_set_aside(span);
    } else {
        lu__hard_large_release(span);
    }
}

void lu__hard_span_fork_child(void) {
    (void)lu__lock_fork_child(&chunk_lock);
    (void)lu__lock_fork_child(&aside_lock);
}

/* The span, of which all blocks are free, goes back. */
static void span_release(struct heap *heap, struct span *span) {
    list_remove(heap->hard, span);
    if (!guard_lift(span)) {
        list_add(heap->hard, span); /* the guard stands, and so does the span */
        return;
    }
    heap->span_count[span->class_id]--;
    lu__heap_unlink(heap, span);
    (void)is_gone(span);
}

void lu__hard_reset(struct heap *heap) {
    struct hard *hard = heap->hard;
    if (hard == NULL) return;
    const struct region *region = lu__region_of(hard);
    size_t slice = (size_t)((char *)hard - region->base) >> LU_SLICE_SHIFT;
    struct span *run = lu__region_desc(region, slice);
    heap->hard = NULL;
    memset(hard, 0, sizeof *hard); /* what is free in a hardened process is zero */
    end_or_set_aside(run);
    retry_aside();
}

/* One that has nothing to give leaves the list at the next refill. */
void lu__hard_make_span_whole(struct heap *heap, struct span *span) {
    span->prev = NULL;
    span->bound = lu__class_size[span->class_id] <= LU_SLICE / 2 ? lu__span_bound_now(span) : 0;
    span->queued = 1;
    heap->span_count[span->class_id]++;
    list_add(heap->hard, span);
}

/* ---------------------------------------------------------------- blocks that come back */

/* The span that `block` is in. */
static struct span *span_of(uintptr_t block) {
    const struct region *region = &lu__regions[0];
    size_t ready = __atomic_load_n(&region->ready, __ATOMIC_RELAXED);
    if (LU_LIKELY((block - (uintptr_t)region->base) >> LU_SLICE_SHIFT < ready)) {
        struct span *span = lu__hard_desc(block);
        if (LU_LIKELY(span->kind == LU_KIND_SMALL)) return span;
    }
    return lu__span_of(lu__region_of((void *)block), (void *)block);
}

void lu__hard_ready(uintptr_t block) {
    struct span *span = span_of(block);
    uint32_t no = 0;
    if (LU_UNLIKELY(span == NULL) || LU_UNLIKELY(!span->hardened)) return; /* freed twice at once */
    if (__atomic_load_n(&span->queued, __ATOMIC_RELAXED) == 0) {
        struct heap *mine = lu__thread_heap();
        struct span *before = mine != NULL ? lu__remote_pushes(mine, span) : NULL;
        if (__atomic_compare_exchange_n(&span->queued, &no, 1, false, __ATOMIC_ACQ_REL,
                                        __ATOMIC_RELAXED)) {
            lu__remote_push(span);
        }
        if (mine != NULL) lu__remote_pushed(mine, before);
    }
    /* The last touch: it may end now. */
    __atomic_store_n(lu__hard_state(span, block), HARD_READY, __ATOMIC_RELEASE);
}

void lu__hard_take_in(struct heap *heap, struct span *span) {
    heap->taken = __atomic_load_n(&span->pending_next, __ATOMIC_RELAXED);
    list_add(heap->hard, span);
}

/* ---------------------------------------------------------------- refill */

/* Fresh memory, of blocks and the one behind them, is looked at before it is written to: that would
 * be two page faults instead of one. */
static void touch(char *at, size_t bytes, bool clear) {
    size_t page = LU_OS_PAGE;
    if (clear) memset(at, 0, bytes);
    for (char *end = at + bytes; at < end; at += page - ((uintptr_t)at & (page - 1))) {
        uint64_t none = 0; /* nothing is hidden that was written there wrongly */
        (void)__atomic_compare_exchange_n((uint64_t *)(void *)at, &none, 0, false, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED);
    }
}

/* Make room for more blocks in the span; false if all of it is carved, or the limit forbids it. */
static bool carve(struct span *span) {
    uint32_t size = lu__class_size[span->class_id], limit = span->limit;
    uint32_t left = span->capacity * size - limit;
    if (left == 0) return false;
    uint32_t step = LU_MIN(LU_MAX(CARVE_BYTES / size, 1u) * size, left);
    uint32_t with = LU_MIN(step + size, left);
    if (!lu__span_touch(span, limit, limit + with)) return false;
    touch(lu__span_start(span) + limit, with, !span->zero);
    __atomic_store_n(&span->limit, limit + step, __ATOMIC_RELEASE);
    if (size <= LU_SLICE / 2) { /* see span/class.c */
        uint32_t error = span->inverse * size, carved = (limit + step) / size;
        __atomic_store_n(&span->bound, LU_MIN(carved * error, span->inverse), __ATOMIC_RELEASE);
    }
    return true;
}

#define TOPS 0x8080808080808080u

/* The top bit of byte i is set if block at + i may be taken; of those below `count`. */
static uint64_t takable_of(const uint8_t *states, uint32_t at, uint32_t count) {
    /* Chunks are multiples of 64 bytes. */
    uint64_t eight = __atomic_load_n((const eight_states *)(states + at), __ATOMIC_ACQUIRE);
    uint64_t takable = ~eight & TOPS;
#if LU_TSAN /* which pairs an acquire with a release of the same byte alone */
    for (uint32_t i = 0; i < 8; i++) (void)__atomic_load_n(&states[at + i], __ATOMIC_ACQUIRE);
#endif
    return count - at >= 8 ? takable : takable & (((uint64_t)1 << (count - at) * 8) - 1);
}

/* True if none of 32 blocks may be taken. */
static bool is_taken(const uint8_t *states) {
    const eight_states *eight = (const eight_states *)states;
    return ((__atomic_load_n(&eight[0], __ATOMIC_RELAXED) & LU_RELAXED(eight[1]) &
             LU_RELAXED(eight[2]) & LU_RELAXED(eight[3])) &
            TOPS) == TOPS;
}

/* Move blocks that may be taken from `at` to `end` into the stash: of each eight some, as the bits
 * of `dice` fall, or all. False when it is full. */
static bool gather_from(struct span *span, struct hard_class *class, uint32_t at, uint32_t end,
                        uint64_t dice) {
    uint32_t size = lu__class_size[span->class_id];
    uint8_t *states = lu__hard_states(span);
    uintptr_t start = (uintptr_t)lu__span_start(span);
    uint32_t count = class->count, most = class->capacity;
    for (; at < end && count < most; at += 8) {
        while (end - at >= 32 && is_taken(states + at)) {
            at += 32;
            if (at >= end) goto out;
        }
        uint64_t takable = takable_of(states, at, end);
        dice = dice << 9 | dice >> 55;
        if ((takable & dice) != 0) takable &= dice;
        for (; takable != 0 && count < most; takable &= takable - 1) {
            uint32_t i = at + (uint32_t)__builtin_ctzll(takable) / 8;
            __atomic_store_n(&states[i], HARD_OUT, __ATOMIC_RELAXED);
            class->stash[count++] = start + (size_t)i * size;
        }
    }
out:
    class->count = (uint16_t)count;
    return count < most;
}

/* The same of the whole span, from a random place on. */
static void gather(struct hard *hard, struct span *span, struct hard_class *class) {
    uint32_t count = lu__span_carved(span), from = 0;
    uint64_t dice = ~(uint64_t)0;
    if (lu__harden.random_order) {
        from = lu__hard_pick(hard, count) & ~7u;
        dice = (uint64_t)lu__hard_random(hard) << 32 | lu__hard_random(hard);
    }
    if (gather_from(span, class, from, count, dice)) (void)gather_from(span, class, 0, from, dice);
}

bool lu__hard_refill(struct heap *heap, unsigned c) {
    struct hard *hard = heap->hard;
    struct hard_class *class = &hard->classes[c];
    lu__tick(heap);
    (void)lu__remote_take_in(heap);
    uint32_t size = lu__class_size[c], enough = (class->capacity + 7u) / 8;
    for (unsigned looks = LOOKS;; looks -= looks != 0) {
        struct span *span = hard->spans[c];
        if (span == NULL) {
            if (class->count != 0) return true;
            if ((span = span_create(heap, c)) == NULL) return false;
        }
        if (span->limit != 0) gather(hard, span, class);
        if (class->count >= enough) return true;
        /* There is nothing left of it but what was never carved: the next one's turn. */
        list_remove(hard, span);
        if (span->limit == span->capacity * size) {
            __atomic_store_n(&span->queued, 0, __ATOMIC_SEQ_CST);
            continue;
        }
        list_add(hard, span);
        if (looks != 0 && hard->spans[c] != span) continue;
        if (!carve(span)) return class->count != 0;
        gather(hard, span, class);
        if (class->count != 0) return true;
    }
}

/* ---------------------------------------------------------------- sweep */

static uint32_t count_of(uint64_t tops) {
    return (uint32_t)((tops >> 7) * 0x0101010101010101u >> 56);
}

/* How many blocks of the span may be taken. */
static uint32_t takable(const struct span *span) {
    const uint8_t *states = lu__hard_states(span);
    uint32_t count = lu__span_carved(span), free_blocks = 0;
    for (uint32_t at = 0; at < count; at += 8) {
        free_blocks += count_of(takable_of(states, at, count));
    }
    return free_blocks;
}

/* What it costs, in the steps of work of heap/sweep.c. */
#define WORK_LOOK 1u
#define WORK_RELEASE 100u

/* A span whose blocks are all free ends, and one that was missed is listed; what that took. */
static uint32_t visit(struct heap *heap, struct span *span) {
    uint32_t free_blocks = takable(span), no = 0, work = WORK_LOOK + lu__span_carved(span) / 64;
    if (free_blocks != 0 && __atomic_load_n(&span->queued, __ATOMIC_RELAXED) == 0 &&
        __atomic_compare_exchange_n(&span->queued, &no, 1, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_RELAXED)) {
        list_add(heap->hard, span);
    }
    bool listed = span->state == LU_SPAN_PARTIAL;
    if (!listed || free_blocks != lu__span_carved(span)) return work;
    span_release(heap, span);
    return work + WORK_RELEASE;
}

void lu__hard_sweep_begin(struct heap *heap, bool all) {
    retry_aside();
    lu__hard_large_tidy(all);
    lu__hard_let_all_go(heap->hard, false);
    lu__remote_drain(heap);
    heap->sweep_at = heap->all;
}

uint32_t lu__hard_sweep_some(struct heap *heap, uint32_t work) {
    uint32_t used = 0;
    lu__remote_drain(heap); /* what is pending cannot end */
    while (heap->sweep_at != NULL && used < work) {
        struct span *span = heap->sweep_at;
        heap->sweep_at = span->all_next; /* the span may end */
        bool small = span->kind == LU_KIND_SMALL && span->hardened;
        used += small ? visit(heap, span) : WORK_LOOK;
    }
    return used;
}

void lu__hard_sweep(struct heap *heap) {
    lu__hard_sweep_begin(heap, true);
    lu__remote_drain_all(heap);
    (void)lu__hard_sweep_some(heap, UINT32_MAX);
}
