/*
 * slab.h - object caches: what the slab allocator is for, with malloc as one of its users.
 *
 *     cache = lu__slab_cache_create(heap, "session", sizeof(struct session), 0, make, unmake, 0);
 *     session = lu__slab_cache_alloc(cache);      `make` was called, now or by an earlier alloc
 *     …                                           leave it as `make` does, with its locks and lists
 *     lu__slab_cache_free(cache, session);        not unmade: the next alloc gets it as it is
 *     lu__slab_cache_reap(cache);                 `unmake` is called for what is free
 *
 * `heap` is one of the policy lu__policy_slab. Objects are blocks of the heap: walks tell them, and
 * lu__classic_free frees them. Every function but those that say otherwise may be called by any
 * thread at any time. Constructors and destructors are called without a lock and may use the heap,
 * but not create or destroy caches.
 */
#ifndef LU_CLASSIC_SLAB_H
#define LU_CLASSIC_SLAB_H

#include "classic/classic.h"

#define LU_SLAB_OBJECT_MOST (64 * LU_KIB)

struct lu__slab_cache;

typedef void lu__slab_hook(void *object, void *arg);

/* A cache of objects of `bytes` (1 to LU_SLAB_OBJECT_MOST) at multiples of `align` (a power of two
 * up to the quantum, 4096; 0: 16). The hooks may be NULL; `name` stays the caller's. NULL: no
 * memory, or arguments that make no sense. */
struct lu__slab_cache *lu__slab_cache_create(struct lu__classic *heap, const char *name,
                                             size_t bytes, size_t align, lu__slab_hook *constructor,
                                             lu__slab_hook *destructor, void *arg);
/* NULL: no memory. */
void *lu__slab_cache_alloc(struct lu__slab_cache *cache);
/* An object of this cache, in the state that its constructor leaves. NULL is nothing. */
void lu__slab_cache_free(struct lu__slab_cache *cache, void *object);
/* Empty the magazines, of all processors and of the depot, and give slabs without used objects
 * back to the arena. How many these were. */
size_t lu__slab_cache_reap(struct lu__slab_cache *cache);
/* Reap, and remove the cache: false, and it stays, if objects are in use. Nobody may use it at the
 * same time. A heap that is destroyed takes its caches along without calling a destructor. */
bool lu__slab_cache_destroy(struct lu__slab_cache *cache);

/* Make the cache believe that `times` more callers found its depot's lock held. In a simulation
 * nobody ever does. */
void lu__slab_cache_contend(struct lu__slab_cache *cache, unsigned times);

struct lu__slab_cache_stats {
    const char *name;
    size_t object_bytes, align; /* with padding                                             */
    size_t slab_bytes, objects_per_slab;
    bool descriptor_outside;     /* the slab's descriptor does not lie in the slab           */
    size_t colours, colour_step; /* different offsets of the first object, and their distance */
    size_t slabs, slabs_made, slabs_unmade;
    size_t used, cached, free; /* objects: the callers', in magazines, in slabs            */
    uint64_t allocs, frees;
    uint64_t constructed; /* objects made (the constructor's calls, if there is one)  */
    uint64_t reused;      /* allocs that got an object as an earlier free left it     */
    uint64_t destructed;
    uint64_t hits; /* allocs and frees that a processor's own magazines served */
    size_t rounds; /* that a magazine now holds                                */
    size_t full_magazines, empty_magazines; /* in the depot                                  */
    uint64_t exchanges;                     /* of a magazine with the depot                  */
    uint64_t contention;                    /* times that the depot's lock was found held    */
    uint64_t growths;                       /* of the magazines                              */
};
void lu__slab_cache_stats(struct lu__slab_cache *cache, struct lu__slab_cache_stats *stats);

/* The cache that serves requests of `bytes` to lu__classic_alloc; NULL: the arena itself does. */
struct lu__slab_cache *lu__slab_cache_for(struct lu__classic *heap, size_t bytes);
/* The cache of an object; NULL: it has none. */
struct lu__slab_cache *lu__slab_cache_of(struct lu__classic *heap, const void *object);
/* All caches that callers' objects come from, in the order of their creation. False ends it. No
 * cache may be created or destroyed meanwhile. */
void lu__slab_caches(struct lu__classic *heap,
                     bool (*visit)(void *arg, struct lu__slab_cache *cache), void *arg);

/* How a heap works; all false is the default. To be set before the first allocation. */
struct lu__slab_options {
    bool no_colour;    /* every slab begins alike                                           */
    bool no_magazines; /* the slab layer alone, as in 1994                                  */
    bool by_processor; /* magazines by the processor that really runs, as in the heap of a
                          process, not by the number of the simulated thread                */
};
void lu__slab_configure(struct lu__classic *heap, const struct lu__slab_options *options);

#endif
