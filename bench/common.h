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
 * clock runs, a timer signal samples resident memory and now and then the number of mappings; a
 * thread for that would switch off what some allocators do better in a process of one thread.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include "proc.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct bench {
    char name[64];          /* with the mode, if there are any: "batches-lifo"        */
    const char *mode;       /* the one given, or the first; NULL if there are none    */
    double scale;           /* by which amounts of work are multiplied                */
    unsigned threads;       /* asked for, or as many as there are processors, 2 to 16 */
    unsigned threads_asked; /* 0 if none were                               */
    double duration;        /* seconds asked for, 0 if none                 */
    uint64_t count;         /* asked for, 0 if none                         */
    bool list;              /* tell on stderr what was found remarkable     */
    uint64_t seed;
    uint64_t started;
    double seconds;              /* these three are set by bench_stop */
    uint64_t mean_rss, mappings; /* time-weighted; the most seen      */
    char extra[4096];            /* further keys of the report        */
    bool in_points;              /* `extra` ends in the list "points" */
};

/* `modes` is a list of words separated by spaces, of which the program takes one as its argument,
 * or NULL. Bad arguments end the program with a message. */
void bench_init(struct bench *bench, const char *name, const char *modes, int argc, char **argv);
void bench_start(struct bench *bench);
void bench_stop(struct bench *bench);
/* Print the line. Resident memory at this moment is the final one. */
void bench_report(struct bench *bench, uint64_t operations);
/* For a program that measures other processes: their memory instead of its own. */
void bench_report_memory(struct bench *bench, uint64_t operations,
                         const struct proc_memory *memory);
/* Add a key and its value to the report, or an object to its list "points"; the format makes what
 * is between its braces. All points are added before any figure. */
void bench_add_figure(struct bench *bench, const char *key, double value);
void bench_add_point(struct bench *bench, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* `count` times the scale, at least 1. */
uint64_t bench_scaled(const struct bench *bench, uint64_t count);
/* Bytes of this process: now, and the most there were since the start or the last reset. The report
 * has the most of all. */
uint64_t bench_rss(void);
uint64_t bench_peak_rss(void);
void bench_reset_peak_rss(void);

/* For `seconds`, one small block is allocated, held for a millisecond and freed, as in a server at
 * night: an allocator gets calls in which it can give memory back. */
void bench_use_lightly(double seconds, uint64_t *random);
/* Start `count` threads that run `work`. The first gets `arguments`, each further one what comes
 * `argument_bytes` later. */
enum { BENCH_THREADS_MAX = 256 };
struct bench_threads {
    pthread_t at[BENCH_THREADS_MAX];
    unsigned count;
};
void bench_start_threads(struct bench_threads *threads, unsigned count, void *(*work)(void *),
                         void *arguments, size_t argument_bytes);
void bench_join_threads(const struct bench_threads *threads);
/* Both. */
void bench_run_threads(unsigned count, void *(*work)(void *), void *arguments,
                       size_t argument_bytes);
/* Zeroed memory straight from the kernel, for tables of the program that shall not be counted as
 * the allocator's work; resident once touched. It is never given back. */
void *bench_map(size_t bytes);

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
/* So many of 10,000 are above the `most` of the entry before, 0 for the first, and at most its own;
 * the shares of all entries add up to 10,000. Within an entry all sizes are equally frequent. */
struct bench_share {
    uint32_t most, share;
};
void bench_sizes_shares(struct bench_sizes *sizes, uint64_t *random,
                        const struct bench_share *shares, size_t count);
/* All sizes from `least` to `most` are equally frequent. */
void bench_sizes_uniform(struct bench_sizes *sizes, uint64_t *random, uint32_t least,
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

/* malloc, and bench_mark. */
static inline struct bench_block bench_allocate(uint32_t size, uint32_t tag) {
    return bench_mark(malloc(size), size, tag);
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

static inline void bench_check_and_free(const struct bench_block *block) {
    bench_check(block);
    free(block->at);
}

#endif
