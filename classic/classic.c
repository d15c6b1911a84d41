/*
 * classic.c - what all classic heaps have in common.
 *
 * An instance lies in memory of its own, not in its area: the area is the policy's alone, and every
 * byte of it is told by its walk. A tracked heap also has the table of asked.h.
 *
 * Counters are relaxed atomics, for some policies are threaded; nothing else here is shared. What a
 * policy is asked for has been checked here: sizes are from 1 to LARGEST, alignments powers of two
 * above its own.
 */
#include "classic/classic.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/format.h"
#include "classic/asked.h"

#define LARGEST ((size_t)PTRDIFF_MAX - 64 * LU_KIB)
#define DEFAULT_LIMIT (64 * LU_GIB)
#define PROCESS_LIMIT ((size_t)1 << 46)

/* ---------------------------------------------------------------- memory for tables */

void *lu__classic_meta_alloc(size_t bytes) {
    void *at;
    return lu__os_map(lu__align_up(bytes, LU_OS_PAGE), LU_OS_PAGE, &at) == 0 ? at : NULL;
}

void lu__classic_meta_free(void *at, size_t bytes) {
    (void)lu__os_unmap(at, lu__align_up(bytes, LU_OS_PAGE));
}

/* ---------------------------------------------------------------- life */

struct lu__classic *lu__classic_create(const struct lu__policy *policy,
                                       const struct lu__classic_config *config) {
    struct lu__classic *heap = lu__classic_meta_alloc(policy->state_bytes);
    if (heap == NULL) return NULL;
    heap->policy = policy;
    if (config != NULL) heap->config = *config;
    bool of_process = heap->config.of_process;
    if (heap->config.limit_bytes == 0) {
        heap->config.limit_bytes = of_process ? PROCESS_LIMIT : DEFAULT_LIMIT;
    }
    if (!lu__area_init(&heap->area, heap->config.limit_bytes, of_process)) goto no_area;
    if (heap->config.tracked && (heap->asked = lu__asked_create()) == NULL) goto no_table;
    if (policy->init(heap)) return heap;
    if (heap->asked != NULL) lu__asked_destroy(heap->asked);
no_table:
    lu__area_fini(&heap->area);
no_area:
    lu__classic_meta_free(heap, policy->state_bytes);
    return NULL;
}

void lu__classic_destroy(struct lu__classic *heap) {
    if (heap->policy->fini != NULL) heap->policy->fini(heap);
    if (heap->asked != NULL) lu__asked_destroy(heap->asked);
    lu__area_fini(&heap->area);
    lu__classic_meta_free(heap, heap->policy->state_bytes);
}

/* ---------------------------------------------------------------- calls */

/* The payload that a policy gave, noted; NULL if that cannot be. */
static void *given(struct lu__classic *heap, void *payload, size_t bytes) {
    if (payload != NULL && heap->asked != NULL && !lu__asked_set(heap->asked, payload, bytes)) {
        heap->policy->free(heap, payload);
        payload = NULL;
    }
    if (payload != NULL) {
        LU_COUNT(heap, allocs, 1);
    } else {
        LU_COUNT(heap, failures, 1);
    }
    return payload;
}

void *lu__classic_alloc(struct lu__classic *heap, size_t bytes) {
    void *payload = NULL;
    if (bytes <= LARGEST) payload = heap->policy->alloc(heap, LU_MAX(bytes, (size_t)1));
    return given(heap, payload, bytes);
}

void *lu__classic_alloc_zeroed(struct lu__classic *heap, size_t bytes) {
    const struct lu__policy *policy = heap->policy;
    void *payload = lu__classic_alloc(heap, bytes);
    if (payload == NULL) return NULL;
    bool zero = policy->is_zero != NULL && policy->is_zero(heap, payload, bytes);
    return zero ? payload : memset(payload, 0, bytes);
}

void *lu__classic_alloc_aligned(struct lu__classic *heap, size_t align, size_t bytes) {
    if (align <= heap->policy->align) return lu__classic_alloc(heap, bytes);
    void *payload = NULL;
    if (align <= LARGEST / 4 && bytes <= LARGEST / 2) {
        payload = heap->policy->alloc_aligned(heap, align, LU_MAX(bytes, (size_t)1));
    }
    return given(heap, payload, bytes);
}

