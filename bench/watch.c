/*
 * watch.c - the clock of single calls, and who had the processor while one took long.
 *
 * The counters of the kernel are those of getrusage for a thread; the processor time is that of the
 * thread's own clock, which is exact, where getrusage may go by ticks; the delay is in the thread's
 * schedstat, which kernels without CONFIG_SCHED_INFO do not have. Nothing allocates.
 */
#include "watch.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { CALIBRATE_NANOSECONDS = 20000000, PAIRS = 20001, TICKS_MOST = 4096 };

const char *const watch_cause_names[WATCH_CAUSES] = {"worked", "waited", "behind", "preempted",
                                                     "stolen"};

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

/* The second number is what the thread has waited for a processor. */
static uint64_t read_delay(struct watch *watch) {
    char text[96], *end;
    if (watch->schedstat == 0) {
        int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
        watch->schedstat = fd >= 0 ? fd + 1 : -1;
    }
    if (watch->schedstat < 0) return 0;
    ssize_t length = pread(watch->schedstat - 1, text, sizeof(text) - 1, 0);
    if (length <= 0) return 0;
    text[length] = '\0';
    (void)strtoull(text, &end, 10);
    return strtoull(end, NULL, 10);
}

void watch_begin(struct watch *watch) {
    struct rusage usage;
    struct timespec cpu;
    getrusage(RUSAGE_SELF, &usage);
    watch->all_preemptions = usage.ru_nivcsw;
    getrusage(RUSAGE_THREAD, &usage);
    watch->waits = usage.ru_nvcsw;
    watch->preemptions = usage.ru_nivcsw;
    watch->faults = usage.ru_minflt;
    watch->delay = read_delay(watch);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    watch->cpu = (uint64_t)cpu.tv_sec * 1000000000 + (uint64_t)cpu.tv_nsec;
}

void watch_end(struct watch *watch) {
    if (watch->schedstat > 0) close(watch->schedstat - 1);
    watch->schedstat = 0;
}

struct watch_verdict watch_compare(const struct watch *before, const struct watch *after,
                                   uint64_t wall) {
    uint64_t cpu = after->cpu - before->cpu, delay = after->delay - before->delay;
    struct watch_verdict verdict = {
        .wall = wall,
        .own = cpu < wall ? cpu : wall,
        .waits = after->waits - before->waits,
        .preemptions = after->preemptions - before->preemptions,
        .faults = after->faults - before->faults,
    };
    if (verdict.waits > 0 && verdict.own + delay < wall) verdict.slept = wall - verdict.own - delay;
    bool undisturbed = after->all_preemptions == before->all_preemptions;
    verdict.charged = verdict.own + (undisturbed ? verdict.slept : 0);
    verdict.cause = verdict.own >= WATCH_LONG                   ? WATCH_WORKED
                    : verdict.charged >= WATCH_LONG             ? WATCH_WAITED
                    : verdict.own + verdict.slept >= WATCH_LONG ? WATCH_BEHIND
                    : delay > 0 || verdict.preemptions > 0      ? WATCH_PREEMPTED
                                                                : WATCH_STOLEN;
    return verdict;
}

struct watch_verdict watch_judge(struct watch *watch, uint64_t wall) {
    struct watch before = *watch;
    watch_begin(watch);
    return watch_compare(&before, watch, wall);
}
