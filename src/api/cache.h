/* cache.h - an object cache from inside: what cache.c, cache_end.c and magazine.c share. */
#ifndef LU_CACHE_H
#define LU_CACHE_H

#include "api/magazine.h"
#include "api/slabs.h"
#include "lucid/lucid.h"
#include "os/lock.h"

struct lu__slab_list {
    struct lu__slab *first;
};

struct lu_cache {
    /* What the fast paths read. */
    size_t place;     /* of its magazine in a rack, in bytes; 0: it has none. Constant        */
    uint64_t stamp;   /* of the magazines that are in order; atomic, changed under the lock   */
    size_t slab_mask; /* an address by this is the slab's. Constant                           */
    uint64_t inverse; /* offset in a slab * inverse >> 32: number of the object. Constant     */
    uint32_t bound;   /* above the lower half of that, for what is an object. Constant        */

    uint32_t most_rounds;        /* in a magazine; 0: no magazines. Constant */
    struct lu__slab_shape shape; /* constant */
    lu_construct_fn *construct;  /* constant */
    lu_destruct_fn *destruct;    /* constant */
    void *arg;                   /* constant */
    char name[32];               /* constant, cut; for who looks at a core file */

    uint32_t forks; /* atomic: lu__cache_forks when the lock was last known to be in order */

    struct lu__slab_set set; /* all; changed under the lock                        */
    uint32_t epoch;          /* slabs of another are on no list, see cache.c. Atomic,
                                        changed under the lock                             */

    struct lu__lock lock __attribute__((aligned(64))); /* protects what follows            */
    struct lu__slab_list ready, raw; /* of the slabs of this epoch; the full are on none   */
    uint64_t serial;                 /* of the magazines that hold its objects             */
    uint32_t users;                  /* magazines with that serial                         */
    bool hands_lost;                 /* objects in magazines, of slabs not settled, are in none */
    bool unsettled;                  /* there may be such                                  */
    bool ending;                     /* lu_cache_destroy was called                        */
    bool ended;                      /* ... and has done all but what waits for `inside`   */
    uint64_t settled;                /* the slabs from this number on may be unsettled     */
    size_t ready_count;              /* free constructed objects in slabs of this epoch    */
    size_t next_colour;              /* of the next slab                                   */
    size_t inside;                   /* calls that left the lock and will come back        */
};

/* How many forks this process is away from where the library was loaded. Changes in the child of
 * fork only, before it has a second thread. */
extern uint32_t lu__cache_forks LU_HIDDEN;

/* Guards what is of all caches: which were put in order since the last fork, and magazine.c. */
extern struct lu__lock lu__caches_lock LU_HIDDEN;

/* The cache was last used before a fork: put its lock in order. */
void lu__cache_see_fork(struct lu_cache *cache);
/* The same for who holds lu__caches_lock, if it was. */
void lu__cache_see_fork_locked(struct lu_cache *cache);
LU_INLINE void lu__cache_enter_inside(struct lu_cache *cache) {
    uint32_t me = lu__lock_me(); /* first: if the process is a copy, that counts one more */
    if (LU_UNLIKELY(__atomic_load_n(&cache->forks, __ATOMIC_ACQUIRE) != lu__cache_forks))
        lu__cache_see_fork(cache);
    lu__lock_acquire_as(&cache->lock, me);
}
/* False where waiting would be a deadlock: in a signal handler that interrupted its thread inside
 * the library (os/lock.h). */
LU_INLINE LU_MUST_CHECK bool lu__cache_enter(struct lu_cache *cache) {
    if (LU_UNLIKELY(!lu__inside_enter())) return false;
    lu__cache_enter_inside(cache);
    return true;
}
LU_INLINE void lu__cache_leave(struct lu_cache *cache) {
    lu__lock_release(&cache->lock);
    lu__inside_leave();
}

/* Release the lock for code of the program, or code that may call it, and take it again. In
 * between, the cache may be destroyed: then `ending` says so, its lists are empty, and the
 * structure lives until the last call that came back leaves by lu__cache_leave_last. */
LU_INLINE void lu__cache_go_out(struct lu_cache *cache) {
    cache->inside++;
    lu__cache_leave(cache);
}
/* For a caller that has held the lock in this call: lu__cache_enter cannot fail then. */
LU_INLINE void lu__cache_enter_again(struct lu_cache *cache) {
    lu__inside_begin();
    lu__cache_enter_inside(cache);
}
LU_INLINE void lu__cache_come_back(struct lu_cache *cache) {
    lu__cache_enter_again(cache);
    cache->inside--;
}
void lu__cache_leave_last(struct lu_cache *cache);

LU_INLINE uint64_t lu__slab_number(const struct lu_cache *cache, const void *address) {
    return (uintptr_t)address >> cache->shape.slab_shift;
}

/* The calling thread's magazine of the cache, or one without a stamp. */
LU_INLINE struct lu__magazine *lu__magazine_of(const struct lu_cache *cache) {
    return (struct lu__magazine *)(void *)((char *)lu__rack + cache->place);
}

/* After the counts of a slab of this epoch changed: move it to the list to which it now belongs.
 * `was` is the list that it is on. */
LU_INLINE struct lu__slab_list *lu__cache_list_of(struct lu_cache *cache,
                                                  const struct lu__slab *slab) {
    return slab->ready > 0 ? &cache->ready : slab->raw > 0 ? &cache->raw : NULL;
}
void lu__slab_relink(struct lu__slab *slab, struct lu__slab_list *was, struct lu__slab_list *now);
LU_INLINE void lu__cache_relink(struct lu_cache *cache, struct lu__slab *slab,
                                struct lu__slab_list *was) {
    struct lu__slab_list *now = lu__cache_list_of(cache, slab);
    if (now != was) lu__slab_relink(slab, was, now);
}

/* Make the slab one of this epoch, if it is not. Not when the cache is ending. */
void lu__cache_settle_slow(struct lu_cache *cache, struct lu__slab *slab);
LU_INLINE void lu__cache_settle(struct lu_cache *cache, struct lu__slab *slab) {
    if (LU_UNLIKELY(slab->epoch != cache->epoch)) lu__cache_settle_slow(cache, slab);
}
/* An object of the cache is free, constructed and in no magazine from now on. */
void lu__cache_put_ready(struct lu_cache *cache, void *object);

/* Do so for the next unsettled slabs, after at most `steps` looks; stops when one has something to
 * give if `soon`. */
void lu__cache_settle_some(struct lu_cache *cache, unsigned steps, bool soon);

/* The constructor or destructor of an object of the slab has run, and the cache is ending: give the
 * slab back if the destruction has left it for this. */
void lu__cache_drop(struct lu_cache *cache, struct lu__slab *slab);

#endif
