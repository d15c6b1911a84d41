/*
 * harden_fast.c - the short way through a hardened heap, for what nearly every call is.
 *
 *     malloc  up to 1 KiB, a stash that is not empty
 *     free    a live block of a thread's span of one slice in the first region, sealed, whose
 *             neighbourhood is as it should be
 *
 * Everything else, and everything that is wrong, goes the long way of engine.c and harden.c from
 * the start: nothing has been changed then, so what is found here is not told here. The checks are
 * the same, but for one: the heap's own blocks change their state without an atomic instruction, so
 * of two threads that free the same block at the same instant both may pass. The block is then in
 * two quarantines, or twice in one, and that is found when the second one lets go of it.
 *
 * Blocks here are multiples of 16 bytes, and looked at by 16 bytes.
 */
#include <string.h>

#include "heap/engine.h"
#include "heap/guard.h"
#include "heap/harden_parts.h"

typedef uint64_t lanes __attribute__((vector_size(16), may_alias));
#define LANE 16u

/* A few rounds: not worth the preparations of a vectorised loop. */
#define SHORT_LOOP(at) __asm__("" : "+r"(at))

/* The calling thread's heap, marked busy, or NULL if the long way must be taken. */
LU_INLINE struct heap *enter(void) {
    struct heap *heap = lu__thread_heap();
    if (LU_UNLIKELY(heap == NULL) || LU_UNLIKELY(heap->busy) || LU_UNLIKELY(heap->hard == NULL)) {
        return NULL;
    }
    __atomic_store_n(&heap->busy, 1, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return heap;
}

LU_INLINE void leave(struct heap *heap) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&heap->busy, 0, __ATOMIC_RELAXED);
}

LU_INLINE void *leave_empty(struct heap *heap) {
    leave(heap);
    return NULL;
}

/* ---------------------------------------------------------------- malloc */

/* True if the free block is zero, and sealed. */
LU_INLINE bool is_untouched(uintptr_t block, uint32_t size) {
    const lanes *at = (const lanes *)block, *last = (const lanes *)(block + size - LANE);
    lanes all = *last ^ (lanes) { 0, lu__hard_hash(block) };
    for (; last - at >= 4; at += 4) {
        all |= at[0] | at[1] | at[2] | at[3];
        SHORT_LOOP(at);
    }
    for (; at < last; at++) {
        all |= *at;
        SHORT_LOOP(at);
    }
    return (all[0] | all[1]) == 0;
}

static __attribute__((noinline)) void *sealed_exactly(void *block, uint32_t room, size_t size) {
    if (size < room) lu__hard_seal((uintptr_t)block, room, (uint32_t)size);
    return block;
}

/* A block that is zero, or NULL. */
LU_INLINE void *malloc_short(size_t size) {
    if (LU_UNLIKELY(size - 1 >= LU_SMALL_MAX - HARD_CANARY)) return NULL;
    struct heap *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return NULL;
    unsigned c = lu__class_small[(size + HARD_CANARY + 7) >> 3];
    struct hard_stash *stash = &heap->hard->stash[c];
    uint32_t count = stash->count;
    if (LU_UNLIKELY(count == 0)) return leave_empty(heap);
    if (LU_UNLIKELY(heap->sampler != NULL)) {
        if (heap->sampler->left <= 1 || heap->sampler->burst != 0) return leave_empty(heap);
        heap->sampler->left--;
    }
    struct hard_block *place = &stash->blocks[lu__hard_pick(heap->hard, count)];
    uintptr_t block = place->block;
    uint32_t bytes = lu__class_size[c];
    if (LU_UNLIKELY(!is_untouched(block, bytes))) return leave_empty(heap);
    __atomic_store_n(place->state, HARD_LIVE_BLOCK, __ATOMIC_RELAXED);
    *place = stash->blocks[count - 1];
    stash->count = count - 1;
    leave(heap);
    if (LU_LIKELY(lu__harden.canary != 2)) return (void *)block;
    return sealed_exactly((void *)block, bytes - HARD_CANARY, size);
}

void *lu__hard_malloc(size_t size) {
    void *block = malloc_short(size);
    return LU_LIKELY(block != NULL) ? block : lu__alloc_long(size, false);
}

void *lu__hard_calloc(size_t size) {
    void *block = malloc_short(size);
    return LU_LIKELY(block != NULL) ? block : lu__alloc_long(size, true);
}

/* ---------------------------------------------------------------- free */

/* As in harden_check.c: the neighbour may be another thread's. */
#if LU_TSAN
#define NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define NO_TSAN inline __attribute__((always_inline))
#endif

/* All ones if a block in that state must be zero. Without a branch: of small blocks, half have a
 * neighbour that is free, and nobody could foretell which. */
LU_INLINE uint64_t zero_mask(const uint8_t *state) {
    return __atomic_load_n(state, __ATOMIC_ACQUIRE) < HARD_LIVE_BLOCK ? ~(uint64_t)0 : 0;
}

