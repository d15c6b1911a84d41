/*
 * pieces.h - memory that is cut into pieces of one size, which are never given back to it.
 *
 * The caller holds the lock that guards it. The stores are in an order that lets the child of fork
 * go on after any of them: memory is in place before it is counted, and a piece is taken off the
 * count before the next one becomes the first. So there are never fewer pieces than `count` says;
 * at worst one is lost.
 */
#ifndef LU_PIECES_H
#define LU_PIECES_H

#include "base/base.h"

struct lu__pieces {
    char *first;
    size_t count; /* 0: none */
};

/* No piece is left: continue with those of `memory`. */
LU_INLINE void lu__pieces_refill(struct lu__pieces *pieces, void *memory, size_t count) {
    LU_SET(pieces->first, (char *)memory);
    LU_SET(pieces->count, count);
}

/* Take the first of at least one piece; all pieces have `bytes`. */
LU_INLINE void *lu__pieces_take(struct lu__pieces *pieces, size_t bytes) {
    char *piece = pieces->first;
    LU_SET(pieces->count, pieces->count - 1);
    LU_SET(pieces->first, piece + bytes);
    return piece;
}

#endif
