/*
 * harden_fast.c - the short way through a hardened heap, for what nearly every call is.
 *
 *     malloc  up to 1 KiB, a stash that is not empty
 *     free    a live block of a thread's span of one slice in the first region, sealed, whose
 *             neighbourhood is as it should be
 *
 * Everything else, and everything that is wrong, goes the long way of engine.c and harden.c from
 * the start: nothing has been changed then, so what is found here is not told here. The checks are
 * the same, but for one order: here they come before the block's state is taken.
 */
#include <string.h>

#include "heap/guard.h"
#include "heap/harden_parts.h"

#define NEAR 32u
/* A few rounds: not worth the preparations of a vectorised loop. */
#define SHORT_LOOP(at) __asm__("" : "+r"(at))

/* The calling thread's heap, marked busy, or NULL if the long way must be taken. */
static struct heap *enter(void) {
    struct heap *heap = lu__thread_heap();
    if (LU_UNLIKELY(heap == NULL) || LU_UNLIKELY(heap->busy) || LU_UNLIKELY(heap->hard == NULL)) {
        return NULL;
    }
    __atomic_store_n(&heap->busy, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return heap;
}

static void leave(struct heap *heap) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&heap->busy, 0, __ATOMIC_RELAXED);
}

LU_INLINE bool is_zero(uintptr_t from, uintptr_t end) {
    uint64_t all = 0;
    for (; from < end; from += 8) {
        all |= *(const uint64_t *)from;
        SHORT_LOOP(from);
    }
    return all == 0;
}

/* ---------------------------------------------------------------- malloc */

/* True if the free block is as its free left it. */
LU_INLINE bool is_untouched(uintptr_t block, uint32_t room) {
    uint64_t canary = lu__harden.canary != 0 ? *(const uint64_t *)(block + room) : 0;
    uint64_t hash = lu__harden.canary != 0 ? lu__hard_hash(block) : 0;
    return canary == hash && (lu__harden.check_freed == 0 || is_zero(block, block + room));
}

void *lu__hard_malloc(size_t size) {
    size_t asked = size + lu__harden.canary_bytes;
    if (LU_UNLIKELY(size - 1 >= LU_SMALL_MAX - HARD_CANARY)) return NULL;
    struct heap *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return NULL;
    unsigned c = lu__class_small[(asked + 7) >> 3];
    struct hard *hard = heap->hard;
    struct hard_stash *stash = &hard->stash[c];
    struct sampler *sampler = heap->sampler;
    bool sample = sampler != NULL && (sampler->left <= 1 || sampler->burst != 0);
    uint32_t count = stash->count;
    void *result = NULL;
    if (LU_LIKELY(count != 0 && !sample)) {
        uint32_t pick = lu__harden.random_order
                            ? (uint32_t)((lu__hard_random(hard) >> 32) * count >> 32)
                            : count - 1;
        struct hard_block taken = stash->blocks[pick];
        uint32_t room = lu__class_size[c] - lu__harden.canary_bytes;
        if (LU_LIKELY(is_untouched(taken.block, room))) {
            stash->blocks[pick] = stash->blocks[count - 1];
            stash->count = count - 1;
            if (sampler != NULL) sampler->left--;
            __atomic_store_n(taken.state, HARD_LIVE_BLOCK, __ATOMIC_RELAXED);
            if (lu__hard_is_exact(room) && size < room) {
                lu__hard_seal(taken.block, room, (uint32_t)size);
            }
            result = (void *)taken.block;
        }
    }
    leave(heap);
    return result;
}

/* ---------------------------------------------------------------- free */

/* As in harden_check.c: the neighbour may be another thread's. */
#if LU_TSAN
#define NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define NO_TSAN inline __attribute__((always_inline))
#endif

/* If it is free, the neighbour must be zero there. */
static NO_TSAN bool is_clear(const uint8_t *state, uintptr_t from, uintptr_t end) {
    uint8_t seen = __atomic_load_n(state, __ATOMIC_ACQUIRE);
    if (seen == HARD_LIVE_BLOCK || seen == HARD_FREEING || seen == HARD_CONDEMNED) return true;
    return is_zero(from, end) || __atomic_load_n(state, __ATOMIC_ACQUIRE) != seen;
}

/* True if what lies around the block needs no report; blocks of 16 bytes take the long way. */
static NO_TSAN bool is_quiet(const struct span *span, uintptr_t block, uint32_t index,
                             uint32_t size, uint32_t room) {
    const uint8_t *state = lu__hard_states(span) + index;
    if (index != 0) {
        if (lu__harden.canary != 0 && !lu__hard_has_canary(block - size, room)) return false;
        uintptr_t from = size > NEAR ? block - NEAR : block - size;
        if (lu__harden.check_freed >= 2 &&
            !is_clear(state - 1, from, block - lu__harden.canary_bytes)) {
            return false;
        }
    }
    if (lu__harden.check_freed < 2) return true;
    if ((index + 2) * size > LU_RELAXED(span->limit))
        return size > LU_OS_PAGE; /* not all is carved */
    return is_clear(state + 1, block + size, block + size + LU_MIN(NEAR, room));
}

