/* clock_limit.c - heap/limit: at the limit all that is free is given back, at most every 10 ms, and
 * also after a time that arithmetic in 32 bits would take for none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "clock.h"
#include "heap/heap.h"
#include "heap/limit.h"
#include "lucid/lucid.h"

/* An allocation that the limit forbids, while a span has nothing in it: true if that was ended. */
static bool asked(void) {
    lu_free(lu_malloc(100));
    return lu__limit_reached(1 << 20, 0);
}

static void gives_back_after_any_time(void **state) {
    (void)state;
    void *block = lu_malloc(4 << 20);
    assert_int_equal(lu_set_limit((4 << 20) + (1 << 19), NULL, NULL), 0);
    assert_true(asked());
    for (size_t i = 0; i < clock_span_count; i++) {
        clock_advance(clock_spans[i]);
        assert_int_equal(asked(), clock_spans[i] >= 10);
        assert_false(asked());
        clock_advance(9);
        assert_int_equal(asked(), clock_spans[i] + 9 == 10);
        clock_advance(10);
        assert_true(asked());
    }
    lu_free(block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_after_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
