/*
 * slab_cache.c - object caches: what slab.h promises, from magazines and slabs.
 *
 *     lu__slab_object_alloc     magazines, then slabs         lu__slab_object_free
 *                                          \   /
 *     heap->caches   [16]-[32]-[48]- … -[16384]-[aligned 32]- … -["session"]-["request"]
 *                    caches of malloc                             lu__slab_cache_create
 *
 * Caches of the allocator's own objects (magazines, descriptors) have no magazines, lest these need
 * themselves, and are in no list. The list is under heap->caches_lock; a reap of all caches holds
 * it while it calls destructors, and what these ask of the heap in turn must not wait for it.
 */
#include "classic/asked.h"
#include "classic/slab_parts.h"

/* ---------------------------------------------------------------- the list */

void lu__slab_enlist(struct lu__slab_heap *heap, struct lu__slab_cache *cache) {
    lu__lock_acquire(&heap->caches_lock);
    if (heap->last_cache != NULL) {
        heap->last_cache->next = cache;
    } else {
        heap->caches = cache;
    }
    heap->last_cache = cache;
    lu__lock_release(&heap->caches_lock);
}

static void delist(struct lu__slab_heap *heap, struct lu__slab_cache *cache) {
    struct lu__slab_cache *before = NULL;
    lu__lock_acquire(&heap->caches_lock);
    for (struct lu__slab_cache *other = heap->caches; other != cache; other = other->next) {
        before = other;
    }
    if (before != NULL) {
        before->next = cache->next;
    } else {
        heap->caches = cache->next;
    }
    if (heap->last_cache == cache) heap->last_cache = before;
    lu__lock_release(&heap->caches_lock);
}

void lu__slab_caches(struct lu__classic *heap,
                     bool (*visit)(void *arg, struct lu__slab_cache *cache), void *arg) {
    struct lu__slab_cache *cache = lu__slab_heap_of(heap)->caches;
    while (cache != NULL && visit(arg, cache)) cache = cache->next;
}

void lu__slab_reap_all(struct lu__slab_heap *heap) {
    if (lu__lock_is_mine(&heap->caches_lock)) return;
    lu__lock_acquire(&heap->caches_lock);
    for (struct lu__slab_cache *cache = heap->caches; cache != NULL; cache = cache->next) {
        (void)lu__slab_cache_reap(cache);
    }
    lu__lock_release(&heap->caches_lock);
    for (unsigned i = 0; i < LU_MAGAZINE_KINDS; i++) (void)lu__slab_shrink(&heap->magazines[i]);
    (void)lu__slab_shrink(&heap->descriptors);
}

/* ---------------------------------------------------------------- objects */

void *lu__slab_object_alloc(struct lu__slab_cache *cache) {
    struct lu__slab_heap *heap = cache->heap;
    size_t index;
    void *object = heap->options.no_magazines ? NULL : lu__magazine_pop(cache);
    if (object == NULL) return lu__slab_take(cache);
    struct lu__slab *slab = lu__slab_locate(heap, object, &index);
    if (slab == NULL) {
        lu__classic_misuse(&heap->head, "a slab's descriptor was overwritten", object);
        return NULL;
    }
    lu__object_set_state(slab, index, LU_OBJECT_USED);
    return object;
}

void lu__slab_object_free(struct lu__slab *slab, size_t index, void *object) {
    struct lu__slab_cache *cache = slab->cache;
    struct lu__slab_heap *heap = cache->heap;
    if (cache->internal) {
        lu__classic_misuse(&heap->head, "not a block of this heap", object);
        return;
    }
    if (lu__object_state(slab, index) != LU_OBJECT_USED) {
        lu__classic_misuse(&heap->head, "freed a second time", object);
        return;
    }
    lu__object_set_state(slab, index, LU_OBJECT_CACHED);
    if (heap->options.no_magazines || !lu__magazine_push(cache, object)) {
        lu__slab_give(slab, index, true);
    }
}

void *lu__slab_cache_alloc(struct lu__slab_cache *cache) {
    struct lu__classic *heap = &cache->heap->head;
    void *object = lu__slab_object_alloc(cache);
    if (object == NULL) {
        lu__slab_reap_all(cache->heap);
        object = lu__slab_object_alloc(cache);
    }
    if (object != NULL && heap->asked != NULL &&
        !lu__asked_set(heap->asked, object, cache->asked)) {
        lu__classic_free(heap, object);
        object = NULL;
    }
    if (object != NULL) {
        LU_COUNT(heap, allocs, 1);
    } else {
        LU_COUNT(heap, failures, 1);
    }
    return object;
}

void lu__slab_cache_free(struct lu__slab_cache *cache, void *object) {
    struct lu__classic *heap = &cache->heap->head;
    size_t index;
    if (object == NULL) return;
    struct lu__slab *slab = lu__slab_locate(cache->heap, object, &index);
    if (slab == NULL || slab->cache != cache) {
        lu__classic_misuse(heap, "not an object of this cache", object);
        return;
    }
    lu__classic_free(heap, object);
}

