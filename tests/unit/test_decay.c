/* test_decay.c - span/decay: how much goes back, and when; by a clock and amounts of the test's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "span/decay.h"

enum { DELAY = 500 };
#define DAY ((uint64_t)24 * 3600 * 1000)

/* A heap of which `used` and `free` bytes are known to its decay. */
static struct lu__decay decay;
static size_t used, unused;
static uint64_t now;

static void begin(uint64_t start_ms) {
    decay = (struct lu__decay){0};
    used = unused = 0;
    now = start_ms;
}

/* Free bytes, of those that are in use. */
static void release(size_t bytes) {
    used -= bytes;
    unused += bytes;
    lu__decay_freed(&decay, unused, used, now, DELAY);
}

/* Use bytes that are free. */
static void take(size_t bytes) {
    used += bytes;
    unused -= bytes;
    lu__decay_taken(&decay, unused, used);
}

/* Use bytes that were never used. */
static void grow(size_t bytes) {
    used += bytes;
    lu__decay_taken(&decay, unused, used);
}

static void give_back(size_t bytes) {
    unused -= bytes;
    lu__decay_purged(&decay, bytes);
}

static size_t due(void) {
    return lu__decay_due(&decay, now, DELAY, SIZE_MAX, false);
}

static size_t excess(long delay) {
    return lu__decay_excess(&decay, delay);
}

static void free_for_the_delay_is_due(void **state) {
    (void)state;
    begin(1000);
    grow(100 * LU_MIB);
    release(5 * LU_MIB);
    for (; now < 1000 + DELAY; now += 10) assert_int_equal(due(), 0);
    now += DELAY / 4;
    assert_int_equal(due(), 5 * LU_MIB);
    give_back(2 * LU_MIB); /* what is left is no less due */
    assert_int_equal(due(), 3 * LU_MIB);
    give_back(3 * LU_MIB);
    assert_int_equal(due(), 0);
}

static void use_of_a_part_keeps_no_more_than_the_part(void **state) {
    (void)state;
    begin(1000);
    grow(1100 * LU_MIB);
    release(500 * LU_MIB);
    for (; now < 1000 + 2 * DELAY; now += 10) {
        take(LU_MIB);
        (void)due();
        release(LU_MIB);
    }
    assert_int_equal(due(), 499 * LU_MIB);
}

static void what_is_used_again_and_again_stays(void **state) {
    (void)state;
    begin(1000);
    grow(100 * LU_MIB);
    release(50 * LU_MIB);
    for (int i = 0; i < 100; i++) {
        now += DELAY / 4;
        take(50 * LU_MIB);
        now += DELAY / 4;
        release(50 * LU_MIB);
        assert_int_equal(due(), 0);
        assert_int_equal(lu__decay_due(&decay, now, DELAY, SIZE_MAX, true), 0); /* pressed */
        if (i > 0) assert_int_equal(excess(DELAY), 0);                          /* no flood */
    }
}

static size_t due_above(size_t bytes) {
    return lu__decay_due(&decay, now, DELAY, bytes, false);
}

static void of_much_an_eighth_of_the_delay_is_enough(void **state) {
    (void)state;
    begin(1000);
    grow(100 * LU_MIB);
    release(5 * LU_MIB);
    now += DELAY / 8 + 1;
    assert_int_equal(due_above(2 * LU_MIB), 0);
    now += DELAY / 8 + 1;
    assert_int_equal(due_above(2 * LU_MIB), 3 * LU_MIB);
    assert_int_equal(due_above(5 * LU_MIB), 0);
    assert_int_equal(due(), 0);
}

/* Frees in steps of `step`, purging as it is told; what stays in the end. */
static size_t flood(size_t bytes, size_t step) {
    for (size_t i = 0; i < bytes / step; i++) {
        release(step);
        give_back(LU_MIN(excess(DELAY), unused));
    }
    return unused;
}

static void a_flood_leaves_an_eighth_of_the_peak(void **state) {
    (void)state;
    static const size_t steps[] = {64 * LU_KIB, LU_MIB, 25 * LU_MIB, 400 * LU_MIB};
    for (size_t i = 0; i < LU_COUNT_OF(steps); i++) {
        begin(1000); /* all at the same millisecond */
        grow(400 * LU_MIB);
        size_t left = flood(400 * LU_MIB, steps[i]);
        assert_true(left <= 400 * LU_MIB / 8 + LU_DECAY_KEEP);
        assert_true(left >= 24 * LU_MIB);
    }
}

/* As purge.c does: little at a time, but more than what was freed where it is late. */
static void small_steps_are_enough_for_a_flood(void **state) {
    (void)state;
    static const size_t steps[] = {64 * LU_KIB, LU_MIB, 25 * LU_MIB};
    for (size_t i = 0; i < LU_COUNT_OF(steps); i++) {
        unsigned count = 0; /* of late ones */
        begin(1000);
        grow(400 * LU_MIB);
        for (size_t freed = 0; freed < 400 * LU_MIB; freed += steps[i]) {
            release(steps[i]);
            size_t much = excess(DELAY);
            bool late = lu__decay_is_late(&decay, DELAY, much);
            count += late;
            give_back(LU_MIN(much, LU_DECAY_STEP + (late ? steps[i] : 0)));
        }
        assert_true(unused <= 400 * LU_MIB / 8 + LU_DECAY_KEEP + LU_DECAY_STEP);
        if (steps[i] == 64 * LU_KIB) assert_true(count < 1600);
        if (steps[i] == 25 * LU_MIB) assert_true(count > 4);
    }
}

