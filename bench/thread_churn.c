/*
 * thread_churn.c - thousands of short threads.
 *
 * Groups of threads are started and joined; each allocates some blocks, frees every other one and
 * leaves the rest to the main thread. What counts is the price of a thread's first allocation and
 * of its end, and that memory does not grow with the number of threads that ever were.
 */
#include "common.h"

enum { GROUPS = 4000, BLOCKS = 120, LEAST = 16, MOST = 1024 };

struct worker {
    struct bench_block blocks[BLOCKS];
    uint64_t random;
};

static void *work(void *arg) {
    struct worker *worker = arg;
    for (uint32_t i = 0; i < BLOCKS; i++) {
        uint32_t size = LEAST + (uint32_t)bench_random_below(&worker->random, MOST - LEAST + 1);
        worker->blocks[i] = bench_allocate(size, i);
    }
    for (uint32_t i = 0; i < BLOCKS; i += 2) bench_check_and_free(&worker->blocks[i]);
    return NULL;
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "thread_churn", NULL, argc, argv);
    uint64_t groups = bench_scaled(&bench, GROUPS);
    struct worker *workers = calloc(bench.threads, sizeof(*workers));
    if (workers == NULL) bench_fail("no memory");
    for (unsigned t = 0; t < bench.threads; t++) workers[t].random = bench_random_state(&bench, t);

    bench_start(&bench);
    for (uint64_t group = 0; group < groups; group++) {
        bench_run_threads(bench.threads, work, workers, sizeof(*workers));
        for (unsigned t = 0; t < bench.threads; t++)
            for (uint32_t i = 1; i < BLOCKS; i += 2) bench_check_and_free(&workers[t].blocks[i]);
    }
    bench_stop(&bench);
    free(workers);
    bench_report(&bench, groups * bench.threads);
    return 0;
}
