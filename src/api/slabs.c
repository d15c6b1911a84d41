/*
 * slabs.c - how the slabs of an object cache are cut, and what is known of each object.
 *
 *     | header | states | order | colour | object 0 | object 1 | ... | object n-1 | rest |
 *     ^ a multiple of slab_bytes         ^ objects                                        ^
 *
 * Nothing about a free object stands inside it, for it stays constructed. A byte tells its state
 * (raw, ready, in a magazine, live, moving), and the numbers of those that are free and in no
 * magazine also stand in two stacks that grow towards each other:
 *
 *     order   [ 7 3 9 . . . . . . . 4 5 6 ]       ready = 3: 7 3 9 are free and constructed
 *               0     ^ready      ^count - raw    raw   = 3: 4 5 6 are not constructed
 *
 * Invariants: a number is in `ready` or `raw` exactly if its state says so, but in a child of a
 * fork that came amid a change, until lu__slab_restack made the stacks from the states.
 *
 * Colours (Bonwick, "The Slab Allocator", USENIX Summer 1994, section 4.3): the first objects of
 * successive slabs start at different offsets, as far as the rest of a slab allows, so that the
 * same field of all objects does not fall on the same few lines of a processor cache.
 *
 * The caller holds the lock of the cache for lu__slab_restack; the others need none.
 */
#include "api/slabs.h"

#include "engine/engine.h"

#include <string.h>

enum {
    LEAST_SLAB_BYTES = 16 << 10,
    WASTE_PART = 8,  /* at most 1/8 of a slab should be lost to header and rest ... */
    GROWTH_MOST = 16 /* ... unless it would need a slab of so many objects           */
};
#define OBJECT_MOST (LU_ENGINE_MAX / 256) /* keeps every sum and shift below from overflowing */

/* ------------------------------------------------------------------ shape -------------------- */

/* Offset of order[] in a slab of `count` objects. */
static size_t order_offset(size_t count) {
    return lu__align_up(sizeof(struct lu__slab) + count, sizeof(uint16_t));
}

/* Offset of the first object. */
static size_t header_bytes(size_t count, size_t alignment) {
    return lu__align_up(order_offset(count) + count * sizeof(uint16_t),
                        LU_MAX(alignment, (size_t)8));
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
    out->slab_shift = lu__log2(slab_bytes);
    out->first_offset = header_bytes(count, alignment);
    out->colour_step = LU_MAX(alignment, (size_t)LU_CACHE_LINE);
    out->colours = (slab_bytes - out->first_offset - count * stride) / out->colour_step + 1;
    return true;
}

/* ------------------------------------------------------------------ slabs -------------------- */

struct lu__slab *lu__slab_create(const struct lu__slab_shape *shape, size_t colour) {
    struct lu__slab *slab = lu__engine_alloc_aligned(shape->slab_bytes, shape->slab_bytes);
    if (slab == NULL) return NULL;
    *slab = (struct lu__slab){.raw = shape->count};
    slab->order = (uint16_t *)(void *)((char *)slab + order_offset(shape->count));
    memset(slab->states, LU_SLAB_RAW, shape->count);
    for (uint32_t i = 0; i < shape->count; i++) slab->order[i] = (uint16_t)i;
    slab->objects = (char *)slab + shape->first_offset +
                    colour % shape->colours * shape->colour_step;
    return slab;
}

void lu__slab_destroy(struct lu__slab *slab) {
    lu__engine_free(slab);
}

void lu__slab_restack(const struct lu__slab_shape *shape, struct lu__slab *slab, bool lost) {
    slab->ready = slab->raw = 0;
    for (uint32_t i = shape->count; i-- > 0;) { /* downwards: low numbers are popped first */
        uint8_t state = lu__slab_state(slab, i);
        if (state == LU_SLAB_HAND && lost) {
            state = LU_SLAB_READY;
            lu__slab_set_state(slab, i, LU_SLAB_READY);
        }
        if (state == LU_SLAB_READY) lu__slab_push_ready(slab, i);
        if (state == LU_SLAB_RAW) lu__slab_push_raw(shape, slab, i);
    }
}
