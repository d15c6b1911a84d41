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
};

/* A slab; its header stands at the start of its memory. All protected by the lock of its cache. */
struct lu__slab {
    struct lu__slab *next, *previous; /* in the list of its cache that it is on             */
    char *objects;                    /* the first object                                   */
    uint64_t *live;                   /* bit i: object i is with the program                */
    uint32_t ready;                   /* free constructed objects: order[0 .. ready)        */
    uint32_t raw;                     /* objects not constructed: order[count-raw .. count) */
    uint16_t order[];                 /* numbers of free objects; two stacks, see slabs.c   */
};

/* Fill in the shape for objects of `size` and a power of two `alignment`. False if too large. */
bool lu__slab_shape(struct lu__slab_shape *out, size_t size, size_t alignment) LU_MUST_CHECK;

/* A slab whose objects are all raw; NULL with ENOMEM. `colour` is any number. No lock needed. */
struct lu__slab *lu__slab_create(const struct lu__slab_shape *shape, size_t colour);
void lu__slab_destroy(struct lu__slab *slab);

LU_INLINE void *lu__slab_object(const struct lu__slab_shape *shape, const struct lu__slab *slab,
                                uint32_t index) {
    return slab->objects + shape->stride * index;
}
LU_INLINE bool lu__slab_is_live(const struct lu__slab *slab, uint32_t index) {
    return (slab->live[index / 64] >> (index % 64) & 1) != 0;
}
LU_INLINE void lu__slab_flip_live(struct lu__slab *slab, uint32_t index) {
    slab->live[index / 64] ^= (uint64_t)1 << (index % 64);
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

/* The slabs of a cache by address: a hash table that may be asked about any address. */
struct lu__slab_set {
    struct lu__slab **table; /* `capacity` places, empty ones NULL; NULL at first */
    size_t capacity;         /* 0 or a power of two                               */
    size_t used;             /* at most half of it                                */
};

/* A larger table is to be given before the next insertion. */
bool lu__slab_set_is_full(const struct lu__slab_set *set);
/* How many places that table shall have. */
size_t lu__slab_set_next_capacity(const struct lu__slab_set *set);
/* Move to `table`, zeroed and of a larger capacity; returns the old one, to be freed. */
void *lu__slab_set_replace(struct lu__slab_set *set, struct lu__slab **table, size_t capacity,
                           size_t slab_bytes);
void lu__slab_set_insert(struct lu__slab_set *set, struct lu__slab *slab, size_t slab_bytes);
void lu__slab_set_remove(struct lu__slab_set *set, struct lu__slab *slab, size_t slab_bytes);
/* The slab whose memory holds `address`, or NULL. Reads no memory at the address. */
struct lu__slab *lu__slab_set_find(const struct lu__slab_set *set, const void *address,
                                   size_t slab_bytes);

#endif
