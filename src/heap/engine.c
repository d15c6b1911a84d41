/*
 * engine.c - the slow paths behind malloc and free: the contract of engine.h.
 *
 * Whatever the fast paths do not handle arrives here with nothing known but the arguments. An
 * allocation enters the thread's heap and takes the long way (small.c, large.c). A pointer that
 * comes in is looked up from scratch, which is also where misuse is told apart:
 *
 *     in no region      huge block | emergency block | foreign pointer
 *     in a region       free memory: freed before | never handed out: wild
 *     LARGE             start of the block, or interior
 *     SMALL             beyond the carved part: wild | no multiple of the size: interior |
 *                       page purged, or linked: freed before
 *
 * No function here touches errno except to say ENOMEM.
 */
#include "heap/engine.h"

#include <errno.h>
#include <string.h>

#include "base/options.h"
#include "base/violation.h"
#include "heap/fast.h"
#include "heap/guard.h"
#include "heap/harden.h"
#include "heap/limit.h"
#include "heap/track.h"
#include "heap/user.h"
#include "heap/zero.h"
#include "os/os.h"
#include "span/huge.h"

static unsigned char perturb_byte;
static bool some_stayed; /* relaxed atomic; see stay */

/* ---------------------------------------------------------------- allocation */

/* From `heap`, which is entered or locked. */
static void *alloc_in(struct heap *heap, size_t align, size_t size, bool *zero) {
    unsigned c = LU_CLASSES;
    if (size == 0 && align <= 16 && heap->kind == LU_HEAP_OF_THREAD) {
        void *name = lu__zero_alloc();
        *zero = true;
        if (name != NULL) return name;
    }
    if (LU_UNLIKELY(heap->hard != NULL)) return lu__hard_alloc(heap, align, size, zero);
    if (align <= 16) {
        if (size <= LU_CLASS_BYTES_MAX) c = lu__class_of(align <= 8 ? size : LU_MAX(size, align));
    } else {
        c = lu__class_of_aligned(align, size);
    }
    if (c < LU_CLASSES) return lu__small_alloc(heap, c, zero);
    lu__tick(heap);
    return lu__large_alloc(heap->kind == LU_HEAP_OF_USER ? heap : NULL, align, size, zero);
}

void *lu__user_alloc(struct heap *heap, size_t align, size_t size, bool zeroed) {
    bool zero = false;
    void *block;
    struct lu__limit_tries tries = {0};
    do {
        struct heap *self; /* frees of the heap's blocks go by what it knows of the region */
        if (!lu__thread_enter_any(&self)) { /* a signal handler */
            block = lu__emergency_alloc(align, size);
            zero = true;
            continue;
        }
        block = NULL;
        if (lu__user_lock(heap)) {
            block = alloc_in(heap, align, size, &zero);
            lu__user_unlock(heap);
        }
        lu__thread_leave(self);
    } while (block == NULL && lu__limit_reached(size, heap, &tries));
    if (block == NULL) {
        errno = ENOMEM;
    } else if (zeroed && !zero) {
        memset(block, 0, size);
    }
    return block;
}

/* For the calling thread. */
static void *alloc_here(size_t align, size_t size, bool zeroed) {
    bool zero = false;
    void *block = NULL;
    struct lu__limit_tries tries = {0};
    do {
        struct heap *heap = lu__thread_enter();
        if (heap != NULL) {
            if (heap->sampler != NULL) block = lu__guard_try(heap, align, size, &zero);
            if (block == NULL) block = alloc_in(heap, align, size, &zero);
            lu__thread_leave(heap);
        } else if (lu__thread_interrupted() || !lu__span_was_refused()) {
            block = lu__emergency_alloc(align, size);
            zero = true;
        } /* else the limit forbids a heap for the thread */
    } while (block == NULL && lu__limit_reached(size, NULL, &tries));
    if (LU_UNLIKELY(block == NULL)) {
        errno = ENOMEM;
    } else if (zeroed) {
        if (!zero) memset(block, 0, size);
    } else if (LU_UNLIKELY(lu__perturbing)) {
        memset(block, (unsigned char)~perturb_byte, size);
    }
    return block;
}

