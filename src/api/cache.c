/*
 * cache.c - object caches: objects of one type that stay constructed while they are free.
 *
 *     cache --> ready  slabs with a free constructed object     allocations come from here first,
 *               raw    others with room for a new object        then from here,
 *               full   the rest                                 then from a new slab
 *               set    all three, by address                    to check what is freed
 *
 * After Bonwick, "The Slab Allocator: An Object-Caching Kernel Memory Allocator" (USENIX Summer
 * 1994). Memory goes through these states, of which slabs.c keeps the account:
 *
 *     raw --construct--> live <--alloc, free--> ready --destruct--> raw
 *
 * Objects are constructed one by one, when no ready one is left. A slab whose objects are all raw
 * goes back to the engine, which happens in lu_cache_reap and lu_cache_destroy only.
 *
 * Locks. Everything in a cache that changes is protected by its lock. The lock is never held while
 * the program's constructor, destructor or violation handler runs, nor while the engine allocates,
 * since the callback of a memory limit may call lu_cache_reap on this very cache. An object on its
 * way between two states is in none of the two stacks of its slab, which keeps the slab from being
 * taken away. `caches_lock` protects the list of all caches, which fork walks; it is taken before
 * the lock of a cache, and both before those of the engine. Who holds one is inside (os/lock.h): in
 * a signal handler above, allocations fail and what is freed is lost, rather than a deadlock.
 *
 * A pointer that is freed is looked up before it is believed; see lu_cache_free.
 */
#include "api/slabs.h"
#include "api/surface.h"
#include "base/violation.h"
#include "lucid/lucid.h"
#include "os/lock.h"

#include <errno.h>
#include <string.h>

struct list {
    struct lu__slab *first;
};

struct lu_cache {
    struct lu__slab_shape shape; /* constant */
    lu_construct_fn *construct;  /* constant */
    lu_destruct_fn *destruct;    /* constant */
    void *arg;                   /* constant */
    char name[32];               /* constant, cut; for who looks at a core file */

    struct lu__lock lock; /* protects what follows                             */
    struct list ready, raw, full;
    struct lu__slab_set set;
    size_t ready_count;    /* free constructed objects in all slabs             */
    size_t next_colour;    /* of the next slab                                  */
    bool locked_for_fork;  /* between prepare and done                          */
    bool lost;             /* in a child of fork: its objects are not known     */
    struct lu_cache *next; /* in the list of all caches, under caches_lock      */
};

static struct lu__lock caches_lock = LU_LOCK_INIT(LU_RANK_CACHES);
static struct lu_cache *caches; /* under caches_lock; whole at any instant      */
static __thread unsigned idle_prepares __attribute__((tls_model("initial-exec"))); /* see there */

/* ------------------------------------------------------------------ the locks ---------------- */

/* False where it would be a deadlock: in a signal handler above a slow path of its thread, or above
 * its fork, which holds the lock. */
LU_INLINE LU_MUST_CHECK bool lock(struct lu__lock *lock) {
    if (LU_UNLIKELY(lu__lock_is_mine(lock)) || LU_UNLIKELY(!lu__inside_enter())) return false;
    lu__lock_acquire(lock);
    return true;
}

LU_INLINE void unlock(struct lu__lock *lock) {
    lu__lock_release(lock);
    lu__inside_leave();
}

/* For who has held it in this call: what made `lock` fail then cannot have come since. */
LU_INLINE void lock_again(struct lu__lock *lock) {
    lu__inside_set(1);
    lu__lock_acquire(lock);
}

/* ------------------------------------------------------------------ lists of slabs ----------- */

static void push(struct list *list, struct lu__slab *slab) {
    slab->previous = NULL;
    slab->next = list->first;
    if (list->first != NULL) list->first->previous = slab;
    list->first = slab;
}

