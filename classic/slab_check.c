/*
 * slab_check.c - the slab allocator's walk, and its invariants.
 *
 * A walk follows the arena's segments, which lie outside the area, and looks into each slab:
 *
 *     inside   META descriptor, colour | object | object | … | META left over
 *     outside  META colour             | object | object | … | META left over
 *     object   USED the caller's, CACHED in a magazine or constructed on the slab, else FREE;
 *              META if it is a magazine or a descriptor
 *
 * Validation goes from what an overflow cannot reach to what it can. Segments first; then each
 * slab's descriptor, whose first word an overflow out of the segment below destroys first; then
 * what is found through descriptors: lists, objects, and magazines, which lie in slabs of theirs.
 *
 * Nobody else uses the heap meanwhile.
 */
#include "classic/slab_parts.h"

/* ---------------------------------------------------------------- walk */

struct tour {
    lu__block_visit *visit;
    void *arg;
};

/* True to go on. No bytes are no block. */
static bool tell(const struct tour *tour, uintptr_t start, size_t bytes,
                 enum lu__block_state state) {
    struct lu__block block = {.start = start, .bytes = bytes, .state = state};
    if (bytes == 0) return true;
    if (state == LU_BLOCK_USED) block.usable = bytes;
    return tour->visit(tour->arg, &block);
}

static enum lu__block_state state_of(const struct lu__slab *slab, size_t index) {
    switch (lu__object_state(slab, index)) {
    case LU_OBJECT_USED:
        return slab->cache->internal ? LU_BLOCK_META : LU_BLOCK_USED;
    case LU_OBJECT_CACHED:
        return LU_BLOCK_CACHED;
    case LU_OBJECT_MADE: /* worth more than memory if there is something in it */
        return slab->cache->constructor != NULL ? LU_BLOCK_CACHED : LU_BLOCK_FREE;
    case LU_OBJECT_RAW:
        break;
    }
    return LU_BLOCK_FREE;
}

static bool tell_slab(const struct tour *tour, const struct lu__slab *slab) {
    const struct lu__seg *seg = slab->seg;
    size_t size = slab->cache->size;
    uintptr_t end = slab->first + slab->capacity * size;
    if (!tell(tour, seg->start, slab->first - seg->start, LU_BLOCK_META)) return false;
    for (size_t i = 0; i < slab->capacity; i++) {
        if (!tell(tour, slab->first + i * size, size, state_of(slab, i))) return false;
    }
    return tell(tour, end, seg->start + seg->bytes - end, LU_BLOCK_META);
}

void lu__slab_walk(struct lu__classic *self, lu__block_visit *visit, void *arg) {
    const struct lu__slab_heap *heap = lu__slab_heap_of(self);
    struct tour tour = {visit, arg};
    bool more = true;
    for (const struct lu__seg *seg = heap->vmem.first; more && seg != NULL; seg = seg->next) {
        if (seg->kind == LU_VMEM_SLAB) {
            more = tell_slab(&tour, seg->owner);
        } else {
            bool used = seg->kind == LU_VMEM_LARGE;
            more = tell(&tour, seg->start, seg->bytes, used ? LU_BLOCK_USED : LU_BLOCK_FREE);
        }
    }
}

/* ---------------------------------------------------------------- slabs */

static bool fail(struct lu__classic_fault *fault, const char *what, const void *where) {
    *fault = (struct lu__classic_fault){what, (uintptr_t)where};
    return false;
}

/* The descriptors can be trusted: nothing was written over them from below. */
static bool check_descriptors(const struct lu__slab_heap *heap, struct lu__classic_fault *fault) {
    for (const struct lu__seg *seg = heap->vmem.first; seg != NULL; seg = seg->next) {
        if (seg->kind != LU_VMEM_SLAB) continue;
        const struct lu__slab *slab = seg->owner;
        if (slab == NULL || slab->magic != lu__slab_magic(slab) || slab->seg != seg) {
            return fail(fault, "a slab's descriptor was overwritten", (void *)seg->start);
        }
        slab->cache->check_slabs = slab->cache->check_cached = slab->cache->check_used = 0;
    }
    return true;
}

