/*
 * slab.c - slabs: objects of one size in a few quanta, and what keeps them constructed.
 *
 * Source: J. Bonwick, "The Slab Allocator: An Object-Caching Kernel Memory Allocator", USENIX
 * Summer 1994.
 *
 * The observation is that objects have a state that outlives their uses: locks that are free, lists
 * that are empty, buffers that are attached. To make it anew for every allocation often costs more
 * than the allocation. So a cache hands objects out *constructed* and takes them back so, and calls
 * the destructor only when the memory leaves the cache:
 *
 *     RAW --take: constructor--> USED --free--> CACHED (magazine) --drain--> MADE (on the slab)
 *      ^                          ^ \             /                            |   |
 *      |                          |  `--<--------'                             |   |
 *      |                          `-------<----- take: nothing to do ----<-----'   |
 *      `--------------<----------- slab goes back: destructor ----------<----------'
 *
 * A free object must therefore not be written to: that it is free is said beside it, not in it.
 * Bonwick links *bufctls*; here a slab has a bit for each object ("on the slab") and a byte for its
 * state. In slabs of small objects the descriptor lies in front of them, for larger objects (above
 * an eighth of a quantum, where it would cost an object's place) it is an object of a cache of its
 * own:
 *
 *     inside   | descriptor, states | colour | o0 | o1 | o2 | … | o(n-1) | left over |   1 quantum
 *     outside  | colour | o0 | o1 | … | o(n-1) | left over |                          1 … quanta
 *
 * *Colouring*: were all slabs alike, the first fields of all objects would lie at the same few
 * offsets of a page and compete for the same lines of the processor's cache, while other lines stay
 * idle. So each new slab of a cache begins one colour step further in, as far as what is left over
 * allows, then from the start again. It costs nothing: the bytes were lost anyway.
 *
 * A slab without used objects stays, for the next burst and with its constructed objects, until it
 * is reaped; caches of malloc, whose objects have no state, keep one such slab only.
 *
 * Bounds: slabs are chosen so that at most 1/8 is left over; a descriptor takes 88 bytes and one
 * for each object, 8 % with objects of 16 bytes. Outside, one used object keeps a slab: the worst
 * case is a factor of the slab's capacity, if the objects that stay are spread over all slabs.
 *
 * All lists and counts under cache->lock. What never changes in a slab is read without.
 */
#include <string.h>

#include "classic/slab_parts.h"

#define MAGIC 0x51ab0b1ec75ca5edu
#define LEAST_IN_SLAB 4u /* objects, or a slab would be little else than a large block */

/* ---------------------------------------------------------------- shape */

static void shape_inside(struct lu__slab_cache *cache) {
    size_t size = cache->size, fixed = sizeof(struct lu__slab);
    size_t n = (LU_VMEM_QUANTUM - fixed) / (size + 1);
    while (lu__align_up(fixed + n, cache->align) + n * size > LU_VMEM_QUANTUM) n--;
    cache->slab_bytes = LU_VMEM_QUANTUM;
    cache->capacity = n;
    cache->first = lu__align_up(fixed + n, cache->align);
}

/* The fewest quanta that hold some objects and lose at most an eighth. */
static void shape_outside(struct lu__slab_cache *cache) {
    size_t bytes = 0, n, lost;
    do {
        bytes += LU_VMEM_QUANTUM;
        n = bytes / cache->size;
        lost = bytes % cache->size;
    } while (n < LEAST_IN_SLAB || lost > bytes / 8);
    LU_ASSERT(n <= LU_SLAB_OUTSIDE_ROOM);
    cache->slab_bytes = bytes;
    cache->capacity = n;
    cache->first = 0;
}

