/*
 * blocks.c - allocation and free of small blocks in a hardened heap, and its quarantine.
 *
 *     malloc  stash of the class, in random order (filled from the spans' READY blocks)
 *             -> still zero and sealed? -> canary behind the request -> the program
 *     free    live? canary whole? neighbours? -> zeroed -> the heap's quarantine, first in first
 *             out, bounded by bytes -> the stash; or READY, for the heap that owns the span
 *
 * So a block that is freed twice is found by its canary at once, however long ago it was freed,
 * unless it has been handed out again meanwhile; a write to it is found when it is handed out
 * again; and it is handed out again only after `quarantine` bytes of other blocks were freed.
 * Compare hardened_malloc (Micay), whose quarantine by size class this is, and DieHarder (Novark
 * and Berger, CCS 2010): random order, delayed reuse.
 *
 * Blocks of other threads' spans are held back by the freeing thread, those of a lu_heap by that
 * heap, under its lock, as it may be destroyed.
 */
#include "harden/harden.h"

#include <string.h>

#include "base/options.h"
#include "base/violation.h"
#include "harden/parts.h"
#include "os/os.h"

#define NO_TSAN __attribute__((no_sanitize("thread")))

struct lu__harden lu__harden;
uint64_t lu__hard_secret;

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
        .quarantine = (size_t)level_option(LU_OPT_QUARANTINE, 0, 8 * 1024, 1024 * 1024),
    };
    if (h.check_freed != 0) h.zero_on_free = true; /* what is looked for is a byte that is not 0 */
    h.rings = h.quarantine > HARD_BYTES;
    h.array_pairs = h.canary != 0;
    h.page_blocks = h.level == 2 && h.guard_large && lu__os_address_space_limit() == SIZE_MAX;
    h.on = h.random_order || h.zero_on_free || h.guard_slices || h.guard_large || h.canary != 0 ||
           h.quarantine != 0;
    h.short_ways = h.random_order && h.check_freed == 2 && h.canary != 0 && h.quarantine != 0;
    if (!h.on) return; /* no page is written at every start */
    if (lu__hard_secret == 0) {
        lu__hard_secret = lu__os_random() | (uint64_t)1 << 63; /* no address: no hash is 0 */
    }
    lu__harden = h;
}

static uint32_t power_below(uint32_t n) {
    return n < 2 ? 1 : (uint32_t)1 << lu__log2(n);
}

static void lay_out(struct hard *hard) {
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        struct hard_class *class = &hard->classes[c];
        uint32_t size = lu__class_size[c];
        uint32_t wait = power_below((uint32_t)LU_MIN(lu__harden.quarantine, LU_SLICE) / size);
        uint32_t most = power_below((uint32_t)HARD_BYTES / size);
        class->size = size;
        class->capacity = (uint16_t)LU_MIN(LU_MAX(most / 2, 1), HARD_STASH);
        class->waits = lu__harden.quarantine != 0 && !lu__harden.rings;
        class->mask = (uint16_t)(LU_MIN(LU_MIN(wait, most), HARD_FIFO) - 1);
        class->exact = lu__hard_is_exact(size - HARD_CANARY);
        if (size >= 32 && size <= 512) class->short_below = LU_SLICE - 2 * size;
    }
}

struct hard *lu__hard_make(void) {
    bool zero;
    struct span *run = lu__hard_meta((sizeof(struct hard) + LU_SLICE - 1) / LU_SLICE, &zero);
    if (run == NULL) return NULL;
    struct hard *hard = (struct hard *)(void *)lu__span_start(run);
    if (!zero) memset(hard, 0, sizeof *hard);
    hard->random = lu__os_random() | 1;
    lay_out(hard);
    return hard;
}

/* ---------------------------------------------------------------- what a block is */

enum lu__block_is lu__hard_find(const struct span *span, const void *pointer, uintptr_t *block) {
    uintptr_t start = lu__hard_start(span, (uintptr_t)pointer);
    uint32_t offset = (uint32_t)((uintptr_t)pointer - start);
    if (offset >= __atomic_load_n(&span->limit, __ATOMIC_ACQUIRE)) return LU_IS_WILD;
    uint32_t index = lu__hard_index(span, offset);
    *block = start + (size_t)index * lu__class_size[span->class_id];
    uint8_t state = __atomic_load_n(lu__hard_states(span) + index, __ATOMIC_RELAXED);
    if (state == HARD_NEVER) return LU_IS_WILD;
    if (*block != (uintptr_t)pointer) return LU_IS_INTERIOR;
    return state != HARD_OUT || lu__hard_is_gone(span, *block) ? LU_IS_FREE : LU_IS_LIVE;
}

