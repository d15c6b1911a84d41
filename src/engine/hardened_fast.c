/*
 * hardened_fast.c - the short way through a hardened heap, for what nearly every call is.
 *
 *     malloc  of a size that has a class, a stash that is not empty
 *     free    a live block of a thread's span in the first region, sealed, whose neighbourhood is
 *             as it should be
 *
 * Everything else, and everything that is wrong, goes the long way of alloc.c and free.c from
 * the start: nothing has been changed then, so what is found here is not told here. The checks are
 * the same, but for one: the heap's own blocks change hands without an atomic instruction, so of
 * two threads that free the same block at the same instant both may pass. The block is then in two
 * quarantines, or twice in one, and that is found when the second one hands it out.
 *
 * Blocks here are multiples of 16 bytes. What is not inlined is called last, so that the functions
 * need no frame.
 */
#include "engine/hardened_fast.h"

#include <errno.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/fast.h"
#include "harden/parts.h"
#include "sample/sampler.h"

/* The compiler would compute the address anew for every use. */
LU_INLINE struct hard_class *class_at(struct hard *hard, unsigned c) {
    struct hard_class *class = &hard->classes[c];
    __asm__("" : "+r"(class));
    return class;
}

/* A word that may lie anywhere. */
LU_INLINE uint64_t load(uintptr_t at) {
    uint64_t word;
    memcpy(&word, (const void *)at, sizeof word);
    return word;
}

/* ---------------------------------------------------------------- malloc */

static LU_NOINLINE void *sealed_exactly(void *block, uint32_t room, size_t size, uint64_t mark) {
    lu__hard_seal((uintptr_t)block, room, (uint32_t)size);
    if (mark != 0) lu__hard_set_array((uintptr_t)block, room, true);
    return block;
}

/* The class of a block for `size` bytes, or LU_CLASSES. */
LU_INLINE unsigned class_short(size_t size) {
    if (LU_LIKELY(size - 1 < LU_SMALL_MAX - HARD_CANARY)) {
        return lu__class_small[(size + HARD_CANARY + 7) >> 3];
    }
    if (size - 1 >= LU_CLASS_BYTES_MAX - HARD_CANARY || lu__harden.page_blocks) return LU_CLASSES;
    return lu__class_mid[(size + HARD_CANARY + 127) >> 7];
}

static LU_NOINLINE void *malloc_long(size_t size) {
    return lu__alloc_long(size, false);
}

static LU_NOINLINE void *calloc_long(size_t size) {
    return lu__alloc_long(size, true);
}

static LU_NOINLINE void *malloc_array_long(size_t size) {
    void *block = lu__alloc_long(size, false);
    if (block != NULL) lu__hard_array_made(block);
    return block;
}

/* A block that is zero, or what `otherwise` gives. `mark` is 0 or HARD_ARRAY. */
LU_INLINE void *malloc_short(size_t size, uint64_t mark, void *otherwise(size_t)) {
    struct heap *heap = lu__short_heap;
    LU_ASSERT(heap != NULL);
    if (LU_UNLIKELY(heap->busy)) return otherwise(size);
    if (LU_UNLIKELY(heap->sampler != NULL)) {
        if (heap->sampler->left <= 1 || heap->sampler->burst != 0) return otherwise(size);
    }
    lu__heap_set_busy(heap, 1);
    struct hard *hard = heap->hard;
    struct hard_class *class = class_at(hard, class_short(size));
    uint32_t count = class->count, bytes = class->size;
    if (LU_UNLIKELY(count == 0)) {
        lu__heap_set_busy(heap, 0);
        return otherwise(size);
    }
    uintptr_t *place = &class->stash[lu__hard_pick_late(hard, count)];
    __asm__("" : "+r"(place));
    uintptr_t block = *place;
    if (LU_UNLIKELY(!lu__hard_is_clear(block, bytes))) {
        lu__heap_set_busy(heap, 0);
        return otherwise(size);
    }
    uint64_t *canary = (uint64_t *)(block + bytes - HARD_CANARY);
    __atomic_store_n(canary, lu__hard_hash(block) ^ mark, __ATOMIC_RELAXED);
    *place = class->stash[--count];
    class->count = (uint16_t)count;
    if (LU_UNLIKELY(heap->sampler != NULL)) heap->sampler->left--;
    lu__heap_set_busy(heap, 0);
    if (LU_LIKELY(!class->exact)) return (void *)block;
    return sealed_exactly((void *)block, bytes - HARD_CANARY, size, mark);
}

void *lu__hard_malloc(size_t size) {
    return malloc_short(size, 0, malloc_long);
}

void *lu__hard_calloc(size_t size) {
    return malloc_short(size, 0, calloc_long);
}

void *lu__hard_new_array(size_t size) {
    return malloc_short(size, HARD_ARRAY, malloc_array_long);
}

/* ---------------------------------------------------------------- free: what lies around */

/* As in harden/canary.c: the neighbour may be another thread's. */
#if LU_TSAN
#define NO_TSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define NO_TSAN inline __attribute__((always_inline))
#endif

