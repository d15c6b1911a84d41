/*
 * clock_purge.c - when free memory goes back, over 200 days and at every place where milliseconds
 * in 31 or 32 bits would wrap, by a clock that is the test's (tests/support/clock.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "clock.h"
#include "lucid/lucid.h"
#include "span/span.h"

#define DAY ((uint64_t)24 * 3600 * 1000)
enum { BLOCKS = 16, BYTES = 256 * 1024 };

static size_t dirty(void) {
    return __atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED);
}

/* Light use: at each millisecond, or at one of so many, a malloc and free. */
static void use_lightly(int calls, uint64_t step_ms) {
    for (int i = 0; i < calls; i++) {
        clock_advance(step_ms);
        lu_free(lu_malloc(100));
        lu_free(lu_malloc(70000));
    }
}

static void free_some(void) {
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = lu_malloc(BYTES);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, BYTES);
    }
    for (size_t i = 0; i < BLOCKS; i++) lu_free(blocks[i]);
    assert_true(dirty() >= BLOCKS * BYTES);
}

/* But for the one that light use takes again and again. */
static void assert_given_back(void) {
    assert_true(dirty() <= 3 * LU_SLICE);
}

static void goes_back_after_any_silence(void **state) {
    (void)state;
    for (size_t i = 0; i < clock_span_count; i++) {
        free_some();
        clock_advance(clock_spans[i]);
        use_lightly(200, 10);
        assert_given_back();
    }
}

static void goes_back_on_any_day(void **state) {
    (void)state;
    for (int day = 0; day < 200; day++) {
        clock_advance(DAY);
        free_some();
        use_lightly(20, 10); /* 200 ms: it is kept */
        assert_true(dirty() >= (BLOCKS - 2) * BYTES);
        use_lightly(200, 10);
        assert_given_back();
    }
}

static void goes_back_where_numbers_wrap(void **state) {
    (void)state;
    uint64_t half = clock_now() >> 31;
    for (int times = 0; times < 8; times++) {
        for (uint64_t before = 0; before <= 2000; before += 250) {
            clock_set((++half << 31) - before);
            free_some();
            use_lightly(20, 10);
            assert_true(dirty() >= (BLOCKS - 2) * BYTES);
            use_lightly(200, 10);
            assert_given_back();
        }
    }
}

static void for_ever_is_for_ever(void **state) {
    (void)state;
    assert_int_equal(lu_option_set("purge_delay", "-1"), 0);
    free_some();
    for (int day = 0; day < 200; day++) {
        clock_advance(DAY);
        use_lightly(20, 10);
        assert_true(dirty() >= (BLOCKS - 2) * BYTES);
    }
    assert_int_equal(lu_option_set("purge_delay", "500"), 0);
    use_lightly(200, 10);
    assert_given_back();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_back_after_any_silence),
        cmocka_unit_test(goes_back_on_any_day),
        cmocka_unit_test(for_ever_is_for_ever),
        cmocka_unit_test(goes_back_where_numbers_wrap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