/* The states of the objects agree with the map of those on the slab. */
static bool check_objects(const struct lu__slab *slab, struct lu__classic_fault *fault) {
    struct lu__slab_cache *cache = slab->cache;
    size_t on_slab = 0;
    for (size_t i = 0; i < slab->capacity; i++) {
        const void *object = (const void *)(slab->first + i * cache->size);
        bool marked = (slab->on_slab[i / 64] >> i % 64 & 1) != 0;
        enum lu__object_state state = lu__object_state(slab, i);
        if (marked != (state == LU_OBJECT_RAW || state == LU_OBJECT_MADE)) {
            return fail(fault, "an object's state is wrong", object);
        }
        on_slab += marked;
        cache->check_used += state == LU_OBJECT_USED;
        cache->check_cached += state == LU_OBJECT_CACHED;
    }
    if (on_slab != slab->free) return fail(fault, "a slab's count is wrong", slab);
    return true;
}

static bool check_slab(const struct lu__slab_heap *heap, const struct lu__slab *slab,
                       struct lu__classic_fault *fault) {
    struct lu__slab_cache *cache = slab->cache;
    const struct lu__seg *seg = slab->seg;
    if (slab->capacity != cache->capacity || seg->bytes != cache->slab_bytes ||
        slab->first != seg->start + cache->first + slab->colour ||
        slab->colour > cache->colour_most) {
        return fail(fault, "a slab that has not its cache's shape", slab);
    }
    for (size_t at = 0; at < seg->bytes; at += LU_VMEM_QUANTUM) {
        if (lu__vmem_find(&heap->vmem, (const void *)(seg->start + at)) != seg) {
            return fail(fault, "a slab that cannot be found from its objects", slab);
        }
    }
    cache->check_slabs++;
    return check_objects(slab, fault);
}

/* How many a list has; SIZE_MAX if one is not linked back, does not belong, or more than `most`. */
static size_t count_list(const struct lu__slab_cache *cache, const struct lu__slab *slab,
                         size_t least_free, size_t most_free, size_t most) {
    const struct lu__slab *before = NULL;
    size_t n = 0;
    for (; slab != NULL; before = slab, slab = slab->next) {
        bool belongs = slab->cache == cache && slab->free >= least_free && slab->free <= most_free;
        if (!belongs || slab->prev != before || n == most) return SIZE_MAX;
        n++;
    }
    return n;
}

static bool check_lists(const struct lu__slab_cache *cache, struct lu__classic_fault *fault) {
    size_t slabs = cache->slabs, objects = cache->capacity;
    if (cache->partial == NULL && cache->full == NULL && cache->empty == NULL) {
        return slabs == 0 || fail(fault, "slabs that are in no list", cache);
    }
    size_t full = count_list(cache, cache->full, 0, 0, slabs);
    size_t partial = count_list(cache, cache->partial, 1, objects - 1, slabs);
    size_t empty = count_list(cache, cache->empty, objects, objects, slabs);
    if (full == SIZE_MAX || partial == SIZE_MAX || empty == SIZE_MAX) {
        return fail(fault, "a list of slabs is damaged", cache);
    }
    if (full + partial + empty != slabs || cache->check_slabs != slabs || empty != cache->empties) {
        return fail(fault, "a count of slabs is wrong", cache);
    }
    return true;
}

/* ---------------------------------------------------------------- magazines */

/* The rounds are cached objects of the cache. Adds them to `total`. */
static bool check_magazine(struct lu__slab_cache *cache, const struct lu__magazine *magazine,
                           size_t *total, struct lu__classic_fault *fault) {
    if (magazine == NULL) return true;
    if (magazine->rounds > magazine->capacity || magazine->kind > cache->depot.kind) {
        return fail(fault, "a magazine is damaged", magazine);
    }
    for (size_t i = 0; i < magazine->rounds; i++) {
        size_t index;
        const struct lu__slab *slab = lu__slab_locate(cache->heap, magazine->round[i], &index);
        if (slab == NULL || slab->cache != cache ||
            lu__object_state(slab, index) != LU_OBJECT_CACHED) {
            return fail(fault, "a round that is no cached object", magazine->round[i]);
        }
    }
    *total += magazine->rounds;
    return true;
}

