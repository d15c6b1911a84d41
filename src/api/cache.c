/*
 * cache.c - object caches: objects of one type that stay constructed while they are free.
 *
 *     cache --> ready  slabs with a free constructed object     allocations come from here first,
 *               raw    others with room for a new object        then from here,
 *               set    all, by address                          then from a new slab
 *
 * After Bonwick, "The Slab Allocator: An Object-Caching Kernel Memory Allocator" (USENIX Summer
 * 1994). Memory goes through these states, which slabs.c keeps:
 *
 *     raw --construct--> live <--alloc, free--> ready --destruct--> raw
 *
 * Objects are constructed one by one, when no ready one is left. A slab whose objects are all raw
 * goes back to the engine, which happens in lu_cache_reap and lu_cache_destroy only (cache_end.c).
 * Threads have some ready objects at hand, in magazines (magazine.h): the fast paths here use only
 * these, and take no lock. Objects that are too large have no magazines, nor have caches that were
 * created when all numbers were taken.
 *
 * Locks. Everything in a cache that changes is protected by its lock, except the states of objects,
 * which the thread that has the object may change. No walk under the lock takes longer with more
 * objects. The lock is never held while the program's constructor, destructor or violation handler
 * runs, nor while the engine allocates, because the callback of a memory limit may call
 * lu_cache_reap on this very cache. An object between two states is `moving`, in none of the two
 * stacks of its slab, which prevents the slab from being released; so does an object that is at
 * hand.
 *
 * fork locks nothing. A child counts forks; at the first use of a cache in it, the lock of the
 * cache, and magazines, may belong to threads that do not exist here. If so, what such a thread was
 * changing is given up:
 *
 *     kept       set, states of the objects, `moving`   right after every single store
 *     made anew  lists, stacks, ready_count             empty in a new epoch; a slab is settled,
 *                                                       which is to make its stacks from the states
 *                                                       and to list it, when one of its objects is
 *                                                       freed, or a few at a time when there is
 *                                                       nothing left to give
 *     forgotten  magazines                              what is at hand is ready when its slab is
 *                                                       settled. So who frees without a lock looks
 *                                                       whether the slab is
 *
 * An object that such a thread was moving stays so. Every call on a cache checks the count before
 * it takes the lock, so no thread can hold the lock before the cache is in order; lu__caches_lock
 * lets one thread do that. If a copy is noticed by another thread than the one that was copied,
 * that one may be on a fast path: its magazines stay in order, and the objects in other magazines
 * are lost. A thread that holds a lock is inside (os/lock.h): in a signal handler that interrupts
 * it, allocations fail and freed objects are lost, rather than a deadlock.
 *
 * A pointer that is freed is looked up before it is trusted; see lu_cache_free. Two threads that
 * free an object at the same instant may both find it live: then it is at hand twice, and the
 * second thread that allocates it finds that it is no longer at hand, and reports the double free.
 */
#include "api/cache.h"
#include "api/surface.h"
#include "base/violation.h"
#include "heap/heap.h"

#include <errno.h>
#include <string.h>

enum { SETTLE_STEPS = 64 }; /* looks at the set for unsettled slabs in one allocation */

/* A static link that includes this file needs the fork handlers. */
__attribute__((used)) static void (*const at_load)(void) = lu__at_load;

uint32_t lu__cache_forks;
struct lu__lock lu__caches_lock = LU_LOCK_INIT(LU_RANK_CACHES);
static uint32_t
    shared_fork; /* the last of which another thread told than the one that was copied */

/* ------------------------------------------------------------------ lists of slabs ----------- */

static void push(struct lu__slab_list *list, struct lu__slab *slab) {
    slab->previous = NULL;
    slab->next = list->first;
    if (list->first != NULL) list->first->previous = slab;
    list->first = slab;
}

static void unlink_slab(struct lu__slab_list *list, struct lu__slab *slab) {
    if (slab->previous != NULL)
        slab->previous->next = slab->next;
    else
        list->first = slab->next;
    if (slab->next != NULL) slab->next->previous = slab->previous;
}

void lu__slab_relink(struct lu__slab *slab, struct lu__slab_list *was, struct lu__slab_list *now) {
    if (was != NULL) unlink_slab(was, slab);
    if (now != NULL) push(now, slab);
}

/* ------------------------------------------------------------------ create ------------------- */

/* For strides and slabs of which the product is below 2^31. An offset of i * stride gives i in the
 * upper half, and in the lower i times what `inverse` is too large, less than slab_bytes. Any other
 * gives at least inverse - slab_bytes in the lower; and what is not below count * stride, or is
 * negative, not less than the bound either (span/class.c has the proof). */
