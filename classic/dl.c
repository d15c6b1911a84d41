/*
 * dl.c - dlmalloc: best fit with boundary tags, bins by size, a designated victim and a top.
 *
 * Source: D. Lea, A Memory Allocator, unix/mail 12/96; his dlmalloc, 1987-2012, as of its versions
 * 2.8.0 to 2.8.6. This is an implementation of its own of that algorithm.
 *
 * Chunks have a header of which 8 bytes are their own and 8 are lent by the chunk before while
 * that is used (chunk.h has the picture): a payload of n bytes costs (n + 8) rounded up to 16, at
 * least 32. Of two neighbours never both are free: what is freed merges with what is free before
 * and behind it at once, in O(1) by the tags. Then each free chunk is in one place:
 *
 *     small bins    below 512 bytes: a ring for each size                          dl_bins.c
 *     trees         larger: a trie for each half of a power of two                 dl_tree.c
 *     dv            one, the designated victim: what was left of the last split
 *     top           one, the end of the segment that grows                         dl_space.c
 *
 * A request for a small chunk takes the first of these that has one:
 *     1. the bin of just that size, or of 16 bytes more (too little to split off);
 *     2. dv: small blocks that are asked for one after the other lie side by side;
 *     3. the next larger small bin that is not empty, else the smallest chunk of the trees; what is
 *        left of it becomes dv, and the old dv goes to its bin;
 *     4. top;   5. the system: the break rises, or a mapping is added.
 * A request for a large one:
 *     1. the best fit of the trees, unless dv fits better;   2. dv;   3. top;
 *     4. a mapping of its own, from mmap_threshold on (dl_map.c);   5. the system.
 *
 * So this is best fit, but for the preference for dv, which trades a little fit for neighbourhood.
 * Cost: O(1) for small bins, dv and top; at most two paths of a trie otherwise. Bound: where M
 * units are live in blocks of 1 to n units, best fit may need about M * n, worse than the
 * M * log2 n of first fit (J. M. Robson, Computer Journal 20, 1977); on programs as they are it
 * loses a few percent (M. S. Johnstone, P. R. Wilson, The Memory Fragmentation Problem: Solved?,
 * 1998). What hurts it: one long-lived block at the top keeps the break from sinking, however much
 * is free below it.
 *
 * Checked at each call, for it costs no more than a few compares: that a freed block lies in a
 * segment or is a mapping, that it and its neighbours have headers that fit together, and that
 * links are mutual before they are used. Nothing is changed when something is wrong.
 *
 * One thread at a time for each heap: the original's locks around everything are the caller's.
 */
#include "classic/dl.h"

static struct lu__dl_space *main_of(struct lu__classic *self) {
    return &((struct lu__dl *)self)->main;
}

bool lu__dl_damaged(const struct lu__dl_space *space, const char *what, const void *at) {
    lu__classic_misuse(space->heap, what, at);
    return false;
}

/* ---------------------------------------------------------------- headers, lists of free chunks */

/* True if `chunk`, in the segment, has a header that fits what follows. */
static bool header_sound(const struct lu__dl_space *space, const struct lu__dl_segment *segment,
                         const struct lu__chunk *chunk) {
    size_t room = segment->end - (uintptr_t)chunk, size = lu__chunk_size(chunk);
    if (room == LU_DL_FENCE) return chunk->head == (room | LU_DL_USED | LU_CHUNK_BEFORE_USED);
    if (chunk == space->top) return chunk->head == (space->top_size | LU_CHUNK_BEFORE_USED);
    if (size < LU_CHUNK_LEAST || size > room - LU_DL_FENCE) return false;
    if (lu__dl_used(chunk)) return true;
    const struct lu__chunk *next = lu__chunk_next(chunk);
    return next->foot_before == size && !lu__chunk_before_used(next);
}

static void set_dv(struct lu__dl_space *space, struct lu__chunk *chunk) {
    space->dv = chunk;
    space->dv_size = chunk != NULL ? lu__chunk_size(chunk) : 0;
}

void lu__dl_relist(struct lu__dl_space *space, struct lu__chunk *chunk, bool as_dv) {
    if (as_dv) {
        set_dv(space, chunk);
    } else {
        lu__dl_bin(space, chunk);
    }
}

bool lu__dl_unlist(struct lu__dl_space *space, struct lu__chunk *chunk) {
    if (chunk != space->dv) return lu__dl_unbin(space, chunk);
    set_dv(space, NULL);
    return true;
}

