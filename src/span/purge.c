/*
 * purge.c - giving the pages of free runs back to the system.
 *
 *     dirty run    | ............................ |          the oldest
 *                  | .............. | PURGING     |   1. its last STEP_SLICES leave the bins
 *                  | .............. | hole        |   2. munmap or madvise, without the lock
 *                                                     3. merge with holes behind, lower the top
 *
 * decay.h decides how much goes back, and when; the queue of bins.c decides which runs: the oldest
 * first. They go back in pieces for which the kernel takes well under a millisecond, so that
 * neither the caller nor a thread that waits for the lock, or for the kernel's own, is held up for
 * long. A piece that is being purged belongs to no list: it has a kind of its own, and fork's child
 * makes it free memory again.
 *
 * Memory that goes back is unmapped: where addresses are limited, the process can use them again,
 * core files do not have them, and a top that comes down leaves nothing behind. Where that would
 * make too many mappings, or while some thread follows lists of other threads, which may lead into
 * memory that was freed meanwhile, only the pages go, and the addresses stay.
 *
 * lu__span_lock guards the decay and the count; dirty memory never goes back under it.
 */
#include "base/options.h"
#include "os/os.h"
#include "span/run_parts.h"

#define STEP_SLICES ((uint32_t)((4 * LU_MIB) >> LU_SLICE_SHIFT))
#define CALL_BYTES (96 * LU_KIB) /* a call of the kernel costs as much as so many bytes */
#define EFFORT_LATE 4u    /* of such bytes, for each that was freed: enough for runs of one slice */
#define HOLE_LEAST 4u     /* slices that are unmapped where that makes a mapping more */
#define HOLES_MOST 1024u  /* of those; the system allows a process 65,530 mappings    */
#define HOLES_CHILD 4096u /* that are ever made in a forked child; see lu__run_may_be_hole */
#define REFUSED_MS 1000u  /* the kernel is not asked again for so long after it has refused */
#define REFUSED_MOST 16u  /* pieces that it refuses, in one go                               */

struct lu__decay lu__decay;
static struct lu__span_figures *const figures = &lu__span_figures;
static uint32_t purging_now; /* runs that some thread is purging; under lu__span_lock */
__thread struct span *lu__my_purge;
__thread size_t lu__my_unsettled;
static uint64_t refused_until; /* under lu__span_lock                                    */
static uint32_t lookers;       /* atomic                                                  */
static __thread uint32_t my_looks __attribute__((tls_model("initial-exec")));
static uint32_t holes_left = UINT32_MAX; /* to be made; under lu__span_lock              */

bool lu__run_purging(void) {
    return purging_now != 0;
}

void lu__purge_set_child(void) {
    holes_left = HOLES_CHILD;
    lookers = my_looks; /* other threads that looked do not exist here */
}

/* Either the thread that looks finds that the run is no longer in use, or the thread that frees it
 * finds that another one looks. */
