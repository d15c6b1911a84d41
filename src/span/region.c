/*
 * region.c - reserving address space and committing it, step by step.
 *
 * The first region is as large as the system allows, 1 TiB if nothing forbids it: then every
 * address is resolved by one subtraction. Where address space is limited (RLIMIT_AS) a region
 * takes a part of what is left, and further ones follow when it is full; their blocks are found
 * through the slow path of free.
 *
 * Reserved memory has no access rights, so it costs nothing under strict overcommit, is not
 * filled by mlockall and not written to core files. It is committed (made writable) in steps of an
 * eighth of what is committed already, between 1 and 64 MiB: few calls, and four mappings in all.
 *
 * Where the kernel forbids mprotect (EPERM or ENOSYS, from a seccomp filter), and with the option
 * `commit:0`, a region is open: all of it is writable from the start, and counts as committed. Such
 * regions are smaller, since strict overcommit counts them. What was committed before stays in use.
 *
 * Behind the descriptors of the first region one slice is never used, nor committed, so that its
 * descriptor stays zero: free lists end there (heap/link.c). It lies beside those of the first
 * runs, on a page that is touched anyway.
 *
 * Regions are only added. Writers hold lu__span_lock; readers need no lock: a region is filled in
 * before the count that reveals it is raised (release; partner: lu__region_of).
 */
#include <errno.h>

#include "base/options.h"
#include "os/os.h"
#include "span/span.h"

#define WINDOW ((size_t)1 << LU_WINDOW_SHIFT)
#define REGION_LEAST ((size_t)1 << 20)
#define DESC_STEP ((size_t)64 << 10)
#define OPEN_FIRST ((size_t)1 << 30) /* bytes of the first open region; the next are larger */

struct region lu__regions[LU_REGIONS];
uint32_t lu__region_count;
struct lu__lock lu__span_lock = LU_LOCK_INIT(LU_RANK_LEAF);
struct lu__span_figures lu__span_figures;
static bool commit_refused; /* under lu__span_lock */

struct region *lu__region_of(const void *address) {
    uint32_t count = __atomic_load_n(&lu__region_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        if ((uintptr_t)address - (uintptr_t)lu__regions[i].base < lu__regions[i].size) {
            return &lu__regions[i];
        }
    }
    return NULL;
}

struct span *lu__span_of(const struct region *region, const void *address) {
    size_t slice = (size_t)((const char *)address - region->base) >> LU_SLICE_SHIFT;
    uint32_t top = __atomic_load_n(&region->top, __ATOMIC_RELAXED);
    if (slice < region->first || slice >= top) return NULL;
    struct span *span = lu__region_desc(region, slice);
    if (span->kind == LU_KIND_INTERIOR) return span - span->slices;
    while (span->kind == LU_KIND_NONE || span->kind == LU_KIND_TAIL) {
        if (slice-- == region->first) return NULL;
        span = lu__region_desc(region, slice);
    }
    return span->kind == LU_KIND_META ? NULL : span;
}

char *lu__span_start(const struct span *span) {
    /* Descriptors stand in the first 1/512 of a region, so of several regions the one whose table
     * holds the descriptor is the region of the run. */
    const struct region *region = lu__region_of(span);
    size_t slice = (size_t)((const char *)span - region->base) >> LU_DESC_SHIFT;
    return region->base + (slice << LU_SLICE_SHIFT);
}

/* Regions are writable from the start: sandboxes that know mmap and no mprotect. */
static bool is_open(void) {
    return commit_refused || lu__option(LU_OPT_COMMIT) == 0;
}

static int reserve(size_t size, void **out) {
    return is_open() ? lu__os_map(size, WINDOW, out) : lu__os_reserve(size, WINDOW, out);
}

/* False: the system has no memory, or forbids the call, which it will do from now on. */
static bool commit(void *at, size_t size) {
    int error = lu__os_commit(at, size);
    if (error == EPERM || error == ENOSYS) commit_refused = true;
    return error == 0;
}

/* Reserve a region of `size` bytes or, halving, less, down to `least`. */
static bool reserve_at_most(size_t size, size_t least, struct region *region) {
    for (; size >= least; size = lu__align_up(size / 2, WINDOW)) {
        void *base;
        if (reserve(size, &base) == 0) {
            region->base = base;
            region->size = size;
            return true;
        }
        if (size == WINDOW) break;
    }
    return false;
}

/* Commit the descriptors of all slices below `slices`. */
static bool commit_descs(struct region *region, size_t slices) {
    size_t need = slices << LU_DESC_SHIFT;
    if (need <= region->desc_ready) return true;
    size_t whole = (size_t)region->first << LU_SLICE_SHIFT;
    size_t end = LU_MIN(lu__align_up(need, DESC_STEP), whole);
    size_t size = end - region->desc_ready;
    if (!commit(region->base + region->desc_ready, size)) return false;
    region->desc_ready = end;
    lu__span_figures.committed += size;
    return true;
}

