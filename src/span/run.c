/*
 * run.c - handing out and taking back runs of slices.
 *
 *     lu__run_alloc   bins first (dirty, gathered (gather.c), clean), then the fresh top of a
 *                     region; then what can be had by giving back free memory, and by looking at
 *                     every free run
 *     lu__run_free    merges with free neighbours of the same kind (dirty, clean or holes), and
 *                     puts what comes of it into the bins
 *
 * The truth is in the descriptors: heads tile every region from slice 0 to `top`. When a run is
 * split, the inner heads are written before the outer run becomes shorter; when runs are joined,
 * the outer run becomes longer before the inner head is touched (release stores). So a walk sees a
 * tiling at any instant. The bins are only an index, which lu__run_rebuild makes anew in a forked
 * child. purge.c gives free memory back. Nothing here takes longer with more runs, except the
 * search of all free runs, which lets other threads in between, and the rebuild.
 */
#include <errno.h>

#include "base/options.h"
#include "os/os.h"
#include "span/run_parts.h"

#define FAILED_MOST 16u /* runs that are found but not usable: holes with other mappings   */

static struct lu__span_figures *const figures = &lu__span_figures;

static long delay_ms(void) {
    return lu__option(LU_OPT_PURGE_DELAY);
}

/* So many more bytes are in use; if they were dirty, they no longer count as dirty. */
static void note_used(size_t bytes) {
    lu__figure_add(&figures->used, bytes);
    lu__decay_taken(&lu__decay, figures->dirty, figures->used);
    lu__held_note_peak();
}

/* The last slice of a free run of several says how long the run is. */
static void mark_tail(struct span *head, size_t slices) {
    struct span *tail = head + slices - 1;
    tail->slices = (uint32_t)slices;
    LU_SET(tail->kind, LU_KIND_TAIL);
}

void lu__run_mark_free(struct span *head, size_t slices, enum lu__free what) {
    __atomic_store_n(&head->owner, NULL, __ATOMIC_RELAXED); /* because it is read for any run */
    head->whose = LU_OF_NOBODY;
    head->zero = (uint8_t)what;
    if (slices > 1) mark_tail(head, slices);
    LU_SET(head->slices, (uint32_t)slices);
    LU_SET(head->kind, LU_KIND_FREE);
}

/* The head `gone` is no longer a head: its run became part of one that ends at `end`. */
static void forget_head(const struct span *gone, struct span *end) {
    if (LU_UNLIKELY(lu__walk_at == gone)) lu__walk_at = end;
}

/* Join two neighbouring free runs that are in no bin. The first becomes longer first: a walk does
 * not see what lies inside a run. */
static void join(struct span *head, struct span *next) {
    struct span *end = next + next->slices;
    bool had_tail = head->slices > 1;
    uint32_t slices = head->slices + next->slices;
    LU_SET(head->slices, slices);
    if (had_tail) lu__run_unmark(next - 1);
    lu__run_unmark(next);
    mark_tail(head, slices);
    forget_head(next, end);
}

/* The hole ends at the top: lower that. False: it stays. */
static bool lower_top(struct span *run) {
    struct region *region = lu__region_of_desc(run);
    size_t slice = lu__region_slice(region, run);
    uint32_t whole = run->slices;
    /* First: a mark above the top would stay there. */
    if (whole > 1) lu__run_unmark(run + whole - 1);
    if (!lu__region_lower(region, slice)) {
        lu__run_mark_free(run, whole, run->zero);
        return false;
    }
    lu__run_unmark(run);
    if (lu__walk_at > run && lu__walk_at <= run + whole) lu__walk_at = run;
    return true;
}

/* The clean run, in no bin, becomes a hole: its pages are gone already, so that takes no time. In
 * fork's child the hole may still have memory in it, which is found when it is to be used. */
static void unmap_clean(struct span *run) {
    size_t bytes = lu__span_bytes(run);
    if (run->slices > LU_CLEAN_STEP || lu__look_is_on()) return;
    run->zero = LU_FREE_HOLE;
    if (lu__os_unmap(lu__span_start(run), bytes) == 0) {
        figures->mapped -= bytes;
    } else {
        run->zero = LU_FREE_CLEAN;
    }
}

/* Clean memory beside a hole becomes a hole as well: that is one mapping less, and the top can come
 * down. */
static void follow(const struct span *run, struct span *beside) {
    if (beside == NULL || beside->kind != LU_KIND_FREE) return;
    if (run->zero != LU_FREE_HOLE || beside->zero != LU_FREE_CLEAN) return;
    lu__bins_remove(beside);
    unmap_clean(beside);
    lu__bins_insert(beside, false);
}

