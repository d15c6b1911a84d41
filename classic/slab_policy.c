/*
 * slab_policy.c - malloc on object caches, as libumem does it.
 *
 * Source: J. Bonwick and J. Adams, "Magazines and Vmem", USENIX 2001, section 5 (libumem); the
 * layers below have their own: slab_magazine.c, slab.c, vmem.c.
 *
 *     bytes        1 … 128          129 … 16384                above             aligned
 *                  steps of 16      4 sizes for each doubling  whole quanta      2^k, to 4096
 *                     \                /                          |               |
 *     36 caches     [16][32] … [128][160][192][224][256] … [16384]|     8 caches [32] … [4096]
 *                        |  magazines of each processor, depot    |       |
 *                        |  slabs                                 |       |
 *     arena           ===|========================================|=======|====   break
 *
 * Blocks have no header, so a power of two takes a power of two. free(3) finds the segment of a
 * pointer in the arena's map: a slab, which tells cache and object by a division, or a large block.
 * A pointer that is none of these, or into the middle, is seen, and so is a second free, by the
 * object's state.
 *
 * Bounds: rounding up to the next size loses less than a fifth of a block above 128 bytes, up to 15
 * bytes below; aligned blocks up to a half. Memory of one size serves another only as a whole slab,
 * when all its objects are free and neither magazines nor the cache's reserve hold it: programs
 * whose sizes change over time pay. When the break can rise no further, everything that lies idle
 * in any cache is reaped and the call tries again.
 *
 * Any thread at any time. Lock order: slab_parts.h.
 */
#include "classic/slab_parts.h"

/* ---------------------------------------------------------------- sizes */

static unsigned class_for(size_t bytes) {
    if (bytes <= 128) return (unsigned)((bytes - 1) / 16);
    unsigned k = lu__log2(bytes - 1); /* 2^k < bytes <= 2^(k+1) */
    size_t quarter = (bytes - 1 - ((size_t)1 << k)) >> (k - 2);
    return 8 + (k - 7) * 4 + (unsigned)quarter;
}

static size_t class_bytes(unsigned class) {
    if (class < 8) return 16 * (size_t)(class + 1);
    unsigned k = 7 + (class - 8) / 4;
    return ((size_t)1 << k) + ((size_t)(class % 4 + 1) << (k - 2));
}

/* The cache of aligned blocks that has multiples of `align` of `bytes`; NULL: none. */
static struct lu__slab_cache *aligned_for(struct lu__slab_heap *heap, size_t align, size_t bytes) {
    size_t need = LU_MAX(align, bytes);
    unsigned order = need <= 32 ? 5 : lu__log2(need - 1) + 1;
    return order < 5 + LU_SLAB_ALIGNED ? &heap->aligned[order - 5] : NULL;
}

struct lu__slab_cache *lu__slab_cache_for(struct lu__classic *heap, size_t bytes) {
    if (bytes > LU_SLAB_MOST_SMALL) return NULL;
    return &lu__slab_heap_of(heap)->sizes[class_for(LU_MAX(bytes, (size_t)1))];
}

/* ---------------------------------------------------------------- life */

/* Places for caches of the same kind have one name. */
static void setup_all(struct lu__slab_heap *heap) {
    for (unsigned i = 0; i < LU_SLAB_SIZES; i++) {
        struct lu__slab_shape shape = {"malloc", class_bytes(i), 0, false, 1};
        lu__slab_setup(&heap->sizes[i], heap, &shape);
        lu__slab_enlist(heap, &heap->sizes[i]);
    }
    for (unsigned i = 0; i < LU_SLAB_ALIGNED; i++) {
        size_t bytes = (size_t)32 << i;
        struct lu__slab_shape shape = {"aligned_alloc", bytes, bytes, false, 1};
        lu__slab_setup(&heap->aligned[i], heap, &shape);
        lu__slab_enlist(heap, &heap->aligned[i]);
    }
    for (unsigned i = 0; i < LU_MAGAZINE_KINDS; i++) {
        struct lu__slab_shape shape = {"magazine", lu__magazine_bytes(i), 0, true, 1};
        lu__slab_setup(&heap->magazines[i], heap, &shape);
    }
    struct lu__slab_shape shape = {"slab", sizeof(struct lu__slab) + LU_SLAB_OUTSIDE_ROOM, 0, true,
                                   1};
    lu__slab_setup(&heap->descriptors, heap, &shape);
}