static void unlink_slab(struct list *list, struct lu__slab *slab) {
    if (slab->previous != NULL)
        slab->previous->next = slab->next;
    else
        list->first = slab->next;
    if (slab->next != NULL) slab->next->previous = slab->previous;
}

/* The list that a slab belongs on by its counts. */
static struct list *list_of(struct lu_cache *cache, const struct lu__slab *slab) {
    return slab->ready > 0 ? &cache->ready : slab->raw > 0 ? &cache->raw : &cache->full;
}

/* After the counts of a slab changed: to the list that it belongs on now. */
static void relink(struct lu_cache *cache, struct lu__slab *slab, struct list *was) {
    struct list *now = list_of(cache, slab);
    if (now == was) return;
    unlink_slab(was, slab);
    push(now, slab);
}

/* ------------------------------------------------------------------ create ------------------- */

static bool register_cache(struct lu_cache *cache) {
    if (!lock(&caches_lock)) return false;
    cache->next = caches;
    __atomic_store_n(&caches, cache, __ATOMIC_RELEASE); /* for fork within this thread */
    unlock(&caches_lock);
    return true;
}

static bool unregister_cache(struct lu_cache *cache) {
    if (!lock(&caches_lock)) return false;
    struct lu_cache **link = &caches;
    while (*link != cache) link = &(*link)->next;
    __atomic_store_n(link, cache->next, __ATOMIC_RELEASE);
    unlock(&caches_lock);
    return true;
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
    struct lu_cache *cache = lu__engine_alloc_zeroed(sizeof *cache);
    if (cache == NULL) return NULL;
    cache->shape = shape;
    cache->construct = construct;
    cache->destruct = destruct;
    cache->arg = arg;
    if (name != NULL) memcpy(cache->name, name, strnlen(name, sizeof cache->name - 1));
    lu__lock_init(&cache->lock, LU_RANK_CACHE);
    if (register_cache(cache)) return cache;
    lu__engine_free(cache);
    errno = ENOMEM;
    return NULL;
}

/* ------------------------------------------------------------------ allocate ----------------- */

/* Make place in the set for one more slab. Called with the lock, returns with it, and without it
 * while the engine allocates. False with ENOMEM. */
static bool make_place(struct lu_cache *cache) {
    while (lu__slab_set_is_full(&cache->set)) {
        size_t capacity = lu__slab_set_next_capacity(&cache->set);
        unlock(&cache->lock);
        void *table = lu__engine_alloc_zeroed(capacity * sizeof(struct lu__slab *));
        lock_again(&cache->lock);
        if (table == NULL) return false;
        if (capacity > cache->set.capacity)
            table = lu__slab_set_replace(&cache->set, table, capacity, cache->shape.slab_bytes);
        unlock(&cache->lock);
        lu__engine_free(table); /* the old one, or ours if another thread was faster */
        lock_again(&cache->lock);
    }
    return true;
}

/* One more slab of raw objects. Locks as make_place. False with ENOMEM. */
static bool grow(struct lu_cache *cache) {
    size_t colour = cache->next_colour++;
    unlock(&cache->lock);
    struct lu__slab *slab = lu__slab_create(&cache->shape, colour);
    lock_again(&cache->lock);
    if (slab == NULL) return false;
    if (!make_place(cache)) {
        unlock(&cache->lock);
        lu__slab_destroy(slab);
        lock_again(&cache->lock);
        errno = ENOMEM;
        return false;
    }
    lu__slab_set_insert(&cache->set, slab, cache->shape.slab_bytes);
    push(&cache->raw, slab);
    return true;
}

/* Take back an object whose constructor failed. */
static void give_back_raw(struct lu_cache *cache, struct lu__slab *slab, uint32_t index) {
    lock_again(&cache->lock);
    struct list *was = list_of(cache, slab);
    lu__slab_flip_live(slab, index);
    lu__slab_push_raw(&cache->shape, slab, index);
    relink(cache, slab, was);
    unlock(&cache->lock);
}