/* Add a region that can hold a run of `slices` with some slices more for the alignment. */
static struct region *region_add(size_t slices) {
    uint32_t count = lu__region_count;
    if (count == LU_REGIONS) return NULL;
    size_t need = slices << LU_SLICE_SHIFT;
    size_t table = (need >> (LU_SLICE_SHIFT - LU_DESC_SHIFT)) + LU_SLICE;
    size_t unused = count == 0 ? 1 : 0;
    size_t least = lu__align_up(need + table + (need >> 8) + (unused << LU_SLICE_SHIFT), WINDOW);
    size_t wish = (size_t)lu__option(LU_OPT_RESERVE);
    if (is_open()) wish = LU_MIN(wish, OPEN_FIRST << LU_MIN(count, 8u));
    struct region region = {0};
    bool found = (count == 0 || is_open()) && wish >= least &&
                 reserve(lu__align_up(wish, WINDOW), (void **)&region.base) == 0;
    if (found) {
        region.size = lu__align_up(wish, WINDOW);
    } else {
        /* Leave most of a small address space to the program's own mappings. */
        size_t room = lu__os_address_space_limit();
        size_t size = room == SIZE_MAX ? wish / 2 : room / 8;
        size = lu__align_down(LU_MAX(LU_MAX(size, REGION_LEAST), least), WINDOW);
        if (!reserve_at_most(size, least, &region)) return NULL;
    }
    region.limit = (uint32_t)(region.size >> LU_SLICE_SHIFT);
    region.first = (uint32_t)(lu__align_up((size_t)region.limit << LU_DESC_SHIFT, LU_SLICE) >>
                              LU_SLICE_SHIFT) +
                   (uint32_t)unused;
    region.top = region.ready = region.first;
    if (is_open()) {
        region.desc_ready = (size_t)region.first << LU_SLICE_SHIFT;
        region.ready = region.limit;
        lu__span_figures.committed += region.size;
    } else if (count == 0 && !commit_descs(&region, region.first) && commit_refused) {
        return region_add(slices); /* of the one that cannot be used, only addresses are lost */
    }
    lu__regions[count] = region;
    lu__span_figures.reserved += region.size;
    __atomic_store_n(&lu__region_count, count + 1, __ATOMIC_RELEASE);
    return &lu__regions[count];
}

uintptr_t lu__region_zeros(void) {
    uintptr_t zeros = 0;
    lu__lock_acquire(&lu__span_lock);
    if (lu__region_count != 0 || region_add(1) != NULL) {
        struct region *region = &lu__regions[0];
        if (commit_descs(region, region->first)) {
            zeros = (uintptr_t)lu__region_desc(region, region->first - 1u);
        }
    }
    lu__lock_release(&lu__span_lock);
    return zeros;
}

/* Commit slices up to `end`, and more in advance where the system gives it. */
static bool commit_slices(struct region *region, size_t end) {
    size_t have = region->ready;
    if (end <= have) return true;
    size_t step = (have - region->first) / 8;
    step = LU_MIN(LU_MAX(step, LU_MIB >> LU_SLICE_SHIFT), (64 * LU_MIB) >> LU_SLICE_SHIFT);
    step = LU_MAX(step, (size_t)lu__option(LU_OPT_TOP_PAD) >> LU_SLICE_SHIFT);
    size_t wish = LU_MIN(LU_MAX(end, have + step), (size_t)region->limit);
    for (;;) {
        size_t size = (wish - have) << LU_SLICE_SHIFT;
        if (commit_descs(region, wish) && commit(region->base + (have << LU_SLICE_SHIFT), size)) {
            __atomic_store_n(&region->ready, (uint32_t)wish, __ATOMIC_RELEASE);
            lu__span_figures.committed += size;
            return true;
        }
        if (wish == end) return false;
        wish = end; /* not so much: just what is needed */
    }
}

bool lu__region_extend(size_t slices, size_t align_slices, struct region **out, uint32_t *slice,
                       uint32_t *skipped) {
    for (uint32_t i = 0;; i++) {
        if (i == lu__region_count) {
            /* Room for the alignment: slices are counted from the region's base, which is aligned
             * to the window only. */
            size_t margin = align_slices > 1 ? align_slices : 0;
            if (slices + margin < slices || slices + margin > (size_t)1 << 31) return false;
            if (region_add(slices + margin) == NULL) return false;
        }
        struct region *region = &lu__regions[i];
        size_t base_slice = (uintptr_t)region->base >> LU_SLICE_SHIFT;
        size_t start = lu__align_up(base_slice + region->top, align_slices) - base_slice;
        if (start + slices > region->limit) continue;
        if (!commit_slices(region, start + slices)) {
            if (!commit_refused) return false; /* the system has no memory */
            region->limit = region->ready;     /* what is writable already is used */
            continue;
        }
        *out = region;
        *slice = (uint32_t)start;
        *skipped = (uint32_t)start - region->top;
        return true;
    }
}
