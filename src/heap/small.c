/*
 * small.c - the life of a small span, and where malloc's blocks come from when its list is empty.
 *
 *            new                                    all blocks out
 *     run ---------> CURRENT ------------------------------------------> SLEEPING
 *                    ^  |  frees go to the heap's list                     |  enough came back
 *       picked again |  | demoted by the sweep, or at thread exit          v
 *                    +--+------------------------------------------->  PARTIAL ---> run
 *                                                                        all blocks came back
 *
 * `needed` counts local frees down to 0, where the slow path looks (lu__small_needed):
 *     CURRENT    a mere cadence: look at the clock every so many frees. How many blocks are out is
 *                not counted, so malloc writes no span at all
 *     SLEEPING   1/16 of the blocks, at most 32: a span with less to give is not worth a visit. The
 *                others that are out are in `reserve`
 *     PARTIAL    all blocks that are out; at 0 the span is empty and its slices go back
 * Invariant of SLEEPING and PARTIAL:
 *     needed + reserve == carved - unlisted - (blocks on the span's list)
 * Blocks freed by other threads count as out until the owner takes them in.
 *
 * Refill order: blocks that others have freed, partial spans (the fullest of the first few, so
 * that the emptier ones drain), pages purged from the current span, its uncarved rest (fresh
 * memory 4 KiB at a time, so that it is touched when it is needed), a new span. As in Bonwick's
 * slabs and mimalloc's free list sharding, what is free is kept by span, so that neighbours in
 * time become neighbours in space.
 *
 * Everything is done by the heap's owner (or under the lock of a lu_heap); no lock here.
 */
#include "base/options.h"
#include "heap/heap.h"
#include "heap/ops.h"
#include "heap/track.h"
#include "os/os.h"

#define WAKE_SHIFT 4 /* a sleeping span wakes when 1/16 of it is free */
#define WAKE_MOST 32u
#define LOOK 4                /* partial spans compared by a refill */
#define CARVE_BYTES 4096u     /* at a time: pages are touched when they are needed        */
#define CARVE_BLOCKS_DIRTY 2u /* of used memory, at least: it may be there                */
#define CARVE_BYTES_TOUCHED 16384u
#define CARVE_BLOCKS_TOUCHED 16u /* of memory where links were before, at least: it is there */

#define RARE_MS 24u /* a class that did not get a span for so long will not fill one soon */

static void set_bound(struct span *span) {
    __atomic_store_n(&span->bound, lu__span_bound_now(span), __ATOMIC_RELAXED); /* also by others */
}

static void set_limit(struct span *span, uint32_t limit) {
    __atomic_store_n(&span->limit, limit, __ATOMIC_RELAXED); /* read by remote frees as well */
    set_bound(span);
}

static void set_purged(struct span *span, uint32_t purged) {
    __atomic_store_n(&span->purged, (uint16_t)purged, __ATOMIC_RELAXED);
    set_bound(span);
}

/* ---------------------------------------------------------------- lists of spans */

void lu__heap_link(struct heap *heap, struct span *span) {
    heap->run_count++;
    span->all_prev = NULL;
    span->all_next = heap->all;
    if (heap->all != NULL) heap->all->all_prev = span;
    heap->all = span;
}

void lu__heap_unlink(struct heap *heap, struct span *span) {
    LU_SET(span->owner, NULL);
    heap->run_count--;
    if (heap->sweep_at == span) heap->sweep_at = span->all_next;
    if (heap->walk_at == span) heap->walk_at = span->all_next;
    if (span->all_next != NULL) span->all_next->all_prev = span->all_prev;
    if (span->all_prev != NULL) {
        span->all_prev->all_next = span->all_next;
    } else {
        heap->all = span->all_next;
    }
}

