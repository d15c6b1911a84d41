/*
 * shadow.h - what a live block must be, kept apart from the heap that it is in.
 *
 * A slot remembers one block: where it is, how long, and the seed of the pattern in it. Whoever
 * holds the slot may read, resize and free the block. Built on the malloc names, or (MODEL_LU) on
 * the lu_ names. Used by the model test and by the fuzzing harnesses.
 */
#ifndef SHADOW_H
#define SHADOW_H

#include "check.h"

struct slot {
    unsigned char *block; /* NULL: the slot is free                                      */
    size_t size;          /* bytes that hold the pattern: asked for, all usable, or fewer */
    size_t asked;         /* bytes asked for                                             */
    size_t alignment;     /* asked for, or 0                                             */
    uint64_t seed;        /* of the pattern; no other block has it                       */
    int heap;             /* 0: plain; else a number that the user of the slot gives     */
};

/* Note a new block in `slot`, check its place and usable size, and fill `pattern` bytes of it;
 * SIZE_MAX fills all that are usable. */
void shadow_enter(struct slot *slot, void *block, size_t size, size_t alignment, int heap,
                  size_t pattern);
/* The pattern must be there; also alignment and usable size. */
void shadow_verify(const struct slot *slot);

#endif
