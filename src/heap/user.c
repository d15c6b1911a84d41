/*
 * user.c - first-class heaps: what they need beyond an ordinary heap.
 *
 * A lu_heap links every run it owns (heap->all, through span->all_next), so that all can be given
 * back at once and every block can be visited. A block is live if it was carved, is on neither its
 * span's list nor the heap's, and touches no purged page. Huge blocks are found through their
 * table. The caller holds the heap's lock if it has one.
 */
#include "heap/user.h"

#include <string.h>

#include "heap/harden.h"
#include "span/huge.h"

#define BITS_MOST (LU_SLICE / 8) /* blocks in a span at most */

/* Huge blocks by address, in rounds, as their table is locked while it is read. */
struct huge_walk {
    struct lu__huge blocks[64]; /* the lowest behind `after`, in order */
    size_t count;
    uintptr_t after;
};

static void collect_huge(const struct lu__huge *huge, void *arg) {
    struct huge_walk *walk = arg;
    if ((uintptr_t)huge->block <= walk->after) return;
    size_t at = walk->count;
    while (at > 0 && walk->blocks[at - 1].block > huge->block) at--;
    if (at == LU_COUNT_OF(walk->blocks)) return;
    size_t behind = LU_MIN(walk->count, LU_COUNT_OF(walk->blocks) - 1) - at;
    memmove(&walk->blocks[at + 1], &walk->blocks[at], behind * sizeof *huge);
    walk->blocks[at] = *huge;
    walk->count = LU_MIN(walk->count + 1, LU_COUNT_OF(walk->blocks));
}

/* True while there are more, in walk->blocks. */
static bool next_huge(const struct heap *heap, struct huge_walk *walk) {
    if (walk->count != 0) walk->after = (uintptr_t)walk->blocks[walk->count - 1].block;
    walk->count = 0;
    lu__huge_each(heap, collect_huge, walk);
    return walk->count != 0;
}

void lu__user_clear(struct heap *heap) {
    struct span *next;
    for (struct span *span = heap->all; span != NULL; span = next) {
        next = span->all_next;
        if (span->hardened) {
            lu__hard_release(span);
            continue;
        }
        __atomic_store_n(&span->owner, NULL, __ATOMIC_RELAXED);
        lu__run_free(span);
    }
    heap->all = heap->sweep_at = NULL;
    lu__hard_reset(heap);
    struct huge_walk walk = {.count = 0, .after = 0};
    while (next_huge(heap, &walk)) {
        for (size_t i = 0; i < walk.count; i++) (void)lu__huge_free(walk.blocks[i].block);
    }
}

static void mark_list(uint8_t *free_bits, uintptr_t key, uintptr_t list, uintptr_t start,
                      uint32_t size) {
    for (uintptr_t b = list; b != LU_LIST_END; b = lu__list_step(key, b)) {
        size_t i = (b - start) / size;
        free_bits[i / 8] |= (uint8_t)(1u << (i % 8));
    }
}

static bool walk_hardened(struct span *span, bool (*visit)(void *block, size_t bytes, void *arg),
                          void *arg) {
    uint32_t size = lu__class_size[span->class_id];
    uintptr_t at = (uintptr_t)lu__span_start(span), end = at + span->limit, block;
    for (; at < end; at += size) {
        if (lu__hard_find(span, (void *)at, &block) != HARD_LIVE) continue;
        if (!visit((void *)at, lu__hard_usable(span, at), arg)) return false;
    }
    return true;
}

static bool walk_small(struct heap *heap, struct span *span,
                       bool (*visit)(void *block, size_t bytes, void *arg), void *arg) {
    uint8_t free_bits[BITS_MOST / 8];
    uint32_t size = lu__class_size[span->class_id], count = lu__span_carved(span);
    uintptr_t start = (uintptr_t)lu__span_start(span);
    memset(free_bits, 0, count / 8 + 1 <= sizeof free_bits ? count / 8 + 1 : sizeof free_bits);
    mark_list(free_bits, heap->key, *span->list, start, size);
    for (uint32_t i = 0; i < count; i++) {
        if (free_bits[i / 8] & (1u << (i % 8))) continue;
        if (span->slices == 1 && (lu__block_pages(i * size, size) & span->purged) != 0) continue;
        if (!visit((void *)(start + (size_t)i * size), size, arg)) return false;
    }
    return true;
}

bool lu__user_walk(struct heap *heap, bool (*visit)(void *block, size_t bytes, void *arg),
                   void *arg) {
    for (struct span *span = heap->all; span != NULL; span = span->all_next) {
        if (span->kind == LU_KIND_SMALL) {
            bool whole = span->hardened ? walk_hardened(span, visit, arg)
                                        : walk_small(heap, span, visit, arg);
            if (!whole) return false;
        } else if (!visit(lu__span_start(span) + lu__large_front(span), lu__large_bytes(span),
                          arg)) {
            return false;
        }
    }
    struct huge_walk walk = {.count = 0, .after = 0};
    while (next_huge(heap, &walk)) {
        for (size_t i = 0; i < walk.count; i++) {
            if (!visit(walk.blocks[i].block, walk.blocks[i].bytes, arg)) return false;
        }
    }
    return true;
}
