/*
 * common.h - what every benchmark program shares: arguments, clock, random numbers, checked
 * blocks, and the one line of JSON that it prints.
 *
 *     int main(int argc, char **argv) {
 *         struct bench bench;
 *         bench_init(&bench, "name", NULL, argc, argv);
 *         ... prepare what is not measured ...
 *         bench_start(&bench);
 *         ... work ...
 *         bench_stop(&bench);
 *         bench_report(&bench, operations);
 *     }
 *
 * An amount of work is fixed and its time measured, so that two allocators do the same. While the
 * clock runs, a timer signal samples resident memory; a thread for that would switch off what some
 * allocators do better in a process of one thread.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

struct bench {
    char name[64];    /* with the mode, if there are any: "batches-lifo"        */
    const char *mode; /* the one given, or the first; NULL if there are none    */
    double scale;     /* by which amounts of work are multiplied                */
    unsigned threads; /* asked for, or as many as there are processors, 2 to 16 */
    uint64_t seed;
    struct timespec started;
    double seconds;  /* set by bench_stop */
    double mean_rss; /* set by bench_stop */
};

/* `modes` is a list of words separated by spaces, of which the program takes one as its argument,
 * or NULL. Bad arguments end the program with a message. */
void bench_init(struct bench *bench, const char *name, const char *modes, int argc, char **argv);
void bench_start(struct bench *bench);
void bench_stop(struct bench *bench);
/* Print the line. Resident memory at this moment is the final one. */
void bench_report(const struct bench *bench, uint64_t operations);
/* For a program that measures other processes: their memory instead of its own. */
void bench_report_rss(const struct bench *bench, uint64_t operations, uint64_t peak_rss,
                      uint64_t final_rss, uint64_t mean_rss);
/* `count` times the scale, at least 1. */
uint64_t bench_scaled(const struct bench *bench, uint64_t count);
/* Bytes of this process: now, and the most there ever were. */
uint64_t bench_rss(void);
uint64_t bench_peak_rss(void);

/* End the program with a message: the measured memory is not what was written to it. */
_Noreturn void bench_fail(const char *what);

/* ------------------------------------------------------------------ random numbers ----------- */

/* Marsaglia, "Xorshift RNGs", 2003. The state is never 0. */
static inline uint64_t bench_random(uint64_t *state) {
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    *state = x;
    return x;
}
/* From 0 up to, not including, `bound`, which fits 32 bits. */
static inline uint64_t bench_random_below(uint64_t *state, uint64_t bound) {
    return ((bench_random(state) >> 32) * bound) >> 32;
}
/* A state for stream number `stream`. */
static inline uint64_t bench_random_state(const struct bench *bench, uint64_t stream) {
    uint64_t state = (bench->seed + stream * 2 + 1) * 0x9e3779b97f4a7c15u;
    state = state != 0 ? state : 1;
    for (int i = 0; i < 8; i++) bench_random(&state);
    return state;
}

/* A table of sizes to draw from: drawing costs one load, whatever the distribution. */
enum { BENCH_SIZES = 4096 };
struct bench_sizes {
    uint32_t at[BENCH_SIZES];
};
/* How often a size occurs falls with its square: most requests are small, and every doubling holds
 * half as many of them. */
void bench_sizes_inverse_square(struct bench_sizes *sizes, uint64_t *random, uint32_t least,
                                uint32_t most);
/* Every doubling of the size holds as many as the one before. */
void bench_sizes_log_uniform(struct bench_sizes *sizes, uint64_t *random, uint32_t least,
                             uint32_t most);
static inline uint32_t bench_sizes_draw(const struct bench_sizes *sizes, uint64_t *random) {
    return sizes->at[bench_random(random) >> 52];
}

/* ------------------------------------------------------------------ checked blocks ----------- */

/* The compiler must take `pointer` for used, and all memory for changed. */
static inline void bench_escape(const void *pointer) {
    __asm__ volatile("" : : "g"(pointer) : "memory");
}

struct bench_block {
    unsigned char *at;
    uint32_t size;
    uint32_t tag;
};

static inline unsigned char bench_tag_byte(uint32_t tag) {
    return (unsigned char)(tag * 0x9du >> 3);
}

/* Fill in a block that was just allocated with `size` bytes: note it and mark its ends. */
static inline struct bench_block bench_mark(void *at, uint32_t size, uint32_t tag) {
    struct bench_block block = {at, size, tag};
    if (at == NULL) bench_fail("no memory");
    if (size >= sizeof(tag)) memcpy(block.at, &tag, sizeof(tag));
    if (size > 0) block.at[size - 1] = bench_tag_byte(tag);
    bench_escape(at);
    return block;
}

/* Both ends are still what bench_mark wrote. */
static inline void bench_check(const struct bench_block *block) {
    uint32_t found = block->tag;
    bench_escape(block->at);
    if (block->size > sizeof(found)) memcpy(&found, block->at, sizeof(found));
    if (found != block->tag ||
        (block->size > 0 && block->at[block->size - 1] != bench_tag_byte(block->tag)))
        bench_fail("a block was overwritten");
}

#endif
