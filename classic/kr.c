/*
 * kr.c - the storage allocator of Kernighan & Ritchie.
 *
 * Source: B. W. Kernighan, D. M. Ritchie, The C Programming Language, 2nd ed. 1988, section 8.7.
 *
 * The heap is made of units of 16 bytes, and every block begins with a header of one unit. The
 * free blocks are a circular list in the order of their addresses, with a block of no units, which
 * lies outside the heap, where the circle closes:
 *
 *      rover                              header, one unit
 *        |        +-------------------------------------+     +-----------------+-----------------+
 *        v        v                                     |     | next: free block| units: with the |
 *     [base 0]->[free 2| ][used 3| | ][free 6| | | | | ]+     | or IN_USE       | header          |
 *        ^                              |  ^   break -->|     +-----------------+-----------------+
 *        +------------------------------+  next fit cuts a block from its tail
 *
 * alloc goes round from the rover to the first block that is large enough, cuts the tail off (so
 * the list does not change, but for the number of units) and leaves the rover before it. When it
 * has come round in vain it raises the break by at least 1024 units (config.step_bytes), frees
 * what it got and goes on. The break never sinks. free goes round from the rover to the place where
 * the block belongs, and merges it with the neighbours on both sides.
 *
 * Worst case: both look at every free block, so time is linear in their number; as in every fit
 * that may leave holes, memory can come to the product of what is live and the largest block
 * (fit.c). A cut may leave a header alone, a free block that nobody can use until it is merged.
 *
 * The book has no check at all: there, freeing a block twice sends free round the circle for ever,
 * and a header that an overflow destroyed sends alloc anywhere. Here used blocks are marked
 * (IN_USE) and links are followed only upwards and inside the heap, so that both are told. Ours,
 * too, are alloc_aligned (cuts the ends off a larger block) and resize.
 *
 * For one thread.
 */
#include "classic/classic.h"

struct unit { /* a header */
    struct unit *next;
    size_t units;
};

struct kr {
    struct lu__classic heap;
    struct unit base;
    struct unit *rover; /* a free block, or base */
};

#define UNIT sizeof(struct unit)
#define LEAST_UNITS 1024u /* of a rise: NALLOC in the book */
#define IN_USE ((struct unit *)(uintptr_t)0x4b265220757365aau)

_Static_assert(UNIT == LU_CLASSIC_ALIGN, "a payload behind a header is aligned");

static struct kr *kr_of(struct lu__classic *self) {
    return (struct kr *)self;
}

static size_t units_for(size_t bytes) {
    return (bytes + UNIT - 1) / UNIT + 1;
}

static struct unit *heap_start(const struct kr *kr) {
    return (struct unit *)kr->heap.area.base;
}

static struct unit *heap_end(const struct kr *kr) {
    return (struct unit *)(kr->heap.area.base + kr->heap.area.broken);
}

/* ---------------------------------------------------------------- what can be believed */

static bool is_inside(const struct kr *kr, const struct unit *block) {
    uintptr_t offset = (uintptr_t)block - kr->heap.area.base;
    return offset < kr->heap.area.broken && offset % UNIT == 0;
}

/* True if the link from `block` to the next free one can be one, and that has a possible size. */
static bool is_link(const struct kr *kr, const struct unit *block) {
    const struct unit *next = block->next;
    if (next == &kr->base) return true;
    return is_inside(kr, next) && (block == &kr->base || next > block) &&
           next->units <= (size_t)(heap_end(kr) - next);
}

static bool is_used(const struct kr *kr, const struct unit *block) {
    return is_inside(kr, block) && block->next == IN_USE && block->units > 0 &&
           block->units <= (size_t)(heap_end(kr) - block);
}

static void tell_link(const struct kr *kr, const struct unit *block) {
    lu__classic_misuse(&kr->heap, "the list of free blocks was overwritten", block);
}

/* ---------------------------------------------------------------- the list */

