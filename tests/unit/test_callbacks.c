/*
 * test_callbacks.c - no lock of the engine's is held over a function of the program.
 *
 * Each kind of such a function is called in the ways that there are to come to it, and does there
 * what any code may do: it allocates and frees all kinds of blocks, makes, walks and destroys heaps
 * and caches, takes statistics, gives memory back, forks, and waits for another thread that does
 * the same. A lock that is held would make it wait for ever; an alarm ends that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "heap/heap.h"
#include "lucid/lucid.h"
#include "visits.h"

enum { SECONDS = 60 };

/* Also in other threads and processes, where an assertion of cmocka's has nowhere to go. */
#define CHECK(what)                                                    \
    do {                                                               \
        if (!(what)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            _exit(1);                                                  \
        }                                                              \
    } while (0)

static unsigned called;

/* The compiler need not know what is wrong here. */
static void *hidden(void *block) {
    void *volatile out = block;
    return out;
}

/* ------------------------------------------------------------------ what they do -------------- */

static const size_t sizes[] = {8, 100, 5000, 60000, 200000, 5u << 20, 40u << 20};
enum { SIZES = sizeof sizes / sizeof sizes[0] };

static void use_blocks(lu_heap_t *heap) {
    void *blocks[SIZES];
    for (size_t i = 0; i < SIZES; i++) {
        blocks[i] = heap != NULL ? lu_heap_malloc(heap, sizes[i]) : lu_malloc(sizes[i]);
        if (blocks[i] == NULL) continue; /* at a limit */
        memset(blocks[i], 1, LU_MIN(sizes[i], 5000));
        void *resized = lu_realloc(blocks[i], sizes[i] + sizes[i] / 2);
        if (resized != NULL) blocks[i] = resized;
    }
    for (size_t i = 0; i < SIZES; i++) lu_free(blocks[i]);
}

static void use_heap(void) {
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    if (heap == NULL) return; /* at a limit */
    use_blocks(heap);
    void *one = lu_heap_malloc(heap, 1000), *large = lu_heap_malloc(heap, 100000);
    size_t count = 0;
    CHECK(lu_heap_walk(heap, count_visit, &count));
    CHECK(count == (size_t)(one != NULL) + (large != NULL));
    lu_heap_destroy(heap);
}

static void use_cache(void) {
    lu_cache_t *cache = lu_cache_create("inner", 200, 0, NULL, NULL, NULL);
    if (cache == NULL) return;
    void *object = lu_cache_alloc(cache);
    lu_cache_free(cache, object);
    (void)lu_cache_reap(cache, 0);
    lu_cache_destroy(cache);
}

static void use_all(lu_heap_t *heap) {
    static __thread lu_stats_t stats;
    char text[16];
    use_blocks(NULL);
    if (heap != NULL) use_blocks(heap);
    use_heap();
    use_cache();
    LU_SCOPE(scope);
    if (lu_scope_alloc(&scope, 100000) != NULL) lu_stats_get(&stats);
    (void)lu_stats_json(text, sizeof text);
    CHECK(!lu_owns(&scope));
    (void)lu_purge();
}

static __thread bool within; /* a function of the program: it may be called from what it does */

static void *thread_body(void *heap) {
    within = true;
    use_all(heap);
    return NULL;
}

