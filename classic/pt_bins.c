/*
 * pt_bins.c - the free chunks of an arena: in which bin they wait, and how one is found.
 *
 * Source: Doug Lea, A Memory Allocator (1996), and malloc 2.7 (2000), from which Wolfram Gloger's
 * ptmalloc2 (2006) took the bins; thread caches filled on the way as in glibc 2.26 (2017).
 *
 *     fast[0 … 6]     32, 48 … 128       single lists, last in first out; look used, never merge
 *     bins[1]         unsorted           what was freed or left over, newest in front
 *     bins[2 … 63]    32, 48 … 1008      rings of one size, oldest is taken
 *     bins[64 … 126]  1024 and more      rings of a range of sizes, largest in front:
 *                                        33 of 64 bytes, 15 of 512, 9 of 4 KiB, 3 of 32 KiB,
 *                                        2 of 256 KiB, the rest
 *
 *                      fd ->                                                  <- bk
 *     a large bin:  (head)  4000   3968   3968   3968   3520  (head)
 *                            |______|_____________________|       fd_size, bk_size: a ring of the
 *                                                                 first chunk of each size
 *
 * malloc looks in this order: the fast bin and the small bin of its size; then through the unsorted
 * bin from its oldest, taking what fits exactly and putting all else into its bin; then its large
 * bin, from the smallest up; then the next bin that holds anything, which `binmap` tells, where the
 * smallest chunk is split; then the top; and when there are fast chunks left, they are merged and
 * it starts again. So it is a best fit but for chunks that came back just now. Of a small request
 * that follows a split the remainder is used first: what is allocated together lies together.
 * Chunks of the size wanted that are met on the way go into the thread's cache.
 *
 * Invariants: no two free chunks lie side by side; a chunk in a bin has its size behind it too and
 * a 0 as bit P of what follows; a bin that holds something has its bit in binmap; all links are
 * mutual, which is checked wherever a chunk is taken out ("corrupted double-linked list").
 *
 * Worst case: a malloc that has to sort a long unsorted bin (10,000 chunks at most), and one large
 * bin with many different sizes in it, through which each insertion walks.
 */
#include "classic/pt.h"

#define SORT_MOST 10000u

void lu__pt_bins_init(struct pt_arena *arena) {
    for (unsigned i = 0; i < PT_BINS; i++) {
        struct pt_chunk *bin = &arena->bins[i];
        bin->fd = bin->bk = bin->fd_size = bin->bk_size = bin;
    }
}

static bool damage(struct pt *pt, const char *what, const struct pt_chunk *chunk) {
    lu__classic_misuse(&pt->base, what, lu__pt_payload(chunk));
    return false;
}

/* ---------------------------------------------------------------- which bin */

unsigned lu__pt_bin_for(size_t size) {
    static const struct {
        unsigned shift, most, add;
    } ranges[] = {{6, 48, 48}, {9, 20, 91}, {12, 10, 110}, {15, 4, 119}, {18, 2, 124}};
    if (size < PT_LARGE_LEAST) return (unsigned)(size >> 4);
    for (unsigned i = 0; i < LU_COUNT_OF(ranges); i++) {
        size_t step = size >> ranges[i].shift;
        if (step <= ranges[i].most) return (unsigned)step + ranges[i].add;
    }
    return PT_BINS - 1;
}

/* The first bin from `from` on whose bit is set; PT_BINS if there is none. */
static unsigned next_marked(const struct pt_arena *arena, unsigned from) {
    for (unsigned word = from / 64; word < LU_COUNT_OF(arena->binmap); word++) {
        uint64_t bits = arena->binmap[word];
        if (word == from / 64) bits &= ~(uint64_t)0 << from % 64;
        if (bits != 0) return word * 64 + (unsigned)__builtin_ctzll(bits);
    }
    return PT_BINS;
}

bool lu__pt_is_sane(const struct pt_arena *arena, const struct pt_chunk *chunk, size_t size) {
    uintptr_t end;
    if (arena->is_main) {
        end = (uintptr_t)arena->top + lu__pt_top_size(arena);
    } else {
        end = (uintptr_t)lu__pt_heap_fence(lu__pt_heap_of(chunk));
    }
    uintptr_t at = (uintptr_t)chunk;
    return size >= PT_LEAST && size % LU_CHUNK_ALIGN == 0 && at < end && size <= end - at;
}

/* ---------------------------------------------------------------- in and out of rings */

