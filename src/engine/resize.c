/*
 * resize.c - realloc's slow paths, and questions about a block.
 *
 * In its place if it can be: a small block in its class, a large one in its run or with its pages
 * moved (heap/large.c). Else a new block, a copy, a free. Where there is no memory to move to, a
 * block that was to become smaller stays.
 *
 * No function here touches errno except to say ENOMEM.
 */
#include <errno.h>
#include <string.h>

#include "base/options.h"
#include "engine/hardened_fast.h"
#include "engine/parts.h"
#include "engine/user.h"
#include "harden/harden.h"
#include "heap/ops.h"
#include "os/os.h"

bool lu__some_stayed;

/* Resize without leaving the place; NULL if that cannot be. */
static void *resize_in_place(enum place place, const struct found *found, void *block,
                             size_t size) {
    if (place == PLACE_ZERO) return NULL;
    if (place == PLACE_GUARD) return size == found->usable ? block : NULL;
    if (place == PLACE_SMALL) {
        bool same = lu__run_ops(found->span)->resize(found->span, (uintptr_t)block, size);
        return same ? block : NULL;
    }
    if (place == PLACE_LARGE && found->span->hardened) return size == found->usable ? block : NULL;
    if (place == PLACE_EMERGENCY) return size <= found->usable ? block : NULL;
    if (size <= LU_CLASS_BYTES_MAX) return NULL;
    struct heap *user = found->user;
    void *result = NULL;
    if (!lu__thread_mark()) return NULL;
    if (user == NULL || lu__user_lock(user)) {
        if (place == PLACE_HUGE) {
            result = lu__large_resize_huge(block, size, !lu__harden.on);
        } else if (user == NULL || lu__still_owns(user, found->span)) {
            result = lu__large_resize(found->span, size);
        }
        if (user != NULL) lu__user_unlock(user);
    }
    lu__inside_leave();
    return result;
}

/* There is no memory to move to: a block that was to become smaller fits where it is. */
static LU_COLD void *stay(void *block, size_t size, size_t usable, int saved_errno) {
    if (size > usable) return NULL;
    __atomic_store_n(&lu__some_stayed, true, __ATOMIC_RELAXED);
    errno = saved_errno;
    return block;
}

/* What is of no heap (emergency memory) moves to the lu_heap `into`, or if that is NULL to the
 * thread's. */
static void *resize(void *block, size_t size, struct heap *into) {
    struct found found = {.place = PLACE_BAD};
    enum place place = lu__find(block, "realloc", &found);
    if (place == PLACE_BAD || place == PLACE_UNKNOWN || size > LU_ENGINE_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    void *result = resize_in_place(place, &found, block, size);
    if (result != NULL) return result;
    struct heap *user = place == PLACE_EMERGENCY ? into : lu__found_user(place, &found);
    int saved = errno;
    result = user != NULL ? lu__user_alloc(user, 8, size, false) : lu__fast_alloc(size);
    if (result == NULL) return stay(block, size, found.usable, saved);
    memcpy(result, block, LU_MIN(size, found.usable));
    lu__free_long(block); /* looked up anew: if its heap has ended, it may be another's */
    return result;
}

void *lu__engine_resize(void *block, size_t size) {
    if (lu__short_heap != NULL) {
        void *moved = lu__hard_realloc(block, size);
        if (moved != NULL) return moved;
    }
    return resize(block, size, NULL);
}

void *lu__user_resize(struct heap *heap, void *block, size_t size) {
    return resize(block, size, heap);
}

/* To another class or to a large block. `block` is a live one of `span`, which may be another
 * thread's; neither changes under the allocation. */
void *lu__resize_move(struct heap *heap, struct span *span, void *block, size_t size) {
    /* Looked at again: that of a lu_heap may have ended, if another thread does wrong. */
    uint8_t whose = span->whose;
    if (LU_UNLIKELY(whose == LU_OF_NOBODY || whose >= LU_OF_USER)) return resize(block, size, NULL);
    size_t usable = lu__class_size[span->class_id];
    int saved = size < usable ? errno : 0;
    void *result = lu__fast_alloc(size);
    if (LU_UNLIKELY(result == NULL)) return stay(block, size, usable, saved);
    memcpy(result, block, LU_MIN(size, usable));
    lu__fast_give(heap, span, block);
    return result;
}

size_t lu__engine_usable(const void *block, const char *call) {
    struct found found = {.place = PLACE_BAD};
    return lu__find(block, call, &found) == PLACE_BAD ? 0 : found.usable;
}

bool lu__user_has(const struct heap *heap, const void *block, const char *call, bool to_free) {
    struct found found = {.place = PLACE_BAD};
    enum place place = lu__find(block, call, &found);
    if (place == PLACE_BAD) return false;
    if (place == PLACE_EMERGENCY || place == PLACE_UNKNOWN) return true; /* it may be */
    const struct heap *owner = lu__found_user(place, &found);
    if (owner == heap) return true;
    (void)lu__misuse(LU_WRONG_HEAP, call, block, NULL, 0);
    return to_free && (owner == NULL || owner->shared); /* else another thread may be in it */
}