/* Merge the run with neighbours of its kind; returns the merged run. */
LU_INLINE struct span *merge(const struct region *region, struct span *run) {
    struct span *after = lu__run_behind(region, run);
    if (after != NULL && after->kind == LU_KIND_FREE && after->zero == run->zero) {
        lu__bins_remove(after);
        join(run, after);
    }
    struct span *before = lu__run_in_front(region, run);
    if (before == NULL || before->kind != LU_KIND_FREE || before->zero != run->zero) return run;
    lu__bins_remove(before);
    join(before, run);
    return before;
}

/* The same for clean runs and holes. Where clean runs become holes, those behind them follow. */
static LU_COLD struct span *merge_clean(const struct region *region, struct span *run) {
    for (uint32_t slices = 0; slices != run->slices;) {
        slices = run->slices;
        if (run->zero == LU_FREE_CLEAN && lu__run_may_unmap(run)) unmap_clean(run);
        follow(run, lu__run_behind(region, run));
        follow(run, lu__run_in_front(region, run));
        run = merge(region, run);
    }
    return run;
}

void lu__run_insert(struct span *run) {
    const struct region *region = lu__region_of_desc(run);
    if (LU_LIKELY(run->zero == LU_FREE_DIRTY)) {
        run = merge(region, run);
    } else {
        run = merge_clean(region, run);
        bool at_top = lu__run_behind(region, run) == NULL;
        if (at_top && lu__run_is_hole(run) && lower_top(run)) return;
    }
    lu__bins_insert(run, false);
}

/* Turn [before, before + slices) of the free run, which is in no bin, into a run of `kind`; the
 * remainders at both ends go back into the bins. */
static struct span *carve(struct span *run, size_t before, size_t slices, enum lu__kind kind) {
    size_t whole = run->slices, behind = whole - before - slices;
    struct span *head = run + before, *rest = head + slices;
    if (whole > 1) lu__run_unmark(run + whole - 1);
    if (behind > 0) lu__run_mark_free(rest, behind, run->zero);
    if (before > 0) {
        head->zero = run->zero;
        LU_SET(head->slices, (uint32_t)slices);
        LU_SET(head->kind, (uint8_t)kind);
        lu__run_mark_free(run, before, run->zero);
    } else { /* what is no longer part of it is free, and in no run that is in use */
        LU_SET(head->slices, (uint32_t)slices);
        LU_SET(head->kind, (uint8_t)kind);
    }
    if (behind > 0) lu__bins_insert(rest, false);
    if (before > 0) lu__bins_insert(run, false);
    return head;
}

static void mark_interior(struct span *head) {
    for (uint32_t i = 1; i < head->slices; i++) {
        __atomic_store_n(&head[i].owner, NULL, __ATOMIC_RELAXED);
        head[i].slices = i;
        LU_SET(head[i].kind, LU_KIND_INTERIOR);
    }
}

/* What is asked for. */
struct want {
    size_t slices, align_slices;
    size_t absent; /* bytes that do not count as held if it reads as zero */
    enum lu__kind kind;
};

/* May the run be of clean memory? */
static bool limit_allows(const struct want *want) {
    return lu__held_lacks((want->slices << LU_SLICE_SHIFT) - want->absent) == 0;
}

/* Map the part of the hole that is to be used. False: there is no memory, or another mapping is
 * there; then the hole is given up for good. At worst fork's child finds its own memory there. */
static bool fill(struct span *run, size_t before, size_t slices) {
    int error = lu__region_fill(run + before, slices);
    if (error == EEXIST) {
        lu__bins_remove(run);
        struct span *lost = carve(run, before, slices, LU_KIND_META);
        lu__figure_add(&figures->used, lu__span_bytes(lost));
        lu__figure_add(&figures->meta, lu__span_bytes(lost));
    }
    return error == 0;
}

/* The first slices of the run in use, which was mapped just now, are free and clean. */
static struct span *cut_front(struct span *run, size_t slices) {
    struct span *head = run + slices;
    head->zero = run->zero;
    LU_SET(head->slices, run->slices - (uint32_t)slices);
    LU_SET(head->kind, run->kind);
    lu__run_mark_free(run, slices, LU_FREE_CLEAN);
    lu__run_insert(run);
    return head;
}

/* The slices that are passed over are mapped as well if they may not be a hole of their own. */
static LU_COLD struct span *take_hole(struct span *run, size_t before, size_t slices,
                                      enum lu__kind kind) {
    size_t passed = before > 0 && !lu__run_may_be_hole(before) ? before : 0;
    if (!fill(run, before - passed, slices + passed)) return NULL;
    lu__bins_remove(run);
    struct span *head = carve(run, before - passed, slices + passed, kind);
    return passed > 0 ? cut_front(head, passed) : head;
}

