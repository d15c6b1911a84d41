/*
 * own.c - what lucid has beyond malloc: heaps, scopes and object caches, as operations of an input.
 *
 *     heaps    blocks are in the slots, with their number; a walk must visit exactly those
 *     scopes   two, each with a row of blocks that end together
 *     caches   two, whose objects hold a pattern of their address whenever they are free: they are
 *              constructed with it, get it back before they are freed, and must still have it when
 *              they are allocated again and when they are destroyed
 */
#include "fuzz.h"

enum { SCOPES = 2, CACHES = 2, HELD = 40, AT_HAND = 63 };

/* ------------------------------------------------------------------ heaps -------------------- */

static void drop_blocks(int heap) {
    for (size_t i = 0; i < FUZZ_SLOTS; i++) {
        struct slot *slot = &fuzz.slots[i];
        if (slot->block == NULL || slot->heap != heap) continue;
        fuzz_verify(slot);
        fuzz_leave(slot);
    }
}

static void heap_end(unsigned number) {
    drop_blocks((int)number + 1);
    lu_heap_destroy(fuzz.heaps[number]);
    fuzz.heaps[number] = NULL;
}

void fuzz_op_heap_toggle(void) {
    uint8_t how = fuzz_byte();
    unsigned number = how % FUZZ_HEAPS;
    if (fuzz.heaps[number] != NULL) {
        heap_end(number);
        return;
    }
    errno = FUZZ_ERRNO;
    fuzz.shared[number] = (how & 64) != 0;
    fuzz.heaps[number] = lu_heap_create(how & 64 ? LU_HEAP_SHARED : LU_HEAP_SINGLE_THREADED);
    if (fuzz.heaps[number] == NULL) {
        CHECK_EQ(errno, ENOMEM);
        CHECK(fuzz_may_fail());
    }
}

void fuzz_op_heap_alloc(void) {
    struct slot *slot = fuzz_slot();
    uint8_t how = fuzz_byte();
    unsigned number = how % FUZZ_HEAPS;
    lu_heap_t *heap = fuzz.heaps[number];
    size_t size = fuzz_size(), alignment = 0;
    void *block;
    if (heap == NULL || slot->block != NULL) return;
    fuzz.busy = slot;
    errno = FUZZ_ERRNO;
    switch (how / FUZZ_HEAPS % 4) {
    case 0:
        block = lu_heap_calloc(heap, 1, size);
        if (block != NULL) fuzz_check_zero(block, size);
        break;
    case 1:
        alignment = (size_t)1 << (how / 12 % 17);
        block = lu_heap_aligned_alloc(heap, alignment, size);
        break;
    case 2:
        if (size == 0) size = 1;
        block = lu_heap_realloc(heap, NULL, size);
        break;
    default:
        block = lu_heap_malloc(heap, size);
    }
    (void)fuzz_enter(slot, block, size, alignment, (int)number + 1);
}

struct walk {
    int heap;
    size_t blocks;
    unsigned frees; /* by the visitor: of eight blocks those whose bit is set */
};

static bool on_block(void *block, size_t usable_bytes, void *arg) {
    struct walk *walk = arg;
    walk->blocks++;
    for (size_t i = 0; i < FUZZ_SLOTS; i++) {
        struct slot *slot = &fuzz.slots[i];
        if (slot->block != block) continue;
        CHECK_EQ(slot->heap, walk->heap);
        CHECK_THAT(usable_bytes >= slot->asked, "%zu bytes where %zu were asked for", usable_bytes,
                   slot->asked);
        if (walk->frees >> i % 8 & 1) {
            fuzz_free(slot, walk->frees);
            walk->blocks--;
        }
        return true;
    }
    CHECK_THAT(false, "the walk visits %p, which is no live block", block);
    return false;
}

void fuzz_op_heap_walk(void) {
    uint8_t how = fuzz_byte();
    unsigned number = how % FUZZ_HEAPS;
    struct walk walk = {.heap = (int)number + 1, .blocks = 0};
    if (how >= 128) walk.frees = fuzz_byte();
    if (fuzz.heaps[number] == NULL) return;
    CHECK(lu_heap_walk(fuzz.heaps[number], on_block, &walk));
    for (size_t i = 0; i < FUZZ_SLOTS; i++) {
        const struct slot *slot = &fuzz.slots[i];
        if (slot->block != NULL && slot->heap == walk.heap) walk.blocks--;
    }
    CHECK_EQ(walk.blocks, 0);
}

/* ------------------------------------------------------------------ scopes ------------------- */

static struct scope {
    lu_scope_t scope;
    struct held {
        unsigned char *block;
        size_t size;
    } held[HELD];
    size_t count;
} scopes[SCOPES];

void fuzz_op_scope_alloc(void) {
    uint8_t how = fuzz_byte();
    struct scope *scope = &scopes[how % SCOPES];
    size_t size = fuzz_size() % 100000, alignment = (size_t)1 << (how / SCOPES % 14);
    if (scope->count == HELD) return;
    errno = FUZZ_ERRNO;
    unsigned char *block = lu_scope_aligned_alloc(&scope->scope, alignment, size);
    if (block == NULL) {
        CHECK_EQ(errno, ENOMEM);
        CHECK(fuzz_may_fail());
        return;
    }
    CHECK_EQ(errno, FUZZ_ERRNO);
    CHECK_ALIGNED(block, alignment);
    if (size > FUZZ_PATTERN) size = FUZZ_PATTERN;
    check_fill(block, size, (uintptr_t)block);
    fuzz.owned += scope->count == 0;
    scope->held[scope->count++] = (struct held){block, size};
}

