/*
 * bins.c - free runs by size: segregated best fit; and dirty ones by age.
 *
 * Runs of 1 to 8 slices have a bin each; above, there are eight bins per doubling. Dirty runs,
 * clean ones and holes have bins of their own, each a doubly linked list through span->next and
 * prev (last in, first out: the most recently used memory is the likeliest to be cached), with a
 * bitmap of the bins that are not empty.
 *
 *     words[dirty]  0101000100..            words[clean]  0000000100..
 *                    | |    +-> run -> run
 *
 * A search looks for the best fit among the first few runs of the bin that the size falls in, where
 * runs may be too small, then takes the first run of the next bin, where all fit. Dirty runs come
 * first, because they cost no page fault; holes come last, because they have to be mapped. Where
 * memory is so short that nothing else is left, the search looks at all runs of the bins where some
 * may be too small (lu__bins_search), a few at a time; runs without room go to the end of their
 * bin.
 *
 * Dirty runs are also in a queue through span->all_next and all_prev, the oldest in front, from
 * which purge.c takes them. No operation takes longer with more runs. Everything is under
 * lu__span_lock.
 */
#include "span/run_parts.h"

#define BINS 192
#define WORDS (BINS / 64)
#define LOOK 16    /* runs that a search examines in one bin */
#define LOOK_ON 64 /* ... in one step of a full search     */

struct bins {
    struct span *first[BINS], *last[BINS];
    size_t count[BINS];
    uint64_t words[WORDS];
};
static struct bins bins_of[LU_FREES];  /* [zero] */
static size_t holes;                   /* in their bins */
static struct span *oldest, *youngest; /* dirty */

/* Bin that a run of `slices` lies in. */
static unsigned bin_of(size_t slices) {
    if (slices <= 8) return (unsigned)slices - 1;
    unsigned log = lu__log2(slices);
    unsigned bin = (log - 3) * 8 + (unsigned)((slices >> (log - 3)) & 7) + 7;
    return LU_MIN(bin, BINS - 1u);
}

/* ---------------------------------------------------------------- the queue of dirty runs */

static void queue_put(struct span *run, bool in_front) {
    struct span **end = in_front ? &oldest : &youngest, *beside = *end;
    run->all_next = in_front ? beside : NULL;
    run->all_prev = in_front ? NULL : beside;
    if (beside == NULL) {
        oldest = youngest = run;
        return;
    }
    if (in_front) {
        beside->all_prev = run;
    } else {
        beside->all_next = run;
    }
    *end = run;
}

static void queue_remove(struct span *run) {
    if (run->all_next != NULL) {
        run->all_next->all_prev = run->all_prev;
    } else {
        youngest = run->all_prev;
    }
    if (run->all_prev != NULL) {
        run->all_prev->all_next = run->all_next;
    } else {
        oldest = run->all_next;
    }
}

struct span *lu__bins_oldest(void) {
    return oldest;
}

/* ---------------------------------------------------------------- bins */

static void list_put(struct bins *bins, unsigned bin, struct span *run, bool in_front) {
    struct span *beside = in_front ? bins->first[bin] : bins->last[bin];
    run->next = in_front ? beside : NULL;
    run->prev = in_front ? NULL : beside;
    if (beside == NULL) {
        bins->first[bin] = bins->last[bin] = run;
    } else if (in_front) {
        bins->first[bin] = beside->prev = run;
    } else {
        bins->last[bin] = beside->next = run;
    }
}

static void list_remove(struct bins *bins, unsigned bin, struct span *run) {
    if (run->next != NULL) {
        run->next->prev = run->prev;
    } else {
        bins->last[bin] = run->prev;
    }
    if (run->prev != NULL) {
        run->prev->next = run->next;
    } else {
        LU_ASSERT(bins->first[bin] == run);
        bins->first[bin] = run->next;
    }
}

void lu__bins_insert(struct span *run, bool as_oldest) {
    struct bins *bins = &bins_of[run->zero];
    unsigned bin = bin_of(run->slices);
    list_put(bins, bin, run, true);
    bins->count[bin]++;
    bins->words[bin / 64] |= (uint64_t)1 << (bin % 64);
    if (run->zero == LU_FREE_DIRTY) queue_put(run, as_oldest);
    if (run->zero == LU_FREE_HOLE) holes++;
}

void lu__bins_remove(struct span *run) {
    struct bins *bins = &bins_of[run->zero];
    unsigned bin = bin_of(run->slices);
    list_remove(bins, bin, run);
    run->next = run->prev = NULL;
    bins->count[bin]--;
    if (bins->first[bin] == NULL) bins->words[bin / 64] &= ~((uint64_t)1 << (bin % 64));
    if (run->zero == LU_FREE_DIRTY) queue_remove(run);
    if (run->zero == LU_FREE_HOLE) holes--;
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

size_t lu__bins_holes(void) {
    return holes;
}

struct span *lu__bins_large_clean(void) {
    const struct bins *bins = &bins_of[LU_FREE_CLEAN];
    for (unsigned word = WORDS; word-- > 0;) {
        if (bins->words[word] == 0) continue;
        return bins->first[word * 64 + 63u - (unsigned)__builtin_clzl(bins->words[word])];
    }
    return NULL;
}

struct span *lu__bins_next_dirty(const struct span *before) {
    if (before != NULL && before->next != NULL) return before->next;
    const struct bins *bins = &bins_of[LU_FREE_DIRTY];
    for (unsigned bin = before != NULL ? bin_of(before->slices) : BINS; bin-- > 0;) {
        if (bins->first[bin] != NULL) return bins->first[bin];
    }
    return NULL;
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
            LU_STEP();
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
    struct span *run = NULL;
    for (unsigned what = LU_FREE_DIRTY; run == NULL && what < LU_FREES; what++) {
        run = find_in(&bins_of[what], slices, align_slices);
    }
    return run;
}

/* The last bin in which a run may be too small. */
static unsigned last_unsure(const struct lu__bins_search *search) {
    return bin_of(search->slices + search->align_slices - 1);
}

/* Go on to the next bin to be searched; false if there is none. */
static bool search_next(struct lu__bins_search *search) {
    unsigned from = search->bin == 0 ? bin_of(search->slices) : search->bin;
    unsigned bin = next_bin(&bins_of[search->what], from);
    if (bin <= last_unsure(search)) {
        search->left = bins_of[search->what].count[bin];
        search->bin = bin + 1;
        return true;
    }
    if (++search->what == LU_FREES) return false;
    search->bin = 0;
    return search_next(search);
}

struct span *lu__bins_search(struct lu__bins_search *search) {
    if (search->left == 0 && !search_next(search)) {
        search->done = true;
        return NULL;
    }
    struct bins *bins = &bins_of[search->what];
    unsigned bin = search->bin - 1;
    for (unsigned looked = 0; looked < LOOK_ON && search->left != 0; looked++, search->left--) {
        struct span *run = bins->first[bin];
        if (run == NULL) break;
        LU_STEP();
        if (run_fits(run, search->slices, search->align_slices)) return run;
        list_remove(bins, bin, run);
        list_put(bins, bin, run, false);
    }
    if (bins->first[bin] == NULL) search->left = 0;
    return NULL;
}

void lu__bins_clear(void) {
    __builtin_memset(bins_of, 0, sizeof bins_of);
    oldest = youngest = NULL;
    holes = 0;
}
