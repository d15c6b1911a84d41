/*
 * region.c - address space: lucid maps it step by step, as it is needed.
 *
 *     | descriptors -> |  free addresses | slices -> |  free addresses |   | the kernel's mappings
 *     a random place, terabytes below                                  limit
 *
 * A region is a place far from where the kernel puts mappings, with as many free addresses as it
 * may ever need: 1 TiB if the address space has 47 bits. None of it is reserved. Both parts are
 * mapped from their bottom up, each piece at the end of the last one and only if no other mapping
 * is there (as Go's runtime does with its arenas). So the process has no more addresses than it
 * uses; those are what RLIMIT_AS, mlockall, core files and tools that show sizes count. Every
 * address is resolved by one subtraction all the same.
 *
 * Where another mapping is in the way the region ends, and another region follows; free finds the
 * blocks of later regions on its slow path. Where no place is found, a region is one plain mapping
 * at an address that the kernel chooses, with the table behind it, and is soon full.
 *
 * Slices are mapped in steps of a sixteenth of what is mapped, between 1 and 64 MiB. That takes few
 * calls, and two mappings in all, because the kernel joins neighbouring mappings. Where addresses
 * are limited, a step takes only a small part of those that are left, and if that fails, only what
 * is needed. The top comes down again when the memory below it goes back (run.c). Descriptors stay:
 * a thread may look at those of slices that no longer exist.
 *
 * In front of the descriptors there is one that stands for no slice and stays zero: in the first
 * region free lists end there (heap/link.c). It lies beside the descriptors of the first runs, on a
 * page that is touched anyway.
 *
 * Regions are only added. Writers hold lu__span_lock; readers need no lock: a region is filled in
 * before the count that reveals it is raised (release; partner: lu__region_of).
 */
#include <errno.h>

#include "base/options.h"
#include "os/os.h"
#include "span/span.h"

#define WINDOW ((size_t)1 << LU_WINDOW_SHIFT)
#define PLACE_ALIGN (2 * LU_MIB) /* of the first slice: pages of that size can be used */
#define TRIES_NEAR 4u /* for places where regions are to be                                */
#define TRIES 12u     /* and then anywhere in between: the first may be occupied           */
#define PLAIN_FROM (LU_REGIONS / 2) /* such a region is whole: no mapping can get in its way */
#define PLAIN_LARGE 16u             /* from this on they grow with what is mapped        */
#define TABLE_STEP ((size_t)64 << 10)
#define DESC ((size_t)1 << LU_DESC_SHIFT)
#define STEP_MOST ((size_t)64 * LU_MIB)
#define ROOM_PART 32u /* of the addresses that are left, what one step takes */
#if LU_TSAN           /* its shadow is of a small part of the address space, at the upper end */
#define SIZE_PART 2048u
#define PLACE_PART 2048u
#define PLACE_SPREAD 1024u
#else
#define SIZE_PART 16u   /* of the address space that a region can have at most,                */
#define PLACE_PART 64u  /* that is between it and the kernel's mappings,                       */
#define PLACE_SPREAD 8u /* and over which regions are spread                                   */
#endif

#define LOW_END ((uintptr_t)1 << 37) /* of address spaces of any size it is the lower end */
#define UPPER ((uintptr_t)1 << 41)

struct region lu__regions[LU_REGIONS];
uint32_t lu__region_count;
struct lu__lock lu__span_lock = LU_LOCK_INIT(LU_RANK_LEAF);
struct lu__span_figures lu__span_figures;

/* ---------------------------------------------------------------- which region? */

struct region *lu__region_of(const void *address) {
    uint32_t count = __atomic_load_n(&lu__region_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        struct region *region = &lu__regions[i];
        size_t slice = ((uintptr_t)address - (uintptr_t)region->base) >> LU_SLICE_SHIFT;
        if (slice < __atomic_load_n(&region->ready, __ATOMIC_RELAXED)) return region;
    }
    return NULL;
}

