/* clock_stock.c - harden/large: freed large blocks that wait for the next malloc go back once
 * they are too old, however long the process has been idle. Run with harden:1. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "clock.h"
#include "harden/harden.h"
#include "lucid/lucid.h"
#include "span/span.h"

enum { BYTES = 200000, BLOCKS = 24 };

/* Free so many that the first leave the quarantine for the stock. */
static void fill_stock(void) {
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = lu_malloc(BYTES);
        assert_non_null(blocks[i]);
    }
    for (size_t i = 0; i < BLOCKS; i++) lu_free(blocks[i]);
}

static size_t used(void) {
    return __atomic_load_n(&lu__span_figures.used, __ATOMIC_RELAXED);
}

/* What a tidying gives back. */
static size_t tidied(void) {
    size_t before = used();
    assert_true(lu__inside_enter());
    lu__hard_large_tidy(false);
    lu__inside_leave();
    return before - used();
}

static void gives_back_after_any_time(void **state) {
    (void)state;
    fill_stock();
    assert_true(lu__harden.on);
    for (size_t i = 0; i < clock_span_count; i++) {
        fill_stock();
        assert_int_equal(tidied(), 0); /* just now */
        clock_advance(clock_spans[i]);
        if (clock_spans[i] <= 1000) {
            assert_int_equal(tidied(), 0);
        } else {
            assert_true(tidied() >= 5 * BYTES);
        }
        clock_advance(5000);
        (void)tidied();
    }
}

/* The clock itself passes the ends of 31 and 32 bits. */
static void as_the_clock_comes_round(void **state) {
    (void)state;
    for (uint64_t half = 1; half <= 8; half++) {
        uint64_t end = half << 31;
        for (uint64_t before = 0; before <= 2000; before += 500) {
            clock_set(end * 4 - before);
            fill_stock();
            clock_advance(1000);
            assert_int_equal(tidied(), 0);
            clock_advance(1);
            assert_true(tidied() >= 5 * BYTES);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_back_after_any_time),
        cmocka_unit_test(as_the_clock_comes_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
