/*
 * track.h - spans whose free blocks are known by a bitmap, so that suspicions are settled quickly.
 *
 * Between verify.c, which asks, small.c, which takes blocks back from the bitmap, and who walks all
 * free blocks of a span. See track.c.
 */
#ifndef LU_TRACK_H
#define LU_TRACK_H

#include "heap/heap.h"

/* A suspicion that proves wrong after so many steps makes a span tracked, or its list shorter. */
#define LU_TRACK_STEPS 64u

/* True if the span is tracked and `block` is in its bitmap. Any thread, at any time; exact where
 * the caller has the block. */
bool lu__track_has(const struct span *span, uintptr_t block);
/* Blocks in the bitmap; they are counted by span->unlisted as well. Its owner. */
uint32_t lu__track_count(const struct span *span);
/* A suspicion about a live block of the span took `steps`. The calling thread, not entered. */
void lu__track_alarm(struct span *span, uint32_t steps);
/* The list of a span with track set, current or not: what is on it goes into the bitmap, and a few
 * blocks come back. False: it is empty. Its owner. */
bool lu__track_refill(struct heap *heap, struct span *span);
/* All blocks are on the list again, the span is an ordinary one. Its owner; not current. */
void lu__track_end(struct span *span);
/* The span ends, or its heap, with whatever is in the bitmap. */
void lu__track_drop(struct span *span);
/* Set the bits of `free_bits`, one for each block of the span, for those in the bitmap. */
void lu__track_mark(const struct span *span, uint8_t *free_bits);
/* If the span has a bitmap: it has the blocks of `free_bits` and no others from now on. */
bool lu__track_remake(struct span *span, const uint8_t *free_bits);
/* In the child of fork. */
void lu__track_fork_child(void);

#endif
