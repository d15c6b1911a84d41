/*
 * slabs.c - how the slabs of an object cache are cut, and the set that finds them by address.
 *
 *     | header, order[] | live bits | colour | object 0 | object 1 | ... | object n-1 | rest |
 *     ^ a multiple of slab_bytes            ^ objects                                        ^
 *
 * Nothing about a free object stands inside it, for it stays constructed: which objects are free is
 * told by their numbers in order[], two stacks that grow towards each other,
 *
 *     order   [ 7 3 9 . . . . . . . 4 5 6 ]       ready = 3: 7 3 9 are free and constructed
 *               0     ^ready      ^count - raw    raw   = 3: 4 5 6 are not constructed
 *
 * and the numbers in neither are with the program or on their way between two states.
 * Invariants: ready + raw <= count; a live bit is set only for numbers in neither stack.
 *
 * Colours (Bonwick, "The Slab Allocator", USENIX Summer 1994, section 4.3): the first objects of
 * successive slabs start at different offsets, as far as the rest of a slab allows, so that the
 * same field of all objects does not fall on the same few lines of a processor cache.
 *
 * The set is a hash table with linear probing, so that an address that never came from the cache
 * can be told without reading at it. The caller holds the lock of the cache for everything but
 * lu__slab_shape, lu__slab_create and lu__slab_destroy.
 */
#include "api/slabs.h"

#include "heap/engine.h"

enum {
    LEAST_SLAB_BYTES = 16 << 10,
    WASTE_PART = 8,   /* at most 1/8 of a slab should be lost to header and rest ... */
    GROWTH_MOST = 16, /* ... unless it would need a slab of so many objects          */
    LEAST_CAPACITY = 16
};
#define OBJECT_MOST (LU_ENGINE_MAX / 256) /* keeps every sum and shift below from overflowing */

/* ------------------------------------------------------------------ shape -------------------- */

static size_t live_bytes(size_t count) {
    return (count + 63) / 64 * sizeof(uint64_t);
}

/* Offset of the first object of a slab of `count` objects. */
static size_t header_bytes(size_t count, size_t alignment) {
    size_t order_end = sizeof(struct lu__slab) + count * sizeof(uint16_t);
    return lu__align_up(lu__align_up(order_end, sizeof(uint64_t)) + live_bytes(count), alignment);
}

/* Most objects that fit a slab, at most what a number in order[] can say. */
static size_t count_in(size_t slab_bytes, size_t stride, size_t alignment) {
    size_t count = LU_MIN(slab_bytes / stride, (size_t)UINT16_MAX);
    while (count > 0 && header_bytes(count, alignment) + count * stride > slab_bytes) count--;
    return count;
}

bool lu__slab_shape(struct lu__slab_shape *out, size_t size, size_t alignment) {
    if (size > OBJECT_MOST || alignment > OBJECT_MOST) return false;
    size_t stride = lu__align_up(size, alignment);
    size_t slab_bytes = LEAST_SLAB_BYTES, count;
    for (;; slab_bytes *= 2) {
        count = count_in(slab_bytes, stride, alignment);
        size_t lost = slab_bytes - count * stride;
        if (count > 0 && (lost <= slab_bytes / WASTE_PART || count >= GROWTH_MOST)) break;
    }
    out->slab_bytes = slab_bytes;
    out->stride = stride;
    out->count = (uint32_t)count;
    out->first_offset = header_bytes(count, alignment);
    out->colour_step = LU_MAX(alignment, (size_t)LU_CACHE_LINE);
    out->colours = (slab_bytes - out->first_offset - count * stride) / out->colour_step + 1;
    return true;
}

/* ------------------------------------------------------------------ slabs -------------------- */

struct lu__slab *lu__slab_create(const struct lu__slab_shape *shape, size_t colour) {
    struct lu__slab *slab = lu__engine_alloc_aligned(shape->slab_bytes, shape->slab_bytes);
    if (slab == NULL) return NULL;
    size_t live = lu__align_up(sizeof *slab + shape->count * sizeof slab->order[0], 8);
    *slab = (struct lu__slab){.raw = shape->count};
    slab->live = (uint64_t *)(void *)((char *)slab + live);
    for (size_t i = 0; i < live_bytes(shape->count) / sizeof slab->live[0]; i++) slab->live[i] = 0;
    for (uint32_t i = 0; i < shape->count; i++) slab->order[i] = (uint16_t)i;
    slab->objects = (char *)slab + shape->first_offset +
                    colour % shape->colours * shape->colour_step;
    return slab;
}

void lu__slab_destroy(struct lu__slab *slab) {
    lu__engine_free(slab);
}

/* ------------------------------------------------------------------ the set ------------------ */

/* Where the search for a slab begins. */
static size_t home(const struct lu__slab_set *set, const void *slab, size_t slab_bytes) {
    uint64_t number = (uintptr_t)slab / slab_bytes;
    return (number * 0x9e3779b97f4a7c15u >> 32) & (set->capacity - 1);
}

bool lu__slab_set_is_full(const struct lu__slab_set *set) {
    return (set->used + 1) * 2 > set->capacity;
}

size_t lu__slab_set_next_capacity(const struct lu__slab_set *set) {
    return LU_MAX(set->capacity * 2, (size_t)LEAST_CAPACITY);
}

void lu__slab_set_insert(struct lu__slab_set *set, struct lu__slab *slab, size_t slab_bytes) {
    LU_ASSERT(!lu__slab_set_is_full(set));
    size_t at = home(set, slab, slab_bytes);
    while (set->table[at] != NULL) at = (at + 1) & (set->capacity - 1);
    set->table[at] = slab;
    set->used++;
}

void *lu__slab_set_replace(struct lu__slab_set *set, struct lu__slab **table, size_t capacity,
                           size_t slab_bytes) {
    struct lu__slab_set old = *set;
    *set = (struct lu__slab_set){.table = table, .capacity = capacity};
    for (size_t i = 0; i < old.capacity; i++)
        if (old.table[i] != NULL) lu__slab_set_insert(set, old.table[i], slab_bytes);
    return old.table;
}

struct lu__slab *lu__slab_set_find(const struct lu__slab_set *set, const void *address,
                                   size_t slab_bytes) {
    uintptr_t start = lu__align_down((uintptr_t)address, slab_bytes);
    if (set->capacity == 0) return NULL;
    size_t at = home(set, (const void *)start, slab_bytes);
    while (set->table[at] != NULL && (uintptr_t)set->table[at] != start)
        at = (at + 1) & (set->capacity - 1);
    return set->table[at];
}

/* The hole that is left is closed by moving up what searches would no longer reach over it. */
void lu__slab_set_remove(struct lu__slab_set *set, struct lu__slab *slab, size_t slab_bytes) {
    size_t mask = set->capacity - 1, hole = home(set, slab, slab_bytes);
    while (set->table[hole] != slab) hole = (hole + 1) & mask;
    for (size_t at = (hole + 1) & mask; set->table[at] != NULL; at = (at + 1) & mask) {
        size_t from = home(set, set->table[at], slab_bytes);
        if (((at - from) & mask) >= ((at - hole) & mask)) { /* its search passes the hole */
            set->table[hole] = set->table[at];
            hole = at;
        }
    }
    set->table[hole] = NULL;
    set->used--;
}
