/*
 * pt_free.c - chunks that come back to their arena: checks, fast bins, merging; and resizing where
 * they are.
 *
 * Source: Knuth's boundary tags (The Art of Computer Programming vol. 1, 1968, 2.5); Doug Lea's
 * malloc 2.7 (2000) for fast bins and their consolidation; the checks of glibc since 2.3.4.
 *
 *     before:   | used | free |  this   | free | used |        two neighbours looked at,
 *     after:    | used |         free          | used |        whatever the size of the heap
 *
 * A chunk of up to 128 bytes goes onto its fast bin and goes on looking used: no neighbour is
 * touched. They are merged all at once (lu__pt_consolidate) when a large chunk is wanted, when
 * nothing else is left, or when a free makes a chunk of 64 KiB or more. A larger chunk is merged
 * at once with free neighbours and is then the newest of the unsorted bin, or part of the top.
 *
 * What is noticed before anything is changed: a pointer or size that cannot be; a chunk that is
 * the newest of its fast bin, is the top, lies behind it, or is free by the word after it (double
 * frees); a following size, or one before, that does not agree. Damaged chunks are left alone, as
 * memory that is lost, if the handler of misuse returns.
 *
 * All under the arena's lock.
 */
#include "classic/pt.h"

static bool damage(struct pt *pt, const char *what, const struct pt_chunk *chunk) {
    lu__classic_misuse(&pt->base, what, lu__pt_payload(chunk));
    return false;
}

static bool is_free(const struct pt_arena *arena, const struct pt_chunk *chunk, size_t size) {
    return chunk != arena->top && !lu__pt_used_before(chunk, size);
}

/* ---------------------------------------------------------------- merging */

/* Free neighbours and this chunk become one, in the unsorted bin or as the top. The size, or 0:
 * damage. */
static size_t merge(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk, size_t size) {
    struct pt_chunk *next = lu__pt_at(chunk, size);
    if (!lu__pt_used_before(chunk, 0)) {
        size_t before = chunk->prev_size;
        struct pt_chunk *previous = lu__pt_at(chunk, (size_t)0 - before);
        if (before > (uintptr_t)chunk - pt->base.area.base || lu__pt_size(previous) != before) {
            damage(pt, "corrupted size vs. prev_size while consolidating", chunk);
            return 0;
        }
        if (!lu__pt_unlink(pt, arena, previous)) return 0;
        chunk = previous;
        size += before;
        LU_COUNT(&pt->base, merges, 1);
    }
    if (next == arena->top) {
        size += lu__pt_size(next);
        arena->top = chunk;
        lu__pt_set_head(chunk, size | PT_P | lu__pt_bit_of(arena));
        LU_COUNT(&pt->base, merges, 1);
        return size;
    }
    size_t after = lu__pt_size(next);
    if (is_free(arena, next, after)) {
        if (!lu__pt_unlink(pt, arena, next)) return 0;
        size += after;
        LU_COUNT(&pt->base, merges, 1);
    }
    return lu__pt_push_unsorted(pt, arena, chunk, size) ? size : 0;
}

static bool consolidate_bin(struct pt *pt, struct pt_arena *arena, size_t bin) {
    size_t size = PT_LEAST + bin * LU_CHUNK_ALIGN;
    while (arena->fast[bin] != NULL) {
        struct pt_cached *entry = arena->fast[bin];
        if ((uintptr_t)entry % LU_CHUNK_ALIGN != 0) {
            arena->fast[bin] = NULL;
            return damage(pt, "unaligned fastbin chunk", lu__pt_chunk_of(entry));
        }
        struct pt_chunk *chunk = lu__pt_chunk_of(entry);
        if (lu__pt_size(chunk) != size) {
            arena->fast[bin] = NULL;
            return damage(pt, "invalid chunk size (fast)", chunk);
        }
        arena->fast[bin] = (struct pt_cached *)lu__pt_link(&entry->next, entry->next);
        if (merge(pt, arena, chunk, size) == 0) return false;
    }
    return true;
}

bool lu__pt_consolidate(struct pt *pt, struct pt_arena *arena) {
    bool sound = true;
    arena->has_fast = false;
    for (size_t bin = 0; bin < PT_FAST_BINS; bin++) {
        if (!consolidate_bin(pt, arena, bin)) sound = false;
    }
    return sound;
}

/* ---------------------------------------------------------------- free */

