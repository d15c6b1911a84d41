/*
 * sizes.c - fills the tables from which the benchmark programs draw sizes.
 *
 * A table has BENCH_SIZES entries, each drawn equally often. Where the share of each size is given,
 * not left to chance, the entries are the quantiles of the distribution, so that the few large
 * sizes are as many as they should be, and the seed changes only where within its share a size
 * lies.
 */
#include "common.h"

#include <math.h>

enum { SHARE_ALL = 10000 };

static double random_fraction(uint64_t *random) {
    return (double)(bench_random(random) >> 11) / 9007199254740992.0;
}

static uint32_t clamp(double size, uint32_t least, uint32_t most) {
    return size < least ? least : size > most ? most : (uint32_t)size;
}

void bench_sizes_inverse_square(struct bench_sizes *sizes, uint64_t *random, uint32_t least,
                                uint32_t most) {
    /* The inverse of the distribution function of c / x^2 on [least, most + 1). */
    double low = 1.0 / least, high = 1.0 / ((double)most + 1);
    for (size_t i = 0; i < BENCH_SIZES; i++)
        sizes->at[i] = clamp(1.0 / (low - random_fraction(random) * (low - high)), least, most);
}

void bench_sizes_log_uniform(struct bench_sizes *sizes, uint64_t *random, uint32_t least,
                             uint32_t most) {
    double low = log(least), high = log((double)most + 1);
    for (size_t i = 0; i < BENCH_SIZES; i++)
        sizes->at[i] = clamp(exp(low + random_fraction(random) * (high - low)), least, most);
}

void bench_sizes_uniform(struct bench_sizes *sizes, uint64_t *random, uint32_t least,
                         uint32_t most) {
    for (size_t i = 0; i < BENCH_SIZES; i++)
        sizes->at[i] = least + (uint32_t)bench_random_below(random, (uint64_t)most - least + 1);
}

void bench_sizes_shares(struct bench_sizes *sizes, uint64_t *random,
                        const struct bench_share *shares, size_t count) {
    uint64_t passed = 0; /* shares of the entries before `share` */
    size_t share = 0;
    for (size_t i = 0; i < BENCH_SIZES; i++) {
        double quantile = ((double)i + 0.5) * SHARE_ALL / BENCH_SIZES;
        while (share < count && quantile >= (double)(passed + shares[share].share))
            passed += shares[share++].share;
        if (share == count) bench_fail("the shares do not add up to 10,000");
        uint32_t below = share > 0 ? shares[share - 1].most : 0;
        sizes->at[i] = below + 1 + (uint32_t)bench_random_below(random, shares[share].most - below);
    }
}
