/*
 * large.c - blocks above the size classes: one run of slices each, and from mmap_threshold up a
 * mapping each (span/huge.c).
 *
 * The usable bytes are what was asked for, rounded up to pages of the kernel, so that the slices'
 * rest is neither touched nor promised. Growing tries the run's own rest, the free run behind it, a
 * move of the pages into a mapping, which the block then keeps, and a copy.
 *
 * Runs begin at multiples of 64 KiB. If blocks did, the same index of many would fall into one set
 * of every cache, and of the TLB, and a loop over the columns of 64 arrays would miss with each
 * access. So a block begins at a line of its own, `offset` bytes from the run's start, for life:
 *
 *     run   | units | line | block: usable bytes ............ | rest |
 *             0-15    0-63   (4 KiB each, 64 bytes each)
 *
 * The line takes up to a page more, and so a slice more where the block would fill all of its own:
 * unless there is no memory for that, or a limit. Units are taken from the rest only. Both follow
 * from the run's place in its region, so that a run which is used again touches the pages that it
 * touched before, blocks of other sizes there lie inside one another, and a program that runs twice
 * has its blocks at the same places, wherever its region is. Neighbouring runs are spread as evenly
 * as can be, by the golden ratio (Knuth, "The Art of Computer Programming", volume 3, 6.4).
 */
#include <string.h>

#include "base/options.h"
#include "heap/heap.h"
#include "os/os.h"
#include "span/huge.h"

#define LINE ((size_t)64)
#define LINE_BITS 6        /* in a unit */
#define UNIT_BITS 4        /* in a slice */
#define GOLDEN 0x9e3779b9u /* 2^32 / 1.618... */
_Static_assert(LINE << LINE_BITS == LU_UNIT && LU_UNIT << UNIT_BITS == LU_SLICE, "all of a slice");

static size_t slices_of(size_t bytes) {
    return (bytes + LU_SLICE - 1) >> LU_SLICE_SHIFT;
}

static size_t usable_of(size_t size) {
    return lu__align_up(LU_MAX(size, 1), LU_OS_PAGE);
}

static void set_bytes(struct span *span, size_t size) {
    __atomic_store_n(&span->large_bytes, usable_of(size), __ATOMIC_RELAXED);
}

/* Where a block of `usable` bytes is to begin in the run, which has room for them at the start, and
 * perhaps behind the last line of a unit. */
static size_t offset_for(const struct span *span, size_t align, size_t usable) {
    uint32_t place = (uint32_t)lu__region_slice(lu__region_of_desc(span), span);
    uint32_t spread = place * GOLDEN >> (32 - LINE_BITS - UNIT_BITS);
    size_t room = lu__span_bytes(span) - usable;
    size_t line = LU_MIN((size_t)(spread >> UNIT_BITS) * LINE, lu__align_down(room, LINE));
    size_t units = LU_MIN(spread % (1u << UNIT_BITS), (room - line) / LU_UNIT);
    return lu__align_down(line + units * LU_UNIT, LU_MAX(align, LINE));
}

/* What a block may have besides. While there is a limit, which counts slices, what is left over. */
static LU_COLD size_t room_for_line(size_t align) {
    bool limited = __atomic_load_n(&lu__span_figures.limit, __ATOMIC_RELAXED) != 0;
    return limited || align >= LU_UNIT ? 0 : LU_UNIT - LU_MAX(align, LINE);
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
    size_t usable = usable_of(size), least = slices_of(usable);
    size_t slices = slices_of(usable + room_for_line(align));
    struct span *span = lu__run_alloc(slices, slices_of(align), LU_KIND_LARGE, zero);
    if (span == NULL && slices > least) {
        span = lu__run_alloc(least, slices_of(align), LU_KIND_LARGE, zero);
    }
    if (span == NULL) return NULL;
    __atomic_store_n(&span->taken, 0, __ATOMIC_RELAXED);
    set_bytes(span, size);
    __atomic_store_n(&span->offset, (uint32_t)offset_for(span, align, usable), __ATOMIC_RELAXED);
    __atomic_store_n(&span->owner, user, __ATOMIC_RELAXED); /* walks ask for it, of any run */
    if (user != NULL) lu__heap_link(user, span);
    return lu__span_start(span) + lu__large_offset(span);
}

void lu__large_free(struct span *span) {
    lu__run_free(span);
}

/* A mapping with the pages of the run, which is free then; NULL: nothing has changed. All of the
 * run goes, also what lies behind the block, so that it is zero throughout. */
static void *move_out(struct span *span, size_t size) {
    struct heap *user = span->owner;
    size_t whole = lu__span_bytes(span);
    if (whole < LU_HUGE_MOVE_LEAST || !lu__large_take(span)) return NULL;
    void *to = lu__huge_adopt(lu__span_start(span), whole, lu__large_offset(span), size, user);
    if (to == NULL) {
        __atomic_store_n(&span->taken, 0, __ATOMIC_RELAXED);
        return NULL;
    }
    if (user != NULL) {
        lu__heap_unlink(user, span);
        user->has_huge = 1;
    }
    lu__run_free_clean(span, LU_MIN(whole, usable_of(size)));
    return to;
}

/* A new run with the contents of the old. */
static void *copy(struct span *span, size_t size) {
    struct heap *user = span->owner;
    bool zero;
    char *to = lu__large_alloc(user, 1, size, &zero);
    if (to == NULL) return NULL;
    memcpy(to, lu__span_start(span) + lu__large_offset(span), LU_MIN(lu__large_bytes(span), size));
    if (!lu__large_take(span)) return to; /* another thread frees it, which does wrong */
    if (user != NULL) lu__heap_unlink(user, span);
    lu__large_free(span);
    return to;
}

void *lu__large_resize(struct span *span, size_t size) {
    size_t slices = slices_of(lu__large_offset(span) + usable_of(size));
    if (slices > UINT32_MAX / 2) return NULL; /* more than there are addresses */
    if (slices < span->slices) {
        lu__run_shrink(span, slices);
    } else if (slices > span->slices && (is_huge(size) || !lu__run_grow(span, slices))) {
        void *to = move_out(span, size);
        return to != NULL ? to : copy(span, size);
    }
    set_bytes(span, size);
    return lu__span_start(span) + lu__large_offset(span);
}

void *lu__large_resize_huge(void *block, size_t size, bool small_stay) {
    bool stays = is_huge(size) || (size >= LU_HUGE_MOVE_LEAST && small_stay);
    return stays ? lu__huge_resize(block, size) : NULL;
}
