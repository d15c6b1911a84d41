/*
 * parts.h - what blocks.c, spans.c and canary.c share.
 *
 * Whether a block is in its span's hands is one byte outside the span; whether a block that is not
 * is live, is in its canary, a word behind it:
 *
 *     NEVER ---+                 +--> CONDEMNED   found damaged; stays out of use
 *              v    refill       |
 *     READY -------> OUT --------+                canary:   free ----> live ----> free
 *        ^            |                                     stash malloc     free quarantine, stash
 *        +------------+   a stash is full, or the block is another heap's
 *
 * So malloc and free touch nothing but the block, its neighbours and an array of the heap's. READY
 * is written by whatever thread lets go of the block, everything else by the owner. States of
 * blocks that may be taken have the top bit clear, so that eight are tested at once.
 *
 * The way of a block of class c through its heap:
 *
 *     free -> [ring: long quarantine] -> classes[c].fifo -> classes[c].stash -> malloc
 *
 * What another thread's heap owns goes into `away` instead, and from there back to it.
 *
 * In struct span, `head` is the address of the states, and `bound` is 0 unless the span is one
 * slice long.
 */
#ifndef LU_HARDEN_PARTS_H
#define LU_HARDEN_PARTS_H

#include "harden/harden.h"

enum hard_state {
    HARD_NEVER = 0,
    HARD_READY = 1,
    HARD_OUT = 0x80,
    HARD_CONDEMNED = 0x81,
};

/* In a canary, above the 16 bits that tell of the filling; see canary.c. */
#define HARD_ARRAY ((uint64_t)1 << 16)   /* made by new[]                                     */
#define HARD_FREEING ((uint64_t)1 << 17) /* not the program's; to be cleared, or never again  */
#define HARD_MARKS (HARD_ARRAY | HARD_FREEING)

#define HARD_CANARY 8u
#define HARD_NEAR 32u /* bytes looked at before and behind a freed block */

#define HARD_RING 4096u
#define HARD_AWAY 64u
#define HARD_BYTES (16 * LU_KIB) /* of the blocks in a fifo, at most; half of it in a stash     */
#define HARD_FIFO 64u            /* blocks; in both a power of two, and at least one            */
#define HARD_STASH 64u
#define HARD_CHOICE 16u /* one of so many is handed out                                         */

struct hard_class {
    uint16_t count;       /* blocks in the stash                                             */
    uint16_t capacity;    /* that it holds                                                   */
    uint16_t at;          /* of the fifo: its oldest                                         */
    uint16_t mask;        /* of the fifo: its length - 1                                     */
    uint32_t size;        /* of a block                                                      */
    uint32_t short_below; /* the short way takes blocks from offset 1 to this: those that have a
                             neighbour on both sides; 0: none                              */
    uint8_t exact;        /* canaries begin where requests end                                    */
    uint8_t waits;        /* there is a fifo: there is a quarantine, and it is not the ring       */
    uintptr_t fifo[HARD_FIFO];   /* the blocks freed last, which may not be; 0: none       */
    uintptr_t stash[HARD_STASH]; /* free blocks that may be handed out                     */
};

struct hard {
    uint64_t random;                /* state of lu__hard_random                            */
    struct span *spans[LU_CLASSES]; /* with READY or uncarved blocks; by next and prev     */
    struct span *last[LU_CLASSES];  /* of those                                            */
    struct hard_class classes[LU_CLASSES + 1]; /* the last, of what has no class, is empty  */
    size_t held;      /* bytes in the ring                                                 */
    uint32_t out, in; /* blocks that left and entered it, both modulo 2^32                 */
    uint32_t away_count;
    uintptr_t away[HARD_AWAY]; /* other heaps' blocks, oldest first                        */
    uint64_t ring[HARD_RING];  /* the long quarantine: blocks, their classes on top        */
};
_Static_assert(sizeof(struct hard) <= 4 * LU_SLICE, "of which little is touched");

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
/* Multiplicative congruential with an odd state, multiplier by Knuth (MMIX): the upper half is
 * good. */
LU_INLINE uint32_t lu__hard_random(struct hard *hard) {
    hard->random *= 6364136223846793005u;
    return (uint32_t)(hard->random >> 32);
}

/* Any of `count`, not 0. */
LU_INLINE uint32_t lu__hard_pick(struct hard *hard, uint32_t count) {
    return (uint32_t)((uint64_t)lu__hard_random(hard) * count >> 32);
}

/* Which of the `count` blocks of a stash, not 0, is next: one of those that came last, as they are
 * more likely in the cache. */
LU_INLINE uint32_t lu__hard_pick_late(struct hard *hard, uint32_t count) {
    return count - 1 - lu__hard_pick(hard, LU_MIN(count, HARD_CHOICE));
}

/* spans.c: slices for ourselves, with a guard if there may be one more. */
struct span *lu__hard_meta(uint32_t slices, bool *zero);
/* Fill the empty stash of class `c`; false: no memory. */
bool lu__hard_refill(struct heap *heap, unsigned c);
/* The free block goes back into its span's hands. Any thread. */
void lu__hard_ready(uintptr_t block);

