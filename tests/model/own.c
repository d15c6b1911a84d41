/*
 * own.c - what lucid has beyond malloc: heaps, scopes and object caches, as model operations.
 *
 * Heaps 1..MODEL_OWN_HEAPS belong to one thread each and are single-threaded: their blocks never
 * leave the thread's table, so the table tells exactly what lu_heap_walk must visit and what
 * lu_heap_destroy ends. The heaps after them are shared; their blocks travel like all others, and
 * they end after all threads. Without MODEL_LU all of this is empty.
 */
#include "model.h"

#ifndef MODEL_LU

void model_own_init(void) {
}
void model_own_fini(void) {
}
void model_own_check(void) {
}
void model_own_thread_init(struct thread *thread) {
    (void)thread;
}
void model_own_thread_fini(struct thread *thread) {
    (void)thread;
}
bool model_own_step(struct thread *thread, struct slot *slot) {
    (void)thread, (void)slot;
    return false;
}
void model_own_free(struct thread *thread, struct slot *slot) {
    (void)thread, (void)slot;
}
bool model_own_realloc(struct thread *thread, struct slot *slot, size_t size, void **out) {
    (void)thread, (void)slot, (void)size, (void)out;
    return false;
}

#else

#include <stdatomic.h>

#include "held.h"

enum { OBJECT_WORDS = 12, SCOPE_BLOCKS = 40 };

static lu_heap_t *shared[MODEL_SHARED];
static lu_cache_t *cache;
static atomic_long constructed;

/* ------------------------------------------------------------------ heaps -------------------- */

static void renew_heap(struct thread *thread, int number);

static lu_heap_t *heap_of(struct thread *thread, int heap) {
    return heap <= MODEL_OWN_HEAPS ? thread->own[heap - 1] : shared[heap - 1 - MODEL_OWN_HEAPS];
}

static void heap_allocate(struct thread *thread, struct slot *slot) {
    int number = 1 + (int)model_below(thread, MODEL_OWN_HEAPS + MODEL_SHARED);
    lu_heap_t *heap = heap_of(thread, number);
    size_t size = model_size(thread), alignment = 0;
    void *block;
    if (heap == NULL) { /* refused when it was to be renewed */
        renew_heap(thread, number);
        return;
    }
    switch (model_below(thread, 3)) {
    case 0:
        block = lu_heap_malloc(heap, size);
        break;
    case 1:
        block = lu_heap_calloc(heap, 1, size);
        if (block != NULL) CHECK_ZERO(block, size);
        break;
    default:
        alignment = (size_t)1 << model_below(thread, 14);
        block = lu_heap_aligned_alloc(heap, alignment, size);
    }
    if (model_refused(block)) return;
    CHECK_THAT(block != NULL, "heap %d has no %zu bytes, errno %d", number, size, errno);
    model_enter(thread, slot, block, size, alignment, number);
}

void model_own_free(struct thread *thread, struct slot *slot) {
    if (slot->heap <= MODEL_OWN_HEAPS || model_below(thread, 2) == 0) {
        lu_heap_free(heap_of(thread, slot->heap), slot->block);
    } else {
        lu_free(slot->block);
    }
}

bool model_own_realloc(struct thread *thread, struct slot *slot, size_t size, void **out) {
    *out = lu_heap_realloc(heap_of(thread, slot->heap), slot->block, size);
    return true;
}

struct walk {
    size_t blocks;
    size_t bytes;
};

static bool count_block(void *block, size_t usable_bytes, void *arg) {
    struct walk *walk = arg;
    CHECK_EQ(lu_usable_size(block), usable_bytes);
    walk->blocks++;
    walk->bytes += usable_bytes;
    return true;
}

/* The heap holds exactly the blocks of the table. */
static void check_walk(struct thread *thread, int number) {
    struct walk walk = {0, 0}, expected = {0, 0};
    if (thread->own[number - 1] == NULL) return;
    if (!lu_heap_walk(thread->own[number - 1], count_block, &walk)) {
        CHECK(model_refused(NULL)); /* no memory for a list of its runs */
        return;
    }
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        const struct slot *slot = &thread->slots[i];
        if (slot->block == NULL || slot->heap != number) continue;
        expected.blocks++;
        expected.bytes += lu_usable_size(slot->block);
    }
    CHECK_EQ(walk.blocks, expected.blocks);
    CHECK_EQ(walk.bytes, expected.bytes);
}

/* A walk of a shared heap while others change it. This thread's blocks stay meanwhile: each must be
 * visited once, whatever its visitor takes from the heap and gives back. */
struct shared_walk {
    struct thread *thread;
    int number;
    unsigned char seen[MODEL_SLOTS];
    unsigned char maybe[4096]; /* is one of its blocks at such an address? */
};

static size_t address_hash(const void *block) {
    return ((uintptr_t)block / 16 * 0x9e3779b97f4a7c15u) >> 52;
}