/* The same for both sides: a neighbour whose canary is zero is free, and zero. Without branches: of
 * small blocks half have a neighbour that is free, and nobody could foretell which. */

LU_INLINE uint64_t if_free(uint64_t canary, uint64_t body) {
    uint64_t mask = canary == 0 ? ~(uint64_t)0 : 0;
    __asm__("" : "+r"(mask)); /* the compiler would branch */
    return body & mask;
}

/* What is wrong with the block before `end`, of its last 32 bytes: 0, or something, which in the
 * case of an exact canary may be nothing. */
static NO_TSAN uint64_t wrong_before(uintptr_t end, uint32_t size) {
    const uint64_t *words = (const uint64_t *)end;
    uint64_t canary = words[-1];
    uint64_t seal = (canary ^ lu__hard_hash(end - size)) & ~HARD_MARKS;
    return if_free(canary, (words[-2] | words[-3] | words[-4]) ^ seal) ^ seal;
}

/* The same of the block's first 32 bytes. (Of 32, the fourth word is the canary.) */
static NO_TSAN uint64_t wrong_behind(uintptr_t start, uint32_t size) {
    const uint64_t *words = (const uint64_t *)start;
    uint64_t canary = *(const uint64_t *)(start + size - HARD_CANARY);
    return if_free(canary, words[0] | words[1] | words[2] | words[3]);
}

/* The same on both sides of a block of 16 bytes: 8 and their canary. */
static NO_TSAN uint64_t wrong_near_lane(uintptr_t block) {
    const uint64_t *words = (const uint64_t *)block;
    uint64_t seal = (words[-1] ^ lu__hard_hash(block - HARD_LANE)) & ~HARD_MARKS;
    return (if_free(words[-1], words[-2] ^ seal) ^ seal) | if_free(words[-3], words[-4]) |
           if_free(words[3], words[2]) | if_free(words[5], words[4]);
}

/* True if what lies around the block, of whatever size, needs no report. */
static bool is_quiet(uintptr_t block, uint32_t offset, uint32_t size) {
    if (size == HARD_LANE) {
        return offset >= HARD_NEAR && offset + HARD_LANE + HARD_NEAR <= LU_SLICE &&
               wrong_near_lane(block) == 0;
    }
    if (offset != 0 && wrong_before(block, size) != 0) {
        uint32_t room = size - HARD_CANARY; /* an exact canary is right in its own way */
        if (lu__hard_is_free(block - size, room)) return false;
        if (!lu__hard_has_canary(block - size, room)) return false;
    }
    return offset + 2 * size > LU_SLICE || wrong_behind(block + size, size) == 0;
}

/* ---------------------------------------------------------------- free */

/* Free the block of another heap's span. */
static LU_NOINLINE void free_foreign(struct heap *heap, unsigned c, uintptr_t block) {
    bool mine = lu__hard_end_live(block, lu__hard_room(c));
    if (mine) {
        lu__hard_clear(block, lu__hard_room(c));
        lu__hard_detain(heap, c, block, true);
    }
    lu__heap_set_busy(heap, 0);
    if (!mine) lu__free_long((void *)block); /* another thread was faster */
}

static LU_NOINLINE void detain_and_leave(struct heap *heap, unsigned c, uintptr_t block) {
    lu__hard_detain(heap, c, block, false);
    lu__heap_set_busy(heap, 0);
}

static LU_NOINLINE void let_go_and_leave(struct heap *heap, unsigned c, uintptr_t block) {
    lu__hard_let_go(heap->hard, c, block);
    lu__heap_set_busy(heap, 0);
}

/* The block is zero; the heap is busy. */
LU_INLINE void end_free(struct heap *heap, struct hard_class *class, const struct span *span,
                        uintptr_t block) {
    uint32_t at = class->at, count = class->count;
    if (LU_UNLIKELY(!class->waits)) return detain_and_leave(heap, span->class_id, block);
    uintptr_t *place = &class->fifo[at];
    __asm__("" : "+r"(place));
    uintptr_t oldest = *place;
    *place = block;
    class->at = (uint16_t)((at + 1) & class->mask);
    if (LU_LIKELY(oldest != 0)) {
        if (LU_UNLIKELY(count == class->capacity)) {
            return let_go_and_leave(heap, span->class_id, oldest);
        }
        __builtin_prefetch((void *)oldest, 1);
        class->stash[count] = oldest;
        class->count = (uint16_t)(count + 1);
    }
    lu__heap_set_busy(heap, 0);
}

/* True if the block is live and whole, whatever its canary tells of its size. */
LU_INLINE bool is_sealed(uintptr_t block, uint32_t size, uint64_t mark) {
    uint32_t room = size - HARD_CANARY, asked;
    if (LU_LIKELY((load(block + room) ^ lu__hard_hash(block)) == mark)) return true;
    return lu__hard_sealed(block, room, &asked) && lu__hard_is_array(block, room) == (mark != 0);
}

