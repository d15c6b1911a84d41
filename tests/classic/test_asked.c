/* test_asked.c - the table of what was asked for each block, against an array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "classic/asked.h"
#include "heap.h"

static void what_is_set_is_found(void **state) {
    (void)state;
    struct lu__asked *table = lu__asked_create();
    char block[16];
    assert_non_null(table);
    assert_int_equal(lu__asked_get(table, block), 0);
    lu__asked_remove(table, block);
    assert_true(lu__asked_set(table, block, 7));
    assert_int_equal(lu__asked_get(table, block), 7);
    assert_true(lu__asked_set(table, block, 5));
    assert_int_equal(lu__asked_get(table, block), 5);
    assert_int_equal(lu__asked_total(table), 5);
    lu__asked_remove(table, block);
    assert_int_equal(lu__asked_get(table, block), 0);
    assert_int_equal(lu__asked_total(table), 0);
    lu__asked_destroy(table);
}

static void many_come_and_go(void **state) {
    (void)state;
    enum { MANY = 20000 };
    static size_t asked[MANY]; /* 0: not in the table */
    struct lu__asked *table = lu__asked_create();
    struct random random = {3};
    size_t total = 0;
    for (int step = 0; step < 300000; step++) {
        /* Neighbours, as payloads are, and few at first: the table grows as it is used. */
        size_t i = random_below(&random, 1 + (size_t)step / 15);
        const void *key = (void *)(uintptr_t)(0x7f0000000000 + 16 * i);
        assert_int_equal(lu__asked_get(table, key), asked[i]);
        total -= asked[i];
        asked[i] = random_below(&random, 3) == 0 ? 0 : 1 + random_below(&random, 1000);
        total += asked[i];
        if (asked[i] == 0) {
            lu__asked_remove(table, key);
        } else {
            assert_true(lu__asked_set(table, key, asked[i]));
        }
        assert_int_equal(lu__asked_total(table), total);
    }
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(lu__asked_get(table, (void *)(uintptr_t)(0x7f0000000000 + 16 * i)),
                         asked[i]);
    }
    lu__asked_destroy(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_set_is_found),
        cmocka_unit_test(many_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
