/*
 * pt_walk.c - every block of a pt heap in address order.
 *
 *     break region      chunk chunk … top
 *     a mapping         heap header | chunk … | top | fence     of an arena: the newest heap
 *                       heap header | chunk …       | fence     an older one
 *                       lead, chunk                             a chunk with a mapping of its own
 *
 * From the chunks alone one sees which are free (bit P of what follows), but not which of the used
 * ones wait in a tcache or fast bin. So these are marked in their size words first, by a bit that
 * nothing else uses, and the marks are cleared at the end. Nobody else may use the heap meanwhile.
 */
#include "classic/pt.h"

struct walk {
    struct pt *pt;
    lu__block_visit *visit;
    void *arg;
    bool on;
};

/* ---------------------------------------------------------------- marks */

static void mark_list(const struct pt_cached *entry, bool on) {
    while (entry != NULL) {
        struct pt_chunk *chunk = lu__pt_chunk_of(entry);
        size_t head = lu__pt_head(chunk);
        lu__pt_set_head(chunk, on ? head | PT_MARK : head & ~PT_MARK);
        entry = (const struct pt_cached *)lu__pt_link(&entry->next, entry->next);
    }
}

void lu__pt_mark_cached(struct pt *pt, bool on) {
    for (struct pt_thread *thread = pt->threads; thread != NULL; thread = thread->next) {
        for (unsigned i = 0; i < PT_TCACHE_BINS; i++) mark_list(thread->entries[i], on);
    }
    for (struct pt_arena *arena = &pt->main; arena != NULL; arena = lu__pt_next_arena(arena)) {
        for (unsigned i = 0; i < PT_FAST_BINS; i++) mark_list(arena->fast[i], on);
    }
}

/* ---------------------------------------------------------------- heaps */

static bool is_mapping_of_heap(const struct pt *pt, uintptr_t start) {
    const struct lu__area *area = &pt->base.area;
    size_t low = 0, high = area->mapping_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (area->mappings[middle].start < start) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < area->mapping_count && area->mappings[low].start == start &&
           area->mappings[low].bytes == PT_HEAP_BYTES;
}

bool lu__pt_is_heap(struct pt *pt, const struct lu__mapping *mapping) {
    if (mapping->bytes != PT_HEAP_BYTES || mapping->start % PT_HEAP_BYTES != 0) return false;
    for (struct pt_arena *arena = pt->main.next; arena != NULL; arena = arena->next) {
        const struct pt_heap *heap = arena->heap;
        size_t left = pt->base.area.mapping_count; /* a damaged list could be a ring */
        for (; heap != NULL && left > 0; heap = heap->prev, left--) {
            if (!is_mapping_of_heap(pt, (uintptr_t)heap)) break;
            if ((uintptr_t)heap == mapping->start) return true;
        }
    }
    return false;
}

/* ---------------------------------------------------------------- the walk */

static void tell(struct walk *walk, const void *start, size_t bytes, size_t usable,
                 enum lu__block_state state, bool mapped) {
    if (!walk->on || bytes == 0) return;
    struct lu__block block = {.start = (uintptr_t)start,
                              .bytes = bytes,
                              .header = state == LU_BLOCK_META ? 0 : PT_HEADER,
                              .usable = usable,
                              .state = state,
                              .mapped = mapped};
    walk->on = walk->visit(walk->arg, &block);
}

static void walk_chunks(struct walk *walk, const struct pt_chunk *chunk, const struct pt_chunk *end,
                        bool mapped) {
    while (walk->on && chunk < end) {
        size_t size = lu__pt_size(chunk);
        if ((lu__pt_head(chunk) & PT_MARK) != 0) {
            tell(walk, chunk, size, 0, LU_BLOCK_CACHED, mapped);
        } else if (!lu__pt_used_before(chunk, size)) {
            tell(walk, chunk, size, 0, LU_BLOCK_FREE, mapped);
        } else {
            tell(walk, chunk, size, size - LU_CHUNK_OVERHEAD, LU_BLOCK_USED, mapped);
        }
        chunk = lu__pt_at(chunk, size);
    }
}

static void walk_break(struct walk *walk) {
    const struct pt_arena *arena = &walk->pt->main;
    if (arena->top == NULL) return;
    walk_chunks(walk, (const struct pt_chunk *)walk->pt->base.area.base, arena->top, false);
    tell(walk, arena->top, lu__pt_size(arena->top), 0, LU_BLOCK_TOP, false);
}

static void walk_heap(struct walk *walk, const struct pt_heap *heap) {
    const struct pt_chunk *fence = lu__pt_heap_fence(heap), *end = fence;
    tell(walk, heap, sizeof *heap, 0, LU_BLOCK_META, true);
    if (heap->arena->heap == heap) end = heap->arena->top;
    walk_chunks(walk, lu__pt_heap_first(heap), end, true);
    if (end != fence) tell(walk, end, lu__pt_size(end), 0, LU_BLOCK_TOP, true);
    tell(walk, fence, 2 * PT_HEADER, 0, LU_BLOCK_META, true);
}

static void walk_mapping(struct walk *walk, const struct lu__mapping *mapping) {
    const void *start = (const void *)mapping->start;
    if (lu__pt_is_heap(walk->pt, mapping)) {
        walk_heap(walk, start);
        return;
    }
    const struct pt_chunk *chunk = lu__pt_mapped_chunk(mapping);
    if (chunk == NULL) return;
    tell(walk, start, chunk->prev_size, 0, LU_BLOCK_META, true);
    size_t size = lu__pt_size(chunk);
    tell(walk, chunk, size, size - PT_HEADER, LU_BLOCK_USED, true);
}

void lu__pt_walk(struct lu__classic *self, lu__block_visit *visit, void *arg) {
    struct walk walk = {(struct pt *)self, visit, arg, true};
    const struct lu__area *area = &self->area;
    size_t i = 0;
    lu__pt_mark_cached(walk.pt, true);
    while (i < area->mapping_count && area->mappings[i].start < area->base) {
        walk_mapping(&walk, &area->mappings[i++]);
    }
    walk_break(&walk);
    while (i < area->mapping_count) walk_mapping(&walk, &area->mappings[i++]);
    lu__pt_mark_cached(walk.pt, false);
}
