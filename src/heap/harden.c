/*
 * harden.c - allocation and free of small blocks in a hardened heap, and its quarantine.
 *
 *     malloc  stash of the class (filled in random order from the spans' READY blocks)
 *             -> still zero and sealed? -> canary behind the request -> the program
 *     free    live? canary whole? neighbours? -> zeroed -> the heap's quarantine, first in first
 *             out, bounded by bytes -> READY, for the heap that owns the span
 *
 * So a block that is freed twice is found by its state at once, however long ago it was freed,
 * unless it has been handed out again meanwhile; a write to it is found when it is handed out
 * again; and it is handed out again only after `quarantine` bytes of other blocks were freed.
 * Compare hardened_malloc (Micay) and DieHarder (Novark and Berger, CCS 2010), whose ideas these
 * are: state out of line, random order, delayed reuse.
 *
 * Blocks of other threads' spans go into the freeing thread's quarantine, those of a lu_heap into
 * that heap's, under its lock, as it may be destroyed.
 */
#include "heap/harden.h"

#include <string.h>

#include "base/options.h"
#include "base/violation.h"
#include "heap/harden_parts.h"
#include "os/os.h"

struct lu__harden lu__harden;

static long level_option(enum lu__option id, long level0, long level1, long level2) {
    long value = lu__option(id), level = lu__option(LU_OPT_HARDEN);
    if (value >= 0) return value;
    return level == 0 ? level0 : level == 1 ? level1 : level2;
}

void lu__harden_init(void) {
    struct lu__harden h = {
        .level = (uint8_t)lu__option(LU_OPT_HARDEN),
        .random_order = level_option(LU_OPT_RANDOM_ORDER, 0, 1, 1) != 0,
        .zero_on_free = level_option(LU_OPT_ZERO_ON_FREE, 0, 1, 1) != 0,
        .guard_slices = level_option(LU_OPT_GUARD_SLICES, 0, 1, 1) != 0,
        .guard_large = level_option(LU_OPT_GUARD_LARGE, 0, 1, 1) != 0,
        .check_freed = (uint8_t)level_option(LU_OPT_CHECK_FREED, 0, 2, 2),
        .canary = (uint8_t)level_option(LU_OPT_CANARY, 0, 1, 2),
        .quarantine = (size_t)level_option(LU_OPT_QUARANTINE, 0, 16 * 1024, 1024 * 1024),
    };
    if (h.check_freed != 0) h.zero_on_free = true; /* what is looked for is a byte that is not 0 */
    h.canary_bytes = h.canary != 0 ? HARD_CANARY : 0;
    h.pairs = h.canary != 0;
    h.page_blocks = h.level == 2 && h.guard_large && lu__os_address_space_limit() == SIZE_MAX;
    h.on = h.random_order || h.zero_on_free || h.guard_slices || h.guard_large || h.canary != 0 ||
           h.quarantine != 0;
    h.quick = h.random_order && h.zero_on_free && h.check_freed != 0 && h.canary != 0 &&
              h.quarantine != 0;
    if (h.on) lu__harden = h; /* else no page is written at every start */
}

struct hard *lu__hard_make(void) {
    bool zero;
    struct span *run = lu__hard_meta(&zero);
    if (run == NULL) return NULL;
    struct hard *hard = (struct hard *)(void *)lu__span_start(run);
    if (!zero) memset(hard, 0, sizeof *hard);
    hard->random = lu__os_random() | 1;
    return hard;
}

/* ---------------------------------------------------------------- what a block is */

enum hard_place lu__hard_find(const struct span *span, const void *pointer, uintptr_t *block) {
    uintptr_t start = lu__hard_start(span, (uintptr_t)pointer);
    uint32_t offset = (uint32_t)((uintptr_t)pointer - start);
    if (offset >= __atomic_load_n(&span->limit, __ATOMIC_ACQUIRE)) return HARD_WILD;
    uint32_t index = lu__hard_index(span, offset);
    *block = start + (size_t)index * lu__class_size[span->class_id];
    uint8_t state = __atomic_load_n(lu__hard_states(span) + index, __ATOMIC_RELAXED);
    if (state == HARD_NEVER) return HARD_WILD;
    if (*block != (uintptr_t)pointer) return HARD_INTERIOR;
    return state == HARD_LIVE_BLOCK ? HARD_LIVE : HARD_FREE;
}

size_t lu__hard_block_bytes(const struct span *span) {
    return lu__hard_room(span->class_id);
}

size_t lu__hard_usable(const struct span *span, uintptr_t block) {
    uint32_t room = lu__hard_room(span->class_id), size = room;
    if (lu__hard_is_exact(room)) (void)lu__hard_sealed(block, room, &size);
    return size;
}

uint32_t lu__hard_live(const struct span *span) {
    const uint8_t *states = lu__hard_states(span);
    uint32_t live = 0;
    for (uint32_t i = 0; i < span->reserve; i++) {
        live += __atomic_load_n(&states[i], __ATOMIC_RELAXED) == HARD_LIVE_BLOCK;
    }
    return live;
}

