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
    void *result = NULL;
    if (LU_LIKELY(stash->count != 0 && !sample)) {
        uint32_t pick = lu__hard_pick(hard, stash);
        struct hard_block taken = stash->blocks[pick];
        uint32_t room = lu__hard_room(c);
        if (LU_LIKELY(is_untouched(taken.block, room))) {
            lu__hard_take(stash, pick);
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
        uintptr_t from = size > HARD_NEAR ? block - HARD_NEAR : block - size;
        if (lu__harden.check_freed >= 2 &&
            !is_clear(state - 1, from, block - lu__harden.canary_bytes)) {
            return false;
        }
    }
    if (lu__harden.check_freed < 2) return true;
    if ((index + 2) * size > LU_RELAXED(span->limit))
        return size > LU_OS_PAGE; /* not all is carved */
    return is_clear(state + 1, block + size, block + size + LU_MIN(HARD_NEAR, room));
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

bool lu__hard_free_short(void *pointer) {
    struct span *span = lu__hard_span_near(pointer);
    if (LU_UNLIKELY(span == NULL)) return false;
    uintptr_t block = (uintptr_t)pointer;
    uint32_t offset = (uint32_t)(block & (LU_SLICE - 1)), size = lu__class_size[span->class_id];
    uint32_t index = lu__hard_index(span, offset), room = lu__hard_room(span->class_id);
    uint8_t *state = lu__hard_states(span) + index;
    if (LU_UNLIKELY(index * size != offset) || LU_UNLIKELY(offset >= LU_RELAXED(span->limit)) ||
        LU_UNLIKELY(size < HARD_NEAR) ||
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
    bool done = lu__harden.zero_on_free && lu__harden.quarantine != 0 &&
                __atomic_compare_exchange_n(state, &live, HARD_FREEING, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_RELAXED);
    if (LU_LIKELY(done)) {
        zero(block, room);
        if (lu__harden.canary != 0) *(uint64_t *)(block + room) = lu__hard_hash(block);
        __atomic_store_n(state, HARD_QUARANTINED, __ATOMIC_RELEASE);
        lu__hard_detain(heap, span->class_id, block);
    }
    leave(heap);
    return done;
}
