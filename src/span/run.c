/*
 * run.c - handing out and taking back runs of slices.
 *
 *     lu__run_alloc   bins first (dirty, then clean), then the fresh top of a region
 *     lu__run_free    merges with free neighbours of the same kind (dirty or clean), stamps, bins
 *     lu__run_purge   takes an old dirty run out, gives its pages back without the lock, and
 *                     brings it in again as clean
 *
 * The truth is in the descriptors: head marks tile every region from `first` to `top`. A change
 * writes the new inner heads before the outer one (release stores), so that a walk at any instant
 * sees a tiling. The bins are only an index, which lu__run_rebuild makes anew in a forked child.
 */
#include "span/span.h"

#include "os/os.h"

#define SET(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELEASE)

static struct lu__span_figures *const figures = &lu__span_figures;
static uint32_t purging_now; /* runs that some thread is purging; under lu__span_lock */
/* The one that this thread is purging. It goes on with it in the child of fork, after a handler. */
static __thread struct span *my_purge __attribute__((tls_model("initial-exec")));

bool lu__run_purging(void) {
    return purging_now != 0;
}

static void figure_add(size_t *figure, size_t bytes) {
    __atomic_fetch_add(figure, bytes, __ATOMIC_RELAXED); /* `returned` is added to without lock */
}

static void figure_sub(size_t *figure, size_t bytes) {
    size_t before = __atomic_fetch_sub(figure, bytes, __ATOMIC_RELAXED);
    LU_ASSERT(before >= bytes);
    (void)before;
}

static void note_peak(void) {
    size_t held = lu__span_held();
    if (held > figures->peak) __atomic_store_n(&figures->peak, held, __ATOMIC_RELAXED);
}

/* Make the descriptor the head of a free run. */
static void mark_free(struct span *head, size_t slices, bool zero, uint32_t stamp) {
    head->owner = NULL;
    head->of_thread = 0;
    head->zero = zero;
    head->stamp = stamp;
    if (slices > 1) {
        struct span *tail = head + slices - 1;
        tail->slices = (uint32_t)slices;
        SET(tail->kind, LU_KIND_TAIL);
    }
    SET(head->slices, (uint32_t)slices);
    SET(head->kind, LU_KIND_FREE);
}

static void unmark(struct span *desc) {
    SET(desc->kind, LU_KIND_NONE);
}

/* Merge a free run, in no bin, with free neighbours of its kind and put it in its bin. */
static void insert_merged(struct region *region, struct span *run) {
    size_t slice = (size_t)((char *)run - region->base) >> LU_DESC_SHIFT;
    struct span *after = run + run->slices;
    if (slice + run->slices < region->top && after->kind == LU_KIND_FREE &&
        after->zero == run->zero) {
        lu__bins_remove(after);
        uint32_t stamp = (int32_t)(after->stamp - run->stamp) > 0 ? after->stamp : run->stamp;
        size_t slices = (size_t)run->slices + after->slices;
        if (run->slices > 1) unmark(run + run->slices - 1);
        mark_free(run, slices, run->zero, stamp);
        unmark(after);
        if (slices == (size_t)(after - run) + 1) mark_free(run, slices, run->zero, stamp);
    }
    if (slice > region->first) {
        struct span *before = run - 1;
        if (before->kind == LU_KIND_TAIL) before = run - before->slices;
        if (before->kind == LU_KIND_FREE && before->zero == run->zero) {
            lu__bins_remove(before);
            uint32_t stamp = (int32_t)(before->stamp - run->stamp) > 0 ? before->stamp : run->stamp;
            size_t slices = (size_t)before->slices + run->slices;
            if (before->slices > 1) unmark(run - 1);
            mark_free(before, slices, before->zero, stamp);
            if (run + 1 != before + slices) unmark(run);
            run = before;
        }
    }
    lu__bins_insert(run);
}

/* Turn [at, at + slices) of the free run, which is in no bin, into a run of `kind`; what is over at
 * either end goes back into the bins. */
static struct span *carve(struct span *run, size_t front, size_t slices, enum lu__kind kind) {
    size_t whole = run->slices, back = whole - front - slices;
    struct span *head = run + front, *rest = head + slices;
    if (whole > 1) unmark(run + whole - 1);
    if (back > 0) mark_free(rest, back, run->zero, run->stamp);
    if (front > 0) {
        head->zero = run->zero;
        SET(head->slices, (uint32_t)slices);
        SET(head->kind, (uint8_t)kind);
        mark_free(run, front, run->zero, run->stamp);
    } else {
        SET(head->kind, (uint8_t)kind);
        SET(head->slices, (uint32_t)slices);
    }
    if (back > 0) lu__bins_insert(rest);
    if (front > 0) lu__bins_insert(run);
    return head;
}

