/*
 * purge.c - giving the pages of free runs back to the system.
 *
 *     dirty run    | ............................ |          the oldest
 *                  | .............. | PURGING     |   1. its last STEP_SLICES leave the bins
 *                  | .............. | clean       |   2. madvise, without the lock
 *                                                     3. merge with clean memory behind
 *
 * How much goes back, and when, is decay.h's to say; which runs, the queue of bins.c: the oldest
 * first, in pieces that the kernel takes well under a millisecond for, so that neither the caller
 * nor who waits for the lock or for the kernel's own is held up for long. A piece that is being
 * purged is nobody's: it has a kind of its own, and fork's child makes free memory of it again.
 *
 * lu__span_lock guards the decay and the count; madvise is never called under it.
 */
#include "base/options.h"
#include "os/os.h"
#include "span/run_parts.h"

#define STEP_SLICES ((uint32_t)((4 * LU_MIB) >> LU_SLICE_SHIFT))
#define CALL_BYTES (96 * LU_KIB) /* a call of the kernel costs as much as so many bytes */
#define EFFORT_LATE 4u   /* of such bytes, for each that was freed: enough for runs of one slice */
#define REFUSED_MS 1000u /* the kernel is not asked again for so long after it has refused */

struct lu__decay lu__decay;
static struct lu__span_figures *const figures = &lu__span_figures;
static uint32_t purging_now; /* runs that some thread is purging; under lu__span_lock */
__thread struct span *lu__my_purge;
__thread size_t lu__my_unsettled;
static uint64_t refused_until; /* under lu__span_lock                                    */

bool lu__run_purging(void) {
    return purging_now != 0;
}

void lu__purge_fork_child(void) {
    purging_now = lu__my_purge != NULL;
}

/* Take the last slices of the oldest dirty run, at most STEP_SLICES and what `bytes` need, out of
 * the bins; NULL if there is none. */
static struct span *piece_take(size_t bytes) {
    lu__lock_acquire(&lu__span_lock);
    struct span *run = lu__bins_oldest();
    if (run != NULL) {
        size_t want = (bytes >> LU_SLICE_SHIFT) + ((bytes & (LU_SLICE - 1)) != 0);
        uint32_t whole = run->slices, most = (uint32_t)LU_MIN(want, STEP_SLICES);
        lu__bins_remove(run);
        if (whole > most) {
            struct span *front = run;
            run += whole - most;
            lu__run_unmark(front + whole - 1);
            run->zero = false;
            LU_SET(run->slices, most);
            LU_SET(run->kind, LU_KIND_PURGING);
            lu__run_mark_free(front, whole - most, false);
            lu__bins_insert(front, true);
        } else {
            LU_SET(run->kind, LU_KIND_PURGING);
        }
        purging_now++;
    }
    lu__my_purge = run;
    lu__lock_release(&lu__span_lock);
    return run;
}

static void piece_give(struct span *run, bool done) {
    size_t bytes = lu__span_bytes(run);
    lu__lock_acquire(&lu__span_lock);
    lu__my_purge = NULL;
    purging_now--;
    if (done) {
        lu__figure_sub(&figures->dirty, bytes);
        lu__figure_add(&figures->returned, bytes);
        lu__decay_purged(&lu__decay, bytes);
    } else {
        refused_until = lu__os_now_ms() + REFUSED_MS;
    }
    lu__run_mark_free(run, run->slices, done);
    lu__run_insert(run);
    lu__lock_release(&lu__span_lock);
}

/* Purge the oldest, until so many bytes are given back, or so much was done for it. */
static size_t purge_oldest(size_t most_bytes, size_t most_effort) {
    size_t returned = 0;
    for (size_t effort = 0; effort < most_effort && returned < most_bytes;) {
        struct span *run = piece_take(LU_MIN(most_bytes - returned, most_effort - effort));
        if (run == NULL) break;
        LU_STEP();
        size_t bytes = lu__span_bytes(run);
        bool done = lu__os_purge(lu__span_start(run), bytes) == 0;
        if (done) lu__run_forget_touched(run);
        piece_give(run, done);
        if (!done) break;
        returned += bytes;
        effort += bytes + CALL_BYTES;
    }
    return returned;
}

size_t lu__run_purge(size_t most_bytes) {
    return purge_oldest(most_bytes, most_bytes);
}

/* Give back what is too much, in a few steps, after `freed` bytes became free. */
static void purge_excess(size_t freed) {
    long delay = lu__option(LU_OPT_PURGE_DELAY);
    lu__lock_acquire(&lu__span_lock);
    size_t excess = lu__decay_excess(&lu__decay, delay);
    bool late = lu__decay_is_late(&lu__decay, delay, excess);
    if (refused_until != 0 && lu__os_now_ms() < refused_until) excess = 0;
    lu__lock_release(&lu__span_lock);
    /* A little at a time, so that no call takes long; where that is not enough, more than came. */
    size_t most = LU_MIN(LU_MAX(excess / 32, LU_DECAY_STEP), 2 * LU_DECAY_STEP);
    size_t effort = most;
    if (late) {
        most += freed + freed / 4;
        effort += EFFORT_LATE * freed;
    }
    if (excess != 0) (void)purge_oldest(LU_MIN(excess, most), effort);
}

void lu__run_settle_now(void) {
    size_t freed = lu__my_unsettled - 1;
    lu__my_unsettled = 0;
    purge_excess(freed);
}

void lu__run_freed_too_much(size_t freed) {
    if (lu__my_unsettled != 0) {
        lu__my_unsettled += freed;
    } else {
        purge_excess(freed);
    }
}

size_t lu__run_purge_due(uint64_t now_ms, bool pressed, size_t most_bytes) {
    long delay = lu__option(LU_OPT_PURGE_DELAY);
    if (__atomic_load_n(&figures->dirty, __ATOMIC_RELAXED) == 0) return 0;
    if (!lu__lock_try(&lu__span_lock)) return 0;                   /* another tick will do */
    size_t soon_above = (size_t)lu__option(LU_OPT_TRIM_THRESHOLD); /* -1 is the greatest */
    size_t due = lu__decay_due(&lu__decay, now_ms, delay, soon_above, pressed);
    due = LU_MAX(due, lu__decay_excess(&lu__decay, delay));
    if (now_ms < refused_until) due = 0;
    lu__lock_release(&lu__span_lock);
    return due != 0 ? lu__run_purge(LU_MIN(due, most_bytes)) : 0;
}