void lu__classic_free(struct lu__classic *heap, void *payload) {
    if (payload == NULL) return;
    if (heap->asked != NULL) lu__asked_remove(heap->asked, payload);
    heap->policy->free(heap, payload);
    LU_COUNT(heap, frees, 1);
}

/* A block elsewhere with the same contents. */
static void *move(struct lu__classic *heap, void *payload, size_t bytes) {
    const struct lu__policy *policy = heap->policy;
    void *fresh = policy->alloc(heap, bytes);
    if (fresh == NULL) return NULL;
    memcpy(fresh, payload, LU_MIN(bytes, policy->usable_size(heap, payload)));
    policy->free(heap, payload);
    return fresh;
}

/* What is asked of a block changes. There is a place for it: the old one, or one that the old one
 * leaves. */
static void note_resize(struct lu__classic *heap, void *from, void *to, size_t bytes) {
    if (heap->asked == NULL) return;
    if (from != to) lu__asked_remove(heap->asked, from);
    bool noted = lu__asked_set(heap->asked, to, bytes);
    LU_ASSERT(noted);
    (void)noted;
}

void *lu__classic_resize(struct lu__classic *heap, void *payload, size_t bytes) {
    const struct lu__policy *policy = heap->policy;
    if (payload == NULL) return lu__classic_alloc(heap, bytes);
    void *now = NULL;
    if (policy->usable_size(heap, payload) == 0) {
        lu__classic_misuse(heap, "resize of what is not in use", payload);
    } else if (bytes <= LARGEST) {
        size_t least = LU_MAX(bytes, (size_t)1);
        if (policy->resize != NULL) now = policy->resize(heap, payload, least);
        if (now == NULL) now = move(heap, payload, least);
    }
    if (now == NULL) {
        LU_COUNT(heap, failures, 1);
        return NULL;
    }
    note_resize(heap, payload, now, bytes);
    LU_COUNT(heap, resizes, 1);
    return now;
}

size_t lu__classic_usable_size(const struct lu__classic *heap, const void *payload) {
    return payload != NULL ? heap->policy->usable_size(heap, payload) : 0;
}

void lu__classic_trim(struct lu__classic *heap) {
    if (heap->policy->trim != NULL) heap->policy->trim(heap);
}

bool lu__classic_tune(struct lu__classic *heap, enum lu__classic_tunable which, size_t bytes) {
    if (heap->policy->tune == NULL) return false;
    heap->policy->tune(heap, which, bytes);
    return true;
}

/* ---------------------------------------------------------------- walks */

struct walk {
    struct lu__classic *heap;
    lu__block_visit *visit;
    void *arg;
};

static bool with_asked(void *arg, const struct lu__block *block) {
    const struct walk *walk = arg;
    struct lu__block copy = *block;
    if (copy.state == LU_BLOCK_USED && walk->heap->asked != NULL) {
        copy.asked = lu__asked_get(walk->heap->asked, (void *)(copy.start + copy.header));
    }
    return walk->visit(walk->arg, &copy);
}

void lu__classic_walk(struct lu__classic *heap, lu__block_visit *visit, void *arg) {
    struct walk walk = {heap, visit, arg};
    heap->policy->walk(heap, with_asked, &walk);
}

struct tiling {
    struct lu__classic *heap;
    struct lu__classic_fault *fault;
    uintptr_t end; /* of the block before */
    size_t held, asked;
    bool sound;
};

static bool wrong(struct tiling *tiling, const char *what, uintptr_t where) {
    *tiling->fault = (struct lu__classic_fault){what, where};
    tiling->sound = false;
    return false;
}

static bool lay_tile(void *arg, const struct lu__block *block) {
    struct tiling *tiling = arg;
    if (block->bytes == 0) return wrong(tiling, "a block of no bytes", block->start);
    if (block->start < tiling->end) {
        return wrong(tiling, "a block that begins before the end of the one before it",
                     block->start);
    }
    tiling->end = block->start + block->bytes;
    tiling->held += block->bytes;
    struct lu__area *area = &tiling->heap->area;
    if (!lu__area_contains(area, (void *)block->start) ||
        !lu__area_contains(area, (void *)(tiling->end - 1))) {
        return wrong(tiling, "a block outside of what is held", block->start);
    }
    if (block->state != LU_BLOCK_USED) return true;
    uintptr_t payload = block->start + block->header;
    if (payload % tiling->heap->policy->align != 0) {
        return wrong(tiling, "a payload that is not aligned", payload);
    }
    if (payload + block->usable > tiling->end + sizeof(size_t)) {
        return wrong(tiling, "a payload that is larger than its block", payload);
    }
    if (block->asked > block->usable) {
        return wrong(tiling, "a block smaller than what was asked", payload);
    }
    tiling->asked += block->asked;
    return true;
}

