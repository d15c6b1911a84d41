/*
 * sampler.c - which allocation is a sample, without a counter in malloc.
 *
 * malloc pops blocks from lists and counts nothing. But what it pops was put there: by a refill, or
 * by a free to the current span. So the allocations of a class are known from what was put on its
 * list, less what the list still has when its span is put aside:
 *
 *     pushed:  carved n | span made current with n free blocks | purged pages taken back
 *              | posted by other threads | freed (known every `given` frees, by span->needed)
 *     undone:  span put aside with n free blocks on its list
 *
 * sampler->left is the distance to the next sample less all that. Distances are geometric, so every
 * allocation is as likely as any other to be the one, whatever the rhythm of the program:
 *
 *   - a refill from fresh memory hands out just the blocks before the sample point, so that the
 *     list is empty exactly there;
 *   - where the sample point is passed otherwise, the heap is armed: heap->fast becomes the empty
 *     heap, so the thread's next calls come to the slow paths, and one of the first 8 allocations
 *     among them is the sample. `given` is random, so that this falls on no fixed place in a loop;
 *     but it falls behind a free, and behind a group of frees often come several allocations.
 *
 * What was pushed beyond the sample point counts for the next distance, so nothing is lost.
 *
 * Where the fast paths are off anyway (hardened heaps), or N is so small that they would be most of
 * the time, every allocation is counted as it comes instead (`every`).
 *
 * All functions are called by the heap's owner, but for lu__sampler_init and lu__sampler_make.
 */
#include "sample/sampler.h"

#include "base/options.h"
#include "base/pieces.h"
#include "os/os.h"

#define EVERY_MOST 64 /* rates up to here count every allocation */
#define SKIP_MOST 8u
#define CALM 256u /* the longest that lu__cadence gives */

static uint64_t mean; /* N; 0: off. These three are set once, before the first heap */
static uint32_t start_burst;
static bool every;                 /* see struct sampler */
static struct lu__pieces samplers; /* memory for more of them; under the pool lock of pool.c */

/* The upper half of a linear congruential generator (Knuth's MMIX). */
LU_INLINE uint32_t random_bits(struct sampler *s) {
    s->random = s->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(s->random >> 32);
}

/* 0 to `below` - 1. */
LU_INLINE uint32_t random_below(struct sampler *s, uint32_t below) {
    return (uint32_t)((uint64_t)random_bits(s) * below >> 32);
}

/* Exponentially distributed with mean 1, in units of 2^-32, by comparisons alone (von Neumann,
 * "Various techniques used in connection with random digits", 1951): the first of a falling run of
 * odd length is the fraction, and the runs of even length before it count whole units. */
static uint64_t exponential(struct sampler *s) {
    for (uint64_t whole = 0;; whole++) {
        uint32_t first = random_bits(s), last = first;
        unsigned length = 1;
        for (uint32_t r; (r = random_bits(s)) < last; last = r) length++;
        if (length % 2 == 1) return whole << 32 | first;
    }
}

/* The distance to the next sample, 1 being the very next allocation: geometric with mean N. */
static int64_t distance(struct sampler *s) {
    if (mean == 1) return 1;
    unsigned __int128 scaled = (unsigned __int128)exponential(s) * (2 * mean - 1); /* N - 1/2 */
    return 1 + (int64_t)(scaled >> 33);
}

void lu__sampler_init(uint64_t mean_distance, uint32_t at_start, bool count_every) {
    mean = mean_distance;
    start_burst = at_start;
    every = count_every || mean <= EVERY_MOST;
}

/* Zeroed memory for one more, or NULL. */
static struct sampler *make_sampler(void) {
    const size_t bytes = lu__align_up(sizeof(struct sampler), LU_CACHE_LINE);
    if (samplers.count == 0) {
        void *memory;
        if (lu__os_map(LU_OS_PAGE, LU_OS_PAGE, &memory) != 0) return NULL;
        lu__pieces_refill(&samplers, memory, LU_OS_PAGE / bytes);
    }
    return lu__pieces_take(&samplers, bytes);
}