/* The rest of a split is the victim from now on. */
static void replace_dv(struct lu__dl_space *space, struct lu__chunk *rest) {
    if (space->dv != NULL) lu__dl_bin(space, space->dv);
    set_dv(space, rest);
}

/* ---------------------------------------------------------------- alloc */

/* Make the first `wanted` of `size` bytes a used chunk. The rest, free and in no list; or NULL if
 * there is none that could be a chunk: then all are used. */
static struct lu__chunk *cut(struct lu__dl_space *space, struct lu__chunk *chunk, size_t size,
                             size_t wanted) {
    if (size - wanted < LU_CHUNK_LEAST) {
        lu__dl_set_used(chunk, size);
        return NULL;
    }
    chunk->head = wanted | LU_DL_USED | (chunk->head & LU_CHUNK_BEFORE_USED);
    struct lu__chunk *rest = lu__chunk_above(chunk, wanted);
    lu__dl_set_free(rest, size - wanted);
    LU_COUNT(space->heap, splits, 1);
    return rest;
}

static struct lu__chunk *from_exact_bin(struct lu__dl_space *space, size_t size) {
    unsigned index = (unsigned)(size >> LU_DL_SMALL_SHIFT);
    uint32_t bins = space->small_map >> index;
    if ((bins & 3) == 0) return NULL;
    index += (bins & 1) == 0;
    struct lu__chunk *chunk = lu__dl_take_small(space, index);
    if (chunk != NULL) lu__dl_set_used(chunk, (size_t)index << LU_DL_SMALL_SHIFT);
    return chunk;
}

/* Take a chunk that was found in a tree. False: damaged. */
static bool take_large(struct lu__dl_space *space, struct lu__chunk *chunk) {
    if (!header_sound(space, lu__dl_segment_of(space, chunk), chunk)) {
        return lu__dl_damaged(space, "the header of a free block is damaged", chunk);
    }
    return lu__dl_unbin(space, chunk);
}

/* The smallest chunk of all bins and trees that is larger than `size`, a small one. */
static struct lu__chunk *from_larger_bin(struct lu__dl_space *space, size_t size) {
    unsigned index = (unsigned)(size >> LU_DL_SMALL_SHIFT);
    uint32_t bins = space->small_map >> index & ~3u; /* the exact ones had none */
    struct lu__chunk *chunk;
    if (bins != 0) {
        chunk = lu__dl_take_small(space, index + (unsigned)__builtin_ctz(bins));
    } else {
        chunk = lu__dl_tree_best(space, size);
        if (chunk != NULL && !take_large(space, chunk)) chunk = NULL;
    }
    if (chunk == NULL) return NULL;
    struct lu__chunk *rest = cut(space, chunk, lu__chunk_size(chunk), size);
    if (rest != NULL) replace_dv(space, rest);
    return chunk;
}

static struct lu__chunk *from_tree(struct lu__dl_space *space, size_t size) {
    struct lu__chunk *chunk = lu__dl_tree_best(space, size);
    if (chunk == NULL) return NULL;
    size_t found = lu__chunk_size(chunk);
    bool dv_is_better = space->dv_size >= size && space->dv_size <= found;
    if (dv_is_better || !take_large(space, chunk)) return NULL;
    struct lu__chunk *rest = cut(space, chunk, found, size);
    if (rest != NULL) lu__dl_bin(space, rest);
    return chunk;
}

static struct lu__chunk *from_dv(struct lu__dl_space *space, size_t size) {
    struct lu__chunk *chunk = space->dv;
    LU_COUNT(space->heap, searches, 1);
    if (chunk->head != (space->dv_size | LU_CHUNK_BEFORE_USED)) {
        (void)lu__dl_damaged(space, "the header of a free block is damaged", chunk);
        return NULL;
    }
    set_dv(space, cut(space, chunk, space->dv_size, size));
    return chunk;
}

/* It leaves at least a chunk. */
static struct lu__chunk *from_top(struct lu__dl_space *space, size_t size) {
    struct lu__chunk *chunk = space->top;
    if (space->top_size < size + LU_CHUNK_LEAST) return NULL;
    LU_COUNT(space->heap, searches, 1);
    if (chunk->head != (space->top_size | LU_CHUNK_BEFORE_USED)) {
        (void)lu__dl_damaged(space, "the header of a free block is damaged", chunk);
        return NULL;
    }
    lu__dl_set_top(space, lu__chunk_above(chunk, size), space->top_size - size);
    chunk->head = size | LU_DL_USED | LU_CHUNK_BEFORE_USED;
    LU_COUNT(space->heap, splits, 1);
    return chunk;
}

