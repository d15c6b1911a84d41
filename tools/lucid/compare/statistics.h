/* statistics.h - what `lucid compare` computes from repeated measurements. */
#ifndef LUCID_STATISTICS_H
#define LUCID_STATISTICS_H

#include <stddef.h>

struct interval {
    double low, high; /* not numbers: there is none */
};

/* One value a round, of two programs that ran in the same rounds; `count` of each, at least 1. */
struct paired {
    const double *value;
    const double *base;
    size_t count;
};

double statistics_min(const double *values, size_t count);
double statistics_median(const double *values, size_t count);
/* Of the positive numbers among the values; not a number if there are none. */
double statistics_geometric_mean(const double *values, size_t count);

/* The ratio of a pair is the median of its values by that of its bases. Between what bounds the
 * geometric mean of all ratios lies in 95 of 100 repetitions of the measurements. The same input
 * always gives the same interval. */
struct interval statistics_ratio_interval(const struct paired *pairs, size_t pair_count);

#endif
