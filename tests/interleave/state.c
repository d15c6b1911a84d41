/*
 * state.c - the invariants of spans and heaps, checked from outside while no thread runs.
 *
 * A carved block of a span is in one place:
 *
 *     live | on *span->list | posted (span->remote) | collected (some heap->ring) | off (purged)
 *
 * so the lists are walked and each block marked, which finds a block in two lists, a list that
 * leaves its span or does not end, and counts that are wrong. A span with posted blocks is on its
 * owner's pending stack once, and no other is; a partial span is in its heap's list once.
 */
#include "state.h"

#include <string.h>

#include "explore.h"
#include "heap/heap.h"

#define LISTED_MOST 8192u

struct tally {
    const struct span *span;
    uint8_t seen[LISTED_MOST];
    uint32_t listed, posted, collected, rings;
};

/* Mark the blocks of a list; returns how many. */
static uint32_t mark(struct tally *tally, uintptr_t block) {
    uintptr_t start = (uintptr_t)lu__span_start(tally->span);
    uint32_t size = lu__class_size[tally->span->class_id], count = 0;
    while (block != LU_LIST_END) {
        uintptr_t at = block - start;
        if (at >= tally->span->limit || at % size != 0) explore_fail("a list leaves its span");
        if (tally->seen[at / size]++ != 0) explore_fail("block %zu is free twice", at / size);
        block = lu__link_next(tally->span->key, block);
        if (block == 0) explore_fail("a damaged link behind block %zu", at / size);
        count++;
    }
    return count;
}

static void mark_ring(struct heap *heap, void *arg) {
    struct tally *tally = arg;
    for (size_t i = 0; i < LU_RING; i++) {
        const struct remote_batch *batch = &heap->ring[i];
        if (batch->span != tally->span) continue;
        uint32_t count = mark(tally, batch->first);
        EXPLORE_CHECK(count == batch->capacity - batch->room);
        tally->collected += count;
        tally->rings++;
    }
}

static unsigned times_in_list(const struct span *list, const struct span *span) {
    unsigned times = 0, steps = 0;
    for (; list != NULL; list = list->next) {
        times += list == span;
        if (++steps > 1000) explore_fail("a partial list has no end");
    }
    return times;
}

static unsigned times_on(const struct span *stack, const struct span *span) {
    unsigned times = 0, steps = 0;
    for (const struct span *at = stack; at != NULL; at = at->pending_next) {
        times += at == span;
        if (++steps > 1000) explore_fail("a pending stack has no end");
    }
    return times;
}

static unsigned times_pending(const struct span *span) {
    return times_on(span->owner->pending, span) + times_on(span->owner->taken, span);
}

/* In the child of fork a thread may be missing that had still to take its ring off the count. */
static bool some_are_gone;

/* Live blocks of the span. */
static size_t check_span(const struct span *span) {
    static struct tally tally;
    struct heap *heap = span->owner;
    unsigned c = span->class_id;
    memset(&tally, 0, sizeof tally);
    tally.span = span;
    tally.listed = mark(&tally, *span->list);
    if (span->remote != 0) tally.posted = mark(&tally, lu__remote_first(span));
    EXPLORE_CHECK(tally.posted == lu__remote_count(span));
    EXPLORE_CHECK(times_pending(span) == (span->remote != 0));
    lu__heap_each(mark_ring, &tally);
    EXPLORE_CHECK(span->rings == tally.rings || (some_are_gone && span->rings > tally.rings));
    uint32_t taken = lu__span_carved(span) - span->unlisted - tally.listed;
    EXPLORE_CHECK(taken <= lu__span_carved(span));
    if (span->state == LU_SPAN_CURRENT) {
        EXPLORE_CHECK(heap->current[c] == span && span->list == &heap->list[c]);
    } else {
        EXPLORE_CHECK(span->needed + span->reserve == taken);
        EXPLORE_CHECK(span->needed != 0 || some_are_gone);
    }
    EXPLORE_CHECK(times_in_list(heap->partial[c], span) == (span->state == LU_SPAN_PARTIAL));
    return taken - tally.posted - tally.collected;
}

static size_t check_region(const struct region *region) {
    size_t live = 0;
    for (size_t slice = 0; slice < region->top;) {
        const struct span *run = lu__region_desc(region, slice);
        EXPLORE_CHECK(run->slices > 0);
        if (run->kind == LU_KIND_SMALL) live += check_span(run);
        live += run->kind == LU_KIND_LARGE;
        EXPLORE_CHECK(run->kind != LU_KIND_PURGING && run->kind != LU_KIND_NONE);
        slice += run->slices;
    }
    return live;
}

/* Every pending span has posted blocks. */
static void check_heap(struct heap *heap, void *arg) {
    (void)arg;
    for (const struct span *span = heap->pending; span != NULL; span = span->pending_next) {
        EXPLORE_CHECK(span->owner == heap && span->remote != 0);
    }
    EXPLORE_CHECK(!heap->busy || heap->state == LU_HEAP_ORPHAN); /* of a parent's thread */
}

static size_t count_all(void) {
    size_t found = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) found += check_region(&lu__regions[i]);
    lu__heap_each(check_heap, NULL);
    return found;
}

size_t state_count_forked(void) {
    some_are_gone = true;
    size_t found = count_all();
    some_are_gone = false;
    return found;
}

void state_check(size_t live) {
    size_t found = count_all();
    if (found != live) explore_fail("%zu blocks are live, expected %zu", found, live);
}