/* A used chunk of at least `size` bytes from what the space has; or NULL. */
static struct lu__chunk *find(struct lu__dl_space *space, size_t size) {
    struct lu__chunk *chunk;
    if (size < LU_DL_LARGE) {
        chunk = from_exact_bin(space, size);
        if (chunk == NULL && size > space->dv_size) chunk = from_larger_bin(space, size);
    } else {
        chunk = from_tree(space, size);
    }
    if (chunk == NULL && size <= space->dv_size) chunk = from_dv(space, size);
    return chunk != NULL ? chunk : from_top(space, size);
}

/* The same, with more from the system if need be. */
static struct lu__chunk *obtain(struct lu__dl_space *space, size_t size) {
    struct lu__chunk *chunk = find(space, size);
    if (chunk == NULL && lu__dl_grow(space, size)) chunk = from_top(space, size);
    return chunk;
}

void *lu__dl_space_alloc(struct lu__dl_space *space, size_t bytes) {
    struct lu__chunk *chunk = obtain(space, lu__chunk_bytes_for(bytes));
    return chunk != NULL ? lu__chunk_payload(chunk) : NULL;
}

static void *dl_alloc(struct lu__classic *self, size_t bytes) {
    struct lu__dl *dl = (struct lu__dl *)self;
    if (bytes >= dl->mmap_threshold) {
        struct lu__chunk *chunk = find(&dl->main, lu__chunk_bytes_for(bytes));
        if (chunk != NULL) return lu__chunk_payload(chunk);
        void *payload = lu__dl_map_alloc(dl, LU_CHUNK_ALIGN, bytes);
        if (payload != NULL) return payload;
    }
    return lu__dl_space_alloc(&dl->main, bytes);
}

/* ---------------------------------------------------------------- free */

/* Make a used chunk free: merge it with its neighbours, which are sound, and list the result.
 * False: damaged; nothing was freed. */
static bool give(struct lu__dl_space *space, struct lu__chunk *chunk) {
    struct lu__chunk *first = chunk, *next = lu__chunk_next(chunk);
    size_t size = lu__chunk_size(chunk);
    bool before_dv = false, next_dv = next == space->dv;
    if (!lu__chunk_before_used(chunk)) {
        first = lu__chunk_before(chunk);
        before_dv = first == space->dv;
        if (!lu__dl_unlist(space, first)) return false;
        size += lu__chunk_size(first);
    }
    if (next == space->top) {
        size += space->top_size;
    } else if (!lu__dl_used(next)) {
        if (!lu__dl_unlist(space, next)) {
            if (first != chunk) lu__dl_relist(space, first, before_dv);
            return false;
        }
        size += lu__chunk_size(next);
    }
    bool with_next = next == space->top || !lu__dl_used(next);
    LU_COUNT(space->heap, merges, (first != chunk) + with_next);
    chunk->head &= ~LU_DL_USED; /* if it is freed again, that is seen even when it was merged */
    if (next == space->top) {
        lu__dl_set_top(space, first, size);
    } else {
        lu__dl_set_free(first, size);
        lu__dl_relist(space, first, before_dv || next_dv);
    }
    return true;
}

/* What is wrong with a chunk that its user gives back, in the segment; NULL: nothing. */
static const char *fault_of(const struct lu__dl_space *space, const struct lu__dl_segment *segment,
                            const struct lu__chunk *chunk) {
    size_t room = segment->end - LU_DL_FENCE - (uintptr_t)chunk, size = lu__chunk_size(chunk);
    if (size < LU_CHUNK_LEAST || size > room) return "the header of the block is damaged";
    if (!lu__dl_used(chunk)) return "double free";
    const struct lu__chunk *next = lu__chunk_next(chunk);
    if (!lu__chunk_before_used(next) || !header_sound(space, segment, next)) {
        return "the header after the block is damaged";
    }
    if (lu__chunk_before_used(chunk)) return NULL;
    const struct lu__chunk *before = lu__chunk_before(chunk);
    if (chunk->foot_before > (uintptr_t)chunk - (uintptr_t)lu__dl_segment_first(segment) ||
        before->head != (chunk->foot_before | LU_CHUNK_BEFORE_USED)) {
        return "the header before the block is damaged";
    }
    return NULL;
}