/* canary.c. `room` is what a block holds without its canary. */

/* What the canary of a free block is: Knuth's multiplicative hash under a secret. */
LU_INLINE uint64_t lu__hard_hash(uintptr_t block) {
    return (block ^ lu__hard_secret) * 0x9e3779b97f4a7c15u;
}
/* Write the canary of a live block, of which `size` of `room` bytes are asked for, and what lies
 * between. */
void lu__hard_seal(uintptr_t block, uint32_t room, uint32_t size);
/* Make it one that is not the program's. */
void lu__hard_seal_away(uintptr_t block, uint32_t room);
/* Clear a block, its canary last: now it is free. */
void lu__hard_clear(uintptr_t block, uint32_t room);
/* True if seal and filling of a live block are whole; *size is what was asked for. */
bool lu__hard_sealed(uintptr_t block, uint32_t room, uint32_t *size);
/* What was asked for, by the canary of a live block, where those are exact; `room` if it is
 * damaged. */
uint32_t lu__hard_size(uintptr_t block, uint32_t room);
/* True if the canary itself is that of the block, whatever it tells. */
bool lu__hard_has_canary(uintptr_t block, uint32_t room);
/* True if it is that of a free block, or one that is just being freed. */
bool lu__hard_is_free(uintptr_t block, uint32_t room);
/* True if the block of the span, which is out, is free indeed. */
bool lu__hard_is_gone(const struct span *span, uintptr_t block);
/* Take the live block from the program. False: another thread was faster. */
bool lu__hard_end_live(uintptr_t block, uint32_t room);
/* The mark of blocks that new[] made. */
void lu__hard_set_array(uintptr_t block, uint32_t room, bool array);
bool lu__hard_is_array(uintptr_t block, uint32_t room);
/* Words of any number, at a multiple of 8. */
bool lu__hard_is_zero(uintptr_t at, uint32_t bytes);

typedef uint64_t lu__lanes __attribute__((vector_size(16), may_alias));
#define HARD_LANE 16u
/* A few rounds: not worth the preparations of a vectorised loop. */
#define LU_SHORT_LOOP(at) __asm__("" : "+r"(at))

/* True if the block, which with its canary is of `size` bytes, a multiple of 16, is zero. */
LU_INLINE bool lu__hard_is_clear(uintptr_t block, uint32_t size) {
    const lu__lanes *at = (const lu__lanes *)block, *end = (const lu__lanes *)(block + size);
    lu__lanes all = *at++;
    if (LU_UNLIKELY(size > 8 * HARD_LANE)) {
        for (; end - at >= 4; at += 4) {
            all |= at[0] | at[1] | at[2] | at[3];
            LU_SHORT_LOOP(at);
        }
    }
    for (; at < end; at++) {
        all |= *at;
        LU_SHORT_LOOP(at);
    }
    return (all[0] | all[1]) == 0;
}

/* Look at what lies around the block that is being freed; what is damaged is reported, once. */
void lu__hard_check_around(const struct span *span, uintptr_t block, const char *call);

/* True if canaries begin where requests end: in large blocks always, their cost is small. */
LU_INLINE bool lu__hard_is_exact(uint32_t room) {
    return lu__harden.canary == 2 || (lu__harden.canary == 1 && room > LU_SMALL_MAX);
}
LU_INLINE uint32_t lu__hard_room(unsigned c) {
    return lu__class_size[c] - HARD_CANARY;
}

/* The descriptor of the slice that holds `block`, in the first region. */
LU_INLINE struct span *lu__hard_desc(uintptr_t block) {
    const struct region *region = &lu__regions[0];
    return lu__region_desc(region, (block - (uintptr_t)region->base) >> LU_SLICE_SHIFT);
}

/* ---------------------------------------------------------------- the way of a freed block */

/* In the ring. */
LU_INLINE uint64_t lu__hard_entry(unsigned c, uintptr_t block) {
    return (uint64_t)c << 56 | block;
}
LU_INLINE unsigned lu__hard_entry_class(uint64_t entry) {
    return (unsigned)(entry >> 56);
}
LU_INLINE uintptr_t lu__hard_entry_block(uint64_t entry) {
    return (uintptr_t)(entry & (((uint64_t)1 << 56) - 1));
}

/* blocks.c. The heap holds the free block of class `c` back, which is its own or, if `away`,
 * another's. */
void lu__hard_detain(struct heap *heap, unsigned c, uintptr_t block, bool away);
/* The block of class `c` has waited for long enough: it goes into the stash. */
void lu__hard_let_go(struct hard *hard, unsigned c, uintptr_t block);
/* True if the block of class `c` is among what the heap holds, but for other heaps' blocks. */
bool lu__hard_holds(const struct hard *hard, unsigned c, uintptr_t block);
/* The blocks of the stashes and those of other heaps go back to their spans; if `too`, so do those
 * in quarantine. */
void lu__hard_let_all_go(struct hard *hard, bool too);

#endif
