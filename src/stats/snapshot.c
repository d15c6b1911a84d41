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
    size_t bytes, present;            /* present: those that count as held */
    uint32_t carved, unused, waiting; /* blocks; unused: free, on no list  */
    unsigned class_id;
    size_t *free; /* the part of `held` for what is free in it */
};

struct snapshot {
    lu_stats_t *out;
    uint64_t now_ms;
    struct noted noted[NOTED];
    unsigned count;
};

static void add_class(lu_stats_t *out, unsigned c, uint32_t live, uint32_t unused) {
    lu_class_stats_t *class = &out->classes[c];
    class->spans++;
    class->free_blocks += unused;
    class->live_blocks += live;
}

/* Of `present` bytes of a span, so many are no live block's and wait or are held back; the rest is
 * free. */
static void add_free(size_t present, size_t used, size_t *kept, size_t kept_bytes, size_t *free) {
    size_t rest = present - LU_MIN(used, present);
    kept_bytes = LU_MIN(kept_bytes, rest);
    *kept += kept_bytes;
    *free += rest - kept_bytes;
}

static size_t present_bytes(const struct span *span) {
    size_t absent = lu__span_absent(span), bytes = lu__span_bytes(span);
    return bytes - LU_MIN(absent, bytes);
}

NO_TSAN static unsigned note_hardened(const struct span *span, const struct heap *owner,
                                      struct snapshot *snapshot) {
    lu_held_t *held = &snapshot->out->held;
    struct lu__hard_counts counts = lu__hard_count(span);
    uint32_t carved = LU_MAX(lu__span_carved(span), counts.live);
    size_t size = lu__class_size[span->class_id], used = counts.live * size;
    add_class(snapshot->out, span->class_id, counts.live, carved - counts.live);
    held->live_small += counts.live_bytes;
    held->padding += used - counts.live_bytes;
    add_free(present_bytes(span), used, &held->quarantine, counts.kept * size,
             lu__held_free_part(held, owner, snapshot->now_ms));
    return 2 * NOTED;
}

NO_TSAN static unsigned note_small(const struct span *span, struct snapshot *snapshot) {
    /* Once, as it is no longer when the last block is freed, which takes no lock. */
    const struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_ACQUIRE);
    if (owner == NULL) return 1;
    if (span->hardened) return note_hardened(span, owner, snapshot);
    uint32_t carved = lu__span_carved(span), waiting = lu__remote_count(span);
    const uintptr_t *list = span->list;
    snapshot->noted[snapshot->count++] = (struct noted){
        .list = carved != 0 && list != NULL ? *list : LU_LIST_END,
        .key = span->key,
        .start = (uintptr_t)lu__span_start(span),
        .bytes = lu__span_bytes(span),
        .present = present_bytes(span),
        .carved = carved,
        .unused = LU_MIN(span->unlisted, carved) + waiting,
        .waiting = waiting,
        .class_id = span->class_id,
        .free = lu__held_free_part(&snapshot->out->held, owner, snapshot->now_ms),
    };
    return 2;
}

NO_TSAN static void note_large(const struct span *span, lu_stats_t *out) {
    size_t present = present_bytes(span), bytes = LU_MIN(lu__large_bytes(span), present);
    if (!lu__large_is_taken(span)) {
        out->large_blocks++;
        out->large_bytes += bytes;
        out->held.padding += present - bytes;
    } else if (span->hardened) {
        out->held.quarantine += present;
    }
}

NO_TSAN static unsigned note_run(const struct span *span, void *arg) {
    struct snapshot *snapshot = arg;
    if (span->kind == LU_KIND_SMALL) return note_small(span, snapshot);
    if (span->kind == LU_KIND_LARGE) note_large(span, snapshot->out);
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
    lu_held_t *held = &snapshot->out->held;
    for (unsigned i = 0; i < snapshot->count; i++) {
        const struct noted *n = &snapshot->noted[i];
        uint32_t unused = LU_MIN(n->unused + list_length(n), n->carved);
        size_t size = lu__class_size[n->class_id], live = (n->carved - unused) * size;
        add_class(snapshot->out, n->class_id, n->carved - unused, unused);
        held->live_small += live;
        add_free(n->present, live, &held->waiting, n->waiting * size, n->free);
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

static void add_live(lu_stats_t *out) {
    lu_held_t *held = &out->held;
    held->live_large = out->large_bytes;
    held->live_huge = out->huge_bytes;
    held->free_runs = out->dirty_bytes;
    lu__guard_figures(&out->guarded_blocks, &out->guarded_bytes);
    out->live_bytes = held->live_small + held->live_large + held->live_huge + out->guarded_bytes;
    out->live_blocks = out->large_blocks + out->huge_blocks + out->guarded_blocks;
    for (unsigned c = 0; c < LU_CLASSES; c++) out->live_blocks += out->classes[c].live_blocks;
}

void lu_stats_get(lu_stats_t *out) {
    memset(out, 0, sizeof *out);
    out->class_count = LU_CLASSES;
    for (unsigned c = 0; c < LU_CLASSES; c++) out->classes[c].block_bytes = lu__class_size[c];
    struct snapshot snapshot = {.out = out, .now_ms = lu__os_now_ms()};
    if (lu__thread_mark()) { /* else a signal handler: without what takes a lock */
        lu__run_walk(note_run, add_noted, &snapshot);
        add_figures(out);
        lu__inside_leave();
    }
    add_live(out);
    lu__held_balance(out);
    size_t used = out->held_bytes + out->metadata_bytes;
    out->unbacked_bytes = out->committed_bytes - LU_MIN(used, out->committed_bytes);
    lu__pool_counts(&out->thread_heaps, &out->pooled_heaps);
    out->os_calls = lu__os_call_count();
}
