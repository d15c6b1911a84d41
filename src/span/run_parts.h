/*
 * run_parts.h - what run.c, bins.c, purge.c and walk.c share; everything under lu__span_lock.
 *
 * Marks are stored by LU_SET, in an order such that a walk from head to head meets whole runs
 * only, at any instant (span.h).
 */
#ifndef LU_RUN_PARTS_H
#define LU_RUN_PARTS_H

#include "span/decay.h"
#include "span/span.h"

/* ---------------------------------------------------------------- figures */

LU_INLINE void lu__figure_add(size_t *figure, size_t bytes) {
    __atomic_fetch_add(figure, bytes, __ATOMIC_RELAXED); /* `returned` is added to without lock */
}
LU_INLINE void lu__figure_sub(size_t *figure, size_t bytes) {
    size_t before = __atomic_fetch_sub(figure, bytes, __ATOMIC_RELAXED);
    LU_ASSERT(before >= bytes);
    (void)before;
}

/* ---------------------------------------------------------------- run.c */

/* Make the descriptor the head of a free run. */
void lu__run_mark_free(struct span *head, size_t slices, bool zero);
LU_INLINE void lu__run_unmark(struct span *desc) {
    LU_SET(desc->kind, LU_KIND_NONE);
}
/* Merge a free run, in no bin, with free neighbours of its kind and put it in its bin. */
void lu__run_insert(struct span *run);

/* ---------------------------------------------------------------- bins.c: free runs by size */

/* Into its bin; a dirty one also into the queue of those, as the youngest, or as the oldest. */
void lu__bins_insert(struct span *run, bool oldest);
void lu__bins_remove(struct span *run);
/* A free run with room for `slices` at the alignment, of the smallest size that a short look finds,
 * dirty before clean. NULL: there is none, or it was not among those looked at. */
struct span *lu__bins_find(size_t slices, size_t align_slices);
/* A search that looks at all. It goes on, a few runs at a time, until it returns a run or
 * `done`. */
struct lu__bins_search {
    size_t slices, align_slices;
    size_t left;  /* runs of the bin that were not looked at; to begin: 0          */
    unsigned bin; /* to begin: 0                                                   */
    bool zero;    /* to begin: false                                               */
    bool done;    /* to begin: false                                               */
};
struct span *lu__bins_search(struct lu__bins_search *search);
/* The dirty run that has been free, or has not changed, for the longest time, or NULL. */
struct span *lu__bins_oldest(void);
void lu__bins_clear(void);

/* ---------------------------------------------------------------- purge.c */

extern struct lu__decay lu__decay LU_HIDDEN;

/* What this thread is purging, or NULL. In the child of fork it goes on with it, after a
 * handler. */
extern __thread struct span *lu__my_purge
    __attribute__((tls_model("initial-exec"), visibility("hidden")));
/* `freed` bytes became free, and what is free is too much: give of it back, now, or when the caller
 * settles. Not locked. */
void lu__run_freed_too_much(size_t freed);
/* In the child of fork. */
void lu__purge_fork_child(void);

/* ---------------------------------------------------------------- walk.c */

/* Where a walk over all runs goes on, or NULL: the head of a run. Whoever makes another run of that
 * run and what lies before it moves it on. */
extern struct span *lu__walk_at LU_HIDDEN;

#endif
