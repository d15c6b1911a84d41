/*
 * producer_consumer.c - one thread allocates, another frees, in batches.
 *
 *     producer ──▶ batch of blocks ──▶ bounded queue ──▶ consumer: checks and frees all
 *
 * There is a pair of threads for every two asked for. Every block is freed by a thread that never
 * allocates: memory must find its way back to the producer, or the process grows without end.
 */
#include "common.h"

enum { BATCH = 200, QUEUE = 16, BATCHES = 40000, LEAST = 16, MOST = 512 };

struct batch {
    struct bench_block blocks[BATCH];
};

struct pair {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct batch *queue[QUEUE];
    size_t head, tail; /* taken and put so far, under the lock */
    uint64_t batches, random;
};

static void put(struct pair *pair, struct batch *batch) {
    pthread_mutex_lock(&pair->lock);
    while (pair->tail - pair->head == QUEUE) pthread_cond_wait(&pair->changed, &pair->lock);
    pair->queue[pair->tail++ % QUEUE] = batch;
    pthread_cond_signal(&pair->changed);
    pthread_mutex_unlock(&pair->lock);
}

static struct batch *take(struct pair *pair) {
    pthread_mutex_lock(&pair->lock);
    while (pair->tail == pair->head) pthread_cond_wait(&pair->changed, &pair->lock);
    struct batch *batch = pair->queue[pair->head++ % QUEUE];
    pthread_cond_signal(&pair->changed);
    pthread_mutex_unlock(&pair->lock);
    return batch;
}

static void *produce(void *arg) {
    struct pair *pair = arg;
    for (uint64_t b = 0; b < pair->batches; b++) {
        struct batch *batch = malloc(sizeof(*batch));
        if (batch == NULL) bench_fail("no memory");
        for (uint32_t i = 0; i < BATCH; i++) {
            uint32_t size = LEAST + (uint32_t)bench_random_below(&pair->random, MOST - LEAST);
            batch->blocks[i] = bench_allocate(size, i);
        }
        put(pair, batch);
    }
    return NULL;
}

static void *consume(void *arg) {
    struct pair *pair = arg;
    for (uint64_t b = 0; b < pair->batches; b++) {
        struct batch *batch = take(pair);
        for (uint32_t i = 0; i < BATCH; i++) bench_check_and_free(&batch->blocks[i]);
        free(batch);
    }
    return NULL;
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "producer_consumer", NULL, argc, argv);
    unsigned pairs = (bench.threads + 1) / 2;
    uint64_t batches = bench_scaled(&bench, BATCHES);
    struct pair *pair = calloc(pairs, sizeof(*pair));
    struct bench_threads producers, consumers;
    if (pair == NULL) bench_fail("no memory");

    bench_start(&bench);
    for (unsigned p = 0; p < pairs; p++) {
        pthread_mutex_init(&pair[p].lock, NULL);
        pthread_cond_init(&pair[p].changed, NULL);
        pair[p].batches = batches;
        pair[p].random = bench_random_state(&bench, p);
    }
    bench_start_threads(&producers, pairs, produce, pair, sizeof(*pair));
    bench_start_threads(&consumers, pairs, consume, pair, sizeof(*pair));
    bench_join_threads(&producers);
    bench_join_threads(&consumers);
    bench_stop(&bench);
    free(pair);
    bench_report(&bench, pairs * batches * (BATCH + 1));
    return 0;
}