/* The free block, or base, after which `block` belongs; NULL if the list is damaged. */
static struct unit *place_of(struct kr *kr, const struct unit *block) {
    struct unit *before = kr->rover;
    size_t steps = 0;
    for (;; before = before->next, steps++) {
        if (!is_link(kr, before)) {
            tell_link(kr, before);
            before = NULL;
            break;
        }
        const struct unit *next = before->next;
        if (before < block && block < next) break;
        bool closes = before >= next;
        if (closes && (block > before || block < next)) break;
    }
    LU_COUNT(&kr->heap, free_steps, steps);
    return before;
}

/* Into the list, merged with its neighbours. */
static void insert(struct kr *kr, struct unit *block) {
    struct unit *before = place_of(kr, block);
    if (before == NULL) {
        block->next = IN_USE; /* it is lost, but no further harm is done */
        return;
    }
    block->next = before->next;
    if (block + block->units == before->next) {
        block->units += before->next->units;
        block->next = before->next->next;
        LU_COUNT(&kr->heap, merges, 1);
    }
    if (before + before->units == block) {
        before->units += block->units;
        before->next = block->next;
        LU_COUNT(&kr->heap, merges, 1);
    } else {
        before->next = block;
    }
    kr->rover = before;
}

/* Raise the break: false if it cannot be. */
static bool more_core(struct kr *kr, size_t units) {
    size_t step = kr->heap.config.step_bytes;
    size_t least = step != 0 ? (step + UNIT - 1) / UNIT : LEAST_UNITS;
    if (units < least) units = least;
    struct unit *block = lu__area_sbrk(&kr->heap.area, (ptrdiff_t)(units * UNIT));
    if (block == NULL) return false;
    block->units = units;
    insert(kr, block);
    return true;
}

/* A used block of `units` from the free one after `before`, which has as many at least. */
static struct unit *cut(struct kr *kr, struct unit *before, size_t units) {
    struct unit *block = before->next;
    if (block->units == units) {
        before->next = block->next;
    } else {
        block->units -= units;
        block += block->units;
        block->units = units;
        LU_COUNT(&kr->heap, splits, 1);
    }
    block->next = IN_USE;
    kr->rover = before;
    return block;
}

static struct unit *obtain(struct kr *kr, size_t units) {
    size_t seen = 0;
    struct unit *before = kr->rover, *found = NULL;
    for (;;) {
        if (!is_link(kr, before)) {
            tell_link(kr, before);
            break;
        }
        struct unit *block = before->next;
        seen += block != &kr->base;
        if (block->units >= units) {
            found = cut(kr, before, units);
            break;
        }
        if (block != kr->rover) {
            before = block;
        } else if (more_core(kr, units)) {
            before = kr->rover;
        } else {
            break;
        }
    }
    LU_COUNT(&kr->heap, searches, seen);
    return found;
}

/* Make a used block smaller; the rest becomes free. */
static void shorten(struct kr *kr, struct unit *block, size_t units) {
    if (block->units == units) return;
    struct unit *rest = block + units;
    rest->units = block->units - units;
    block->units = units;
    LU_COUNT(&kr->heap, splits, 1);
    insert(kr, rest);
}

/* ---------------------------------------------------------------- calls */

static bool kr_init(struct lu__classic *self) {
    struct kr *kr = kr_of(self);
    kr->base.next = kr->rover = &kr->base;
    return true;
}

static void *kr_alloc(struct lu__classic *self, size_t bytes) {
    struct unit *block = obtain(kr_of(self), units_for(bytes));
    return block != NULL ? block + 1 : NULL;
}

static void *kr_alloc_aligned(struct lu__classic *self, size_t align, size_t bytes) {
    struct kr *kr = kr_of(self);
    size_t units = units_for(bytes);
    struct unit *block = obtain(kr, units + align / UNIT);
    if (block == NULL) return NULL;
    struct unit *aligned = (struct unit *)lu__align_up((uintptr_t)(block + 1), align) - 1;
    if (aligned != block) {
        size_t front = (size_t)(aligned - block);
        aligned->units = block->units - front;
        aligned->next = IN_USE;
        block->units = front;
        LU_COUNT(self, splits, 1);
        insert(kr, block);
    }
    shorten(kr, aligned, units);
    return aligned + 1;
}

