/*
 * canary.c - canaries, and blocks that must be zero.
 *
 *     block    | what was asked for | filling | canary |        size of the class
 *               0 .. size            .. room    8 bytes
 *
 * The canary's upper 45 bits are a keyed hash of its block's address; the lower 16, under a mask of
 * the same hash, tell how many bytes of filling there are, so that a write right behind an odd
 * request is found as well (canary:2). Between them are the marks HARD_ARRAY and HARD_FREEING.
 * A free block is zero, and so is its canary.
 *
 * What is found damaged is reported through lu__violation and repaired, so that it is told once.
 */
#include <string.h>

#include "base/violation.h"
#include "harden/parts.h"

typedef uint64_t any_word __attribute__((may_alias));

static uint8_t filling_of(uint64_t hash) {
    return (uint8_t)(hash >> 56 | 1); /* never 0, which programs write most */
}

/* What lies beside a block may be another thread's, who writes it meanwhile: whole words, that are
 * right before and after, and what else is found is looked at twice. */
#define NO_TSAN __attribute__((no_sanitize("thread")))

NO_TSAN static uint64_t read_canary(uintptr_t block, uint32_t room) {
    return *(const volatile any_word *)(block + room); /* one read; an atomic one TSan would see */
}

void lu__hard_seal(uintptr_t block, uint32_t room, uint32_t size) {
    uint64_t hash = lu__hard_hash(block);
    if (!lu__hard_is_exact(room)) size = room;
    uint64_t canary = hash ^ (room - size);
    memcpy((void *)(block + room), &canary, sizeof canary);
    if (size < room) memset((void *)(block + size), filling_of(hash), room - size);
}

void lu__hard_seal_away(uintptr_t block, uint32_t room) {
    uint64_t canary = lu__hard_hash(block) ^ HARD_FREEING;
    __atomic_store_n((any_word *)(block + room), canary, __ATOMIC_RELEASE);
}

void lu__hard_clear(uintptr_t block, uint32_t room) {
    if (lu__harden.zero_on_free) memset((void *)block, 0, room);
    __atomic_store_n((any_word *)(block + room), 0, __ATOMIC_RELEASE);
}

/* What the lower bits of a canary that is not 0 say; UINT32_MAX if the upper ones are damaged. */
static uint32_t decode_read(uint64_t canary, uint32_t room, uint64_t hash) {
    uint64_t low = canary ^ hash;
    return low <= (HARD_MARKS | 0xffff) && (low & ~HARD_MARKS) <= room ? (uint32_t)low : UINT32_MAX;
}

NO_TSAN static uint32_t decode(uintptr_t block, uint32_t room, uint64_t hash) {
    return decode_read(read_canary(block, room), room, hash);
}

/* Read once: its owner may free it in between. */
NO_TSAN bool lu__hard_has_canary(uintptr_t block, uint32_t room) {
    uint64_t canary = read_canary(block, room);
    return canary == 0 || decode_read(canary, room, lu__hard_hash(block)) != UINT32_MAX;
}

NO_TSAN bool lu__hard_is_free(uintptr_t block, uint32_t room) {
    uint64_t canary = read_canary(block, room);
    return canary == 0 || canary == (lu__hard_hash(block) ^ HARD_FREEING);
}

NO_TSAN uint32_t lu__hard_size(uintptr_t block, uint32_t room) {
    uint32_t low = decode(block, room, lu__hard_hash(block));
    return low == UINT32_MAX ? room : room - (low & ~(uint32_t)HARD_MARKS);
}