/* Why this chunk cannot be freed; NULL: it can. */
static const char *fault_of(const struct pt *pt, const struct pt_arena *arena,
                            const struct pt_chunk *chunk, size_t size) {
    if (chunk == arena->top) return "double free or corruption (top)";
    if (arena->is_main) {
        if ((uintptr_t)chunk < pt->base.area.base) return "free(): invalid pointer";
        if (chunk > arena->top) return "double free or corruption (out)";
    }
    if (!lu__pt_is_sane(arena, chunk, size)) return "free(): invalid size";
    const struct pt_chunk *next = lu__pt_at(chunk, size);
    if (!lu__pt_used_before(next, 0)) return "double free or corruption (!prev)";
    /* Before the fence is the end of what is sane. */
    if (!arena->is_main && next == lu__pt_heap_fence(lu__pt_heap_of(chunk))) return NULL;
    return lu__pt_is_sane(arena, next, lu__pt_size(next)) ? NULL : "free(): invalid next size";
}

void lu__pt_arena_free(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk) {
    size_t size = lu__pt_size(chunk);
    const char *fault = fault_of(pt, arena, chunk, size);
    if (fault == NULL && size <= PT_FAST_MOST) {
        if (arena->fast[(size - PT_LEAST) / LU_CHUNK_ALIGN] != lu__pt_payload(chunk)) {
            lu__pt_push_fast(arena, chunk, size);
            return;
        }
        fault = "double free or corruption (fasttop)";
    }
    if (fault != NULL) {
        damage(pt, fault, chunk);
        return;
    }
    size = merge(pt, arena, chunk, size);
    if (size < PT_TIDY_BYTES) return;
    if (arena->has_fast && !lu__pt_consolidate(pt, arena)) return;
    size_t threshold = __atomic_load_n(&pt->trim_threshold, __ATOMIC_RELAXED);
    if (!arena->is_main || lu__pt_top_size(arena) >= threshold) {
        lu__pt_give_back_top(pt, arena, lu__pt_top_pad(pt));
    }
}

/* ---------------------------------------------------------------- resizing in place */

void lu__pt_shrink(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk, size_t bytes) {
    size_t head = lu__pt_head(chunk), size = head & ~PT_BITS;
    if (size - bytes < PT_LEAST) return;
    struct pt_chunk *rest = lu__pt_at(chunk, bytes);
    lu__pt_set_head(rest, (size - bytes) | PT_P | lu__pt_bit_of(arena));
    lu__pt_set_head(chunk, bytes | (head & PT_BITS));
    LU_COUNT(&pt->base, splits, 1);
    lu__pt_arena_free(pt, arena, rest);
}

/* The chunk becomes larger by pushing the top up. */
static void extend_into_top(struct pt_arena *arena, struct pt_chunk *chunk, size_t bytes) {
    size_t head = lu__pt_head(chunk), both = (head & ~PT_BITS) + lu__pt_top_size(arena);
    arena->top = lu__pt_at(chunk, bytes);
    lu__pt_set_head(arena->top, (both - bytes) | PT_P | lu__pt_bit_of(arena));
    lu__pt_set_head(chunk, bytes | (head & PT_BITS));
    if (!arena->is_main) {
        struct pt_heap *heap = arena->heap;
        heap->high = LU_MAX(heap->high, (uintptr_t)arena->top + PT_LEAST);
    }
}

bool lu__pt_extend(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk, size_t bytes) {
    size_t head = lu__pt_head(chunk), size = head & ~PT_BITS;
    const char *fault = fault_of(pt, arena, chunk, size);
    if (fault != NULL) return damage(pt, fault, chunk);
    if (size >= bytes) return true;
    struct pt_chunk *next = lu__pt_at(chunk, size);
    size_t after = lu__pt_size(next);
    if (next == arena->top) {
        if (size + after < bytes + PT_LEAST) return false;
        extend_into_top(arena, chunk, bytes);
    } else {
        if (size + after < bytes || !is_free(arena, next, after)) return false;
        if (!lu__pt_unlink(pt, arena, next)) return false;
        lu__pt_set_head(chunk, (size + after) | (head & PT_BITS));
        lu__pt_set_used_before(chunk, size + after);
    }
    LU_COUNT(&pt->base, merges, 1);
    return true;
}

/* ---------------------------------------------------------------- trim */

void lu__pt_arena_trim(struct pt *pt, struct pt_arena *arena) {
    if (!lu__pt_consolidate(pt, arena)) return;
    for (unsigned i = PT_UNSORTED; i < PT_BINS; i++) {
        struct pt_chunk *bin = &arena->bins[i];
        for (struct pt_chunk *chunk = bin->fd; chunk != bin; chunk = chunk->fd) {
            size_t size = lu__pt_size(chunk);
            /* All but the links in front; the foot is in the next chunk. */
            if (size > LU_OS_PAGE) lu__area_purge(&pt->base.area, chunk + 1, size - sizeof *chunk);
        }
    }
    lu__pt_give_back_top(pt, arena, 0);
}