/* ---------------------------------------------------------------- the quarantine */

void lu__hard_let_go(struct heap *heap, uint64_t entry) {
    unsigned c = lu__hard_entry_class(entry);
    uintptr_t block = lu__hard_entry_block(entry);
    struct span *span = (entry & HARD_FAR) != 0
                            ? lu__span_of(lu__region_of((void *)block), (void *)block)
                            : lu__hard_desc(block);
    struct hard_stash *stash = &heap->hard->stash[c];
    uint8_t *state = lu__hard_state(span, block);
    if (LU_UNLIKELY(__atomic_load_n(state, __ATOMIC_RELAXED) != HARD_QUARANTINED)) {
        /* Two threads freed it at the same instant, see harden_fast.c, and the other's has left. */
        lu__violation(LU_DOUBLE_FREE, "free", (void *)block, (void *)block, lu__hard_room(c));
    } else if (__atomic_load_n(&span->owner, __ATOMIC_RELAXED) == heap &&
               stash->count < HARD_STASH) {
        __atomic_store_n(state, HARD_STASHED, __ATOMIC_RELAXED);
        stash->blocks[stash->count++] = (struct hard_block){block, state};
    } else {
        lu__hard_ready(span, state);
    }
}

static void let_oldest_go(struct heap *heap) {
    struct hard *hard = heap->hard;
    uint64_t entry = hard->ring[hard->out++ % HARD_RING];
    hard->held -= lu__class_size[lu__hard_entry_class(entry)];
    lu__hard_let_go(heap, entry);
}

void lu__hard_settle(struct heap *heap) {
    struct hard *hard = heap->hard;
    /* The last freed block waits even if it is larger than all that may. */
    while ((hard->held > lu__harden.quarantine && hard->in - hard->out > 1) ||
           hard->in - hard->out == HARD_RING) {
        let_oldest_go(heap);
    }
}

void lu__hard_detain(struct heap *heap, uint64_t entry) {
    struct hard *hard = heap->hard;
    hard->ring[hard->in++ % HARD_RING] = entry;
    hard->held += lu__class_size[lu__hard_entry_class(entry)];
    lu__hard_settle(heap);
}

/* ---------------------------------------------------------------- allocation */

/* The class for a request; LU_CLASSES if it is large. With a canary, blocks are multiples of 16
 * bytes, which harden_fast.c relies on. */
static unsigned class_for(size_t align, size_t size) {
    if (size > LU_CLASS_BYTES_MAX) return LU_CLASSES;
    size_t room = size + lu__harden.canary_bytes;
    if (room > LU_CLASS_BYTES_MAX) return LU_CLASSES;
    bool tiny = align <= 8 && size < 16 && lu__harden.canary_bytes == 0;
    if (align <= 16) return lu__class_of(tiny ? room : LU_MAX(room, 16));
    return lu__class_of_aligned(align, room);
}

/* Still as it was left? If not, that is reported and the block stays out of use. */
static bool is_untouched(const struct hard_block *taken, unsigned c) {
    uint32_t room = lu__hard_room(c), size;
    if (!lu__harden.check_freed) return true;
    bool sealed = lu__harden.canary == 0 ||
                  (lu__hard_sealed(taken->block, room, &size) && size == room);
    if (LU_LIKELY(sealed && lu__hard_is_zero(taken->block, room))) return true;
    __atomic_store_n(taken->state, HARD_CONDEMNED, __ATOMIC_RELAXED);
    lu__violation(LU_WRITE_AFTER_FREE, "malloc", (void *)taken->block, (void *)taken->block,
                  lu__hard_room(c));
    return false;
}

static void *alloc_small(struct heap *heap, unsigned c, size_t size, bool *zero) {
    struct hard *hard = heap->hard;
    struct hard_stash *stash = &hard->stash[c];
    struct hard_block taken;
    do {
        if (stash->count == 0 && !lu__hard_refill(heap, c)) return NULL;
        uint32_t pick = stash->count - 1;
        if (lu__harden.random_order) pick = lu__hard_pick(hard, stash->count);
        taken = stash->blocks[pick];
        lu__hard_take(stash, pick);
    } while (!is_untouched(&taken, c));
    __atomic_store_n(taken.state, HARD_LIVE_BLOCK, __ATOMIC_RELAXED);
    *zero = lu__harden.check_freed != 0;
    uint32_t room = lu__hard_room(c);
    if (lu__hard_is_exact(room) && size < room) {
        lu__hard_seal(taken.block, room, (uint32_t)size);
    }
    return (void *)taken.block;
}

static void *alloc_once(struct heap *heap, size_t align, size_t size, bool *zero) {
    struct heap *user = heap->kind == LU_HEAP_OF_USER ? heap : NULL;
    unsigned c = class_for(align, size);
    bool page_block = lu__harden.page_blocks && size >= LU_OS_PAGE / 2 && lu__hard_may_guard();
    if (c < LU_CLASSES && !page_block) return alloc_small(heap, c, size, zero);
    lu__tick(heap);
    void *block = lu__hard_large_alloc(user, align, size, zero);
    return block == NULL && c < LU_CLASSES ? alloc_small(heap, c, size, zero) : block;
}

