/*
 * cache.c - object caches: objects of one type that stay constructed while they are free.
 *
 *     cache --> ready  slabs with a free constructed object     allocations come from here first,
 *               raw    others with room for a new object        then from here,
 *               set    all, by address                          then from a new slab
 *
 * After Bonwick, "The Slab Allocator: An Object-Caching Kernel Memory Allocator" (USENIX Summer
 * 1994). Memory goes through these states, of which slabs.c keeps the account:
 *
 *     raw --construct--> live <--alloc, free--> ready --destruct--> raw
 *
 * Objects are constructed one by one, when no ready one is left. A slab whose objects are all raw
 * goes back to the engine, which happens in lu_cache_reap and lu_cache_destroy only (cache_end.c).
 *
 * Locks. Everything in a cache that changes is protected by its lock, under which no walk grows
 * with what there is. The lock is never held while the program's constructor, destructor or
 * violation handler runs, nor while the engine allocates, since the callback of a memory limit may
 * call lu_cache_reap on this very cache. An object on its way between two states is `moving`, in
 * none of the two stacks of its slab, which keeps the slab from being taken away.
 *
 * fork locks nothing. A child counts forks; the first use of a cache in it finds that its lock may
 * belong to a thread that is not here. If so, what that thread was changing is given up:
 *
 *     kept       set, bits of the objects, `moving`     right after every single store
 *     made anew  lists, stacks, ready_count             empty in a new epoch; a slab is settled,
 *                                                       which is to make its stacks from the bits
 *                                                       and to list it, when one of its objects is
 *                                                       freed, or a few at a time when there is
 *                                                       nothing left to give
 *
 * An object that such a thread was moving stays so. Whoever comes to a cache passes by the count
 * before it takes the lock, so nobody can hold that before it is in order; `fork_lock`, under which
 * no other is taken, lets one thread do it. Who holds one is inside (os/lock.h): in a signal
 * handler above, allocations fail and what is freed is lost, rather than a deadlock.
 *
 * A pointer that is freed is looked up before it is believed; see lu_cache_free.
 */
#include "api/cache.h"
#include "api/surface.h"
#include "base/violation.h"

#include <errno.h>
#include <string.h>

enum { SETTLE_STEPS = 64 }; /* looks at the set for unsettled slabs in one allocation */

/* A static link that takes this file in needs the fork handlers. */
__attribute__((used)) static void (*const at_load)(void) = lu__at_load;

uint32_t lu__cache_forks;
static struct lu__lock fork_lock = LU_LOCK_INIT(LU_RANK_CACHES);

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
    struct lu_cache *cache = lu__engine_alloc_zeroed(sizeof *cache);
    if (cache == NULL) return NULL;
    cache->shape = shape;
    cache->construct = construct;
    cache->destruct = destruct;
    cache->arg = arg;
    cache->forks = lu__cache_forks;
    lu__lock_init(&cache->lock, LU_RANK_CACHE);
    if (name != NULL) memcpy(cache->name, name, strnlen(name, sizeof cache->name - 1));
    return cache;
}

/* ------------------------------------------------------------------ fork --------------------- */

void lu__cache_fork_child(void) {
    (void)lu__lock_fork_child(&fork_lock);
    lu__cache_forks++;
}

/* The lock is held, and not by a thread of this process: what was being changed is given up. */
static void give_up(struct lu_cache *cache) {
    cache->ready.first = cache->raw.first = NULL;
    cache->ready_count = 0;
    cache->epoch++;
    cache->settled = 0;
    cache->unsettled = !cache->ending;
    lu__lock_reset(&cache->lock);
}

void lu__cache_see_fork(struct lu_cache *cache) {
    lu__lock_acquire(&fork_lock);
    if (cache->forks != lu__cache_forks) {
        /* Held by this very thread if a signal handler above its holder forks: that goes on. */
        bool held = __atomic_load_n(&cache->lock.word, __ATOMIC_RELAXED) != 0;
        if (held && !lu__lock_is_mine(&cache->lock)) give_up(cache);
        __atomic_store_n(&cache->forks, lu__cache_forks, __ATOMIC_RELEASE);
    }
    lu__lock_release(&fork_lock);
}