static void partial_prepend(struct heap *heap, struct span *span) {
    unsigned c = span->class_id;
    span->prev = NULL;
    span->next = heap->partial[c];
    if (span->next != NULL) {
        span->next->prev = span;
    } else {
        heap->partial_last[c] = span;
    }
    heap->partial[c] = span;
    heap->partial_count[c]++;
}

void lu__partial_append(struct heap *heap, struct span *span) {
    unsigned c = span->class_id;
    span->next = NULL;
    span->prev = heap->partial_last[c];
    if (span->prev != NULL) {
        span->prev->next = span;
    } else {
        heap->partial[c] = span;
    }
    heap->partial_last[c] = span;
    heap->partial_count[c]++;
}

void lu__partial_remove(struct heap *heap, struct span *span) {
    unsigned c = span->class_id;
    if (span->next != NULL) {
        span->next->prev = span->prev;
    } else {
        heap->partial_last[c] = span->prev;
    }
    if (span->prev != NULL) {
        span->prev->next = span->next;
    } else {
        heap->partial[c] = span->next;
    }
    span->next = span->prev = NULL;
    heap->partial_count[c]--;
}

/* ---------------------------------------------------------------- birth, changes, end */

bool lu__small_is_idle(const struct heap *heap, unsigned c, uint32_t *steps) {
    const struct span *span = heap->current[c];
    uint32_t carved = lu__span_carved(span) - span->unlisted;
    if (carved > *steps) return false;
    uintptr_t block = heap->list[c];
    uint32_t listed = 0;
    while (block != LU_LIST_END && listed < carved) {
        block = lu__list_step(span->key, block);
        listed++;
    }
    *steps -= listed;
    return listed == carved;
}

/* A class that got its last span long ago will carve little of this one soon. Of a used slice the
 * rest would stay resident, and in the end a whole slice for every class that was ever used. */
static bool is_rare(const struct heap *heap, unsigned c) {
    return heap->span_count[c] == 0 && heap->ticked_ms - heap->created_ms[c] > RARE_MS;
}

static LU_COLD bool clear_rare(struct span *span) {
    if (lu__option(LU_OPT_PURGE_DELAY) < 0) return false; /* for ever: no madvise at all */
    if (lu__os_purge(lu__span_start(span), lu__span_bytes(span)) != 0) return false;
    lu__run_forget_touched(span);
    lu__span_leave(span, 0, (uint32_t)lu__span_bytes(span));
    return true;
}

static uint8_t whose(const struct heap *heap) {
    if (heap->kind == LU_HEAP_OF_THREAD) return LU_OF_THREAD;
    return heap->shared ? LU_OF_USER_SHARED : LU_OF_USER;
}

static struct span *span_create(struct heap *heap, unsigned c) {
    uint32_t slices = lu__class_slices(c);
    bool zero;
    size_t bytes = (size_t)slices << LU_SLICE_SHIFT;
    struct span *span = lu__run_alloc_sparse(slices, slices, LU_KIND_SMALL, bytes, &zero);
    if (span == NULL) return NULL;
    if (!zero && is_rare(heap, c)) zero = clear_rare(span);
    heap->created_ms[c] = heap->ticked_ms;
    span->zero = zero;
    span->whose = whose(heap);
    if (zero || (span->class_id != c && lu__class_size[span->class_id] > LU_UNIT)) {
        span->touched = 0;
    }
    span->key = lu__link_new_key(span); /* what the slices still hold tells nothing of it */
    span->head = LU_LIST_END;
    span->class_id = (uint8_t)c;
    span->inverse = lu__class_inverse[c];
    span->needed = 0;
    span->reserve = 0;
    span->next = span->prev = NULL;
    span->unlisted = 0;
    span->track = 0;
    span->swept = 0;
    __atomic_store_n(&span->remote, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&span->purged, 0, __ATOMIC_RELAXED);
    set_limit(span, 0);
    __atomic_store_n(&span->owner, heap, __ATOMIC_RELEASE);
    heap->span_count[c]++;
    if (heap->kind == LU_HEAP_OF_USER) lu__heap_link(heap, span);
    return span;
}

