/*
 * heap.h - what the tests of classic heaps share: a heap as a line of text, its check, misuse that
 * is noted instead of ending the program.
 */
#ifndef TEST_CLASSIC_HEAP_H
#define TEST_CLASSIC_HEAP_H

#include "classic/classic.h"

/* The misuse that was told since the last look. */
struct misuse {
    unsigned count;
    const char *what;
    const void *block;
};

/* Blocks in address order, "u2 f5 m1": used, free, cached, top, meta, and their size in `unit`s
 * (rounded up). Valid until the next call. */
const char *heap_picture(struct lu__classic *heap, size_t unit);
/* Ends the program with a line if the heap is not sound. */
void heap_check(struct lu__classic *heap);
/* A heap of a policy, its misuse noted in `misuse` if not NULL; ends the program if there is none.
 * `config` may be NULL. */
struct lu__classic *heap_create(const struct lu__policy *policy,
                                const struct lu__classic_config *config, struct misuse *misuse);

/* Numbers that are the same in every run. */
struct random {
    uint64_t state;
};
/* Below `bound`. */
size_t random_below(struct random *random, size_t bound);

/* "program: " and a line on stderr, and status 1. */
void heap_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#endif
