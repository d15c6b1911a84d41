/*
 * area.h - the bounded piece of address space that a classic heap lives in.
 *
 *     base                    break                                                 base + limit
 *     |###########################|· · · · · · · · · · · · · ·|## m2 ##|· ·|### m1 ###|
 *       grows and shrinks by sbrk    not accessible             mappings, from the top down
 *
 * A simulated area is one reservation: it has a break and mappings of its own, where every program
 * has one break for everybody. So many heaps exist side by side, and the same calls give the same
 * addresses relative to `base`, which is aligned to LU_AREA_ALIGN, in every run. The area of a
 * process is the real thing: brk(2) and mmap(2). Then `base` is where the break was at the start.
 *
 * Memory reads as zero when it is obtained the first time, and again after it was given back by
 * whole pages: a break that sank and rose again shows what it held before up to the next page.
 *
 * Any thread may call any function at any time but init and fini; one lock guards each area.
 */
#ifndef LU_CLASSIC_AREA_H
#define LU_CLASSIC_AREA_H

#include "base/base.h"
#include "os/lock.h"

#define LU_AREA_ALIGN LU_GIB

struct lu__mapping {
    uintptr_t start;
    size_t bytes;
};

struct lu__area {
    struct lu__lock lock;
    bool forking; /* the lock was taken for a fork */
    uintptr_t base;
    size_t limit;     /* bytes that break and mappings may have in all               */
    bool of_process;  /* the real break and real mappings                            */
    size_t broken;    /* break - base                                                */
    size_t committed; /* of that, whole pages that are accessible (simulated)        */
    size_t mapped;    /* bytes in mappings                                           */
    size_t peak;      /* most of broken + mapped                                     */
    uint64_t break_moves, maps, unmaps;
    struct lu__mapping *mappings; /* by address; memory of its own, not of the area  */
    size_t mapping_count, mapping_room;
};

/* An area of `limit` bytes, rounded up to pages. False: not enough address space. */
bool lu__area_init(struct lu__area *area, size_t limit, bool of_process) LU_MUST_CHECK;
/* Give everything back. What the process's break was raised by stays. */
void lu__area_fini(struct lu__area *area);

/* As sbrk(2): move the break by `bytes`, which may be 0 or less and need not be pages; the break
 * as it was, or NULL if it cannot be there. In an area of a process it is also NULL when somebody
 * else moved the break. */
void *lu__area_sbrk(struct lu__area *area, ptrdiff_t bytes);

/* A mapping of whole pages that reads as zero, at a multiple of `align` (a power of two); NULL
 * if there is no room. */
void *lu__area_map(struct lu__area *area, size_t bytes, size_t align);
/* Give back whole pages of one mapping: all of it, its beginning or its end. */
void lu__area_unmap(struct lu__area *area, void *at, size_t bytes);
/* Change a whole mapping's size, its contents kept: where it is now, or NULL (unchanged). It stays
 * unless `may_move`. */
void *lu__area_remap(struct lu__area *area, void *at, size_t old_bytes, size_t new_bytes,
                     bool may_move);
/* Give the physical pages of a part that is accessible back; it reads as zero then. */
void lu__area_purge(struct lu__area *area, void *at, size_t bytes);

/* Bytes that the heap holds now: break and mappings. */
LU_INLINE size_t lu__area_held(const struct lu__area *area) {
    return area->broken + area->mapped;
}
/* True if the byte is below the break or in a mapping. Takes the lock. */
bool lu__area_contains(struct lu__area *area, const void *at);

#endif