bool lu__hard_end_live(uintptr_t block, uint32_t room) {
    any_word *canary = (any_word *)(block + room);
    uint64_t away = lu__hard_hash(block) ^ HARD_FREEING;
    uint64_t seen = __atomic_load_n(canary, __ATOMIC_RELAXED);
    do {
        if (seen == 0 || seen == away) return false;
    } while (!__atomic_compare_exchange_n(canary, &seen, away, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    return true;
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
    if (low == UINT32_MAX || (low & HARD_FREEING) != 0) return false;
    *size = room - (low & ~(uint32_t)HARD_ARRAY);
    uint8_t want = filling_of(hash), differs = 0;
    const uint8_t *bytes = (const uint8_t *)block;
    for (uint32_t i = *size; i < room; i++) differs |= bytes[i] ^ want;
    return differs == 0;
}

NO_TSAN bool lu__hard_is_zero(uintptr_t at, uint32_t bytes) {
    const any_word *words = (const any_word *)at;
    uint64_t all = 0;
    for (uint32_t i = 0; i < bytes / 8; i++) all |= words[i];
    return all == 0;
}

/* A neighbour of `size` bytes, of which those at `from` to `end` are near: whole? Some of them if
 * it is larger. */
NO_TSAN static void check_near(uintptr_t block, uint32_t size, uintptr_t from, uintptr_t end,
                               const char *call) {
    uint32_t room = size - HARD_CANARY;
    if (read_canary(block, room) != 0) return;
    from = LU_MAX(from, block);
    end = LU_MIN(end, block + room);
    if (from >= end || lu__hard_is_zero(from, (uint32_t)(end - from))) return;
    /* It may have been handed out under our eyes: only a block that is still free counts. */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (read_canary(block, room) != 0) return;
    lu__violation(LU_WRITE_AFTER_FREE, call, (void *)block, (void *)block, room);
    memset((void *)from, 0, end - from); /* told once */
}

/* What the owner has not carved is zero as well, where the memory was fresh. */
NO_TSAN static void check_uncarved(const struct span *span, uintptr_t block, uint32_t room,
                                   uintptr_t end, const char *call) {
    uintptr_t start = lu__hard_start(span, block);
    uintptr_t from = start + lu__align_up(LU_RELAXED(span->limit), 8);
    if (!span->zero || __atomic_load_n(&span->owner, __ATOMIC_RELAXED) != lu__thread_heap()) return;
    end = LU_MIN(end, start + (size_t)span->capacity * lu__class_size[span->class_id]);
    if (from >= end || lu__hard_is_zero(from, (uint32_t)(end - from))) return;
    lu__violation(LU_OVERFLOW, call, (void *)block, (void *)block, room);
    memset((void *)from, 0, end - from); /* told once */
}

/* Is the block among what the lu_heap holds? It may be ended by another thread that does wrong. */
static bool user_holds(struct heap *user, unsigned c, uintptr_t block, bool otherwise) {
    if (!lu__thread_mark()) return otherwise;
    bool mine = user->shared && lu__lock_is_mine(&user->lock); /* in a walk */
    if (mine || lu__user_lock(user)) {
        if (user->hard != NULL) otherwise = lu__hard_holds(user->hard, c, block);
        if (!mine) lu__user_unlock(user);
    }
    lu__inside_leave();
    return otherwise;
}

/* True if the block is not the program's, but its span's or its heap's: the way to know that when
 * its canary is gone. What another thread's heap holds cannot be looked at: `otherwise`. */
static bool is_held(const struct span *span, uintptr_t block, bool otherwise) {
    struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    if (owner == NULL) return otherwise;
    if (__atomic_load_n(lu__hard_state(span, block), __ATOMIC_RELAXED) != HARD_OUT) return true;
    if (owner == lu__thread_heap()) return lu__hard_holds(owner->hard, span->class_id, block);
    bool of_user = __atomic_load_n(&owner->kind, __ATOMIC_RELAXED) == LU_HEAP_OF_USER;
    return of_user ? user_holds(owner, span->class_id, block, otherwise) : otherwise;
}

bool lu__hard_is_gone(const struct span *span, uintptr_t block) {
    uint32_t room = lu__hard_room(span->class_id);
    if (LU_LIKELY(!lu__hard_is_free(block, room))) return false;
    /* Zero may have been written over a canary: but then something else is left. */
    return read_canary(block, room) != 0 || lu__hard_is_zero(block, room) ||
           is_held(span, block, true);
}

void lu__hard_check_around(const struct span *span, uintptr_t block, const char *call) {
    uint32_t size = lu__class_size[span->class_id], room = lu__hard_room(span->class_id);
    uintptr_t start = lu__hard_start(span, block);
    if (lu__harden.canary != 0 && block > start && !lu__hard_has_canary(block - size, room)) {
        lu__violation(LU_OVERFLOW, call, (void *)block, (void *)(block - size), room);
        if (is_held(span, block - size, false)) {
            __atomic_store_n((any_word *)(block - size + room), 0, __ATOMIC_RELAXED);
        } else {
            lu__hard_seal(block - size, room, room);
        }
    }
    if (lu__harden.check_freed < 2 || !lu__harden.zero_on_free) return;
    check_uncarved(span, block, room, block + size + HARD_NEAR, call);
    uintptr_t limit = start + LU_RELAXED(span->limit);
    for (uintptr_t near = 0; near < HARD_NEAR; near += size) {
        uintptr_t before = block - near - size, behind = block + near + size;
        if (before >= start) check_near(before, size, block - HARD_NEAR, block, call);
        if (behind + size <= limit) {
            check_near(behind, size, behind, block + size + HARD_NEAR, call);
        }
    }
}
