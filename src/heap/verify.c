/*
 * verify.c - is this block free? The slow answer, for blocks whose first word looks like a link.
 *
 * free and malloc_usable_size suspect a double free when the block's first word decodes as a link.
 * A word that the program wrote by itself does so with probability 2^-48, but a program may also
 * have copied it, with other bytes that it never wrote, from where a free block once began. So the
 * suspicion is settled by searching the lists that a free block of the span can be on:
 *
 *     *span->list        of the span, or of the heap while the span is current
 *     span->remote       posted by other threads and not taken in yet
 *     heap->ring[]       collected by some thread and not posted yet
 *
 * The lists may belong to other threads and change while they are read. Every link is checked
 * before it is followed, memory of a region stays readable, and a walk ends after as many steps as
 * the span has blocks. A block that is found is free for certain (a block popped meanwhile has a
 * cleared word and ends the walk); one that moves between lists at this moment may be missed.
 */
#include "heap/heap.h"

#define NO_TSAN __attribute__((no_sanitize("thread")))

/* True if `block` is on the list that begins with `list`. */
NO_TSAN static bool on_list(uintptr_t list, const struct span *span, uintptr_t block) {
    uintptr_t start = (uintptr_t)lu__span_start(span);
    uint32_t size = lu__class_size[span->class_id];
    uint32_t left = lu__span_carved(span);
    while (list != LU_LIST_END && left-- > 0) {
        if (list == block) return true;
        if (list - start >= span->limit || (list - start) % size != 0) return false;
        list = lu__link_next(span->key, list);
        if (list == 0) return false;
    }
    return false;
}

struct search {
    const struct span *span;
    uintptr_t block;
    bool found;
};

NO_TSAN static void search_ring(struct heap *heap, void *arg) {
    struct search *search = arg;
    for (size_t i = 0; i < LU_RING && !search->found; i++) {
        const struct remote_batch *batch = &heap->ring[i];
        if (batch->span == search->span) {
            search->found = on_list(batch->first, search->span, search->block);
        }
    }
}

NO_TSAN bool lu__link_is_free(const struct span *span, uintptr_t block) {
    if (lu__link_next(span->key, block) == 0) return false;
    const uintptr_t *list = span->list;
    if (list != NULL && on_list(*list, span, block)) return true;
    uintptr_t posted = lu__remote_first(span);
    if (posted != 0 && on_list(posted, span, block)) return true;
    struct search search = {span, block, false};
    lu__heap_each(search_ring, &search);
    return search.found;
}