/* The last block of the list of class `c`, or NULL. */
static void *last_of(unsigned c) {
    return c < LU_CLASSES ? (void *)lu__small_last(lu__heap, c) : NULL;
}

void *lu__alloc_long(size_t size, bool zeroed) {
    return alloc_here(8, size, zeroed);
}

static LU_NOINLINE void *alloc_last(size_t size) {
    void *block = last_of(lu__fast_class(lu__heap, size));
    return block != NULL ? block : alloc_here(8, size, false);
}

void *lu__alloc_slow(size_t size) {
    return lu__hard_heap != NULL ? lu__hard_malloc(size) : alloc_last(size);
}

void *lu__engine_alloc(size_t size) {
    return lu__fast_alloc(size);
}

void *lu__engine_alloc_zeroed(size_t size) {
    if (lu__hard_heap != NULL) return lu__hard_calloc(size);
    void *block = last_of(lu__fast_class(lu__heap, size));
    /* A list that is empty is refilled with memory that may be known to be zero. */
    return block != NULL ? memset(block, 0, size) : alloc_here(8, size, true);
}

void *lu__engine_alloc_aligned(size_t alignment, size_t size) {
    void *block = last_of(lu__fast_class_aligned(lu__heap, alignment, size));
    return block != NULL ? block : alloc_here(alignment, size, false);
}

/* ---------------------------------------------------------------- what is this pointer? */

enum place {
    PLACE_BAD,
    PLACE_SMALL,
    PLACE_LARGE,
    PLACE_HUGE,
    PLACE_EMERGENCY,
    PLACE_ZERO,
    PLACE_GUARD,
    PLACE_UNKNOWN /* huge or foreign: in a signal handler above who changes the table */
};

struct found {
    enum place place;
    struct span *span; /* SMALL, LARGE */
    size_t usable;     /* bytes        */
    struct heap *user; /* LARGE, HUGE: the lu_heap that owns it, or NULL */
};

static enum place bad(lu_violation_kind_t kind, const char *call, const void *pointer,
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
        return bad(LU_DOUBLE_FREE, call, pointer, pointer, 0);
    case LU_ZERO_INTERIOR:
        return bad(LU_WILD_POINTER, call, pointer, NULL, 0);
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
        return bad(lu__region_is_table(pointer) ? LU_WILD_POINTER : none, call, pointer, NULL, 0);
    default:
        break;
    }
    if (huge.block != pointer) {
        return bad(LU_INTERIOR_POINTER, call, pointer, huge.block, huge.bytes);
    }
    found->usable = huge.bytes;
    found->user = huge.owner;
    return PLACE_HUGE;
}

static enum place find_hardened(const void *pointer, const char *call, struct found *found) {
    const struct span *span = found->span;
    uintptr_t block = 0;
    if (__atomic_load_n(&span->owner, __ATOMIC_RELAXED) == NULL) { /* of a heap that has ended */
        return bad(LU_WILD_POINTER, call, pointer, NULL, 0);
    }
    switch (lu__hard_find(span, pointer, &block)) {
    case HARD_WILD:
        return bad(LU_WILD_POINTER, call, pointer, NULL, 0);
    case HARD_INTERIOR:
        return bad(LU_INTERIOR_POINTER, call, pointer, (void *)block, lu__hard_block_bytes(span));
    case HARD_FREE:
        return bad(LU_DOUBLE_FREE, call, pointer, pointer, lu__hard_block_bytes(span));
    default:
        found->usable = lu__hard_usable(span, block);
        return PLACE_SMALL;
    }
}