static void set_fast(struct lu_cache *cache) {
    const struct lu__slab_shape *shape = &cache->shape;
    cache->slab_mask = ~(shape->slab_bytes - 1);
    cache->serial = lu__magazine_stamp();
    cache->stamp = cache->serial;
    size_t fit = LU_MAGAZINE_BYTES / shape->stride;
    if (fit < LU_MAGAZINE_LEAST || shape->slab_bytes * shape->stride >> 31 != 0) return;
    cache->inverse = ((uint64_t)1 << 32) / shape->stride + 1;
    uint64_t excess = cache->inverse * shape->stride - ((uint64_t)1 << 32);
    cache->bound = (uint32_t)(excess * (shape->count - 1) + 1);
    cache->most_rounds = (uint32_t)LU_MIN(fit, (size_t)LU_MAGAZINE_MOST);
}

lu_cache_t *lu_cache_create(const char *name, size_t object_size, size_t alignment,
                            lu_construct_fn *construct, lu_destruct_fn *destruct, void *arg) {
    if (alignment == 0) alignment = object_size < 16 ? 8 : 16;
    if (object_size == 0 || !lu__is_pow2(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    struct lu__slab_shape shape;
    if (!lu__slab_shape(&shape, object_size, alignment)) {
        errno = ENOMEM;
        return NULL;
    }
    struct lu_cache *cache = lu__engine_alloc_aligned(LU_CACHE_LINE, sizeof *cache);
    if (cache == NULL) return NULL;
    memset(cache, 0, sizeof *cache);
    cache->shape = shape;
    set_fast(cache);
    cache->construct = construct;
    cache->destruct = destruct;
    cache->arg = arg;
    cache->forks = lu__cache_forks;
    lu__lock_init(&cache->lock, LU_RANK_CACHE);
    if (name != NULL) memcpy(cache->name, name, strnlen(name, sizeof cache->name - 1));
    lu__magazine_enroll(cache);
    return cache;
}

/* ------------------------------------------------------------------ fork --------------------- */

void lu__cache_fork_child(bool alone) {
    (void)lu__lock_fork_child(&lu__caches_lock);
    lu__cache_forks++;
    if (alone) {
        lu__magazine_fork_child();
    } else {
        shared_fork = lu__cache_forks;
    }
}

/* The lock is held, but not by a thread of this process, or magazines belong to threads that do not
 * exist here: what was being changed, and what they held, is given up. */
static void give_up(struct lu_cache *cache, bool hands_lost) {
    cache->ready.first = cache->raw.first = NULL;
    cache->ready_count = 0;
    cache->settled = 0;
    cache->unsettled = !cache->ending;
    cache->hands_lost = hands_lost;
    LU_SET(cache->epoch, cache->epoch + 1);
    if (hands_lost) {
        cache->users = 0;
        cache->serial = lu__magazine_stamp();
        LU_SET(cache->stamp, cache->serial);
    }
    lu__lock_reset(&cache->lock);
}

void lu__cache_see_fork_locked(struct lu_cache *cache) {
    uint32_t seen = cache->forks;
    if (seen == lu__cache_forks) return;
    /* This thread itself may hold the lock, if a signal handler that interrupted it forked: it goes
     * on. */
    bool held = __atomic_load_n(&cache->lock.word, __ATOMIC_RELAXED) != 0;
    bool is_mine = held && lu__lock_is_mine(&cache->lock);
    bool hands_lost = shared_fork == 0 || (int32_t)(seen - shared_fork) >= 0;
    if (!is_mine && (held || (hands_lost && cache->users != 0))) give_up(cache, hands_lost);
    __atomic_store_n(&cache->forks, lu__cache_forks, __ATOMIC_RELEASE);
}

void lu__cache_see_fork(struct lu_cache *cache) {
    lu__lock_acquire(&lu__caches_lock);
    lu__cache_see_fork_locked(cache);
    lu__lock_release(&lu__caches_lock);
}

void lu__cache_settle_slow(struct lu_cache *cache, struct lu__slab *slab) {
    lu__slab_restack(&cache->shape, slab, cache->hands_lost);
    LU_SET(slab->epoch, cache->epoch); /* partner: find_settled */
    cache->ready_count += slab->ready;
    lu__cache_relink(cache, slab, NULL);
}

void lu__cache_settle_some(struct lu_cache *cache, unsigned steps, bool soon) {
    while (cache->unsettled && steps-- > 0) {
        struct lu__slab *slab = lu__slab_set_next(&cache->set, &cache->settled, 1);
        if (slab != NULL) lu__cache_settle(cache, slab);
        cache->unsettled = cache->settled != UINT64_MAX;
        if (soon && (cache->ready.first != NULL || cache->raw.first != NULL)) return;
    }
}

/* ------------------------------------------------------------------ allocate ----------------- */

/* Put the new slab into the set and on the list. Called with the lock, returns with it, and without
 * it while the engine allocates. False with errno. */
static bool enlist(struct lu_cache *cache, struct lu__slab *slab) {
    struct lu__slab_node *spare = NULL;
    bool done;
    slab->epoch = cache->epoch;
    while (!(done = lu__slab_set_insert(&cache->set, slab, lu__slab_number(cache, slab), &spare))) {
        lu__cache_go_out(cache);
        spare = lu__engine_alloc_zeroed(sizeof *spare);
        lu__cache_come_back(cache);
        if (cache->ending) errno = EINVAL;
        if (spare == NULL || cache->ending) break;
        slab->epoch = cache->epoch;
    }
    if (done) push(&cache->raw, slab);
    if (spare == NULL) return done;
    lu__cache_go_out(cache);
    lu__engine_free(spare); /* another thread was faster */
    lu__cache_come_back(cache);
    return done;
}

/* One more slab of raw objects. Locks as enlist. False with errno. */
static bool grow(struct lu_cache *cache) {
    size_t colour = cache->next_colour++;
    lu__cache_go_out(cache);
    struct lu__slab *slab = lu__slab_create(&cache->shape, colour);
    lu__cache_come_back(cache);
    if (slab == NULL) return false;
    if (cache->ending) errno = EINVAL;
    if (!cache->ending && enlist(cache, slab)) return true;
    lu__cache_go_out(cache);
    lu__slab_destroy(slab);
    lu__cache_come_back(cache);
    return false;
}

/* See that one of the lists has an object to give. Locks as enlist. False with errno. */
static bool find_room(struct lu_cache *cache) {
    lu__cache_settle_some(cache, SETTLE_STEPS, true);
    while (cache->ready.first == NULL && cache->raw.first == NULL) {
        if (cache->ending) {
            errno = EINVAL;
            return false;
        }
        if (!grow(cache)) return false;
    }
    return true;
}

/* From a slab with a ready object. Under the lock. */
static void *alloc_ready_locked(struct lu_cache *cache, struct lu__slab *slab) {
    uint32_t index = lu__slab_pop_ready(slab);
    lu__slab_set_state(slab, index, LU_SLAB_LIVE);
    cache->ready_count--;
    lu__cache_relink(cache, slab, &cache->ready);
    return lu__slab_object(&cache->shape, slab, index);
}

/* The constructor of a moving object has run. Called with the lock; returns without it. NULL with
 * errno. */
static void *constructed(struct lu_cache *cache, struct lu__slab *slab, uint32_t index, int error) {
    void *object = lu__slab_object(&cache->shape, slab, index);
    if (cache->ending) { /* by the constructor */
        if (error == 0 && cache->destruct != NULL) {
            lu__cache_go_out(cache);
            cache->destruct(object, cache->arg);
            lu__cache_come_back(cache);
        }
        lu__cache_drop(cache, slab);
        lu__cache_leave_last(cache);
        errno = error != 0 ? error : EINVAL;
        return NULL;
    }
    lu__cache_settle(cache, slab);
    slab->moving--;
    if (error == 0) {
        lu__slab_set_state(slab, index, LU_SLAB_LIVE);
    } else {
        struct lu__slab_list *was = lu__cache_list_of(cache, slab);
        lu__slab_set_state(slab, index, LU_SLAB_RAW);
        lu__slab_push_raw(&cache->shape, slab, index);
        lu__cache_relink(cache, slab, was);
    }
    lu__cache_leave(cache);
    if (error == 0) return object;
    errno = error;
    return NULL;
}

/* No object is ready in a settled slab. Called with the lock; returns without it. */
static void *alloc_raw(struct lu_cache *cache) {
    bool search = cache->raw.first == NULL || cache->unsettled;
    if (search && !find_room(cache)) {
        lu__cache_leave_last(cache);
        return NULL;
    }
    struct lu__slab *slab = cache->ready.first;
    if (slab != NULL) {
        void *object = alloc_ready_locked(cache, slab);
        lu__cache_leave(cache);
        return object;
    }
    slab = cache->raw.first;
    uint32_t index = lu__slab_pop_raw(&cache->shape, slab);
    lu__slab_set_state(slab, index, cache->construct != NULL ? LU_SLAB_MOVING : LU_SLAB_LIVE);
    lu__cache_relink(cache, slab, &cache->raw);
    if (cache->construct == NULL) {
        lu__cache_leave(cache);
        return lu__slab_object(&cache->shape, slab, index);
    }
    slab->moving++;
    lu__cache_go_out(cache);
    int error = cache->construct(lu__slab_object(&cache->shape, slab, index), cache->arg);
    lu__cache_come_back(cache);
    return constructed(cache, slab, index, error);
}

/* The first round holds an object that another call, of this or another thread, has already got:
 * the object was freed twice at the same instant. Called with the lock; returns without it. */
static LU_COLD void drop_round(struct lu_cache *cache, struct lu__magazine *magazine) {
    void *object = magazine->top->object;
    magazine->top--;
    lu__cache_leave(cache);
    lu__violation(LU_DOUBLE_FREE, "lu_cache_alloc", object, object, cache->shape.stride);
}

/* See that the calling thread can have a magazine of the cache. */
LU_INLINE void prepare(struct lu_cache *cache) {
    const struct lu__magazine *magazine = lu__magazine_of(cache);
    if (cache->place != 0 && LU_UNLIKELY(magazine->bottom == NULL))
        lu__magazine_prepare_slow(cache);
}

static LU_NOINLINE void *alloc_slow(struct lu_cache *cache) {
    for (;;) {
        prepare(cache);
        if (LU_UNLIKELY(!lu__cache_enter(cache))) {
            errno = ENOMEM;
            return NULL;
        }
        struct lu__magazine *magazine = lu__magazine_adopt(cache);
        bool some = magazine != NULL && magazine->top != magazine->bottom;
        struct lu__slab *slab = cache->ready.first;
        if (LU_UNLIKELY(!some && slab == NULL)) return alloc_raw(cache);
        void *object = NULL;
        if (!some) {
            object = alloc_ready_locked(cache, slab);
        } else if (!lu__magazine_pop(magazine, &object)) {
            drop_round(cache, magazine);
            continue;
        }
        if (magazine != NULL) lu__magazine_refill(cache, magazine);
        lu__cache_leave(cache);
        return object;
    }
}

LU_HOT void *lu_cache_alloc(lu_cache_t *cache) {
    struct lu__magazine *magazine = lu__magazine_of(cache);
    void *object = NULL;
    if (LU_UNLIKELY(magazine->stamp != LU_RELAXED(cache->stamp)) ||
        LU_UNLIKELY(!lu__magazine_pop(magazine, &object)))
        return alloc_slow(cache);
    return object;
}

/* ------------------------------------------------------------------ free --------------------- */

/* Report what is wrong with a pointer that has been looked up. Called with the lock; returns
 * without. */
static LU_COLD void refuse(struct lu_cache *cache, lu_violation_kind_t kind, const void *object,
                           const void *block) {
    size_t bytes = block != NULL ? cache->shape.stride : 0;
    lu__cache_leave(cache);
    lu__violation(kind, "lu_cache_free", object, block, bytes);
}

/* An object that is not live, or whose slab is of another epoch. Called with the lock. True: it is
 * live, and its slab settled; else returns without the lock. */
static LU_COLD bool free_rarely(struct lu_cache *cache, struct lu__slab *slab, uint32_t index,
                                const void *object) {
    uint8_t state = lu__slab_state(slab, index);
    if (cache->ending && (state == LU_SLAB_LIVE || state == LU_SLAB_MOVING)) {
        /* Its destructor has run, or will. */
        lu__slab_set_state(slab, index, state == LU_SLAB_LIVE ? LU_SLAB_READY : LU_SLAB_RAW);
        lu__cache_leave(cache);
        return false;
    }
    if (state != LU_SLAB_LIVE) {
        refuse(cache, LU_DOUBLE_FREE, object, object);
        return false;
    }
    lu__cache_settle(cache, slab);
    return true;
}

void lu__cache_put_ready(struct lu_cache *cache, void *object) {
    struct lu__slab *slab = (struct lu__slab *)(void *)((uintptr_t)object & cache->slab_mask);
    lu__cache_settle(cache, slab);
    struct lu__slab_list *was = lu__cache_list_of(cache, slab);
    uint32_t index = (uint32_t)((size_t)((char *)object - slab->objects) / cache->shape.stride);
    lu__slab_set_state(slab, index, LU_SLAB_READY);
    lu__slab_push_ready(slab, index);
    cache->ready_count++;
    lu__cache_relink(cache, slab, was);
}

/* Refused: a pointer into no slab of this cache, or to a place in one where no object is (wrong
 * heap); a pointer to the inside of an object (interior pointer); an object that the program does
 * not have (double free). */
static void free_locked(struct lu_cache *cache, void *object) {
    const struct lu__slab_shape *shape = &cache->shape;
    struct lu__slab *slab = lu__slab_set_find(&cache->set, lu__slab_number(cache, object));
    size_t offset = slab != NULL ? (size_t)((uintptr_t)object - (uintptr_t)slab->objects)
                                 : SIZE_MAX;
    size_t at = offset / shape->stride; /* past the last for what lies before the first */
    if (LU_UNLIKELY(at >= shape->count)) return refuse(cache, LU_WRONG_HEAP, object, NULL);
    uint32_t index = (uint32_t)at;
    char *start = lu__slab_object(shape, slab, index);
    if (LU_UNLIKELY(start != object)) return refuse(cache, LU_INTERIOR_POINTER, object, start);
    bool known = lu__slab_state(slab, index) == LU_SLAB_LIVE && slab->epoch == cache->epoch;
    if (LU_UNLIKELY(!known) && !free_rarely(cache, slab, index, object)) return;
    struct lu__magazine *magazine = lu__magazine_adopt(cache);
    if (magazine != NULL) {
        if (magazine->top == magazine->full)
            lu__magazine_flush(cache, magazine, cache->most_rounds / 2);
        magazine->slab = (size_t)slab;
        lu__magazine_push(magazine, object, &slab->states[index]);
    } else {
        lu__cache_put_ready(cache, object);
    }
    lu__cache_leave(cache);
}

/* The slab that would hold the object, if it is a settled slab of the cache; else 0. Without the
 * lock. */
static size_t find_settled(const struct lu_cache *cache, const void *object) {
    const struct lu__slab *slab = lu__slab_set_find(&cache->set, lu__slab_number(cache, object));
    /* Acquire; partner: lu__cache_settle_slow. */
    bool settled = slab != NULL && __atomic_load_n(&slab->epoch, __ATOMIC_ACQUIRE) ==
                                       __atomic_load_n(&cache->epoch, __ATOMIC_RELAXED);
    return settled ? (size_t)slab : 0;
}

/* Free into the magazine, if that is valid and the slab is the one that it knows. False: nothing
 * was done. */
LU_INLINE bool free_quickly(const struct lu_cache *cache, struct lu__magazine *magazine,
                            void *object) {
    struct lu__slab *slab = (struct lu__slab *)(void *)((uintptr_t)object & cache->slab_mask);
    uint32_t offset = (uint32_t)((uintptr_t)object - (uintptr_t)slab->objects);
    uint64_t at = offset * cache->inverse;
    if (LU_UNLIKELY((uint32_t)at >= cache->bound)) return false;
    uint8_t *state = &slab->states[at >> 32];
    if (LU_UNLIKELY(LU_RELAXED(*state) != LU_SLAB_LIVE)) return false;
    if (LU_UNLIKELY(magazine->top == magazine->full)) return false;
    lu__magazine_push(magazine, object, state);
    return true;
}

/* An object of another slab than the last, or whatever free_quickly does not handle. */
static LU_NOINLINE void free_slow(struct lu_cache *cache, void *object) {
    struct lu__magazine *magazine = lu__magazine_of(cache);
    if (object == NULL) return;
    if (magazine->stamp == LU_RELAXED(cache->stamp) &&
        magazine->slab != ((uintptr_t)object & cache->slab_mask)) {
        size_t slab = find_settled(cache, object);
        if (slab != 0) {
            magazine->slab = slab;
            if (free_quickly(cache, magazine, object)) return;
        }
    }
    prepare(cache);
    if (LU_UNLIKELY(!lu__cache_enter(cache))) return; /* lost, rather than a deadlock */
    free_locked(cache, object);
}

LU_HOT void lu_cache_free(lu_cache_t *cache, void *object) {
    struct lu__magazine *magazine = lu__magazine_of(cache);
    if (LU_UNLIKELY(magazine->stamp != LU_RELAXED(cache->stamp)) ||
        LU_UNLIKELY(magazine->slab != ((uintptr_t)object & cache->slab_mask)) ||
        LU_UNLIKELY(!free_quickly(cache, magazine, object)))
        free_slow(cache, object);
}
