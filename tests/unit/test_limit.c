/*
 * test_limit.c - heap/limit: what happens as the memory held comes near the limit, and at it.
 *
 * purge_delay is set so long that nothing goes back for its age: what does go back near the limit
 * goes back for the limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "heap/limit.h"
#include "lucid/lucid.h"
#include "span/span.h"

enum { BLOCKS = 60, KEPT = 49 };

/* Slow paths for some milliseconds: ticks in them look at the clock. */
static void pass_time(void) {
    for (int i = 0; i < 40; i++) {
        for (int k = 0; k < 40; k++) lu_free(lu_malloc(70000));
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

/* Hold 60 MiB, free 11 of them, which is no flood (span/decay.h), and work on; what is still
 * held then. */
static size_t held_after_some_is_freed(void) {
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_non_null(blocks[i] = lu_malloc(LU_MIB - 4096));
        memset(blocks[i], 1, LU_MIB - 4096);
    }
    for (size_t i = KEPT; i < BLOCKS; i++) lu_free(blocks[i]);
    pass_time();
    size_t held = lu__span_held();
    for (size_t i = 0; i < KEPT; i++) lu_free(blocks[i]);
    (void)lu_purge();
    return held;
}

static void free_memory_goes_back_near_the_limit(void **state) {
    (void)state;
    assert_int_equal(lu_option_set("purge_delay", "100000"), 0);
    assert_false(lu__limit_is_near());
    assert_true(held_after_some_is_freed() >= BLOCKS * LU_MIB); /* no limit */
    assert_int_equal(lu_set_limit(LU_GIB, NULL, NULL), 0);
    assert_true(held_after_some_is_freed() >= BLOCKS * LU_MIB); /* far away */
    assert_int_equal(lu_set_limit(64 * LU_MIB, NULL, NULL), 0);
    assert_true(held_after_some_is_freed() <= 56 * LU_MIB); /* seven eighths */
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    assert_int_equal(lu_option_set("purge_delay", "500"), 0);
}

static size_t asked, held_then;

static bool note(size_t wanted_bytes, size_t held_bytes, void *arg) {
    (void)wanted_bytes;
    asked++;
    held_then = held_bytes;
    return *(bool *)arg;
}

/* Spans with nothing in them, one of each class, are no reason to fail. */
static void empty_spans_go_back_at_the_limit(void **state) {
    (void)state;
    bool again = false;
    void *blocks[BLOCKS];
    size_t count = 0;
    (void)lu_purge();
    size_t limit = lu__span_held() + 16 * LU_MIB;
    asked = 0;
    assert_int_equal(lu_set_limit(limit, note, &again), 0);
    for (size_t size = 8; size <= 65536; size = lu_good_size(size + 1)) {
        lu_free(lu_malloc(size));
    }
    assert_true(lu__span_held() >= limit - 12 * LU_MIB); /* 4 MiB are in such spans */
    while (count < BLOCKS && (blocks[count] = lu_malloc(LU_MIB / 2)) != NULL) count++;
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(asked, 1);
    assert_true(held_then <= limit && held_then > limit - LU_MIB / 2);
    assert_true(count >= 31);
    for (size_t i = 0; i < count; i++) lu_free(blocks[i]);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
}

/* The callback is asked eight times at most, and only for the limit. */
static void the_callback_is_asked(void **state) {
    (void)state;
    bool again = true;
    volatile size_t most = PTRDIFF_MAX;
    asked = 0;
    (void)lu_purge();
    assert_int_equal(lu_set_limit(lu__span_held() + 4 * LU_MIB, note, &again), 0);
    errno = 0;
    assert_null(lu_malloc(8 * LU_MIB));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(asked, 8);
    again = false;
    assert_null(lu_malloc(100 * LU_MIB));
    assert_int_equal(asked, 9);
    assert_null(lu_malloc(most + 1));
    assert_int_equal(asked, 9);
    void *block = lu_malloc(LU_MIB);
    assert_non_null(block);
    assert_int_equal(asked, 9);
    lu_free(block);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_memory_goes_back_near_the_limit),
        cmocka_unit_test(empty_spans_go_back_at_the_limit),
        cmocka_unit_test(the_callback_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
