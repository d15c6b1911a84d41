/*
 * dl.h - what the files of the policy dl share, and its spaces ("mspaces").
 *
 *     dl.c        the calls: where a chunk comes from, and where it goes      (the head comment
 *                 there explains the algorithm)
 *     dl_bins.c   free chunks below 512 bytes: a bin for each size
 *     dl_tree.c   larger free chunks: tries
 *     dl_space.c  segments, top, growing and trimming; spaces
 *     dl_map.c    chunks with a mapping of their own
 *     dl_check.c  walk and validate
 *
 * A *space* is a whole allocator: bins, designated victim, top, segments. A heap has its main
 * space, which grows by the break, and as many others as lu__dl_space_create made, which have
 * mappings of the same area. What one space gave is freed to that space. One thread at a time for
 * all spaces of a heap: they share its area.
 */
#ifndef LU_CLASSIC_DL_H
#define LU_CLASSIC_DL_H

#include "classic/chunk.h"
#include "classic/classic.h"

/* Flags of a chunk's head beside LU_CHUNK_BEFORE_USED. A free chunk has BEFORE_USED alone, for two
 * neighbours are never both free; a chunk in a mapping of its own has neither. */
#define LU_DL_USED ((size_t)2)

#define LU_DL_BINS 32u       /* small bins; trees                                             */
#define LU_DL_SMALL_SHIFT 4u /* small bin i has the chunks of i << 4 bytes                    */
#define LU_DL_TREE_SHIFT 9u  /* trees 0 and 1 share the sizes from 1 << 9 to 1 << 10          */
#define LU_DL_LARGE ((size_t)LU_DL_BINS << LU_DL_SMALL_SHIFT) /* least size in a tree: 512      */
#define LU_DL_FENCE ((size_t)16)            /* the header that ends a segment                 */
#define LU_DL_GRANULE ((size_t)64 * LU_KIB) /* least step of trimming and of a new segment    */

/* A free chunk in a tree. Chunks of one size are a ring of `chunk.free`, of which one is the node
 * in the tree. */
struct lu__dl_node {
    struct lu__chunk chunk;
    struct lu__dl_node *child[2];
    struct lu__dl_node **link; /* what points to this node; NULL: in the ring of one that is */
};

struct lu__dl_space;

/* A contiguous piece of the area: chunk after chunk from start to the fence at end - 16. */
struct lu__dl_segment {
    struct lu__dl_segment *next; /* of the space, by address                                  */
    struct lu__dl_space *space;
    uintptr_t start, end; /* all whole pages                                                  */
    bool mapping;         /* begins with a used chunk that holds this                         */
};

struct lu__dl_space {
    struct lu__classic *heap;
    struct lu__dl_space *next; /* of the heap; the main one is the first                        */
    struct lu__dl_segment *segments;
    struct lu__dl_segment of_break; /* of the main space; start == end: not yet there           */
    struct lu__dl_segment *home;    /* of the others: where this struct is                      */
    struct lu__chunk *top, *dv;     /* NULL: none. In no bin                                    */
    size_t top_size, dv_size;       /* as in their heads, which an overflow may reach; these
                                       of the main space it does not                            */
    size_t footprint;               /* bytes of all segments                                    */
    bool pinned;                    /* the break would not sink; not tried again until it rose  */
    uint32_t small_map, tree_map;   /* bit i: bin i is not empty                                */
    struct lu__links small[LU_DL_BINS];
    struct lu__dl_node *trees[LU_DL_BINS];
};

struct lu__dl {
    struct lu__classic classic;
    struct lu__dl_space main;
    size_t top_pad, trim_threshold, mmap_threshold; /* of the config, or defaults */
};

/* ---- spaces, for users of a heap of lu__policy_dl ---- */

/* A space of its own with room for `capacity` bytes of chunks at first (0: a granule less its
 * overhead). It grows by further mappings; no block has one for itself. NULL: no memory. */
struct lu__dl_space *lu__dl_space_create(struct lu__classic *heap, size_t capacity);
/* With all that is in it. */
void lu__dl_space_destroy(struct lu__dl_space *space);
/* At least `bytes`, from 1 to PTRDIFF_MAX - 64 KiB. NULL: no memory. */
void *lu__dl_space_alloc(struct lu__dl_space *space, size_t bytes);
void lu__dl_space_free(struct lu__dl_space *space, void *payload);
/* Every block of this space in address order; the heap's walk tells them all, too. */
void lu__dl_space_walk(struct lu__dl_space *space, lu__block_visit *visit, void *arg);

/* ---- chunks ---- */

