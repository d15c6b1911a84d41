/*
 * closed_runs.h - hardened: freed large blocks that wait, closed, and smaller blocks made of them,
 * which leave much in front that was written to (src/harden/large.c, open_end). Done on
 * purpose, as random sizes hardly come to it.
 */
#ifndef CLOSED_RUNS_H
#define CLOSED_RUNS_H

#include <string.h>

#include "check.h"
#include "lucid/lucid.h"
#include "span/span.h"

/* More than the queue holds, so that some go on to the stock. */
static void leave_closed_runs(void) {
    enum { RUNS = 40, BYTES = 2000000 }; /* the queue holds 64 MiB */
    void *runs[RUNS];
    for (size_t i = 0; i < RUNS; i++) {
        runs[i] = lu_malloc(BYTES);
        if (runs[i] != NULL) memset(runs[i], 1, BYTES);
    }
    for (size_t i = 0; i < RUNS; i++) lu_free(runs[i]);
}

static void use_closed_runs(void) {
    for (int i = 0; i < 4; i++) lu_free(lu_malloc(1200000));
}

/* The heap's spans were hardly used, and there is a limit: they are given back at once. */
static void destroy_at_limit(lu_heap_t *ended) {
    CHECK_EQ(lu_set_limit(lu__span_held() + 1, NULL, NULL), 0);
    lu_heap_destroy(ended);
    CHECK_EQ(lu_set_limit(0, NULL, NULL), 0);
}

#endif
