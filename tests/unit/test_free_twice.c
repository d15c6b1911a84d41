/*
 * test_free_twice.c - two threads free the same block at once: one of them is told, and nobody gets
 * the block twice. Blocks of a shared heap, and large ones of the thread. Also with harden:1.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "lucid/lucid.h"

enum { ROUNDS = 2000 };

static atomic_uint begun, done, told;
static _Atomic(void *) block;

static bool count(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    atomic_fetch_add(&told, 1);
    return true;
}

static void spin(unsigned turns) {
    for (volatile unsigned i = 0; i < turns; i++) continue;
}

/* Frees the block of every round as well, a little earlier or later each time. */
static void *free_too(void *arg) {
    (void)arg;
    for (unsigned round = 1; round <= ROUNDS; round++) {
        while (atomic_load(&begun) < round) sched_yield();
        spin(round * 7 % 60);
        lu_free(atomic_load(&block));
        atomic_store(&done, round);
    }
    return NULL;
}

static void *take(lu_heap_t *heap, size_t size) {
    unsigned char *at = heap != NULL ? lu_heap_malloc(heap, size) : lu_malloc(size);
    assert_non_null(at);
    at[0] = 1;
    return at;
}

static void free_by_two(lu_heap_t *heap, size_t size) {
    pthread_t thread;
    atomic_store(&begun, 0);
    atomic_store(&done, 0);
    assert_int_equal(pthread_create(&thread, NULL, free_too, NULL), 0);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        void *mine = take(heap, size);
        atomic_store(&told, 0);
        atomic_store(&block, mine);
        atomic_store(&begun, round);
        spin(round * 13 % 80);
        lu_free(mine);
        while (atomic_load(&done) < round) sched_yield();
        assert_int_equal(told, 1);
        void *one = take(heap, size), *other = take(heap, size);
        assert_ptr_not_equal(one, other);
        lu_free(one);
        lu_free(other);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void of_a_shared_heap(void **state) {
    (void)state;
    static const size_t sizes[] = {40, 3000, 200000, 40 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
        free_by_two(heap, sizes[i]);
        lu_heap_destroy(heap);
    }
}

static void of_the_thread(void **state) {
    (void)state;
    free_by_two(NULL, 200000);
    free_by_two(NULL, 40 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_a_shared_heap),
        cmocka_unit_test(of_the_thread),
    };
    (void)lu_option_set("abort", "0");
    lu_set_violation_handler(count, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