size_t lu__hard_block_bytes(const struct span *span) {
    return lu__hard_room(span->class_id);
}

size_t lu__hard_usable(const struct span *span, uintptr_t block) {
    uint32_t room = lu__hard_room(span->class_id);
    return lu__hard_is_exact(room) ? lu__hard_size(block, room) : room;
}

/* The span may be ending, and its states be another's: then the counts are wrong, and no more, as
 * that memory stays. So this is not looked at by the thread sanitizer, which does watch atomic
 * accesses. */
NO_TSAN struct lu__hard_counts lu__hard_count(const struct span *span) {
    uintptr_t head = *(const volatile uintptr_t *)&span->head;
    const volatile uint8_t *states = (const uint8_t *)head;
    struct lu__hard_counts counts = {0};
    if (head == LU_LIST_END) return counts; /* it has just ended */
    uint32_t carved = LU_RELAXED(span->limit) / lu__class_size[span->class_id];
    uint32_t room = lu__hard_room(span->class_id);
    uintptr_t block = (uintptr_t)lu__span_start(span);
    bool exact = lu__hard_is_exact(room);
    for (uint32_t i = 0; i < carved; i++, block += lu__class_size[span->class_id]) {
        if (states[i] != HARD_OUT) continue;
        if (lu__hard_is_free(block, room)) {
            counts.kept++;
        } else {
            counts.live++;
            counts.live_bytes += exact ? lu__hard_size(block, room) : room;
        }
    }
    return counts;
}

/* ---------------------------------------------------------------- the quarantine */

static void give_back(const uintptr_t *blocks, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (blocks[i] != 0) lu__hard_ready(blocks[i]);
    }
}

/* The stash of class `c` gives half of its blocks back to their spans. */
static void halve(struct hard *hard, unsigned c) {
    struct hard_class *class = &hard->classes[c];
    uint32_t kept = class->count / 2;
    give_back(class->stash + kept, class->count - kept);
    class->count = (uint16_t)kept;
}

void lu__hard_let_go(struct hard *hard, unsigned c, uintptr_t block) {
    struct hard_class *class = &hard->classes[c];
    if (class->count == class->capacity) halve(hard, c);
    class->stash[class->count++] = block;
}

/* The oldest half of what belongs to other heaps, or all. */
static void let_away_go(struct hard *hard, uint32_t count) {
    give_back(hard->away, count);
    memmove(hard->away, hard->away + count, (hard->away_count - count) * sizeof hard->away[0]);
    hard->away_count -= count;
}

void lu__hard_thread_exit(struct heap *heap) {
    let_away_go(heap->hard, heap->hard->away_count);
}

static void wait_in_fifo(struct hard *hard, unsigned c, uintptr_t block) {
    struct hard_class *class = &hard->classes[c];
    uintptr_t oldest = class->fifo[class->at];
    class->fifo[class->at] = block;
    class->at = (uint16_t)((class->at + 1) & class->mask);
    if (oldest != 0) lu__hard_let_go(hard, c, oldest);
}

static void wait_in_ring(struct hard *hard, unsigned c, uintptr_t block) {
    hard->ring[hard->in++ % HARD_RING] = lu__hard_entry(c, block);
    hard->held += lu__class_size[c];
    while ((hard->held > lu__harden.quarantine && hard->in - hard->out > 1) ||
           hard->in - hard->out == HARD_RING) {
        uint64_t entry = hard->ring[hard->out++ % HARD_RING];
        unsigned leaving = lu__hard_entry_class(entry);
        hard->held -= lu__class_size[leaving];
        lu__hard_let_go(hard, leaving, lu__hard_entry_block(entry));
    }
}

void lu__hard_detain(struct heap *heap, unsigned c, uintptr_t block, bool away) {
    struct hard *hard = heap->hard;
    if (away) {
        if (hard->away_count == HARD_AWAY) let_away_go(hard, HARD_AWAY / 2);
        hard->away[hard->away_count++] = block;
    } else if (lu__harden.rings) {
        wait_in_ring(hard, c, block);
    } else if (hard->classes[c].waits) {
        wait_in_fifo(hard, c, block);
    } else {
        lu__hard_let_go(hard, c, block);
    }
}

