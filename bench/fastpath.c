/*
 * fastpath.c - the calls whose instructions bench/callgrind.py counts.
 *
 *     fastpath pair SIZE COUNT      COUNT times: malloc, free of the same block
 *     fastpath batch SIZE COUNT     rounds of BATCH mallocs, then BATCH frees, oldest first
 *     fastpath remote SIZE COUNT    the same, but a second thread frees
 *
 * Each loop is a function of its own that is not inlined, so that callgrind's file says which calls
 * came from it and what they cost with everything they called. Every block is written to and
 * checked.
 */
#include "common.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 200 };

static struct bench_block blocks[BATCH];
static uint32_t size;
static uint64_t count;
static sem_t full, empty;

/* The names of these three are known to callgrind.py. */
static __attribute__((noinline)) void fastpath_pair(void) {
    for (uint64_t i = 0; i < count; i++) {
        struct bench_block block = bench_mark(malloc(size), size, (uint32_t)i);
        bench_check(&block);
        free(block.at);
    }
}

static __attribute__((noinline)) void fastpath_fill(void) {
    for (uint32_t i = 0; i < BATCH; i++) blocks[i] = bench_mark(malloc(size), size, i);
}

static __attribute__((noinline)) void fastpath_drain(void) {
    for (uint32_t i = 0; i < BATCH; i++) {
        bench_check(&blocks[i]);
        free(blocks[i].at);
    }
}

static void *drain_remotely(void *unused) {
    for (uint64_t i = 0; i < count; i += BATCH) {
        sem_wait(&full);
        fastpath_drain();
        sem_post(&empty);
    }
    return unused;
}

static void fill_remotely(void) {
    pthread_t thread;
    sem_init(&full, 0, 0);
    sem_init(&empty, 0, 1);
    if (pthread_create(&thread, NULL, drain_remotely, NULL) != 0) bench_fail("no thread");
    for (uint64_t i = 0; i < count; i += BATCH) {
        sem_wait(&empty);
        fastpath_fill();
        sem_post(&full);
    }
    pthread_join(thread, NULL);
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fputs("usage: fastpath pair|batch|remote SIZE COUNT\n", stderr);
        return 2;
    }
    size = (uint32_t)strtoul(argv[2], NULL, 10);
    count = strtoull(argv[3], NULL, 10);
    if (strcmp(argv[1], "pair") == 0)
        fastpath_pair();
    else if (strcmp(argv[1], "remote") == 0)
        fill_remotely();
    else
        for (uint64_t i = 0; i < count; i += BATCH) {
            fastpath_fill();
            fastpath_drain();
        }
    return 0;
}
