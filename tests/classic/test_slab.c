/* test_slab.c - object caches: construction and reuse, colours, magazines, the arena, threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "classic/slab.h"
#include "heap.h"

static struct misuse misuse;

static struct lu__classic *make(const struct lu__slab_options *options, size_t limit) {
    struct lu__classic_config config = {.limit_bytes = limit, .tracked = true};
    misuse = (struct misuse){0};
    struct lu__classic *heap = heap_create(&lu__policy_slab, &config, &misuse);
    if (options != NULL) lu__slab_configure(heap, options);
    return heap;
}

static struct lu__slab_cache_stats stats_of(struct lu__slab_cache *cache) {
    struct lu__slab_cache_stats stats;
    lu__slab_cache_stats(cache, &stats);
    return stats;
}

/* ---------------------------------------------------------------- objects */

struct session {
    unsigned magic, uses;
    char pad[112];
};

static atomic_uint made, unmade; /* hooks run in any thread */

static void make_session(void *object, void *arg) {
    struct session *session = object;
    session->magic = *(unsigned *)arg;
    session->uses = 0;
    made++;
}

static void unmake_session(void *object, void *arg) {
    const struct session *session = object;
    assert_int_equal(session->magic, *(unsigned *)arg);
    unmade++;
}

static unsigned magic = 0x5e5510;

static struct lu__slab_cache *sessions(struct lu__classic *heap) {
    made = 0;
    unmade = 0;
    struct lu__slab_cache *cache = lu__slab_cache_create(heap, "session", sizeof(struct session), 0,
                                                         make_session, unmake_session, &magic);
    assert_non_null(cache);
    return cache;
}

static void construct_once(const struct lu__slab_options *options) {
    enum { MANY = 100, TIMES = 50 };
    struct lu__classic *heap = make(options, 0);
    struct lu__slab_cache *cache = sessions(heap);
    struct session *object[MANY];
    unsigned uses = 0;
    for (unsigned time = 0; time < TIMES; time++) {
        for (size_t i = 0; i < MANY; i++) {
            object[i] = lu__slab_cache_alloc(cache);
            assert_int_equal(object[i]->magic, magic);
            uses += object[i]->uses++ != 0; /* what the last user left */
        }
        heap_check(heap);
        for (size_t i = 0; i < MANY; i++) lu__slab_cache_free(cache, object[i]);
        heap_check(heap);
    }
    struct lu__slab_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.allocs, MANY * TIMES);
    assert_int_equal(stats.frees, MANY * TIMES);
    assert_int_equal(stats.constructed, made);
    assert_int_equal(stats.reused, uses);
    assert_int_equal(stats.used, 0);
    assert_in_range(made, MANY, MANY + 32);
    assert_int_equal(unmade, 0);
    assert_int_equal(stats.slabs_unmade, 0);
    assert_int_equal(lu__slab_cache_reap(cache), stats.slabs);
    assert_int_equal(unmade, made);
    assert_int_equal(stats_of(cache).destructed, made);
    heap_check(heap);
    assert_true(lu__slab_cache_destroy(cache));
    heap_check(heap);
    lu__classic_trim(heap);
    assert_int_equal(lu__area_held(&heap->area), 0);
    assert_int_equal(misuse.count, 0);
    lu__classic_destroy(heap);
}

static void objects_are_constructed_once(void **state) {
    (void)state;
    static const struct lu__slab_options slabs_only = {.no_magazines = true};
    construct_once(NULL);
    construct_once(&slabs_only);
}

static void a_cache_in_use_stays(void **state) {
    (void)state;
    struct lu__classic *heap = make(NULL, 0);
    struct lu__slab_cache *cache = sessions(heap), *other = sessions(heap);
    void *object = lu__slab_cache_alloc(cache);
    assert_ptr_equal(lu__slab_cache_of(heap, object), cache);
    assert_int_equal(lu__slab_cache_reap(cache), 0);
    assert_false(lu__slab_cache_destroy(cache));
    lu__slab_cache_free(other, object);
    assert_int_equal(misuse.count, 1);
    lu__classic_free(heap, object); /* objects are blocks */
    assert_int_equal(misuse.count, 1);
    assert_true(lu__slab_cache_destroy(cache));
    assert_false(lu__slab_cache_destroy(lu__slab_cache_for(heap, 100)));
    assert_null(lu__slab_cache_create(heap, "large", LU_SLAB_OBJECT_MOST + 1, 0, NULL, NULL, NULL));
    assert_null(lu__slab_cache_create(heap, "odd", 10, 48, NULL, NULL, NULL));
    lu__classic_destroy(heap); /* with `other` in it */
}