void lu__cache_settle_slow(struct lu_cache *cache, struct lu__slab *slab) {
    lu__slab_restack(&cache->shape, slab);
    slab->epoch = cache->epoch;
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

/* Something to give in one of the lists. Locks as enlist. False with errno. */
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

/* From a slab with a ready object. Called with the lock; returns without it. */
LU_INLINE void *alloc_ready(struct lu_cache *cache, struct lu__slab *slab) {
    uint32_t index = lu__slab_pop_ready(slab);
    lu__slab_set_bit(slab, index, LU_SLAB_OUT);
    cache->ready_count--;
    lu__cache_relink(cache, slab, &cache->ready);
    lu__cache_leave(cache);
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
        lu__slab_set_bit(slab, index, LU_SLAB_BUILT);
    } else {
        struct lu__slab_list *was = lu__cache_list_of(cache, slab);
        lu__slab_clear_bit(slab, index, LU_SLAB_OUT);
        lu__slab_push_raw(&cache->shape, slab, index);
        lu__cache_relink(cache, slab, was);
    }
    lu__cache_leave(cache);
    if (error == 0) return object;
    errno = error;
    return NULL;
}

/* No object is ready in a settled slab. Called with the lock; returns without it. */
static LU_NOINLINE void *alloc_slow(struct lu_cache *cache) {
    bool search = cache->raw.first == NULL || cache->unsettled;
    if (search && !find_room(cache)) {
        lu__cache_leave_last(cache);
        return NULL;
    }
    struct lu__slab *slab = cache->ready.first;
    if (slab != NULL) return alloc_ready(cache, slab);
    slab = cache->raw.first;
    uint32_t index = lu__slab_pop_raw(&cache->shape, slab);
    lu__slab_set_bit(slab, index, LU_SLAB_OUT);
    if (cache->construct == NULL) lu__slab_set_bit(slab, index, LU_SLAB_BUILT);
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

void *lu_cache_alloc(lu_cache_t *cache) {
    if (LU_UNLIKELY(!lu__cache_enter(cache))) {
        errno = ENOMEM;
        return NULL;
    }
    struct lu__slab *slab = cache->ready.first;
    if (LU_UNLIKELY(slab == NULL)) return alloc_slow(cache);
    return alloc_ready(cache, slab);
}

/* ------------------------------------------------------------------ free --------------------- */

/* What is wrong with a pointer that has been looked up. Called with the lock; returns without. */
static LU_COLD void refuse(struct lu_cache *cache, lu_violation_kind_t kind, const void *object,
                           const void *block) {
    size_t bytes = block != NULL ? cache->shape.stride : 0;
    lu__cache_leave(cache);
    lu__violation(kind, "lu_cache_free", object, block, bytes);
}

/* An object that is not live, or whose slab is of another epoch. Called with the lock. True: it is
 * live, and its slab settled; else returns without the lock. */
static LU_COLD bool free_slow(struct lu_cache *cache, struct lu__slab *slab, uint32_t index,
                              const void *object) {
    if (cache->ending && lu__slab_is(slab, index, LU_SLAB_OUT)) {
        lu__slab_clear_bit(slab, index, LU_SLAB_OUT); /* its destructor has run, or will */
        lu__cache_leave(cache);
        return false;
    }
    if (!lu__slab_is_live(slab, index)) {
        refuse(cache, LU_DOUBLE_FREE, object, object);
        return false;
    }
    lu__cache_settle(cache, slab);
    return true;
}

/* Refused: what lies in no slab of this cache, or in one but where no object is (wrong heap); what
 * points inside an object (interior pointer); an object that is not with the program (double
 * free). */
void lu_cache_free(lu_cache_t *cache, void *object) {
    if (object == NULL) return;
    const struct lu__slab_shape *shape = &cache->shape;
    if (LU_UNLIKELY(!lu__cache_enter(cache))) return; /* lost, rather than a deadlock */
    struct lu__slab *slab = lu__slab_set_find(&cache->set, lu__slab_number(cache, object));
    size_t offset = slab != NULL ? (size_t)((uintptr_t)object - (uintptr_t)slab->objects)
                                 : SIZE_MAX;
    size_t at = offset / shape->stride; /* past the last for what lies before the first */
    if (LU_UNLIKELY(at >= shape->count)) return refuse(cache, LU_WRONG_HEAP, object, NULL);
    uint32_t index = (uint32_t)at;
    char *start = lu__slab_object(shape, slab, index);
    if (LU_UNLIKELY(start != object)) return refuse(cache, LU_INTERIOR_POINTER, object, start);
    bool known = lu__slab_is_live(slab, index) && slab->epoch == cache->epoch;
    if (LU_UNLIKELY(!known) && !free_slow(cache, slab, index, object)) return;
    struct lu__slab_list *was = lu__cache_list_of(cache, slab);
    lu__slab_clear_bit(slab, index, LU_SLAB_OUT);
    lu__slab_push_ready(slab, index);
    cache->ready_count++;
    lu__cache_relink(cache, slab, was);
    lu__cache_leave(cache);
}