bool lu__hard_holds(const struct hard *hard, unsigned c, uintptr_t block) {
    const struct hard_class *class = &hard->classes[c];
    for (uint32_t i = 0; i < class->count; i++) {
        if (class->stash[i] == block) return true;
    }
    for (uint32_t i = 0; class->waits && i <= class->mask; i++) {
        if (class->fifo[i] == block) return true;
    }
    for (uint32_t i = hard->out; i != hard->in; i++) {
        if (lu__hard_entry_block(hard->ring[i % HARD_RING]) == block) return true;
    }
    return false;
}

void lu__hard_let_all_go(struct hard *hard, bool too) {
    let_away_go(hard, hard->away_count);
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        struct hard_class *class = &hard->classes[c];
        give_back(class->stash, class->count);
        class->count = 0;
        if (!too || !class->waits) continue;
        give_back(class->fifo, class->mask + 1u);
        memset(class->fifo, 0, (class->mask + 1u) * sizeof class->fifo[0]);
    }
    for (; too && hard->out != hard->in; hard->out++) {
        lu__hard_ready(lu__hard_entry_block(hard->ring[hard->out % HARD_RING]));
    }
    if (too) hard->held = 0;
}

/* ---------------------------------------------------------------- after fork */

/* A block of a list becomes READY if it is free. It may be live: where fork stopped a thread that
 * was handing it out, it still stands in the list. */
static void ready_if_free(const struct heap *heap, uintptr_t block) {
    const struct region *region = lu__region_of((void *)block);
    const struct span *span = region != NULL ? lu__span_of(region, (void *)block) : NULL;
    if (span == NULL || span->kind != LU_KIND_SMALL || span->owner != heap) return;
    size_t offset = block - (uintptr_t)lu__span_start(span);
    if (offset >= span->limit || offset % lu__class_size[span->class_id] != 0) return;
    uint8_t *state = lu__hard_state(span, block);
    bool is_free = lu__hard_is_free(block, lu__hard_room(span->class_id));
    if (*state == HARD_OUT && is_free) *state = HARD_READY;
}

void lu__hard_make_whole(struct heap *heap) {
    struct hard *hard = heap->hard;
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        struct hard_class *class = &hard->classes[c];
        for (uint32_t i = 0; i < class->count; i++) ready_if_free(heap, class->stash[i]);
        for (uint32_t i = 0; i < HARD_FIFO; i++) ready_if_free(heap, class->fifo[i]);
        memset(class->fifo, 0, sizeof class->fifo);
        class->count = class->at = 0;
    }
    for (; hard->out != hard->in; hard->out++) {
        ready_if_free(heap, lu__hard_entry_block(hard->ring[hard->out % HARD_RING]));
    }
    hard->held = 0;
    memset(hard->spans, 0, sizeof hard->spans);
    memset(hard->last, 0, sizeof hard->last);
}

/* ---------------------------------------------------------------- allocation */

/* The class for a request; LU_CLASSES if it is large. Blocks are multiples of 16 bytes, which
 * engine/hardened_fast.c relies on. */
static unsigned class_for(size_t align, size_t size) {
    if (size > LU_CLASS_BYTES_MAX - HARD_CANARY) return LU_CLASSES;
    size_t bytes = LU_MAX(size + HARD_CANARY, 16);
    return align <= 16 ? lu__class_of(bytes) : lu__class_of_aligned(align, bytes);
}

/* Still as it was left? If not, that is reported and the block stays out of use. */
static bool is_untouched(uintptr_t block, unsigned c) {
    uint32_t room = lu__hard_room(c);
    if (!lu__harden.check_freed) return true;
    if (LU_LIKELY(lu__hard_is_clear(block, room + HARD_CANARY))) return true;
    uint32_t size;
    if (lu__harden.canary != 0 && lu__hard_sealed(block, room, &size)) {
        /* Live: two threads freed it at the same instant, see engine/hardened_fast.c, and it was
         * handed out to the other. */
        lu__violation(LU_DOUBLE_FREE, "free", (void *)block, (void *)block, room);
        return false;
    }
    const struct span *span = lu__span_of(lu__region_of((void *)block), (void *)block);
    __atomic_store_n(lu__hard_state(span, block), HARD_CONDEMNED, __ATOMIC_RELAXED);
    lu__hard_seal_away(block, room);
    lu__violation(LU_WRITE_AFTER_FREE, "malloc", (void *)block, (void *)block, room);
    return false;
}