bool lu__classic_validate(struct lu__classic *heap, struct lu__classic_fault *fault) {
    struct tiling tiling = {.heap = heap, .fault = fault, .sound = true};
    if (!heap->policy->validate(heap, fault)) return false;
    lu__classic_walk(heap, lay_tile, &tiling);
    if (!tiling.sound) return false;
    if (tiling.held != lu__area_held(&heap->area)) {
        return wrong(&tiling, "the blocks are not all that is held", heap->area.base);
    }
    if (heap->asked != NULL && tiling.asked != lu__asked_total(heap->asked)) {
        return wrong(&tiling, "a used block that the walk does not tell", heap->area.base);
    }
    return true;
}

static bool add_block(void *arg, const struct lu__block *block) {
    struct lu__classic_stats *stats = arg;
    switch (block->state) {
    case LU_BLOCK_USED:
        stats->used_blocks++;
        stats->used_bytes += block->bytes;
        stats->usable_bytes += block->usable;
        stats->asked_bytes += block->asked;
        return true;
    case LU_BLOCK_META:
        stats->meta_bytes += block->bytes;
        return true;
    case LU_BLOCK_CACHED:
        stats->cached_bytes += block->bytes;
        break;
    case LU_BLOCK_FREE:
    case LU_BLOCK_TOP:
        break;
    }
    stats->free_blocks++;
    stats->free_bytes += block->bytes;
    stats->largest_free = LU_MAX(stats->largest_free, block->bytes);
    return true;
}

static double share_lost(size_t of_use, size_t of_all) {
    return of_all == 0 ? 0 : 1 - (double)of_use / (double)of_all;
}

void lu__classic_stats(struct lu__classic *heap, struct lu__classic_stats *stats) {
    struct lu__area *area = &heap->area;
    *stats = (struct lu__classic_stats){.counters = heap->counters};
    stats->break_moves = area->break_moves;
    stats->maps = area->maps;
    stats->unmaps = area->unmaps;
    stats->held = lu__area_held(area);
    stats->peak_held = area->peak;
    stats->broken = area->broken;
    stats->mapped = area->mapped;
    lu__classic_walk(heap, add_block, stats);
    size_t asked = heap->asked != NULL ? stats->asked_bytes : stats->usable_bytes;
    stats->internal = share_lost(asked, stats->used_bytes);
    stats->external = share_lost(stats->largest_free, stats->free_bytes);
}

/* ---------------------------------------------------------------- threads, fork */

void lu__classic_set_thread(struct lu__classic *heap, unsigned thread) {
    heap->thread = thread;
}

void lu__classic_thread_end(struct lu__classic *heap) {
    if (heap->policy->thread_end != NULL) heap->policy->thread_end(heap);
}

void lu__classic_fork_prepare(struct lu__classic *heap) {
    if (heap->policy->fork_prepare != NULL) heap->policy->fork_prepare(heap);
    /* Held already: fork comes out of a handler that interrupted the holder, who will release. */
    heap->area.forking = !lu__lock_is_mine(&heap->area.lock);
    if (heap->area.forking) lu__lock_acquire(&heap->area.lock);
}

void lu__classic_fork_parent(struct lu__classic *heap) {
    if (heap->area.forking) lu__lock_release(&heap->area.lock);
    if (heap->policy->fork_parent != NULL) heap->policy->fork_parent(heap);
}

void lu__classic_fork_child(struct lu__classic *heap) {
    if (heap->area.forking) lu__lock_reset(&heap->area.lock);
    if (heap->policy->fork_child != NULL) heap->policy->fork_child(heap);
}

/* ---------------------------------------------------------------- misuse */

void lu__classic_misuse(const struct lu__classic *heap, const char *what, const void *block) {
    if (heap->config.misuse != NULL) {
        heap->config.misuse(heap->config.misuse_arg, heap, what, block);
        return;
    }
    lu__print(STDERR_FILENO, "lucid: %s: %s: block %p\n", heap->policy->name, what, block);
    abort();
}
