/*
 * single_calls.c - the clock, the histograms and the verdicts by which single calls are measured.
 *
 * What a verdict says is tested with invented counters, as nobody can order the scheduler to take
 * the processor away. That the kernel's real counters get into it, is tested with a thread that
 * works and with one that sleeps.
 */
#include "../../bench/histogram.h"
#include "../../bench/timed.h"
#include "../../bench/watch.h"

#include <stdio.h>
#include <unistd.h>

static unsigned checks, failures;

#define CHECK(condition)                                                            \
    do {                                                                            \
        checks++;                                                                   \
        if (!(condition)) {                                                         \
            failures++;                                                             \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                           \
    } while (0)

/* ------------------------------------------------------------------ histograms --------------- */

static bool is_near(double found, double wanted) {
    double error = found > wanted ? found - wanted : wanted - found;
    return error <= wanted * 0.032 + 0.5;
}

static void test_every_number_is_near_its_bucket(void) {
    unsigned before = 0;
    for (uint64_t number = 0; number < (uint64_t)1 << 39; number += number / 64 + 1) {
        unsigned bucket = histogram_bucket(number);
        CHECK(bucket >= before && bucket < HISTOGRAM_BUCKETS);
        CHECK(is_near(histogram_value(bucket), (double)number));
        before = bucket;
    }
    CHECK(histogram_bucket(UINT64_MAX) == HISTOGRAM_BUCKETS - 1);
}

static void test_percentiles(void) {
    static struct histogram one, two;
    CHECK(histogram_percentile(&one, 0.5) == 0);
    for (uint64_t i = 1; i <= 10000; i++) histogram_add(i % 2 == 0 ? &one : &two, i);
    histogram_merge(&one, &two);
    CHECK(histogram_count(&one) == 10000);
    CHECK(is_near(histogram_percentile(&one, 0.5), 5000));
    CHECK(is_near(histogram_percentile(&one, 0.99), 9900));
    CHECK(is_near(histogram_percentile(&one, 1), 10000));
    for (int i = 0; i < 2; i++) histogram_add(&one, 1000000);
    CHECK(is_near(histogram_percentile(&one, 0.9999), 1000000));
    CHECK(histogram_percentile(&one, 0.9997) < 11000);
}

/* ------------------------------------------------------------------ verdicts ----------------- */

enum { MS = 1000000 };

static struct watch_verdict verdict(struct watch after, uint64_t wall) {
    const struct watch before = {.cpu = 0};
    return watch_compare(&before, &after, wall);
}

static void test_work_is_charged(void) {
    struct watch_verdict found = verdict((struct watch){.cpu = 3 * MS}, 3 * MS);
    CHECK(found.cause == WATCH_WORKED && found.own == 3 * MS && found.charged == 3 * MS);
    /* Also if it was preempted besides, and only as much as the call took. */
    found = verdict((struct watch){.cpu = 3 * MS, .delay = 4 * MS, .preemptions = 1}, 7 * MS);
    CHECK(found.cause == WATCH_WORKED && found.charged == 3 * MS && found.slept == 0);
    found = verdict((struct watch){.cpu = 9 * MS}, 2 * MS);
    CHECK(found.own == 2 * MS);
}

static void test_the_scheduler_is_not_charged(void) {
    struct watch after = {.cpu = 1000, .delay = 8 * MS, .preemptions = 1, .all_preemptions = 1};
    struct watch_verdict found = verdict(after, 8 * MS);
    CHECK(found.cause == WATCH_PREEMPTED && found.charged == 1000 && found.slept == 0);
    /* Woken at once, but given no processor for long: that is no wait for a lock. */
    found = verdict((struct watch){.cpu = 1000, .delay = 8 * MS, .waits = 1}, 8 * MS + 500000);
    CHECK(found.cause == WATCH_PREEMPTED && found.charged == 500000);
    found = verdict((struct watch){.cpu = 1000}, 5 * MS);
    CHECK(found.cause == WATCH_STOLEN && found.charged == 1000);
}

static void test_waits_are_charged(void) {
    struct watch_verdict found = verdict((struct watch){.cpu = 1000, .waits = 1}, 5 * MS);
    CHECK(found.cause == WATCH_WAITED && found.slept == 5 * MS - 1000 && found.charged == 5 * MS);
    /* Unless the one that it waited for may have had no processor. */
    found = verdict((struct watch){.cpu = 1000, .waits = 1, .all_preemptions = 1}, 5 * MS);
    CHECK(found.cause == WATCH_BEHIND && found.slept == 5 * MS - 1000 && found.charged == 1000);
}

/* ------------------------------------------------------------------ the kernel's counters ---- */

static void test_a_thread_that_works(const struct watch_clock *clock) {
    struct watch watch = {0};
    struct timespec cpu;
    watch_begin(&watch);
    uint64_t before = watch.cpu, began = watch_ticks(), now;
    do {
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
        now = (uint64_t)cpu.tv_sec * 1000000000 + (uint64_t)cpu.tv_nsec;
    } while (now - before < 3 * MS);
    uint64_t wall = (uint64_t)((double)(watch_ticks() - began) / clock->ticks_per_ns);
    struct watch_verdict found = watch_judge(&watch, wall);
    CHECK(found.cause == WATCH_WORKED);
    CHECK(found.own >= 2 * MS && found.slept == 0);
    watch_end(&watch);
}

static void test_a_thread_that_sleeps(const struct watch_clock *clock) {
    struct watch watch = {0};
    watch_begin(&watch);
    uint64_t began = watch_ticks();
    usleep(20000);
    uint64_t wall = (uint64_t)((double)(watch_ticks() - began) / clock->ticks_per_ns);
    struct watch_verdict found = watch_judge(&watch, wall);
    CHECK(found.waits >= 1);
    CHECK(found.slept >= 10 * MS && found.slept <= wall);
    CHECK(found.cause == WATCH_WAITED || found.cause == WATCH_BEHIND);
    watch_end(&watch);
}

static void test_long_calls_are_noted(const struct watch_clock *clock) {
    struct timed *timed = bench_map(sizeof(*timed));
    timed_init(timed, clock, false);
    uint64_t began = timed_begin(timed);
    usleep(20000);
    timed_end(timed, TIMED_FREE, 77, began);
    free(timed_malloc(timed, 10));
    const struct timed_record *record = &timed->records[TIMED_FREE];
    CHECK(histogram_count(&record->quick) == 0);
    CHECK(histogram_count(&record->wall) == 1 && histogram_count(&record->charged) == 1);
    CHECK(record->causes[WATCH_WAITED] + record->causes[WATCH_BEHIND] == 1);
    CHECK(record->longest >= 20 * MS && record->worst.wall == record->longest);
    CHECK(record->worst_size == 77);
    timed_merge(&timed->records[TIMED_MALLOC], record);
    CHECK(timed->records[TIMED_MALLOC].longest >= 20 * MS);
    watch_end(&timed->watch);
}

static void test_the_clock(const struct watch_clock *clock) {
    uint64_t began = watch_ticks(), start = proc_now(), now;
    do {
        now = proc_now();
    } while (now - start < 20 * MS);
    double found = (double)(watch_ticks() - began) / clock->ticks_per_ns;
    CHECK(found >= (double)(now - start) * 0.9); /* later reads make it longer only */
    CHECK(clock->ticks_per_ns > 0.01);
}

int main(void) {
    struct watch_clock clock = watch_calibrate();
    test_every_number_is_near_its_bucket();
    test_percentiles();
    test_work_is_charged();
    test_the_scheduler_is_not_charged();
    test_waits_are_charged();
    test_the_clock(&clock);
    test_a_thread_that_works(&clock);
    test_a_thread_that_sleeps(&clock);
    test_long_calls_are_noted(&clock);
    printf("%u checks, %u failed\n", checks, failures);
    return failures == 0 ? 0 : 1;
}
