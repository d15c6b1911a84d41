/*
 * verify.c - is this block free? The slow answer, for blocks whose first word looks like a link.
 *
 * free and malloc_usable_size suspect a double free when the block's first word decodes as a link
 * of its span. A word that the program wrote by itself does so with probability 2^-48, but a
 * program may also have copied it from a free block, or forged it. So the suspicion is settled by
 * searching where a free block of the span can be:
 *
 *     bitmap             of a tracked span (track.c)
 *     *span->list        of the span, or of the heap while the span is current
 *     span->remote       posted by other threads and not taken in yet
 *     heap->ring[]       collected by some thread and not posted yet: one slot of each heap. If
 *                        span->rings says that no other than one's own is used, no other is looked
 *                        at, so what there is does not count
 *
 * The lists may belong to other threads and change while they are read. Every link is checked
 * before it is followed, the memory stays readable meanwhile (lu__look_begin), and a walk ends
 * after as many steps as the span has blocks. A block that is found is free for certain (a block
 * popped meanwhile has a cleared word and ends the walk); one that moves between lists at this
 * moment may be missed.
 *
 * A long search that finds nothing has lists made shorter, so that there is no second one. This
 * holds at once for spans of one's own and of a lu_heap. Another thread's list stays as it is until
 * that thread refills it or looks at the clock.
 */
#include "heap/track.h"

#define NO_TSAN __attribute__((no_sanitize("thread")))

uint64_t lu__link_steps;

struct search {
    const struct span *span;
    uintptr_t block;
    const struct heap *looked; /* its ring was searched already */
    uint32_t steps;            /* entries of lists looked at */
    uint32_t heaps;            /* and heaps                  */
    bool found;
};

/* Look for the block on the list that begins with `list`. */
NO_TSAN static void search_list(struct search *search, uintptr_t list) {
    const struct span *span = search->span;
    uintptr_t start = (uintptr_t)lu__span_start(span);
    uint32_t size = lu__class_size[span->class_id];
    uint32_t left = lu__span_carved(span);
    while (list != LU_LIST_END && left-- > 0) {
        search->steps++;
        if (list == search->block) {
            search->found = true;
            return;
        }
        if (list - start >= span->limit || (list - start) % size != 0) return;
        list = lu__link_next(span->key, list);
        if (list == 0) return;
    }
}

NO_TSAN static void search_ring(struct heap *heap, void *arg) {
    struct search *search = arg;
    const struct remote_batch *batch = lu__remote_slot(heap, search->span);
    if (search->found || heap == search->looked) return;
    search->heaps++;
    if (batch->span == search->span) search_list(search, batch->first);
}

NO_TSAN static void search_rings(struct search *search) {
    struct heap *own = lu__thread_heap();
    uint32_t others = __atomic_load_n(&search->span->rings, __ATOMIC_RELAXED);
    if (others == 0) return;
    if (own != NULL) {
        others -= lu__remote_slot(own, search->span)->span == search->span;
        search_ring(own, search);
        search->looked = own;
    }
    if (others != 0 && !search->found) lu__heap_each(search_ring, search);
}

NO_TSAN static bool is_free(struct span *span, uintptr_t block) {
    if (__atomic_load_n(&span->kind, __ATOMIC_RELAXED) != LU_KIND_SMALL) return true; /* by now */
    if (lu__link_next(span->key, block) == 0) return false;
    if (lu__track_has(span, block)) return true;
    struct search search = {.span = span, .block = block};
    const uintptr_t *list = span->list;
    if (list != NULL) search_list(&search, *list);
    uintptr_t posted = search.found ? 0 : lu__remote_first(span);
    if (posted != 0) search_list(&search, posted);
    if (!search.found) search_rings(&search);
    uint64_t steps = (uint64_t)search.steps + search.heaps;
    (void)__atomic_fetch_add(&lu__link_steps, steps, __ATOMIC_RELAXED);
    if (!search.found) lu__track_alarm(span, search.steps);
    return search.found;
}

bool lu__link_is_free(struct span *span, uintptr_t block) {
    lu__look_begin();
    bool found = is_free(span, block);
    lu__look_end();
    return found;
}