bool lu__pt_push_unsorted(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk,
                          size_t size) {
    struct pt_chunk *bin = &arena->bins[PT_UNSORTED], *front = bin->fd;
    if (front->bk != bin) return damage(pt, "corrupted unsorted chunks", front);
    lu__pt_set_head(chunk, size | PT_P | lu__pt_bit_of(arena));
    struct pt_chunk *next = lu__pt_at(chunk, size);
    next->prev_size = size;
    lu__pt_set_head(next, lu__pt_head(next) & ~PT_P);
    if (size >= PT_LARGE_LEAST) chunk->fd_size = chunk->bk_size = NULL;
    chunk->fd = front;
    chunk->bk = bin;
    bin->fd = front->bk = chunk;
    return true;
}

static void link_between(struct pt_chunk *before, struct pt_chunk *chunk, struct pt_chunk *after) {
    chunk->bk = before;
    chunk->fd = after;
    before->fd = after->bk = chunk;
}

/* Into the ring of sizes, before (on the larger side of) `next`. */
static void link_size_before(struct pt_chunk *chunk, struct pt_chunk *next) {
    chunk->fd_size = next;
    chunk->bk_size = next->bk_size;
    next->bk_size->fd_size = chunk;
    next->bk_size = chunk;
}

static void insert_large(struct pt_request *request, struct pt_chunk *bin, struct pt_chunk *chunk,
                         size_t size) {
    struct pt_chunk *first = bin->fd, *at = first;
    if (first == bin) {
        chunk->fd_size = chunk->bk_size = chunk;
        link_between(bin, chunk, bin);
        return;
    }
    if (size < lu__pt_size(bin->bk)) {
        link_size_before(chunk, first); /* a ring: before the largest is behind the smallest */
        link_between(bin->bk, chunk, bin);
        return;
    }
    for (; size < lu__pt_size(at); at = at->fd_size) request->looked++;
    if (size == lu__pt_size(at)) { /* as the second, so that the ring of sizes is left alone */
        chunk->fd_size = chunk->bk_size = NULL;
        link_between(at, chunk, at->fd);
    } else {
        link_size_before(chunk, at);
        link_between(at->bk, chunk, at);
    }
}

/* From the unsorted bin into the chunk's own. */
static void sort_in(struct pt_request *request, struct pt_chunk *chunk, size_t size) {
    unsigned index = lu__pt_bin_for(size);
    struct pt_chunk *bin = &request->arena->bins[index];
    if (size < PT_LARGE_LEAST) {
        link_between(bin, chunk, bin->fd);
    } else {
        insert_large(request, bin, chunk, size);
    }
    request->arena->binmap[index / 64] |= (uint64_t)1 << index % 64;
}

/* The chunk is the first of its size in a large bin: the next one becomes that, if there is one. */
static bool leave_sizes(struct pt *pt, struct pt_chunk *chunk) {
    struct pt_chunk *smaller = chunk->fd_size, *larger = chunk->bk_size, *heir = chunk->fd;
    if (smaller->bk_size != chunk || larger->fd_size != chunk) {
        return damage(pt, "corrupted list of sizes", chunk);
    }
    if (heir->fd_size != NULL) {
        smaller->bk_size = larger;
        larger->fd_size = smaller;
    } else if (smaller == chunk) {
        heir->fd_size = heir->bk_size = heir;
    } else {
        heir->fd_size = smaller;
        heir->bk_size = larger;
        smaller->bk_size = larger->fd_size = heir;
    }
    return true;
}

bool lu__pt_unlink(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk) {
    size_t size = lu__pt_size(chunk);
    if (!lu__pt_is_sane(arena, chunk, size) || lu__pt_at(chunk, size)->prev_size != size) {
        return damage(pt, "corrupted size vs. prev_size", chunk);
    }
    if (chunk->fd->bk != chunk || chunk->bk->fd != chunk) {
        return damage(pt, "corrupted double-linked list", chunk);
    }
    /* What follows in an unsorted bin is no heir: such a chunk has no sizes itself. */
    if (size >= PT_LARGE_LEAST && chunk->fd_size != NULL && !leave_sizes(pt, chunk)) return false;
    chunk->fd->bk = chunk->bk;
    chunk->bk->fd = chunk->fd;
    return true;
}

/* ---------------------------------------------------------------- using what was found */

