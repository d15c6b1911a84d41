/*
 * walks_limit.c - the row of bench_walks about a heap that has nearly reached its limit.
 *
 * 1,125 MiB are held, and half of each span is free. So there is room for what is asked for: a
 * random block is freed, and one of the same size allocated. The limit is set so that what is held
 * is `count` thousandths of it; with 1, it is far away. The rate is that of pairs, by processor
 * time and without a look at single calls; for their longest the same is done again, each call
 * timed.
 */
#include "timed.h"
#include "walks.h"

#include <lucid/lucid.h>

enum {
    HELD_MIB = 1125,
    BLOCK = 512,
    PER_ROUND = 1000, /* pairs between looks at the clock */
    BATCH = 128,      /* pairs in a window                */
};
#define SECONDS_EACH 0.5

struct pairs {
    void **blocks;
    uint64_t count, random;
};

static void set_limit(uint64_t thousandths) {
    void (*get)(lu_stats_t *) = (void (*)(lu_stats_t *))walk_find("lu_stats_get");
    int (*set)(size_t, lu_limit_fn *,
               void *) = (int (*)(size_t, lu_limit_fn *, void *))walk_find("lu_set_limit");
    static lu_stats_t stats;
    if (get == NULL || set == NULL) bench_fail("this allocator has no limit");
    get(&stats);
    if (set(stats.peak_held_bytes / thousandths * 1000, NULL, NULL) != 0) bench_fail("no limit");
}

static void half_fill(struct pairs *pairs) {
    pairs->count = ((uint64_t)HELD_MIB << 20) / BLOCK;
    pairs->blocks = walk_table(pairs->count);
    for (uint64_t i = 0; i < pairs->count; i++) pairs->blocks[i] = walk_malloc(BLOCK, true);
    for (uint64_t i = 0; i < pairs->count; i += 2) free(pairs->blocks[i]);
    pairs->count /= 2;
    for (uint64_t i = 0; i < pairs->count; i++) pairs->blocks[i] = pairs->blocks[2 * i + 1];
}

static void **pick(struct pairs *pairs) {
    return &pairs->blocks[bench_random_below(&pairs->random, pairs->count)];
}

static uint64_t rate_of(struct pairs *pairs) {
    uint64_t began = walk_cpu(), end = began + (uint64_t)(SECONDS_EACH * 1e9), now, done = 0;
    for (; (now = walk_cpu()) < end; done += PER_ROUND)
        for (int i = 0; i < PER_ROUND; i++) {
            void **at = pick(pairs);
            free(*at);
            *at = walk_malloc(BLOCK, true);
        }
    return (uint64_t)((double)done * 1e9 / (double)(now - began));
}

static void time_calls(struct walk *walk, struct pairs *pairs) {
    struct timed *timed = bench_map(sizeof(*timed));
    timed_init(timed, &walk->clock, false);
    for (uint64_t end = walk_cpu() + (uint64_t)(SECONDS_EACH * 1e9); walk_cpu() < end;) {
        for (int i = 0; i < BATCH; i++) {
            void **at = pick(pairs);
            timed_free(timed, *at, BLOCK);
            *at = timed_malloc(timed, BLOCK);
            if (*at == NULL) bench_fail("no memory");
        }
        timed_window(timed);
        walk->calls += 2 * BATCH;
    }
    for (size_t call = 0; call < TIMED_BETWEEN; call++)
        if (timed->records[call].worst_charged > walk->longest)
            walk->longest = timed->records[call].worst_charged;
}

void walk_limit(struct walk *walk) {
    struct pairs pairs = {.random = 1};
    half_fill(&pairs);
    set_limit(walk->count);
    walk->rate = rate_of(&pairs);
    time_calls(walk, &pairs);
    walk->sum = walk->rate != 0 ? walk->calls * 500000000 / walk->rate : 0; /* two to a pair */
}