/* ---------------------------------------------------------------- slabs */

/* Offsets in a page of the first objects of new slabs; the number of different ones. */
static size_t colours_of(bool coloured, size_t bytes, size_t align) {
    struct lu__slab_options options = {.no_colour = !coloured, .no_magazines = true};
    struct lu__classic *heap = make(&options, 0);
    struct lu__slab_cache *cache = lu__slab_cache_create(heap, "x", bytes, align, NULL, NULL, NULL);
    struct lu__slab_cache_stats stats = stats_of(cache);
    size_t seen[64], different = 0;
    for (size_t slab = 0; slab < 2 * stats.colours; slab++) {
        uintptr_t first = (uintptr_t)lu__slab_cache_alloc(cache);
        for (size_t i = 1; i < stats.objects_per_slab; i++) {
            uintptr_t next = (uintptr_t)lu__slab_cache_alloc(cache);
            assert_int_equal(next, first + i * stats.object_bytes);
        }
        size_t i = 0, offset = first % LU_SLAB_OBJECT_MOST % 4096;
        while (i < different && seen[i] != offset) i++;
        if (i == different) seen[different++] = offset;
        assert_int_equal(first % (align == 0 ? 16 : align), 0);
    }
    assert_int_equal(different, stats.colours);
    for (size_t i = 1; i < different; i++) {
        assert_int_equal(seen[i], seen[i - 1] + stats.colour_step);
    }
    heap_check(heap);
    lu__classic_destroy(heap);
    return different;
}

static void slabs_have_colours(void **state) {
    (void)state;
    assert_int_equal(colours_of(true, 448, 64), 7); /* 8 behind 128 bytes: 384 left */
    assert_int_equal(colours_of(false, 448, 64), 1);
    assert_int_equal(colours_of(true, 1008, 16), 5); /* 4 in a page: 64 left */
    assert_int_equal(colours_of(true, 1024, 0), 1);  /* nothing left */
}

static void shapes_lose_an_eighth_at_most(void **state) {
    (void)state;
    struct lu__classic *heap = make(NULL, 0);
    for (size_t bytes = 1; bytes <= LU_SLAB_OBJECT_MOST; bytes += bytes < 2000 ? 1 : 61) {
        struct lu__slab_cache *cache = lu__slab_cache_create(heap, "x", bytes, 0, NULL, NULL, NULL);
        struct lu__slab_cache_stats stats = stats_of(cache);
        size_t used = stats.objects_per_slab * stats.object_bytes;
        size_t own = stats.descriptor_outside ? 0 : 88 + stats.objects_per_slab;
        assert_true(used + own <= stats.slab_bytes);
        assert_true(stats.slab_bytes - used - own <= stats.slab_bytes / 8);
        assert_true(lu__slab_cache_destroy(cache));
    }
    lu__classic_destroy(heap);
}

