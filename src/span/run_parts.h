/*
 * run_parts.h - what run.c, held.c, bins.c, purge.c and walk.c share; all under lu__span_lock.
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

/* Clean memory that becomes a hole in one call of the kernel, also under the lock: slices. */
#define LU_CLEAN_STEP ((uint32_t)((32 * LU_MIB) >> LU_SLICE_SHIFT))

/* ---------------------------------------------------------------- held.c */

/* How many bytes the limit lacks for `bytes` more to be held; 0 if it allows them. */
size_t lu__held_lacks(size_t bytes);
/* What is held has become more. */
LU_COLD void lu__held_raise_peak(size_t held);
LU_INLINE void lu__held_note_peak(void) {
    size_t held = lu__span_held();
    if (LU_UNLIKELY(held > __atomic_load_n(&lu__span_figures.peak, __ATOMIC_RELAXED)))
        lu__held_raise_peak(held);
}
/* If the limit does not allow `bytes` more, purge dirty runs: as much as is lacking, or `least` if
 * that is more. True: it is worth another try. Not locked. */
bool lu__held_make_room(size_t bytes, size_t least) LU_MUST_CHECK;
/* So many bytes of the run in use are absent now, all of a SMALL one; or none. Locked. */
void lu__held_leave_all(struct span *run, size_t bytes);
void lu__held_take_all(struct span *run);
/* Free a run with absent memory as a clean run, if all of it is absent, or if as a dirty run it
 * would come too near to the limit. False: it is to be freed as a dirty run. */
bool lu__held_give(struct span *run) LU_MUST_CHECK;

/* ---------------------------------------------------------------- run.c */

/* Make the descriptor the head of a free run. */
void lu__run_mark_free(struct span *head, size_t slices, enum lu__free what);
LU_INLINE void lu__run_unmark(struct span *desc) {
    LU_SET(desc->kind, LU_KIND_NONE);
}
/* Merge a free run, in no bin, with free neighbours of its kind and put it in its bin; or, a hole
 * that ends at the top, lower the top. A clean run that may become a hole does. */
void lu__run_insert(struct span *run);

LU_INLINE bool lu__run_is_hole(const struct span *run) {
    return run->kind == LU_KIND_FREE && run->zero == LU_FREE_HOLE;
}
/* The run behind, or NULL at the top. */
LU_INLINE struct span *lu__run_behind(const struct region *region, struct span *run) {
    struct span *after = run + run->slices;
    return lu__region_slice(region, after) < region->top ? after : NULL;
}
/* The run before, if it is free (else its last slice), or NULL at the bottom. */
LU_INLINE struct span *lu__run_in_front(const struct region *region, struct span *run) {
    if (lu__region_slice(region, run) == 0) return NULL;
    struct span *before = run - 1;
    return before->kind == LU_KIND_TAIL ? run - before->slices : before;
}

/* At most so many slices of the free run, which is clean or a hole and lies beside a dirty run,
 * become part of that dirty run: those at its lower end or at its upper one. Returns the dirty run,
 * or NULL: there is no memory, the limit forbids it, or other mappings are there. */
struct span *lu__run_soak(struct span *piece, size_t slices_most, bool low_end);

/* ---------------------------------------------------------------- gather.c */

#define LU_GATHER_LEAST ((size_t)LU_MIB >> LU_SLICE_SHIFT) /* slices for which that is done */
/* A dirty run with room for `slices`, made from a smaller one and the free memory beside it. NULL:
 * a short search found none. */
struct span *lu__run_gather(size_t slices);

/* ---------------------------------------------------------------- bins.c: free runs by size */

/* Put the run into its bin; a dirty one also into the queue, as the youngest or as the oldest. */
void lu__bins_insert(struct span *run, bool oldest);
void lu__bins_remove(struct span *run);
/* A free run with room for `slices` at the alignment, of the smallest size that a short look finds,
 * dirty before clean before holes. NULL: there is none, or it was not among those looked at. */
struct span *lu__bins_find(size_t slices, size_t align_slices);
/* A search that looks at all. It goes on, a few runs at a time, until it returns a run or
 * `done`. */
struct lu__bins_search {
    size_t slices, align_slices;
    size_t left;   /* runs of the bin that were not looked at; to begin: 0          */
    unsigned bin;  /* to begin: 0                                                   */
    unsigned what; /* enum lu__free; to begin: LU_FREE_DIRTY                        */
    bool done;     /* to begin: false                                               */
};
struct span *lu__bins_search(struct lu__bins_search *search);
/* How many holes there are. */
size_t lu__bins_holes(void);
/* One of the largest clean runs, or NULL. */
struct span *lu__bins_large_clean(void);
/* One of the largest dirty runs; from one on the next, which is hardly larger. NULL: no more. */
struct span *lu__bins_next_dirty(const struct span *before);
/* The dirty run that has been free, or has not changed, for the longest time, or NULL. */
struct span *lu__bins_oldest(void);
void lu__bins_clear(void);

/* ---------------------------------------------------------------- purge.c */

extern struct lu__decay lu__decay LU_HIDDEN;

/* May a free run of so many slices become a hole where that costs a mapping? */
bool lu__run_may_be_hole(size_t slices);
/* May the free run become a hole? If one is beside it, or the top, that costs no mapping. Count on
 * it being made. */
bool lu__run_may_unmap(struct span *run);
/* Unmap clean runs that did not become holes when they became clean. False: there are none, or they
 * may not. Not locked. */
bool lu__run_unmap_clean(void);
/* The run that this thread is purging, or NULL. If a signal handler forks meanwhile, the child goes
 * on with it. */
extern __thread struct span *lu__my_purge
    __attribute__((tls_model("initial-exec"), visibility("hidden")));
/* `freed` bytes became free, and now too much is free: give some of it back, now, or when the
 * caller settles. Not locked. */
void lu__run_freed_too_much(size_t freed);
/* Called in every child of fork: from now on the process counts as one. */
void lu__purge_set_child(void);
/* Called in a child that rebuilds. */
void lu__purge_fork_child(void);

/* ---------------------------------------------------------------- room.c */

/* The limit of addresses that the process met, or SIZE_MAX. */
extern size_t lu__run_limit_met LU_HIDDEN;
/* So many bytes became free under that limit: is it time to make room? */
bool lu__run_room_due(size_t freed);
/* Give back what is free, if it is much of what is left. Not locked. */
void lu__run_make_room(void);

/* ---------------------------------------------------------------- walk.c */

/* The head of the run at which a walk over all runs goes on, or NULL. Code that joins that run with
 * the one before it must move this on. */
extern struct span *lu__walk_at LU_HIDDEN;

#endif
