/*
 * timed.c - what the records of timed calls say.
 *
 * A call that took long is judged at once by the thread itself, while its window is short. The
 * point of a kind of call in the report has, in nanoseconds,
 *
 *     p50 p99 p999 p9999 max      by wall time
 *     own_p9999 own_max           by what is charged to the allocator
 *     long                        how many took WATCH_LONG or more, and by cause: worked, waited,
 *                                 behind, preempted, stolen; the first two are charged
 *     worst_*                     about the call of own_max
 */
#include "timed.h"

#include <stdio.h>
#include <unistd.h>

static const char *const call_names[TIMED_CALLS] = {"malloc", "calloc", "realloc", "free",
                                                    "between"};

void timed_init(struct timed *timed, const struct watch_clock *clock, bool list) {
    timed->clock = *clock;
    timed->look = (uint64_t)(clock->ticks_per_ns * WATCH_LOOK);
    timed->list = list;
    timed_window(timed);
}

void timed_window(struct timed *timed) {
    watch_begin(&timed->watch);
    timed->ended = 0;
}

static void list_call(const char *name, uint64_t size, const struct watch_verdict *verdict) {
    dprintf(STDERR_FILENO,
            "%s of %lu bytes: %.2f ms, own %.2f ms, slept %.2f ms: %s (%ld waits, %ld "
            "preemptions, %ld faults)\n",
            name, size, (double)verdict->wall / 1e6, (double)verdict->own / 1e6,
            (double)verdict->slept / 1e6, watch_cause_names[verdict->cause], verdict->waits,
            verdict->preemptions, verdict->faults);
}

void timed_note_long(struct timed *timed, enum timed_call call, uint64_t size, uint64_t ticks) {
    struct timed_record *record = &timed->records[call];
    uint64_t wall = (uint64_t)((double)ticks / timed->clock.ticks_per_ns);
    struct watch_verdict verdict = watch_judge(&timed->watch, wall);
    uint64_t charged = verdict.charged;
    histogram_add(&record->wall, wall);
    histogram_add(&record->charged, charged);
    if (wall > record->longest) record->longest = wall;
    if (charged > record->worst_charged) {
        record->worst_charged = charged;
        record->worst_size = size;
        record->worst = verdict;
    }
    if (wall < WATCH_LONG) return;
    record->causes[verdict.cause]++;
    if (timed->list && verdict.cause <= WATCH_WAITED) {
        list_call(call_names[call], size, &verdict);
        watch_begin(&timed->watch);
    }
}

void timed_merge(struct timed_record *into, const struct timed_record *from) {
    histogram_merge(&into->quick, &from->quick);
    histogram_merge(&into->wall, &from->wall);
    histogram_merge(&into->charged, &from->charged);
    for (size_t i = 0; i < WATCH_CAUSES; i++) into->causes[i] += from->causes[i];
    if (from->longest > into->longest) into->longest = from->longest;
    if (from->worst_charged > into->worst_charged) {
        into->worst_charged = from->worst_charged;
        into->worst_size = from->worst_size;
        into->worst = from->worst;
    }
}

/* The quick calls in nanoseconds, and with them those that took long. */
static void join(struct histogram *all, const struct histogram *quick, double ticks_per_ns,
                 const struct histogram *slow) {
    *all = *slow;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (quick->counts[i] != 0) {
            uint64_t ns = (uint64_t)(histogram_value(i) / ticks_per_ns + 0.5);
            all->counts[histogram_bucket(ns)] += quick->counts[i];
        }
}

/* The greatest number of a histogram, to its precision. */
static double greatest(const struct histogram *all) {
    return histogram_percentile(all, 1);
}

static uint64_t report_record(struct bench *bench, const char *name,
                              const struct timed_record *record, double ticks_per_ns) {
    static struct histogram wall, charged;
    join(&wall, &record->quick, ticks_per_ns, &record->wall);
    join(&charged, &record->quick, ticks_per_ns, &record->charged);
    uint64_t count = histogram_count(&wall), slow = 0;
    for (size_t i = 0; i < WATCH_CAUSES; i++) slow += record->causes[i];
    double max = record->longest != 0 ? (double)record->longest : greatest(&wall);
    double own_max = record->worst_charged >= WATCH_LOOK ? (double)record->worst_charged
                                                         : greatest(&charged);
    bench_add_point(
        bench,
        "\"call\": \"%s\", \"count\": %lu, \"p50\": %.0f, \"p99\": %.0f, \"p999\": %.0f, "
        "\"p9999\": %.0f, \"max\": %.0f, \"own_p9999\": %.0f, \"own_max\": %.0f, \"long\": %lu, "
        "\"worked\": %lu, \"waited\": %lu, \"behind\": %lu, \"preempted\": %lu, \"stolen\": %lu, "
        "\"worst_size\": %lu, \"worst_wall\": %lu, \"worst_cause\": \"%s\", "
        "\"worst_waits\": %ld, \"worst_preemptions\": %ld, \"worst_faults\": %ld",
        name, count, histogram_percentile(&wall, 0.5), histogram_percentile(&wall, 0.99),
        histogram_percentile(&wall, 0.999), histogram_percentile(&wall, 0.9999), max,
        histogram_percentile(&charged, 0.9999), own_max, slow, record->causes[WATCH_WORKED],
        record->causes[WATCH_WAITED], record->causes[WATCH_BEHIND], record->causes[WATCH_PREEMPTED],
        record->causes[WATCH_STOLEN], record->worst_size, record->worst.wall,
        watch_cause_names[record->worst.cause], record->worst.waits, record->worst.preemptions,
        record->worst.faults);
    return count;
}

uint64_t timed_report(struct bench *bench, const struct timed_record *records,
                      const struct watch_clock *clock) {
    uint64_t count = 0;
    for (size_t i = 0; i < TIMED_CALLS; i++) {
        uint64_t calls = report_record(bench, call_names[i], &records[i], clock->ticks_per_ns);
        if (i != TIMED_BETWEEN) count += calls;
    }
    bench_add_figure(bench, "timer_ns", (double)clock->overhead / clock->ticks_per_ns);
    return count;
}