static enum place find_small(const void *pointer, const char *call, struct found *found) {
    struct span *span = found->span;
    char *start = lu__span_start(span);
    uint32_t size = lu__class_size[span->class_id];
    uint32_t offset = (uint32_t)((const char *)pointer - start);
    uint32_t limit = __atomic_load_n(&span->limit, __ATOMIC_RELAXED);
    if (offset >= limit) return bad(LU_WILD_POINTER, call, pointer, NULL, 0);
    if (offset % size != 0) {
        return bad(LU_INTERIOR_POINTER, call, pointer, start + offset / size * size, size);
    }
    uint32_t purged = __atomic_load_n(&span->purged, __ATOMIC_RELAXED);
    bool gone = span->slices == 1 && (lu__block_pages(offset, size) & purged) != 0;
    if (gone || lu__link_is_free(span, (uintptr_t)pointer)) {
        return bad(LU_DOUBLE_FREE, call, pointer, pointer, size);
    }
    found->usable = size;
    return PLACE_SMALL;
}

/* Look `pointer`, not NULL, up for `call`; misuse is reported. */
static enum place find(const void *pointer, const char *call, struct found *found) {
    const struct region *region = lu__region_of(pointer);
    lu_violation_kind_t none = lu__region_had(pointer) ? LU_DOUBLE_FREE : LU_FOREIGN_POINTER;
    if (region == NULL) return find_outside(pointer, call, found, none);
    struct span *span = lu__span_of(region, pointer);
    if (span == NULL && none != LU_DOUBLE_FREE) none = LU_WILD_POINTER;
    if (span == NULL) return bad(none, call, pointer, NULL, 0);
    found->span = span;
    if (span->kind == LU_KIND_SMALL) {
        return span->hardened ? find_hardened(pointer, call, found)
                              : find_small(pointer, call, found);
    }
    char *start = lu__span_start(span);
    if (LU_UNLIKELY(span->kind == LU_KIND_FREE && span->zero == LU_FREE_HOLE)) {
        return find_outside(pointer, call, found, LU_DOUBLE_FREE); /* others may be in a hole */
    }
    if (span->kind != LU_KIND_LARGE || lu__large_is_taken(span)) {
        return bad(LU_DOUBLE_FREE, call, pointer, NULL, 0);
    }
    found->usable = lu__large_bytes(span);
    found->user = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    start += lu__large_front(span);
    if (start != pointer) return bad(LU_INTERIOR_POINTER, call, pointer, start, found->usable);
    return PLACE_LARGE;
}

/* ---------------------------------------------------------------- free */

void lu__free_needed(struct heap *heap, struct span *span) {
    if (span->state == LU_SPAN_CURRENT && lu__may_skip_tick(heap)) {
        span->needed = lu__cadence(heap);
        if (LU_UNLIKELY(heap->sampler != NULL)) lu__guard_renew(heap, span);
        return;
    }
    struct heap *entered = lu__thread_enter();
    if (entered == NULL) { /* a signal handler: the next free of the span looks again */
        span->needed = 1;
        return;
    }
    LU_ASSERT(entered == heap);
    lu__small_needed(heap, span);
    lu__thread_leave(entered);
}

/* True if `user`, which is locked now, still owns the run. If another thread does wrong, that may
 * have ended since it was looked up, and all that was found then is another's. */
static bool still_owns(const struct heap *user, const struct span *span) {
    return __atomic_load_n(&span->owner, __ATOMIC_RELAXED) == user;
}

static void free_of_user(struct heap *user, struct span *span, uintptr_t block) {
    struct heap *self;
    if (!lu__thread_enter_any(&self)) return; /* a signal handler: lost, rather than a deadlock */
    if (lu__user_lock(user)) {
        struct found found = {.span = span};
        /* Looked at again, as another thread may have freed it while this one waited. */
        if (still_owns(user, span) && span->kind == LU_KIND_SMALL &&
            find_small((void *)block, "free", &found) == PLACE_SMALL) {
            lu__small_free(user, span, block);
        }
        lu__user_unlock(user);
    }
    lu__thread_leave(self);
}