/* The hardened span of one slice in the first region that holds `block`, or NULL. */
LU_INLINE struct span *span_of(const void *block) {
    const struct region *region = &lu__regions[0];
    size_t offset = (uintptr_t)block - (uintptr_t)region->base;
    if (offset >= (size_t)__atomic_load_n(&region->top, __ATOMIC_RELAXED) << LU_SLICE_SHIFT) {
        return NULL;
    }
    struct span *span = lu__region_desc(region, offset >> LU_SLICE_SHIFT);
    if (span->kind != LU_KIND_SMALL || !span->hardened) return NULL;
    return lu__class_size[span->class_id] <= LU_SLICE / 2 ? span : NULL;
}

LU_INLINE void zero(uintptr_t block, uint32_t room) {
    if (room > 128) {
        memset((void *)block, 0, room);
    } else {
        for (uintptr_t end = block + room; block < end; block += 8) {
            *(uint64_t *)block = 0;
            SHORT_LOOP(block);
        }
    }
}

/* The oldest of the heap's quarantine, if it is the heap's own and there is room in the stash. */
static bool oldest_to_stash(struct heap *heap) {
    struct hard *hard = heap->hard;
    uint64_t entry = hard->ring[hard->oldest];
    unsigned c = (unsigned)(entry >> 56);
    uintptr_t block = (uintptr_t)(entry & (((uint64_t)1 << 56) - 1));
    struct hard_stash *stash = &hard->stash[c];
    struct span *span = span_of((void *)block);
    if (span == NULL || stash->count == HARD_STASH ||
        __atomic_load_n(&span->owner, __ATOMIC_RELAXED) != heap) {
        return false;
    }
    uint32_t index = lu__hard_index(span, (uint32_t)(block & (LU_SLICE - 1)));
    uint8_t *state = lu__hard_states(span) + index;
    __atomic_store_n(state, HARD_STASHED, __ATOMIC_RELAXED);
    stash->blocks[stash->count++] = (struct hard_block){block, state};
    hard->oldest = (hard->oldest + 1) % HARD_RING;
    hard->count--;
    hard->held -= lu__class_size[c];
    return true;
}

/* Make room in the quarantine for `size` bytes; true if there is. */
static bool has_room(struct heap *heap, size_t size) {
    const struct hard *hard = heap->hard;
    while (hard->count == HARD_RING || hard->held + size > lu__harden.quarantine) {
        if (hard->count == 0 || !oldest_to_stash(heap)) return false;
    }
    return true;
}

bool lu__hard_free_short(void *pointer) {
    struct span *span = span_of(pointer);
    if (LU_UNLIKELY(span == NULL)) return false;
    uintptr_t block = (uintptr_t)pointer;
    uint32_t offset = (uint32_t)(block & (LU_SLICE - 1)), size = lu__class_size[span->class_id];
    uint32_t index = lu__hard_index(span, offset), room = size - lu__harden.canary_bytes;
    uint8_t *state = lu__hard_states(span) + index;
    if (LU_UNLIKELY(index * size != offset) || LU_UNLIKELY(offset >= LU_RELAXED(span->limit)) ||
        LU_UNLIKELY(size < NEAR) ||
        LU_UNLIKELY(__atomic_load_n(state, __ATOMIC_RELAXED) != HARD_LIVE_BLOCK) ||
        LU_UNLIKELY(__atomic_load_n(&span->owner, __ATOMIC_RELAXED)->kind != LU_HEAP_OF_THREAD)) {
        return false;
    }
    uint32_t asked;
    if (lu__harden.canary != 0 && *(const uint64_t *)(block + room) != lu__hard_hash(block) &&
        (!lu__hard_sealed(block, room, &asked) || lu__hard_is_array(block, room))) {
        return false;
    }
    if (LU_UNLIKELY(!is_quiet(span, block, index, size, room))) return false;
    struct heap *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return false;
    uint8_t live = HARD_LIVE_BLOCK;
    bool done = lu__harden.zero_on_free && has_room(heap, size) &&
                __atomic_compare_exchange_n(state, &live, HARD_FREEING, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_RELAXED);
    if (LU_LIKELY(done)) {
        struct hard *hard = heap->hard;
        zero(block, room);
        if (lu__harden.canary != 0) *(uint64_t *)(block + room) = lu__hard_hash(block);
        __atomic_store_n(state, HARD_QUARANTINED, __ATOMIC_RELEASE);
        hard->ring[(hard->oldest + hard->count) % HARD_RING] = (uint64_t)span->class_id << 56 |
                                                               block;
        hard->count++;
        hard->held += size;
    }
    leave(heap);
    return done;
}