/* What every function of the program does; `heap`: a lu_heap that is used as well, or NULL. */
static void do_all(lu_heap_t *heap) {
    pthread_t thread;
    if (within) return;
    called++;
    within = true;
    use_all(heap);
    CHECK(pthread_create(&thread, NULL, thread_body, heap) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(SECONDS);
        use_all(heap);
        _exit(0);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    within = false;
}

static int begin(void **state) {
    (void)state;
    called = 0;
    alarm(SECONDS);
    return 0;
}

/* ------------------------------------------------------------------ visitors ------------------ */

static bool visit_and_do_all(void *block, size_t usable_bytes, void *arg) {
    (void)block, (void)usable_bytes;
    do_all(arg);
    return true;
}

static lu_heap_t *heap_with_blocks(unsigned flags) {
    lu_heap_t *heap = lu_heap_create(flags);
    for (size_t i = 0; i < SIZES; i++) assert_non_null(lu_heap_malloc(heap, sizes[i]));
    return heap;
}

static size_t blocks_of(lu_heap_t *heap) {
    size_t count = 0;
    assert_true(lu_heap_walk(heap, count_visit, &count));
    return count;
}

/* Of each kind of heap and block, with another heap and with the one that is walked. */
static void visitor(void **state) {
    (void)state;
    lu_heap_t *alone = heap_with_blocks(LU_HEAP_SINGLE_THREADED);
    lu_heap_t *shared = heap_with_blocks(LU_HEAP_SHARED);
    assert_true(lu_heap_walk(alone, visit_and_do_all, shared));
    assert_true(lu_heap_walk(shared, visit_and_do_all, shared));
    assert_int_equal(called, 2 * SIZES);
    assert_int_equal(blocks_of(shared), SIZES);
    lu_heap_destroy(alone);
    lu_heap_destroy(shared);
}

/* Walks of two heaps by two threads, whose visitors walk the other one. */
struct crossing {
    lu_heap_t *heap, *other;
    pthread_barrier_t *both;
    bool first;
};

static bool visit_and_walk_the_other(void *block, size_t usable_bytes, void *arg) {
    (void)block, (void)usable_bytes;
    struct crossing *crossing = arg;
    if (crossing->first) pthread_barrier_wait(crossing->both);
    crossing->first = false;
    CHECK(blocks_of(crossing->other) >= SIZES); /* and what the other visitor has */
    void *mine = lu_heap_malloc(crossing->heap, 50);
    CHECK(mine != NULL);
    lu_heap_free(crossing->heap, mine);
    return true;
}

static void *cross(void *arg) {
    struct crossing *crossing = arg;
    CHECK(lu_heap_walk(crossing->heap, visit_and_walk_the_other, crossing));
    return NULL;
}

static void visitors_that_cross(void **state) {
    (void)state;
    pthread_t thread;
    pthread_barrier_t both;
    lu_heap_t *one = heap_with_blocks(LU_HEAP_SHARED), *two = heap_with_blocks(LU_HEAP_SHARED);
    struct crossing here = {one, two, &both, true}, there = {two, one, &both, true};
    pthread_barrier_init(&both, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, cross, &there), 0);
    (void)cross(&here);
    assert_int_equal(pthread_join(thread, NULL), 0);
    pthread_barrier_destroy(&both);
    lu_heap_destroy(one);
    lu_heap_destroy(two);
}

/* ------------------------------------------------------------------ limit --------------------- */

static bool reached_and_do_all(size_t wanted_bytes, size_t held_bytes, void *arg) {
    (void)wanted_bytes, (void)held_bytes;
    do_all(arg);
    return false;
}

static void limit_callback(void **state) {
    (void)state;
    const size_t far = 512 * LU_MIB;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    lu_cache_t *cache = lu_cache_create("large", 900u << 20, 0, NULL, NULL, NULL);
    assert_int_equal(lu_set_limit(far, reached_and_do_all, heap), 0);
    LU_SCOPE(scope);
    assert_null(lu_malloc(2 * far));
    assert_null(lu_heap_malloc(heap, 2 * far));
    assert_null(lu_heap_aligned_alloc(heap, 4096, 2 * far));
    void *block = lu_malloc(100), *large = lu_malloc(100000), *huge = lu_malloc(40 * LU_MIB);
    assert_null(lu_realloc(block, 2 * far));
    assert_null(lu_realloc(large, 2 * far));
    assert_null(lu_realloc(huge, 2 * far));
    assert_null(lu_scope_alloc(&scope, 2 * far));
    unsigned expected = 7;
    if (cache != NULL) assert_null(lu_cache_alloc(cache));
    expected += cache != NULL;
    assert_int_equal(called, expected);
    lu_cache_destroy(cache);
    lu_free(block);
    lu_free(large);
    lu_free(huge);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    lu_heap_destroy(heap);
}

/* The limit is met by the smallest things: then also the memory for a heap asks. */
static void limit_callback_of_small_things(void **state) {
    (void)state;
    enum { MOST = 4000 };
    static void *blocks[MOST];
    static lu_heap_t *heaps[MOST];
    size_t count = 0, made = 0;
    (void)lu_purge();
    assert_int_equal(lu_set_limit(lu__span_held() + LU_MIB, reached_and_do_all, NULL), 0);
    while (count < MOST && (blocks[count] = lu_malloc(1000)) != NULL) count++;
    assert_int_equal(called, 1);
    while (count > 0) lu_free(blocks[--count]);
    while (made < MOST && (heaps[made] = lu_heap_create(LU_HEAP_SHARED)) != NULL) made++;
    assert_int_equal(called, 2);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    while (made > 0) lu_heap_destroy(heaps[--made]);
}