static void *alloc_small(struct heap *heap, unsigned c, size_t size, bool *zero) {
    struct hard *hard = heap->hard;
    struct hard_class *class = &hard->classes[c];
    uintptr_t block;
    do {
        if (class->count == 0 && !lu__hard_refill(heap, c)) return NULL;
        uint32_t pick = class->count - 1;
        if (lu__harden.random_order) pick = lu__hard_pick_late(hard, class->count);
        block = class->stash[pick];
        class->stash[pick] = class->stash[--class->count];
    } while (!is_untouched(block, c));
    *zero = lu__harden.check_freed != 0;
    lu__hard_seal(block, lu__hard_room(c), (uint32_t)LU_MIN(size, lu__hard_room(c)));
    return (void *)block;
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
    /* The blocks in quarantine may be as much memory as is asked for. */
    lu__hard_let_all_go(heap->hard, true);
    lu__hard_large_flush();
    lu__hard_sweep(heap);
    return alloc_once(heap, align, size, zero);
}

/* ---------------------------------------------------------------- free */

/* False: its seal is not that of a live block. What else is wrong is told. */
static bool check_freed(const struct span *span, uintptr_t block, const char *call) {
    uint32_t size, room = lu__hard_room(span->class_id);
    if (lu__harden.canary != 0 && !lu__hard_sealed(block, room, &size)) return false;
    if (lu__harden.array_pairs && lu__hard_is_array(block, room)) {
        lu__violation(LU_DELETE_MISMATCH, call, (void *)block, (void *)block, room);
    }
    lu__hard_check_around(span, block, call);
    return true;
}

/* The block, which is free, into the hands of a heap: its lu_heap, or the calling thread's. */
static void keep(struct heap *owner, const struct span *span, uintptr_t block) {
    struct heap *self = NULL;
    unsigned c = span->class_id;
    bool inside = lu__thread_enter_any(&self);
    if (__atomic_load_n(&owner->kind, __ATOMIC_RELAXED) != LU_HEAP_OF_THREAD) {
        if (inside && lu__user_lock(owner)) { /* else lost: see engine/free.c */
            bool owns = __atomic_load_n(&span->owner, __ATOMIC_RELAXED) == owner;
            if (owns) lu__hard_detain(owner, c, block, false);
            lu__user_unlock(owner);
        }
    } else if (self != NULL) {
        lu__hard_detain(self, c, block, self != owner);
    } else {
        lu__hard_ready(block);
    }
    if (inside) lu__thread_leave(self);
}

void lu__hard_free(struct span *span, uintptr_t block, const char *call) {
    struct heap *owner = __atomic_load_n(&span->owner,
                                         __ATOMIC_RELAXED); /* once: see heap/plain.c */
    unsigned c = span->class_id;
    uint32_t room = lu__hard_room(c);
    if (LU_UNLIKELY(owner == NULL))
        return lu__violation(LU_WILD_POINTER, call, (void *)block, NULL, 0);
    /* Of two threads that free the same block at once, one finds it gone: here, or below. */
    bool whole = check_freed(span, block, call);
    if (whole ? !lu__hard_end_live(block, room) : lu__hard_is_gone(span, block)) {
        lu__violation(LU_DOUBLE_FREE, call, (void *)block, (void *)block, room);
        return;
    }
    if (!whole) {
        lu__violation(LU_OVERFLOW, call, (void *)block, (void *)block, room);
        lu__hard_seal_away(block, room); /* told once: the next block looks at it as well */
        __atomic_store_n(lu__hard_state(span, block), HARD_CONDEMNED, __ATOMIC_RELEASE);
        return;
    }
    lu__hard_clear(block, room);
    keep(owner, span, block);
}

/* ---------------------------------------------------------------- new[] and delete[] */

/* The hardened span of small blocks in which `block` is live, or NULL. */
static const struct span *live_span(const void *block) {
    const struct region *region = lu__region_of(block);
    const struct span *span = region != NULL ? lu__span_of(region, block) : NULL;
    uintptr_t start;
    if (span == NULL || span->kind != LU_KIND_SMALL || !span->hardened) return NULL;
    return lu__hard_find(span, block, &start) == LU_IS_LIVE ? span : NULL;
}

void lu__hard_array_made(void *block) {
    const struct span *span = live_span(block);
    if (span != NULL) lu__hard_set_array((uintptr_t)block, lu__hard_room(span->class_id), true);
}

void lu__hard_array_ends(const void *block) {
    const struct span *span = live_span(block);
    if (span == NULL) return;
    uint32_t room = lu__hard_room(span->class_id);
    if (lu__hard_is_array((uintptr_t)block, room)) {
        lu__hard_set_array((uintptr_t)block, room, false);
    } else if (lu__hard_has_canary((uintptr_t)block,
                                   room)) { /* if it is damaged, free reports that */
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