static bool init(struct lu__classic *self) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    if (!lu__vmem_init(&heap->vmem, self)) return false;
    setup_all(heap);
    return true;
}

static void fini(struct lu__classic *self) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    for (struct lu__slab_cache *cache = heap->caches, *next; cache != NULL; cache = next) {
        next = cache->next;
        if (cache->own) lu__classic_meta_free(cache, sizeof *cache);
    }
    lu__vmem_fini(&heap->vmem);
}

void lu__slab_configure(struct lu__classic *heap, const struct lu__slab_options *options) {
    lu__slab_heap_of(heap)->options = *options;
}

/* ---------------------------------------------------------------- alloc */

/* From the cache, or without one from the arena. */
static void *obtain(struct lu__slab_heap *heap, struct lu__slab_cache *cache, size_t bytes,
                    size_t align) {
    if (cache != NULL) return lu__slab_object_alloc(cache);
    struct lu__seg *seg = lu__vmem_alloc(&heap->vmem, bytes, align, LU_VMEM_LARGE);
    return seg != NULL ? (void *)seg->start : NULL;
}

static void *obtain_or_reap(struct lu__slab_heap *heap, struct lu__slab_cache *cache, size_t bytes,
                            size_t align) {
    if (bytes > heap->head.area.limit) return NULL;
    void *block = obtain(heap, cache, bytes, align);
    if (block != NULL) return block;
    lu__slab_reap_all(heap);
    return obtain(heap, cache, bytes, align);
}

static void *alloc(struct lu__classic *self, size_t bytes) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    return obtain_or_reap(heap, lu__slab_cache_for(self, bytes), bytes, LU_VMEM_QUANTUM);
}

static void *alloc_aligned(struct lu__classic *self, size_t align, size_t bytes) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    return obtain_or_reap(heap, aligned_for(heap, align, bytes), bytes, align);
}

/* ---------------------------------------------------------------- free, resize */

/* What a payload is: a large block's segment, or (NULL) an object, told in `slab` and `index`.
 * NULL and no slab: neither. */
static struct lu__seg *identify(struct lu__slab_heap *heap, const void *payload,
                                struct lu__slab **slab, size_t *index) {
    struct lu__seg *seg = lu__vmem_find(&heap->vmem, payload);
    *slab = NULL;
    if (seg == NULL) return NULL;
    if (seg->kind == LU_VMEM_LARGE) return (uintptr_t)payload == seg->start ? seg : NULL;
    *slab = lu__slab_locate(heap, payload, index);
    return NULL;
}

static void report(struct lu__slab_heap *heap, const void *payload) {
    const struct lu__seg *seg = lu__vmem_find(&heap->vmem, payload);
    const char *what = "not a block of this heap";
    if (seg != NULL) {
        const struct lu__slab *slab = seg->owner;
        what = "not the start of a block";
        if (slab != NULL && slab->magic != lu__slab_magic(slab)) {
            what = "a slab's descriptor was overwritten";
        }
    }
    lu__classic_misuse(&heap->head, what, payload);
}

static void free_block(struct lu__classic *self, void *payload) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    struct lu__slab *slab;
    size_t index;
    struct lu__seg *seg = identify(heap, payload, &slab, &index);
    if (seg != NULL) {
        lu__vmem_free(&heap->vmem, seg);
    } else if (slab != NULL) {
        lu__slab_object_free(slab, index, payload);
    } else {
        report(heap, payload);
    }
}