static void scope_end(struct scope *scope) {
    for (size_t i = 0; i < scope->count; i++) {
        const struct held *held = &scope->held[i];
        CHECK_FILLED(held->block, held->size, (uintptr_t)held->block);
    }
    errno = FUZZ_ERRNO;
    lu_scope_end(&scope->scope);
    CHECK_EQ(errno, FUZZ_ERRNO);
    fuzz.owned -= scope->count != 0;
    scope->count = 0;
}

void fuzz_op_scope_end(void) {
    scope_end(&scopes[fuzz_byte() % SCOPES]);
}

/* ------------------------------------------------------------------ caches ------------------- */

static struct cache {
    lu_cache_t *cache;
    size_t size;
    unsigned char *objects[HELD];
    size_t count;       /* objects that we hold                    */
    size_t constructed; /* objects that there are                  */
    unsigned refusals;  /* constructors that fail from now on      */
} caches[CACHES];

static int construct(void *object, void *arg) {
    struct cache *cache = arg;
    if (cache->refusals > 0) {
        cache->refusals--;
        return EAGAIN;
    }
    check_fill(object, cache->size, (uintptr_t)object);
    cache->constructed++;
    return 0;
}

static void destruct(void *object, void *arg) {
    struct cache *cache = arg;
    CHECK_FILLED(object, cache->size, (uintptr_t)object);
    cache->constructed--;
}

static void cache_end(struct cache *cache) {
    if (cache->cache == NULL) return;
    for (size_t i = 0; i < cache->count; i++) {
        check_fill(cache->objects[i], cache->size, (uintptr_t)cache->objects[i]);
    }
    lu_cache_destroy(cache->cache);
    CHECK_EQ(cache->constructed, 0);
    *cache = (struct cache){.cache = NULL};
    fuzz.owned--;
}

void fuzz_op_cache_toggle(void) {
    uint8_t how = fuzz_byte();
    struct cache *cache = &caches[how % CACHES];
    size_t alignment = how & 2 ? (size_t)1 << (how / 4 % 9) : 0;
    if (cache->cache != NULL) {
        cache_end(cache);
        return;
    }
    cache->size = 1 + fuzz_word() % 5000;
    errno = FUZZ_ERRNO;
    cache->cache = lu_cache_create("fuzz", cache->size, alignment, construct, destruct, cache);
    if (cache->cache == NULL) {
        CHECK_EQ(errno, ENOMEM);
        CHECK(fuzz_may_fail());
        return;
    }
    fuzz.owned++;
}

void fuzz_op_cache_alloc(void) {
    uint8_t how = fuzz_byte();
    struct cache *cache = &caches[how % CACHES];
    if (cache->cache == NULL || cache->count == HELD) return;
    unsigned refusals = cache->refusals = how == 255;
    errno = FUZZ_ERRNO;
    unsigned char *object = lu_cache_alloc(cache->cache);
    if (object == NULL) {
        bool refused = refusals != cache->refusals;
        CHECK_EQ(errno, refused ? EAGAIN : ENOMEM);
        CHECK(refused || fuzz_may_fail());
        return;
    }
    CHECK_EQ(errno, FUZZ_ERRNO);
    CHECK_FILLED(object, cache->size, (uintptr_t)object);
    check_fill(object, cache->size, (uintptr_t)object + 1);
    cache->objects[cache->count++] = object;
}

void fuzz_op_cache_free(void) {
    uint8_t how = fuzz_byte();
    struct cache *cache = &caches[how % CACHES];
    if (cache->count == 0) return;
    size_t i = how / CACHES % cache->count;
    unsigned char *object = cache->objects[i];
    CHECK_FILLED(object, cache->size, (uintptr_t)object + 1);
    check_fill(object, cache->size, (uintptr_t)object);
    cache->objects[i] = cache->objects[--cache->count];
    lu_cache_free(cache->cache, object);
    if (how < 240) return;
    lu_cache_free(cache->cache, object); /* again */
    CHECK_EQ(fuzz.violations, 1);
    CHECK_EQ(fuzz.kind, LU_DOUBLE_FREE);
    fuzz.violations = 0;
}

void fuzz_op_cache_reap(void) {
    uint8_t how = fuzz_byte();
    struct cache *cache = &caches[how % CACHES];
    if (cache->cache == NULL) return;
    size_t free_before = cache->constructed - cache->count, keep = how / CACHES;
    size_t destroyed = lu_cache_reap(cache->cache, keep);
    /* The other thread may have some at hand. */
    CHECK(destroyed <= (free_before > keep ? free_before - keep : 0));
    if (free_before > keep + AT_HAND) CHECK(destroyed >= free_before - keep - AT_HAND);
}

/* ------------------------------------------------------------------ the end ------------------ */

void fuzz_own_fini(void) {
    for (size_t i = 0; i < SCOPES; i++) scope_end(&scopes[i]);
    for (size_t i = 0; i < CACHES; i++) cache_end(&caches[i]);
    for (unsigned i = 0; i < FUZZ_HEAPS; i++) {
        if (fuzz.heaps[i] != NULL) heap_end(i);
    }
    CHECK_EQ(fuzz.owned, 0);
}
