/*
 * pt_check.c - every invariant of a pt heap, tested.
 *
 * In an order in which each step may rely on those before, so that damage by an overflow is told
 * and not followed:
 *
 *     1  mappings    heap headers, fences, the headers of mapped chunks
 *     2  chunks      from one to the next they tile break region and heaps; a free one bears its
 *                    size at both ends, and no two lie side by side
 *     3  bins        links are mutual and lead to places where chunks can be; sizes belong into the
 *                    bin; large ones descend, with a ring of sizes; bits of binmap
 *     4  caches      fast bins and tcaches: aligned, sizes, counts, keys
 *     5  all of them every member of a list is toggled PT_MARK: then exactly those chunks bear it,
 *                    all that are free among them, and it is toggled back
 *
 * Nobody else may use the heap meanwhile.
 */
#include "classic/pt.h"

struct check {
    struct pt *pt;
    struct lu__classic_fault *fault;
    size_t chunks, free;   /* met by walking from chunk to chunk       */
    size_t heaps;          /* mappings that are heaps of arenas        */
    size_t binned, cached; /* members of bins; of fast bins and caches */
    size_t marked;
};

static bool wrong(struct check *check, const char *what, const void *where) {
    *check->fault = (struct lu__classic_fault){what, (uintptr_t)where};
    return false;
}

/* ---------------------------------------------------------------- 1, 2: places and chunks */

/* What ends a row of chunks, or the next chunk, knows whether the one before is free. */
static bool check_seam(struct check *check, const struct pt_chunk *chunk,
                       const struct pt_chunk *before) {
    if (lu__pt_used_before(chunk, 0)) return true;
    check->free++;
    if (before == NULL) return wrong(check, "a first chunk with a free one before it", chunk);
    if (chunk->prev_size != lu__pt_size(before)) {
        return wrong(check, "a free chunk whose two sizes differ", before);
    }
    if (!lu__pt_used_before(before, 0)) {
        return wrong(check, "two free chunks side by side", before);
    }
    return true;
}

/* From `chunk` to `end`, which is the top or a fence. */
static bool check_row(struct check *check, const struct pt_chunk *chunk, const struct pt_chunk *end,
                      size_t bit) {
    const struct pt_chunk *before = NULL;
    while (chunk < end) {
        size_t head = lu__pt_head(chunk), size = head & ~PT_BITS;
        if (size < PT_LEAST || size > (uintptr_t)end - (uintptr_t)chunk) {
            return wrong(check, "a chunk size that cannot be", chunk);
        }
        if ((head & (PT_M | PT_A | PT_MARK)) != bit) {
            return wrong(check, "bits of a chunk size that cannot be", chunk);
        }
        if (!check_seam(check, chunk, before)) return false;
        check->chunks++;
        before = chunk;
        chunk = lu__pt_at(chunk, size);
    }
    return check_seam(check, end, before);
}

static bool check_break(struct check *check) {
    const struct lu__area *area = &check->pt->base.area;
    const struct pt_chunk *first = (const struct pt_chunk *)area->base, *top = check->pt->main.top;
    size_t broken = area->broken;
    if (top == NULL) return broken == 0 || wrong(check, "a break without top", first);
    if (top < first || (uintptr_t)top - area->base > broken ||
        lu__pt_head(top) != ((area->base + broken - (uintptr_t)top) | PT_P)) {
        return wrong(check, "corrupted top size", top);
    }
    return check_row(check, first, top, 0);
}

static bool check_heap(struct check *check, const struct pt_heap *heap) {
    const struct pt_chunk *fence = lu__pt_heap_fence(heap), *end = fence;
    const struct pt_arena *arena = heap->arena;
    struct pt_arena *known = check->pt->main.next;
    while (known != NULL && known != arena) known = known->next;
    if (known == NULL) return wrong(check, "a heap of no arena", heap);
    if ((lu__pt_head(fence) & ~PT_P) != (PT_HEADER | PT_A) ||
        lu__pt_head(lu__pt_at(fence, PT_HEADER)) != (PT_P | PT_A)) {
        return wrong(check, "a damaged fence", fence);
    }
    if (arena->heap == heap) {
        end = arena->top;
        if (lu__pt_heap_of(end) != heap ||
            lu__pt_head(end) != (((uintptr_t)fence - (uintptr_t)end) | PT_P | PT_A)) {
            return wrong(check, "corrupted top size", end);
        }
    }
    check->heaps++;
    return check_row(check, lu__pt_heap_first(heap), end, PT_A);
}

static bool check_mapping(struct check *check, const struct lu__mapping *mapping) {
    const void *start = (const void *)mapping->start;
    if (lu__pt_is_heap(check->pt, mapping)) return check_heap(check, start);
    if (lu__pt_mapped_chunk(mapping) != NULL) return true;
    return wrong(check, "a mapped chunk whose header is damaged", start);
}