/* Remember up to where links have touched the pages: to the end of the last block's first page. Of
 * large blocks they touch some pages only, which serves spans of the same class alone. */
static void note_touched(struct span *span) {
    uint32_t size = lu__class_size[span->class_id], end = span->limit;
    if (span->purged != 0 || end == 0) return;
    if (size <= LU_UNIT) end = (uint32_t)lu__align_up(end - size + 1, LU_UNIT);
    span->touched = (uint16_t)(LU_MAX(lu__span_touched(span), end) / 8);
}

void lu__span_release(struct heap *heap, struct span *span) {
    LU_ASSERT(lu__remote_count(span) == 0);
    heap->span_count[span->class_id]--;
    if (heap->kind == LU_HEAP_OF_USER) lu__heap_unlink(heap, span);
    __atomic_store_n(&span->owner, NULL, __ATOMIC_RELAXED);
    if (LU_UNLIKELY(span->track != 0)) lu__track_drop(span);
    note_touched(span);
    lu__run_free(span);
}

/* The span, in no list, becomes the one whose blocks malloc pops. */
LU_INLINE void make_current(struct heap *heap, struct span *span) {
    unsigned c = span->class_id;
    uint32_t out = span->needed + span->reserve;
    heap->current[c] = span;
    heap->keys[c] = span->key; /* first: a handler's malloc may come between */
    __atomic_signal_fence(__ATOMIC_RELEASE);
    heap->list[c] = span->head;
    span->list = &heap->list[c];
    span->state = LU_SPAN_CURRENT;
    span->reserve = 0;
    span->swept_to = 0;
    span->swept = 0;
    span->needed = lu__cadence(heap);
    lu__sampler_begun(heap, span, out);
}

/* The current span, whose list is `list` with `listed` blocks, becomes partial, or sleeps if it has
 * nothing to give, or ends if nothing of it is out. */
static void end_current(struct heap *heap, struct span *span, uintptr_t list, uint32_t listed) {
    unsigned c = span->class_id;
    uint32_t out = lu__span_carved(span) - span->unlisted - listed;
    lu__sampler_ended(heap, span, listed);
    heap->current[c] = NULL;
    heap->list[c] = LU_LIST_END;
    span->head = list;
    span->list = &span->head;
    span->last_mark = 0;
    span->swept = 0;
    span->swept_to = 0;
    if (out == 0) {
        lu__span_release(heap, span);
    } else if (listed > 0 || span->purged || span->unlisted > 0 ||
               span->limit < lu__span_capacity_bytes(span)) {
        span->state = LU_SPAN_PARTIAL;
        span->needed = out;
        span->reserve = 0;
        lu__partial_append(heap, span);
    } else {
        span->state = LU_SPAN_SLEEPING;
        span->needed = LU_MIN(LU_MAX(out >> WAKE_SHIFT, 1u), WAKE_MOST);
        span->reserve = (uint16_t)(out - span->needed);
    }
}

void lu__small_demote(struct heap *heap, unsigned c) {
    struct span *span = heap->current[c];
    if (span == NULL) return;
    uint32_t listed = 0, most = lu__span_carved(span);
    uintptr_t list = heap->list[c];
    for (uintptr_t b = list; b != LU_LIST_END && listed <= most; listed++) {
        b = lu__list_step(span->key, b);
    }
    if (LU_UNLIKELY(listed > most)) { /* a block is on it twice: all of them stay out */
        lu__violation(LU_CORRUPT_LINK, "malloc", (void *)list, NULL, 0);
        list = LU_LIST_END;
        listed = 0;
    }
    end_current(heap, span, list, listed);
}

