/*
 * guard.h - LUCID_OPTIONS=guard_sample:N: about one allocation in N beside an inaccessible page.
 *
 *     sampler.c        which allocation is the next, at no cost to the fast paths
 *     guard.c          the pool of slots: pages between guard pages, and what is known of each
 *     record.c         who called (with stack.c, and unwind.c for the unwind tables)
 *     guard_report.c   the signal handler, and what is printed
 *
 * Off unless the option says otherwise: then no heap has a sampler, and the pool is empty.
 */
#ifndef LU_GUARD_H
#define LU_GUARD_H

#include "heap/heap.h"
#include "lucid/lucid.h"
#include "sample/record.h"

/* Where the pool lies; size 0: there is none. Set once, before the first heap. */
struct lu__guard_range {
    uintptr_t base;
    size_t size;
};
extern struct lu__guard_range lu__guard;

LU_INLINE bool lu__guard_contains(const void *address) {
    return LU_UNLIKELY((uintptr_t)address - lu__guard.base < lu__guard.size);
}

/* ---------------------------------------------------------------- guard.c */

enum guard_state { GUARD_UNUSED, GUARD_LIVE, GUARD_FREED };

struct guard_slot {
    uintptr_t block; /* never 0 again after its first use */
    uint32_t size;   /* as requested                      */
    uint32_t state;  /* enum guard_state; atomic: what went before is published by it */
    struct lu__record allocated, freed;
};

/* Reserve the pool; false: no memory. */
bool lu__guard_make(uint64_t random);
/* In the slow path of malloc, the heap entered and with a sampler: a guarded block, which is zero,
 * if the allocation is a sample, fits a page and finds a free slot; else NULL. */
void *lu__guard_try(struct heap *heap, size_t align, size_t size, bool *zero);
/* True if `pointer`, in the pool, is the start of a live block, of *size bytes; anything else is
 * reported. */
bool lu__guard_find(const void *pointer, const char *call, size_t *size);
/* Free a block that lu__guard_find has found. In a signal handler above a slow path it is lost. */
void lu__guard_free(void *block);
/* Blocks that are live, and their bytes; any thread. */
void lu__guard_figures(size_t *blocks, size_t *bytes);
void lu__guard_fork_child(void);
/* The slot of that number, or NULL. */
const struct guard_slot *lu__guard_slot(size_t number);

/* ---------------------------------------------------------------- guard_report.c */

/* See to it that a fault in the pool comes to us first. A system call; now and then, and before the
 * first block is handed out. */
void lu__guard_watch(void);
void lu__guard_watch_fork_child(void);
/* The library is unloaded: take our handler back, if it is the one that is installed. */
void lu__guard_unwatch(void);
/* Report misuse of a block. `what` the caller did with it is said in the second line. */
void lu__guard_misuse(lu_violation_kind_t kind, const char *call, const void *pointer,
                      const struct guard_slot *slot, const char *what);

#endif
