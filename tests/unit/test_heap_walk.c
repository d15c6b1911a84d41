/*
 * test_heap_walk.c - lu_heap_walk while the heap changes: by the visitor, and by other threads.
 * What lives throughout is visited once. Also run with harden:1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/base.h"
#include "heap/heap.h"
#include "lucid/lucid.h"
#include "visits.h"

enum {
    SMALL = 8000, /* blocks of size classes, in spans of one slice and of several */
    LARGE = 1500, /* runs: more than one hold of the lock */
    HUGE = 3,
    ALL = SMALL + LARGE + HUGE,
    ROUNDS = 30,
    UNKNOWN = UINT32_MAX
};

static const size_t classes[] = {8, 24, 100, 1000, 3000, 9000, 30000};
enum { CLASSES = sizeof classes / sizeof classes[0] };

/* Blocks that stay, each with its number in front; others have UNKNOWN there. */
static uint32_t *kept[ALL];
static unsigned char visits[ALL];

static uint32_t *numbered(lu_heap_t *heap, size_t size, uint32_t number) {
    uint32_t *block = lu_heap_malloc(heap, size);
    assert_non_null(block);
    __atomic_store_n(block, number, __ATOMIC_RELAXED);
    return block;
}

static size_t size_of(uint32_t i) {
    if (i < SMALL) return classes[i % CLASSES];
    return i < SMALL + LARGE ? 70000 : (size_t)40 << 20;
}

static lu_heap_t *heap_with_all(unsigned flags) {
    lu_heap_t *heap = lu_heap_create(flags);
    assert_non_null(heap);
    for (uint32_t i = 0; i < ALL; i++) kept[i] = numbered(heap, size_of(i), i);
    return heap;
}

static size_t count_of(lu_heap_t *heap, lu_visit_fn *visit, void *arg) {
    size_t count = 0;
    for (size_t i = 0; i < ALL; i++) visits[i] = 0;
    assert_true(lu_heap_walk(heap, visit, arg));
    for (size_t i = 0; i < ALL; i++) count += visits[i];
    return count;
}

static bool note_visit(void *block, size_t usable_bytes, void *arg) {
    (void)arg;
    uint32_t number = __atomic_load_n((uint32_t *)block, __ATOMIC_RELAXED);
    assert_in_range(usable_bytes, sizeof number, SIZE_MAX);
    if (number == UNKNOWN) return true;
    assert_in_range(number, 0, ALL - 1);
    assert_ptr_equal(block, kept[number]);
    visits[number]++;
    return true;
}

/* ---------------------------------------------------------------- by the visitor */

static bool free_visit(void *block, size_t usable_bytes, void *heap) {
    (void)note_visit(block, usable_bytes, NULL);
    lu_heap_free(heap, block);
    return true;
}

static void visitors_free_what_they_are_given(void **state) {
    (void)state;
    for (unsigned flags = LU_HEAP_SHARED; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = heap_with_all(flags);
        assert_int_equal(count_of(heap, free_visit, heap), ALL);
        for (size_t i = 0; i < ALL; i++) assert_int_equal(visits[i], 1);
        assert_int_equal(count_of(heap, note_visit, NULL), 0);
        (void)numbered(heap, 100, 0);
        lu_heap_destroy(heap);
    }
}

/* As many as there are, of the same sizes: into the lists of spans that are being visited, too. */
static bool allocate_visit(void *block, size_t usable_bytes, void *heap) {
    (void)note_visit(block, usable_bytes, NULL);
    uint32_t number = *(uint32_t *)block;
    if (number != UNKNOWN) (void)numbered(heap, size_of(number), UNKNOWN);
    return true;
}

static void visitors_allocate(void **state) {
    (void)state;
    for (unsigned flags = LU_HEAP_SHARED; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = heap_with_all(flags);
        for (size_t i = 0; i < ALL; i += 3) { /* some are free, and on lists */
            lu_free(kept[i]);
            kept[i] = numbered(heap, size_of((uint32_t)i), (uint32_t)i);
        }
        assert_int_equal(count_of(heap, allocate_visit, heap), ALL);
        for (size_t i = 0; i < ALL; i++) assert_int_equal(visits[i], 1);
        lu_heap_destroy(heap);
    }
}

static bool walk_visit(void *block, size_t usable_bytes, void *heap) {
    size_t count = 0;
    (void)note_visit(block, usable_bytes, NULL);
    if (*(uint32_t *)block % 1000 != 0) return true;
    assert_true(lu_heap_walk(heap, count_visit, &count));
    assert_int_equal(count, ALL);
    return true;
}