/* ------------------------------------------------------------------ violations ---------------- */

static bool violation_and_do_all(const lu_violation_t *violation, void *arg) {
    (void)violation;
    do_all(arg);
    return true;
}

/* Damage the link of a free block; then take blocks until that is met, in a slow path and with the
 * heap's lock held. */
static void damage_and_take(lu_heap_t *heap) {
    enum { COUNT = 200, SIZE = 48 };
    static void *blocks[2 * COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = heap != NULL ? lu_heap_malloc(heap, SIZE) : lu_malloc(SIZE);
        assert_non_null(blocks[i]);
    }
    /* Some stay, so that no span ends. */
    for (size_t i = 0; i < COUNT; i++) {
        if (i % 4 != 0) lu_free(blocks[i]);
    }
    for (size_t i = 0; i < COUNT; i++) memset(blocks[i], 0x5a, SIZE);
    for (size_t i = 0; i < 2 * COUNT; i++) {
        blocks[i] = heap != NULL ? lu_heap_malloc(heap, SIZE) : lu_malloc(SIZE);
        assert_non_null(blocks[i]);
    }
    assert_true(called > 0);
}

static void violation_handler(void **state) {
    (void)state;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    lu_set_violation_handler(violation_and_do_all, heap);
    unsigned before = 0;
    damage_and_take(NULL);
    before = called;
    called = 0;
    damage_and_take(heap);
    called += before;
    void *block = lu_malloc(100), *large = lu_malloc(100000), *huge = lu_malloc(40 * LU_MIB);
    void *zero = lu_malloc(0), *its = lu_heap_malloc(heap, 100);
    void *its_large = lu_heap_malloc(heap, 100000);
    for (int i = 0; i < 2; i++) lu_free(hidden(zero));
    lu_free(hidden((char *)large + 16));
    lu_free(hidden((char *)huge + 16));
    lu_heap_free(heap, hidden(block));
    for (int i = 0; i < 2; i++) lu_free(hidden(its));
    for (int i = 0; i < 2; i++) lu_free(hidden(its_large));
    assert_true(called >= before + 7);
    lu_free(large);
    lu_free(huge);
    lu_set_violation_handler(NULL, NULL);
    lu_heap_destroy(heap);
}

/* ------------------------------------------------------------------ caches -------------------- */

static jmp_buf out;

static bool jump_out(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    called++;
    longjmp(out, 1);
}

static bool only_go_on(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    called++;
    return true;
}

/* It runs no more, so the next is called. */
static void violation_handler_left_by_a_jump(void **state) {
    (void)state;
    char *volatile block = lu_malloc(100);
    lu_free(block);
    for (int i = 0; i < 3; i++) {
        lu_set_violation_handler(jump_out, NULL);
        if (setjmp(out) == 0) lu_free(hidden(block));
    }
    lu_set_violation_handler(only_go_on, NULL);
    lu_free(hidden(block));
    assert_int_equal(called, 4);
    lu_set_violation_handler(NULL, NULL);
}

static int construct(void *object, void *arg) {
    memset(object, 1, 100);
    do_all(arg);
    return 0;
}

static void destruct(void *object, void *arg) {
    (void)object;
    do_all(arg);
}

static void constructor_and_destructor(void **state) {
    (void)state;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    lu_cache_t *cache = lu_cache_create("objects", 100, 0, construct, destruct, heap);
    void *objects[3];
    for (size_t i = 0; i < 3; i++) assert_non_null(objects[i] = lu_cache_alloc(cache));
    for (size_t i = 0; i < 2; i++) lu_cache_free(cache, objects[i]);
    assert_int_equal(lu_cache_reap(cache, 1), 1);
    lu_cache_destroy(cache);
    assert_int_equal(called, 6);
    lu_heap_destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(visitor, begin),
        cmocka_unit_test_setup(visitors_that_cross, begin),
        cmocka_unit_test_setup(limit_callback, begin),
        cmocka_unit_test_setup(limit_callback_of_small_things, begin),
        cmocka_unit_test_setup(violation_handler, begin),
        cmocka_unit_test_setup(violation_handler_left_by_a_jump, begin),
        cmocka_unit_test_setup(constructor_and_destructor, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