void lu__slab_setup(struct lu__slab_cache *cache, struct lu__slab_heap *heap,
                    const struct lu__slab_shape *shape) {
    cache->heap = heap;
    cache->name = shape->name;
    cache->asked = shape->bytes;
    cache->align = LU_MAX(shape->align, LU_CLASSIC_ALIGN);
    cache->size = lu__align_up(shape->bytes, cache->align);
    cache->internal = shape->internal;
    cache->keep = shape->keep;
    cache->outside = cache->size > LU_SLAB_INSIDE_MOST;
    if (cache->outside) {
        shape_outside(cache);
    } else {
        shape_inside(cache);
    }
    size_t left = cache->slab_bytes - cache->first - cache->capacity * cache->size;
    cache->colour_most = lu__align_down(left, cache->align);
    lu__magazine_setup(cache);
}

/* ---------------------------------------------------------------- lists */

static struct lu__slab **list_of(struct lu__slab_cache *cache, const struct lu__slab *slab) {
    if (slab->free == 0) return &cache->full;
    return slab->free == slab->capacity ? &cache->empty : &cache->partial;
}

static void link_slab(struct lu__slab_cache *cache, struct lu__slab *slab) {
    struct lu__slab **list = list_of(cache, slab);
    slab->prev = NULL;
    slab->next = *list;
    if (slab->next != NULL) slab->next->prev = slab;
    *list = slab;
    if (list == &cache->empty) cache->empties++;
}

static void unlink_slab(struct lu__slab_cache *cache, struct lu__slab *slab) {
    struct lu__slab **list = list_of(cache, slab);
    if (slab->next != NULL) slab->next->prev = slab->prev;
    if (slab->prev != NULL) {
        slab->prev->next = slab->next;
    } else {
        *list = slab->next;
    }
    if (list == &cache->empty) cache->empties--;
}

/* One object more or less is on the slab. */
static void change_free(struct lu__slab_cache *cache, struct lu__slab *slab, int by) {
    uint16_t now = (uint16_t)(slab->free + by);
    bool stays = slab->free != 0 && slab->free != slab->capacity && now != 0 &&
                 now != slab->capacity;
    if (!stays) unlink_slab(cache, slab);
    slab->free = now;
    if (!stays) link_slab(cache, slab);
}

/* ---------------------------------------------------------------- slabs */

uint64_t lu__slab_magic(const struct lu__slab *slab) {
    return MAGIC ^ (uintptr_t)slab;
}

static size_t colour_of_next(struct lu__slab_cache *cache) {
    if (cache->heap->options.no_colour) return 0;
    size_t colour = cache->next_colour;
    cache->next_colour = colour + cache->align <= cache->colour_most ? colour + cache->align : 0;
    return colour;
}

/* A new slab, listed. Under the cache's lock. */
static struct lu__slab *make_slab(struct lu__slab_cache *cache) {
    struct lu__slab_heap *heap = cache->heap;
    struct lu__seg *seg = lu__vmem_alloc(&heap->vmem, cache->slab_bytes, cache->align,
                                         LU_VMEM_SLAB);
    if (seg == NULL) return NULL;
    struct lu__slab *slab = (struct lu__slab *)seg->start;
    if (cache->outside && (slab = lu__slab_take(&heap->descriptors)) == NULL) {
        lu__vmem_free(&heap->vmem, seg);
        return NULL;
    }
    size_t colour = colour_of_next(cache), n = cache->capacity;
    *slab = (struct lu__slab){.cache = cache,
                              .seg = seg,
                              .first = seg->start + cache->first + colour,
                              .capacity = (uint16_t)n,
                              .free = (uint16_t)n,
                              .colour = (uint32_t)colour};
    slab->magic = lu__slab_magic(slab);
    for (size_t i = 0; i < n; i++) slab->on_slab[i / 64] |= (uint64_t)1 << i % 64;
    memset(slab->state, LU_OBJECT_RAW, n);
    seg->owner = slab;
    link_slab(cache, slab);
    cache->slabs++;
    cache->slabs_made++;
    return slab;
}