void lu__sampler_make(struct heap *heap) {
    static uint64_t count;
    if (mean == 0) return;
    struct sampler *s = make_sampler();
    if (s == NULL) return; /* then this heap is not sampled */
    s->random = lu__os_random() + ++count * 0x9e3779b97f4a7c15u;
    s->every = every;
    s->left = distance(s);
    if (count == 1) s->burst = start_burst;
    if (every) heap->fast = LU_EMPTY_HEAP;
    heap->sampler = s;
}

/* The sample is the next allocation, or with `soon` one of the next few. */
static LU_COLD void arm(struct heap *heap, bool soon) {
    struct sampler *s = heap->sampler;
    if (heap->fast == LU_EMPTY_HEAP) return;
    s->skip = soon ? random_below(s, SKIP_MOST) : 0;
    heap->fast = LU_EMPTY_HEAP;
    if (lu__heap == heap) lu__heap = LU_EMPTY_HEAP;
}

bool lu__sampler_draw(struct heap *heap, size_t size, bool *in_burst) {
    struct sampler *s = heap->sampler;
    if (size > LU_CLASS_BYTES_MAX || size == 0) return false; /* of no list: not counted */
    if (s->every) s->left--;
    *in_burst = s->burst > 0;
    if (*in_burst) {
        s->burst--;
    } else if (s->left > 0) {
        return false;
    }
    if (s->skip > 0) {
        s->skip--;
        return false;
    }
    /* Where lists are counted, a sample is of none, and is not. */
    if (s->left <= 0) s->left += distance(s) - !s->every;
    if (!s->every) {
        heap->fast = heap;
        if (s->left <= 0) arm(heap, true);
    }
    return true;
}

bool lu__sampler_coin(struct heap *heap) {
    return random_bits(heap->sampler) % 2 == 0;
}

/* ---------------------------------------------------------------- what the heap tells */

static void counted(struct heap *heap, int32_t blocks) {
    struct sampler *s = heap->sampler;
    if (s->every) return;
    s->left -= blocks;
    if (LU_UNLIKELY(s->left <= 0)) arm(heap, true);
}

static void ended(struct heap *heap, const struct span *span, uint32_t listed) {
    struct sampler *s = heap->sampler;
    if (s->every) return;
    uint32_t freed = s->given[span->class_id] - span->needed; /* since it was last looked at */
    s->left += (int64_t)listed - (int32_t)freed;
}

static uint32_t carved(struct heap *heap, uint32_t blocks) {
    struct sampler *s = heap->sampler;
    if (s->every) return blocks;
    if (s->left <= 0) {
        /* The list became empty at the sample point, and is filled before it is asked for. */
        arm(heap, false);
    } else if ((int64_t)blocks > s->left) {
        blocks = (uint32_t)s->left;
    }
    s->left -= blocks;
    return blocks;
}

static void renewed(struct heap *heap, struct span *span) {
    struct sampler *s = heap->sampler;
    if (s->every) return;
    uint32_t *given = &s->given[span->class_id], freed = *given;
    /* On average what it is; more while there is nothing to give back, and no need to know soon. */
    uint32_t average = span->needed < CALM ? span->needed : 4 * span->needed;
    *given = 1 + random_below(s, 2 * average - 1);
    span->needed = *given;
    s->left -= freed;
    if (LU_UNLIKELY(s->left <= 0)) arm(heap, true);
}

static void begun(struct heap *heap, struct span *span, uint32_t out) {
    heap->sampler->given[span->class_id] = 0;
    counted(heap, (int32_t)(lu__span_carved(span) - span->unlisted - out));
    renewed(heap, span);
}

const struct lu__sampler_ops lu__sampler_ops = {
    .begun = begun, .ended = ended, .counted = counted, .carved = carved, .renewed = renewed};