LU_INLINE bool lu__dl_used(const struct lu__chunk *chunk) {
    return (chunk->head & LU_DL_USED) != 0;
}
/* True for a used chunk that has a mapping for itself. */
LU_INLINE bool lu__dl_mapped(const struct lu__chunk *chunk) {
    return (chunk->head & (LU_DL_USED | LU_CHUNK_BEFORE_USED)) == 0;
}
/* Make `size` bytes a used chunk; whether the one before it is used stays as noted. */
LU_INLINE void lu__dl_set_used(struct lu__chunk *chunk, size_t size) {
    chunk->head = size | LU_DL_USED | (chunk->head & LU_CHUNK_BEFORE_USED);
    lu__chunk_above(chunk, size)->head |= LU_CHUNK_BEFORE_USED;
}
/* Make `size` bytes a free chunk, with head and foot. The one before it is used. */
LU_INLINE void lu__dl_set_free(struct lu__chunk *chunk, size_t size) {
    struct lu__chunk *next = lu__chunk_above(chunk, size);
    chunk->head = size | LU_CHUNK_BEFORE_USED;
    next->foot_before = size;
    next->head &= ~LU_CHUNK_BEFORE_USED;
}

/* ---- dl.c ---- */

/* Tell of damage in a space; always false. */
bool lu__dl_damaged(const struct lu__dl_space *space, const char *what, const void *at);
/* Put a free chunk in its bin, or let it be the designated victim. */
void lu__dl_relist(struct lu__dl_space *space, struct lu__chunk *chunk, bool as_dv);
/* Take a free chunk but top out of wherever it is listed. False: damaged; nothing changed. */
bool lu__dl_unlist(struct lu__dl_space *space, struct lu__chunk *chunk) LU_MUST_CHECK;

/* ---- dl_bins.c: free chunks of any size ---- */

void lu__dl_bins_init(struct lu__dl_space *space);
void lu__dl_bin(struct lu__dl_space *space, struct lu__chunk *chunk);
/* False: its links are damaged, which was told; nothing changed. */
bool lu__dl_unbin(struct lu__dl_space *space, struct lu__chunk *chunk) LU_MUST_CHECK;
/* Take any chunk of a small bin that is not empty; NULL: damaged. */
struct lu__chunk *lu__dl_take_small(struct lu__dl_space *space, unsigned index);
/* True if the neighbours in a ring are in this space and know it. */
bool lu__dl_ring_sound(const struct lu__dl_space *space, const struct lu__links *links);

/* ---- dl_tree.c: free chunks from LU_DL_LARGE ---- */

unsigned lu__dl_tree_index(size_t size);
void lu__dl_tree_insert(struct lu__dl_space *space, struct lu__chunk *chunk);
/* As lu__dl_unbin. */
bool lu__dl_tree_remove(struct lu__dl_space *space, struct lu__chunk *chunk) LU_MUST_CHECK;
/* The smallest chunk of at least `size`, left in its place; NULL: none. */
struct lu__chunk *lu__dl_tree_best(const struct lu__dl_space *space, size_t size);
/* Check one tree; add the chunks in it to *chunks. */
bool lu__dl_tree_validate(const struct lu__dl_space *space, unsigned index, size_t *chunks,
                          struct lu__classic_fault *fault);

/* ---- dl_space.c ---- */

void lu__dl_space_init(struct lu__dl_space *space, struct lu__classic *heap);
/* The segment that the whole header of a chunk lies in, the fence excluded; NULL: none. */
struct lu__dl_segment *lu__dl_segment_of(const struct lu__dl_space *space, const void *chunk);
/* The first chunk that can be used. */
struct lu__chunk *lu__dl_segment_first(const struct lu__dl_segment *segment);
void lu__dl_set_top(struct lu__dl_space *space, struct lu__chunk *chunk, size_t size);
/* Get memory until top has room for a chunk of `size`. False: no memory. */
bool lu__dl_grow(struct lu__dl_space *space, size_t size) LU_MUST_CHECK;
/* After something in the segment became free: give back what is too much. */
void lu__dl_settle(struct lu__dl_space *space, struct lu__dl_segment *segment);
/* Give back all of top that can be, and more than `keep` bytes, by multiples of `unit`. */
void lu__dl_trim_top(struct lu__dl_space *space, size_t keep, size_t unit);

/* ---- dl_map.c: chunks of the main space that have a mapping each ---- */

/* The payload, at a multiple of `align`; NULL: no memory. */
void *lu__dl_map_alloc(struct lu__dl *dl, size_t align, size_t bytes);
/* True if `chunk` is in the area, and such a chunk. */
bool lu__dl_map_is(const struct lu__dl *dl, const struct lu__chunk *chunk);
void lu__dl_map_free(struct lu__dl *dl, struct lu__chunk *chunk);
/* NULL: it had better be copied. */
void *lu__dl_map_resize(struct lu__dl *dl, struct lu__chunk *chunk, size_t bytes);
/* The chunk in a mapping that is no segment. NULL: there is none; it is damaged. */
struct lu__chunk *lu__dl_map_chunk(const struct lu__mapping *mapping);

/* ---- dl_check.c ---- */

void lu__dl_walk(struct lu__classic *self, lu__block_visit *visit, void *arg);
bool lu__dl_validate(struct lu__classic *self, struct lu__classic_fault *fault);

#endif
