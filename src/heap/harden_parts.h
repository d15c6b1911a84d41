/*
 * harden_parts.h - what harden.c, harden_span.c and harden_check.c share.
 *
 * A hardened SMALL span keeps one byte of state for each block, outside the span:
 *
 *     NEVER ---+                +--> CONDEMNED   found damaged; stays out of use
 *              v   refill       |
 *     READY ------> STASHED ----+--> LIVE -----> QUARANTINED -----> READY
 *                   in heap->hard   malloc       free               the quarantine is full
 *
 * (FREEING in between, while it is checked and zeroed.) READY and QUARANTINED are written by
 * whatever thread frees, everything else by the owner. States of blocks that may be taken have the
 * top bit clear, so that eight are tested at once.
 *
 * Fields of struct span with another meaning here:
 *     head       address of the states          reserve    number of blocks that fit
 *     limit      bytes carved, as always        stamp      1: in the owner's list of spans with
 *     bound      0                                          READY blocks, or pending on the way
 */
#ifndef LU_HARDEN_PARTS_H
#define LU_HARDEN_PARTS_H

#include "heap/harden.h"

enum hard_state {
    HARD_NEVER = 0,
    HARD_READY = 1,
    HARD_STASHED = 0x80,
    HARD_LIVE_BLOCK = 0x81,
    HARD_QUARANTINED = 0x82,
    HARD_FREEING = 0x83,
    HARD_CONDEMNED = 0x84,
};

#define HARD_STASH 24u
#define HARD_RING 4096u
#define HARD_CANARY sizeof(uintptr_t)
#define HARD_NEAR 32u /* bytes looked at before and behind a freed block */

struct hard_block {
    uintptr_t block;
    uint8_t *state;
};

struct hard_stash {
    uint32_t count;
    struct hard_block blocks[HARD_STASH];
};

struct hard {
    uint64_t random; /* state of xorshift64 (Marsaglia 2003) */
    size_t held;     /* bytes in the quarantine               */
    uint32_t oldest, count;
    struct span *spans[LU_CLASSES]; /* with READY or uncarved blocks; by next and prev */
    struct hard_stash stash[LU_CLASSES];
    uint64_t ring[HARD_RING]; /* the quarantine: block, its class in the top byte  */
};
_Static_assert(sizeof(struct hard) <= LU_SLICE, "a heap's part fits one slice");

LU_INLINE uint8_t *lu__hard_states(const struct span *span) {
    return (uint8_t *)span->head;
}
/* Where the span begins that `at` is in. */
LU_INLINE uintptr_t lu__hard_start(const struct span *span, uintptr_t at) {
    if (LU_LIKELY(lu__class_size[span->class_id] <= LU_SLICE / 2)) return at & ~(LU_SLICE - 1);
    return (uintptr_t)lu__span_start(span);
}
/* Number of the block that holds `offset`: exact, see span/class.c, for spans of one slice. */
LU_INLINE uint32_t lu__hard_index(const struct span *span, uint32_t offset) {
    uint32_t size = lu__class_size[span->class_id];
    if (size > LU_SLICE / 2) return offset / size;
    return (uint32_t)((uint64_t)offset * span->inverse >> 32);
}
LU_INLINE uint64_t lu__hard_random(struct hard *hard) {
    uint64_t x = hard->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return hard->random = x;
}

/* One of the blocks in a stash that is not empty; then it is taken out. */
LU_INLINE uint32_t lu__hard_pick(struct hard *hard, const struct hard_stash *stash) {
    if (!lu__harden.random_order) return stash->count - 1;
    return (uint32_t)((lu__hard_random(hard) >> 32) * stash->count >> 32);
}
LU_INLINE void lu__hard_take(struct hard_stash *stash, uint32_t pick) {
    stash->blocks[pick] = stash->blocks[--stash->count];
}
/* The descriptor of the hardened SMALL span that holds `block`, if it is one slice long and in the
 * first region; else NULL, and lu__span_of knows. */
LU_INLINE struct span *lu__hard_span_near(const void *block) {
    const struct region *region = &lu__regions[0];
    size_t offset = (uintptr_t)block - (uintptr_t)region->base;
    if (offset >= (size_t)__atomic_load_n(&region->top, __ATOMIC_RELAXED) << LU_SLICE_SHIFT) {
        return NULL;
    }
    struct span *span = lu__region_desc(region, offset >> LU_SLICE_SHIFT);
    if (span->kind != LU_KIND_SMALL || !span->hardened) return NULL;
    return lu__class_size[span->class_id] <= LU_SLICE / 2 ? span : NULL;
}

/* harden.c: put a freed block of class `c` into the heap's quarantine, and take out what has waited
 * for long enough. */
void lu__hard_detain(struct heap *heap, unsigned c, uintptr_t block);
/* harden_span.c: a slice for ourselves, with a guard if there may be one more. */
struct span *lu__hard_meta(bool *zero);
/* Fill the empty stash of class `c`; false: no memory. */
bool lu__hard_refill(struct heap *heap, unsigned c);
/* Block of `span` leaves the quarantine. Any thread. */
void lu__hard_ready(struct span *span, uint8_t *state);

/* harden_check.c. `room` is what a block holds without its canary. */

/* What the canary of a free block is. After Knuth's multiplicative hash. */
LU_INLINE uint64_t lu__hard_hash(uintptr_t block) {
    uint64_t x = (block ^ lu__link_key) * 0x9e3779b97f4a7c15u;
    return x ^ (x >> 29);
}
/* Write the canary of a block, of which `size` of `room` bytes are asked for, and what lies
 * between.
 * Free blocks have size == room. */
void lu__hard_seal(uintptr_t block, uint32_t room, uint32_t size);
/* True if seal and filling are whole; *size is what was asked for. */
bool lu__hard_sealed(uintptr_t block, uint32_t room, uint32_t *size);
/* True if the canary itself is that of the block, whatever size it tells. */
bool lu__hard_has_canary(uintptr_t block, uint32_t room);
/* The mark of blocks that new[] made. */
void lu__hard_set_array(uintptr_t block, uint32_t room, bool array);
bool lu__hard_is_array(uintptr_t block, uint32_t room);
bool lu__hard_is_zero(uintptr_t block, uint32_t bytes);
/* Look at what lies around the block that is being freed; what is damaged is reported, once. */
void lu__hard_check_around(const struct span *span, uintptr_t block, const char *call);

/* True if canaries begin where requests end: in large blocks always, their cost is small. */
LU_INLINE bool lu__hard_is_exact(uint32_t room) {
    return lu__harden.canary == 2 || (lu__harden.canary == 1 && room > LU_SMALL_MAX);
}
LU_INLINE uint32_t lu__hard_room(unsigned c) {
    return lu__class_size[c] - lu__harden.canary_bytes;
}

#endif