static bool visit_shared(void *block, size_t usable_bytes, void *arg) {
    struct shared_walk *walk = arg;
    if (model_below(walk->thread, 16) == 0) {
        void *mine = lu_heap_malloc(heap_of(walk->thread, walk->number), usable_bytes % 50000);
        if (mine != NULL) lu_free(mine);
    }
    if (!walk->maybe[address_hash(block)]) return true;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        const struct slot *slot = &walk->thread->slots[i];
        if (slot->block != block) continue;
        CHECK_EQ(slot->heap, walk->number);
        CHECK(usable_bytes == lu_usable_size(block));
        walk->seen[i]++;
    }
    return true;
}

static void check_shared_walk(struct thread *thread, int number) {
    static __thread struct shared_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.thread = thread;
    walk.number = number;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        if (thread->slots[i].block != NULL) walk.maybe[address_hash(thread->slots[i].block)] = 1;
    }
    if (!lu_heap_walk(heap_of(thread, number), visit_shared, &walk)) {
        CHECK(model_refused(NULL));
        return;
    }
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        const struct slot *slot = &thread->slots[i];
        CHECK_EQ(walk.seen[i], slot->block != NULL && slot->heap == number);
    }
}

/* The visitor frees what it is given, which is one of the thread's. */
struct freeing {
    struct thread *thread;
    int number;
};

static bool free_visited(void *block, size_t usable_bytes, void *arg) {
    const struct freeing *freeing = arg;
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        struct slot *slot = &freeing->thread->slots[i];
        if (slot->block != block) continue;
        CHECK(slot->heap == freeing->number && slot->asked <= usable_bytes);
        model_free_slot(freeing->thread, slot);
        return true;
    }
    CHECK_THAT(false, "the walk visits %p, which is no live block", block);
    return false;
}

/* All blocks of an own heap end with it, or before it. */
static void renew_heap(struct thread *thread, int number) {
    struct freeing freeing = {thread, number};
    check_walk(thread, number);
    if (thread->own[number - 1] != NULL && model_below(thread, 2) == 0) {
        bool whole = lu_heap_walk(thread->own[number - 1], free_visited, &freeing);
        CHECK(whole || model_refused(NULL));
    }
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        struct slot *slot = &thread->slots[i];
        if (slot->block == NULL || slot->heap != number) continue;
        model_verify(slot);
        model_leave(thread, slot);
    }
    lu_heap_destroy(thread->own[number - 1]);
    thread->own[number - 1] = lu_heap_create(LU_HEAP_SINGLE_THREADED);
    CHECK(thread->own[number - 1] != NULL || model_refused(thread->own[number - 1]));
}

/* ------------------------------------------------------------------ scopes ------------------- */

static void use_scope(struct thread *thread) {
    LU_SCOPE(scope);
    unsigned char *blocks[SCOPE_BLOCKS];
    size_t sizes[SCOPE_BLOCKS], count = 1 + model_below(thread, SCOPE_BLOCKS);
    for (size_t i = 0; i < count; i++) {
        size_t alignment = model_below(thread, 3) == 0 ? (size_t)1 << model_below(thread, 14) : 16;
        sizes[i] = check_random_size(&thread->random, 13);
        blocks[i] = alignment == 16 ? lu_scope_alloc(&scope, sizes[i])
                                    : lu_scope_aligned_alloc(&scope, alignment, sizes[i]);
        if (model_refused(blocks[i])) return;
        CHECK(blocks[i] != NULL);
        CHECK_ALIGNED(blocks[i], alignment);
        check_fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < count; i++) CHECK_FILLED(blocks[i], sizes[i], i);
    if (model_below(thread, 2) == 0) return;
    lu_scope_end(&scope);
    unsigned char *again = lu_scope_alloc(&scope, 100);
    if (model_refused(again)) return;
    CHECK(again != NULL);
    memset(again, 1, 100);
}

/* ------------------------------------------------------------------ caches ------------------- */

struct object {
    uint64_t self;        /* its address, mixed: set by the constructor, kept while it is free */
    struct object *owned; /* another one, or NULL: freed by who is given this one again, or by the
                             destructor */
    uint64_t words[OBJECT_WORDS];
};

static int construct(void *at, void *arg) {
    struct object *object = at;
    object->self = check_mix((uintptr_t)object);
    object->owned = NULL;
    memset(object->words, 0, sizeof object->words);
    atomic_fetch_add((atomic_long *)arg, 1);
    return 0;
}

static void free_owned(struct object *object) {
    struct object *owned = object->owned;
    object->owned = NULL;
    if (owned != NULL) lu_cache_free(cache, owned);
}

static void destruct(void *at, void *arg) {
    struct object *object = at;
    CHECK_EQ(object->self, check_mix((uintptr_t)object));
    object->self = 0;
    free_owned(object);
    atomic_fetch_sub((atomic_long *)arg, 1);
}