void lu__look_begin(void) {
    my_looks++;
    __atomic_fetch_add(&lookers, 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void lu__look_end(void) {
    __atomic_fetch_sub(&lookers, 1, __ATOMIC_RELEASE);
    my_looks--;
}

bool lu__look_is_on(void) {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return __atomic_load_n(&lookers, __ATOMIC_ACQUIRE) != 0;
}

void lu__purge_fork_child(void) {
    purging_now = lu__my_purge != NULL;
}

/* When a hole is mapped again, the kernel joins it with the neighbouring mappings, but not with
 * memory that came from a parent process, nor with locked memory; so there the number of holes ever
 * made is limited. */
bool lu__run_may_be_hole(size_t slices) {
    return slices >= HOLE_LEAST && lu__bins_holes() < HOLES_MOST && holes_left != 0;
}

/* In a plain region the kernel would put other mappings into a hole. */
bool lu__run_may_unmap(struct span *run) {
    const struct region *region = lu__region_of_desc(run);
    if (region->plain || lu__look_is_on()) return false;
    const struct span *after = lu__run_behind(region, run);
    if (after == NULL || lu__run_is_hole(after)) return true;
    const struct span *before = lu__run_in_front(region, run);
    if (before != NULL && lu__run_is_hole(before)) return true;
    if (!lu__run_may_be_hole(run->slices)) return false;
    if (holes_left != UINT32_MAX) holes_left--;
    return true;
}

/* Take the last slices of the free run, at most `slices`, out of the bins. Locked. */
static struct span *piece_of(struct span *run, uint32_t slices_most) {
    uint32_t whole = run->slices;
    uint8_t what = run->zero;
    struct span *rest = run;
    lu__bins_remove(run);
    if (whole > slices_most) {
        run += whole - slices_most;
        lu__run_unmark(rest + whole - 1);
        LU_SET(run->slices, slices_most);
    }
    run->zero = lu__run_may_unmap(run) ? LU_FREE_HOLE : LU_FREE_DIRTY;
    run->state = what;
    LU_SET(run->kind, LU_KIND_PURGING);
    if (run != rest) {
        lu__run_mark_free(rest, whole - slices_most, what);
        lu__bins_insert(rest, true);
    }
    purging_now++;
    return run;
}

/* Take of the oldest dirty run at most STEP_SLICES and what `bytes` need; NULL if there is none. */
static struct span *piece_take(size_t bytes) {
    lu__lock_acquire(&lu__span_lock);
    struct span *run = lu__bins_oldest();
    if (run != NULL) {
        size_t want = (bytes >> LU_SLICE_SHIFT) + ((bytes & (LU_SLICE - 1)) != 0);
        run = piece_of(run, (uint32_t)LU_MIN(want, STEP_SLICES));
        lu__figure_add(&figures->going, lu__span_bytes(run));
    }
    lu__my_purge = run;
    lu__lock_release(&lu__span_lock);
    return run;
}

/* Give the memory of the piece back; *what it is now. */
static bool piece_purge(struct span *run, enum lu__free *what) {
    char *start = lu__span_start(run);
    size_t bytes = lu__span_bytes(run);
    *what = run->zero;
    if (*what == LU_FREE_HOLE && lu__os_unmap(start, bytes) == 0) return true;
    *what = lu__os_purge(start, bytes) == 0 ? LU_FREE_CLEAN : LU_FREE_DIRTY;
    return *what == LU_FREE_CLEAN;
}

/* Put it among the free runs again, as what it is now. */
static void piece_put(struct span *run, enum lu__free what) {
    lu__my_purge = NULL;
    purging_now--;
    if (what == LU_FREE_HOLE) figures->mapped -= lu__span_bytes(run);
    lu__run_mark_free(run, run->slices, what);
    lu__run_insert(run);
}

static void piece_give(struct span *run, enum lu__free what) {
    size_t bytes = lu__span_bytes(run);
    lu__lock_acquire(&lu__span_lock);
    lu__figure_sub(&figures->going, bytes);
    if (what != LU_FREE_DIRTY) {
        lu__figure_sub(&figures->dirty, bytes);
        lu__figure_add(&figures->returned, bytes);
        lu__decay_purged(&lu__decay, bytes);
    } else {
        refused_until = lu__os_now_ms() + REFUSED_MS;
        holes_left = LU_MIN(holes_left, HOLES_CHILD); /* it may be locked memory */
        lu__held_note_peak();
    }
    piece_put(run, what);
    (void)lu__region_trim(LU_MIB); /* a thread that gives memory back needs none in advance */
    lu__lock_release(&lu__span_lock);
}

/* Purge the oldest runs, until so many bytes are given back or so much work is done. */
static size_t purge_oldest(size_t most_bytes, size_t most_effort) {
    size_t returned = 0, refused = 0;
    for (size_t effort = 0; effort < most_effort && returned < most_bytes;) {
        struct span *run = piece_take(LU_MIN(most_bytes - returned, most_effort - effort));
        if (run == NULL) break;
        LU_STEP();
        size_t bytes = lu__span_bytes(run);
        enum lu__free what;
        bool done = piece_purge(run, &what);
        if (done) lu__run_forget_touched(run);
        piece_give(run, what);
        effort += bytes + CALL_BYTES;
        if (done) returned += bytes;
        if (!done && ++refused == REFUSED_MOST) break; /* it is the youngest now */
    }
    return returned;
}

size_t lu__run_purge(size_t most_bytes) {
    return purge_oldest(most_bytes, most_bytes);
}

bool lu__run_unmap_clean(void) {
    bool any = false, done = true;
    while (done) {
        lu__lock_acquire(&lu__span_lock);
        struct span *clean = lu__bins_large_clean();
        bool large = clean != NULL && clean->slices >= HOLE_LEAST;
        struct span *run = large ? piece_of(clean, LU_CLEAN_STEP) : NULL;
        lu__my_purge = run;
        lu__lock_release(&lu__span_lock);
        if (run == NULL) break;
        LU_STEP();
        done = run->zero == LU_FREE_HOLE &&
               lu__os_unmap(lu__span_start(run), lu__span_bytes(run)) == 0;
        lu__lock_acquire(&lu__span_lock);
        piece_put(run, done ? LU_FREE_HOLE : LU_FREE_CLEAN);
        lu__lock_release(&lu__span_lock);
        any = any || done;
    }
    return any;
}

bool lu__run_give_addresses(size_t keep) {
    bool unmapped = lu__run_unmap_clean();
    lu__lock_acquire(&lu__span_lock);
    bool trimmed = lu__region_trim(keep) != 0;
    lu__lock_release(&lu__span_lock);
    return unmapped || trimmed;
}

/* Give the excess back, in a few steps, after `freed` bytes became free. */
static void purge_excess(size_t freed) {
    long delay = lu__option(LU_OPT_PURGE_DELAY);
    lu__lock_acquire(&lu__span_lock);
    size_t excess = lu__decay_excess(&lu__decay, delay);
    bool late = lu__decay_is_late(&lu__decay, delay, excess);
    if (refused_until != 0 && lu__os_now_ms() < refused_until) excess = 0;
    lu__lock_release(&lu__span_lock);
    /* A little at a time, so that no call takes long; where that is not enough, more than was
     * freed. */
    size_t quota = LU_MIN(LU_MAX(excess / 32, LU_DECAY_STEP), 2 * LU_DECAY_STEP);
    size_t effort = quota;
    if (late) {
        quota += freed + freed / 4;
        effort += EFFORT_LATE * freed;
    }
    if (excess != 0) (void)purge_oldest(LU_MIN(excess, quota), effort);
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

/* ---------------------------------------------------------------- runs that stay */

/* Of the META run so many bytes are absent. Locked. */
static void leave_meta(struct span *run, size_t bytes) {
    size_t before = lu__span_absent(run);
    lu__figure_add(&figures->meta, before);
    lu__held_take_all(run);
    lu__held_leave_all(run, bytes);
    lu__figure_sub(&figures->meta, bytes);
    lu__held_note_peak();
}

bool lu__run_meta_absent(struct span *run, size_t bytes) {
    for (;;) {
        lu__lock_acquire(&lu__span_lock);
        size_t before = lu__span_absent(run), more = before > bytes ? before - bytes : 0;
        bool allowed = more == 0 || lu__held_lacks(more) == 0;
        if (allowed) leave_meta(run, bytes);
        lu__lock_release(&lu__span_lock);
        if (allowed) return true;
        if (!lu__held_make_room(more, 0)) return false;
    }
}

static void count_meta(struct span *run, bool used) {
    size_t bytes = lu__span_bytes(run);
    lu__lock_acquire(&lu__span_lock);
    LU_SET(run->retired, !used);
    if (used) {
        lu__figure_sub(&lu__span_figures.huge, bytes); /* as which it was charged */
        lu__figure_add(&lu__span_figures.used, bytes);
        lu__figure_add(&lu__span_figures.meta, bytes);
    } else {
        leave_meta(run, 0);
        lu__figure_sub(&lu__span_figures.used, bytes);
        lu__figure_sub(&lu__span_figures.meta, bytes);
    }
    lu__lock_release(&lu__span_lock);
}

bool lu__run_retire(struct span *run) {
    size_t bytes = lu__span_bytes(run);
    if (lu__os_purge(lu__span_start(run), bytes) != 0) return false;
    __atomic_fetch_add(&lu__span_figures.returned, bytes, __ATOMIC_RELAXED);
    count_meta(run, false);
    return true;
}

bool lu__run_wake(struct span *run) {
    if (!lu__span_charge(lu__span_bytes(run))) return false;
    count_meta(run, true);
    return true;
}