static void kr_free(struct lu__classic *self, void *payload) {
    struct kr *kr = kr_of(self);
    struct unit *block = (struct unit *)payload - 1;
    if (!is_used(kr, block)) {
        lu__classic_misuse(self, "free of what is not in use, or its header was overwritten",
                           payload);
        return;
    }
    insert(kr, block);
}

/* A used block takes what it needs of the free one behind it. */
static bool lengthen(struct kr *kr, struct unit *block, size_t units) {
    struct unit *before = place_of(kr, block);
    if (before == NULL) return false;
    struct unit *next = before->next;
    if (next != block + block->units || block->units + next->units < units) return false;
    before->next = next->next;
    kr->rover = before;
    block->units += next->units;
    LU_COUNT(&kr->heap, merges, 1);
    return true;
}

static void *kr_resize(struct lu__classic *self, void *payload, size_t bytes) {
    struct kr *kr = kr_of(self);
    struct unit *block = (struct unit *)payload - 1;
    size_t units = units_for(bytes);
    if (units > block->units && !lengthen(kr, block, units)) return NULL;
    shorten(kr, block, units);
    return payload;
}

static size_t kr_usable_size(const struct lu__classic *self, const void *payload) {
    const struct unit *block = (const struct unit *)payload - 1;
    return is_used((const struct kr *)self, block) ? (block->units - 1) * UNIT : 0;
}

/* ---------------------------------------------------------------- walks */

static void kr_walk(struct lu__classic *self, lu__block_visit *visit, void *arg) {
    const struct kr *kr = kr_of(self);
    const struct unit *free = kr->base.next, *end = heap_end(kr);
    for (const struct unit *at = heap_start(kr); at < end; at += at->units) {
        struct lu__block block = {
            .start = (uintptr_t)at,
            .bytes = at->units * UNIT,
            .header = UNIT,
            .state = LU_BLOCK_FREE,
        };
        if (at == free) {
            free = at->next;
        } else {
            block.state = LU_BLOCK_USED;
            block.usable = block.bytes - UNIT;
        }
        if (!visit(arg, &block)) return;
    }
}

static bool wrong(struct lu__classic_fault *fault, const char *what, const struct unit *where) {
    *fault = (struct lu__classic_fault){what, (uintptr_t)where};
    return false;
}

/* Blocks tile the heap; the list has the free ones, by address, and no two that are neighbours;
 * what is not in it is marked as used; the rover is in it. */
static bool kr_validate(struct lu__classic *self, struct lu__classic_fault *fault) {
    const struct kr *kr = kr_of(self);
    const struct unit *before = &kr->base, *end = heap_end(kr);
    bool rover = kr->rover == &kr->base, free_before = false;
    if (!is_link(kr, before)) return wrong(fault, "the list does not begin in the heap", before);
    for (const struct unit *at = heap_start(kr); at < end; at += at->units) {
        if (at->units == 0 || at->units > (size_t)(end - at)) {
            return wrong(fault, "a header with an impossible size", at);
        }
        if (at != before->next) {
            if (at->next != IN_USE) {
                return wrong(fault, "a used block whose header was overwritten", at);
            }
            free_before = false;
            continue;
        }
        if (free_before) return wrong(fault, "two free neighbours that were not merged", at);
        if (!is_link(kr, at)) return wrong(fault, "a free block whose link was overwritten", at);
        rover = rover || kr->rover == at;
        free_before = true;
        before = at;
    }
    if (before->next != &kr->base) {
        return wrong(fault, "a link to where no block begins", before);
    }
    return rover || wrong(fault, "the rover is at no free block", kr->rover);
}

const struct lu__policy lu__policy_kr = {
    .name = "kr",
    .title = "Kernighan & Ritchie: circular list by address, next fit, cut from the tail",
    .source = "B. W. Kernighan, D. M. Ritchie, The C Programming Language, 2nd ed. 1988, 8.7",
    .state_bytes = sizeof(struct kr),
    .align = LU_CLASSIC_ALIGN,
    .linear = true,
    .init = kr_init,
    .alloc = kr_alloc,
    .alloc_aligned = kr_alloc_aligned,
    .free = kr_free,
    .resize = kr_resize,
    .usable_size = kr_usable_size,
    .walk = kr_walk,
    .validate = kr_validate,
};
