/*
 * server.c - a server whose worker threads come and go.
 *
 * After Larson and Krishnan, "Memory Allocation for Long-Running Server Applications", ISMM 1998:
 * each thread has some hundred requests in work, replaces one at random over and over, and after a
 * while ends; its successor takes over the blocks that it left, so they are freed by a thread that
 * did not allocate them, and the allocator must not lose what the dead thread's heap holds.
 */
#include "common.h"

#include <pthread.h>
#include <stdlib.h>

enum { SLOTS = 1000, GENERATIONS = 60, REPLACEMENTS = 100000, LEAST = 8, MOST = 1000 };

struct worker {
    struct bench_block slots[SLOTS];
    uint64_t random;
    uint64_t replacements;
};

static void *serve(void *arg) {
    struct worker *worker = arg;
    uint64_t random = worker->random;
    for (uint64_t i = 0; i < worker->replacements; i++) {
        struct bench_block *slot = &worker->slots[bench_random_below(&random, SLOTS)];
        uint32_t size = LEAST + (uint32_t)bench_random_below(&random, MOST - LEAST + 1);
        bench_check(slot);
        free(slot->at);
        *slot = bench_mark(malloc(size), size, (uint32_t)i);
    }
    worker->random = random;
    return NULL;
}

/* One line of descendants: a thread after the other works on the same slots. */
static void *run_line(void *arg) {
    for (int generation = 0; generation < GENERATIONS; generation++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, arg) != 0) bench_fail("no thread");
        pthread_join(thread, NULL);
    }
    return NULL;
}

static void fill(struct worker *worker) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t size = LEAST + (uint32_t)bench_random_below(&worker->random, MOST - LEAST + 1);
        worker->slots[i] = bench_mark(malloc(size), size, i);
    }
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "server", NULL, argc, argv);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    struct worker *workers = calloc(bench.threads, sizeof(*workers));
    pthread_t *lines = calloc(bench.threads, sizeof(*lines));
    if (workers == NULL || lines == NULL) bench_fail("no memory");

    bench_start(&bench);
    for (unsigned t = 0; t < bench.threads; t++) {
        workers[t].random = bench_random_state(&bench, t);
        workers[t].replacements = replacements;
        fill(&workers[t]);
        if (pthread_create(&lines[t], NULL, run_line, &workers[t]) != 0) bench_fail("no thread");
    }
    for (unsigned t = 0; t < bench.threads; t++) {
        pthread_join(lines[t], NULL);
        for (uint32_t i = 0; i < SLOTS; i++) {
            bench_check(&workers[t].slots[i]);
            free(workers[t].slots[i].at);
        }
    }
    bench_stop(&bench);
    free(workers);
    free(lines);
    bench_report(&bench, bench.threads * (SLOTS + GENERATIONS * replacements));
    return 0;
}