/* ---------------------------------------------------------------- life */

struct lu__slab_cache *lu__slab_cache_create(struct lu__classic *self, const char *name,
                                             size_t bytes, size_t align, lu__slab_hook *constructor,
                                             lu__slab_hook *destructor, void *arg) {
    if (self->policy != &lu__policy_slab || bytes == 0 || bytes > LU_SLAB_OBJECT_MOST) return NULL;
    if (align != 0 && (!lu__is_pow2(align) || align > LU_VMEM_QUANTUM)) return NULL;
    struct lu__slab_cache *cache = lu__classic_meta_alloc(sizeof *cache);
    if (cache == NULL) return NULL;
    struct lu__slab_shape shape = {name, bytes, align, false, SIZE_MAX};
    lu__slab_setup(cache, lu__slab_heap_of(self), &shape);
    cache->constructor = constructor;
    cache->destructor = destructor;
    cache->arg = arg;
    cache->own = true;
    lu__slab_enlist(cache->heap, cache);
    return cache;
}

size_t lu__slab_cache_reap(struct lu__slab_cache *cache) {
    lu__magazine_drain(cache);
    return lu__slab_shrink(cache);
}

bool lu__slab_cache_destroy(struct lu__slab_cache *cache) {
    (void)lu__slab_cache_reap(cache);
    if (cache->slabs != 0 || !cache->own) return false;
    delist(cache->heap, cache);
    lu__classic_meta_free(cache, sizeof *cache);
    return true;
}

/* ---------------------------------------------------------------- questions */

void lu__slab_cache_contend(struct lu__slab_cache *cache, unsigned times) {
    struct lu__slab_depot *depot = &cache->depot;
    lu__lock_acquire(&depot->lock);
    depot->contended += times;
    depot->contention += times;
    lu__lock_release(&depot->lock);
}

/* What the magazines of the processors served and hold. */
static void count_cpus(struct lu__slab_cache *cache, struct lu__slab_cache_stats *stats) {
    for (unsigned i = 0; i < LU_SLAB_PROCESSORS; i++) {
        struct lu__slab_cpu *cpu = &cache->cpus[i];
        lu__lock_acquire(&cpu->lock);
        stats->allocs += cpu->allocs;
        stats->frees += cpu->frees;
        if (cpu->loaded != NULL) stats->cached += cpu->loaded->rounds;
        if (cpu->previous != NULL) stats->cached += cpu->previous->rounds;
        lu__lock_release(&cpu->lock);
    }
    stats->hits = stats->allocs + stats->frees;
}

static void count_depot(struct lu__slab_cache *cache, struct lu__slab_cache_stats *stats) {
    struct lu__slab_depot *depot = &cache->depot;
    lu__lock_acquire(&depot->lock);
    for (const struct lu__magazine *full = depot->full; full != NULL; full = full->next) {
        stats->cached += full->rounds;
    }
    stats->rounds = lu__magazine_bytes(depot->kind) / sizeof(void *) - 2;
    stats->full_magazines = depot->fulls;
    stats->empty_magazines = depot->empties;
    stats->exchanges = depot->exchanges;
    stats->contention = depot->contention;
    stats->growths = depot->growths;
    lu__lock_release(&depot->lock);
}

static void count_slabs(struct lu__slab_cache *cache, struct lu__slab_cache_stats *stats) {
    lu__lock_acquire(&cache->lock);
    for (const struct lu__slab *slab = cache->partial; slab != NULL; slab = slab->next) {
        stats->free += slab->free;
    }
    stats->free += cache->empties * cache->capacity;
    stats->slabs = cache->slabs;
    stats->used = cache->slabs * cache->capacity - stats->free - stats->cached;
    stats->slabs_made = cache->slabs_made;
    stats->slabs_unmade = cache->slabs_unmade;
    stats->allocs += cache->taken;
    stats->frees += cache->returned;
    stats->constructed = cache->constructed;
    stats->destructed = cache->destructed;
    stats->reused = stats->allocs - stats->constructed;
    lu__lock_release(&cache->lock);
}

void lu__slab_cache_stats(struct lu__slab_cache *cache, struct lu__slab_cache_stats *stats) {
    *stats = (struct lu__slab_cache_stats){
        .name = cache->name,
        .object_bytes = cache->size,
        .align = cache->align,
        .slab_bytes = cache->slab_bytes,
        .objects_per_slab = cache->capacity,
        .descriptor_outside = cache->outside,
        .colours = cache->colour_most / cache->align + 1,
        .colour_step = cache->align,
    };
    if (cache->heap->options.no_colour) stats->colours = 1;
    count_cpus(cache, stats);
    count_depot(cache, stats);
    count_slabs(cache, stats);
}

struct lu__slab_cache *lu__slab_cache_of(struct lu__classic *heap, const void *object) {
    size_t index;
    const struct lu__slab *slab = lu__slab_locate(lu__slab_heap_of(heap), object, &index);
    return slab != NULL ? slab->cache : NULL;
}
