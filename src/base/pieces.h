/*
 * pieces.h - memory that is cut into pieces of one size, which are never given back to it.
 *
 * By who holds the lock that guards it, in an order that the child of fork can go on from after any
 * store: memory is there before it counts, and a piece no longer counts before the next one is
 * first. So at no instant are there fewer pieces than `count` says; at worst one is lost.
 */
#ifndef LU_PIECES_H
#define LU_PIECES_H

#include "base/base.h"

struct lu__pieces {
    char *first;
    size_t count; /* 0: none */
};

/* None is left: go on with those of `memory`. */
LU_INLINE void lu__pieces_refill(struct lu__pieces *pieces, void *memory, size_t count) {
    LU_SET(pieces->first, (char *)memory);
    LU_SET(pieces->count, count);
}

/* The first of at least one, of `bytes` as all. */
LU_INLINE void *lu__pieces_take(struct lu__pieces *pieces, size_t bytes) {
    char *piece = pieces->first;
    LU_SET(pieces->count, pieces->count - 1);
    LU_SET(pieces->first, piece + bytes);
    return piece;
}

#endif
