/*
 * unload.c - the library leaves a process that goes on: it was part of a shared object, which
 * dlclose unloads.
 *
 *     region   | descriptors |      | free | live | free | live | hole | free | advance |
 *              '---- back ---'      '-back-'      '-back-'             '----- back -----'
 *
 * What the program was given and did not free stays where it is, readable and writable, and can
 * never be freed any more: runs with a live block, and blocks in mappings of their own. All other
 * memory goes back, also that of our structures, so a module can come and go for ever.
 * In two passes, since lists of free blocks lead through structures in runs of their own:
 *
 *     1   what threads had collected is posted; runs without a live block are marked as free
 *     2   all between those that are left is unmapped, the descriptors of the first region last;
 *         holes are not ours, and somebody else may have mapped there
 *
 * No other thread may be in the library, nor enter it again: its code is about to go. Afterwards
 * nothing of it may be called.
 */
#include "base/options.h"
#include "sample/guard.h"
#include "heap/ops.h"
#include "engine/zero.h"
#include "os/os.h"
#include "span/huge.h"

static void post_collected(struct heap *heap, void *arg) {
    (void)arg;
    if (heap->kind == LU_HEAP_OF_THREAD && !heap->busy) lu__remote_flush(heap);
}

static bool has_live(const struct span *span) {
    if (span->kind == LU_KIND_LARGE) return !lu__large_is_taken(span);
    if (span->kind != LU_KIND_SMALL || span->owner == NULL) return false;
    return lu__run_ops(span)->live(span) != 0;
}

static void mark(struct region *region) {
    for (size_t slice = 0; slice < region->top;) {
        struct span *run = lu__region_desc(region, slice);
        slice += run->slices;
        if (run->kind == LU_KIND_FREE || run->kind == LU_KIND_PURGING || has_live(run)) continue;
        run->kind = LU_KIND_FREE;
        run->zero = LU_FREE_DIRTY;
    }
}

static void unmap_slices(const struct region *region, size_t from, size_t to) {
    if (from == to) return;
    lu__os_unmap(region->base + (from << LU_SLICE_SHIFT), (to - from) << LU_SLICE_SHIFT);
}

static bool is_wanted(const struct span *run) {
    return run->kind != LU_KIND_FREE || run->zero == LU_FREE_HOLE;
}

static void release(const struct region *region) {
    size_t from = 0; /* what lies from there is not wanted */
    for (size_t slice = 0; slice < region->top;) {
        const struct span *run = lu__region_desc(region, slice);
        size_t next = slice + run->slices;
        if (is_wanted(run)) {
            unmap_slices(region, from, slice);
            from = next;
        }
        slice = next;
    }
    unmap_slices(region, from, region->ready);
    if (region->table_bytes != 0) lu__os_unmap(region->table - 1, region->table_bytes);
}

bool lu__engine_must_stay(void) {
    return lu__option(LU_OPT_GUARD_SAMPLE) != 0 || lu__option(LU_OPT_HARDEN) == 2;
}

void lu__engine_unload(void) {
    lu__guard_unwatch();
    if (!lu__thread_mark()) return; /* a signal handler unloads: nothing can be known */
    lu__heap_each(post_collected, NULL);
    for (uint32_t i = 0; i < lu__region_count; i++) mark(&lu__regions[i]);
    for (uint32_t i = lu__region_count; i-- > 0;) release(&lu__regions[i]);
    lu__huge_unload();
    lu__zero_unload();
}
