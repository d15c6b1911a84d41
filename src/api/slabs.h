/* slabs.h - slabs of an object cache and the set that finds them by address. */
#ifndef LU_SLABS_H
#define LU_SLABS_H

#include "base/base.h"

/* How the slabs of one cache are cut. Constant once computed. */
struct lu__slab_shape {
    size_t slab_bytes;   /* a power of two; slabs are aligned to it          */
    size_t stride;       /* from one object to the next                      */
    size_t first_offset; /* of the first object in a slab without a colour   */
    size_t colour_step;  /* slabs differ by multiples of it in first_offset  */
    size_t colours;      /* how many of them there is room for, at least 1   */
    uint32_t count;      /* objects in a slab                                */
    uint32_t slab_shift; /* slab_bytes as a power of two                     */
};

/* A slab; its header stands at the start of its memory. All protected by the lock of its cache.
 * What an object is in, its two bits and `moving` say; the rest can be made from them again. */
struct lu__slab {
    struct lu__slab *next, *previous; /* in the list of its cache that it is on              */
    char *objects;                    /* the first object                                    */
    uint64_t *bits;                   /* of objects 64 i and on: [2 i] out, [2 i + 1] built  */
    uint32_t ready;                   /* free constructed objects: order[0 .. ready)         */
    uint32_t raw;                     /* objects not constructed: order[count-raw .. count)  */
    uint32_t moving;                  /* objects whose constructor or destructor runs        */
    uint32_t epoch;                   /* of the cache when stacks and list were made         */
    uint16_t order[];                 /* numbers of free objects; two stacks, see slabs.c    */
};

/* Fill in the shape for objects of `size` and a power of two `alignment`. False if too large. */
bool lu__slab_shape(struct lu__slab_shape *out, size_t size, size_t alignment) LU_MUST_CHECK;

/* A slab whose objects are all raw; NULL with ENOMEM. `colour` is any number. No lock needed. */
struct lu__slab *lu__slab_create(const struct lu__slab_shape *shape, size_t colour);
void lu__slab_destroy(struct lu__slab *slab);
/* Make the two stacks from the bits. */
void lu__slab_restack(const struct lu__slab_shape *shape, struct lu__slab *slab);

LU_INLINE void *lu__slab_object(const struct lu__slab_shape *shape, const struct lu__slab *slab,
                                uint32_t index) {
    return slab->objects + shape->stride * index;
}

/* The bits of an object. A change is one store, in the order of the program for a forked child. */
enum lu__slab_bit { LU_SLAB_OUT, LU_SLAB_BUILT };
LU_INLINE bool lu__slab_is(const struct lu__slab *slab, uint32_t index, enum lu__slab_bit bit) {
    return (slab->bits[index / 64 * 2 + bit] >> (index % 64) & 1) != 0;
}
LU_INLINE void lu__slab_set_bit(struct lu__slab *slab, uint32_t index, enum lu__slab_bit bit) {
    uint64_t *word = &slab->bits[index / 64 * 2 + bit];
    __atomic_store_n(word, *word | (uint64_t)1 << (index % 64), __ATOMIC_RELEASE);
}
LU_INLINE void lu__slab_clear_bit(struct lu__slab *slab, uint32_t index, enum lu__slab_bit bit) {
    uint64_t *word = &slab->bits[index / 64 * 2 + bit];
    __atomic_store_n(word, *word & ~((uint64_t)1 << (index % 64)), __ATOMIC_RELEASE);
}
/* With the program. */
LU_INLINE bool lu__slab_is_live(const struct lu__slab *slab, uint32_t index) {
    const uint64_t *words = &slab->bits[index / 64 * 2];
    return ((words[LU_SLAB_OUT] & words[LU_SLAB_BUILT]) >> (index % 64) & 1) != 0;
}

/* Take a number from a stack, or put one back. Pop only where ready or raw is not 0. */
LU_INLINE uint32_t lu__slab_pop_ready(struct lu__slab *slab) {
    return slab->order[--slab->ready];
}
LU_INLINE void lu__slab_push_ready(struct lu__slab *slab, uint32_t index) {
    slab->order[slab->ready++] = (uint16_t)index;
}
LU_INLINE uint32_t lu__slab_pop_raw(const struct lu__slab_shape *shape, struct lu__slab *slab) {
    return slab->order[shape->count - slab->raw--];
}
LU_INLINE void lu__slab_push_raw(const struct lu__slab_shape *shape, struct lu__slab *slab,
                                 uint32_t index) {
    slab->order[shape->count - ++slab->raw] = (uint16_t)index;
}

/* ---------------------------------------------------------------- slab_set.c */

/* The slabs of a cache by number, which is their address by their size: a tree, see slab_set.c.
 * Protected by the lock of the cache. Whole at any instant: what a forked child finds. */
#define LU_SLAB_FAN_SHIFT 6
#define LU_SLAB_FAN (1u << LU_SLAB_FAN_SHIFT)
struct lu__slab_node {
    uint64_t first;            /* the first number that it covers; constant              */
    uint32_t shift;            /* a place covers 2^shift numbers; 0: a leaf. Constant    */
    void *places[LU_SLAB_FAN]; /* nodes, or slabs in a leaf; NULL: none                  */
};
struct lu__slab_set {
    struct lu__slab_node *root; /* covers all there are; NULL before the first */
};

/* The slab of that number, or NULL. */
LU_INLINE struct lu__slab *lu__slab_set_find(const struct lu__slab_set *set, uint64_t number) {
    const struct lu__slab_node *node = set->root;
    if (node == NULL || (number - node->first) >> node->shift >= LU_SLAB_FAN) return NULL;
    for (;;) {
        void *place = node->places[number >> node->shift & (LU_SLAB_FAN - 1)];
        if (place == NULL || node->shift == 0) return place;
        node = place;
    }
}
/* Put in a slab that is not there. False: nothing was done but that *spare, a zeroed node or NULL,
 * may have been taken; come again with another. Needs at most LU_SLAB_LEVELS. */
#define LU_SLAB_LEVELS 9
bool lu__slab_set_insert(struct lu__slab_set *set, struct lu__slab *slab, uint64_t number,
                         struct lu__slab_node **spare) LU_MUST_CHECK;
/* Take out the slab of that number, which is there. */
void lu__slab_set_remove(struct lu__slab_set *set, uint64_t number);
/* The next slab from *number on, which becomes the number behind; NULL if there is none before
 * *number after `steps` looks, each of which skips what is empty as far as a node says. At the end
 * *number is UINT64_MAX. */
struct lu__slab *lu__slab_set_next(const struct lu__slab_set *set, uint64_t *number,
                                   unsigned steps);
/* Free the nodes. No lock needed. */
void lu__slab_set_clear(struct lu__slab_set *set);

#endif