static void a_walk_tells_states(void **state) {
    (void)state;
    struct lu__classic *heap = make(NULL, 0);
    struct lu__slab_cache *cache = lu__slab_cache_create(heap, "x", 1008, 0, NULL, NULL, NULL);
    void *a = lu__slab_cache_alloc(cache), *b = lu__slab_cache_alloc(cache);
    assert_non_null(a);
    lu__classic_free(heap, b);
    /* A page of objects, 64 bytes left over; descriptors; magazines; the rest of the break. */
    assert_memory_equal(heap_picture(heap, 16), "u63 c63 f63 f63 m4 m", 20);
    struct lu__classic_stats stats;
    lu__classic_stats(heap, &stats);
    assert_int_equal(stats.used_blocks, 1);
    assert_int_equal(stats.cached_bytes, 1008);
    assert_int_equal(stats.asked_bytes, 1008);
    assert_int_equal(stats.held, heap->area.broken);
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- magazines */

static void magazines_go_to_the_depot(void **state) {
    (void)state;
    struct lu__classic *heap = make(NULL, 0);
    struct lu__slab_cache *cache = lu__slab_cache_create(heap, "x", 64, 0, NULL, NULL, NULL);
    void *object[60];
    size_t rounds = stats_of(cache).rounds;
    assert_int_equal(rounds, 14);
    for (size_t i = 0; i < 60; i++) object[i] = lu__slab_cache_alloc(cache);
    assert_int_equal(stats_of(cache).hits, 0);
    for (size_t i = 0; i < 28; i++) lu__slab_cache_free(cache, object[i]);
    struct lu__slab_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.full_magazines, 0); /* loaded and previous */
    assert_int_equal(stats.exchanges, 2);
    assert_int_equal(stats.cached, 28);
    for (size_t i = 28; i < 60; i++) lu__slab_cache_free(cache, object[i]);
    stats = stats_of(cache); /* 4 full ones and 4 rounds */
    assert_int_equal(stats.full_magazines, 3);
    assert_int_equal(stats.exchanges, 5);
    assert_int_equal(stats.cached, 60);
    heap_check(heap);
    /* Another thread gets them by whole magazines, and last in comes first out. */
    lu__classic_set_thread(heap, 1);
    for (size_t i = 0; i < 42; i++) {
        void *got = lu__slab_cache_alloc(cache);
        assert_ptr_equal(got, object[(2 - i / 14) * 14 + 13 - i % 14]);
        object[59 - i] = got;
    }
    stats = stats_of(cache);
    assert_int_equal(stats.full_magazines, 0);
    assert_int_equal(stats.empty_magazines, 1);
    assert_int_equal(stats.used, 42);
    assert_int_equal(stats.cached, 18); /* of thread 0 */
    heap_check(heap);
    lu__classic_set_thread(heap, 0);
    lu__classic_thread_end(heap);
    assert_int_equal(stats_of(cache).cached, 0);
    assert_int_equal(stats_of(cache).slabs_unmade, 0);
    heap_check(heap);
    lu__classic_destroy(heap);
}

/* At the edge of a magazine one more and one less need no exchange each. */
static void two_magazines_do_not_thrash(void **state) {
    (void)state;
    struct lu__classic *heap = make(NULL, 0);
    struct lu__slab_cache *cache = lu__slab_cache_create(heap, "x", 64, 0, NULL, NULL, NULL);
    void *object[15];
    for (size_t i = 0; i < 15; i++) object[i] = lu__slab_cache_alloc(cache);
    for (size_t i = 0; i < 15; i++) lu__slab_cache_free(cache, object[i]); /* 14 and 1 */
    uint64_t before = stats_of(cache).exchanges;
    for (size_t time = 0; time < 100; time++) {
        for (size_t i = 0; i < 2; i++) object[i] = lu__slab_cache_alloc(cache);
        for (size_t i = 0; i < 2; i++) lu__slab_cache_free(cache, object[i]);
    }
    assert_int_equal(stats_of(cache).exchanges, before);
    lu__classic_destroy(heap);
}

/* One round of exchanges: all of an array freed, and allocated again. */
static void churn(struct lu__slab_cache *cache, void **object, size_t count) {
    for (size_t i = 0; i < count; i++) lu__slab_cache_free(cache, object[i]);
    for (size_t i = 0; i < count; i++) object[i] = lu__slab_cache_alloc(cache);
}

static void magazines_grow_with_contention(void **state) {
    (void)state;
    enum { COUNT = 1000 };
    static void *object[COUNT];
    struct lu__classic *heap = make(NULL, 0);
    struct lu__slab_cache *cache = lu__slab_cache_create(heap, "x", 64, 0, NULL, NULL, NULL);
    for (size_t i = 0; i < COUNT; i++) object[i] = lu__slab_cache_alloc(cache);
    for (size_t time = 0; time < 20; time++) churn(cache, object, COUNT);
    struct lu__slab_cache_stats stats = stats_of(cache);
    assert_int_equal(stats.growths, 0); /* one thread never contends */
    assert_int_equal(stats.contention, 0);
    assert_int_equal(stats.rounds, 14);
    size_t expected = 14;
    for (size_t growth = 1; growth <= 3; growth++) {
        lu__slab_cache_contend(cache, 10);
        for (size_t time = 0; time < 10; time++) churn(cache, object, COUNT);
        expected = 2 * expected + 2;
        stats = stats_of(cache);
        assert_int_equal(stats.growths, growth);
        assert_int_equal(stats.rounds, expected);
        heap_check(heap);
    }
    lu__slab_cache_contend(cache, 1000);
    for (size_t time = 0; time < 20; time++) churn(cache, object, COUNT);
    assert_int_equal(stats_of(cache).rounds, 126); /* the largest */
    heap_check(heap);
    /* Large magazines go to the depot less often. */
    uint64_t before = stats_of(cache).exchanges;
    churn(cache, object, COUNT);
    assert_true(stats_of(cache).exchanges - before < 2 * COUNT / 100);
    lu__classic_destroy(heap);
}

