/*
 * slab_parts.h - what the files of the slab allocator share; slab.h is for others.
 *
 *     slab_policy.c     lu__policy_slab: malloc on size caches, large blocks from the arena
 *     slab_cache.c      object caches as slab.h has them
 *     slab_magazine.c   magazines of each processor, depot                (2001)
 *     slab.c            slabs: objects, colours, constructed state        (1994)
 *     slab_check.c      walk and validate
 *     vmem.c            the arena
 *
 * Lock order, from the outermost: heap's caches_lock; a processor's lock in a cache; the cache's
 * depot lock; the cache's slab lock; the slab lock of a magazine cache; that of the cache of
 * descriptors; the arena's; the area's. Hooks run without any but, in a reap of all caches,
 * caches_lock.
 */
#ifndef LU_CLASSIC_SLAB_PARTS_H
#define LU_CLASSIC_SLAB_PARTS_H

#include "classic/slab.h"
#include "classic/vmem.h"

#define LU_SLAB_PROCESSORS 32u /* places for magazines; more processors share them       */
#define LU_SLAB_MAP_WORDS 4u   /* 256 objects in a slab at most                          */
#define LU_SLAB_INSIDE_MOST ((size_t)512) /* larger objects: descriptor outside          */
#define LU_SLAB_OUTSIDE_ROOM 16u          /* objects that an outside descriptor can tell */
#define LU_SLAB_SIZES 36u                 /* caches for malloc, 16 bytes to 16 KiB       */
#define LU_SLAB_ALIGNED 8u                /* caches for aligned_alloc, 32 to 4096 bytes  */
#define LU_SLAB_MOST_SMALL ((size_t)16384)
#define LU_MAGAZINE_KINDS 6u /* of 2, 6, 14, 30, 62, 126 rounds: 32 bytes to 1 KiB     */

/* A byte for each object. Bytes of objects on the slab change under its lock; those of others by
 * the thread that has the object in hand, relaxed. */
enum lu__object_state {
    LU_OBJECT_RAW,    /* on the slab, not yet constructed                   */
    LU_OBJECT_MADE,   /* on the slab, as the last free left it: constructed */
    LU_OBJECT_CACHED, /* in a magazine                                      */
    LU_OBJECT_USED    /* the caller's                                       */
};

/* The descriptor of a slab. What its users read without a lock never changes. */
struct lu__slab {
    uint64_t magic; /* first: what overflows into a slab from below destroys it first */
    struct lu__slab *next, *prev;
    struct lu__slab_cache *cache;
    struct lu__seg *seg;
    uintptr_t first; /* object: behind the descriptor, if that is inside, and the colour */
    uint16_t capacity;
    uint16_t free; /* objects on the slab */
    uint32_t colour;
    uint64_t on_slab[LU_SLAB_MAP_WORDS]; /* bit i: object i is on the slab */
    uint8_t state[];
};

struct lu__magazine {
    struct lu__magazine *next; /* in the depot */
    uint16_t rounds, capacity;
    uint32_t kind;
    void *round[];
};

/* What a cache has for each processor; a line of its own. */
struct lu__slab_cpu {
    struct lu__lock lock;
    struct lu__magazine *loaded, *previous; /* either may be NULL; previous is full or empty */
    uint64_t allocs, frees;                 /* served here                                   */
} __attribute__((aligned(LU_CACHE_LINE)));

struct lu__slab_depot {
    struct lu__lock lock;
    struct lu__magazine *full, *empty; /* full is also looked at without the lock: atomic    */
    size_t fulls, empties;
    size_t least_fulls, least_empties; /* in this interval: what nobody needed               */
    unsigned kind, most_kind;          /* of magazines that are made from now on             */
    unsigned interval;                 /* exchanges from one look at these to the next       */
    unsigned operations, contended;    /* exchanges in this interval; with contention        */
    uint64_t exchanges, contention, growths;
};

struct lu__slab_cache {
    struct lu__slab_heap *heap;
    struct lu__slab_cache *next; /* in heap->caches */
    const char *name;
    lu__slab_hook *constructor, *destructor;
    void *arg;
    size_t asked, size, align; /* of an object; size with padding  */
    bool internal;             /* of the allocator's own objects   */
    bool own;                  /* made by lu__slab_cache_create    */
    bool outside;              /* descriptors are outside of slabs */
    size_t slab_bytes, capacity;
    size_t first;       /* offset of object 0 without colour           */
    size_t colour_most; /* offset that colour may add                  */
    size_t keep;        /* slabs without used objects to keep at hand  */