void lu__small_needed(struct heap *heap, struct span *span) {
    switch (span->state) {
    case LU_SPAN_CURRENT:
        span->needed = lu__cadence(heap);
        lu__sampler_renewed(heap, span);
        if (LU_UNLIKELY(span->track != 0)) (void)lu__track_refill(heap, span);
        lu__tick_slow(heap);
        break;
    case LU_SPAN_SLEEPING:
        if (span->reserve == 0) {
            lu__span_release(heap, span);
        } else {
            span->state = LU_SPAN_PARTIAL;
            span->needed = span->reserve;
            span->reserve = 0;
            partial_prepend(heap, span);
            heap->pass_changed = 1;
        }
        break;
    default:
        LU_ASSERT(span->state == LU_SPAN_PARTIAL);
        lu__partial_remove(heap, span);
        lu__span_release(heap, span);
        lu__tick(heap);
    }
}

void lu__small_free(struct heap *heap, struct span *span, uintptr_t block) {
    lu__list_push(span->key, span->list, block);
    if (--span->needed == 0) lu__small_needed(heap, span);
}

void lu__small_return(struct heap *heap, struct span *span, uintptr_t first, uintptr_t last,
                      uint32_t count) {
    *(uintptr_t *)last = (*span->list ^ last) ^ span->key;
    *span->list = first;
    if (span->state == LU_SPAN_CURRENT) {
        lu__sampler_counted(heap, (int32_t)count);
        return;
    }
    if (span->state == LU_SPAN_SLEEPING && count >= span->needed) {
        span->state = LU_SPAN_PARTIAL;
        span->needed += span->reserve;
        span->reserve = 0;
        partial_prepend(heap, span);
        heap->pass_changed = 1;
    }
    LU_ASSERT(count <= span->needed + span->reserve);
    span->needed -= count;
    if (span->needed == 0) lu__small_needed(heap, span);
}

/* ---------------------------------------------------------------- refill */

/* Bring blocks of the current span's first purged pages back; false if there are none, or the limit
 * forbids it. */
static bool recarve(struct heap *heap, struct span *span) {
    uint32_t size = lu__class_size[span->class_id];
    uintptr_t start = (uintptr_t)lu__span_start(span);
    uint32_t before = span->unlisted;
    while (span->purged != 0 && *span->list == LU_LIST_END) {
        uint32_t page = (uint32_t)__builtin_ctz(span->purged), from = page << LU_UNIT_SHIFT;
        uint32_t end = LU_MIN(from + LU_UNIT, span->limit);
        if (from < end && !lu__span_touch(span, from, end)) break;
        set_purged(span, span->purged & (span->purged - 1));
        for (uint32_t at = from / size * size; at < end; at += size) {
            uint32_t units = lu__block_units(at, size);
            if (at + size > span->limit || (units & span->purged) != 0) continue;
            lu__list_push(span->key, span->list, start + at);
            span->unlisted--;
        }
    }
    span->swept = 0;
    lu__sampler_counted(heap, (int32_t)(before - span->unlisted));
    return *span->list != LU_LIST_END;
}

/* Link the next blocks of the current span, in address order; false if all were carved, or the
 * limit forbids it. */
static bool carve(struct heap *heap, struct span *span) {
    uint32_t size = lu__class_size[span->class_id];
    uint32_t left = lu__span_capacity_bytes(span) - span->limit;
    if (left == 0) return false;
    uint32_t touched = lu__span_touched(span);
    touched = touched > span->limit ? (touched - span->limit) / size : 0;
    uint32_t most = LU_MAX(CARVE_BLOCKS_TOUCHED, CARVE_BYTES_TOUCHED / size);
    uint32_t blocks = LU_MIN(touched, most);
    blocks = LU_MAX(LU_MAX(CARVE_BYTES / size, blocks), span->zero ? 1u : CARVE_BLOCKS_DIRTY);
    uint32_t step = LU_MIN(blocks * size, left);
    step = lu__sampler_carved(heap, step, size);
    /* With the last blocks the rest of the run counts as well: it ends as any other dirty one. */
    uint32_t end = step < left ? span->limit + step : span->slices << LU_SLICE_SHIFT;
    if (!lu__span_touch(span, span->limit, end)) return false;
    uintptr_t first = (uintptr_t)lu__span_start(span) + span->limit;
    uintptr_t last = first + step - size;
    for (uintptr_t b = first; b < last; b += size) {
        *(uintptr_t *)b = ((b + size) ^ b) ^ span->key;
    }
    *(uintptr_t *)last = (*span->list ^ last) ^ span->key;
    set_limit(span, span->limit + step);
    span->swept = 0;
    *span->list = first;
    return true;
}