/* What is wrong with a block's end, the 32 bytes before `end`: 0, or something. */
static NO_TSAN uint64_t wrong_before(const uint8_t *state, uintptr_t end, uint32_t size) {
    const uint64_t *words = (const uint64_t *)end;
    uint64_t seal = words[-1] ^ lu__hard_hash(end - size);
    if (LU_UNLIKELY(seal != 0) && lu__hard_has_canary(end - size, size - HARD_CANARY)) {
        seal &= zero_mask(state); /* of new[], or exact */
    }
    return seal | ((words[-2] | words[-3] | words[-4]) & zero_mask(state));
}

/* The same of a block's first bytes, up to 32. */
static NO_TSAN uint64_t wrong_behind(const uint8_t *state, uintptr_t start, uint32_t size) {
    const uint64_t *words = (const uint64_t *)start;
    return (words[0] | words[1] | words[2] | words[size > HARD_NEAR ? 3 : 2]) & zero_mask(state);
}

/* The same on both sides of a block of 16 bytes: 8 and their canary. */
static NO_TSAN uint64_t wrong_near_lane(const uint8_t *state, uintptr_t block) {
    const uint64_t *words = (const uint64_t *)block;
    uint64_t seal = words[-1] ^ lu__hard_hash(block - LANE);
    if (LU_UNLIKELY(seal != 0) && lu__hard_has_canary(block - LANE, HARD_CANARY)) {
        seal &= zero_mask(state - 1);
    }
    return seal | (words[-4] & zero_mask(state - 2)) | (words[-2] & zero_mask(state - 1)) |
           (words[2] & zero_mask(state + 1)) | (words[4] & zero_mask(state + 2));
}

/* True if what lies around the block needs no report. What is not carved is not sealed: then, and
 * near the ends, this is for the long way to say. */
LU_INLINE bool is_quiet(const struct span *span, const uint8_t *state, uintptr_t block,
                        uint32_t offset, uint32_t size) {
    uint32_t limit = LU_RELAXED(span->limit);
    if (LU_UNLIKELY(size == LANE)) {
        return offset >= HARD_NEAR && offset + LANE + HARD_NEAR <= limit &&
               wrong_near_lane(state, block) == 0;
    }
    uint64_t wrong = 0;
    if (LU_LIKELY(offset != 0)) wrong = wrong_before(state - 1, block, size);
    if (LU_LIKELY(offset + size < limit)) {
        wrong |= wrong_behind(state + 1, block + size, size);
    } else if (size <= LU_OS_PAGE) {
        return false;
    }
    return LU_LIKELY(wrong == 0);
}

/* Make the block what is_untouched expects. */
LU_INLINE void clear(uintptr_t block, uint32_t size, uint64_t hash) {
    lanes *at = (lanes *)block, *last = (lanes *)(block + size - LANE);
    if (LU_UNLIKELY(size > 256)) {
        memset(at, 0, size - LANE);
    } else {
        for (; at < last; at++) {
            *at = (lanes){0, 0};
            SHORT_LOOP(at);
        }
    }
    *last = (lanes){0, hash};
}

/* Free the block of another heap's span, and leave. False: another thread was faster. */
static __attribute__((noinline)) bool free_foreign(struct heap *heap, const struct span *span,
                                                   uint8_t *state, uintptr_t block, uint64_t hash) {
    uint8_t live = HARD_LIVE_BLOCK;
    bool mine = __atomic_compare_exchange_n(state, &live, HARD_FREEING, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_RELAXED);
    if (mine) {
        clear(block, lu__class_size[span->class_id], hash);
        __atomic_store_n(state, HARD_QUARANTINED, __ATOMIC_RELEASE);
        lu__hard_detain(heap, lu__hard_entry(span->class_id, block) | HARD_FOREIGN);
    }
    leave(heap);
    return mine;
}

/* The heap's own freed block enters the quarantine, and as a rule another one goes from there to
 * the stash. False: that was not all, lu__hard_settle must follow. */
LU_INLINE bool detain(struct hard *hard, unsigned c, uintptr_t block, uint32_t size) {
    size_t held = hard->held + size;
    hard->ring[hard->in++ % HARD_RING] = lu__hard_entry(c, block);
    hard->held = held;
    if (held <= lu__harden.quarantine && hard->in - hard->out < HARD_RING) return true;
    uint64_t entry = hard->ring[hard->out % HARD_RING];
    unsigned leaving = lu__hard_entry_class(entry);
    struct hard_stash *stash = &hard->stash[leaving];
    uint32_t count = stash->count;
    if (LU_UNLIKELY(entry & (HARD_FAR | HARD_FOREIGN))) return false;
    uintptr_t left = lu__hard_entry_block(entry);
    const struct span *span = lu__hard_desc(left);
    uint8_t *state = lu__hard_states(span) + ((left & (LU_SLICE - 1)) * span->inverse >> 32);
    if (LU_UNLIKELY(__atomic_load_n(state, __ATOMIC_RELAXED) != HARD_QUARANTINED)) return false;
    if (LU_LIKELY(count != HARD_STASH)) {
        __atomic_store_n(state, HARD_STASHED, __ATOMIC_RELAXED);
        stash->blocks[count] = (struct hard_block){left, state};
        stash->count = count + 1;
    } else if (__atomic_load_n(&span->stamp, __ATOMIC_RELAXED) != 0) {
        __atomic_store_n(state, HARD_READY, __ATOMIC_RELEASE); /* as lu__hard_ready */
    } else {
        return false;
    }
    hard->out++;
    hard->held = held - lu__class_size[leaving];
    return LU_LIKELY(hard->held <= lu__harden.quarantine);
}