static void mark_interior(struct span *head) {
    for (uint32_t i = 1; i < head->slices; i++) {
        head[i].owner = NULL;
        head[i].slices = i;
        SET(head[i].kind, LU_KIND_INTERIOR);
    }
}

static bool limit_allows(size_t bytes) {
    size_t limit = __atomic_load_n(&figures->limit, __ATOMIC_RELAXED);
    return limit == 0 || lu__span_held() + bytes <= limit;
}

/* A run from the bins, or NULL. */
static struct span *alloc_binned(size_t slices, size_t align_slices, enum lu__kind kind) {
    struct span *run = lu__bins_find(slices, align_slices);
    if (run == NULL) return NULL;
    size_t bytes = slices << LU_SLICE_SHIFT;
    if (run->zero && !limit_allows(bytes)) return NULL;
    size_t front = 0;
    if (align_slices > 1) {
        size_t start = (uintptr_t)lu__span_start(run) >> LU_SLICE_SHIFT;
        front = lu__align_up(start, align_slices) - start;
    }
    lu__bins_remove(run);
    if (!run->zero) figure_sub(&figures->dirty, bytes);
    return carve(run, front, slices, kind);
}

/* A run from the fresh top of a region, or NULL. */
static struct span *alloc_fresh(size_t slices, size_t align_slices, enum lu__kind kind) {
    struct region *region;
    uint32_t slice, skipped;
    if (!limit_allows(slices << LU_SLICE_SHIFT) ||
        !lu__region_extend(slices, align_slices, &region, &slice, &skipped)) {
        return NULL;
    }
    struct span *head = lu__region_desc(region, slice);
    head->zero = true;
    head->slices = (uint32_t)slices;
    SET(head->kind, (uint8_t)kind);
    if (skipped > 0) {
        mark_free(head - skipped, skipped, true, 0);
        SET(region->top, slice + (uint32_t)slices);
        insert_merged(region, head - skipped);
    } else {
        SET(region->top, slice + (uint32_t)slices);
    }
    return head;
}

struct span *lu__run_alloc(size_t slices, size_t align_slices, enum lu__kind kind, bool *zero) {
    if (slices == 0 || slices > UINT32_MAX / 2 || align_slices > UINT32_MAX / 2) return NULL;
    for (int attempt = 0; attempt < 2; attempt++) {
        lu__lock_acquire(&lu__span_lock);
        struct span *run = alloc_binned(slices, align_slices, kind);
        if (run == NULL) run = alloc_fresh(slices, align_slices, kind);
        if (run != NULL) {
            figure_add(&figures->used, slices << LU_SLICE_SHIFT);
            if (kind == LU_KIND_META) figure_add(&figures->meta, slices << LU_SLICE_SHIFT);
            if (kind == LU_KIND_SMALL) mark_interior(run);
            note_peak();
        }
        lu__lock_release(&lu__span_lock);
        if (run != NULL) {
            *zero = run->zero;
            return run;
        }
        /* Purged runs merge with their clean neighbours, and no longer count for the limit. */
        if (lu__run_purge((uint32_t)lu__os_now_ms() + 1, SIZE_MAX) == 0) break;
    }
    return NULL;
}

void lu__run_forget_touched(struct span *run) {
    /* Only read where it is 0 already: the descriptors inside large runs are not resident. */
    for (uint32_t i = 0; i < run->slices; i++) {
        if (run[i].touched != 0) run[i].touched = 0;
    }
}

/* Free the slices of `run`, which the caller has taken out of use. Locked. */
static void free_locked(struct span *run, bool zero, uint32_t now_ms) {
    size_t bytes = lu__span_bytes(run);
    figure_sub(&figures->used, bytes);
    if (!zero) figure_add(&figures->dirty, bytes);
    run->owner = NULL;
    run->moved = false;
    mark_free(run, run->slices, zero, now_ms);
    insert_merged(lu__region_of(run), run);
}

void lu__run_free(struct span *run) {
    bool zero = false;
    uint32_t now_ms = (uint32_t)lu__os_now_ms();
    if (run->moved) { /* pages that mremap brought: put plain ones there, which merge */
        zero = lu__os_renew(lu__span_start(run), lu__span_bytes(run)) == 0;
        lu__run_forget_touched(run);
    }
    lu__lock_acquire(&lu__span_lock);
    if (zero) figure_add(&figures->returned, lu__span_bytes(run));
    if (run->kind == LU_KIND_SMALL) {
        for (size_t i = 1; i < run->slices; i++) unmark(run + i);
    }
    free_locked(run, zero, now_ms);
    lu__lock_release(&lu__span_lock);
}

