/*
 * false_sharing.c - blocks of two threads in one cache line.
 *
 * After Berger et al., "Hoard", ASPLOS 2000. Each thread allocates a small block, writes to it
 * many times and frees it. If the allocator gives parts of one cache line to two threads, every
 * write waits for the line.
 *
 *     active    the threads allocate all blocks themselves
 *     passive   each begins by freeing a block that the main thread allocated next to the others'
 *               blocks; an allocator that reuses it for the same thread shares lines from then on
 */
#include "common.h"

enum { BLOCKS = 400000, WRITES = 1500, SIZE = 8 };

struct worker {
    void *first; /* passive: to be freed before the rest */
    uint64_t blocks;
};

static void write_often(unsigned char *block) {
    volatile unsigned char *bytes = block;
    for (unsigned i = 0; i < WRITES; i++) bytes[i % SIZE] = (unsigned char)(bytes[i % SIZE] + 1);
    /* Byte 0 was increased once per SIZE writes, rounded up, from 0. */
    if (bytes[0] != (unsigned char)((WRITES + SIZE - 1) / SIZE))
        bench_fail("a block was overwritten");
}

static void *work(void *arg) {
    struct worker *worker = arg;
    free(worker->first);
    for (uint64_t i = 0; i < worker->blocks; i++) {
        unsigned char *block = malloc(SIZE);
        if (block == NULL) bench_fail("no memory");
        memset(block, 0, SIZE);
        write_often(block);
        bench_escape(block);
        free(block);
    }
    return NULL;
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "false_sharing", "active passive", argc, argv);
    bool passive = strcmp(bench.mode, "passive") == 0;
    struct worker *workers = calloc(bench.threads, sizeof(*workers));
    if (workers == NULL) bench_fail("no memory");

    bench_start(&bench);
    for (unsigned t = 0; t < bench.threads; t++) {
        workers[t].first = passive ? malloc(SIZE) : NULL;
        workers[t].blocks = bench_scaled(&bench, BLOCKS);
    }
    bench_run_threads(bench.threads, work, workers, sizeof(*workers));
    bench_stop(&bench);
    free(workers);
    bench_report(&bench, bench.threads * bench_scaled(&bench, BLOCKS));
    return 0;
}
