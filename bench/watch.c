/*
 * watch.c - the clock of single calls, and who had the processor while one took long.
 *
 * The counters of the kernel are those of getrusage for a thread; the processor time is that of the
 * thread's own clock, which is exact, where getrusage may go by ticks. Nothing allocates.
 */
#include "watch.h"

#include <sys/resource.h>
#include <time.h>

enum { CALIBRATE_NANOSECONDS = 20000000, PAIRS = 20001, TICKS_MOST = 4096 };

const char *const watch_cause_names[WATCH_CAUSES] = {"worked", "waited", "preempted", "stolen"};

/* The median of what two reads in a row are apart. */
static uint64_t measure_overhead(void) {
    static uint32_t counts[TICKS_MOST];
    for (uint32_t i = 0; i < PAIRS; i++) {
        uint64_t first = watch_ticks(), ticks = watch_ticks() - first;
        counts[ticks < TICKS_MOST ? ticks : TICKS_MOST - 1]++;
    }
    uint32_t passed = 0, ticks = 0;
    while ((passed += counts[ticks]) <= PAIRS / 2) ticks++;
    return ticks;
}

struct watch_clock watch_calibrate(void) {
    struct watch_clock clock;
    uint64_t began = proc_now(), ticks = watch_ticks(), now;
    do {
        now = proc_now();
    } while (now - began < CALIBRATE_NANOSECONDS);
    clock.ticks_per_ns = (double)(watch_ticks() - ticks) / (double)(now - began);
    clock.overhead = measure_overhead();
    return clock;
}

void watch_begin(struct watch *watch) {
    struct rusage usage;
    struct timespec cpu;
    getrusage(RUSAGE_THREAD, &usage);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    watch->cpu = (uint64_t)cpu.tv_sec * 1000000000 + (uint64_t)cpu.tv_nsec;
    watch->waits = usage.ru_nvcsw;
    watch->preemptions = usage.ru_nivcsw;
    watch->faults = usage.ru_minflt;
}

struct watch_verdict watch_judge(struct watch *watch, uint64_t wall) {
    struct watch before = *watch;
    watch_begin(watch);
    uint64_t cpu = watch->cpu - before.cpu;
    struct watch_verdict verdict = {
        .wall = wall,
        .own = cpu < wall ? cpu : wall,
        .waits = watch->waits - before.waits,
        .preemptions = watch->preemptions - before.preemptions,
        .faults = watch->faults - before.faults,
    };
    verdict.cause = verdict.own >= WATCH_LONG ? WATCH_WORKED
                    : verdict.waits > 0       ? WATCH_WAITED
                    : verdict.preemptions > 0 ? WATCH_PREEMPTED
                                              : WATCH_STOLEN;
    return verdict;
}