/* An object that has to be constructed. Called with the lock; returns without it. */
static LU_NOINLINE void *alloc_raw(struct lu_cache *cache) {
    while (cache->raw.first == NULL)
        if (!grow(cache)) {
            unlock(&cache->lock);
            return NULL;
        }
    struct lu__slab *slab = cache->raw.first;
    uint32_t index = lu__slab_pop_raw(&cache->shape, slab);
    lu__slab_flip_live(slab, index);
    relink(cache, slab, &cache->raw);
    unlock(&cache->lock);

    void *object = lu__slab_object(&cache->shape, slab, index);
    int error = cache->construct != NULL ? cache->construct(object, cache->arg) : 0;
    if (error == 0) return object;
    give_back_raw(cache, slab, index);
    errno = error;
    return NULL;
}

void *lu_cache_alloc(lu_cache_t *cache) {
    if (!lock(&cache->lock)) {
        errno = ENOMEM;
        return NULL;
    }
    struct lu__slab *slab = cache->ready.first;
    if (LU_UNLIKELY(slab == NULL)) return alloc_raw(cache);
    uint32_t index = lu__slab_pop_ready(slab);
    lu__slab_flip_live(slab, index);
    cache->ready_count--;
    relink(cache, slab, &cache->ready);
    unlock(&cache->lock);
    return lu__slab_object(&cache->shape, slab, index);
}

/* ------------------------------------------------------------------ free --------------------- */

/* What is wrong with a pointer that has been looked up; called without the lock. */
static LU_COLD void refuse(const struct lu_cache *cache, lu_violation_kind_t kind,
                           const void *object, const void *block) {
    lu__violation(kind, "lu_cache_free", object, block, block != NULL ? cache->shape.stride : 0);
}

/* Refused: what lies in no slab of this cache, or in one but where no object is (wrong heap); what
 * points inside an object (interior pointer); an object that is not with the program (double
 * free). */
void lu_cache_free(lu_cache_t *cache, void *object) {
    if (object == NULL) return;
    const struct lu__slab_shape *shape = &cache->shape;
    if (!lock(&cache->lock)) return;
    struct lu__slab *slab = lu__slab_set_find(&cache->set, object, shape->slab_bytes);
    size_t offset = slab != NULL ? (size_t)((uintptr_t)object - (uintptr_t)slab->objects)
                                 : SIZE_MAX;
    size_t index = offset / shape->stride; /* past the last for what lies before the first */
    if (LU_UNLIKELY(index >= shape->count)) {
        bool lost = cache->lost;
        unlock(&cache->lock);
        if (!lost) refuse(cache, LU_WRONG_HEAP, object, NULL);
        return;
    }
    char *start = lu__slab_object(shape, slab, (uint32_t)index);
    if (LU_UNLIKELY(start != object || !lu__slab_is_live(slab, (uint32_t)index))) {
        unlock(&cache->lock);
        refuse(cache, start != object ? LU_INTERIOR_POINTER : LU_DOUBLE_FREE, object, start);
        return;
    }
    struct list *was = list_of(cache, slab);
    lu__slab_flip_live(slab, (uint32_t)index);
    lu__slab_push_ready(slab, (uint32_t)index);
    cache->ready_count++;
    relink(cache, slab, was);
    unlock(&cache->lock);
}

/* ------------------------------------------------------------------ reap, destroy ------------ */

/* Put a destroyed object back as raw, and its slab back to the engine if it was the last. Called
 * with the lock, returns with it. */
static void retire(struct lu_cache *cache, struct lu__slab *slab, uint32_t index) {
    struct list *was = list_of(cache, slab);
    lu__slab_push_raw(&cache->shape, slab, index);
    if (slab->raw < cache->shape.count) {
        relink(cache, slab, was);
        return;
    }
    unlink_slab(was, slab);
    lu__slab_set_remove(&cache->set, slab, cache->shape.slab_bytes);
    unlock(&cache->lock);
    lu__slab_destroy(slab);
    lock_again(&cache->lock);
}

