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

/* The state of an object. One byte for each, so that a thread can change the state of its own
 * objects without a lock (magazine.h); always by one store, so that a forked child never sees half
 * a change. */
enum lu__slab_state {
    LU_SLAB_RAW,    /* not constructed; in the stack of raw ones                     */
    LU_SLAB_READY,  /* constructed and free; in the stack of ready ones              */
    LU_SLAB_HAND,   /* the same, in a magazine of some thread                        */
    LU_SLAB_LIVE,   /* with the program                                              */
    LU_SLAB_MOVING, /* its constructor or destructor runs                            */
};

/* A slab; its header stands at the start of its memory. All but the states protected by the lock of
 * its cache. What an object is in, its state and `moving` say; the rest can be made from them. */
struct lu__slab {
    struct lu__slab *next, *previous; /* in the list of its cache that it is on              */
    char *objects;                    /* the first object; constant                          */
    uint16_t *order;                  /* numbers of free objects; two stacks, see slabs.c    */
    uint32_t ready;                   /* free constructed objects: order[0 .. ready)         */
    uint32_t raw;                     /* objects not constructed: order[count-raw .. count)  */
    uint32_t moving;                  /* objects whose constructor or destructor runs        */
    uint32_t epoch;                   /* of the cache when stacks and list were made; atomic */
    uint8_t states[];                 /* enum lu__slab_state of each object; atomic          */
};

/* Fill in the shape for objects of `size` and a power of two `alignment`. False if too large. */
bool lu__slab_shape(struct lu__slab_shape *out, size_t size, size_t alignment) LU_MUST_CHECK;

/* A slab whose objects are all raw; NULL with ENOMEM. `colour` is any number. No lock needed. */
struct lu__slab *lu__slab_create(const struct lu__slab_shape *shape, size_t colour);
void lu__slab_destroy(struct lu__slab *slab);
/* Make the two stacks from the states. `lost`: the magazines no longer have their objects. */
void lu__slab_restack(const struct lu__slab_shape *shape, struct lu__slab *slab, bool lost);

LU_INLINE void *lu__slab_object(const struct lu__slab_shape *shape, const struct lu__slab *slab,
                                uint32_t index) {
    return slab->objects + shape->stride * index;
}

LU_INLINE uint8_t lu__slab_state(const struct lu__slab *slab, uint32_t index) {
    return __atomic_load_n(&slab->states[index], __ATOMIC_RELAXED);
}
LU_INLINE void lu__slab_set_state(struct lu__slab *slab, uint32_t index, enum lu__slab_state to) {
    __atomic_store_n(&slab->states[index], (uint8_t)to, __ATOMIC_RELEASE);
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
 * Changed under the lock of the cache. Consistent at any instant: for a forked child, and for
 * readers without the lock. */
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

/* The slab of that number, or NULL. Without the lock: a slab that holds a live object is found. */
LU_INLINE struct lu__slab *lu__slab_set_find(const struct lu__slab_set *set, uint64_t number) {
    /* Acquire; partners: the releases of slab_set.c. */
    const struct lu__slab_node *node = __atomic_load_n(&set->root, __ATOMIC_ACQUIRE);
    if (node == NULL || (number - node->first) >> node->shift >= LU_SLAB_FAN) return NULL;
    for (;;) {
        void *const *place = &node->places[number >> node->shift & (LU_SLAB_FAN - 1)];
        void *at = __atomic_load_n(place, __ATOMIC_ACQUIRE);
        if (at == NULL || node->shift == 0) return at;
        node = at;
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