bool lu__run_grow(struct span *run, size_t slices) {
    bool done = false;
    lu__lock_acquire(&lu__span_lock);
    struct region *region = lu__region_of(run);
    struct span *after = run + run->slices;
    size_t more = slices - run->slices;
    size_t slice = (size_t)((char *)after - region->base) >> LU_DESC_SHIFT;
    if (slice < region->top && after->kind == LU_KIND_FREE && after->slices >= more &&
        (!after->zero || limit_allows(more << LU_SLICE_SHIFT))) {
        lu__bins_remove(after);
        if (!after->zero) figure_sub(&figures->dirty, more << LU_SLICE_SHIFT);
        (void)carve(after, 0, more, LU_KIND_LARGE);
        SET(run->slices, (uint32_t)slices);
        unmark(after);
        figure_add(&figures->used, more << LU_SLICE_SHIFT);
        note_peak();
        done = true;
    }
    lu__lock_release(&lu__span_lock);
    return done;
}

void lu__run_shrink(struct span *run, size_t slices) {
    uint32_t now_ms = (uint32_t)lu__os_now_ms();
    lu__lock_acquire(&lu__span_lock);
    struct span *rest = run + slices;
    rest->slices = run->slices - (uint32_t)slices;
    rest->moved = false;
    SET(rest->kind, LU_KIND_LARGE);
    SET(run->slices, (uint32_t)slices);
    free_locked(rest, false, now_ms);
    lu__lock_release(&lu__span_lock);
}

size_t lu__run_purge(uint32_t before_ms, size_t most_bytes) {
    size_t returned = 0;
    while (returned < most_bytes) {
        lu__lock_acquire(&lu__span_lock);
        struct span *run = lu__bins_find_dirty(before_ms);
        if (run != NULL) {
            lu__bins_remove(run);
            SET(run->kind, LU_KIND_PURGING);
            purging_now++;
        }
        my_purge = run;
        lu__lock_release(&lu__span_lock);
        if (run == NULL) break;
        size_t bytes = lu__span_bytes(run);
        bool done = lu__os_purge(lu__span_start(run), bytes) == 0;
        lu__run_forget_touched(run);
        lu__lock_acquire(&lu__span_lock);
        my_purge = NULL;
        purging_now--;
        if (done) {
            figure_sub(&figures->dirty, bytes);
            figure_add(&figures->returned, bytes);
        } else {
            run->stamp = (uint32_t)lu__os_now_ms() + 1000; /* refused: not again for a while */
        }
        mark_free(run, run->slices, done, run->stamp);
        insert_merged(lu__region_of(run), run);
        lu__lock_release(&lu__span_lock);
        if (!done) break;
        returned += bytes;
    }
    return returned;
}

bool lu__span_charge(size_t bytes) {
    lu__lock_acquire(&lu__span_lock);
    bool allowed = limit_allows(bytes);
    if (allowed) figure_add(&figures->huge, bytes);
    lu__lock_release(&lu__span_lock);
    return allowed;
}

void lu__span_forget_meta(size_t bytes) {
    figure_sub(&figures->meta, bytes);
}

void lu__span_note_peak(void) {
    lu__lock_acquire(&lu__span_lock);
    note_peak();
    lu__lock_release(&lu__span_lock);
}

void lu__span_uncharge(size_t bytes) {
    lu__lock_acquire(&lu__span_lock);
    figure_sub(&figures->huge, bytes);
    lu__lock_release(&lu__span_lock);
}

void lu__run_rebuild(void) {
    lu__bins_clear();
    size_t used = 0, dirty = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        struct region *region = &lu__regions[i];
        for (size_t slice = region->first; slice < region->top;) {
            struct span *run = lu__region_desc(region, slice);
            if (run->kind == LU_KIND_PURGING) run->zero = false;
            if (run == my_purge) {
                dirty += lu__span_bytes(run);
            } else if (run->kind == LU_KIND_FREE || run->kind == LU_KIND_PURGING) {
                for (size_t k = 1; k < run->slices; k++) unmark(run + k);
                mark_free(run, run->slices, run->zero, run->stamp);
                if (!run->zero) dirty += lu__span_bytes(run);
                lu__bins_insert(run);
            } else {
                if (run->kind == LU_KIND_LARGE) {
                    for (size_t k = 1; k < run->slices; k++) unmark(run + k);
                }
                used += lu__span_bytes(run);
            }
            slice += run->slices;
        }
    }
    purging_now = my_purge != NULL;
    figures->used = used;
    figures->dirty = dirty;
}
