/*
 * fit.h - what the sequential fits and the tree share: blocks with boundary tags, and the order
 * in which free blocks are kept.
 *
 * fit.c has blocks, merging and the break; fit_list.c and fit_tree.c keep the free blocks and
 * search. For one thread.
 */
#ifndef LU_CLASSIC_FIT_H
#define LU_CLASSIC_FIT_H

#include "classic/classic.h"

/* A block; see the picture in fit.c. The links are those of a free one. */
struct lu__fit_block {
    size_t tag; /* bytes, a multiple of 16, and the flags */
    union {
        struct lu__fit_block *next; /* by address, with a head that is no block (fit_list.c) */
        struct lu__fit_block *left; /* smaller (fit_tree.c)                                  */
    };
    union {
        struct lu__fit_block *prev;
        struct lu__fit_block *right;
    };
};

enum {
    LU_FIT_USED = 1,        /* this block                                */
    LU_FIT_BEFORE_USED = 2, /* the block before: so it has no footer     */
    LU_FIT_FLAGS = 15,
    LU_FIT_LEAST = 32, /* bytes of a block: tag, two links, footer  */
    LU_FIT_TAG = 8,
};

struct lu__fit;

/* How free blocks are kept. A hint is the free block (or the head) that comes before by address. */
struct lu__fit_order {
    /* A free block of at least `bytes`, which stays; NULL: there is none. */
    struct lu__fit_block *(*search)(struct lu__fit *fit, size_t bytes);
    /* Take it out; a hint for what will be put at its place, or NULL. */
    struct lu__fit_block *(*take)(struct lu__fit *fit, struct lu__fit_block *block);
    /* Put in a free block whose tag is ready. `hint` NULL: not known. */
    void (*put)(struct lu__fit *fit, struct lu__fit_block *block, struct lu__fit_block *hint);
    /* Blocks are seen in the order of their addresses, then NULL. True: this one is kept as it
     * should be. `state` is for the callee, NULL at first. */
    bool (*check)(const struct lu__fit *fit, const struct lu__fit_block *block,
                  const struct lu__fit_block **state, struct lu__classic_fault *fault);
};

struct lu__fit {
    struct lu__classic heap;
    const struct lu__fit_order *order;
    struct lu__fit_block list;   /* the head: no block, no bytes              */
    uintptr_t position;          /* next fit: where the block handed out last ends   */
    struct lu__fit_block *rover; /* the lowest free block that ends above, or the head */
    struct lu__fit_block *root;  /* of the tree                               */
    size_t free_blocks;          /* that are kept                             */
};

LU_INLINE size_t lu__fit_bytes(const struct lu__fit_block *block) {
    return block->tag & ~(size_t)LU_FIT_FLAGS;
}
LU_INLINE bool lu__fit_is_used(const struct lu__fit_block *block) {
    return (block->tag & LU_FIT_USED) != 0;
}
LU_INLINE struct lu__fit_block *lu__fit_at(const struct lu__fit_block *block, size_t bytes) {
    return (struct lu__fit_block *)((uintptr_t)block + bytes);
}
LU_INLINE struct lu__fit_block *lu__fit_after(const struct lu__fit_block *block) {
    return lu__fit_at(block, lu__fit_bytes(block));
}
/* The tag of no bytes at the end of the heap; there is a heap. */
LU_INLINE struct lu__fit_block *lu__fit_fence(const struct lu__fit *fit) {
    return (struct lu__fit_block *)(fit->heap.area.base + fit->heap.area.broken - LU_FIT_TAG);
}
/* True if a block could begin there, and its tag, links and footer be read. */
bool lu__fit_is_inside(const struct lu__fit *fit, const struct lu__fit_block *block);

/* The functions of the table. */
bool lu__fit_init(struct lu__classic *self, const struct lu__fit_order *order);
void *lu__fit_alloc(struct lu__classic *self, size_t bytes);
void *lu__fit_alloc_aligned(struct lu__classic *self, size_t align, size_t bytes);
void lu__fit_free(struct lu__classic *self, void *payload);
void *lu__fit_resize(struct lu__classic *self, void *payload, size_t bytes);
size_t lu__fit_usable_size(const struct lu__classic *self, const void *payload);
void lu__fit_walk(struct lu__classic *self, lu__block_visit *visit, void *arg);
bool lu__fit_validate(struct lu__classic *self, struct lu__classic_fault *fault);
/* Note a fault; false. */
bool lu__fit_wrong(struct lu__classic_fault *fault, const char *what, const void *where);

#define LU_FIT_FUNCTIONS                                                                      \
    .state_bytes = sizeof(struct lu__fit), .align = LU_CLASSIC_ALIGN, .alloc = lu__fit_alloc, \
    .alloc_aligned = lu__fit_alloc_aligned, .free = lu__fit_free, .resize = lu__fit_resize,   \
    .usable_size = lu__fit_usable_size, .walk = lu__fit_walk, .validate = lu__fit_validate

#endif
