/*
 * guard.h - LUCID_OPTIONS=guard_sample:N: about one allocation in N beside an inaccessible page.
 *
 *     guard_sample.c   which allocation is the next, at no cost to the fast paths
 *     guard.c          the pool of slots: pages between guard pages, and what is known of each
 *     guard_stack.c    who called (with guard_cfi.c, the unwind tables)
 *     guard_report.c   the signal handler, and what is printed
 *
 * Off unless the option says otherwise: then no heap has a sampler, and the pool is empty.
 */
#ifndef LU_GUARD_H
#define LU_GUARD_H

#include "heap/heap.h"
#include "lucid/lucid.h"

#define LU_GUARD_FRAMES 32

/* Where the pool lies; size 0: there is none. Set once, before the first heap. */
struct lu__guard_range {
    uintptr_t base;
    size_t size;
};
extern struct lu__guard_range lu__guard;

LU_INLINE bool lu__guard_contains(const void *address) {
    return LU_UNLIKELY((uintptr_t)address - lu__guard.base < lu__guard.size);
}

/* ---------------------------------------------------------------- guard_sample.c */

/* When a heap samples; the owner's. */
struct sampler {
    uint32_t burst; /* so many allocations from now on are samples: those at the start of a process
                       with harden:2, when the pool is empty anyway */
    int64_t left;   /* allocations before the next sample; 0 and below: it is due         */
    uint64_t random;
    uint32_t skip; /* allocations to let pass although it is due                */
    bool every;    /* the fast paths are off: every allocation is counted as it comes */
    uint32_t given[LU_CLASSES]; /* frees that the current span was given until it is looked at */
};

/* Read the option and make the pool; once, under the pool lock of thread.c. */
void lu__guard_init(void);
/* Set heap->front and heap->sampler of a fresh heap; under the same lock. */
void lu__guard_prepare(struct heap *heap, enum heap_kind kind);
/* In the slow path of malloc, the heap entered and with a sampler: a guarded block if a sample is
 * due and the request fits, else NULL. It is zero. */
void *lu__guard_try(struct heap *heap, size_t align, size_t size, bool *zero);

/* What small.c tells of heaps that have a sampler. */
/* `blocks` were put on a list that malloc pops. */
void lu__guard_count(struct heap *heap, uint32_t blocks);
/* `blocks` were taken off it again, and not by malloc. */
void lu__guard_uncount(struct heap *heap, uint32_t blocks);
/* The span becomes current with `listed` free blocks. */
void lu__guard_begin(struct heap *heap, const struct span *span, uint32_t listed);
/* It no longer is, and has `listed` left. */
void lu__guard_end(struct heap *heap, const struct span *span, uint32_t listed);
/* A list is about to be given `blocks` fresh ones: how many it should be, at least 1. */
uint32_t lu__guard_carve(struct heap *heap, uint32_t blocks);
/* span->needed, of a current span, was set anew: after as many frees we want to know. */
void lu__guard_renew(struct heap *heap, struct span *span);

/* ---------------------------------------------------------------- guard.c */

enum guard_state { GUARD_UNUSED, GUARD_LIVE, GUARD_FREED };

struct guard_slot {
    uintptr_t block; /* never 0 again after its first use */
    uint32_t size;   /* as requested                      */
    uint32_t state;  /* enum guard_state; atomic: what went before is published by it */
    int32_t alloc_thread, free_thread;
    uint32_t alloc_count, free_count; /* of the frames below */
    uintptr_t alloc_stack[LU_GUARD_FRAMES], free_stack[LU_GUARD_FRAMES];
};

/* Reserve the pool; false: no memory. */
bool lu__guard_make(uint64_t random);
/* A block of `size` bytes at a multiple of `align`, both at most a page; NULL: no slot is free, or
 * no memory. `at_end`: at the end of the page, not at its start. */
void *lu__guard_alloc(size_t align, size_t size, bool at_end);
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
