/*
 * find.c - what is this pointer? From nothing but the address; and where it cannot be what the
 * caller takes it for, which misuse that is.
 *
 *     in no region      huge block | emergency block | guarded block | malloc(0) | foreign pointer
 *     in a region       free memory: freed before | never handed out: wild
 *     LARGE             start of the block, or interior
 *     SMALL             as its heap says (heap/plain.c, harden/blocks.c): live | never handed out:
 *                       wild | not where one begins: interior | freed before
 *
 * Any thread; what other threads change meanwhile is theirs, and a guess.
 */
#include "engine/emergency.h"
#include "engine/parts.h"
#include "engine/zero.h"
#include "heap/ops.h"
#include "sample/guard.h"
#include "span/huge.h"

enum place lu__misuse(lu_violation_kind_t kind, const char *call, const void *pointer,
                      const void *block, size_t bytes) {
    lu__violation(kind, call, pointer, block, bytes);
    return PLACE_BAD;
}

/* Not in a run; `none`: what it is if it is nobody else's. */
static enum place find_outside(const void *pointer, const char *call, struct found *found,
                               lu_violation_kind_t none) {
    switch (lu__zero_find(pointer)) {
    case LU_ZERO_LIVE:
        found->usable = 0;
        return PLACE_ZERO;
    case LU_ZERO_FREE:
        return lu__misuse(LU_DOUBLE_FREE, call, pointer, pointer, 0);
    case LU_ZERO_INTERIOR:
        return lu__misuse(LU_WILD_POINTER, call, pointer, NULL, 0);
    default:
        break;
    }
    struct lu__huge huge;
    /* First what needs no lock: a signal handler gives such blocks back above a holder of it. */
    found->usable = lu__emergency_usable(pointer);
    if (found->usable != 0) return PLACE_EMERGENCY;
    if (lu__guard_contains(pointer)) {
        return lu__guard_find(pointer, call, &found->usable) ? PLACE_GUARD : PLACE_BAD;
    }
    switch (lu__huge_find(pointer, &huge)) {
    case LU_HUGE_UNKNOWN:
        return PLACE_UNKNOWN;
    case LU_HUGE_NONE:
        return lu__misuse(lu__region_is_table(pointer) ? LU_WILD_POINTER : none, call, pointer,
                          NULL, 0);
    default:
        break;
    }
    if (huge.block != pointer) {
        return lu__misuse(LU_INTERIOR_POINTER, call, pointer, huge.block, huge.bytes);
    }
    found->usable = huge.bytes;
    found->user = huge.owner;
    return PLACE_HUGE;
}

static enum place find_small(const void *pointer, const char *call, struct found *found) {
    struct span *span = found->span;
    struct lu__block block;
    switch (lu__run_ops(span)->find(span, pointer, &block)) {
    case LU_IS_WILD:
        return lu__misuse(LU_WILD_POINTER, call, pointer, NULL, 0);
    case LU_IS_INTERIOR:
        return lu__misuse(LU_INTERIOR_POINTER, call, pointer, (void *)block.at, block.bytes);
    case LU_IS_FREE:
        return lu__misuse(LU_DOUBLE_FREE, call, pointer, pointer, block.bytes);
    default:
        found->usable = block.bytes;
        return PLACE_SMALL;
    }
}

enum place lu__find(const void *pointer, const char *call, struct found *found) {
    const struct region *region = lu__region_of(pointer);
    lu_violation_kind_t none = lu__region_had(pointer) ? LU_DOUBLE_FREE : LU_FOREIGN_POINTER;
    if (region == NULL) return find_outside(pointer, call, found, none);
    struct span *span = lu__span_of(region, pointer);
    if (span == NULL && none != LU_DOUBLE_FREE) none = LU_WILD_POINTER;
    if (span == NULL) return lu__misuse(none, call, pointer, NULL, 0);
    found->span = span;
    if (span->kind == LU_KIND_SMALL) return find_small(pointer, call, found);
    char *start = lu__span_start(span);
    if (LU_UNLIKELY(span->kind == LU_KIND_FREE && span->zero == LU_FREE_HOLE)) {
        return find_outside(pointer, call, found, LU_DOUBLE_FREE); /* others may be in a hole */
    }
    if (span->kind != LU_KIND_LARGE || lu__large_is_taken(span)) {
        return lu__misuse(LU_DOUBLE_FREE, call, pointer, NULL, 0);
    }
    found->usable = lu__large_bytes(span);
    found->user = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    start += lu__large_offset(span);
    if (start != pointer) {
        return lu__misuse(LU_INTERIOR_POINTER, call, pointer, start, found->usable);
    }
    return PLACE_LARGE;
}

struct heap *lu__found_user(enum place place, const struct found *found) {
    if (place != PLACE_SMALL) return found->user;
    struct heap *owner = __atomic_load_n(&found->span->owner, __ATOMIC_RELAXED);
    bool of_user = owner != NULL &&
                   __atomic_load_n(&owner->kind, __ATOMIC_RELAXED) != LU_HEAP_OF_THREAD;
    return of_user ? owner : NULL; /* or one that is ending, which gives nothing any more */
}

/* In a region, but not in a hole, where others may be. */
static bool in_region(const void *address) {
    const struct region *region = lu__region_of(address);
    if (region == NULL) return false;
    const struct span *span = lu__span_of(region, address);
    return span == NULL || span->kind != LU_KIND_FREE || span->zero != LU_FREE_HOLE;
}

bool lu__engine_owns(const void *address) {
    struct lu__huge huge;
    return in_region(address) || lu__region_is_table(address) || lu__guard_contains(address) ||
           lu__huge_find(address, &huge) == LU_HUGE_FOUND || lu__emergency_usable(address) != 0 ||
           lu__zero_find(address) != LU_ZERO_NOT;
}
