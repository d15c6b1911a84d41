/*
 * user.c - first-class heaps: what they need beyond an ordinary heap.
 *
 * A lu_heap links every run it owns (heap->all, through span->all_next), so that all can be given
 * back at once and every block can be visited. A block is live if it was carved, is on neither its
 * span's list nor the heap's nor in a bitmap (track.c), and touches no purged page. Huge blocks are
 * found one by one in the list of all: while one is visited or ended, no lock is held but the
 * heap's, which the caller holds if it has one.
 */
#include "heap/user.h"

#include <string.h>

#include "heap/harden.h"
#include "heap/track.h"
#include "span/huge.h"

void lu__user_clear(struct heap *heap) {
    struct span *next;
    for (struct span *span = heap->all; span != NULL; span = next) {
        next = span->all_next;
        if (span->hardened) {
            lu__hard_release(span);
            continue;
        }
        if (LU_UNLIKELY(span->track != 0)) lu__track_drop(span);
        __atomic_store_n(&span->owner, NULL, __ATOMIC_RELAXED);
        lu__run_free(span);
    }
    heap->all = heap->sweep_at = NULL;
    /* Who uses the heap after this, which is misuse, finds nothing on the fast path. */
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        heap->list[c] = LU_LIST_END;
        heap->keys[c] = LU_NO_KEY;
    }
    lu__hard_reset(heap);
    struct lu__huge huge;
    uintptr_t from = 0;
    while (heap->has_huge && lu__huge_next(heap, &from, &huge)) (void)lu__huge_free(huge.block);
    heap->has_huge = 0;
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

static bool walk_small(struct span *span, bool (*visit)(void *block, size_t bytes, void *arg),
                       void *arg) {
    uint8_t free_bits[LU_BITS_MOST / 8];
    uint32_t size = lu__class_size[span->class_id], count = lu__span_carved(span);
    uintptr_t start = (uintptr_t)lu__span_start(span);
    memset(free_bits, 0, count / 8 + 1 <= sizeof free_bits ? count / 8 + 1 : sizeof free_bits);
    mark_list(free_bits, span->key, *span->list, start, size);
    lu__track_mark(span, free_bits);
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
                                        : walk_small(span, visit, arg);
            if (!whole) return false;
        } else if (!visit(lu__span_start(span) + lu__large_front(span), lu__large_bytes(span),
                          arg)) {
            return false;
        }
    }
    struct lu__huge huge;
    uintptr_t from = 0;
    while (heap->has_huge && lu__huge_next(heap, &from, &huge)) {
        if (!visit(huge.block, huge.bytes, arg)) return false;
    }
    return true;
}
