/*
 * chunk.h - boundary tags: the header that the policies dl and pt put before every chunk.
 *
 * Source: the tags are Knuth's (The Art of Computer Programming vol. 1, 1968, 2.5, algorithm C);
 * that the foot of a used chunk can be its payload's is Doug Lea's observation.
 *
 *     a used chunk                                 a free chunk
 *     +0   foot of the chunk before, or the        +0   (the chunk before is used: its payload)
 *          last 8 bytes of its payload
 *     +8   size of this chunk | flags              +8   size of this chunk | flags
 *     +16  payload …                               +16  free.next          ] links of the bin
 *                                                  +24  free.prev          ]
 *                                                  +32  …
 *     = next chunk's +0: payload's last 8 bytes    = next chunk's +0: foot: size of this chunk
 *     = next chunk's +8: flag "before me: used"    = next chunk's +8: flag "before me: free"
 *
 * So a used chunk costs 8 bytes, and still both neighbours of a chunk are found in one step: the
 * next by the own size; the one before by the foot, which is there when it is needed, namely if
 * the chunk before is free and could be merged. Payloads are multiples of 16, sizes too, which
 * leaves four bits of the size for flags. A chunk has 32 bytes at least, for it must have room for
 * links and foot when it is free.
 */
#ifndef LU_CLASSIC_CHUNK_H
#define LU_CLASSIC_CHUNK_H

#include "base/base.h"

#define LU_CHUNK_ALIGN ((size_t)16)
#define LU_CHUNK_HEADER ((size_t)16)  /* from the chunk to its payload                        */
#define LU_CHUNK_OVERHEAD ((size_t)8) /* chunk size less what its user may write              */
#define LU_CHUNK_LEAST ((size_t)32)
#define LU_CHUNK_FLAGS ((size_t)15)      /* of `head`: not size                              */
#define LU_CHUNK_BEFORE_USED ((size_t)1) /* the chunk before is used; the others are a policy's */

/* Links of a ring. */
struct lu__links {
    struct lu__links *next, *prev;
};

struct lu__chunk {
    size_t foot_before; /* size of the chunk before, if that is free      */
    size_t head;        /* size of this chunk | flags                     */
    struct lu__links free;
};

LU_INLINE size_t lu__chunk_size(const struct lu__chunk *chunk) {
    return chunk->head & ~LU_CHUNK_FLAGS;
}
LU_INLINE bool lu__chunk_before_used(const struct lu__chunk *chunk) {
    return (chunk->head & LU_CHUNK_BEFORE_USED) != 0;
}
/* What lies `bytes` above the chunk, as a chunk. */
LU_INLINE struct lu__chunk *lu__chunk_above(const struct lu__chunk *chunk, size_t bytes) {
    return (struct lu__chunk *)((uintptr_t)chunk + bytes);
}
LU_INLINE struct lu__chunk *lu__chunk_below(const struct lu__chunk *chunk, size_t bytes) {
    return (struct lu__chunk *)((uintptr_t)chunk - bytes);
}
LU_INLINE struct lu__chunk *lu__chunk_next(const struct lu__chunk *chunk) {
    return lu__chunk_above(chunk, lu__chunk_size(chunk));
}
/* Only if that is free. */
LU_INLINE struct lu__chunk *lu__chunk_before(const struct lu__chunk *chunk) {
    return lu__chunk_below(chunk, chunk->foot_before);
}
LU_INLINE void *lu__chunk_payload(const struct lu__chunk *chunk) {
    return (void *)((uintptr_t)chunk + LU_CHUNK_HEADER);
}
LU_INLINE struct lu__chunk *lu__chunk_of(const void *payload) {
    return (struct lu__chunk *)((uintptr_t)payload - LU_CHUNK_HEADER);
}
LU_INLINE struct lu__chunk *lu__chunk_of_links(const struct lu__links *links) {
    return (struct lu__chunk *)((uintptr_t)links - offsetof(struct lu__chunk, free));
}
/* The size of a chunk for a payload of `bytes`, at most PTRDIFF_MAX. */
LU_INLINE size_t lu__chunk_bytes_for(size_t bytes) {
    size_t size = lu__align_up(bytes + LU_CHUNK_OVERHEAD, LU_CHUNK_ALIGN);
    return LU_MAX(size, LU_CHUNK_LEAST);
}

#endif
