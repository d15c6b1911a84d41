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
 *     bound      as always; 0 unless                        READY blocks, or pending on the way
 *                one slice long
 */
#ifndef LU_HARDEN_PARTS_H
#define LU_HARDEN_PARTS_H

#include "heap/harden.h"

enum hard_state {
    HARD_NEVER = 0,
    HARD_READY = 1,
    HARD_STASHED = 0x80,
    HARD_QUARANTINED = 0x81,
    HARD_LIVE_BLOCK = 0x82, /* this and those below may hold anything, those above are zero */
    HARD_FREEING = 0x83,
    HARD_CONDEMNED = 0x84,
};

#define HARD_STASH 22u
#define HARD_RING 4096u
#define HARD_CANARY 8u
#define HARD_ARRAY ((uint64_t)1 << 16) /* in a canary: made by new[] */
#define HARD_NEAR 32u                  /* bytes looked at before and behind a freed block */

struct hard_block {
    uintptr_t block;
    uint8_t *state;
};

struct hard_stash {
    uint32_t count;
    struct hard_block blocks[HARD_STASH];
};

struct hard {
    uint64_t random;                /* state of lu__hard_random                                */
    size_t held;                    /* bytes in the quarantine                                 */
    uint32_t out, in;               /* blocks that left and entered it, both modulo 2^32       */
    struct span *spans[LU_CLASSES]; /* with READY or uncarved blocks; by next and prev */
    struct span *last[LU_CLASSES];  /* of those                                        */
    struct hard_stash stash[LU_CLASSES];
    uint64_t ring[HARD_RING]; /* the quarantine, see lu__hard_entry */
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
LU_INLINE uint8_t *lu__hard_state(const struct span *span, uintptr_t block) {
    return lu__hard_states(span) +
           lu__hard_index(span, (uint32_t)(block - lu__hard_start(span, block)));
}
/* Linear congruential, multiplier by Knuth (MMIX): the upper half is good. */
LU_INLINE uint32_t lu__hard_random(struct hard *hard) {
    hard->random = hard->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(hard->random >> 32);
}

/* A block in a stash of `count`, not 0; then it is taken out. */
LU_INLINE uint32_t lu__hard_pick(struct hard *hard, uint32_t count) {
    return (uint32_t)((uint64_t)lu__hard_random(hard) * count >> 32);
}
LU_INLINE void lu__hard_take(struct hard_stash *stash, uint32_t pick) {
    stash->blocks[pick] = stash->blocks[--stash->count];
}

/* harden_span.c: a slice for ourselves, with a guard if there may be one more. */
struct span *lu__hard_meta(bool *zero);
/* Fill the empty stash of class `c`; false: no memory. */
bool lu__hard_refill(struct heap *heap, unsigned c);
/* Block of `span` leaves the quarantine. Any thread. */
void lu__hard_ready(struct span *span, uint8_t *state);

/* harden_check.c. `room` is what a block holds without its canary. */

/* What the canary of a free block is: Knuth's multiplicative hash under a secret. */
LU_INLINE uint64_t lu__hard_hash(uintptr_t block) {
    return (block ^ lu__link_key) * 0x9e3779b97f4a7c15u;
}
/* Write the canary of a block, of which `size` of `room` bytes are asked for, and what lies
 * between.
 * Free blocks have size == room. */
void lu__hard_seal(uintptr_t block, uint32_t room, uint32_t size);
/* True if seal and filling are whole; *size is what was asked for. */
bool lu__hard_sealed(uintptr_t block, uint32_t room, uint32_t *size);
/* True if the canary itself is that of the block, whatever size it tells. */
bool lu__hard_has_canary(uintptr_t block, uint32_t room);
/* lu__hard_array_made and ends, for any block. */
void lu__hard_array_made_long(void *block);
void lu__hard_array_ends_long(const void *block);
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

/* The descriptor of the slice that holds `block`, in the first region. */
LU_INLINE struct span *lu__hard_desc(uintptr_t block) {
    const struct region *region = &lu__regions[0];
    return lu__region_desc(region, (block - (uintptr_t)region->base) >> LU_SLICE_SHIFT);
}

/* ---------------------------------------------------------------- the quarantine */

/* What the ring holds: the block, its class above, and HARD_FAR if it is not of the heap's own span
 * of one slice in the first region. */
#define HARD_FAR ((uint64_t)1 << 63)     /* or perhaps not: lu__span_of knows */
#define HARD_FOREIGN ((uint64_t)1 << 55) /* of another heap's span of that kind */
LU_INLINE uint64_t lu__hard_entry(unsigned c, uintptr_t block) {
    return (uint64_t)c << 56 | block;
}
LU_INLINE unsigned lu__hard_entry_class(uint64_t entry) {
    return (unsigned)(entry >> 56) & 0x7f;
}
LU_INLINE uintptr_t lu__hard_entry_block(uint64_t entry) {
    return (uintptr_t)(entry & (HARD_FOREIGN - 1));
}

/* harden.c: put a freed block in; and take out what has waited for long enough, so that there is
 * room for another. */
void lu__hard_detain(struct heap *heap, uint64_t entry);
void lu__hard_settle(struct heap *heap);
/* What has left the quarantine goes where it is soon found again: into the stash, if it is the
 * heap's own; else back to its owner. */
void lu__hard_let_go(struct heap *heap, uint64_t entry);

#endif