struct span *lu__run_soak(struct span *piece, size_t slices_most, bool low_end) {
    size_t part = LU_MIN(piece->slices, slices_most), before = low_end ? 0 : piece->slices - part;
    if (lu__held_lacks(part << LU_SLICE_SHIFT) != 0) return NULL;
    if (piece->zero == LU_FREE_HOLE && !fill(piece, before, part)) return NULL;
    lu__bins_remove(piece);
    struct span *run = carve(piece, before, part, LU_KIND_FREE);
    lu__run_mark_free(run, part, LU_FREE_DIRTY);
    lu__figure_add(&figures->dirty, part << LU_SLICE_SHIFT);
    run = merge(lu__region_of_desc(run), run);
    lu__bins_insert(run, false);
    return run;
}

/* Take the free run, found in the bins, if the limit allows it. */
LU_INLINE struct span *take_binned(struct span *run, const struct want *want) {
    size_t slices = want->slices, before = 0;
    if (want->align_slices > 1) {
        size_t start = (uintptr_t)lu__span_start(run) >> LU_SLICE_SHIFT;
        before = lu__align_up(start, want->align_slices) - start;
    }
    if (LU_LIKELY(run->zero == LU_FREE_DIRTY)) {
        lu__figure_sub(&figures->dirty, slices << LU_SLICE_SHIFT);
    } else {
        if (!limit_allows(want)) return NULL;
        if (run->zero == LU_FREE_HOLE) return take_hole(run, before, slices, want->kind);
    }
    lu__bins_remove(run);
    return carve(run, before, slices, want->kind);
}

/* A free run with room, in the bins, or NULL. */
static struct span *find(size_t slices, size_t align_slices) {
    struct span *run = lu__bins_find(slices, align_slices);
    bool dirty = run != NULL && run->zero == LU_FREE_DIRTY;
    if (LU_LIKELY(dirty || slices < LU_GATHER_LEAST || align_slices > 1)) return run;
    struct span *gathered = lu__run_gather(slices);
    /* If that failed halfway, it may have used the run that was found. */
    return gathered != NULL ? gathered : lu__bins_find(slices, align_slices);
}

/* A run from the bins, or NULL. */
static struct span *alloc_binned(const struct want *want) {
    struct span *run = find(want->slices, want->align_slices);
    return run != NULL ? take_binned(run, want) : NULL;
}

/* A run from the fresh top of a region, or NULL. */
static struct span *alloc_fresh(const struct want *want) {
    struct lu__fresh fresh;
    size_t slices = want->slices;
    if (!limit_allows(want) ||
        !lu__region_extend(slices, want->align_slices, lu__run_may_be_hole, &fresh)) {
        return NULL;
    }
    struct span *head = lu__region_desc(fresh.region, fresh.slice), *before = head - fresh.skipped;
    head->zero = true;
    head->slices = (uint32_t)slices;
    LU_SET(head->kind, (uint8_t)want->kind);
    if (fresh.skipped > 0) {
        lu__run_mark_free(before, fresh.skipped, fresh.hole ? LU_FREE_HOLE : LU_FREE_CLEAN);
    }
    LU_SET(fresh.region->top, fresh.slice + (uint32_t)slices);
    if (fresh.skipped > 0) lu__run_insert(before);
    return head;
}

/* The run is in use now. Locked. */
static void note_use(struct span *run, const struct want *want) {
    size_t bytes = lu__span_bytes(run), absent = 0;
    if (want->absent != 0 && run->zero != LU_FREE_DIRTY) {
        lu__held_leave_all(run, absent = want->absent);
    }
    note_used(bytes);
    if (want->kind == LU_KIND_META) {
        lu__figure_add(&figures->meta, bytes - absent);
        run->retired = 0;
    }
    if (want->kind == LU_KIND_SMALL) mark_interior(run);
}

static struct span *alloc_once(const struct want *want) {
    lu__lock_acquire(&lu__span_lock);
    struct span *run = alloc_binned(want);
    if (run == NULL) run = alloc_fresh(want);
    if (run != NULL) note_use(run, want);
    lu__lock_release(&lu__span_lock);
    return run;
}

