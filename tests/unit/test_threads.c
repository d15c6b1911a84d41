/*
 * test_threads.c - eight threads that do everything at once: local and remote frees, thread ends,
 * heaps, caches, giving memory back, and reading the statistics meanwhile. Mostly for the thread
 * sanitizer; elsewhere the patterns in the blocks tell.
 *
 * Threads hand blocks to each other through mailboxes, an atomic pointer each. A block's first word
 * is its size, and its last byte the size's lowest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "lucid/lucid.h"

enum { THREADS = 8, MAILBOXES = 64, KEPT = 40, OPERATIONS = 15000, GENERATIONS = 5 };

static _Atomic(unsigned char *) mailboxes[MAILBOXES];
static lu_heap_t *shared;
static lu_cache_t *cache;
static atomic_int objects, wrong;

struct worker {
    uint64_t random;
    unsigned char *kept[KEPT];
    lu_heap_t *own;
};

static size_t below(struct worker *worker, size_t bound) {
    worker->random = worker->random * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(worker->random >> 33) % bound;
}

static unsigned char *fill(unsigned char *block, size_t size) {
    if (block == NULL) {
        atomic_fetch_add(&wrong, 1);
        return NULL;
    }
    memcpy(block, &size, sizeof size);
    block[size - 1] = (unsigned char)size;
    return block;
}

static void check(const unsigned char *block) {
    size_t size;
    memcpy(&size, block, sizeof size);
    bool right = size <= lu_usable_size(block) && (size == 8 || block[size - 1] == (size & 255));
    if (!right) atomic_fetch_add(&wrong, 1);
}

static size_t some_size(struct worker *worker) {
    size_t draw = below(worker, 100);
    size_t most = draw == 0 ? 300000 : draw < 10 ? 20000 : 600;
    return 16 + below(worker, most);
}

static void allocate(struct worker *worker, unsigned char **kept) {
    size_t size = some_size(worker);
    switch (below(worker, 4)) {
    case 0:
        *kept = fill(lu_heap_malloc(shared, size), size);
        break;
    case 1:
        *kept = fill(lu_calloc(1, size), size);
        break;
    default:
        *kept = fill(lu_malloc(size), size);
    }
}

/* Change the block for the one in a mailbox. */
static void exchange(struct worker *worker, unsigned char **kept) {
    *kept = atomic_exchange(&mailboxes[below(worker, MAILBOXES)], *kept);
    if (*kept != NULL) check(*kept);
}

static void resize(struct worker *worker, unsigned char **kept) {
    size_t size = some_size(worker);
    check(*kept);
    unsigned char *block = lu_realloc(*kept, size);
    if (block != NULL) *kept = block;
    fill(block, size);
}

static void use_own_heap(struct worker *worker) {
    if (worker->own == NULL) {
        worker->own = lu_heap_create(LU_HEAP_SINGLE_THREADED);
        return;
    }
    for (int i = 0; i < 20; i++) (void)fill(lu_heap_malloc(worker->own, 40), 40);
    if (below(worker, 4) != 0) return;
    lu_heap_destroy(worker->own);
    worker->own = NULL;
}

static int construct(void *object, void *arg) {
    (void)arg;
    *(uint64_t *)object = 5;
    atomic_fetch_add(&objects, 1);
    return 0;
}

static void destruct(void *object, void *arg) {
    (void)arg;
    if (*(uint64_t *)object != 5) atomic_fetch_add(&wrong, 1);
    atomic_fetch_sub(&objects, 1);
}

static void use_cache(struct worker *worker) {
    void *mine[8];
    size_t count = 1 + below(worker, 8);
    for (size_t i = 0; i < count; i++) {
        mine[i] = lu_cache_alloc(cache);
        if (mine[i] == NULL || *(uint64_t *)mine[i] != 5) atomic_fetch_add(&wrong, 1);
    }
    for (size_t i = 0; i < count; i++) lu_cache_free(cache, mine[i]);
    if (below(worker, 10) == 0) (void)lu_cache_reap(cache, 4);
}

static void look(struct worker *worker) {
    static _Thread_local char text[32768];
    lu_stats_t stats;
    if (below(worker, 2) == 0) {
        lu_stats_get(&stats);
        if (stats.dirty_bytes > stats.held_bytes) atomic_fetch_add(&wrong, 1);
    } else {
        (void)lu_stats_json(text, sizeof text);
    }
}

