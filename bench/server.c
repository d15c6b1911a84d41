/*
 * server.c - a server whose worker threads come and go.
 *
 * After Larson and Krishnan, "Memory Allocation for Long-Running Server Applications", ISMM 1998:
 * each thread has some hundred requests in work, replaces one at random over and over, and after a
 * while ends; its successor takes over the blocks that it left, so they are freed by a thread that
 * did not allocate them, and the allocator must not lose what the dead thread's heap holds.
 */
#include "slots.h"

enum { SLOTS = 1000, GENERATIONS = 60, REPLACEMENTS = 300000, LEAST = 8, MOST = 1000 };

struct worker {
    struct bench_block blocks[SLOTS];
    struct bench_slots slots;
    uint64_t random;
    uint64_t replacements;
};

static void *serve(void *arg) {
    struct worker *worker = arg;
    uint64_t random = worker->random;
    bench_slots_replace(&worker->slots, &random, worker->replacements, bench_make_plain);
    worker->random = random;
    return NULL;
}

/* One line of descendants: a thread after the other works on the same slots. */
static void *run_line(void *arg) {
    for (int generation = 0; generation < GENERATIONS; generation++)
        bench_run_threads(1, serve, arg, 0);
    return NULL;
}

int main(int argc, char **argv) {
    static struct bench_sizes sizes;
    struct bench bench;
    bench_init(&bench, "server", NULL, argc, argv);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    struct worker *workers = calloc(bench.threads, sizeof(*workers));
    if (workers == NULL) bench_fail("no memory");
    uint64_t random = bench_random_state(&bench, bench.threads);
    bench_sizes_uniform(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    for (unsigned t = 0; t < bench.threads; t++) {
        struct worker *worker = &workers[t];
        worker->random = bench_random_state(&bench, t);
        worker->replacements = replacements;
        worker->slots = (struct bench_slots){worker->blocks, SLOTS, &sizes};
        bench_slots_fill(&worker->slots, &worker->random, bench_make_plain);
    }
    bench_run_threads(bench.threads, run_line, workers, sizeof(*workers));
    for (unsigned t = 0; t < bench.threads; t++) bench_slots_free(&workers[t].slots);
    bench_stop(&bench);
    free(workers);
    bench_report(&bench, bench.threads * (SLOTS + GENERATIONS * replacements));
    return 0;
}