static struct span *pick_partial(struct heap *heap, unsigned c) {
    struct span *best = heap->partial[c];
    unsigned looked = 0;
    for (struct span *s = best; s != NULL && looked < LOOK; s = s->next, looked++) {
        if (s->needed > best->needed) best = s;
    }
    return best;
}

/* True if the list of the current span has blocks; of a tracked one it gets some. */
static bool is_stocked(struct heap *heap, struct span *span) {
    if (LU_UNLIKELY(span->track != 0)) return lu__track_refill(heap, span);
    return *span->list != LU_LIST_END;
}

/* Put blocks on the heap's empty list. *fresh: the first was never used, and its memory is zero. */
static bool refill(struct heap *heap, unsigned c, bool *fresh) {
    *fresh = false;
    heap->last_taken[c] = 0;
    (void)lu__remote_take_in(heap);
    for (;;) {
        struct span *span = heap->current[c];
        if (span != NULL && is_stocked(heap, span)) return true;
        struct span *next = pick_partial(heap, c);
        if (next != NULL) {
            lu__partial_remove(heap, next);
            if (span != NULL) end_current(heap, span, heap->list[c], 0);
            make_current(heap, next);
            if (is_stocked(heap, next)) return true;
            span = next;
        }
        if (span == NULL ||
            (!recarve(heap, span) && span->limit >= lu__span_capacity_bytes(span))) {
            struct span *born = span_create(heap, c);
            if (born == NULL) return false;
            if (span != NULL) end_current(heap, span, heap->list[c], 0);
            make_current(heap, span = born);
        }
        if (heap->list[c] == LU_LIST_END) {
            *fresh = span->zero != 0;
            return carve(heap, span);
        }
    }
}

/* True if the list is to be refilled when its last block is taken, not when the next is asked for:
 * where that touches no memory, and saves coming here twice; and where a list of one block, taken
 * and freed in turn, would bring malloc here every time. */
static bool wants_early_refill(const struct heap *heap, unsigned c) {
    const struct span *span = heap->current[c];
    return heap->last_taken[c] || (span != NULL && lu__span_touched(span) > span->limit);
}

void *lu__small_alloc(struct heap *heap, unsigned c, bool *zero) {
    *zero = false;
    if (heap->list[c] == LU_LIST_END) {
        lu__tick(heap);
        if (heap->list[c] == LU_LIST_END && !refill(heap, c, zero)) return NULL;
    }
    uintptr_t block = heap->list[c];
    heap->list[c] = lu__list_step(heap->keys[c], block);
    *(uintptr_t *)block = 0;
    bool fresh;
    if (heap->list[c] == LU_LIST_END && wants_early_refill(heap, c)) (void)refill(heap, c, &fresh);
    return (void *)block;
}

uintptr_t lu__small_last(struct heap *heap, unsigned c) {
    uintptr_t block = heap->list[c];
    if (heap == LU_EMPTY_HEAP || block == LU_LIST_END || wants_early_refill(heap, c)) return 0;
    if (lu__link_next(heap->keys[c], block) != LU_LIST_END) return 0;
    heap->last_taken[c] = 1;
    heap->list[c] = LU_LIST_END;
    *(uintptr_t *)block = 0;
    return block;
}
