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
 * A destructor or constructor may be left by longjmp or an exception: its object is then neither
 * free nor destroyed again. reap destroys the objects that this thread has at hand (magazine.h)
 * like all free ones. Other threads give back theirs at their next call, because the stamp changes.
 * The stamp also changes before a slab ends, because magazines know the slab of the last free.
 *
 * No lock is held over a walk: it is taken for each object, or for a batch of objects without a
 * destructor.
 */
#include "api/cache.h"

#include "engine/engine.h"

#define BATCH 64u
#define REAPS_MOST 16u /* nested calls of lu_cache_reap         */

/* The number of lu_cache_reap calls that this thread is in, and the stack address of the
 * innermost. */
static __thread unsigned reaps __attribute__((tls_model("initial-exec")));
static __thread uintptr_t reap_at __attribute__((tls_model("initial-exec")));

/* ------------------------------------------------------------------ reap --------------------- */

/* Put an object of a settled slab whose destructor has run, and that is in no stack, back as raw;
 * and the slab to the engine if it was the last. Called with the lock, returns with it. */
static void retire(struct lu_cache *cache, struct lu__slab *slab, uint32_t index) {
    struct lu__slab_list *was = lu__cache_list_of(cache, slab);
    lu__slab_set_state(slab, index, LU_SLAB_RAW);
    lu__slab_push_raw(&cache->shape, slab, index);
    if (slab->raw < cache->shape.count) {
        lu__cache_relink(cache, slab, was);
        return;
    }
    lu__slab_relink(slab, was, NULL);
    LU_SET(cache->stamp, lu__magazine_stamp()); /* nobody takes the slab for one of the cache */
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
    if (cache->destruct != NULL) {
        lu__slab_set_state(slab, index, LU_SLAB_MOVING);
        slab->moving++;
        lu__cache_go_out(cache);
        cache->destruct(lu__slab_object(&cache->shape, slab, index), cache->arg);
        lu__cache_come_back(cache);
        if (cache->ending) return lu__cache_drop(cache, slab);
        lu__cache_settle(cache, slab);
        slab->moving--;
    }
    retire(cache, slab, index);
    /* What the destructor freed. (A slab's end may have left the lock: the cache may be ending.) */
    lu__magazine_flush_mine(cache);
}

/* Let others have the lock. */
static void pause_for_others(struct lu_cache *cache) {
    lu__cache_go_out(cache);
    lu__cache_come_back(cache);
}

static size_t reap(struct lu_cache *cache, size_t keep) {
    size_t destroyed = 0, to_destroy;
    if (!lu__cache_enter(cache)) return 0;
    lu__magazine_flush_mine(cache);
    if (!cache->ending) LU_SET(cache->stamp, lu__magazine_stamp());
    lu__magazine_flush_mine(cache); /* is in order at once */
    while (cache->unsettled) {
        lu__cache_settle_some(cache, BATCH, false);
        pause_for_others(cache);
    }
    to_destroy = cache->ready_count - LU_MIN(cache->ready_count, keep);
    while (destroyed < to_destroy && cache->ready_count > keep) {
        reap_one(cache);
        if (++destroyed % BATCH == 0) pause_for_others(cache);
    }
    lu__cache_leave_last(cache);
    return destroyed;
}

/* A call that is further up on the stack than the innermost is not inside it: the innermost was
 * left by longjmp or by an exception, and those around it perhaps as well. All are forgotten,
 * because it cannot be known which. */
size_t lu_cache_reap(lu_cache_t *cache, size_t keep) {
    uintptr_t at = (uintptr_t)__builtin_frame_address(0), outer_at = reap_at;
    unsigned outer = at < outer_at ? reaps : 0;
    if (outer >= REAPS_MOST) return 0;
    reaps = outer + 1;
    reap_at = at;
    size_t destroyed = reap(cache, keep);
    reaps = outer;
    reap_at = outer == 0 ? 0 : outer_at;
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
 * object is met once, at hand or not, and no lock is needed for the set and for what is built. */
static void destruct_all(struct lu_cache *cache) {
    const struct lu__slab_shape *shape = &cache->shape;
    uint64_t number = 0;
    struct lu__slab *slab;
    while ((slab = lu__slab_set_next(&cache->set, &number, UINT32_MAX)) != NULL) {
        for (uint32_t i = 0; i < shape->count; i++) {
            uint8_t state = lu__slab_state(slab, i);
            if (state != LU_SLAB_RAW && state != LU_SLAB_MOVING)
                cache->destruct(lu__slab_object(shape, slab, i), cache->arg);
        }
    }
}

/* Give back the slabs that have no moving object. */
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
    LU_SET(cache->epoch, cache->epoch + 1); /* so that no slab is taken for one of a list */
    LU_SET(cache->stamp, lu__magazine_stamp());
    cache->unsettled = false;
    cache->ready.first = cache->raw.first = NULL;
    cache->ready_count = 0;
    lu__cache_go_out(cache);
    lu__magazine_strike(cache);
    if (cache->destruct != NULL) destruct_all(cache);
    destroy_slabs(cache);
    lu__cache_come_back(cache);
    cache->ended = true;
    lu__cache_leave_last(cache);
}
