/*
 * snapshot.c - lu_stats_get: figures by walking the descriptors.
 *
 * malloc and free keep no counters, so the snapshot looks at every run, under lu__span_lock so
 * that runs stay what they are. For a SMALL span
 *
 *     live = carved - purged off - on its list - posted by other threads
 *
 * where the list of another thread's span may change while it is walked: links are checked before
 * they are followed and the walk is bounded, so it ends, with an estimate. Blocks that some thread
 * has collected and not posted count as live.
 */
#include "stats/snapshot.h"

#include <string.h>

#include "heap/guard.h"
#include "heap/harden.h"
#include "heap/heap.h"
#include "os/os.h"

#define NO_TSAN __attribute__((no_sanitize("thread")))

/* Free blocks on the list, at most `most`. */
NO_TSAN static uint32_t list_length(uintptr_t list, uintptr_t start, size_t bytes, uint32_t most) {
    uint32_t count = 0;
    while (list != LU_LIST_END && count < most && list - start < bytes) {
        list = lu__link_next(lu__link_key, list);
        count++;
    }
    return count;
}

NO_TSAN static void add_small(const struct span *span, lu_stats_t *out) {
    lu_class_stats_t *class = &out->classes[span->class_id];
    uint32_t carved = lu__span_carved(span), off = LU_MIN(span->off, carved);
    uintptr_t start = (uintptr_t)lu__span_start(span);
    const uintptr_t *list = span->list;
    uint32_t unused = off + lu__remote_count(span);
    if (span->hardened) {
        unused = carved - LU_MIN(lu__hard_live(span), carved);
    } else if (carved != 0 && list != NULL) {
        unused += list_length(*list, start, lu__span_bytes(span), carved);
    }
    unused = LU_MIN(unused, carved);
    class->spans++;
    class->free_blocks += unused;
    class->live_blocks += carved - unused;
}

NO_TSAN static void add_region(const struct region *region, lu_stats_t *out) {
    for (size_t slice = region->first; slice < region->top;) {
        const struct span *span = lu__region_desc(region, slice);
        if (span->kind == LU_KIND_SMALL && span->owner != NULL) add_small(span, out);
        if (span->kind == LU_KIND_LARGE && !(span->hardened && span->swept)) {
            out->large_blocks++;
            out->large_bytes += lu__large_bytes(span);
        }
        slice += span->slices;
    }
    out->metadata_bytes += (size_t)(region->top - region->first) << LU_DESC_SHIFT;
}

void lu_stats_get(lu_stats_t *out) {
    memset(out, 0, sizeof *out);
    out->class_count = LU_CLASSES;
    for (unsigned c = 0; c < LU_CLASSES; c++) out->classes[c].block_bytes = lu__class_size[c];
    bool inside = lu__thread_mark(); /* else a signal handler: without what takes the lock */
    if (inside) {
        lu__lock_acquire(&lu__span_lock);
        for (uint32_t i = 0; i < lu__region_count; i++) add_region(&lu__regions[i], out);
    }
    const struct lu__span_figures *figures = &lu__span_figures;
    out->held_bytes = lu__span_held() - figures->meta;
    out->dirty_bytes = figures->dirty;
    out->returned_bytes = __atomic_load_n(&figures->returned, __ATOMIC_RELAXED); /* needs no lock */
    out->reserved_bytes = figures->reserved + figures->huge;
    out->committed_bytes = figures->committed + figures->huge;
    out->metadata_bytes += figures->meta;
    out->peak_held_bytes = figures->peak;
    out->huge_bytes = figures->huge;
    out->huge_blocks = figures->huge_blocks;
    out->limit_bytes = figures->limit;
    if (inside) {
        lu__lock_release(&lu__span_lock);
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
}
