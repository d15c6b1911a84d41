/*
 * bins.c - free runs by size: segregated best fit.
 *
 * Runs of 1 to 8 slices have a bin each; above, there are eight bins per doubling. Dirty and clean
 * runs have bins of their own, each a doubly linked list through span->next and prev (last in,
 * first out: the most recently used memory is the likeliest to be cached), with a bitmap of the
 * bins that are not empty.
 *
 *     words[dirty]  0101000100..            words[clean]  0000000100..
 *                    | |    +-> run -> run
 *
 * A search looks for the best fit among the first few runs of the bin that the size falls in, where
 * runs may be too small, then takes the first run of the next bin, where all fit. Dirty runs come
 * first: they cost no page fault. Everything here is under lu__span_lock.
 */
#include "span/span.h"

#define BINS 192
#define WORDS (BINS / 64)
#define LOOK 16 /* runs that a search examines in one bin */

struct bins {
    struct span *first[BINS];
    uint64_t words[WORDS];
};
static struct bins bins_of[2]; /* [zero] */

/* Bin that a run of `slices` lies in. */
static unsigned bin_of(size_t slices) {
    if (slices <= 8) return (unsigned)slices - 1;
    unsigned log = lu__log2(slices);
    unsigned bin = (log - 3) * 8 + (unsigned)((slices >> (log - 3)) & 7) + 7;
    return LU_MIN(bin, BINS - 1u);
}

void lu__bins_insert(struct span *run) {
    struct bins *bins = &bins_of[run->zero];
    unsigned bin = bin_of(run->slices);
    run->prev = NULL;
    run->next = bins->first[bin];
    if (run->next != NULL) run->next->prev = run;
    bins->first[bin] = run;
    bins->words[bin / 64] |= (uint64_t)1 << (bin % 64);
}

void lu__bins_remove(struct span *run) {
    struct bins *bins = &bins_of[run->zero];
    unsigned bin = bin_of(run->slices);
    if (run->next != NULL) run->next->prev = run->prev;
    if (run->prev != NULL) {
        run->prev->next = run->next;
    } else {
        LU_ASSERT(bins->first[bin] == run);
        bins->first[bin] = run->next;
        if (run->next == NULL) bins->words[bin / 64] &= ~((uint64_t)1 << (bin % 64));
    }
    run->next = run->prev = NULL;
}

/* First bin >= `bin` that is not empty; BINS if there is none. */
static unsigned next_bin(const struct bins *bins, unsigned bin) {
    for (unsigned word = bin / 64; word < WORDS; word++) {
        uint64_t bits = bins->words[word];
        if (word == bin / 64) bits &= ~(uint64_t)0 << (bin % 64);
        if (bits != 0) return word * 64 + (unsigned)__builtin_ctzl(bits);
    }
    return BINS;
}

static bool run_fits(const struct span *run, size_t slices, size_t align_slices) {
    if (run->slices < slices) return false;
    if (align_slices == 1) return true;
    size_t start = (uintptr_t)lu__span_start(run) >> LU_SLICE_SHIFT;
    return lu__align_up(start, align_slices) - start + slices <= run->slices;
}

static struct span *find_in(const struct bins *bins, size_t slices, size_t align_slices) {
    for (unsigned bin = next_bin(bins, bin_of(slices)); bin < BINS; bin = next_bin(bins, bin + 1)) {
        struct span *best = NULL;
        unsigned looked = 0;
        for (struct span *run = bins->first[bin]; run != NULL && looked < LOOK; run = run->next) {
            looked++;
            if (run_fits(run, slices, align_slices) &&
                (best == NULL || run->slices < best->slices)) {
                best = run;
            }
        }
        if (best != NULL) return best;
    }
    return NULL;
}

struct span *lu__bins_find(size_t slices, size_t align_slices) {
    struct span *run = find_in(&bins_of[false], slices, align_slices);
    return run != NULL ? run : find_in(&bins_of[true], slices, align_slices);
}

struct span *lu__bins_find_dirty(uint32_t before_ms) {
    const struct bins *bins = &bins_of[false];
    for (unsigned bin = next_bin(bins, 0); bin < BINS; bin = next_bin(bins, bin + 1)) {
        for (struct span *run = bins->first[bin]; run != NULL; run = run->next) {
            if ((int32_t)(before_ms - run->stamp) > 0) return run;
        }
    }
    return NULL;
}

void lu__bins_clear(void) {
    __builtin_memset(bins_of, 0, sizeof bins_of);
}