static void step(struct worker *worker) {
    unsigned char **kept = &worker->kept[below(worker, KEPT)];
    size_t draw = below(worker, 1000);
    if (draw < 4) {
        (void)lu_purge();
    } else if (draw < 8) {
        look(worker);
    } else if (draw < 40) {
        use_own_heap(worker);
    } else if (draw < 80) {
        use_cache(worker);
    } else if (draw < 400) {
        exchange(worker, kept);
    } else if (*kept == NULL) {
        allocate(worker, kept);
    } else if (draw < 500) {
        resize(worker, kept);
    } else {
        check(*kept);
        lu_free(*kept);
        *kept = NULL;
    }
}

static void *work(void *arg) {
    struct worker *worker = arg;
    for (int i = 0; i < OPERATIONS; i++) step(worker);
    lu_heap_destroy(worker->own);
    worker->own = NULL;
    for (size_t i = 0; i < KEPT / 2; i++) { /* the other half outlives the thread */
        lu_free(worker->kept[i]);
        worker->kept[i] = NULL;
    }
    return NULL;
}

static void free_rest(struct worker *workers) {
    for (size_t t = 0; t < THREADS; t++) {
        for (size_t i = 0; i < KEPT; i++) lu_free(workers[t].kept[i]);
    }
    for (size_t i = 0; i < MAILBOXES; i++) lu_free(atomic_exchange(&mailboxes[i], NULL));
}

static void eight_threads_do_everything(void **state) {
    (void)state;
    static struct worker workers[THREADS];
    lu_stats_t before, after;
    (void)lu_purge();
    lu_stats_get(&before);
    shared = lu_heap_create(LU_HEAP_SHARED);
    cache = lu_cache_create("threads", 100, 0, construct, destruct, NULL);
    assert_true(shared != NULL && cache != NULL);
    for (size_t t = 0; t < THREADS; t++) workers[t].random = t;
    for (int generation = 0; generation < GENERATIONS; generation++) {
        pthread_t threads[THREADS];
        for (size_t t = 0; t < THREADS; t++) {
            assert_int_equal(pthread_create(&threads[t], NULL, work, &workers[t]), 0);
        }
        for (size_t t = 0; t < THREADS; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
    }
    free_rest(workers);
    lu_heap_destroy(shared);
    lu_cache_destroy(cache);
    (void)lu_purge();
    lu_stats_get(&after);
    assert_int_equal(wrong, 0);
    assert_int_equal(objects, 0);
    assert_int_equal(after.live_blocks, before.live_blocks);
    /* A heap that is being purged is out of the pool meanwhile, so some more may be made. */
    assert_in_range(after.thread_heaps + after.pooled_heaps, 1, 4 * THREADS);
}

enum { HUGE_BYTES = 40 << 20 };
static atomic_bool grown;

/* The peak is raised a step at a time, by what carves without a lock and by what maps, and the
 * limit is set: never refused, as it is far away. */
static void *grow(void *arg) {
    enum { STEPS = 600, SMALL = 40 };
    static unsigned char *blocks[STEPS][SMALL], *huge[STEPS];
    (void)arg;
    for (size_t i = 0; i < STEPS; i++) {
        for (size_t j = 0; j < SMALL; j++) blocks[i][j] = fill(lu_malloc(700), 700);
        if (i % 100 == 0) huge[i] = fill(lu_malloc(HUGE_BYTES), HUGE_BYTES);
        if (i % 50 == 0 && lu_set_limit((size_t)1 << 40, NULL, NULL) != 0) {
            atomic_fetch_add(&wrong, 1);
        }
    }
    for (size_t i = 0; i < STEPS; i++) {
        for (size_t j = 0; j < SMALL; j++) lu_free(blocks[i][j]);
        lu_free(huge[i]);
    }
    atomic_store(&grown, true);
    return NULL;
}

/* The figures change under several locks and under none, while they are read. */
static void figures_are_read_while_they_grow(void **state) {
    (void)state;
    pthread_t thread;
    lu_stats_t stats;
    assert_int_equal(pthread_create(&thread, NULL, grow, NULL), 0);
    while (!atomic_load(&grown)) {
        lu_stats_get(&stats);
        assert_in_range(stats.held_bytes, 0, stats.peak_held_bytes);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(wrong, 0);
    lu_stats_get(&stats);
    assert_in_range(stats.peak_held_bytes, 6 * HUGE_BYTES, SIZE_MAX);
    assert_int_equal(stats.huge_blocks, 0);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eight_threads_do_everything),
        cmocka_unit_test(figures_are_read_while_they_grow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