/* Of any size and place, and with an exact canary; `mark` as new[] left it, or 0. */
static LU_NOINLINE void free_any(struct heap *heap, struct span *span, uintptr_t block,
                                 uint64_t mark) {
    struct hard_class *class = class_at(heap->hard, span->class_id);
    uint32_t offset = (uint32_t)(block & (LU_SLICE - 1)), size = class->size;
    bool inside = offset % HARD_LANE == 0 && offset + size <= LU_SLICE;
    if (!inside || heap->busy || !is_sealed(block, size, mark) || !is_quiet(block, offset, size)) {
        if (mark != 0) lu__hard_array_ends((void *)block);
        return lu__free_long((void *)block);
    }
    lu__heap_set_busy(heap, 1);
    if (LU_RELAXED(span->owner) != heap) return free_foreign(heap, span->class_id, block);
    lu__hard_clear(block, size - HARD_CANARY);
    end_free(heap, class, span, block);
}

/* Free `block`; its span is a hardened one of a thread. Nearly always it is of 32 to 512 bytes, has
 * a neighbour on both sides, and its canary is the simple one. */
LU_INLINE void free_short(struct heap *heap, struct span *span, uintptr_t block, uint64_t mark) {
    struct hard_class *class = class_at(heap->hard, span->class_id);
    uint32_t size = class->size;
    if (LU_UNLIKELY((uint32_t)(block & (LU_SLICE - 1)) - 1 >= class->short_below) ||
        LU_UNLIKELY((load(block + size - HARD_CANARY) ^ lu__hard_hash(block)) != mark)) {
        return free_any(heap, span, block, mark); /* or no block: who could write that there? */
    }
    uint64_t wrong = wrong_behind(block + size, size);
    __asm__("" : "+r"(wrong)); /* one after the other, in few registers */
    wrong |= wrong_before(block, size);
    if (LU_UNLIKELY(wrong != 0) || LU_UNLIKELY(heap->busy)) {
        return free_any(heap, span, block, mark);
    }
    lu__heap_set_busy(heap, 1);
    if (LU_UNLIKELY(LU_RELAXED(span->owner) != heap)) {
        return free_foreign(heap, span->class_id, block);
    }
    lu__lanes *at = (lu__lanes *)block, *last = (lu__lanes *)(block + size - HARD_LANE);
    for (; at + 2 <= last; at += 2) {
        at[0] = at[1] = (lu__lanes){0, 0};
        LU_SHORT_LOOP(at);
    }
    if (at < last) *at = (lu__lanes){0, 0};
    *(uint64_t *)last = 0;
    __atomic_store_n((uint64_t *)last + 1, 0, __ATOMIC_RELEASE);
    end_free(heap, class, span, block);
}

/* In *span the descriptor of `block`, if that is a hardened span of a thread in the first region,
 * as far as the thread knows it. */
LU_INLINE bool find_short(const struct heap *heap, const void *block, struct span **span) {
    LU_ASSERT(heap != NULL);
    return LU_LIKELY(lu__fast_find(heap, block, span)) &&
           LU_LIKELY((*span)->whose == LU_OF_THREAD_HARDENED);
}

void lu__hard_free_quick(void *block) {
    struct heap *heap = lu__short_heap;
    struct span *span = NULL;
    if (LU_UNLIKELY(!find_short(heap, block, &span))) return lu__free_long(block);
    free_short(heap, span, (uintptr_t)block, 0);
}

bool lu__hard_free_sized(void *block, size_t size, bool array) {
    struct heap *heap = lu__short_heap;
    struct span *span = NULL;
    if (LU_UNLIKELY(!find_short(heap, block, &span)) || class_short(size) != span->class_id ||
        heap->hard->classes[span->class_id].exact) {
        return false;
    }
    free_short(heap, span, (uintptr_t)block, array ? HARD_ARRAY : 0);
    return true;
}

/* ---------------------------------------------------------------- realloc */

void *lu__hard_realloc(void *block, size_t size) {
    struct heap *heap = lu__short_heap;
    struct span *span = NULL;
    if (LU_UNLIKELY(!find_short(heap, block, &span))) return NULL;
    struct hard_class *class = class_at(heap->hard, span->class_id);
    uint32_t offset = (uint32_t)((uintptr_t)block & (LU_SLICE - 1)),
             room = class->size - HARD_CANARY;
    if (class->exact || offset + room > LU_SLICE - HARD_CANARY ||
        load((uintptr_t)block + room) != lu__hard_hash((uintptr_t)block)) {
        return NULL;
    }
    if (class_short(size) == span->class_id) return block;
    int saved = errno;
    void *result = lu__hard_malloc(size);
    if (LU_UNLIKELY(result == NULL)) {
        errno = saved;
        return NULL;
    }
    memcpy(result, block, LU_MIN(size, room));
    lu__free_slow(block); /* which looks whether the heap is still a hardened one */
    return result;
}

/* ---------------------------------------------------------------- new[] and delete[] */

void lu__hard_delete_array(void *block) {
    struct heap *heap = lu__short_heap;
    struct span *span = NULL;
    if (LU_UNLIKELY(!find_short(heap, block, &span))) {
        lu__hard_array_ends(block);
        return lu__free_long(block);
    }
    free_short(heap, span, (uintptr_t)block, HARD_ARRAY);
}