/* A free chunk, out of its bin, becomes a used one; what is left goes to the unsorted bin. */
static struct pt_chunk *use(struct pt_request *request, struct pt_chunk *chunk, bool remember) {
    struct pt_arena *arena = request->arena;
    size_t size = lu__pt_size(chunk), bytes = request->search, bit = lu__pt_bit_of(arena);
    if (size - bytes < PT_LEAST) {
        lu__pt_set_used_before(chunk, size);
        return chunk;
    }
    struct pt_chunk *rest = lu__pt_at(chunk, bytes);
    lu__pt_set_head(chunk, bytes | PT_P | bit);
    LU_COUNT(&request->pt->base, splits, 1);
    if (!lu__pt_push_unsorted(request->pt, arena, rest, size - bytes)) request->damaged = true;
    if (remember && bytes < PT_LARGE_LEAST) arena->last_remainder = rest;
    return chunk;
}

struct pt_chunk *lu__pt_take_from_top(struct pt_request *request) {
    struct pt_arena *arena = request->arena;
    struct pt_chunk *chunk = arena->top;
    size_t size = lu__pt_top_size(arena), bytes = request->search, bit = lu__pt_bit_of(arena);
    if (size < bytes + PT_LEAST) return NULL;
    if (!lu__pt_is_sane(arena, chunk, size)) {
        request->damaged = true;
        damage(request->pt, "corrupted top size", chunk);
        return NULL;
    }
    arena->top = lu__pt_at(chunk, bytes);
    lu__pt_set_head(arena->top, (size - bytes) | PT_P | bit);
    lu__pt_set_head(chunk, bytes | PT_P | bit);
    if (!arena->is_main) {
        struct pt_heap *heap = arena->heap;
        heap->high = LU_MAX(heap->high, (uintptr_t)arena->top + PT_LEAST);
    }
    return chunk;
}

/* ---------------------------------------------------------------- fast and small bins */

void lu__pt_push_fast(struct pt_arena *arena, struct pt_chunk *chunk, size_t size) {
    size_t bin = (size - PT_LEAST) / LU_CHUNK_ALIGN;
    struct pt_cached *entry = lu__pt_payload(chunk);
    entry->next = lu__pt_link(&entry->next, (uintptr_t)arena->fast[bin]);
    arena->fast[bin] = entry;
    arena->has_fast = true;
}

static struct pt_chunk *pop_fast(struct pt_request *request) {
    struct pt_cached **list = &request->arena->fast[(request->search - PT_LEAST) / LU_CHUNK_ALIGN];
    struct pt_cached *entry = *list;
    if (entry == NULL) return NULL;
    struct pt_chunk *chunk = lu__pt_chunk_of(entry);
    uintptr_t next = lu__pt_link(&entry->next, entry->next);
    if (lu__pt_size(chunk) != request->search || next % LU_CHUNK_ALIGN != 0) {
        request->damaged = true;
        damage(request->pt, "memory corruption (fast)", chunk);
        return NULL;
    }
    *list = (struct pt_cached *)next;
    request->looked++;
    return chunk;
}

/* The oldest of the small bin. */
static struct pt_chunk *pop_small(struct pt_request *request) {
    struct pt_chunk *bin = &request->arena->bins[request->search >> 4], *chunk = bin->bk;
    if (chunk == bin) return NULL;
    if (chunk->bk->fd != chunk) {
        request->damaged = true;
        damage(request->pt, "smallbin double linked list corrupted", chunk);
        return NULL;
    }
    bin->bk = chunk->bk;
    chunk->bk->fd = bin;
    lu__pt_set_used_before(chunk, request->search);
    request->looked++;
    return chunk;
}

/* From a bin of just the right size: one for the caller, and as many as fit for its cache. */
static struct pt_chunk *take_exact(struct pt_request *request,
                                   struct pt_chunk *(*pop)(struct pt_request *)) {
    struct pt_chunk *chunk = pop(request), *more;
    if (chunk == NULL) return NULL;
    while (lu__pt_tcache_has_room(request->thread, request->search) &&
           (more = pop(request)) != NULL) {
        lu__pt_tcache_put(request->pt, request->thread, more, request->search);
    }
    return chunk;
}

/* ---------------------------------------------------------------- the unsorted bin */

static const char *fault_of_unsorted(const struct pt_arena *arena, const struct pt_chunk *chunk) {
    const struct pt_chunk *bin = &arena->bins[PT_UNSORTED];
    size_t size = lu__pt_size(chunk);
    if (!lu__pt_is_sane(arena, chunk, size)) return "invalid size (unsorted)";
    if (lu__pt_at(chunk, size)->prev_size != size) return "mismatching next->prev_size (unsorted)";
    if (chunk->bk->fd != chunk || chunk->fd != bin) {
        return "unsorted double linked list corrupted";
    }
    return lu__pt_used_before(chunk, size) ? "invalid next->prev_inuse (unsorted)" : NULL;
}

