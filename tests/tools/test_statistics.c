/*
 * test_statistics.c - the figures of `lucid compare` for numbers whose figures are known.
 */
#include "compare/statistics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

static void assert_close(double value, double expected) {
    assert_true(fabs(value - expected) < 1e-9);
}

static void test_median_and_min(void **state) {
    const double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2}, one[] = {7};
    (void)state;
    assert_close(statistics_median(odd, 3), 2);
    assert_close(statistics_median(even, 4), 2.5);
    assert_close(statistics_median(one, 1), 7);
    assert_close(statistics_min(even, 4), 1);
    assert_close(odd[0], 3); /* the order is the caller's */
}

static void test_geometric_mean(void **state) {
    const double values[] = {0.5, 2, 8}, holes[] = {NAN, 4, 0, -1, INFINITY, 1}, none[] = {0, NAN};
    (void)state;
    assert_close(statistics_geometric_mean(values, 3), 2);
    assert_close(statistics_geometric_mean(holes, COUNT_OF(holes)), 2);
    assert_true(isnan(statistics_geometric_mean(none, 2)));
    assert_true(isnan(statistics_geometric_mean(none, 0)));
}

static void test_interval_of_equal_rounds_is_a_point(void **state) {
    const double value[] = {3, 3, 3, 3}, base[] = {2, 2, 2, 2};
    const struct paired pair = {value, base, 4};
    (void)state;
    struct interval interval = statistics_ratio_interval(&pair, 1);
    assert_close(interval.low, 1.5);
    assert_close(interval.high, 1.5);
}

/* What slows a whole round does not widen the interval. */
static void test_rounds_are_drawn_as_pairs(void **state) {
    const double value[] = {2, 20, 200, 2000, 4}, base[] = {1, 10, 100, 1000, 2};
    const struct paired pair = {value, base, COUNT_OF(value)};
    (void)state;
    struct interval interval = statistics_ratio_interval(&pair, 1);
    assert_close(interval.low, 2);
    assert_close(interval.high, 2);
}

/* The median of n normal numbers has a standard error of 1.2533 s / sqrt(n), and the ratio to a
 * constant the same: the interval is about 1.96 of these to either side. */
static void test_interval_is_as_wide_as_theory_says(void **state) {
    enum { N = 400 };
    double value[N], base[N], spread = 0.1;
    uint64_t random = 88172645463325252u;
    (void)state;
    for (int i = 0; i < N; i++) {
        double sum = 0; /* twelve uniform numbers: nearly normal, standard deviation 1 */
        for (int k = 0; k < 12; k++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            sum += (double)(random >> 11) / 9007199254740992.0;
        }
        value[i] = 1 + spread * (sum - 6);
        base[i] = 1;
    }
    const struct paired pair = {value, base, N};
    struct interval interval = statistics_ratio_interval(&pair, 1);
    double half = 1.96 * 1.2533 * spread / sqrt(N), median = statistics_median(value, N);
    assert_true(interval.low < median && median < interval.high);
    assert_true((interval.high - interval.low) / 2 > 0.6 * half);
    assert_true((interval.high - interval.low) / 2 < 1.6 * half);
}

static void test_interval_over_commands_is_of_the_mean(void **state) {
    const double twice[] = {2, 2, 2}, half[] = {1, 1, 1}, base[] = {1, 1, 1}, two[] = {2, 2, 2};
    const struct paired pairs[] = {{twice, base, 3}, {half, two, 3}, {twice, base, 3}};
    (void)state;
    struct interval interval = statistics_ratio_interval(pairs, COUNT_OF(pairs));
    assert_close(interval.low, cbrt(2));
    assert_close(interval.high, cbrt(2));
}

static void test_no_interval_against_nothing(void **state) {
    const double value[] = {1, 2}, base[] = {0, 0};
    const struct paired pair = {value, base, 2};
    (void)state;
    assert_true(isnan(statistics_ratio_interval(&pair, 1).low));
    assert_true(isnan(statistics_ratio_interval(&pair, 1).high));
}

static void test_interval_repeats(void **state) {
    const double value[] = {1, 5, 2, 9, 3}, base[] = {2, 1, 2, 3, 1};
    const struct paired pair = {value, base, 5};
    (void)state;
    struct interval a = statistics_ratio_interval(&pair, 1),
                    b = statistics_ratio_interval(&pair, 1);
    assert_true(a.low == b.low && a.high == b.high && a.low < a.high);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median_and_min),
        cmocka_unit_test(test_geometric_mean),
        cmocka_unit_test(test_interval_of_equal_rounds_is_a_point),
        cmocka_unit_test(test_rounds_are_drawn_as_pairs),
        cmocka_unit_test(test_interval_is_as_wide_as_theory_says),
        cmocka_unit_test(test_interval_over_commands_is_of_the_mean),
        cmocka_unit_test(test_no_interval_against_nothing),
        cmocka_unit_test(test_interval_repeats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