/* A run from the bins if there is any; with the lock free between the steps. */
static struct span *alloc_searched(const struct want *want) {
    struct lu__bins_search search = {.slices = want->slices, .align_slices = want->align_slices};
    struct span *run = NULL;
    for (unsigned failed = 0; run == NULL && !search.done && failed < FAILED_MOST;) {
        lu__lock_acquire(&lu__span_lock);
        struct span *found = lu__bins_search(&search);
        if (found != NULL) {
            run = take_binned(found, want);
            if (run != NULL) note_use(run, want);
            failed++;
        }
        lu__lock_release(&lu__span_lock);
    }
    return run;
}

struct span *lu__run_alloc_sparse(size_t slices, size_t align_slices, enum lu__kind kind,
                                  size_t absent, bool *zero) {
    if (slices == 0 || slices > UINT32_MAX / 2 || align_slices > UINT32_MAX / 2) return NULL;
    struct want want = {slices, align_slices, absent, kind};
    size_t bytes = slices << LU_SLICE_SHIFT, held = bytes - absent;
    struct span *run = alloc_once(&want);
    while (LU_UNLIKELY(run == NULL)) {
        /* Purged runs no longer count for the limit, and merge with their clean neighbours. */
        if (lu__held_lacks(held) != 0 ? !lu__held_make_room(held, LU_MIB)
                                      : !lu__run_refused(bytes, 0))
            break;
        run = alloc_once(&want);
    }
    if (run == NULL && limit_allows(&want)) run = alloc_searched(&want);
    if (run != NULL) *zero = run->zero != LU_FREE_DIRTY;
    return run;
}

struct span *lu__run_alloc(size_t slices, size_t align_slices, enum lu__kind kind, bool *zero) {
    return lu__run_alloc_sparse(slices, align_slices, kind, 0, zero);
}

void lu__run_forget_touched(struct span *run) {
    /* Only read where it is 0 already: the descriptors inside large runs are not resident. */
    for (uint32_t i = 0; i < run->slices; i++) {
        if (run[i].touched != 0) run[i].touched = 0;
    }
}

/* Release the lock, under which `bytes` became free, and then give the excess back. */
LU_INLINE void release_and_settle(size_t bytes) {
    bool much = lu__decay_excess(&lu__decay, delay_ms()) != 0;
    bool look = LU_UNLIKELY(lu__run_limit_met != SIZE_MAX) && lu__run_room_due(bytes);
    lu__lock_release(&lu__span_lock);
    if (LU_UNLIKELY(much)) lu__run_freed_too_much(bytes);
    if (LU_UNLIKELY(look)) lu__run_make_room();
}

/* Free the slices of `run`, which the caller has taken out of use. Locked. */
static void free_locked(struct span *run, enum lu__free what, uint64_t now_ms) {
    size_t bytes = lu__span_bytes(run);
    bool sparse = run->absent != 0;
    if (LU_UNLIKELY(sparse)) lu__held_take_all(run);
    lu__figure_sub(&figures->used, bytes);
    __atomic_store_n(&run->owner, NULL, __ATOMIC_RELAXED);
    lu__run_mark_free(run, run->slices, what);
    lu__run_insert(run);
    if (what == LU_FREE_DIRTY) lu__figure_add(&figures->dirty, bytes);
    if (LU_UNLIKELY(sparse)) lu__held_note_peak();
    lu__decay_freed(&lu__decay, figures->dirty, figures->used, now_ms, delay_ms());
}

/* A run that ends no longer has slices of its own. Locked. */
LU_INLINE void unmark_interior(struct span *run) {
    if (run->kind != LU_KIND_SMALL) return;
    for (size_t i = 1; i < run->slices; i++) lu__run_unmark(run + i);
}

void lu__run_free(struct span *run) {
    if (LU_UNLIKELY(run->absent != 0) && lu__held_give(run)) return;
    size_t bytes = lu__span_bytes(run);
    uint64_t now_ms = lu__os_now_ms();
    lu__lock_acquire(&lu__span_lock);
    unmark_interior(run);
    free_locked(run, LU_FREE_DIRTY, now_ms);
    release_and_settle(bytes);
}

void lu__run_free_clean(struct span *run, size_t huge_bytes) {
    uint64_t now_ms = lu__os_now_ms();
    bool large = run->slices > LU_CLEAN_STEP;
    lu__run_forget_touched(run);
    lu__lock_acquire(&lu__span_lock);
    lu__figure_add(&figures->huge, huge_bytes);
    unmark_interior(run);
    free_locked(run, LU_FREE_CLEAN, now_ms);
    lu__lock_release(&lu__span_lock);
    if (large) (void)lu__run_unmap_clean();
}

