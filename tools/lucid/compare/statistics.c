/*
 * statistics.c - medians, geometric means, and how far a ratio of times can be trusted.
 *
 * The interval is the bootstrap's (Efron & Tibshirani, "An Introduction to the Bootstrap", 1993,
 * chapter 13): draw as many rounds as there were, with replacement; compute the ratio from what was
 * measured in these; do so many times; the middle 95 % of the results are the interval. Nothing is
 * assumed about how times are distributed, which have a long tail on the slow side.
 *
 *     round        1     2     3     4     5        a resample: rounds 4 1 1 5 2
 *     glibc      1.02  1.00  1.31  1.01  1.00       both programs get the same rounds, because what
 *     lucid      0.81  0.80  1.10  0.80  0.82       disturbed a round disturbed both
 *
 * Over several commands each resample draws rounds for every command and takes the geometric mean
 * of their ratios. With few rounds the interval is too narrow: five rounds have only a few
 * different medians.
 *
 * The random numbers start from a constant, so that a report can be computed again.
 */
#include "compare/statistics.h"

#include "frame/frame.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { RESAMPLES = 2000 };
#define SEED 0x9e3779b97f4a7c15u
#define COVERED 0.95

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of_sorted(const double *values, size_t count) {
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

double statistics_min(const double *values, size_t count) {
    double least = values[0];
    for (size_t i = 1; i < count; i++) least = fmin(least, values[i]);
    return least;
}

double statistics_median(const double *values, size_t count) {
    double *sorted = tool_alloc(count, sizeof(double));
    memcpy(sorted, values, count * sizeof(double));
    qsort(sorted, count, sizeof(double), by_value);
    double median = median_of_sorted(sorted, count);
    free(sorted);
    return median;
}

double statistics_geometric_mean(const double *values, size_t count) {
    double sum = 0;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(values[i] > 0) || isinf(values[i])) continue;
        sum += log(values[i]);
        used++;
    }
    return used != 0 ? exp(sum / (double)used) : NAN;
}

static double divide(double a, double b) {
    return b != 0 ? a / b : NAN;
}

/* ------------------------------------------------------------------ bootstrap ---------------- */

/* Marsaglia, "Xorshift RNGs", 2003. */
static size_t draw_below(uint64_t *state, size_t bound) {
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return (size_t)(((x >> 32) * bound) >> 32);
}

/* The ratio in drawn rounds; `scratch` has room for two values a round. */
static double resampled_ratio(const struct paired *pair, uint64_t *state, double *scratch) {
    double *value = scratch, *base = scratch + pair->count;
    for (size_t i = 0; i < pair->count; i++) {
        size_t round = draw_below(state, pair->count);
        value[i] = pair->value[round];
        base[i] = pair->base[round];
    }
    qsort(value, pair->count, sizeof(double), by_value);
    qsort(base, pair->count, sizeof(double), by_value);
    return divide(median_of_sorted(value, pair->count), median_of_sorted(base, pair->count));
}

struct interval statistics_ratio_interval(const struct paired *pairs, size_t pair_count) {
    size_t most = 0, valid = 0;
    uint64_t state = SEED;
    for (size_t p = 0; p < pair_count; p++) most = pairs[p].count > most ? pairs[p].count : most;
    double *scratch = tool_alloc(2 * most, sizeof(double));
    double *ratios = tool_alloc(pair_count, sizeof(double));
    double *means = tool_alloc(RESAMPLES, sizeof(double));
    for (size_t i = 0; i < RESAMPLES; i++) {
        for (size_t p = 0; p < pair_count; p++)
            ratios[p] = resampled_ratio(&pairs[p], &state, scratch);
        double mean = statistics_geometric_mean(ratios, pair_count);
        if (!isnan(mean)) means[valid++] = mean;
    }
    struct interval interval = {NAN, NAN};
    if (valid > 0) {
        qsort(means, valid, sizeof(double), by_value);
        size_t outside = (size_t)((double)valid * (1 - COVERED) / 2);
        interval = (struct interval){means[outside], means[valid - 1 - outside]};
    }
    free(scratch);
    free(ratios);
    free(means);
    return interval;
}
