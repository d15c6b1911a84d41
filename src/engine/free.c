/*
 * free.c - free's slow paths: a pointer is looked up from scratch (find.c), and given back to what
 * it came from. A block of a SMALL span goes back as its heap says (heap/plain.c, harden/blocks.c).
 *
 * free keeps errno: nothing here touches it.
 */
#include <string.h>

#include "engine/hardened_fast.h"
#include "engine/parts.h"
#include "engine/zero.h"
#include "harden/harden.h"
#include "heap/ops.h"
#include "os/os.h"
#include "sample/guard.h"
#include "span/huge.h"

/* What a signal handler frees above a slow path of its thread is lost, rather than a deadlock. */
static void free_large(const struct found *found, void *block) {
    struct span *span = found->span;
    struct heap *self, *user = found->user;
    if (!lu__thread_enter_any(&self)) return;
    if (!lu__large_take(span)) {
        (void)lu__misuse(LU_DOUBLE_FREE, "free", block, NULL, 0);
        lu__thread_leave(self);
        return;
    }
    if (span->hardened) lu__hard_large_check(span);
    bool ours = user == NULL;
    if (!ours && lu__user_lock(user)) {
        ours = lu__still_owns(user, span);
        if (ours) lu__heap_unlink(user, span);
        lu__user_unlock(user);
    }
    if (ours && span->hardened) {
        lu__hard_large_free(span);
    } else if (ours) {
        lu__large_free(span);
    }
    if (self != NULL) lu__tick(self);
    lu__thread_leave(self);
}

static void free_huge(struct heap *user, void *block) {
    if (!lu__thread_mark()) return;
    bool there = true;
    if (user == NULL) {
        there = lu__huge_free(block);
    } else if (lu__user_lock(user)) {
        struct lu__huge huge;
        there = lu__huge_find(block, &huge) == LU_HUGE_FOUND && huge.owner == user &&
                lu__huge_free(block);
        lu__user_unlock(user);
    }
    if (!there) (void)lu__misuse(LU_DOUBLE_FREE, "free", block, NULL, 0); /* by another thread */
    lu__inside_leave();
}

void lu__free_found(enum place place, const struct found *found, void *block) {
    bool known = place != PLACE_BAD && place != PLACE_EMERGENCY && place != PLACE_UNKNOWN;
    if (known && LU_UNLIKELY(lu__perturbing)) memset(block, lu__perturb_byte, found->usable);
    switch (place) {
    case PLACE_SMALL:
        lu__run_ops(found->span)->free(found->span, (uintptr_t)block, "free");
        break;
    case PLACE_LARGE:
        free_large(found, block);
        break;
    case PLACE_HUGE:
        free_huge(found->user, block);
        break;
    case PLACE_GUARD:
        lu__guard_free(block);
        break;
    case PLACE_ZERO:
        if (!lu__zero_free(block)) (void)lu__misuse(LU_DOUBLE_FREE, "free", block, block, 0);
        break;
    default:
        break;
    }
}

void lu__free_slow(void *block) {
    if (block == NULL) return;
    if (lu__short_heap != NULL) return lu__hard_free_quick(block);
    lu__free_long(block);
}

void lu__free_long(void *block) {
    struct found found = {.place = PLACE_BAD};
    enum place place = lu__find(block, "free", &found);
    lu__free_found(place, &found, block);
}

void lu__engine_free(void *block) {
    lu__fast_free(block);
}

static bool is_hardened(enum place place, const struct found *found) {
    return (place == PLACE_SMALL || place == PLACE_LARGE) && found->span->hardened;
}

/* The class that alloc_in takes for the arguments; LU_CLASSES: a large block. */
static unsigned class_for(size_t align, size_t size) {
    if (align > 16) return lu__class_of_aligned(align, size);
    if (size > LU_CLASS_BYTES_MAX) return LU_CLASSES;
    return lu__class_of(align == 16 ? LU_MAX(size, 16) : size);
}

/* True if alloc_in would give a block of this place for the arguments; or for any smaller size once
 * a block has stayed in its place when it became smaller, since it is not known which. */
static bool size_matches(enum place place, const struct found *found, size_t align, size_t size) {
    if (place == PLACE_EMERGENCY || place == PLACE_UNKNOWN) return true;
    if (__atomic_load_n(&lu__some_stayed, __ATOMIC_RELAXED) && size <= found->usable) return true;
    if (place == PLACE_ZERO) return size == 0;
    if (is_hardened(place, found)) {
        return lu__hard_size_matches(found->span, found->usable, align, size);
    }
    unsigned c = class_for(align, size);
    if (place == PLACE_GUARD) return c == class_for(align, found->usable);
    if (place == PLACE_SMALL) return found->span->class_id == c;
    /* Hardened, blocks of half a page and more may have mappings. */
    bool large = c == LU_CLASSES || (lu__harden.page_blocks && size >= LU_OS_PAGE / 2);
    return large && lu__align_up(LU_MAX(size, 1), LU_OS_PAGE) == found->usable;
}

void lu__engine_free_sized(void *block, size_t alignment, size_t size, const char *call) {
    if (block == NULL) return;
    if (lu__short_heap != NULL && alignment <= 16 && lu__hard_free_sized(block, size, false))
        return;
    struct found found = {.place = PLACE_BAD};
    enum place place = lu__find(block, call, &found);
    if (place == PLACE_BAD) return;
    bool aligned = alignment == 0 || ((uintptr_t)block & (alignment - 1)) == 0;
    if (aligned && size_matches(place, &found, alignment, size)) {
        return lu__free_found(place, &found, block);
    }
    lu__violation(aligned ? LU_SIZE_MISMATCH : LU_ALIGN_MISMATCH, call, block, block, found.usable);
    lu__free_slow(block); /* as what it is; looked up anew, as a handler may have freed it */
}