static __attribute__((noinline)) bool settle_and_leave(struct heap *heap) {
    lu__hard_settle(heap);
    leave(heap);
    return true;
}

LU_INLINE bool free_short(struct span *span, uintptr_t block) {
    uint32_t offset = (uint32_t)(block & (LU_SLICE - 1)), size = lu__class_size[span->class_id];
    uint64_t product = (uint64_t)offset * span->inverse; /* both halves: see span/class.c */
    if (LU_UNLIKELY((uint32_t)product >= LU_RELAXED(span->bound))) return false;
    LU_ASSERT(size % LANE == 0);
    uint8_t *state = lu__hard_states(span) + (product >> 32);
    if (LU_UNLIKELY(__atomic_load_n(state, __ATOMIC_RELAXED) != HARD_LIVE_BLOCK)) return false;
    uint64_t hash = lu__hard_hash(block);
    uint32_t room = size - HARD_CANARY, asked;
    if (LU_UNLIKELY(*(const uint64_t *)(block + room) != hash) &&
        (!lu__hard_sealed(block, room, &asked) || lu__hard_is_array(block, room))) {
        return false;
    }
    if (lu__harden.check_freed >= 2 && !is_quiet(span, state, block, offset, size)) return false;
    struct heap *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return false;
    if (LU_UNLIKELY(LU_RELAXED(span->owner) != heap)) {
        return free_foreign(heap, span, state, block, hash);
    }
    clear(block, size, hash);
    __atomic_store_n(state, HARD_QUARANTINED, __ATOMIC_RELEASE);
    if (LU_UNLIKELY(!detain(heap->hard, span->class_id, block, size))) {
        return settle_and_leave(heap);
    }
    leave(heap);
    return true;
}

/* The descriptor of `block`, if it is a hardened span of a thread in the first region. */
LU_INLINE struct span *span_short(const void *block) {
    size_t at = (uintptr_t)block - (uintptr_t)lu__regions[0].base;
    uint32_t top = __atomic_load_n(&lu__regions[0].top, __ATOMIC_RELAXED);
    if (LU_UNLIKELY(at >> LU_SLICE_SHIFT >= top)) return NULL;
    struct span *span = lu__hard_desc((uintptr_t)block);
    return LU_LIKELY(span->of_thread == LU_OF_THREAD_HARDENED) ? span : NULL;
}

void lu__hard_free_quick(void *block) {
    struct span *span = span_short(block);
    if (LU_UNLIKELY(span == NULL) || LU_UNLIKELY(!free_short(span, (uintptr_t)block))) {
        lu__free_long(block);
    }
}

bool lu__hard_free_sized(void *block, size_t size) {
    struct span *span = span_short(block);
    if (LU_UNLIKELY(span == NULL) || size - 1 >= LU_SMALL_MAX - HARD_CANARY ||
        lu__harden.canary == 2) {
        return false;
    }
    return lu__class_small[(size + HARD_CANARY + 7) >> 3] == span->class_id &&
           free_short(span, (uintptr_t)block);
}

/* ---------------------------------------------------------------- new[] and delete[] */

/* The canary of the live block, or NULL if the long way must find it. */
LU_INLINE uint64_t *canary_short(const void *block) {
    const struct span *span = span_short(block);
    if (LU_UNLIKELY(span == NULL)) return NULL;
    uint64_t product = ((uintptr_t)block & (LU_SLICE - 1)) * span->inverse;
    if (LU_UNLIKELY((uint32_t)product >= LU_RELAXED(span->bound))) return NULL;
    const uint8_t *state = lu__hard_states(span) + (product >> 32);
    if (LU_UNLIKELY(__atomic_load_n(state, __ATOMIC_RELAXED) != HARD_LIVE_BLOCK)) return NULL;
    return (uint64_t *)((uintptr_t)block + lu__hard_room(span->class_id));
}

void lu__hard_array_made(void *block) {
    uint64_t *canary = lu__harden.quick ? canary_short(block) : NULL;
    if (LU_LIKELY(canary != NULL)) {
        *canary ^= HARD_ARRAY;
    } else {
        lu__hard_array_made_long(block);
    }
}

void lu__hard_array_ends(const void *block) {
    uint64_t *canary = lu__harden.quick ? canary_short(block) : NULL;
    if (LU_LIKELY(canary != NULL) &&
        LU_LIKELY((*canary ^ lu__hard_hash((uintptr_t)block)) == HARD_ARRAY)) {
        *canary ^= HARD_ARRAY;
    } else {
        lu__hard_array_ends_long(block);
    }
}
