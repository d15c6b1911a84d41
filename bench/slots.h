/*
 * slots.h - random replacement, the loop that several programs share.
 *
 *     slots   [block][block][block] ... [block]      each live, each marked
 *                       ^ one at random is checked and freed, and a new one takes its place
 *
 * How a new block is made is a function of the program; as everything here is inlined, it costs no
 * call.
 */
#ifndef BENCH_SLOTS_H
#define BENCH_SLOTS_H

#include "common.h"

struct bench_slots {
    struct bench_block *at;
    uint32_t count;
    const struct bench_sizes *sizes;
};

/* A marked block of `size` bytes; `random` for what it has to choose besides. */
typedef struct bench_block bench_make(uint32_t size, uint32_t tag, uint64_t *random);

static inline struct bench_block bench_make_plain(uint32_t size, uint32_t tag, uint64_t *random) {
    (void)random;
    return bench_allocate(size, tag);
}

static inline __attribute__((always_inline)) void
bench_slots_fill(const struct bench_slots *slots, uint64_t *random, bench_make *make) {
    for (uint32_t i = 0; i < slots->count; i++)
        slots->at[i] = make(bench_sizes_draw(slots->sizes, random), i, random);
}

static inline __attribute__((always_inline)) void
bench_slots_replace(const struct bench_slots *slots, uint64_t *random, uint64_t times,
                    bench_make *make) {
    for (uint64_t i = 0; i < times; i++) {
        struct bench_block *slot = &slots->at[bench_random_below(random, slots->count)];
        uint32_t size = bench_sizes_draw(slots->sizes, random);
        bench_check_and_free(slot);
        *slot = make(size, (uint32_t)i, random);
    }
}

static inline void bench_slots_free(const struct bench_slots *slots) {
    for (uint32_t i = 0; i < slots->count; i++) bench_check_and_free(&slots->at[i]);
}

#endif