void *lu__hard_alloc(struct heap *heap, size_t align, size_t size, bool *zero) {
    void *block = alloc_once(heap, align, size, zero);
    if (LU_LIKELY(block != NULL) || size > (size_t)PTRDIFF_MAX) return block;
    /* What waits to be used again may be as much as is asked for. */
    while (heap->hard->in != heap->hard->out) let_oldest_go(heap);
    lu__hard_large_flush();
    lu__hard_sweep(heap);
    return alloc_once(heap, align, size, zero);
}

/* ---------------------------------------------------------------- free */

/* True if the block may be used again. */
static bool check_freed(const struct span *span, uintptr_t block, const char *call) {
    uint32_t size, room = lu__hard_room(span->class_id);
    if (lu__harden.canary != 0 && !lu__hard_sealed(block, room, &size)) {
        lu__violation(LU_OVERFLOW, call, (void *)block, (void *)block, room);
        lu__hard_seal(block, room, room); /* told once: the next block looks at it as well */
        return false;
    }
    if (lu__harden.pairs && lu__hard_is_array(block, room)) {
        lu__violation(LU_DELETE_MISMATCH, call, (void *)block, (void *)block, room);
    }
    lu__hard_check_around(span, block, call);
    return true;
}

void lu__hard_free(struct heap *self, struct span *span, uintptr_t block, const char *call) {
    struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    bool of_user = owner->kind == LU_HEAP_OF_USER;
    uint8_t *state = lu__hard_state(span, block);
    unsigned c = span->class_id;
    /* Of two threads that free the same block at once, one finds it gone. */
    uint8_t live = HARD_LIVE_BLOCK;
    if (!__atomic_compare_exchange_n(state, &live, HARD_FREEING, false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED)) {
        lu__violation(LU_DOUBLE_FREE, call, (void *)block, (void *)block, lu__hard_room(c));
        return;
    }
    if (!check_freed(span, block, call)) {
        __atomic_store_n(state, HARD_CONDEMNED, __ATOMIC_RELEASE);
        return;
    }
    uint32_t room = lu__hard_room(c);
    if (lu__harden.zero_on_free) memset((void *)block, 0, room);
    if (lu__harden.canary != 0) lu__hard_seal(block, room, room);
    __atomic_store_n(state, HARD_QUARANTINED, __ATOMIC_RELEASE);
    struct heap *keeper = of_user ? owner : self;
    if (of_user && owner->shared) lu__lock_acquire(&owner->lock);
    if (keeper != NULL && lu__harden.quarantine != 0) {
        lu__hard_detain(keeper, lu__hard_entry(c, block) | HARD_FAR);
    } else {
        lu__hard_ready(span, state);
    }
    if (of_user && owner->shared) lu__lock_release(&owner->lock);
}

/* ---------------------------------------------------------------- new[] and delete[] */

/* The hardened span of small blocks in which `block` is live, or NULL. */
static const struct span *live_span(const void *block) {
    const struct region *region = lu__region_of(block);
    const struct span *span = region != NULL ? lu__span_of(region, block) : NULL;
    uintptr_t start;
    if (span == NULL || span->kind != LU_KIND_SMALL || !span->hardened) return NULL;
    return lu__hard_find(span, block, &start) == HARD_LIVE ? span : NULL;
}

void lu__hard_array_made_long(void *block) {
    const struct span *span = live_span(block);
    if (span != NULL) lu__hard_set_array((uintptr_t)block, lu__hard_room(span->class_id), true);
}

void lu__hard_array_ends_long(const void *block) {
    const struct span *span = live_span(block);
    if (span == NULL) return;
    uint32_t room = lu__hard_room(span->class_id);
    if (lu__hard_is_array((uintptr_t)block, room)) {
        lu__hard_set_array((uintptr_t)block, room, false);
    } else if (lu__hard_has_canary((uintptr_t)block, room)) { /* else its free tells of more */
        lu__violation(LU_DELETE_MISMATCH, "operator delete[]", block, block, room);
    }
}

/* ---------------------------------------------------------------- resize */

bool lu__hard_resize(struct span *span, uintptr_t block, size_t size) {
    if (class_for(8, size) != span->class_id) return false;
    uint32_t room = lu__hard_room(span->class_id);
    if (lu__hard_is_exact(room)) lu__hard_seal(block, room, (uint32_t)size);
    return true;
}

bool lu__hard_size_matches(const struct span *span, size_t usable, size_t align, size_t size) {
    if (span->kind != LU_KIND_SMALL) return usable == LU_MAX(size, 1);
    if (span->class_id != class_for(align, size)) return false;
    return !lu__hard_is_exact(lu__hard_room(span->class_id)) || usable == size;
}