static bool check_places(struct check *check) {
    const struct lu__area *area = &check->pt->base.area;
    size_t heaps = 0;
    for (size_t i = 0; i < area->mapping_count; i++) {
        if (!check_mapping(check, &area->mappings[i])) return false;
    }
    for (struct pt_arena *arena = check->pt->main.next; arena != NULL; arena = arena->next) {
        for (struct pt_heap *heap = arena->heap; heap != NULL; heap = heap->prev) {
            struct lu__mapping mapping = {(uintptr_t)heap, PT_HEAP_BYTES};
            if (!lu__pt_is_heap(check->pt, &mapping) || ++heaps > check->heaps) {
                return wrong(check, "a heap that is not mapped", heap);
            }
        }
    }
    return check_break(check);
}

/* True if a chunk, not the top, can begin there; of `arena`, or if that is NULL of any. */
static bool is_place(struct check *check, const struct pt_arena *arena, const void *at) {
    uintptr_t place = (uintptr_t)at, base = check->pt->base.area.base;
    if (place % LU_CHUNK_ALIGN != 0) return false;
    if (place >= base && place < (uintptr_t)check->pt->main.top) {
        return arena == NULL || arena->is_main;
    }
    const struct pt_heap *heap = lu__pt_heap_of(at);
    struct lu__mapping mapping = {(uintptr_t)heap, PT_HEAP_BYTES};
    if (!lu__pt_is_heap(check->pt, &mapping)) return false;
    return (arena == NULL || heap->arena == arena) && place >= (uintptr_t)lu__pt_heap_first(heap) &&
           place <= (uintptr_t)lu__pt_heap_fence(heap) - PT_LEAST;
}

/* ---------------------------------------------------------------- 3: bins */

static bool check_free_chunk(struct check *check, const struct pt_arena *arena,
                             const struct pt_chunk *chunk, unsigned bin) {
    size_t size = lu__pt_size(chunk);
    if (!lu__pt_is_sane(arena, chunk, size) || lu__pt_used_before(chunk, size)) {
        return wrong(check, "a chunk in a bin that is not free", chunk);
    }
    if (bin != PT_UNSORTED && lu__pt_bin_for(size) != bin) {
        return wrong(check, "a chunk in the wrong bin", chunk);
    }
    return true;
}

/* The ring of sizes of a large bin whose chunks are sound. */
static bool check_sizes(struct check *check, const struct pt_chunk *bin) {
    const struct pt_chunk *last = NULL; /* the first chunk of the size before */
    for (const struct pt_chunk *chunk = bin->fd; chunk != bin; chunk = chunk->fd) {
        if (last != NULL && lu__pt_size(chunk) == lu__pt_size(last)) {
            if (chunk->fd_size != NULL) {
                return wrong(check, "a second of a size in the list of sizes", chunk);
            }
            continue;
        }
        if (last != NULL && lu__pt_size(chunk) > lu__pt_size(last)) {
            return wrong(check, "a large bin that does not descend", chunk);
        }
        if (last != NULL && (last->fd_size != chunk || chunk->bk_size != last)) {
            return wrong(check, "corrupted list of sizes", chunk);
        }
        last = chunk;
    }
    if (last != NULL && (last->fd_size != bin->fd || bin->fd->bk_size != last)) {
        return wrong(check, "corrupted list of sizes", last);
    }
    return true;
}

static bool check_bin(struct check *check, const struct pt_arena *arena, unsigned index) {
    const struct pt_chunk *bin = &arena->bins[index], *before = bin;
    for (const struct pt_chunk *chunk = bin->fd; chunk != bin; chunk = chunk->fd) {
        if (!is_place(check, arena, chunk)) {
            return wrong(check, "a link of a bin that leads nowhere", before);
        }
        if (chunk->bk != before) return wrong(check, "corrupted double-linked list", chunk);
        if (!check_free_chunk(check, arena, chunk, index)) return false;
        if (++check->binned > check->free) {
            return wrong(check, "more chunks in bins than are free", chunk);
        }
        before = chunk;
    }
    if (bin->bk != before) return wrong(check, "corrupted double-linked list", before);
    bool bit = (arena->binmap[index / 64] >> index % 64 & 1) != 0;
    if (index != PT_UNSORTED && before != bin && !bit) {
        return wrong(check, "a bin that the binmap takes for empty", before);
    }
    return index < PT_LARGE_FIRST || check_sizes(check, bin);
}

/* ---------------------------------------------------------------- 4: caches */

