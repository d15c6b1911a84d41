/*
 * large.c - blocks above the size classes: one run of slices each, and beyond mmap_threshold a
 * mapping each (span/huge.c).
 *
 * The descriptor's `remote` word, which a LARGE run has no use for, holds the usable bytes: what
 * was asked for, rounded up to pages of the kernel, so that the slices' rest is neither touched nor
 * promised. Growing tries the run's own rest, the free run behind it, a move of the pages by
 * mremap (from 512 KiB: below, copying is cheaper than changing page tables), then a copy.
 */
#include <string.h>

#include "base/options.h"
#include "heap/heap.h"
#include "os/os.h"
#include "span/huge.h"

#define MOVE_LEAST (512 * LU_KIB)

static size_t slices_of(size_t bytes) {
    return (bytes + LU_SLICE - 1) >> LU_SLICE_SHIFT;
}

static void set_bytes(struct span *span, size_t size) {
    __atomic_store_n(&span->remote, lu__align_up(LU_MAX(size, 1), LU_OS_PAGE), __ATOMIC_RELAXED);
}

void *lu__large_alloc(struct heap *user, size_t align, size_t size, bool *zero) {
    size_t threshold = (size_t)lu__option(LU_OPT_MMAP_THRESHOLD);
    if (size > (size_t)PTRDIFF_MAX || align > (size_t)PTRDIFF_MAX) return NULL;
    if (size >= threshold || align >= threshold) {
        *zero = true;
        return lu__huge_alloc(LU_MAX(size, 1), align, user);
    }
    struct span *span = lu__run_alloc(slices_of(LU_MAX(size, 1)), slices_of(align), LU_KIND_LARGE,
                                      zero);
    if (span == NULL) return NULL;
    set_bytes(span, size);
    span->moved = 0;
    span->owner = user;
    if (user != NULL) lu__heap_link(user, span);
    return lu__span_start(span);
}

void lu__large_free(struct span *span) {
    lu__run_free(span);
}

/* A new run with the pages of the old. */
static void *move_run(struct span *span, size_t size) {
    struct heap *user = span->owner;
    size_t bytes = lu__large_bytes(span);
    bool zero;
    char *from = lu__span_start(span);
    char *to = lu__large_alloc(user, 1, size, &zero);
    if (to == NULL) return NULL;
    const struct region *region = lu__region_of(to);
    struct span *target = region != NULL ? lu__span_of(region, to) : NULL;
    if (target != NULL && bytes >= MOVE_LEAST && lu__os_move_pages(from, to, bytes) == 0) {
        target->moved = 1;
        lu__run_forget_touched(span);
    } else {
        memcpy(to, from, LU_MIN(bytes, size));
    }
    if (user != NULL) lu__heap_unlink(user, span);
    lu__large_free(span);
    return to;
}

void *lu__large_resize(struct span *span, size_t size) {
    size_t slices = slices_of(size);
    if (slices > UINT32_MAX / 2) return NULL; /* more than there are addresses */
    if (slices < span->slices) {
        lu__run_shrink(span, slices);
    } else if (slices > span->slices && !lu__run_grow(span, slices)) {
        return move_run(span, size);
    }
    set_bytes(span, size);
    return lu__span_start(span);
}
