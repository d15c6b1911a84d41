/*
 * area.c - areas: a break that is simulated by mprotect, or the real one; and mappings.
 *
 * The mappings are an array in address order, in memory of its own. In a simulated area a new one
 * goes into the highest gap that has room, so its place depends on the calls alone; the mappings
 * never reach below the break. In the area of a process the kernel chooses.
 *
 * The break of the process is everybody's. Where it is when a call comes must be where the area
 * left it; if not, somebody else uses it, and the area can no longer move it.
 *
 * The kernel may refuse to take memory back (too many mappings). Then a simulated area keeps pages
 * accessible that need not be, cleared; `committed` tells how far. The area of a process loses the
 * address space, not the pages. In both cases the caller's memory is given back.
 *
 * All under area->lock.
 */
#include "classic/area.h"

#include <string.h>
#include <sys/syscall.h>

#include "classic/classic.h"
#include "os/kernel.h"
#include "os/os.h"

/* Where glibc's sbrk believes that the break is. It must be told, or a program that calls sbrk
 * counts from an old place and takes the break down into the heap. */
extern void *__curbrk __attribute__((weak));

/* brk(2) itself: libc's wrapper remembers where the break was last, and others may have moved it.
 * It tells where the break is afterwards, whether it moved or not. */
static uintptr_t move_real_break(uintptr_t to) {
    long now = lu__kernel_memory_call(SYS_brk, (long)to, 0, 0, 0, 0, 0);
    if (&__curbrk != NULL) __curbrk = (void *)now;
    return (uintptr_t)now;
}

static size_t pages_of(size_t bytes) {
    return lu__align_up(bytes, LU_OS_PAGE);
}

static void note_peak(struct lu__area *area) {
    area->peak = LU_MAX(area->peak, lu__area_held(area));
}

/* ---------------------------------------------------------------- life */

bool lu__area_init(struct lu__area *area, size_t limit, bool of_process) {
    *area = (struct lu__area){.limit = pages_of(limit), .of_process = of_process};
    if (of_process) {
        uintptr_t now = move_real_break(0), base = lu__align_up(now, LU_OS_PAGE);
        if (base != now && move_real_break(base) != base) return false;
        area->base = base;
        return true;
    }
    void *base;
    if (lu__os_reserve(area->limit, LU_AREA_ALIGN, &base) != 0) return false;
    area->base = (uintptr_t)base;
    return true;
}

void lu__area_fini(struct lu__area *area) {
    if (area->of_process) {
        for (size_t i = 0; i < area->mapping_count; i++) {
            (void)lu__os_unmap((void *)area->mappings[i].start, area->mappings[i].bytes);
        }
    } else {
        (void)lu__os_unmap((void *)area->base, area->limit);
    }
    if (area->mappings != NULL) {
        lu__classic_meta_free(area->mappings, area->mapping_room * sizeof *area->mappings);
    }
}

/* ---------------------------------------------------------------- the break */

/* What lies in whole pages is gone, and they read as zero. */
static void clear(void *at, size_t bytes) {
    if (lu__os_purge(at, bytes) != 0) memset(at, 0, bytes);
}

/* The end of what the break may reach. */
static size_t break_limit(const struct lu__area *area) {
    if (area->of_process || area->mapping_count == 0) return area->limit;
    return area->mappings[0].start - area->base;
}

static bool move_break(struct lu__area *area, size_t to) {
    if (area->of_process) {
        return move_real_break(0) == area->base + area->broken &&
               move_real_break(area->base + to) == area->base + to;
    }
    size_t pages = pages_of(to), had = area->committed;
    if (pages > had && lu__os_commit((void *)(area->base + had), pages - had) != 0) return false;
    if (pages < had) {
        void *from = (void *)(area->base + pages);
        clear(from, had - pages);
        area->committed = pages;
        if (lu__os_protect(from, had - pages) != 0) {
            return true; /* all of it or its end stays writable, zero, and is committed again */
        }
    }
    area->committed = pages;
    return true;
}

static void *sbrk_locked(struct lu__area *area, ptrdiff_t bytes) {
    void *old = (void *)(area->base + area->broken);
    if (bytes == 0) return old;
    size_t change = bytes < 0 ? 0 - (size_t)bytes : (size_t)bytes, to;
    if (bytes < 0) {
        if (change > area->broken) return NULL;
        to = area->broken - change;
    } else {
        if (change > break_limit(area) - area->broken) return NULL;
        if (change > area->limit - lu__area_held(area)) return NULL;
        to = area->broken + change;
    }
    if (!move_break(area, to)) return NULL;
    area->broken = to;
    area->break_moves++;
    note_peak(area);
    return old;
}