/* Sort the unsorted chunks into their bins, oldest first, until one fits. */
static struct pt_chunk *take_from_unsorted(struct pt_request *request) {
    struct pt_arena *arena = request->arena;
    struct pt_chunk *bin = &arena->bins[PT_UNSORTED], *chunk;
    bool cached = false;
    for (unsigned n = 0; n < SORT_MOST && (chunk = bin->bk) != bin; n++) {
        const char *fault = fault_of_unsorted(arena, chunk);
        if (fault != NULL) {
            request->damaged = true;
            damage(request->pt, fault, chunk);
            return NULL;
        }
        size_t size = lu__pt_size(chunk);
        bool alone = chunk->bk == bin;
        request->looked++;
        bin->bk = chunk->bk;
        chunk->bk->fd = bin;
        if (size == request->search) {
            lu__pt_set_used_before(chunk, size);
            if (!lu__pt_tcache_has_room(request->thread, size)) return chunk;
            lu__pt_tcache_put(request->pt, request->thread, chunk, size);
            cached = true;
        } else if (alone && chunk == arena->last_remainder && request->search < PT_LARGE_LEAST &&
                   size > request->search + PT_LEAST) {
            if (!cached) return use(request, chunk, true);
            sort_in(request, chunk, size);
        } else {
            sort_in(request, chunk, size);
        }
    }
    if (!cached) return NULL;
    return lu__pt_chunk_of(lu__pt_tcache_get(request->pt, request->thread, request->search));
}

/* ---------------------------------------------------------------- larger chunks */

/* The smallest of the request's own large bin that is enough. */
static struct pt_chunk *take_from_own_bin(struct pt_request *request) {
    struct pt_chunk *bin = &request->arena->bins[lu__pt_bin_for(request->search)], *first = bin->fd;
    if (first == bin || lu__pt_size(first) < request->search) return NULL;
    struct pt_chunk *chunk = first->bk_size;
    request->looked++;
    for (; lu__pt_size(chunk) < request->search; chunk = chunk->bk_size) request->looked++;
    /* The second of its size, if there is one: the ring of sizes is left alone. */
    if (chunk != bin->bk && chunk->fd->fd_size == NULL) chunk = chunk->fd;
    if (lu__pt_unlink(request->pt, request->arena, chunk)) return use(request, chunk, false);
    request->damaged = true;
    return NULL;
}

/* The smallest of the first bin above the request's own that holds anything. */
static struct pt_chunk *take_from_above(struct pt_request *request) {
    struct pt_arena *arena = request->arena;
    unsigned i = next_marked(arena, lu__pt_bin_for(request->search) + 1);
    for (; i < PT_BINS; i = next_marked(arena, i + 1)) {
        struct pt_chunk *bin = &arena->bins[i], *chunk = bin->bk;
        request->looked++;
        if (chunk == bin) {
            arena->binmap[i / 64] &= ~((uint64_t)1 << i % 64);
            continue;
        }
        if (lu__pt_unlink(request->pt, arena, chunk)) return use(request, chunk, true);
        request->damaged = true;
        return NULL;
    }
    return NULL;
}

struct pt_chunk *lu__pt_take_from_bins(struct pt_request *request) {
    struct pt *pt = request->pt;
    struct pt_arena *arena = request->arena;
    struct pt_chunk *chunk = NULL;
    bool large = request->search >= PT_LARGE_LEAST;
    if (request->search <= PT_FAST_MOST) chunk = take_exact(request, pop_fast);
    if (chunk != NULL || request->damaged) return chunk;
    if (!large) {
        chunk = take_exact(request, pop_small);
        if (chunk != NULL || request->damaged) return chunk;
    } else if (arena->has_fast && !lu__pt_consolidate(pt, arena)) {
        request->damaged = true;
        return NULL;
    }
    for (;;) {
        chunk = take_from_unsorted(request);
        if (chunk == NULL && !request->damaged && large) chunk = take_from_own_bin(request);
        if (chunk == NULL && !request->damaged) chunk = take_from_above(request);
        if (chunk != NULL || request->damaged || !arena->has_fast) return chunk;
        if (lu__pt_top_size(arena) >= request->search + PT_LEAST) return NULL; /* the top first */
        if (!lu__pt_consolidate(pt, arena)) {
            request->damaged = true;
            return NULL;
        }
    }
}