    struct lu__lock lock; /* of the slab layer, that is the following    */
    struct lu__slab *partial, *full, *empty;
    size_t slabs, empties;
    size_t next_colour;
    uint64_t taken, returned; /* objects that callers got, and gave, here    */
    uint64_t constructed, destructed, slabs_made, slabs_unmade;
    size_t check_slabs, check_cached, check_used; /* slab_check.c's notes */

    struct lu__slab_depot depot;
    struct lu__slab_cpu cpus[LU_SLAB_PROCESSORS];
};

struct lu__slab_heap {
    struct lu__classic head;
    struct lu__slab_options options;
    struct lu__vmem vmem;
    struct lu__lock caches_lock;
    struct lu__slab_cache *caches, *last_cache; /* all but the internal ones */
    struct lu__slab_cache sizes[LU_SLAB_SIZES], aligned[LU_SLAB_ALIGNED];
    struct lu__slab_cache magazines[LU_MAGAZINE_KINDS], descriptors;
};

LU_INLINE struct lu__slab_heap *lu__slab_heap_of(struct lu__classic *heap) {
    return (struct lu__slab_heap *)heap;
}

/* ---- slab.c ---- */

struct lu__slab_shape {
    const char *name;
    size_t bytes, align;
    bool internal;
    size_t keep;
};
/* `cache` is zeroed. Sets hooks to none. */
void lu__slab_setup(struct lu__slab_cache *cache, struct lu__slab_heap *heap,
                    const struct lu__slab_shape *shape);
uint64_t lu__slab_magic(const struct lu__slab *slab);
/* An object off a slab, constructed, its state USED. NULL: no memory. */
void *lu__slab_take(struct lu__slab_cache *cache);
/* An object that is USED or CACHED goes back to its slab, constructed as it is. `by_caller`: not
 * out of a magazine. */
void lu__slab_give(struct lu__slab *slab, size_t index, bool by_caller);
/* Give back all slabs without used objects. How many. */
size_t lu__slab_shrink(struct lu__slab_cache *cache);

/* The slab of an object, and its number there; NULL: it is no object. */
struct lu__slab *lu__slab_locate(struct lu__slab_heap *heap, const void *object, size_t *index);

LU_INLINE enum lu__object_state lu__object_state(const struct lu__slab *slab, size_t index) {
    return (enum lu__object_state)__atomic_load_n(&slab->state[index], __ATOMIC_RELAXED);
}
LU_INLINE void lu__object_set_state(struct lu__slab *slab, size_t index,
                                    enum lu__object_state state) {
    __atomic_store_n(&slab->state[index], (uint8_t)state, __ATOMIC_RELAXED);
}

/* ---- slab_magazine.c ---- */

size_t lu__magazine_bytes(unsigned kind);
void lu__magazine_setup(struct lu__slab_cache *cache);
/* A constructed object out of the magazines; NULL: they have none. Its state is still CACHED. */
void *lu__magazine_pop(struct lu__slab_cache *cache);
/* False: no magazine has room. */
bool lu__magazine_push(struct lu__slab_cache *cache, void *object) LU_MUST_CHECK;
/* Empty the magazines of one processor, or those of all and of the depot. */
void lu__magazine_drain_cpu(struct lu__slab_cache *cache, unsigned cpu);
void lu__magazine_drain(struct lu__slab_cache *cache);

/* ---- slab_cache.c ---- */

void lu__slab_enlist(struct lu__slab_heap *heap, struct lu__slab_cache *cache);
void *lu__slab_object_alloc(struct lu__slab_cache *cache);
/* The object is `index` of `slab`. Tells of misuse. */
void lu__slab_object_free(struct lu__slab *slab, size_t index, void *object);
/* Reap all caches; nothing if the calling thread is just doing that. */
void lu__slab_reap_all(struct lu__slab_heap *heap);

/* ---- slab_check.c ---- */

void lu__slab_walk(struct lu__classic *self, lu__block_visit *visit, void *arg);
bool lu__slab_validate(struct lu__classic *self, struct lu__classic_fault *fault);

#endif