static void visitors_walk(void **state) {
    (void)state;
    lu_heap_t *heap = heap_with_all(LU_HEAP_SHARED);
    assert_int_equal(count_of(heap, walk_visit, heap), ALL);
    lu_heap_destroy(heap);
}

enum { OTHERS = 20 };

/* The first that is visited frees all others, which are in runs of their own. */
static bool free_others_visit(void *block, size_t usable_bytes, void *count) {
    (void)usable_bytes;
    for (size_t i = 0; i < OTHERS; i++) {
        if (kept[i] != block) lu_free(kept[i]);
    }
    ++*(size_t *)count;
    return true;
}

static void what_is_freed_before_its_run_is_looked_at(void **state) {
    (void)state;
    for (unsigned huge = 0; huge < 2; huge++) {
        size_t count = 0;
        lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
        for (uint32_t i = 0; i < OTHERS; i++) {
            kept[i] = numbered(heap, huge ? (size_t)40 << 20 : 70000, i);
        }
        assert_true(lu_heap_walk(heap, free_others_visit, &count));
        assert_int_equal(count, 1);
        lu_heap_destroy(heap);
    }
}

static bool destroy_visit(void *block, size_t usable_bytes, void *heap) {
    (void)block, (void)usable_bytes;
    lu_heap_destroy(heap);
    return true;
}

/* Misuse; what ends is the walk. */
static void a_heap_that_its_visitor_ends(void **state) {
    (void)state;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    (void)numbered(heap, 100, 0);
    (void)numbered(heap, 70000, 0);
    assert_false(lu_heap_walk(heap, destroy_visit, heap));
}

/* ---------------------------------------------------------------- by others */

static atomic_bool stop;

/* Runs come and go, among them those at which a walk lets others in, and lists change. */
static void *churn(void *heap) {
    enum { BLOCKS = 64 };
    static uint32_t *blocks[BLOCKS];
    for (size_t i = 0; !atomic_load(&stop); i++) {
        size_t slot = i * 7 % BLOCKS;
        lu_free(blocks[slot]);
        blocks[slot] = numbered(heap, size_of((uint32_t)(i % (SMALL + LARGE))), UNKNOWN);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        lu_free(blocks[i]);
        blocks[i] = NULL;
    }
    return NULL;
}

/* Addresses only, as blocks of others may be gone. */
static bool known_visit(void *block, size_t usable_bytes, void *arg) {
    (void)usable_bytes;
    const struct heap *heap = arg;
    uint32_t low = 0, high = ALL;
    assert_false(lu__lock_is_mine(&heap->lock));
    assert_false(lu__is_inside());
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if ((uintptr_t)kept[middle] <= (uintptr_t)block) {
            low = middle;
        } else {
            high = middle;
        }
    }
    if (kept[low] == block) visits[low]++;
    return true;
}

static int by_address(const void *a, const void *b) {
    uintptr_t one = (uintptr_t) * (uint32_t *const *)a, two = (uintptr_t) * (uint32_t *const *)b;
    return (one > two) - (one < two);
}

static void what_lives_throughout_is_visited_once(void **state) {
    (void)state;
    pthread_t thread;
    lu_heap_t *heap = heap_with_all(LU_HEAP_SHARED);
    qsort(kept, ALL, sizeof kept[0], by_address);
    atomic_store(&stop, false);
    assert_int_equal(pthread_create(&thread, NULL, churn, heap), 0);
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(count_of(heap, known_visit, heap), ALL);
        for (size_t i = 0; i < ALL; i++) assert_int_equal(visits[i], 1);
    }
    atomic_store(&stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    lu_heap_destroy(heap);
}

static void *walk_and_count(void *heap) {
    for (int round = 0; round < ROUNDS; round++) {
        size_t count = 0;
        if (!lu_heap_walk(heap, count_visit, &count) || count != ALL) return heap;
    }
    return NULL;
}

static void two_threads_walk(void **state) {
    (void)state;
    pthread_t thread;
    void *failed;
    lu_heap_t *heap = heap_with_all(LU_HEAP_SHARED);
    assert_int_equal(pthread_create(&thread, NULL, walk_and_count, heap), 0);
    assert_null(walk_and_count(heap));
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    assert_int_equal(((struct heap *)(void *)heap)->walking, 0);
    lu_heap_destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(visitors_free_what_they_are_given),
        cmocka_unit_test(visitors_allocate),
        cmocka_unit_test(visitors_walk),
        cmocka_unit_test(what_is_freed_before_its_run_is_looked_at),
        cmocka_unit_test(a_heap_that_its_visitor_ends),
        cmocka_unit_test(what_lives_throughout_is_visited_once),
        cmocka_unit_test(two_threads_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
