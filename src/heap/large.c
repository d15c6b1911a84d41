/*
 * large.c - blocks above the size classes: one run of slices each, and from mmap_threshold up a
 * mapping each (span/huge.c).
 *
 * The descriptor's `remote` word, which a LARGE run has no use for, holds the usable bytes: what
 * was asked for, rounded up to pages of the kernel, so that the slices' rest is neither touched nor
 * promised. Growing tries the run's own rest, the free run behind it, a move of the pages into a
 * mapping, which the block then keeps, and a copy.
 */
#include <string.h>

#include "base/options.h"
#include "heap/harden.h"
#include "heap/heap.h"
#include "os/os.h"
#include "span/huge.h"

static size_t slices_of(size_t bytes) {
    return (bytes + LU_SLICE - 1) >> LU_SLICE_SHIFT;
}

static void set_bytes(struct span *span, size_t size) {
    __atomic_store_n(&span->remote, lu__align_up(LU_MAX(size, 1), LU_OS_PAGE), __ATOMIC_RELAXED);
}

static bool is_huge(size_t size) {
    return size >= (size_t)lu__option(LU_OPT_MMAP_THRESHOLD);
}

void *lu__large_huge(struct heap *user, size_t align, size_t size) {
    void *block = lu__huge_alloc(LU_MAX(size, 1), align, user);
    if (block != NULL && user != NULL) user->has_huge = 1;
    return block;
}

void *lu__large_alloc(struct heap *user, size_t align, size_t size, bool *zero) {
    if (size > (size_t)PTRDIFF_MAX || align > (size_t)PTRDIFF_MAX) return NULL;
    if (is_huge(size) || is_huge(align)) {
        *zero = true;
        return lu__large_huge(user, align, size);
    }
    struct span *span = lu__run_alloc(slices_of(LU_MAX(size, 1)), slices_of(align), LU_KIND_LARGE,
                                      zero);
    if (span == NULL) return NULL;
    set_bytes(span, size);
    span->owner = user;
    if (user != NULL) lu__heap_link(user, span);
    return lu__span_start(span);
}

void lu__large_free(struct span *span) {
    lu__run_free(span);
}

/* A mapping with the pages of the run, which is free then; NULL: nothing has changed. All of the
 * run goes, also what lies behind the block, so that it is zero throughout. */
static void *move_out(struct span *span, size_t size) {
    struct heap *user = span->owner;
    size_t whole = lu__span_bytes(span);
    if (whole < LU_HUGE_MOVE_LEAST) return NULL;
    void *to = lu__huge_adopt(lu__span_start(span), whole, size, user);
    if (to == NULL) return NULL;
    if (user != NULL) {
        lu__heap_unlink(user, span);
        user->has_huge = 1;
    }
    lu__run_free_clean(span);
    return to;
}

/* A new run with the contents of the old. */
static void *copy(struct span *span, size_t size) {
    struct heap *user = span->owner;
    bool zero;
    char *to = lu__large_alloc(user, 1, size, &zero);
    if (to == NULL) return NULL;
    memcpy(to, lu__span_start(span), LU_MIN(lu__large_bytes(span), size));
    if (user != NULL) lu__heap_unlink(user, span);
    lu__large_free(span);
    return to;
}

void *lu__large_resize(struct span *span, size_t size) {
    size_t slices = slices_of(size);
    if (slices > UINT32_MAX / 2) return NULL; /* more than there are addresses */
    if (slices < span->slices) {
        lu__run_shrink(span, slices);
    } else if (slices > span->slices && (is_huge(size) || !lu__run_grow(span, slices))) {
        void *to = move_out(span, size);
        return to != NULL ? to : copy(span, size);
    }
    set_bytes(span, size);
    return lu__span_start(span);
}

void *lu__large_resize_huge(void *block, size_t size) {
    /* Hardened heaps have guards around what is not that large. */
    bool stays = is_huge(size) || (size >= LU_HUGE_MOVE_LEAST && !lu__harden.on);
    return stays ? lu__huge_resize(block, size) : NULL;
}
