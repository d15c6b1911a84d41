/*
 * held.c - what counts as held, and the limit on it.
 *
 *     held = used - absent + dirty - going + huge
 *
 *     SMALL run   | carved .......... |  absent: never carved, or given  |      a run in use counts
 *                                        back since                             less what is absent
 *     dirty run   | all of it |  going: a piece that is being purged
 *     huge block  | usable bytes |
 *
 * Memory counts if it can be resident. A SMALL run that reads as zero has no resident pages, so
 * nothing of it counts until blocks are carved; memory that is not carved is never touched. Each
 * bit of span->absent stands for a sixteenth of the run: 4 KiB where the run has one slice. Bits
 * are cleared when memory is carved; the kernel is then about to provide those pages, so that one
 * more atomic access does not matter. They are set again when the sweep has given pages back. For
 * other runs `absent` is a number of units. Only the owner changes it, or the thread that frees the
 * run. The figure is increased before the field and decreased after it, so that fork's child never
 * finds too little in it.
 *
 * A run that becomes free is dirty as a whole, even if much of it was absent, because the pieces of
 * a free run are not distinguished. So near the limit it goes back at once instead (lu__held_give):
 * no free makes the memory held more than the limit.
 *
 * Before the limit refuses anything, free runs that are dirty are purged. Memory that another
 * thread is purging at that moment no longer counts: it is about to go back, and no thread has to
 * wait for that.
 *
 * Figures are changed under lu__span_lock, but for `absent` where there is no limit.
 */
#include "os/os.h"
#include "span/run_parts.h"

static struct lu__span_figures *const figures = &lu__span_figures;
static __thread bool refused __attribute__((tls_model("initial-exec")));

size_t lu__held_lacks(size_t bytes) {
    size_t limit = __atomic_load_n(&figures->limit, __ATOMIC_RELAXED);
    size_t want = lu__span_held() + bytes;
    refused = limit != 0 && want > limit;
    return LU_UNLIKELY(refused) ? want - limit : 0;
}

bool lu__span_was_refused(void) {
    return refused;
}

void lu__held_raise_peak(size_t held) {
    size_t peak = __atomic_load_n(&figures->peak, __ATOMIC_RELAXED);
    while (held > peak && !__atomic_compare_exchange_n(&figures->peak, &peak, held, true,
                                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
}

bool lu__held_make_room(size_t bytes, size_t least) {
    size_t lacks = lu__held_lacks(bytes);
    if (lacks == 0 || lu__run_purge(LU_MAX(lacks, least)) != 0) return true;
    return lu__held_lacks(bytes) == 0; /* another thread may have done it     */
}

/* Change a figure so that `bytes` more are held, if the limit allows it. */
static bool charge(size_t bytes, size_t *figure, size_t change) {
    for (;;) {
        lu__lock_acquire(&lu__span_lock);
        bool allowed = lu__held_lacks(bytes) == 0;
        if (allowed) lu__figure_add(figure, change);
        lu__lock_release(&lu__span_lock);
        if (allowed) return true;
        if (!lu__held_make_room(bytes, 0)) return false;
    }
}

/* ---------------------------------------------------------------- huge blocks */

bool lu__span_charge(size_t bytes) {
    return charge(bytes, &figures->huge, bytes);
}

void lu__span_uncharge(size_t bytes) {
    lu__lock_acquire(&lu__span_lock);
    lu__figure_sub(&figures->huge, bytes);
    lu__lock_release(&lu__span_lock);
}

void lu__span_note_peak(void) {
    lu__held_note_peak();
}

/* ---------------------------------------------------------------- runs */

size_t lu__span_absent(const struct span *span) {
    size_t units = __atomic_load_n(&span->absent, __ATOMIC_RELAXED); /* statistics look as well */
    if (span->kind == LU_KIND_SMALL) {
        units = (size_t)__builtin_popcount((unsigned)units) * span->slices;
    }
    return units << LU_UNIT_SHIFT;
}

void lu__held_leave_all(struct span *run, size_t bytes) {
    LU_ASSERT(run->absent == 0 && bytes <= lu__span_bytes(run));
    size_t units = bytes >> LU_UNIT_SHIFT;
    if (run->kind == LU_KIND_SMALL) {
        units = UINT16_MAX;
        bytes = lu__span_bytes(run);
    }
    lu__figure_add(&figures->absent, bytes);
    LU_SET(run->absent, (uint16_t)LU_MIN(units, UINT16_MAX));
}

void lu__held_take_all(struct span *run) {
    size_t bytes = lu__span_absent(run);
    LU_SET(run->absent, 0);
    if (bytes != 0) lu__figure_sub(&figures->absent, bytes);
}

/* `bytes` that were absent are to be used. */
static bool use(size_t bytes) {
    if (LU_UNLIKELY(__atomic_load_n(&figures->limit, __ATOMIC_RELAXED) != 0)) {
        if (!charge(bytes, &figures->absent, (size_t)0 - bytes)) return false;
    } else {
        lu__figure_sub(&figures->absent, bytes);
    }
    lu__held_note_peak();
    return true;
}

/* Bits of the sixteenths of the run that overlap [from, to), or that lie inside it. */
static uint32_t bits_of(size_t from, size_t to) {
    return from >= to ? 0 : (uint32_t)((2ull << (to - 1)) - (1ull << from));
}

bool lu__span_touch_slow(struct span *span, uint32_t from, uint32_t to) {
    size_t part = (size_t)span->slices << LU_UNIT_SHIFT;
    size_t first = lu__align_down(from, LU_OS_PAGE) / part;
    size_t end = LU_MIN(lu__align_up(to, LU_OS_PAGE) + part - 1, 16 * part) / part;
    uint32_t bits = bits_of(first, end) & span->absent;
    if (bits == 0) return true;
    /* First, so that after a fork in between less is absent than the figure says. */
    LU_SET(span->absent, (uint16_t)(span->absent & ~bits));
    if (LU_LIKELY(use((size_t)__builtin_popcount(bits) * part))) return true;
    LU_SET(span->absent, (uint16_t)(span->absent | bits));
    return false;
}

void lu__span_leave(struct span *span, uint32_t from, uint32_t to) {
    size_t part = (size_t)span->slices << LU_UNIT_SHIFT;
    uint32_t bits = bits_of((from + part - 1) / part, to / part) & ~(uint32_t)span->absent;
    if (bits == 0) return;
    lu__figure_add(&figures->absent, (size_t)__builtin_popcount(bits) * part);
    LU_SET(span->absent, (uint16_t)(span->absent | bits));
}

bool lu__held_give(struct span *run) {
    size_t limit = __atomic_load_n(&figures->limit, __ATOMIC_RELAXED);
    size_t bytes = lu__span_bytes(run), absent = lu__span_absent(run), there = bytes - absent;
    if (there != 0) {
        if (LU_LIKELY(limit == 0 || lu__span_held() + absent <= limit - limit / 8)) return false;
        if (lu__os_purge(lu__span_start(run), bytes) != 0) return false;
        __atomic_fetch_add(&figures->returned, there, __ATOMIC_RELAXED);
    }
    lu__run_free_clean(run, 0);
    return true;
}
