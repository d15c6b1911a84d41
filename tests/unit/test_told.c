/*
 * test_told.c - how often violations were told: a bounded table that any number of threads fill.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/told.h"

/* Each test has marks of its own: entries are never emptied. */
static uint64_t mark_of(unsigned test, uint64_t i) {
    return (uint64_t)test << 32 | i;
}

static void powers_of_ten_are_due(void **state) {
    (void)state;
    uint64_t due = 0;
    for (uint64_t i = 1; i <= 1000000; i++) due += lu__told_is_due(i);
    assert_int_equal(due, 7);
    assert_true(lu__told_is_due(1) && lu__told_is_due(10) && lu__told_is_due(1000000));
    assert_true(lu__told_is_due(10000000000000000000u));
    assert_false(lu__told_is_due(0) || lu__told_is_due(20) || lu__told_is_due(UINT64_MAX));
}

/* As one place after a call at the other would be: neighbours in every bit. */
static void marks_and_kinds_are_told_apart(void **state) {
    (void)state;
    uint64_t before = lu__told_total();
    for (uint64_t round = 1; round <= 3; round++) {
        for (unsigned kind = 0; kind < 4; kind++) {
            for (uint64_t i = 0; i < 8; i++) {
                assert_int_equal(lu__told_count(kind, mark_of(1, i)), round);
            }
        }
    }
    assert_int_equal(lu__told_total() - before, 3 * 4 * 8);
}

enum { THREADS = 8, TIMES = 10000 };

static void *count_often(void *arg) {
    size_t *due = arg;
    for (int i = 0; i < TIMES; i++) *due += lu__told_is_due(lu__told_count(3, mark_of(2, 7)));
    return NULL;
}

static void each_number_is_given_once(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    size_t due[THREADS] = {0}, all = 0;
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, count_often, &due[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        all += due[i];
    }
    assert_int_equal(all, 5); /* 1 to 10,000, of 80,000 */
    assert_int_equal(lu__told_count(3, mark_of(2, 7)), THREADS * TIMES + 1);
}

static void a_child_counts_on(void **state) {
    (void)state;
    int status;
    assert_int_equal(lu__told_count(1, mark_of(3, 1)), 1);
    pid_t child = fork();
    if (child == 0) _exit(lu__told_count(1, mark_of(3, 1)) == 2 ? 0 : 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(lu__told_count(1, mark_of(3, 1)), 2);
}

/* The last test: the table is full then. At least 128 places have an entry; however many there are,
 * few are told: those, and the powers of ten of the others. */
static void the_table_is_bounded(void **state) {
    (void)state;
    size_t told = 0, second = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        told += lu__told_is_due(lu__told_count(5, mark_of(4, i)));
    }
    assert_true(told <= 256 + 6);
    for (uint64_t i = 0; i < 128; i++) second += lu__told_count(5, mark_of(4, i)) == 2;
    assert_true(second >= 127); /* each has its own entry, but for one, by chance */
    uint64_t crowd = lu__told_count(5, mark_of(4, 99998));
    assert_int_equal(lu__told_count(5, mark_of(4, 99999)), crowd + 1);
    assert_int_equal(lu__told_count(6, mark_of(4, 99999)), 1); /* of another kind */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(powers_of_ten_are_due),
        cmocka_unit_test(marks_and_kinds_are_told_apart),
        cmocka_unit_test(each_number_is_given_once),
        cmocka_unit_test(a_child_counts_on),
        cmocka_unit_test(the_table_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
