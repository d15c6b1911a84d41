/*
 * magazine.h - the objects of each cache that a thread has at hand: the fast paths of
 * lu_cache_alloc and lu_cache_free. magazine.c has the picture.
 */
#ifndef LU_MAGAZINE_H
#define LU_MAGAZINE_H

#include "api/slabs.h"
#include "heap/heap.h"

struct lu_cache;

/* A free constructed object at hand, and its state in its slab: LU_SLAB_HAND. */
struct lu__round {
    void *object;
    uint8_t *state; /* atomic */
};

/* Belongs to one thread, and is used by no other. Valid only if the stamp is that of the cache. */
struct lu__magazine {
    uint64_t stamp;           /* 0: of no cache                                           */
    struct lu__round *top;    /* the round to be given next; `bottom`: none               */
    struct lu__round *full;   /* where `top` may not go beyond                            */
    size_t slab;              /* one that an object was freed into lately: its address     */
    struct lu__round *bottom; /* what is no round: its state is never LU_SLAB_HAND       */
    uint64_t serial;          /* of the cache whose objects these are; 0: none            */
} __attribute__((aligned(64)));

/* One magazine for each numbered cache. The one of number 0 is never used: a cache without number
 * finds it, and its place is the head's. */
#define LU_RACK_CACHES 256u
struct lu__rack_head {
    uint64_t never;             /* 0; stands where the stamp does       */
    struct lu__rack *next_all;  /* constant                             */
    struct lu__rack *next_idle; /* under the lock of CACHES             */
    uint32_t forks;             /* lu__cache_forks when it was claimed  */
    uint32_t used;              /* magazines from this number on are untouched; owner */
};
struct lu__rack {
    union {
        struct lu__rack_head head;
        struct lu__magazine magazines[LU_RACK_CACHES];
    };
};

/* The calling thread's; where it has none, one without a stamp, which nobody writes to. */
extern __thread struct lu__rack *lu__rack
    __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern struct lu__rack lu__no_rack LU_HIDDEN;

#define LU_MAGAZINE_BYTES (16u << 10) /* of objects in a magazine, at most       */
#define LU_MAGAZINE_MOST 63u          /* rounds: with the bottom, a piece of 1 KiB */
#define LU_MAGAZINE_LEAST 4u          /* below, objects are so large that magazines do not matter */

/* A number that no cache of this process has had, for stamps and serials. */
uint64_t lu__magazine_stamp(void);

/* Give a new cache, that is complete, its number, or none. No lock held. */
void lu__magazine_enroll(struct lu_cache *cache);
/* The cache is ending; its lock is not held. Afterwards no thread's end comes to it. */
void lu__magazine_strike(struct lu_cache *cache);

/* Give the calling thread the memory for a magazine of the cache; it gets none if there is no
 * memory, or if the end of the thread could not be noticed. No lock held; not inside. */
void lu__magazine_prepare_slow(const struct lu_cache *cache);

/* The calling thread's magazine of the cache, in order, or NULL. Under the lock of the cache. */
struct lu__magazine *lu__magazine_adopt(struct lu_cache *cache);
/* Take the lowest rounds out, until at most `keep` are left, and give them to their slabs. Under
 * the lock of the cache, which is the magazine's. */
void lu__magazine_flush(struct lu_cache *cache, struct lu__magazine *magazine, size_t keep);
/* Give all rounds of the calling thread to their slabs, if it has any. Under the lock. */
void lu__magazine_flush_mine(struct lu_cache *cache);
/* Fill up to half from ready objects. Under the lock of the cache. */
void lu__magazine_refill(struct lu_cache *cache, struct lu__magazine *magazine);

/* The calling thread ends: its objects at hand go to their slabs, its rack to a later thread. */
void lu__magazine_thread_exit(void);
/* All objects that the calling thread has at hand go to their slabs; it keeps the magazines. */
void lu__magazine_purge(void);
/* In a process that is a copy: the calling thread is the one that was copied. */
void lu__magazine_fork_child(void);

/* The first round's object, live from now on. False: there is none, or it is not at hand. */
LU_INLINE LU_MUST_CHECK bool lu__magazine_pop(struct lu__magazine *magazine, void **object) {
    struct lu__round *round = magazine->top;
    uint8_t *state = round->state;
    if (LU_UNLIKELY(LU_RELAXED(*state) != LU_SLAB_HAND)) return false;
    magazine->top = round - 1;
    __atomic_store_n(state, (uint8_t)LU_SLAB_LIVE, __ATOMIC_RELAXED);
    *object = round->object;
    return true;
}
/* There is room. */
LU_INLINE void lu__magazine_push(struct lu__magazine *magazine, void *object, uint8_t *state) {
    struct lu__round *round = magazine->top + 1;
    round->object = object;
    round->state = state;
    magazine->top = round;
    __atomic_store_n(state, (uint8_t)LU_SLAB_HAND, __ATOMIC_RELAXED);
}

#endif