/* The same for a payload that may be anything; *segment is where it is, NULL for a mapping. */
static const char *fault_of_payload(const struct lu__dl_space *space, const void *payload,
                                    struct lu__dl_segment **segment) {
    const struct lu__dl *dl = (const struct lu__dl *)space->heap;
    const struct lu__chunk *chunk = lu__chunk_of(payload);
    *segment = NULL;
    if ((uintptr_t)payload % LU_CHUNK_ALIGN != 0) return "not a block";
    *segment = lu__dl_segment_of(space, chunk);
    if (*segment != NULL) {
        bool inside = chunk >= lu__dl_segment_first(*segment);
        return inside ? fault_of(space, *segment, chunk) : "not a block";
    }
    bool mapped = space == &dl->main && lu__dl_map_is(dl, chunk);
    return mapped ? NULL : "not a block, or freed before";
}

/* The used chunk of a payload. NULL: its user may not give that back, which was told. */
static struct lu__chunk *given_back(struct lu__dl_space *space, const void *payload,
                                    struct lu__dl_segment **segment) {
    const char *fault = fault_of_payload(space, payload, segment);
    if (fault == NULL) return lu__chunk_of(payload);
    (void)lu__dl_damaged(space, fault, payload);
    return NULL;
}

void lu__dl_space_free(struct lu__dl_space *space, void *payload) {
    struct lu__dl_segment *segment;
    struct lu__chunk *chunk = given_back(space, payload, &segment);
    if (chunk == NULL) return;
    if (segment == NULL) {
        lu__dl_map_free((struct lu__dl *)space->heap, chunk);
    } else if (give(space, chunk)) {
        lu__dl_settle(space, segment);
    }
}

static void dl_free(struct lu__classic *self, void *payload) {
    lu__dl_space_free(main_of(self), payload);
}

/* ---------------------------------------------------------------- resize */

/* Free what a used chunk has beyond `wanted` bytes, if that makes a chunk. */
static void shrink(struct lu__dl_space *space, struct lu__chunk *chunk, size_t wanted) {
    size_t rest_size = lu__chunk_size(chunk) - wanted;
    if (rest_size < LU_CHUNK_LEAST) return;
    struct lu__chunk *rest = lu__chunk_above(chunk, wanted);
    size_t head = chunk->head;
    chunk->head = wanted | (head & LU_CHUNK_FLAGS);
    rest->head = rest_size | LU_DL_USED | LU_CHUNK_BEFORE_USED;
    if (give(space, rest)) {
        LU_COUNT(space->heap, splits, 1);
    } else {
        chunk->head = head;
    }
}

/* Take from the next chunk, if that is free and large enough. */
static bool extend(struct lu__dl_space *space, struct lu__chunk *chunk, size_t wanted) {
    struct lu__chunk *next = lu__chunk_next(chunk);
    if (next == space->top) {
        size_t total = lu__chunk_size(chunk) + space->top_size;
        if (total < wanted + LU_CHUNK_LEAST) return false;
        lu__dl_set_top(space, lu__chunk_above(chunk, wanted), total - wanted);
        chunk->head = wanted | (chunk->head & LU_CHUNK_FLAGS);
        LU_COUNT(space->heap, splits, 1);
    } else {
        size_t total = lu__chunk_size(chunk) + lu__chunk_size(next);
        bool as_dv = next == space->dv;
        if (lu__dl_used(next) || total < wanted || !lu__dl_unlist(space, next)) return false;
        struct lu__chunk *rest = cut(space, chunk, total, wanted);
        if (rest != NULL) lu__dl_relist(space, rest, as_dv);
    }
    LU_COUNT(space->heap, merges, 1);
    return true;
}

static void *dl_resize(struct lu__classic *self, void *payload, size_t bytes) {
    struct lu__dl_space *space = main_of(self);
    struct lu__dl_segment *segment;
    struct lu__chunk *chunk = given_back(space, payload, &segment);
    if (chunk == NULL) return NULL;
    if (segment == NULL) return lu__dl_map_resize((struct lu__dl *)self, chunk, bytes);
    size_t wanted = lu__chunk_bytes_for(bytes);
    if (wanted > lu__chunk_size(chunk)) return extend(space, chunk, wanted) ? payload : NULL;
    shrink(space, chunk, wanted);
    lu__dl_settle(space, segment);
    return payload;
}

/* ---------------------------------------------------------------- aligned */

