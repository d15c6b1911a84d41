/* clock_limit.c - heap/limit: at the limit empty spans are given back at once when nothing else is
 * left; and before the program's callback is asked at most every 10 ms, also after a time that
 * arithmetic in 32 bits would take for none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "clock.h"
#include "heap/heap.h"
#include "heap/limit.h"
#include "lucid/lucid.h"

enum { WANTED = 1 << 20 };

static unsigned calls;
static void *spare;

/* Something is freed in any case, so that the allocation that asks has what it wants. */
static bool give(size_t wanted_bytes, size_t held_bytes, void *arg) {
    (void)wanted_bytes, (void)held_bytes, (void)arg;
    calls++;
    lu_free(spare);
    spare = NULL;
    return true;
}

/* Spans with nothing in them, of several classes, that were used throughout and so hold more than
 * is wanted. */
static void leave_empty_spans(void) {
    void *blocks[64];
    size_t count = 0;
    for (size_t size = 20000; size <= 65536; size = lu_good_size(size + 1)) {
        size_t fit = (size <= 32768 ? LU_SLICE : 2 * LU_SLICE) / lu_good_size(size);
        for (size_t i = 0; i < fit; i++) assert_non_null(blocks[count++] = lu_malloc(size));
    }
    while (count > 0) lu_free(blocks[--count]);
}

/* At the limit, beside such spans: true if the callback was not needed. */
static bool had_by_squeezing(void) {
    calls = 0;
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    (void)lu_purge();
    assert_non_null(spare = lu_malloc(WANTED));
    leave_empty_spans();
    assert_int_equal(lu_set_limit(lu__span_held() + WANTED / 4, give, NULL), 0);
    void *block = lu_malloc(WANTED / 2);
    assert_non_null(block);
    lu_free(block);
    lu_free(spare);
    return calls == 0;
}

static void the_callback_waits_for_it_now_and_then(void **state) {
    (void)state;
    assert_true(had_by_squeezing());
    for (size_t i = 0; i < clock_span_count; i++) {
        clock_advance(clock_spans[i]);
        assert_int_equal(had_by_squeezing(), clock_spans[i] >= 10);
        assert_false(had_by_squeezing());
        clock_advance(9);
        assert_int_equal(had_by_squeezing(), clock_spans[i] + 9 == 10);
        clock_advance(10);
        assert_true(had_by_squeezing());
    }
}

/* Without a callback nothing is refused while there are such spans, however often it is asked. */
static void nothing_fails_beside_empty_spans(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
        leave_empty_spans();
        assert_int_equal(lu_set_limit(lu__span_held() + WANTED / 4, NULL, NULL), 0);
        void *block = lu_malloc(WANTED / 2);
        assert_non_null(block);
        lu_free(block);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_callback_waits_for_it_now_and_then),
        cmocka_unit_test(nothing_fails_beside_empty_spans),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