/* A slab that is in no list and has all its objects goes back to the arena. Without locks. */
static void unmake_slab(struct lu__slab *slab) {
    struct lu__slab_cache *cache = slab->cache;
    struct lu__seg *seg = slab->seg;
    uint64_t destructed = 0;
    for (size_t i = 0; i < slab->capacity; i++) {
        if (lu__object_state(slab, i) != LU_OBJECT_MADE) continue;
        destructed++;
        if (cache->destructor == NULL) continue;
        cache->destructor((void *)(slab->first + i * cache->size), cache->arg);
    }
    slab->magic = 0;
    if (cache->outside) {
        size_t index;
        struct lu__slab *its = lu__slab_locate(cache->heap, slab, &index);
        if (its != NULL) lu__slab_give(its, index, true);
    }
    lu__vmem_free(&cache->heap->vmem, seg);
    lu__lock_acquire(&cache->lock);
    cache->destructed += destructed;
    cache->slabs_unmade++;
    lu__lock_release(&cache->lock);
}

/* Take a slab out of the cache. */
static void detach(struct lu__slab_cache *cache, struct lu__slab *slab) {
    unlink_slab(cache, slab);
    cache->slabs--;
}

size_t lu__slab_shrink(struct lu__slab_cache *cache) {
    for (size_t n = 0;; n++) {
        lu__lock_acquire(&cache->lock);
        struct lu__slab *slab = cache->empty;
        if (slab != NULL) detach(cache, slab);
        lu__lock_release(&cache->lock);
        if (slab == NULL) return n;
        unmake_slab(slab);
    }
}

/* ---------------------------------------------------------------- objects */

struct lu__slab *lu__slab_locate(struct lu__slab_heap *heap, const void *object, size_t *index) {
    const struct lu__seg *seg = lu__vmem_find(&heap->vmem, object);
    if (seg == NULL || seg->kind != LU_VMEM_SLAB) return NULL;
    struct lu__slab *slab = seg->owner;
    if (slab == NULL || slab->magic != lu__slab_magic(slab)) return NULL;
    size_t offset = (uintptr_t)object - slab->first, size = slab->cache->size;
    if (offset >= slab->capacity * size || offset % size != 0) return NULL;
    *index = offset / size;
    return slab;
}

/* The lowest object of a slab; it has one. */
static size_t lowest(const struct lu__slab *slab) {
    size_t word = 0;
    while (slab->on_slab[word] == 0) word++;
    return word * 64 + (size_t)__builtin_ctzl(slab->on_slab[word]);
}

void *lu__slab_take(struct lu__slab_cache *cache) {
    lu__lock_acquire(&cache->lock);
    LU_COUNT(&cache->heap->head, searches, 1);
    struct lu__slab *slab = cache->partial != NULL ? cache->partial : cache->empty;
    if (slab == NULL) slab = make_slab(cache);
    if (slab == NULL) {
        lu__lock_release(&cache->lock);
        return NULL;
    }
    size_t index = lowest(slab);
    bool raw = lu__object_state(slab, index) == LU_OBJECT_RAW;
    slab->on_slab[index / 64] &= ~((uint64_t)1 << index % 64);
    lu__object_set_state(slab, index, LU_OBJECT_USED);
    change_free(cache, slab, -1);
    cache->taken++;
    cache->constructed += raw;
    lu__lock_release(&cache->lock);
    void *object = (void *)(slab->first + index * cache->size);
    if (raw && cache->constructor != NULL) cache->constructor(object, cache->arg);
    return object;
}

void lu__slab_give(struct lu__slab *slab, size_t index, bool by_caller) {
    struct lu__slab_cache *cache = slab->cache;
    lu__lock_acquire(&cache->lock);
    slab->on_slab[index / 64] |= (uint64_t)1 << index % 64;
    lu__object_set_state(slab, index, LU_OBJECT_MADE);
    change_free(cache, slab, 1);
    cache->returned += by_caller;
    bool too_many = slab->free == slab->capacity && cache->empties > cache->keep;
    if (too_many) detach(cache, slab);
    lu__lock_release(&cache->lock);
    if (too_many) unmake_slab(slab);
}