size_t lu_cache_reap(lu_cache_t *cache, size_t keep) {
    size_t destroyed = 0;
    if (!lock(&cache->lock)) return 0;
    while (cache->ready_count > keep) {
        struct lu__slab *slab = cache->ready.first;
        uint32_t index = lu__slab_pop_ready(slab);
        cache->ready_count--;
        relink(cache, slab, &cache->ready);
        if (cache->destruct != NULL) {
            unlock(&cache->lock);
            cache->destruct(lu__slab_object(&cache->shape, slab, index), cache->arg);
            lock_again(&cache->lock);
        }
        retire(cache, slab, index);
        destroyed++;
    }
    unlock(&cache->lock);
    return destroyed;
}

/* Destruct every object of a slab that is constructed: the live and the ready. */
static void destruct_all(struct lu_cache *cache, struct lu__slab *slab) {
    while (slab->ready > 0) lu__slab_flip_live(slab, lu__slab_pop_ready(slab));
    for (uint32_t i = 0; i < cache->shape.count; i++)
        if (lu__slab_is_live(slab, i))
            cache->destruct(lu__slab_object(&cache->shape, slab, i), cache->arg);
}

static void destroy_list(struct lu_cache *cache, struct list *list) {
    struct lu__slab *slab = list->first;
    while (slab != NULL) {
        struct lu__slab *next = slab->next;
        if (cache->destruct != NULL) destruct_all(cache, slab);
        lu__slab_destroy(slab);
        slab = next;
    }
}

void lu_cache_destroy(lu_cache_t *cache) {
    if (cache == NULL) return;
    if (!unregister_cache(cache)) return; /* all is lost */
    destroy_list(cache, &cache->ready);
    destroy_list(cache, &cache->raw);
    destroy_list(cache, &cache->full);
    lu__engine_free(cache->set.table);
    lu__engine_free(cache);
}

/* ------------------------------------------------------------------ fork --------------------- */

/* Before a fork all locks are taken, so that the child finds every cache whole. But for a fork in a
 * signal handler that interrupted its own thread inside, maybe where it holds one of them: such a
 * prepare is idle. It must not wait for the others either, as another thread that forks may hold
 * those and wait for that one. Its child looks after what was left. */

void lu__cache_fork_prepare(void) {
    if (lu__lock_is_mine(&caches_lock) || !lu__inside_enter()) {
        idle_prepares++;
        return;
    }
    lu__lock_acquire(&caches_lock);
    for (struct lu_cache *cache = caches; cache != NULL; cache = cache->next) {
        lu__lock_acquire(&cache->lock);
        cache->locked_for_fork = true;
    }
    lu__inside_leave(); /* other fork handlers may come before fork, and use the library */
}

/* In the child, another thread had the lock, and may have been in the middle of something: the
 * cache begins anew, and what it had is lost. */
static void forget_all(struct lu_cache *cache) {
    cache->ready = cache->raw = cache->full = (struct list){NULL};
    cache->set = (struct lu__slab_set){NULL, 0, 0};
    cache->ready_count = 0;
    cache->lost = true;
}

static void look_after(void) {
    (void)lu__lock_fork_child(&caches_lock);
    for (struct lu_cache *cache = caches; cache != NULL; cache = cache->next) {
        if (lu__lock_fork_child(&cache->lock)) forget_all(cache);
    }
}

void lu__cache_fork_done(bool child) {
    if (idle_prepares > 0) {
        idle_prepares--;
        if (child) look_after();
        return;
    }
    for (struct lu_cache *cache = caches; cache != NULL; cache = cache->next) {
        bool locked = cache->locked_for_fork;
        cache->locked_for_fork = false;
        if (locked) lu__lock_release(&cache->lock);
    }
    lu__lock_release(&caches_lock);
}