/* In place: a large block that becomes larger or smaller, a small one that stays in its class. */
static void *resize(struct lu__classic *self, void *payload, size_t bytes) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    struct lu__slab *slab;
    size_t index;
    struct lu__seg *seg = identify(heap, payload, &slab, &index);
    if (seg != NULL) {
        bool stays = bytes > LU_SLAB_MOST_SMALL && lu__vmem_resize(&heap->vmem, seg, bytes);
        return stays ? payload : NULL;
    }
    if (slab == NULL) {
        report(heap, payload);
        return NULL;
    }
    if (lu__object_state(slab, index) != LU_OBJECT_USED) {
        lu__classic_misuse(self, "resized after it was freed", payload);
        return NULL;
    }
    const struct lu__slab_cache *its = slab->cache;
    if (bytes > its->size) return NULL;
    bool in_class = lu__slab_cache_for(self, bytes) == its;
    /* Of other caches: what is at least half used stays. */
    bool of_malloc = its >= heap->sizes && its < heap->sizes + LU_SLAB_SIZES;
    return in_class || (!of_malloc && bytes >= its->size / 2) ? payload : NULL;
}

static size_t usable_size(const struct lu__classic *self, const void *payload) {
    struct lu__slab_heap *heap = (struct lu__slab_heap *)(uintptr_t)self;
    struct lu__slab *slab;
    size_t index;
    const struct lu__seg *seg = identify(heap, payload, &slab, &index);
    if (seg != NULL) return seg->bytes;
    return slab != NULL ? slab->cache->size : 0;
}

/* ---------------------------------------------------------------- the rest */

static void trim(struct lu__classic *self) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    lu__slab_reap_all(heap);
    lu__vmem_trim(&heap->vmem);
}

/* A simulated thread's magazines are its own. Those of a processor stay for who runs there next. */
static void thread_end(struct lu__classic *self) {
    struct lu__slab_heap *heap = lu__slab_heap_of(self);
    if (heap->options.by_processor || self->config.of_process) return;
    for (struct lu__slab_cache *cache = heap->caches; cache != NULL; cache = cache->next) {
        lu__magazine_drain_cpu(cache, self->thread);
    }
}

/* All locks, in their order. */
static void for_locks(struct lu__slab_heap *heap, void (*act)(struct lu__lock *lock)) {
    struct lu__slab_cache *cache;
    act(&heap->caches_lock);
    for (cache = heap->caches; cache != NULL; cache = cache->next) {
        for (unsigned i = 0; i < LU_SLAB_PROCESSORS; i++) act(&cache->cpus[i].lock);
    }
    for (cache = heap->caches; cache != NULL; cache = cache->next) act(&cache->depot.lock);
    for (cache = heap->caches; cache != NULL; cache = cache->next) act(&cache->lock);
    for (unsigned i = 0; i < LU_MAGAZINE_KINDS; i++) act(&heap->magazines[i].lock);
    act(&heap->descriptors.lock);
    act(&heap->vmem.lock);
}

static void acquire(struct lu__lock *lock) {
    lu__lock_acquire(lock);
}

static void release(struct lu__lock *lock) {
    lu__lock_release(lock);
}

static void reset(struct lu__lock *lock) {
    lu__lock_reset(lock);
}

static void fork_prepare(struct lu__classic *self) {
    for_locks(lu__slab_heap_of(self), acquire);
}

static void fork_parent(struct lu__classic *self) {
    for_locks(lu__slab_heap_of(self), release);
}

static void fork_child(struct lu__classic *self) {
    for_locks(lu__slab_heap_of(self), reset);
}

const struct lu__policy lu__policy_slab = {
    .name = "slab",
    .title = "object caches: slabs, magazines for each processor, a vmem arena",
    .source = "J. Bonwick, The Slab Allocator, 1994; with J. Adams, Magazines and Vmem, 2001",
    .state_bytes = sizeof(struct lu__slab_heap),
    .align = LU_CLASSIC_ALIGN,
    .threaded = true,
    .init = init,
    .fini = fini,
    .alloc = alloc,
    .alloc_aligned = alloc_aligned,
    .free = free_block,
    .resize = resize,
    .usable_size = usable_size,
    .walk = lu__slab_walk,
    .validate = lu__slab_validate,
    .trim = trim,
    .thread_end = thread_end,
    .fork_prepare = fork_prepare,
    .fork_parent = fork_parent,
    .fork_child = fork_child,
};