/* Full magazines that nobody takes during an interval leave the depot. */
static void the_depot_keeps_its_working_set(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    static void *block[COUNT];
    struct lu__classic *heap = make(NULL, 0);
    for (size_t i = 0; i < COUNT; i++) block[i] = lu__classic_alloc(heap, 64);
    size_t peak = heap->area.broken;
    for (size_t i = 0; i < COUNT; i++) lu__classic_free(heap, block[i]);
    struct lu__slab_cache_stats stats = stats_of(lu__slab_cache_for(heap, 64));
    assert_true(stats.cached < 4000);
    assert_true(stats.slabs < 200); /* of 320 */
    heap_check(heap);
    /* So another size finds room without a higher break. */
    for (size_t i = 0; i < 100; i++) assert_non_null(lu__classic_alloc(heap, 4000));
    assert_int_equal(heap->area.broken, peak);
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- malloc */

static void sizes_of_malloc(void **state) {
    (void)state;
    struct lu__classic *heap = make(NULL, 0);
    for (size_t bytes = 1; bytes <= 20000; bytes += bytes < 600 ? 1 : 37) {
        char *block = lu__classic_alloc(heap, bytes);
        size_t usable = lu__classic_usable_size(heap, block);
        size_t most = bytes <= 128 ? 15 : bytes <= 16384 ? bytes / 4 : 4095;
        assert_in_range(usable, bytes, bytes + most);
        if ((bytes & (bytes - 1)) == 0 && bytes >= 16) assert_int_equal(usable, bytes);
        memset(block, 0xa5, usable);
        if (bytes % 3 == 0) lu__classic_free(heap, block);
    }
    for (size_t align = 32; align <= 65536; align *= 2) {
        for (size_t bytes = 1; bytes < 9000; bytes += 1111) {
            char *block = lu__classic_alloc_aligned(heap, align, bytes);
            assert_int_equal((uintptr_t)block % align, 0);
            memset(block, 0xa5, lu__classic_usable_size(heap, block));
            if (bytes % 2 == 0) lu__classic_free(heap, block);
        }
    }
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void large_blocks_merge(void **state) {
    (void)state;
    struct lu__classic_config config = {.step_bytes = 1};
    struct lu__classic *heap = heap_create(&lu__policy_slab, &config, NULL);
    void *block[5];
    for (size_t i = 0; i < 5; i++) block[i] = lu__classic_alloc(heap, 20480);
    assert_string_equal(heap_picture(heap, 4096), "u5 u5 u5 u5 u5");
    lu__classic_free(heap, block[1]);
    lu__classic_free(heap, block[3]);
    assert_string_equal(heap_picture(heap, 4096), "u5 f5 u5 f5 u5");
    lu__classic_free(heap, block[2]);
    assert_string_equal(heap_picture(heap, 4096), "u5 f15 u5");
    assert_int_equal(heap->counters.merges, 2);
    heap_check(heap);
    block[1] = lu__classic_alloc(heap, 32768); /* 8 pages: the list of 8 to 15 */
    assert_string_equal(heap_picture(heap, 4096), "u5 u8 f7 u5");
    assert_ptr_equal(lu__classic_resize(heap, block[0], 17000), block[0]);
    assert_ptr_equal(lu__classic_resize(heap, block[1], 60000), block[1]);
    assert_string_equal(heap_picture(heap, 4096), "u5 u15 u5");
    assert_ptr_equal(lu__classic_resize(heap, block[4], 40960), block[4]); /* at the break */
    assert_string_equal(heap_picture(heap, 4096), "u5 u15 u10");
    assert_ptr_equal(lu__classic_resize(heap, block[1], 20480), block[1]);
    assert_string_equal(heap_picture(heap, 4096), "u5 u5 f10 u10");
    heap_check(heap);
    lu__classic_free(heap, block[4]);
    assert_int_equal(heap->area.broken, 30 * 4096);
    lu__classic_trim(heap);
    assert_string_equal(heap_picture(heap, 4096), "u5 u5");
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void idle_caches_are_reaped_when_memory_ends(void **state) {
    (void)state;
    enum { LIMIT = 1 << 20 };
    static void *block[LIMIT / 128];
    struct lu__classic *heap = make(NULL, LIMIT);
    size_t n = 0;
    while (n < LU_COUNT_OF(block) && (block[n] = lu__classic_alloc(heap, 128)) != NULL) n++;
    assert_in_range(n, 7000, LU_COUNT_OF(block) - 1);
    assert_int_equal(heap->counters.failures, 1);
    assert_null(lu__classic_alloc(heap, (size_t)1 << 40));
    heap_check(heap);
    while (n > 0) lu__classic_free(heap, block[--n]);
    heap_check(heap);
    void *most = lu__classic_alloc(heap, LIMIT); /* magazines and slabs of 128 must go */
    assert_non_null(most);
    assert_null(lu__classic_alloc(heap, 1));
    heap_check(heap);
    lu__classic_free(heap, most);
    lu__classic_destroy(heap);
}

static void misuse_is_told(void **state) {
    (void)state;
    struct lu__classic *heap = make(NULL, 0);
    struct lu__classic_fault fault;
    char *a = lu__classic_alloc(heap, 64), *large = lu__classic_alloc(heap, 50000);
    lu__classic_free(heap, a);
    lu__classic_free(heap, a);
    assert_int_equal(misuse.count, 1);
    assert_string_equal(misuse.what, "freed a second time");
    a = lu__classic_alloc(heap, 64);
    lu__classic_free(heap, a + 16);
    assert_string_equal(misuse.what, "not the start of a block");
    lu__classic_free(heap, large + 16);
    assert_string_equal(misuse.what, "not the start of a block");
    lu__classic_free(heap, &fault);
    assert_string_equal(misuse.what, "not a block of this heap");
    assert_int_equal(misuse.count, 4);
    lu__classic_free(heap, large);
    lu__classic_free(heap, large);
    assert_int_equal(misuse.count, 5);
    heap_check(heap);
    /* The next slab begins where the last object of one ends, or a little later. */
    char *below = lu__classic_alloc(heap, 16384);
    for (size_t i = 0; i < 3; i++) below = lu__classic_alloc(heap, 16384);
    char *next = lu__classic_alloc(heap, 48);
    assert_int_equal((uintptr_t)(below + 16384) % 4096, 0);
    memset((char *)lu__align_down((uintptr_t)next, 4096) - 8, 0x41, 16);
    assert_false(lu__classic_validate(heap, &fault));
    assert_string_equal(fault.what, "a slab's descriptor was overwritten");
    lu__classic_free(heap, next);
    assert_string_equal(misuse.what, "a slab's descriptor was overwritten");
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- threads */

enum { THREADS = 8, SLOTS = 64, OPERATIONS = 20000 };

static struct lu__classic *shared;
static struct lu__slab_cache *shared_cache;
static void *slots[SLOTS]; /* atomic: who takes a block out owns it */

static void *work(void *arg) {
    struct random random = {.state = (uintptr_t)arg};
    for (unsigned i = 0; i < OPERATIONS; i++) {
        static const size_t bytes[] = {16, 64, 200, 1000, 5000, 40000};
        size_t size = bytes[random_below(&random, LU_COUNT_OF(bytes))];
        bool object = random_below(&random, 3) == 0;
        unsigned char *block = object ? lu__slab_cache_alloc(shared_cache)
                                      : lu__classic_alloc(shared, size);
        if (block == NULL) heap_fail("no block");
        if (object) {
            if (*(unsigned *)(void *)block != magic) heap_fail("not constructed");
            ((struct session *)(void *)block)->uses = i;
        } else {
            memset(block, (int)i, size < 256 ? size : 256);
        }
        size_t slot = random_below(&random, SLOTS);
        block = __atomic_exchange_n(&slots[slot], block, __ATOMIC_ACQ_REL);
        if (random_below(&random, 4) == 0 && block != NULL && !lu__slab_cache_of(shared, block)) {
            block = lu__classic_resize(shared, block, 60000);
        }
        lu__classic_free(shared, block); /* mostly another thread's */
        if (i % 4096 == 0) (void)lu__slab_cache_reap(shared_cache);
    }
    return NULL;
}

static void many_threads(void **state) {
    (void)state;
    pthread_t thread[THREADS];
    struct lu__slab_options options = {.by_processor = true};
    shared = heap_create(&lu__policy_slab, NULL, NULL);
    lu__slab_configure(shared, &options);
    made = 0;
    shared_cache = lu__slab_cache_create(shared, "session", sizeof(struct session), 0, make_session,
                                         unmake_session, &magic);
    for (uintptr_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&thread[i], NULL, work, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < THREADS; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    heap_check(shared);
    for (size_t i = 0; i < SLOTS; i++) {
        lu__classic_free(shared, slots[i]);
        slots[i] = NULL;
    }
    heap_check(shared);
    struct lu__slab_cache_stats stats = stats_of(shared_cache);
    assert_int_equal(stats.used, 0);
    assert_int_equal(stats.allocs, stats.frees);
    assert_true(stats.hits > 0);
    (void)lu__slab_cache_reap(shared_cache);
    stats = stats_of(shared_cache);
    assert_int_equal(stats.constructed, stats.destructed);
    lu__classic_trim(shared);
    assert_int_equal(lu__area_held(&shared->area), 0);
    lu__classic_destroy(shared);
}

/* All locks are taken, given back, and made anew; the heap works on. */
static void fork_hooks(void **state) {
    (void)state;
    struct lu__classic *heap = make(NULL, 0);
    assert_non_null(lu__classic_alloc(heap, 1000));
    lu__classic_fork_prepare(heap);
    lu__classic_fork_parent(heap);
    assert_non_null(lu__classic_alloc(heap, 1000));
    lu__classic_fork_prepare(heap);
    lu__classic_fork_child(heap);
    assert_non_null(lu__classic_alloc(heap, 1000));
    heap_check(heap);
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- any sequence */

static void random_operations(void **state) {
    (void)state;
    enum { MANY = 200, TIMES = 6000 };
    static unsigned char *block[MANY];
    static size_t size[MANY];
    struct random random = {.state = 42};
    struct lu__classic *heap = make(NULL, 0);
    for (unsigned time = 0; time < TIMES; time++) {
        size_t i = random_below(&random, MANY), bytes = 1 + random_below(&random, 300);
        if (random_below(&random, 8) == 0) bytes *= 100;
        lu__classic_set_thread(heap, (unsigned)random_below(&random, 3));
        if (block[i] != NULL) {
            assert_int_equal(block[i][0], i);
            assert_int_equal(block[i][size[i] - 1], i);
        }
        if (block[i] == NULL || random_below(&random, 3) == 0) {
            block[i] = lu__classic_resize(heap, block[i], bytes);
            memset(block[i], (int)i, bytes);
            size[i] = bytes;
        } else {
            lu__classic_free(heap, block[i]);
            block[i] = NULL;
        }
        if (time % 16 == 0) heap_check(heap);
        if (time % 1000 == 999) lu__classic_trim(heap);
    }
    for (size_t i = 0; i < MANY; i++) lu__classic_free(heap, block[i]);
    lu__classic_trim(heap);
    heap_check(heap);
    assert_int_equal(lu__area_held(&heap->area), 0);
    assert_int_equal(misuse.count, 0);
    lu__classic_destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(objects_are_constructed_once),
        cmocka_unit_test(a_cache_in_use_stays),
        cmocka_unit_test(slabs_have_colours),
        cmocka_unit_test(shapes_lose_an_eighth_at_most),
        cmocka_unit_test(a_walk_tells_states),
        cmocka_unit_test(magazines_go_to_the_depot),
        cmocka_unit_test(two_magazines_do_not_thrash),
        cmocka_unit_test(magazines_grow_with_contention),
        cmocka_unit_test(the_depot_keeps_its_working_set),
        cmocka_unit_test(sizes_of_malloc),
        cmocka_unit_test(large_blocks_merge),
        cmocka_unit_test(idle_caches_are_reaped_when_memory_ends),
        cmocka_unit_test(misuse_is_told),
        cmocka_unit_test(many_threads),
        cmocka_unit_test(fork_hooks),
        cmocka_unit_test(random_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