static void churn_before_a_flood_is_forgotten(void **state) {
    (void)state;
    begin(1000);
    grow(400 * LU_MIB);
    for (int i = 0; i < 100; i++) { /* a third of it comes and goes */
        release(130 * LU_MIB);
        now++;
        take(130 * LU_MIB);
    }
    assert_true(flood(400 * LU_MIB, LU_MIB) <= 400 * LU_MIB / 8 + LU_DECAY_KEEP);
}

static void a_loop_over_one_block_is_no_flood(void **state) {
    (void)state;
    begin(1000);
    grow(25 * LU_MIB);
    release(25 * LU_MIB);
    give_back(excess(DELAY));
    grow(25 * LU_MIB - unused); /* part of it is fetched anew, once */
    take(unused);
    for (unsigned i = 0; i < 10000; i++) {
        release(25 * LU_MIB);
        if (i > 0) assert_int_equal(excess(DELAY), 0);
        now += i % 3;
        take(25 * LU_MIB);
    }
}

/* Frees alone: what is free in the end, when the excess went back at once. */
static size_t left_after_a_fall(size_t bytes) {
    for (size_t freed = 0; freed < bytes; freed += LU_MIB) {
        release(LU_MIB);
        if (excess(DELAY) != 0) give_back(excess(DELAY));
    }
    return unused;
}

/* While the program allocates, too, it may fall somewhat deeper; when it does no more, the bound is
 * that of any flood. */
static void who_allocates_while_he_frees_falls_deeper(void **state) {
    (void)state;
    begin(1000);
    grow(400 * LU_MIB);
    size_t deepest = 0;
    for (; excess(DELAY) == 0; release(10 * LU_MIB), grow(8 * LU_MIB))
        deepest = 400 * LU_MIB - used;
    /* An eighth and a sixteenth, and what it took back at once. */
    assert_in_range(deepest / LU_MIB, 75, 75 + 10);
    for (size_t fall = 10 * LU_MIB; fall <= 400 * LU_MIB; fall += 10 * LU_MIB) {
        begin(1000);
        grow(400 * LU_MIB);
        for (int i = 0; i < 20; i++) {
            release(LU_MIB);
            grow(LU_MIB);
            if (excess(DELAY) != 0) give_back(excess(DELAY));
        }
        give_back(unused);
        assert_in_range(left_after_a_fall(fall), 0, used / 8 + fall / 8 + LU_DECAY_KEEP);
    }
}

static void no_delay_keeps_nothing_and_none_for_ever(void **state) {
    (void)state;
    begin(1000);
    grow(LU_MIB);
    release(64 * LU_KIB);
    assert_int_equal(excess(0), 64 * LU_KIB);
    assert_int_equal(lu__decay_due(&decay, now, 0, SIZE_MAX, false), 64 * LU_KIB);
    for (int day = 0; day < 200; day++) {
        now += DAY;
        assert_int_equal(lu__decay_due(&decay, now, -1, 0, false), 0);
        assert_int_equal(excess(-1), 0);
    }
}

/* At any distance, and across every place where milliseconds in 31 or 32 bits would wrap. */
static void time_does_not_wrap(void **state) {
    (void)state;
    for (uint64_t start = 1; start < 400 * DAY; start += DAY / 3) {
        for (uint64_t silence = 1; silence < 300 * DAY; silence = silence * 7 + 1) {
            begin(start);
            grow(100 * LU_MIB);
            release(5 * LU_MIB);
            now += silence;
            assert_int_equal(due(), silence >= DELAY + DELAY / 8 ? 5 * LU_MIB : 0);
            now += DELAY + DELAY / 8;
            assert_int_equal(due(), 5 * LU_MIB);
        }
    }
    static const uint64_t wraps[] = {(uint64_t)1 << 31, (uint64_t)1 << 32, (uint64_t)3 << 31};
    for (size_t i = 0; i < LU_COUNT_OF(wraps); i++) {
        begin(wraps[i] - DELAY / 2);
        grow(100 * LU_MIB);
        release(5 * LU_MIB);
        for (; now < wraps[i] + DELAY / 2 - 1; now += 10) assert_int_equal(due(), 0);
        now += DELAY / 4;
        assert_int_equal(due(), 5 * LU_MIB);
    }
}

/* A thread that has read the clock may be late: what it says is older than what is known. */
static void a_late_clock_ends_no_epoch(void **state) {
    (void)state;
    begin(1000);
    grow(100 * LU_MIB);
    release(LU_MIB);
    now += DELAY / 4; /* ends an epoch */
    assert_int_equal(due(), 0);
    now -= DELAY / 8 + 1;
    assert_int_equal(due(), 0);
    release(LU_MIB);
    assert_int_equal(due(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_for_the_delay_is_due),
        cmocka_unit_test(use_of_a_part_keeps_no_more_than_the_part),
        cmocka_unit_test(what_is_used_again_and_again_stays),
        cmocka_unit_test(of_much_an_eighth_of_the_delay_is_enough),
        cmocka_unit_test(a_flood_leaves_an_eighth_of_the_peak),
        cmocka_unit_test(small_steps_are_enough_for_a_flood),
        cmocka_unit_test(churn_before_a_flood_is_forgotten),
        cmocka_unit_test(a_loop_over_one_block_is_no_flood),
        cmocka_unit_test(who_allocates_while_he_frees_falls_deeper),
        cmocka_unit_test(no_delay_keeps_nothing_and_none_for_ever),
        cmocka_unit_test(time_does_not_wrap),
        cmocka_unit_test(a_late_clock_ends_no_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