static void free_small(struct span *span, uintptr_t block) {
    if (LU_UNLIKELY(span->hardened)) return lu__hard_free(span, block, "free");
    /* Read once: another thread may end the span, or its heap, at any time, if one does wrong. */
    struct heap *owner = __atomic_load_n(&span->owner, __ATOMIC_RELAXED);
    if (LU_UNLIKELY(owner == NULL)) {
        (void)bad(LU_DOUBLE_FREE, "free", (void *)block, NULL, 0);
        return;
    }
    uint8_t kind = __atomic_load_n(&owner->kind, __ATOMIC_RELAXED);
    if (kind == LU_HEAP_OF_USER) return free_of_user(owner, span, block);
    if (LU_UNLIKELY(kind != LU_HEAP_OF_THREAD)) return; /* it is ending */
    if (owner == lu__thread_heap()) {
        lu__fast_push(owner, span, (void *)block);
        return;
    }
    struct heap *heap = lu__thread_enter();
    lu__remote_free(heap, span, block);
    if (heap != NULL) lu__thread_leave(heap);
}

/* What a signal handler frees above a slow path of its thread is lost, rather than a deadlock. */
static void free_large(const struct found *found, void *block) {
    struct span *span = found->span;
    struct heap *self, *user = found->user;
    if (!lu__thread_enter_any(&self)) return;
    if (!lu__large_take(span)) {
        (void)bad(LU_DOUBLE_FREE, "free", block, NULL, 0);
        lu__thread_leave(self);
        return;
    }
    if (span->hardened) lu__hard_large_check(span);
    bool ours = user == NULL;
    if (!ours && lu__user_lock(user)) {
        ours = still_owns(user, span);
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
    if (!there) (void)bad(LU_DOUBLE_FREE, "free", block, NULL, 0); /* by another thread */
    lu__inside_leave();
}

static void free_found(enum place place, const struct found *found, void *block) {
    bool known = place != PLACE_BAD && place != PLACE_EMERGENCY && place != PLACE_UNKNOWN;
    if (known && LU_UNLIKELY(lu__perturbing)) memset(block, perturb_byte, found->usable);
    switch (place) {
    case PLACE_SMALL:
        free_small(found->span, (uintptr_t)block);
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
        if (!lu__zero_free(block)) (void)bad(LU_DOUBLE_FREE, "free", block, block, 0);
        break;
    default:
        break;
    }
}

void lu__free_slow(void *block) {
    if (block == NULL) return;
    if (lu__hard_heap != NULL) return lu__hard_free_quick(block);
    lu__free_long(block);
}

void lu__free_long(void *block) {
    struct found found = {.place = PLACE_BAD};
    enum place place = find(block, "free", &found);
    free_found(place, &found, block);
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
    if (__atomic_load_n(&some_stayed, __ATOMIC_RELAXED) && size <= found->usable) return true;
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
    if (lu__hard_heap != NULL && alignment <= 16 && lu__hard_free_sized(block, size, false)) return;
    struct found found = {.place = PLACE_BAD};
    enum place place = find(block, call, &found);
    if (place == PLACE_BAD) return;
    bool aligned = alignment == 0 || ((uintptr_t)block & (alignment - 1)) == 0;
    if (aligned && size_matches(place, &found, alignment, size)) {
        return free_found(place, &found, block);
    }
    lu__violation(aligned ? LU_SIZE_MISMATCH : LU_ALIGN_MISMATCH, call, block, block, found.usable);
    lu__free_slow(block); /* as what it is; looked up anew, as a handler may have freed it */
}

/* ---------------------------------------------------------------- resize and questions */

static struct heap *user_of(enum place place, const struct found *found) {
    if (place != PLACE_SMALL) return found->user;
    struct heap *owner = __atomic_load_n(&found->span->owner, __ATOMIC_RELAXED);
    bool of_user = owner != NULL &&
                   __atomic_load_n(&owner->kind, __ATOMIC_RELAXED) != LU_HEAP_OF_THREAD;
    return of_user ? owner : NULL; /* or one that is ending, which gives nothing any more */
}

/* Resize without leaving the place; NULL if that cannot be. */
static void *resize_in_place(enum place place, const struct found *found, void *block,
                             size_t size) {
    if (place == PLACE_ZERO) return NULL;
    if (place == PLACE_GUARD) return size == found->usable ? block : NULL;
    if (is_hardened(place, found)) {
        if (place != PLACE_SMALL) return size == found->usable ? block : NULL;
        return lu__hard_resize(found->span, (uintptr_t)block, size) ? block : NULL;
    }
    if (place == PLACE_SMALL) {
        bool same = size <= LU_CLASS_BYTES_MAX && lu__class_of(size) == found->span->class_id;
        return same ? block : NULL;
    }
    if (place == PLACE_EMERGENCY) return size <= found->usable ? block : NULL;
    if (size <= LU_CLASS_BYTES_MAX) return NULL;
    struct heap *user = found->user;
    void *result = NULL;
    if (!lu__thread_mark()) return NULL;
    if (user == NULL || lu__user_lock(user)) {
        if (place == PLACE_HUGE) {
            result = lu__large_resize_huge(block, size);
        } else if (user == NULL || still_owns(user, found->span)) {
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
    __atomic_store_n(&some_stayed, true, __ATOMIC_RELAXED);
    errno = saved_errno;
    return block;
}

/* What is of no heap (emergency memory) moves to the lu_heap `into`, or if that is NULL to the
 * thread's. */
static void *resize(void *block, size_t size, struct heap *into) {
    struct found found = {.place = PLACE_BAD};
    enum place place = find(block, "realloc", &found);
    if (place == PLACE_BAD || place == PLACE_UNKNOWN || size > LU_ENGINE_MAX) {
        errno = ENOMEM;
        return NULL;
    }
    void *result = resize_in_place(place, &found, block, size);
    if (result != NULL) return result;
    struct heap *user = place == PLACE_EMERGENCY ? into : user_of(place, &found);
    int saved = errno;
    result = user != NULL ? lu__user_alloc(user, 8, size, false) : lu__fast_alloc(size);
    if (result == NULL) return stay(block, size, found.usable, saved);
    memcpy(result, block, LU_MIN(size, found.usable));
    lu__free_long(block); /* looked up anew: if its heap has ended, it may be another's */
    return result;
}

void *lu__engine_resize(void *block, size_t size) {
    if (lu__hard_heap != NULL) {
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
    return find(block, call, &found) == PLACE_BAD ? 0 : found.usable;
}

bool lu__user_has(const struct heap *heap, const void *block, const char *call, bool to_free) {
    struct found found = {.place = PLACE_BAD};
    enum place place = find(block, call, &found);
    if (place == PLACE_BAD) return false;
    if (place == PLACE_EMERGENCY || place == PLACE_UNKNOWN) return true; /* it may be */
    const struct heap *owner = user_of(place, &found);
    if (owner == heap) return true;
    (void)bad(LU_WRONG_HEAP, call, block, NULL, 0);
    return to_free && (owner == NULL || owner->shared); /* else another thread may be in it */
}

size_t lu__engine_good_size(size_t size) {
    if (size > LU_ENGINE_MAX) return 0;
    if (size == 0 && lu__option(LU_OPT_GUARD_ZERO) != 0) return 0;
    if (size <= LU_CLASS_BYTES_MAX) return lu__class_size[lu__class_of(size)];
    size_t pages = lu__align_up(size, LU_OS_PAGE);
    return pages > LU_ENGINE_MAX ? 0 : pages;
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

/* ---------------------------------------------------------------- the whole */

void lu__engine_set_perturb(int value) {
    perturb_byte = (unsigned char)value;
    lu__perturbing = value != 0;
    lu__thread_see_perturb();
}