struct region *lu__region_of_desc(const struct span *desc) {
    uint32_t count = __atomic_load_n(&lu__region_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        struct region *region = &lu__regions[i];
        size_t at = (uintptr_t)desc - (uintptr_t)(region->table - 1);
        if (at < __atomic_load_n(&region->table_bytes, __ATOMIC_RELAXED)) return region;
    }
    return NULL;
}

bool lu__region_had(const void *address) {
    uint32_t count = __atomic_load_n(&lu__region_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count; i++) {
        const struct region *region = &lu__regions[i];
        size_t slice = ((uintptr_t)address - (uintptr_t)region->base) >> LU_SLICE_SHIFT;
        if (slice < __atomic_load_n(&region->had, __ATOMIC_RELAXED) &&
            slice >= __atomic_load_n(&region->top, __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

bool lu__region_is_table(const void *address) {
    return lu__region_of_desc(address) != NULL;
}

struct span *lu__span_of(const struct region *region, const void *address) {
    size_t slice = (size_t)((const char *)address - region->base) >> LU_SLICE_SHIFT;
    uint32_t top = __atomic_load_n(&region->top, __ATOMIC_RELAXED);
    if (slice >= top) return NULL;
    struct span *span = lu__region_desc(region, slice);
    if (span->kind == LU_KIND_INTERIOR) return span - span->slices;
    while (span->kind == LU_KIND_NONE || span->kind == LU_KIND_TAIL) {
        if (slice-- == 0) return NULL;
        span = lu__region_desc(region, slice);
    }
    return span->kind == LU_KIND_META ? NULL : span;
}

char *lu__span_start(const struct span *span) {
    const struct region *region = lu__region_of_desc(span);
    size_t at = (uintptr_t)span - (uintptr_t)region->table;
    return region->base + (at << (LU_SLICE_SHIFT - LU_DESC_SHIFT));
}

/* ---------------------------------------------------------------- mapping */

static size_t table_bytes(size_t slices) {
    return lu__align_up((slices + 1) * DESC, TABLE_STEP);
}

/* Map the descriptors of all slices below `slices`; 0 or an errno value. */
static int map_table(struct region *region, size_t slices) {
    size_t have = region->table_bytes, need = table_bytes(slices);
    if (need <= have) return 0;
    int error = lu__os_claim((char *)(region->table - 1) + have, need - have);
    if (error != 0) return error;
    __atomic_store_n(&region->table_bytes, need, __ATOMIC_RELEASE);
    lu__span_figures.mapped += need - have;
    return 0;
}

static int map_to(struct region *region, size_t start, size_t end) {
    size_t bytes = (end - start) << LU_SLICE_SHIFT;
    int error = map_table(region, end);
    if (error == 0) error = lu__os_claim(region->base + (start << LU_SLICE_SHIFT), bytes);
    if (error != 0) return error;
    __atomic_store_n(&region->ready, (uint32_t)end, __ATOMIC_RELEASE);
    lu__span_figures.mapped += bytes;
    return 0;
}

/* How many more slices to map in advance. */
static size_t step_slices(void) {
    size_t step = LU_MIN(lu__span_figures.mapped / 16, STEP_MOST);
    step = LU_MAX(step, LU_MIB);
    step = LU_MAX(step, (size_t)lu__option(LU_OPT_TOP_PAD));
    return LU_MIN(step, lu__run_room() / ROOM_PART) >> LU_SLICE_SHIFT;
}

/* Map slices from `start` to `end`, and more in advance where the system allows it. EEXIST: another
 * mapping is there, and the region cannot grow from now on; other errno values: no memory. */
static int map_slices(struct region *region, size_t start, size_t end) {
    if (end <= region->ready) return 0;
    size_t wish = LU_MIN(LU_MAX(end, start + step_slices()), (size_t)region->limit);
    int error = map_to(region, start, wish);
    if (error != 0 && wish != end) error = map_to(region, start, end); /* just what is needed */
    if (error == EEXIST) region->limit = region->ready;
    return error;
}

int lu__region_fill(struct span *head, size_t slices) {
    size_t bytes = slices << LU_SLICE_SHIFT;
    int error = lu__os_claim(lu__span_start(head), bytes);
    if (error == 0) lu__span_figures.mapped += bytes;
    return error;
}

/* Unmap what was mapped in advance. At worst the region in fork's child believes that too little is
 * mapped, and then finds its own memory in the way. */
static bool unmap_advance(struct region *region) {
    uint32_t ready = region->ready, top = region->top;
    size_t bytes = (size_t)(ready - top) << LU_SLICE_SHIFT;
    if (bytes == 0) return true;
    __atomic_store_n(&region->ready, top, __ATOMIC_RELEASE);
    if (lu__os_unmap(region->base + ((size_t)top << LU_SLICE_SHIFT), bytes) != 0) {
        __atomic_store_n(&region->ready, ready, __ATOMIC_RELEASE);
        return false;
    }
    lu__span_figures.mapped -= bytes;
    return true;
}

bool lu__region_lower(struct region *region, size_t slice) {
    if (!unmap_advance(region)) return false;
    __atomic_store_n(&region->had, LU_MAX(region->had, region->top), __ATOMIC_RELAXED);
    __atomic_store_n(&region->ready, (uint32_t)slice, __ATOMIC_RELEASE);
    __atomic_store_n(&region->top, (uint32_t)slice, __ATOMIC_RELEASE);
    return true;
}

size_t lu__region_trim(size_t keep) {
    size_t before = lu__span_figures.mapped;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        struct region *region = &lu__regions[i];
        size_t advance = (size_t)(region->ready - region->top) << LU_SLICE_SHIFT;
        if (advance > keep && !region->plain && !unmap_advance(region)) break;
    }
    return before - lu__span_figures.mapped;
}

void lu__region_settle(struct region *region) {
    LU_SET(region->top, LU_MIN(region->top, region->ready)); /* it was being lowered */
    /* Or it was being mapped, behind a part that is passed over. */
    if (!region->plain && !unmap_advance(region)) region->limit = region->ready = region->top;
}

/* ---------------------------------------------------------------- a new region */

/* True if a region may grow into this part of the address space. */
static bool is_taken(uintptr_t at, size_t bytes) {
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        uintptr_t start = LU_MIN((uintptr_t)region->table, (uintptr_t)region->base);
        uintptr_t end = (uintptr_t)region->base + ((size_t)region->limit << LU_SLICE_SHIFT);
        if (at < end && start < at + bytes) return true;
    }
    return false;
}

/* The address for a region of `size` bytes, with its table: below the kernel's mappings, or `far`
 * below them; above them, where they begin at the lower end of the address space (under valgrind).
 * 0: there is no place. */
static uintptr_t choose(uintptr_t kernels, size_t size, size_t table, bool far) {
    if (kernels < LOW_END) return lu__align_up(UPPER + lu__os_random() % UPPER, PLACE_ALIGN);
    size_t margin = kernels / PLACE_PART, spread = kernels / PLACE_SPREAD;
    if (size + table + margin + spread >= kernels / 2) return 0;
    if (far && !LU_TSAN) spread = kernels - size - table - 2 * margin;
    size_t away = margin + lu__os_random() % spread;
    return lu__align_down(kernels - away - size, PLACE_ALIGN);
}

/* Try one place for a region with room for `slices`. 0; EEXIST: another mapping is there; or
 * another errno value. */
static int try_place(uintptr_t kernels, size_t slices, bool far, struct region *region) {
    size_t size_least = lu__align_up(slices << LU_SLICE_SHIFT, PLACE_ALIGN);
    size_t size_most = LU_MAX(kernels, LOW_END) / SIZE_PART;
    size_t wish = LU_MIN((size_t)lu__option(LU_OPT_RESERVE), size_most);
    size_t size = LU_MAX(lu__align_up(wish, PLACE_ALIGN), size_least);
    size_t table = lu__align_up(table_bytes(size >> LU_SLICE_SHIFT), PLACE_ALIGN);
    uintptr_t base = choose(kernels, size, table, far);
    if (base == 0) return ENOMEM;
    if (is_taken(base - table, table + size)) return EEXIST;
    *region = (struct region){.base = (char *)base,
                              .table = (struct span *)(base - table) + 1,
                              .limit = (uint32_t)(size >> LU_SLICE_SHIFT)};
    int error = map_slices(region, 0, 1);
    if (error != 0 && region->table_bytes != 0) {
        lu__os_unmap(region->table - 1, region->table_bytes);
        lu__span_figures.mapped -= region->table_bytes;
    }
    return error;
}

/* One mapping of `slices` and, behind them, their table, wherever the kernel finds room. */
static bool map_plain(size_t slices, struct region *region) {
    void *base;
    size_t bytes = slices << LU_SLICE_SHIFT;
    if (lu__os_map(bytes + table_bytes(slices), WINDOW, &base) != 0) return false;
    *region = (struct region){.base = base,
                              .table = (struct span *)(void *)((char *)base + bytes) + 1,
                              .table_bytes = table_bytes(slices),
                              .limit = (uint32_t)slices,
                              .ready = (uint32_t)slices,
                              .plain = true};
    lu__span_figures.mapped += bytes + region->table_bytes;
    return true;
}

/* Add a region for `slices`. */
static bool region_add(size_t slices) {
    uint32_t count = lu__region_count;
    if (count == LU_REGIONS) return false;
    struct region region;
    int error = EEXIST;
    uintptr_t kernels = count < PLAIN_FROM ? lu__os_place() : 0;
    for (unsigned tries = 0; tries < TRIES && error == EEXIST && kernels != 0; tries++) {
        error = try_place(kernels, slices, tries >= TRIES_NEAR, &region);
    }
    if (error != 0) {
        size_t more = LU_MAX(lu__span_figures.mapped / 2, 4 * LU_MIB);
        if (count < PLAIN_LARGE) more = LU_MIN(more, STEP_MOST);
        more = LU_MIN(more, lu__run_room() / ROOM_PART) >> LU_SLICE_SHIFT;
        while (!map_plain(LU_MAX(slices, more), &region)) {
            if (more <= slices) return false;
            more /= 2;
        }
    }
    lu__regions[count] = region;
    __atomic_store_n(&lu__region_count, count + 1, __ATOMIC_RELEASE);
    return true;
}

uintptr_t lu__region_zeros(void) {
    uintptr_t zeros = 0;
    lu__lock_acquire(&lu__span_lock);
    if (lu__region_count != 0 || region_add(1)) zeros = (uintptr_t)(lu__regions[0].table - 1);
    lu__lock_release(&lu__span_lock);
    return zeros;
}

/* Map `slices` from `start` on, or find them mapped. 0 or an errno value. */
static int map_fresh(size_t start, size_t slices, bool (*may_skip)(size_t slices),
                     struct lu__fresh *fresh) {
    struct region *region = fresh->region;
    fresh->slice = (uint32_t)start;
    fresh->skipped = (uint32_t)start - region->top;
    fresh->hole = start > region->ready && may_skip(fresh->skipped) && unmap_advance(region);
    return map_slices(region, fresh->hole ? start : region->ready, start + slices);
}

bool lu__region_extend(size_t slices, size_t align_slices, bool (*may_skip)(size_t slices),
                       struct lu__fresh *fresh) {
    for (uint32_t i = 0;; i++) {
        if (i == lu__region_count) {
            /* Room for the alignment: slices are counted from the region's base, which is aligned
             * to the window only. */
            size_t margin = align_slices > 1 ? align_slices : 0;
            if (slices + margin < slices || slices + margin > (size_t)1 << 31) return false;
            if (!region_add(slices + margin)) return false;
        }
        struct region *region = &lu__regions[i];
        size_t base_slice = (uintptr_t)region->base >> LU_SLICE_SHIFT;
        size_t start = lu__align_up(base_slice + region->top, align_slices) - base_slice;
        if (start + slices > region->limit) continue;
        fresh->region = region;
        int error = map_fresh(start, slices, may_skip, fresh);
        if (error != EEXIST) return error == 0; /* else the system has no memory */
    }
}
