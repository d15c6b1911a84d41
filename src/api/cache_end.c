/*
 * cache_end.c - object caches: how objects are destroyed, some of them or all.
 *
 * The destructor of every object that was constructed runs once, whatever the destructors and
 * constructors of the program do meanwhile with this cache:
 *
 *     in lu_cache_reap       free, alloc and reap work as always. Not more objects are destroyed
 *                            than there were too many when it began, so that it ends also if each
 *                            destructor frees another; and only so many calls in one another, since
 *                            each needs its part of the stack.
 *     in lu_cache_destroy    free of an object that the program still has is right once, whether
 *                            its destructor has run or will. alloc refuses, reap and destroy do
 *                            nothing.
 *     lu_cache_destroy in    destroys all but the object whose function runs: that one's slab and
 *     a function of an       the cache's structure wait until the call that ran the function comes
 *     object                 back. (One that never does, since it was left by longjmp or its thread
 *                            is not in this child of fork, leaves them for ever.)
 *
 * No lock is held over a walk: it is taken for each object, or for a batch of objects without a
 * destructor.
 */
#include "api/cache.h"

#include "heap/engine.h"

#define BATCH 64u
#define REAPS_MOST 16u /* calls of lu_cache_reap in one another */

/* How many calls of lu_cache_reap this thread is in. */
static __thread unsigned reaps __attribute__((tls_model("initial-exec")));

/* ------------------------------------------------------------------ reap --------------------- */

/* Put an object of a settled slab whose destructor has run, and that is in no stack, back as raw;
 * and the slab to the engine if it was the last. Called with the lock, returns with it. */
static void retire(struct lu_cache *cache, struct lu__slab *slab, uint32_t index) {
    struct lu__slab_list *was = lu__cache_list_of(cache, slab);
    lu__slab_clear_bit(slab, index, LU_SLAB_OUT);
    lu__slab_push_raw(&cache->shape, slab, index);
    if (slab->raw < cache->shape.count) {
        lu__cache_relink(cache, slab, was);
        return;
    }
    lu__slab_relink(slab, was, NULL);
    lu__slab_set_remove(&cache->set, lu__slab_number(cache, slab));
    lu__cache_go_out(cache);
    lu__slab_destroy(slab);
    lu__cache_come_back(cache);
}

/* Destroy one ready object, of which there is one. Called with the lock, returns with it. */
static void reap_one(struct lu_cache *cache) {
    struct lu__slab *slab = cache->ready.first;
    uint32_t index = lu__slab_pop_ready(slab);
    cache->ready_count--;
    lu__cache_relink(cache, slab, &cache->ready);
    if (cache->destruct != NULL) lu__slab_set_bit(slab, index, LU_SLAB_OUT);
    lu__slab_clear_bit(slab, index, LU_SLAB_BUILT);
    if (cache->destruct != NULL) {
        slab->moving++;
        lu__cache_go_out(cache);
        cache->destruct(lu__slab_object(&cache->shape, slab, index), cache->arg);
        lu__cache_come_back(cache);
        if (cache->ending) return lu__cache_drop(cache, slab);
        lu__cache_settle(cache, slab);
        slab->moving--;
    }
    retire(cache, slab, index);
}

/* Let others have the lock. */
static void pause_for_others(struct lu_cache *cache) {
    lu__cache_go_out(cache);
    lu__cache_come_back(cache);
}

static size_t reap(struct lu_cache *cache, size_t keep) {
    size_t destroyed = 0, most;
    if (!lu__cache_enter(cache)) return 0;
    while (cache->unsettled) {
        lu__cache_settle_some(cache, BATCH, false);
        pause_for_others(cache);
    }
    most = cache->ready_count - LU_MIN(cache->ready_count, keep);
    while (destroyed < most && cache->ready_count > keep) {
        reap_one(cache);
        if (++destroyed % BATCH == 0) pause_for_others(cache);
    }
    lu__cache_leave_last(cache);
    return destroyed;
}

size_t lu_cache_reap(lu_cache_t *cache, size_t keep) {
    unsigned outer = reaps;
    if (outer >= REAPS_MOST) return 0;
    reaps = outer + 1;
    size_t destroyed = reap(cache, keep);
    reaps = outer;
    return destroyed;
}

/* ------------------------------------------------------------------ destroy ------------------ */

void lu__cache_leave_last(struct lu_cache *cache) {
    bool last = cache->ended && cache->inside == 0;
    lu__cache_leave(cache);
    if (!last) return;
    lu__slab_set_clear(&cache->set);
    lu__engine_free(cache);
}

void lu__cache_drop(struct lu_cache *cache, struct lu__slab *slab) {
    slab->moving--;
    if (!cache->ended || slab->moving > 0) return;
    lu__slab_set_remove(&cache->set, lu__slab_number(cache, slab));
    lu__cache_go_out(cache);
    lu__slab_destroy(slab);
    lu__cache_come_back(cache);
}

/* While the cache is ending nothing is constructed or reaped, and no slab comes or goes: each
 * object
 * is met once, and neither the set nor the bits of what is built need the lock. */
static void destruct_all(struct lu_cache *cache) {
    const struct lu__slab_shape *shape = &cache->shape;
    uint64_t number = 0;
    struct lu__slab *slab;
    while ((slab = lu__slab_set_next(&cache->set, &number, UINT32_MAX)) != NULL) {
        for (uint32_t i = 0; i < shape->count; i++) {
            if (lu__slab_is(slab, i, LU_SLAB_BUILT))
                cache->destruct(lu__slab_object(shape, slab, i), cache->arg);
        }
    }
}

/* Give the slabs back in which nothing moves. */
static void destroy_slabs(struct lu_cache *cache) {
    uint64_t number = 0;
    struct lu__slab *slab;
    while ((slab = lu__slab_set_next(&cache->set, &number, UINT32_MAX)) != NULL) {
        if (slab->moving > 0) continue;
        lu__slab_set_remove(&cache->set, lu__slab_number(cache, slab));
        lu__slab_destroy(slab);
    }
}

void lu_cache_destroy(lu_cache_t *cache) {
    if (cache == NULL || !lu__cache_enter(cache)) return;
    if (cache->ending) {
        lu__cache_leave(cache);
        return;
    }
    cache->ending = true;
    cache->epoch++; /* so that no slab is taken for one of a list */
    cache->unsettled = false;
    cache->ready.first = cache->raw.first = NULL;
    cache->ready_count = 0;
    lu__cache_go_out(cache);
    if (cache->destruct != NULL) destruct_all(cache);
    destroy_slabs(cache);
    lu__cache_come_back(cache);
    cache->ended = true;
    lu__cache_leave_last(cache);
}