static void use_cache(struct thread *thread) {
    enum { OBJECTS = 30 };
    struct object *objects[OBJECTS];
    size_t count = 1 + model_below(thread, OBJECTS);
    for (size_t i = 0; i < count; i++) {
        objects[i] = lu_cache_alloc(cache);
        if (model_refused(objects[i])) {
            count = i;
            break;
        }
        CHECK(objects[i] != NULL);
        CHECK_THAT(objects[i]->self == check_mix((uintptr_t)objects[i]),
                   "an object that was not constructed");
        free_owned(objects[i]);
        CHECK_ZERO(objects[i]->words, sizeof objects[i]->words);
        check_fill(objects[i]->words, sizeof objects[i]->words, i);
    }
    for (size_t i = 0; i < count; i++) {
        CHECK_FILLED(objects[i]->words, sizeof objects[i]->words, i);
        memset(objects[i]->words, 0, sizeof objects[i]->words);
        if (i + 1 < count && model_below(thread, 4) == 0) {
            objects[i + 1]->owned = objects[i]; /* the next is freed, or owned, with it */
            continue;
        }
        lu_cache_free(cache, objects[i]);
    }
    if (model_below(thread, 100) == 0) (void)lu_cache_reap(cache, model_below(thread, 50));
}

/* ------------------------------------------------------------------ the frame ---------------- */

bool model_own_step(struct thread *thread, struct slot *slot) {
    size_t draw = model_below(thread, 200);
    if (draw == 0) {
        renew_heap(thread, 1 + (int)model_below(thread, MODEL_OWN_HEAPS));
    } else if (draw == 1) {
        check_walk(thread, 1 + (int)model_below(thread, MODEL_OWN_HEAPS));
    } else if (draw == 2) {
        check_shared_walk(thread, 1 + MODEL_OWN_HEAPS + (int)model_below(thread, MODEL_SHARED));
    } else if (draw < 10) {
        use_scope(thread);
    } else if (draw < 20) {
        use_cache(thread);
    } else if (slot->block == NULL) {
        heap_allocate(thread, slot);
    } else {
        return false;
    }
    return true;
}

/* What a heap needed is no longer counted when it has ended. */
static void come_and_go(void) {
    for (int i = 0; i < 1000; i++) {
        lu_heap_t *heap = lu_heap_create(LU_HEAP_SINGLE_THREADED);
        CHECK(heap != NULL && lu_heap_malloc(heap, 100) != NULL);
        lu_heap_destroy(heap);
    }
    model_own_check();
}

void model_own_init(void) {
    come_and_go();
    for (size_t i = 0; i < MODEL_SHARED; i++) {
        shared[i] = lu_heap_create(LU_HEAP_SHARED);
        CHECK(shared[i] != NULL);
    }
    cache = lu_cache_create("model", sizeof(struct object), 0, construct, destruct, &constructed);
    CHECK(cache != NULL);
}

void model_own_fini(void) {
    for (size_t i = 0; i < MODEL_SHARED; i++) {
        struct walk walk = {0, 0};
        CHECK(lu_heap_walk(shared[i], count_block, &walk));
        CHECK_EQ(walk.blocks, 0);
        lu_heap_destroy(shared[i]);
    }
    lu_cache_destroy(cache);
    CHECK_EQ(atomic_load(&constructed), 0);
    lu_purge();
    model_own_check();
    check_passed("heaps, scopes and caches");
}

void model_own_check(void) {
    static lu_stats_t stats;
    lu_stats_get(&stats);
    CHECK_THAT(stats.dirty_bytes <= stats.held_bytes, "%zu bytes dirty, %zu held",
               stats.dirty_bytes, stats.held_bytes);
    CHECK_THAT(stats.live_bytes <= stats.held_bytes, "%zu bytes live, %zu held", stats.live_bytes,
               stats.held_bytes);
    CHECK_THAT(held_sum(&stats.held) == stats.held_bytes, "the parts are %zu bytes, held %zu",
               held_sum(&stats.held), stats.held_bytes);
    CHECK_THAT(stats.held_bytes <= stats.peak_held_bytes, "%zu bytes held, %zu at most",
               stats.held_bytes, stats.peak_held_bytes);
}

void model_own_thread_init(struct thread *thread) {
    for (size_t i = 0; i < MODEL_OWN_HEAPS; i++) {
        thread->own[i] = lu_heap_create(LU_HEAP_SINGLE_THREADED);
        CHECK(thread->own[i] != NULL);
    }
}

void model_own_thread_fini(struct thread *thread) {
    for (size_t i = 0; i < MODEL_OWN_HEAPS; i++) {
        renew_heap(thread, (int)i + 1);
        lu_heap_destroy(thread->own[i]);
    }
}

#endif