/* A list of cached chunks of `size`: `*count` of them. */
static bool check_cached(struct check *check, const struct pt_arena *arena,
                         const struct pt_cached *entry, size_t size, size_t *count) {
    for (*count = 0; entry != NULL; ++*count) {
        const struct pt_chunk *chunk = lu__pt_chunk_of(entry);
        if (!is_place(check, arena, chunk)) {
            return wrong(check, "a link of a cache that leads nowhere", chunk);
        }
        if (lu__pt_size(chunk) != size)
            return wrong(check, "a cached chunk of a wrong size", chunk);
        if (arena == NULL && entry->key != check->pt->key) {
            return wrong(check, "a cached chunk whose key is damaged", chunk);
        }
        if (++check->cached > check->chunks) return wrong(check, "a cache without end", chunk);
        entry = (const struct pt_cached *)lu__pt_link(&entry->next, entry->next);
    }
    return true;
}

static bool check_caches(struct check *check) {
    struct pt *pt = check->pt;
    size_t count;
    for (struct pt_arena *arena = &pt->main; arena != NULL; arena = arena->next) {
        for (size_t i = 0; i < PT_FAST_BINS; i++) {
            size_t size = PT_LEAST + i * LU_CHUNK_ALIGN;
            if (!check_cached(check, arena, arena->fast[i], size, &count)) return false;
            if (count != 0 && !arena->has_fast) {
                return wrong(check, "a fast bin that is forgotten", arena->fast[i]);
            }
        }
    }
    for (struct pt_thread *thread = pt->threads; thread != NULL; thread = thread->next) {
        for (size_t i = 0; i < PT_TCACHE_BINS; i++) {
            size_t size = PT_LEAST + i * LU_CHUNK_ALIGN;
            if (!check_cached(check, NULL, thread->entries[i], size, &count)) return false;
            if (count != thread->counts[i] || count > PT_TCACHE_FULL) {
                return wrong(check, "a tcache with a wrong count", thread->entries[i]);
            }
        }
    }
    return true;
}

/* ---------------------------------------------------------------- 5: lists against chunks */

static void toggle(struct pt_chunk *chunk) {
    lu__pt_set_head(chunk, lu__pt_head(chunk) ^ PT_MARK);
}

static void toggle_list(struct pt_cached *entry) {
    while (entry != NULL) {
        toggle(lu__pt_chunk_of(entry));
        entry = (struct pt_cached *)lu__pt_link(&entry->next, entry->next);
    }
}

/* All lists are sound. */
static void toggle_all(struct pt *pt) {
    for (struct pt_arena *arena = &pt->main; arena != NULL; arena = arena->next) {
        for (unsigned i = PT_UNSORTED; i < PT_BINS; i++) {
            struct pt_chunk *bin = &arena->bins[i];
            for (struct pt_chunk *chunk = bin->fd; chunk != bin; chunk = chunk->fd) toggle(chunk);
        }
        for (unsigned i = 0; i < PT_FAST_BINS; i++) toggle_list(arena->fast[i]);
    }
    for (struct pt_thread *thread = pt->threads; thread != NULL; thread = thread->next) {
        for (unsigned i = 0; i < PT_TCACHE_BINS; i++) toggle_list(thread->entries[i]);
    }
}

static bool count_marks(struct check *check, const struct pt_chunk *chunk,
                        const struct pt_chunk *end) {
    for (size_t size; chunk < end; chunk = lu__pt_at(chunk, size)) {
        bool marked = (lu__pt_head(chunk) & PT_MARK) != 0;
        size = lu__pt_size(chunk);
        check->marked += marked;
        if (!marked && !lu__pt_used_before(chunk, size)) {
            return wrong(check, "a free chunk that is in no bin", chunk);
        }
    }
    return true;
}

static bool check_marks(struct check *check) {
    struct pt *pt = check->pt;
    const struct pt_chunk *top = pt->main.top;
    if (top != NULL && !count_marks(check, (const struct pt_chunk *)pt->base.area.base, top)) {
        return false;
    }
    for (struct pt_arena *arena = pt->main.next; arena != NULL; arena = arena->next) {
        const struct pt_chunk *end = arena->top;
        for (struct pt_heap *heap = arena->heap; heap != NULL; heap = heap->prev) {
            if (!count_marks(check, lu__pt_heap_first(heap), end)) return false;
            if (heap->prev != NULL) end = lu__pt_heap_fence(heap->prev);
        }
    }
    if (check->marked != check->binned + check->cached) {
        return wrong(check, "a chunk in two lists, or a list with what is no chunk", pt);
    }
    return true;
}

/* ---------------------------------------------------------------- all */

bool lu__pt_validate(struct lu__classic *self, struct lu__classic_fault *fault) {
    struct pt *pt = (struct pt *)self;
    struct check check = {.pt = pt, .fault = fault};
    if (!check_places(&check)) return false;
    for (struct pt_arena *arena = &pt->main; arena != NULL; arena = arena->next) {
        for (unsigned i = PT_UNSORTED; i < PT_BINS; i++) {
            if (!check_bin(&check, arena, i)) return false;
        }
    }
    if (!check_caches(&check)) return false;
    toggle_all(pt);
    bool sound = check_marks(&check);
    toggle_all(pt);
    return sound;
}
