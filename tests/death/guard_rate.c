/*
 * guard_rate.c - how often LUCID_OPTIONS=guard_sample:N guards an allocation.
 *
 * A guarded block tells the size that was asked for, others that of their class: so odd sizes show
 * which are guarded. In each pattern their number must lie within seven standard deviations of what
 * N promises, as if each was drawn by itself; it varies up to a quarter more, as a sample that is
 * due is one of the next eight. (With N = 1 all must be guarded, 100,000 times: no slot is lost.)
 * In one pattern four places allocate in turn from one class: each must get its share.
 *
 * usage: guard_rate N, with the library preloaded and the option set to the same N
 */
#include <malloc.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PLACES = 4, HELD = 700 };

static atomic_long hits, total;
static double rate;
static bool failed;

static bool is_guarded(void *block, size_t size) {
    return malloc_usable_size(block) == size;
}

static void count(long guarded, long of) {
    hits += guarded;
    total += of;
}

static void compare(const char *pattern, double found, double of, double probability) {
    double expected = of * probability, sigma = sqrt(expected * (1 - probability));
    bool good = fabs(found - expected) <= 7 * sigma;
    printf("%s: %s: %.0f of %.0f guarded, expected %.1f, sigma %.1f\n", good ? "ok" : "FAIL",
           pattern, found, of, expected, sigma);
    failed |= !good;
}

static void verdict(const char *pattern) {
    compare(pattern, (double)hits, (double)total, 1 / rate);
    hits = total = 0;
}

static void pairs(long rounds) {
    long guarded = 0;
    for (long i = 0; i < rounds; i++) {
        void *block = malloc(41);
        guarded += is_guarded(block, 41);
        free(block);
    }
    count(guarded, rounds);
}

/* Grow and shrink, the blocks of several classes. */
static void batches(long rounds) {
    void *held[HELD];
    long guarded = 0;
    for (long i = 0; i < rounds; i++) {
        for (size_t k = 0; k < HELD; k++) {
            size_t size = 17 + k * 14 % 300;
            held[k] = malloc(size);
            guarded += is_guarded(held[k], size);
        }
        for (size_t k = 0; k < HELD; k++) free(held[k]);
    }
    count(guarded, rounds * HELD);
}

/* Blocks that live for random times, so that spans come and go half full. */
static void mixture(long rounds) {
    void *held[HELD] = {0};
    uint64_t x = (uintptr_t)held | 1;
    long guarded = 0;
    for (long i = 0; i < rounds; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        size_t k = x % HELD, size = 17 + (x >> 20) % 250 * 2;
        free(held[k]);
        held[k] = malloc(size);
        guarded += is_guarded(held[k], size);
    }
    for (size_t k = 0; k < HELD; k++) free(held[k]);
    count(guarded, rounds);
}

static void in_turn(long rounds) {
    long guarded[PLACES] = {0}, all = 0;
    for (long i = 0; i < rounds; i++) {
        void *blocks[PLACES];
        for (size_t k = 0; k < PLACES; k++) {
            blocks[k] = malloc(33 + 2 * k);
            guarded[k] += is_guarded(blocks[k], 33 + 2 * k);
        }
        for (size_t k = 0; k < PLACES; k++) free(blocks[k]);
    }
    for (size_t k = 0; k < PLACES; k++) all += guarded[k];
    for (size_t k = 0; rate > 1 && k < PLACES; k++) {
        compare("one place of four", (double)guarded[k], (double)all, 1.0 / PLACES);
    }
    count(all, rounds * PLACES);
}

static void *thread_body(void *rounds) {
    mixture((long)(intptr_t)rounds);
    pairs((long)(intptr_t)rounds);
    return NULL;
}

static void threads(int waves, long rounds) {
    pthread_t ids[4];
    for (int wave = 0; wave < waves; wave++) {
        for (size_t i = 0; i < 4; i++) {
            if (pthread_create(&ids[i], NULL, thread_body, (void *)(intptr_t)rounds) != 0) exit(2);
        }
        for (size_t i = 0; i < 4; i++) pthread_join(ids[i], NULL);
    }
}

int main(int argc, char **argv) {
    rate = argc == 2 ? atof(argv[1]) : 0;
    if (rate < 1) {
        fprintf(stderr, "usage: guard_rate N\n");
        return 2;
    }
    /* For N = 1 fewer: each is some system calls. With 4 threads the pool has room for 250 each. */
    long n = rate > 1 ? 1000000 : 25000;
    pairs(n);
    verdict("pairs in a loop");
    batches(n / HELD);
    verdict("batches");
    mixture(n);
    verdict("random lives");
    in_turn(n / PLACES);
    verdict("four places in turn");
    if (rate > 1) {
        threads(1, n / 4);
        verdict("four threads");
        threads(50, n / 200);
        verdict("short threads");
    }
    return failed;
}
