/*
 * histogram.h - how often which number occurred, to 3 %, for numbers up to 2^40.
 *
 *     bucket   0 .. 31   32 .. 63     64 .. 95      96 .. 127
 *     number   0 .. 31   32 .. 63   64 .. 127: 2   128 .. 255: 4     and so on, 32 per doubling
 *
 * Log-linear, as G. Tene's HdrHistogram. Adding is a few instructions and one increment, and
 * allocates nothing.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

enum {
    HISTOGRAM_SHIFT = 5,
    HISTOGRAM_STEPS = 1 << HISTOGRAM_SHIFT,
    HISTOGRAM_BITS = 40,
    HISTOGRAM_BUCKETS = (HISTOGRAM_BITS - HISTOGRAM_SHIFT + 1) * HISTOGRAM_STEPS,
};

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t number) {
    if (number < HISTOGRAM_STEPS) return (unsigned)number;
    if (number >> HISTOGRAM_BITS != 0) return HISTOGRAM_BUCKETS - 1;
    unsigned shift = 63 - (unsigned)__builtin_clzl(number) - HISTOGRAM_SHIFT;
    return shift * HISTOGRAM_STEPS + (unsigned)(number >> shift);
}

static inline void histogram_add(struct histogram *histogram, uint64_t number) {
    histogram->counts[histogram_bucket(number)]++;
}

/* The middle of a bucket. */
static inline double histogram_value(unsigned bucket) {
    if (bucket < 2 * HISTOGRAM_STEPS) return bucket;
    unsigned shift = bucket / HISTOGRAM_STEPS - 1;
    uint64_t first = (uint64_t)(bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS) << shift;
    return (double)first + (double)((uint64_t)1 << shift) / 2;
}

static inline void histogram_merge(struct histogram *into, const struct histogram *from) {
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) into->counts[i] += from->counts[i];
}

static inline uint64_t histogram_count(const struct histogram *histogram) {
    uint64_t count = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) count += histogram->counts[i];
    return count;
}

/* The number that `share` (below 1) of all are not above; 0 of none. */
static inline double histogram_percentile(const struct histogram *histogram, double share) {
    double wanted = share * (double)histogram_count(histogram), passed = 0;
    unsigned last = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        passed += (double)histogram->counts[i];
        if (histogram->counts[i] != 0) last = i;
        if (passed > 0 && passed >= wanted) return histogram_value(i);
    }
    return histogram_value(last);
}

#endif