void *lu__area_sbrk(struct lu__area *area, ptrdiff_t bytes) {
    lu__lock_acquire(&area->lock);
    void *old = sbrk_locked(area, bytes);
    lu__lock_release(&area->lock);
    return old;
}

/* ---------------------------------------------------------------- the table of mappings */

/* The first mapping that ends above `at`; mapping_count if none does. */
static size_t mapping_above(const struct lu__area *area, uintptr_t at) {
    size_t low = 0, high = area->mapping_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct lu__mapping *mapping = &area->mappings[middle];
        if (mapping->start + mapping->bytes > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

static bool make_room(struct lu__area *area) {
    if (area->mapping_count < area->mapping_room) return true;
    size_t room = LU_MAX(2 * area->mapping_room, LU_OS_PAGE / sizeof(struct lu__mapping));
    struct lu__mapping *fresh = lu__classic_meta_alloc(room * sizeof *fresh);
    if (fresh == NULL) return false;
    if (area->mappings != NULL) {
        memcpy(fresh, area->mappings, area->mapping_count * sizeof *fresh);
        lu__classic_meta_free(area->mappings, area->mapping_room * sizeof *fresh);
    }
    area->mappings = fresh;
    area->mapping_room = room;
    return true;
}

/* There is room. */
static void insert(struct lu__area *area, uintptr_t start, size_t bytes) {
    size_t i = mapping_above(area, start);
    memmove(&area->mappings[i + 1], &area->mappings[i],
            (area->mapping_count - i) * sizeof *area->mappings);
    area->mappings[i] = (struct lu__mapping){start, bytes};
    area->mapping_count++;
    area->mapped += bytes;
    note_peak(area);
}

/* ---------------------------------------------------------------- mappings */

/* The highest place in a gap of a simulated area; 0 if there is none. */
static uintptr_t highest_gap(const struct lu__area *area, size_t bytes, size_t align) {
    uintptr_t end = area->base + area->limit;
    for (size_t i = area->mapping_count;; i--) {
        uintptr_t below = area->base + area->committed;
        if (i > 0) below = area->mappings[i - 1].start + area->mappings[i - 1].bytes;
        if (end - below >= bytes) {
            uintptr_t start = lu__align_down(end - bytes, align);
            if (start >= below) return start;
        }
        if (i == 0) return 0;
        end = area->mappings[i - 1].start;
    }
}

static void *map_locked(struct lu__area *area, size_t bytes, size_t align) {
    if (bytes > area->limit - lu__area_held(area) || !make_room(area)) return NULL;
    void *at = NULL;
    if (area->of_process) {
        if (lu__os_map(bytes, align, &at) != 0) return NULL;
    } else {
        at = (void *)highest_gap(area, bytes, align);
        if (at == NULL || lu__os_commit(at, bytes) != 0) return NULL;
    }
    insert(area, (uintptr_t)at, bytes);
    area->maps++;
    return at;
}

void *lu__area_map(struct lu__area *area, size_t bytes, size_t align) {
    if (bytes == 0 || bytes > area->limit) return NULL;
    lu__lock_acquire(&area->lock);
    void *at = map_locked(area, pages_of(bytes), LU_MAX(align, LU_OS_PAGE));
    lu__lock_release(&area->lock);
    return at;
}

/* Give pages back, or at least what is in them. */
static void drop(const struct lu__area *area, void *at, size_t bytes) {
    if (area->of_process) {
        if (lu__os_unmap(at, bytes) == 0 || lu__os_purge(at, bytes) == 0) return;
    } else {
        clear(at, bytes);
        if (lu__os_protect(at, bytes) != 0) return; /* it reads as zero */
    }
}

static void unmap_locked(struct lu__area *area, uintptr_t at, size_t bytes) {
    size_t i = mapping_above(area, at);
    LU_ASSERT(i < area->mapping_count);
    struct lu__mapping *mapping = &area->mappings[i];
    LU_ASSERT(at >= mapping->start && bytes <= mapping->bytes);
    drop(area, (void *)at, bytes);
    area->unmaps++;
    area->mapped -= bytes;
    if (at == mapping->start) mapping->start += bytes;
    mapping->bytes -= bytes;
    if (mapping->bytes != 0) return;
    area->mapping_count--;
    memmove(mapping, mapping + 1, (area->mapping_count - i) * sizeof *mapping);
}

void lu__area_unmap(struct lu__area *area, void *at, size_t bytes) {
    lu__lock_acquire(&area->lock);
    unmap_locked(area, (uintptr_t)at, pages_of(bytes));
    lu__lock_release(&area->lock);
}

/* ---------------------------------------------------------------- resizing a mapping */

/* The end of a mapping in a simulated area moves up; false if it cannot. */
static bool grow_here(struct lu__area *area, size_t i, size_t bytes) {
    struct lu__mapping *mapping = &area->mappings[i];
    uintptr_t end = area->base + area->limit, now = mapping->start + mapping->bytes;
    if (i + 1 < area->mapping_count) end = area->mappings[i + 1].start;
    size_t more = bytes - mapping->bytes;
    if (more > end - now || lu__os_commit((void *)now, more) != 0) return false;
    mapping->bytes = bytes;
    area->mapped += more;
    return true;
}

/* The kernel moves pages without a mapping more or less, and never holds both. */
static void *move_simulated(struct lu__area *area, void *at, size_t old_bytes, size_t bytes) {
    area->mapped -= old_bytes;
    void *now = map_locked(area, bytes, LU_OS_PAGE);
    area->mapped += old_bytes;
    if (now == NULL) return NULL;
    area->maps--;
    memcpy(now, at, old_bytes);
    unmap_locked(area, (uintptr_t)at, old_bytes);
    area->unmaps--;
    return now;
}

static void *remap_real(struct lu__area *area, void *at, size_t old_bytes, size_t bytes) {
    void *now;
    if (lu__os_remap(at, old_bytes, bytes, &now) != 0) return NULL;
    size_t i = mapping_above(area, (uintptr_t)at);
    area->mapped -= old_bytes;
    area->mapping_count--;
    memmove(&area->mappings[i], &area->mappings[i + 1],
            (area->mapping_count - i) * sizeof *area->mappings);
    insert(area, (uintptr_t)now, bytes);
    return now;
}

static void *grow_mapping(struct lu__area *area, void *at, size_t old_bytes, size_t bytes,
                          bool may_move) {
    if (bytes - old_bytes > area->limit - lu__area_held(area)) return NULL;
    if (area->of_process) return may_move ? remap_real(area, at, old_bytes, bytes) : NULL;
    if (grow_here(area, mapping_above(area, (uintptr_t)at), bytes)) return at;
    return may_move ? move_simulated(area, at, old_bytes, bytes) : NULL;
}

void *lu__area_remap(struct lu__area *area, void *at, size_t old_bytes, size_t new_bytes,
                     bool may_move) {
    if (new_bytes == 0 || new_bytes > area->limit) return NULL;
    size_t old_pages = pages_of(old_bytes), pages = pages_of(new_bytes);
    void *now = at;
    lu__lock_acquire(&area->lock);
    if (pages > old_pages) {
        now = grow_mapping(area, at, old_pages, pages, may_move);
        note_peak(area);
    } else if (pages < old_pages) {
        unmap_locked(area, (uintptr_t)at + pages, old_pages - pages);
        area->unmaps--; /* mremap(2) does that */
    }
    lu__lock_release(&area->lock);
    return now;
}

/* ---------------------------------------------------------------- the rest */

void lu__area_purge(struct lu__area *area, void *at, size_t bytes) {
    uintptr_t start = lu__align_up((uintptr_t)at, LU_OS_PAGE);
    uintptr_t end = lu__align_down((uintptr_t)at + bytes, LU_OS_PAGE);
    (void)area;
    /* Best effort: what stays resident does no harm. */
    if (end > start && lu__os_purge((void *)start, end - start) != 0) return;
}

bool lu__area_contains(struct lu__area *area, const void *at) {
    uintptr_t address = (uintptr_t)at;
    lu__lock_acquire(&area->lock);
    bool inside = address >= area->base && address - area->base < area->broken;
    if (!inside) {
        size_t i = mapping_above(area, address);
        inside = i < area->mapping_count && area->mappings[i].start <= address;
    }
    lu__lock_release(&area->lock);
    return inside;
}
