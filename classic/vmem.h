/*
 * vmem.h - the arena beneath the slabs: whole quanta of an area, cut and merged with boundary tags.
 *
 * See vmem.c for the algorithm. An arena belongs to one heap; its lock is the innermost but that of
 * the area, so anybody may call while holding locks of the slab layers.
 */
#ifndef LU_CLASSIC_VMEM_H
#define LU_CLASSIC_VMEM_H

#include "classic/classic.h"

#define LU_VMEM_QUANTUM ((size_t)4096)
#define LU_VMEM_LISTS 52u
#define LU_VMEM_LEAF_SHIFT 18u /* entries of one leaf of the map: 2^18 quanta, 1 GiB */

enum lu__vmem_kind {
    LU_VMEM_FREE,
    LU_VMEM_LARGE, /* one block of a caller; only its start can be found           */
    LU_VMEM_SLAB   /* a slab; every quantum of it can be found                     */
};

/* A boundary tag. Constant while the segment is in use: start, kind, owner (and bytes, but for the
 * segment's user). The rest under the arena's lock. */
struct lu__seg {
    struct lu__seg *next, *prev;   /* neighbours by address                     */
    struct lu__seg *below, *above; /* in the list of free ones; below: spare too */
    uintptr_t start;
    size_t bytes;
    void *owner; /* the slab's descriptor */
    enum lu__vmem_kind kind;
};

struct lu__vmem_chunk;

struct lu__vmem {
    struct lu__lock lock;
    struct lu__classic *heap;
    struct lu__seg *first, *last;
    struct lu__seg *lists[LU_VMEM_LISTS]; /* free, of 2^k to 2^(k+1) - 1 quanta */
    uint64_t filled;                      /* bit k: lists[k] is not empty       */
    struct lu__seg *spare;                /* tags not in use                    */
    size_t spares;
    struct lu__vmem_chunk *chunks; /* memory of tags */
    struct lu__seg ***leaves;      /* the map: one for each GiB of the area, or NULL */
    size_t leaf_count;
    size_t step; /* least rise of the break */
};

bool lu__vmem_init(struct lu__vmem *vmem, struct lu__classic *heap) LU_MUST_CHECK;
void lu__vmem_fini(struct lu__vmem *vmem);

/* A segment of `bytes`, rounded up to quanta, at a multiple of `align` (a power of two). NULL: no
 * memory. */
struct lu__seg *lu__vmem_alloc(struct lu__vmem *vmem, size_t bytes, size_t align,
                               enum lu__vmem_kind kind);
void lu__vmem_free(struct lu__vmem *vmem, struct lu__seg *segment);
/* Change the size of one in use, in place. False: it cannot be; nothing changed. */
bool lu__vmem_resize(struct lu__vmem *vmem, struct lu__seg *segment, size_t bytes) LU_MUST_CHECK;
/* Lower the break below a free end, and give the pages of all other free segments back. */
void lu__vmem_trim(struct lu__vmem *vmem);
bool lu__vmem_validate(const struct lu__vmem *vmem, struct lu__classic_fault *fault);

/* The segment in use that `place` belongs to, as far as it can be found; else NULL. No lock: what
 * is in use does not change. */
LU_INLINE struct lu__seg *lu__vmem_find(const struct lu__vmem *vmem, const void *place) {
    size_t quantum = ((uintptr_t)place - vmem->heap->area.base) / LU_VMEM_QUANTUM;
    size_t leaf = quantum >> LU_VMEM_LEAF_SHIFT; /* beyond the last for what is below the base */
    if (leaf >= vmem->leaf_count) return NULL;
    struct lu__seg **entries = __atomic_load_n(&vmem->leaves[leaf], __ATOMIC_ACQUIRE);
    if (entries == NULL) return NULL;
    size_t entry = quantum & (((size_t)1 << LU_VMEM_LEAF_SHIFT) - 1);
    return __atomic_load_n(&entries[entry], __ATOMIC_ACQUIRE);
}

#endif
