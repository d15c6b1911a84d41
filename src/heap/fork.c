/*
 * fork.c - a copy of the process is put in order; lu_heaps that another thread was changing.
 *
 * Each file sees to what it owns (lu__engine_fork_child). What is done here is for the heaps of
 * programs. The copy is without the thread that was in one, and the heap as that thread left it: a
 * list was half moved, a count not written yet. What other threads' heaps are in such a case, given
 * up, a lu_heap cannot be: the program goes on with it. So it is made whole from what is right
 * after every store:
 *
 *     descriptors       which runs the heap owns (owner is stored last, and cleared first)
 *     limit, purged     how much of a span was carved, and which pages of that are not there
 *     lists, bitmaps    what is free: each link is looked at, and none leads out of its span
 *     states, canaries  the same of hardened spans (harden/spans.c)
 *
 * All else is made anew. A block counts as out unless it is found among the free ones, so nothing
 * is handed out twice. What was on its way from one place to another is in neither and stays out:
 * it is visited by walks and ends with the heap, or when it is freed once more. A heap that was
 * just being destroyed has no more users, and is left as it is.
 *
 * Which heaps those are, the word of the lock tells: of a heap without LU_HEAP_SHARED, too
 * (lu__user_lock). By who puts the copy in order, before anybody else can take a lock.
 */
#include <string.h>

#include "heap/heap.h"
#include "heap/plain.h"
#include "heap/track.h"
#include "heap/user.h"

/* ---------------------------------------------------------------- a span */

static bool has_bit(const uint8_t *bits, uint32_t i) {
    return (bits[i / 8] >> i % 8 & 1) != 0;
}

/* The free list of the span, before its heap's lists are made empty. One that is not there yet is
 * not used: what it was in an earlier life may still stand there. */
static uintptr_t list_of(const struct heap *heap, const struct span *span) {
    if (span->list == &heap->list[span->class_id]) return *span->list;
    return span->list == &span->head ? span->head : LU_LIST_END;
}

static void mark_list(const struct span *span, uintptr_t block, uint8_t *free_bits) {
    uintptr_t start = (uintptr_t)lu__span_start(span);
    uint32_t size = lu__class_size[span->class_id];
    while (block - start < span->limit && (block - start) % size == 0) {
        uint32_t i = (uint32_t)(block - start) / size;
        if (has_bit(free_bits, i)) return;
        free_bits[i / 8] |= (uint8_t)(1u << i % 8);
        block = lu__link_next(span->key, block); /* 0: not written yet */
    }
}

/* Blocks that touch pages which are not there are on no list. How many there are. */
static uint32_t unmark_purged(const struct span *span, uint8_t *free_bits) {
    uint32_t size = lu__class_size[span->class_id], count = lu__span_carved(span), purged = 0;
    for (uint32_t i = 0; i < count && span->purged != 0; i++) {
        if ((lu__block_units(i * size, size) & span->purged) == 0) continue;
        free_bits[i / 8] &= (uint8_t) ~(1u << i % 8);
        purged++;
    }
    return purged;
}

/* Make a list of the free blocks; returns its length. */
static uint32_t link_free(struct span *span, const uint8_t *free_bits) {
    uint32_t size = lu__class_size[span->class_id], listed = 0;
    uintptr_t start = (uintptr_t)lu__span_start(span);
    span->head = LU_LIST_END;
    for (uint32_t i = lu__span_carved(span); i-- > 0;) {
        if (!has_bit(free_bits, i)) continue;
        lu__list_push(span->key, &span->head, start + (size_t)i * size);
        listed++;
    }
    return listed;
}

void lu__plain_make_span_whole(struct heap *heap, struct span *span) {
    uint8_t free_bits[LU_BITS_MOST / 8] = {0};
    uint32_t carved = lu__span_carved(span), off = 0, listed = 0;
    if (carved != 0) mark_list(span, list_of(heap, span), free_bits);
    lu__track_mark(span, free_bits);
    if (span->slices == 1) off = unmark_purged(span, free_bits);
    span->list = &span->head;
    if (lu__track_remake(span, free_bits)) {
        span->head = LU_LIST_END;
        off += lu__track_count(span);
    } else {
        listed = link_free(span, free_bits);
    }
    span->unlisted = (uint16_t)off;
    span->needed = carved - off - listed;
    span->reserve = 0;
    span->last_mark = 0;
    span->swept_to = span->swept = 0;
    __atomic_store_n(&span->bound, lu__span_bound_now(span), __ATOMIC_RELAXED);
    span->state = LU_SPAN_PARTIAL; /* one that has nothing to give sleeps after the next refill */
    heap->span_count[span->class_id]++;
    lu__partial_append(heap, span);
}

/* ---------------------------------------------------------------- a heap */

/* But its lists of blocks, from which spans are still to be made whole. */
void lu__plain_make_whole(struct heap *heap) {
    memset(heap->current, 0, sizeof heap->current);
    memset(heap->partial, 0, sizeof heap->partial);
    memset(heap->partial_last, 0, sizeof heap->partial_last);
    memset(heap->partial_count, 0, sizeof heap->partial_count);
    memset(heap->last_taken, 0, sizeof heap->last_taken);
}

static void begin(struct heap *heap, void *any) {
    if (!lu__user_fork_lock(heap) || heap->kind != LU_HEAP_OF_USER) return;
    heap->torn = 1;
    *(bool *)any = true;
    memset(heap->span_count, 0, sizeof heap->span_count);
    heap->all = heap->sweep_at = heap->walk_at = NULL;
    heap->run_count = heap->walking = 0;
    heap->taken = heap->pending = NULL; /* others push only while they hold its lock */
    heap->sweep_class = LU_CLASSES;
    heap->sweep_left = 0;
    heap->tick_left = 1;
    heap->has_huge = 1; /* there may be one that was not noted yet */
    lu__heap_ops(heap)->make_whole(heap);
}

static void end(struct heap *heap, void *unused) {
    (void)unused;
    if (!heap->torn) return;
    for (unsigned c = 0; c <= LU_CLASSES; c++) {
        heap->list[c] = LU_LIST_END;
        heap->keys[c] = LU_NO_KEY;
    }
    heap->torn = 0;
}

static void take_in(struct span *run) {
    bool small = run->kind == LU_KIND_SMALL;
    struct heap *owner = run->owner;
    if (!small && run->kind != LU_KIND_LARGE) return;
    if (owner == NULL || !owner->torn) return;
    lu__heap_link(owner, run);
    if (small) lu__run_ops(run)->make_span_whole(owner, run);
}

void lu__user_fork_child(void) {
    bool any = false;
    lu__heap_each(begin, &any);
    if (!any) return;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        for (size_t slice = 0; slice < region->top;) {
            struct span *run = lu__region_desc(region, slice);
            slice += run->slices;
            take_in(run);
        }
    }
    lu__heap_each(end, NULL);
}