/* From a larger chunk: what is before the aligned payload, and what is behind, is freed again. */
static void *carve(struct lu__dl_space *space, struct lu__chunk *chunk, size_t align, size_t size) {
    uintptr_t payload = (uintptr_t)lu__chunk_payload(chunk);
    uintptr_t aligned = lu__align_up(payload, align);
    size_t lead = aligned - payload;
    if (lead != 0) {
        if (lead < LU_CHUNK_LEAST) lead += align;
        struct lu__chunk *inner = lu__chunk_above(chunk, lead);
        inner->head = (lu__chunk_size(chunk) - lead) | LU_DL_USED | LU_CHUNK_BEFORE_USED;
        chunk->head = lead | (chunk->head & LU_CHUNK_FLAGS);
        LU_COUNT(space->heap, splits, 1);
        (void)give(space, chunk); /* between used ones: it takes nothing out of a list */
        chunk = inner;
    }
    shrink(space, chunk, size);
    return lu__chunk_payload(chunk);
}

static void *dl_alloc_aligned(struct lu__classic *self, size_t align, size_t bytes) {
    struct lu__dl *dl = (struct lu__dl *)self;
    size_t size = lu__chunk_bytes_for(bytes), room = size + align + LU_CHUNK_LEAST;
    struct lu__chunk *chunk = find(&dl->main, room);
    if (chunk == NULL && room >= dl->mmap_threshold) {
        void *payload = lu__dl_map_alloc(dl, align, bytes);
        if (payload != NULL) return payload;
    }
    if (chunk == NULL) chunk = obtain(&dl->main, room);
    return chunk != NULL ? carve(&dl->main, chunk, align, size) : NULL;
}

/* ---------------------------------------------------------------- the table */

static size_t dl_usable_size(const struct lu__classic *self, const void *payload) {
    const struct lu__chunk *chunk = lu__chunk_of(payload);
    struct lu__dl_segment *segment;
    if (fault_of_payload(&((const struct lu__dl *)self)->main, payload, &segment) != NULL) return 0;
    size_t overhead = lu__dl_mapped(chunk) ? LU_CHUNK_HEADER : LU_CHUNK_OVERHEAD;
    return lu__chunk_size(chunk) - overhead;
}

static bool dl_is_zero(const struct lu__classic *self, const void *payload, size_t bytes) {
    (void)self;
    (void)bytes;
    return lu__dl_mapped(lu__chunk_of(payload));
}

static void dl_trim(struct lu__classic *self) {
    for (struct lu__dl_space *space = main_of(self); space != NULL; space = space->next) {
        lu__dl_trim_top(space, 0, LU_OS_PAGE);
    }
}

static void dl_tune(struct lu__classic *self, enum lu__classic_tunable which, size_t bytes) {
    struct lu__dl *dl = (struct lu__dl *)self;
    size_t *number = which == LU_TUNE_MMAP_THRESHOLD   ? &dl->mmap_threshold
                     : which == LU_TUNE_TRIM_THRESHOLD ? &dl->trim_threshold
                                                       : &dl->top_pad;
    *number = bytes;
}

static bool dl_init(struct lu__classic *self) {
    struct lu__dl *dl = (struct lu__dl *)self;
    const struct lu__classic_config *config = &self->config;
    lu__dl_space_init(&dl->main, self);
    dl->top_pad = config->top_pad != 0 ? config->top_pad : 128 * LU_KIB;
    dl->trim_threshold = config->trim_threshold != 0 ? config->trim_threshold : 128 * LU_KIB;
    dl->mmap_threshold = config->mmap_threshold != 0 ? config->mmap_threshold : 256 * LU_KIB;
    return true;
}

const struct lu__policy lu__policy_dl = {
    .name = "dl",
    .title = "dlmalloc: boundary tags, small bins, tries, designated victim",
    .source = "D. Lea, A Memory Allocator, 1996; dlmalloc 2.8, 2005-2012",
    .state_bytes = sizeof(struct lu__dl),
    .align = LU_CHUNK_ALIGN,
    .threaded = false,
    .init = dl_init,
    .alloc = dl_alloc,
    .alloc_aligned = dl_alloc_aligned,
    .free = dl_free,
    .resize = dl_resize,
    .usable_size = dl_usable_size,
    .is_zero = dl_is_zero,
    .walk = lu__dl_walk,
    .validate = lu__dl_validate,
    .trim = dl_trim,
    .tune = dl_tune,
};