static bool check_depot(struct lu__slab_cache *cache, size_t *total,
                        struct lu__classic_fault *fault) {
    const struct lu__slab_depot *depot = &cache->depot;
    size_t fulls = 0, empties = 0;
    for (const struct lu__magazine *full = depot->full; full != NULL; full = full->next) {
        if (++fulls > depot->fulls) break;
        if (!check_magazine(cache, full, total, fault)) return false;
        if (full->rounds != full->capacity) return fail(fault, "a full magazine is not", full);
    }
    for (const struct lu__magazine *empty = depot->empty; empty != NULL; empty = empty->next) {
        if (++empties > depot->empties) break;
        if (empty->rounds != 0) return fail(fault, "an empty magazine is not", empty);
    }
    if (fulls != depot->fulls || empties != depot->empties) {
        return fail(fault, "a depot is damaged", cache);
    }
    return true;
}

static bool check_cache(struct lu__slab_cache *cache, struct lu__classic_fault *fault) {
    size_t cached = 0;
    if (cache->slabs == 0) cache->check_slabs = cache->check_cached = cache->check_used = 0;
    if (!check_lists(cache, fault)) return false;
    for (unsigned i = 0; i < LU_SLAB_PROCESSORS; i++) {
        if (!check_magazine(cache, cache->cpus[i].loaded, &cached, fault)) return false;
        if (!check_magazine(cache, cache->cpus[i].previous, &cached, fault)) return false;
    }
    if (!check_depot(cache, &cached, fault)) return false;
    if (cached != cache->check_cached) {
        return fail(fault, "an object in two magazines, or in none", cache);
    }
    return true;
}

/* Every descriptor and magazine is there once for a slab or a place of a magazine. */
static bool check_internal(struct lu__slab_heap *heap, size_t outside, size_t magazines,
                           struct lu__classic_fault *fault) {
    size_t made = 0;
    for (unsigned i = 0; i < LU_MAGAZINE_KINDS; i++) {
        if (!check_cache(&heap->magazines[i], fault)) return false;
        made += heap->magazines[i].check_used;
    }
    if (!check_cache(&heap->descriptors, fault)) return false;
    if (heap->descriptors.check_used != outside) {
        return fail(fault, "a descriptor that no slab has", &heap->descriptors);
    }
    return made == magazines || fail(fault, "a magazine that nobody has", heap);
}

static size_t count_magazines(const struct lu__slab_cache *cache) {
    size_t n = cache->depot.fulls + cache->depot.empties;
    for (unsigned i = 0; i < LU_SLAB_PROCESSORS; i++) {
        n += cache->cpus[i].loaded != NULL;
        n += cache->cpus[i].previous != NULL;
    }
    return n;
}

bool lu__slab_validate(struct lu__classic *self, struct lu__classic_fault *fault) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    size_t outside = 0, magazines = 0;
    if (!lu__vmem_validate(&heap->vmem, fault) || !check_descriptors(heap, fault)) return false;
    for (const struct lu__seg *seg = heap->vmem.first; seg != NULL; seg = seg->next) {
        if (seg->kind != LU_VMEM_SLAB) continue;
        const struct lu__slab *slab = seg->owner;
        if (!check_slab(heap, slab, fault)) return false;
        outside += slab->cache->outside;
    }
    for (struct lu__slab_cache *cache = heap->caches; cache != NULL; cache = cache->next) {
        if (!check_cache(cache, fault)) return false;
        magazines += count_magazines(cache);
    }
    return check_internal(heap, outside, magazines, fault);
}
