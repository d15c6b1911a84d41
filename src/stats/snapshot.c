/*
 * snapshot.c - lu_stats_get: figures by walking the descriptors.
 *
 * malloc and free keep no counters, so the snapshot looks at every run, a few at a time under
 * lu__span_lock (span/walk.c), so that other threads go on meanwhile. For a SMALL span
 *
 *     live = carved - purged off - on its list - posted by other threads
 *
 * The lists are long, so the state of a span is copied under the lock, and its list is walked after
 * the lock is released: links are checked before they are followed, memory of a region stays
 * readable, and the walk is bounded. The list of another thread's span may change meanwhile, so the
 * figures are exact only while no other thread allocates. Blocks that some thread has collected and
 * not posted count as live. The pages of a hardened span may become inaccessible when it ends, so
 * those spans are walked under the lock.
 */
#include "stats/snapshot.h"

#include <string.h>

#include "sample/guard.h"
#include "harden/harden.h"
#include "heap/heap.h"
#include "os/os.h"

#define NO_TSAN __attribute__((no_sanitize("thread")))

#define NOTED 32u /* spans, each of effort 2: as many as one hold of the lock looks at */

/* The state of a span when the lock was held. */
struct noted {
    uintptr_t list, key, start;
    size_t bytes;
    uint32_t carved, unused; /* blocks */
    unsigned class_id;
};

struct snapshot {
    lu_stats_t *out;
    struct noted noted[NOTED];
    unsigned count;
    size_t unusable; /* bytes of live blocks of hardened spans: canaries, and before them */
};

static void add_class(lu_stats_t *out, unsigned c, uint32_t carved, uint32_t unused) {
    lu_class_stats_t *class = &out->classes[c];
    unused = LU_MIN(unused, carved);
    class->spans++;
    class->free_blocks += unused;
    class->live_blocks += carved - unused;
}

NO_TSAN static unsigned note_small(const struct span *span, struct snapshot *snapshot) {
    uint32_t carved = lu__span_carved(span);
    if (span->hardened) {
        size_t bytes;
        uint32_t live = LU_MIN(lu__hard_live(span, &bytes), carved);
        add_class(snapshot->out, span->class_id, carved, carved - live);
        snapshot->unusable += (size_t)live * lu__class_size[span->class_id] - bytes;
        return 2 * NOTED;
    }
    const uintptr_t *list = span->list;
    snapshot->noted[snapshot->count++] = (struct noted){
        .list = carved != 0 && list != NULL ? *list : LU_LIST_END,
        .key = span->key,
        .start = (uintptr_t)lu__span_start(span),
        .bytes = lu__span_bytes(span),
        .carved = carved,
        .unused = LU_MIN(span->unlisted, carved) + lu__remote_count(span),
        .class_id = span->class_id,
    };
    return 2;
}

NO_TSAN static unsigned note_run(const struct span *span, void *arg) {
    struct snapshot *snapshot = arg;
    if (span->kind == LU_KIND_SMALL && span->owner != NULL) return note_small(span, snapshot);
    if (span->kind == LU_KIND_LARGE && !lu__large_is_taken(span)) {
        snapshot->out->large_blocks++;
        snapshot->out->large_bytes += lu__large_bytes(span);
    }
    return 1;
}

/* Free blocks on the list, at most as many as were carved. */
NO_TSAN static uint32_t list_length(const struct noted *noted) {
    uint32_t count = 0;
    uintptr_t list = noted->list;
    while (list != LU_LIST_END && count < noted->carved && list - noted->start < noted->bytes) {
        list = lu__link_next(noted->key, list);
        count++;
    }
    return count;
}

static void add_noted(void *arg) {
    struct snapshot *snapshot = arg;
    for (unsigned i = 0; i < snapshot->count; i++) {
        const struct noted *n = &snapshot->noted[i];
        add_class(snapshot->out, n->class_id, n->carved, n->unused + list_length(n));
    }
    snapshot->count = 0;
}

/* Several of them are changed without the lock, so each is read atomically. */
static size_t figure(const size_t *at) {
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static void add_figures(lu_stats_t *out) {
    const struct lu__span_figures *figures = &lu__span_figures;
    lu__lock_acquire(&lu__span_lock);
    size_t held = lu__span_held(), meta = figure(&figures->meta);
    out->held_bytes = held > meta ? held - meta : 0;
    out->dirty_bytes = figure(&figures->dirty) - figure(&figures->going);
    out->returned_bytes = figure(&figures->returned);
    out->huge_bytes = figure(&figures->huge);
    out->huge_blocks = figure(&figures->huge_blocks);
    out->committed_bytes = out->reserved_bytes = figure(&figures->mapped) + out->huge_bytes;
    out->metadata_bytes = meta;
    /* A thread that carves raises the peak a moment later. */
    out->peak_held_bytes = LU_MAX(out->held_bytes, figure(&figures->peak));
    out->limit_bytes = figure(&figures->limit);
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        out->metadata_bytes += (size_t)region->top << LU_DESC_SHIFT;
    }
    lu__lock_release(&lu__span_lock);
}

void lu_stats_get(lu_stats_t *out) {
    memset(out, 0, sizeof *out);
    out->class_count = LU_CLASSES;
    for (unsigned c = 0; c < LU_CLASSES; c++) out->classes[c].block_bytes = lu__class_size[c];
    struct snapshot snapshot = {.out = out};
    if (lu__thread_mark()) { /* else a signal handler: without what takes a lock */
        lu__run_walk(note_run, add_noted, &snapshot);
        add_figures(out);
        lu__inside_leave();
    }
    lu__pool_counts(&out->thread_heaps, &out->pooled_heaps);
    out->os_calls = lu__os_call_count();
    lu__guard_figures(&out->live_blocks, &out->live_bytes);
    out->live_bytes += out->large_bytes + out->huge_bytes;
    out->live_blocks += out->large_blocks + out->huge_blocks;
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        out->live_bytes += out->classes[c].live_blocks * out->classes[c].block_bytes;
        out->live_blocks += out->classes[c].live_blocks;
    }
    out->live_bytes -= snapshot.unusable;
}