bool lu__run_grow(struct span *run, size_t slices) {
    bool done = false;
    lu__lock_acquire(&lu__span_lock);
    struct region *region = lu__region_of_desc(run);
    struct span *after = run + run->slices;
    size_t more = slices - run->slices;
    if (lu__region_slice(region, after) < region->top && after->kind == LU_KIND_FREE &&
        after->slices >= more &&
        (after->zero == LU_FREE_DIRTY || lu__held_lacks(more << LU_SLICE_SHIFT) == 0) &&
        (after->zero != LU_FREE_HOLE || fill(after, 0, more))) {
        lu__bins_remove(after);
        if (after->zero == LU_FREE_DIRTY) lu__figure_sub(&figures->dirty, more << LU_SLICE_SHIFT);
        (void)carve(after, 0, more, LU_KIND_LARGE);
        LU_SET(run->slices, (uint32_t)slices);
        lu__run_unmark(after);
        forget_head(after, after + more);
        note_used(more << LU_SLICE_SHIFT);
        done = true;
    }
    lu__lock_release(&lu__span_lock);
    return done;
}

void lu__run_shrink(struct span *run, size_t slices) {
    uint64_t now_ms = lu__os_now_ms();
    lu__lock_acquire(&lu__span_lock);
    struct span *rest = run + slices;
    size_t bytes = (run->slices - slices) << LU_SLICE_SHIFT;
    rest->slices = run->slices - (uint32_t)slices;
    LU_SET(rest->kind, LU_KIND_LARGE);
    LU_SET(run->slices, (uint32_t)slices);
    free_locked(rest, LU_FREE_DIRTY, now_ms);
    release_and_settle(bytes);
}

void lu__span_forget_meta(const struct span *run) {
    lu__figure_sub(&figures->meta, lu__span_bytes(run) - lu__span_absent(run));
}

/* Clear what an unfinished change has left. Where nothing is left, nothing is written. */
static void unmark_inside(struct span *run) {
    for (size_t k = 1; k < run->slices; k++) {
        if (run[k].kind != LU_KIND_NONE) lu__run_unmark(run + k);
    }
}

/* Another thread was giving the run back: is it still mapped? It is unmapped as a whole or not at
 * all, and mapping it succeeds only if nothing is there. */
static void settle_purging(struct span *run) {
    uint8_t what = run->state; /* it is there, as it was */
    if (run->zero == LU_FREE_HOLE) {
        int error = lu__region_fill(run, run->slices);
        if (error != EEXIST) what = error == 0 ? LU_FREE_CLEAN : LU_FREE_HOLE;
    }
    run->zero = what;
}

void lu__run_rebuild(void) {
    lu__bins_clear();
    size_t used = 0, absent = 0, dirty = 0, going = 0, mapped = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        struct region *region = &lu__regions[i];
        lu__region_settle(region);
        mapped += region->table_bytes + ((size_t)region->ready << LU_SLICE_SHIFT);
        for (size_t slice = 0; slice < region->top;) {
            struct span *run = lu__region_desc(region, slice);
            if (run->kind == LU_KIND_PURGING && run != lu__my_purge) settle_purging(run);
            if (run == lu__my_purge) { /* a signal handler forked: the interrupted purge goes on */
                if (run->state == LU_FREE_DIRTY) going += lu__span_bytes(run);
            } else if (run->kind == LU_KIND_FREE || run->kind == LU_KIND_PURGING) {
                unmark_inside(run);
                lu__run_mark_free(run, run->slices, run->zero);
                if (run->zero == LU_FREE_DIRTY) dirty += lu__span_bytes(run);
                if (run->zero == LU_FREE_HOLE) mapped -= lu__span_bytes(run);
                lu__bins_insert(run, false);
            } else {
                if (run->kind == LU_KIND_LARGE) {
                    unmark_inside(run);
                }
                bool retired = run->kind == LU_KIND_META && run->retired;
                if (!retired) used += lu__span_bytes(run);
                absent += lu__span_absent(run);
            }
            slice += run->slices;
        }
    }
    lu__purge_fork_child();
    figures->used = used;
    figures->absent = absent;
    figures->dirty = dirty + going;
    figures->going = going;
    figures->mapped = mapped;
    lu__decay = (struct lu__decay){0}; /* it may have been half changed */
    lu__decay_freed(&lu__decay, figures->dirty, used, lu__os_now_ms(), delay_ms());
}

void lu__run_fork_child(void) {
    lu__purge_set_child();
    if (lu__lock_is_mine(&lu__span_lock)) return; /* the interrupted call goes on */
    bool was_held = lu__lock_fork_child(&lu__span_lock);
    if (was_held || lu__run_purging()) lu__run_rebuild();
}
