/*
 * visit.c - the live blocks of a lu_heap, for a function of the program.
 *
 * No lock is held while that runs, so the heap may change at any time:
 *
 *     noted     the heap's runs, as they are when the walk begins: some at a time under its lock
 *     looked at one run, or a part of it, under the lock: the heap's still? which blocks are live?
 *     visited   those, without a lock
 *
 * What lives throughout is visited once, as it stays in its run. What others, or the visitor, free
 * after its run was looked at is visited although it is gone; what they allocate, maybe.
 *
 * A block is live if it was carved, is on neither its span's list nor the heap's nor in a bitmap
 * (track.c), and touches no purged page. Huge blocks are found one by one in the list of all.
 */
#include <errno.h>
#include <string.h>

#include "heap/ops.h"
#include "heap/user.h"
#include "os/os.h"
#include "span/huge.h"

/* The sanitizer does not see the list's mapping end, and another thread's begin at its place. */
#define NO_TSAN __attribute__((no_sanitize("thread")))

enum {
    FEW = 64,   /* runs that need no mapping */
    HOLD = 512, /* runs noted under one hold of the lock */
};

typedef bool visit_fn(void *block, size_t bytes, void *arg);

/* False: it has ended, or this is a signal handler above a slow path. */
static bool enter(struct heap *heap) {
    if (!lu__thread_mark()) return false;
    if (lu__user_lock(heap)) return true;
    lu__inside_leave();
    return false;
}

static void leave(struct heap *heap) {
    lu__user_unlock(heap);
    lu__inside_leave();
}

/* ---------------------------------------------------------------- noted */

struct runs {
    struct span **at, *few[FEW];
    size_t count, room; /* there are, and fit in `at` */
    bool huge;          /* there may be huge blocks besides */
};

static void runs_end(struct runs *runs) {
    if (runs->at != runs->few) (void)lu__os_unmap(runs->at, runs->room * sizeof *runs->at);
}

/* Make room for all runs of the heap, and enter it. 0 or an errno value; EINVAL: it has ended. */
static int make_room(struct heap *heap, struct runs *runs) {
    void *mapping;
    runs->at = runs->few;
    runs->room = FEW;
    for (;;) {
        if (!enter(heap)) {
            runs_end(runs);
            return EINVAL;
        }
        size_t needed = heap->run_count;
        if (needed <= runs->room) return 0;
        leave(heap);
        runs_end(runs);
        size_t bytes = lu__align_up((needed + needed / 8) * sizeof *runs->at, LU_OS_PAGE);
        runs->at = runs->few;
        int error = lu__os_map(bytes, LU_OS_PAGE, &mapping);
        if (error != 0) return error;
        runs->at = mapping;
        runs->room = bytes / sizeof *runs->at;
    }
}

/* Others come in while run `at` is the next to be noted; it, or what is then. NULL: none is, or the
 * heap has ended, which *ended tells. */
static struct span *let_others_in(struct heap *heap, struct span *at, bool *ended) {
    heap->walk_at = at;
    leave(heap);
    *ended = !enter(heap);
    return *ended ? NULL : heap->walk_at;
}

/* The heap gets new runs in front and loses some meanwhile, so there are never more than at first.
 * One walk at a time has the mark; a second does not let go of the lock. */
NO_TSAN static int note_runs(struct heap *heap, struct runs *runs) {
    int error = make_room(heap, runs);
    if (error != 0) return error;
    bool marks = !heap->walking, ended = false;
    if (marks) heap->walking = 1;
    for (struct span *run = heap->all; run != NULL && runs->count < runs->room;) {
        runs->at[runs->count++] = run;
        run = run->all_next;
        if (marks && runs->count % HOLD == 0) run = let_others_in(heap, run, &ended);
    }
    if (ended) return 0;
    if (marks) heap->walking = 0;
    runs->huge = heap->has_huge;
    leave(heap);
    return 0;
}

/* ---------------------------------------------------------------- looked at */

/* True if there is more to look at. */
static bool look_at(struct span *span, struct lu__look *look) {
    look->found = look->count = 0;
    if (span->kind == LU_KIND_SMALL) return lu__run_ops(span)->look(span, look);
    look->found = 1;
    look->live[0].block = lu__span_start(span) + lu__large_offset(span);
    look->live[0].bytes = lu__large_bytes(span);
    return false;
}

/* ---------------------------------------------------------------- visited */

static bool visit_live(const struct lu__look *look, visit_fn *visit, void *arg) {
    for (uint32_t i = 0; i < look->found; i++) {
        if (!visit(look->live[i].block, look->live[i].bytes, arg)) return false;
    }
    for (uint32_t i = 0; i < look->count; i++) {
        if ((look->free_bits[i / 8] >> i % 8 & 1) != 0) continue;
        if (!visit((void *)(look->start + (size_t)i * look->size), look->size, arg)) return false;
    }
    return true;
}

static bool visit_run(struct heap *heap, struct span *run, visit_fn *visit, void *arg) {
    struct lu__look look;
    bool more = true;
    look.next = 0;
    while (more) {
        if (!enter(heap)) return false;
        bool ours = __atomic_load_n(&run->owner, __ATOMIC_RELAXED) == heap;
        more = ours && look_at(run, &look);
        leave(heap);
        if (ours && !visit_live(&look, visit, arg)) return false;
    }
    return true;
}

NO_TSAN bool lu__user_walk(struct heap *heap, visit_fn *visit, void *arg) {
    struct runs runs = {0};
    int error = note_runs(heap, &runs);
    if (error != 0) {
        if (error != EINVAL) errno = ENOMEM;
        return false;
    }
    bool whole = true;
    for (size_t i = 0; i < runs.count && whole; i++) {
        whole = visit_run(heap, runs.at[i], visit, arg);
    }
    runs_end(&runs);
    struct lu__huge huge;
    uintptr_t from = 0;
    while (whole && runs.huge && lu__huge_next(heap, &from, &huge)) {
        whole = visit(huge.block, huge.bytes, arg);
    }
    return whole;
}
