/*
 * harden_check.c - canaries, and blocks that must be zero.
 *
 *     block    | what was asked for | filling | canary |        size of the class
 *               0 .. size            .. room    8 bytes
 *
 * The canary's upper 47 bits are a keyed hash of its block's address; the lower 16, under a mask of
 * the same hash, tell how many bytes of filling there are, so that a write right behind an odd
 * request is found as well (canary:2). Bit 16 marks blocks of new[]. A free block has no filling,
 * and zeros up to its canary.
 *
 * What is found damaged is reported through lu__violation and repaired, so that it is told once.
 */
#include <string.h>

#include "base/violation.h"
#include "heap/harden_parts.h"

typedef uint64_t any_word __attribute__((may_alias));

static uint8_t filling_of(uint64_t hash) {
    return (uint8_t)(hash >> 56 | 1); /* never 0, which programs write most */
}

/* What lies beside a block may be another thread's, who writes it meanwhile: whole words, that are
 * right before and after, and what else is found is looked at twice. */
#define NO_TSAN __attribute__((no_sanitize("thread")))

NO_TSAN static uint64_t read_canary(uintptr_t block, uint32_t room) {
    return *(const any_word *)(block + room);
}

void lu__hard_seal(uintptr_t block, uint32_t room, uint32_t size) {
    uint64_t hash = lu__hard_hash(block);
    if (!lu__hard_is_exact(room)) size = room;
    uint64_t canary = hash ^ (room - size);
    memcpy((void *)(block + room), &canary, sizeof canary);
    if (size < room) memset((void *)(block + size), filling_of(hash), room - size);
}

/* What the lower bits of the canary say; UINT32_MAX if the upper ones are damaged. */
NO_TSAN static uint32_t decode(uintptr_t block, uint32_t room, uint64_t hash) {
    uint64_t low = read_canary(block, room) ^ hash;
    return low < 2 * HARD_ARRAY && (low & ~HARD_ARRAY) <= room ? (uint32_t)low : UINT32_MAX;
}

NO_TSAN bool lu__hard_has_canary(uintptr_t block, uint32_t room) {
    return decode(block, room, lu__hard_hash(block)) != UINT32_MAX;
}

void lu__hard_set_array(uintptr_t block, uint32_t room, bool array) {
    uint64_t hash = lu__hard_hash(block), canary = read_canary(block, room) ^ hash;
    canary = ((canary & ~HARD_ARRAY) | (array ? HARD_ARRAY : 0)) ^ hash;
    memcpy((void *)(block + room), &canary, sizeof canary);
}

bool lu__hard_is_array(uintptr_t block, uint32_t room) {
    uint32_t low = decode(block, room, lu__hard_hash(block));
    return low != UINT32_MAX && (low & HARD_ARRAY) != 0;
}

bool lu__hard_sealed(uintptr_t block, uint32_t room, uint32_t *size) {
    uint64_t hash = lu__hard_hash(block);
    uint32_t low = decode(block, room, hash);
    *size = room;
    if (low == UINT32_MAX) return false;
    *size = room - (low & ~(uint32_t)HARD_ARRAY);
    uint8_t want = filling_of(hash), differs = 0;
    const uint8_t *bytes = (const uint8_t *)block;
    for (uint32_t i = *size; i < room; i++) differs |= bytes[i] ^ want;
    return differs == 0;
}

NO_TSAN bool lu__hard_is_zero(uintptr_t block, uint32_t bytes) {
    const any_word *words = (const any_word *)block;
    uint64_t all = 0;
    uint32_t i = 0, count = bytes / 8; /* blocks and canaries are multiples of 8 */
    for (; i + 4 <= count; i += 4) {
        if ((words[i] | words[i + 1] | words[i + 2] | words[i + 3]) != 0) return false;
    }
    for (; i < count; i++) all |= words[i];
    return all == 0;
}

/* If the block at `block` is free, it must be zero from `from` to `end`. */
NO_TSAN static void check_free(uintptr_t block, uint32_t room, uint8_t *state, uintptr_t from,
                               uintptr_t end, const char *call) {
    uint8_t seen = __atomic_load_n(state, __ATOMIC_ACQUIRE);
    if (seen == HARD_LIVE_BLOCK || seen == HARD_FREEING || seen == HARD_CONDEMNED) return;
    from = LU_MAX(from, block);
    end = LU_MIN(end, block + room);
    if (from >= end || lu__hard_is_zero(from, (uint32_t)(end - from))) return;
    /* Its state may have changed under our eyes: only a block that is still as it was counts. */
    if (__atomic_load_n(state, __ATOMIC_ACQUIRE) != seen) return;
    lu__violation(LU_WRITE_AFTER_FREE, call, (void *)block, (void *)block, room);
    memset((void *)from, 0, end - from); /* told once */
}

/* What the owner has not carved is zero as well, where the memory was fresh. */
NO_TSAN static void check_uncarved(const struct span *span, uintptr_t block, uint32_t room,
                                   uintptr_t end, const char *call) {
    uintptr_t start = lu__hard_start(span, block);
    uintptr_t from = start + lu__align_up(LU_RELAXED(span->limit), 8);
    if (!span->zero || __atomic_load_n(&span->owner, __ATOMIC_RELAXED) != lu__thread_heap()) return;
    end = LU_MIN(end, start + (size_t)span->reserve * lu__class_size[span->class_id]);
    if (from >= end || lu__hard_is_zero(from, (uint32_t)(end - from))) return;
    lu__violation(LU_OVERFLOW, call, (void *)block, (void *)block, room);
    memset((void *)from, 0, end - from); /* told once */
}

void lu__hard_check_around(const struct span *span, uintptr_t block, const char *call) {
    uint32_t size = lu__class_size[span->class_id], room = lu__hard_room(span->class_id);
    uintptr_t start = lu__hard_start(span, block);
    if (lu__harden.canary != 0 && block > start && !lu__hard_has_canary(block - size, room)) {
        lu__violation(LU_OVERFLOW, call, (void *)block, (void *)(block - size), room);
        lu__hard_seal(block - size, room, room);
    }
    if (lu__harden.check_freed < 2 || !lu__harden.zero_on_free) return;
    uint32_t index = lu__hard_index(span, (uint32_t)(block - start));
    check_uncarved(span, block, room, block + size + HARD_NEAR, call);
    uint32_t carved = LU_RELAXED(span->limit) / size, near = (HARD_NEAR + size - 1) / size;
    uint8_t *states = lu__hard_states(span);
    for (uint32_t i = 1; i <= near; i++) {
        uintptr_t before = block - (size_t)i * size, behind = block + (size_t)i * size;
        if (i <= index)
            check_free(before, room, &states[index - i], block - HARD_NEAR, block, call);
        if (index + i < carved) {
            check_free(behind, room, &states[index + i], behind, block + size + HARD_NEAR, call);
        }
    }
}
