/*
 * watch.h - how long a single call took, and whose fault it was.
 *
 *     window begins                                    the call                ends: watch_judge
 *     |--- other calls, the program's own work ---|=========================|
 *     cpu, delay, waits, preemptions, faults           wall time              the same again
 *
 * A call that takes long has either worked, or waited for a lock or the kernel, or it was the
 * scheduler that did not let the thread run. With more threads than processors the last is
 * frequent, and clocks alone cannot tell. So every thread keeps a window: what the kernel had
 * counted for it at some moment a little before. When a call took long, this is read again:
 *
 *     own     the smaller of the call's wall time and the processor time of the window; too much by
 *             at most what else was done in the window, and so windows are short
 *     delay   the time in which the thread could run and had no processor
 *     slept   what is left of the wall time, if the thread went to sleep by itself
 *
 *     WORKED      own reaches WATCH_LONG
 *     WAITED      own + slept do, and no thread of the process was preempted meanwhile
 *     BEHIND      they do, but the scheduler took the processor from a thread of the process:
 *                 perhaps from the one that this one waited for
 *     PREEMPTED   the rest is delay
 *     STOLEN      not even that: the machine itself stood still, as virtual ones do
 *
 * The first two are charged to the allocator. With more threads than processors a wait can hardly
 * be shown to be WAITED: but who makes others wait for long by work under a lock has WORKED for
 * long itself, unless in a call that is not timed. With no more threads than processors, and
 * nothing else running, the distinction is exact.
 *
 * A thread that spins until another gives up a lock works, here. What a hypervisor takes counts as
 * work too where the kernel does not learn of it; so the program's own time between calls is
 * watched in the same way, and shows how much of that there is.
 */
#ifndef BENCH_WATCH_H
#define BENCH_WATCH_H

#include "common.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum { WATCH_LOOK = 100000, WATCH_LONG = 1000000 }; /* nanoseconds: worth a look; too long */

/* Ticks of the fastest clock there is. Both wait for the loads before them. */
static inline uint64_t watch_ticks(void) {
#if defined(__x86_64__)
    unsigned processor;
    return __rdtscp(&processor);
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(ticks) : : "memory");
    return ticks;
#else
    return proc_now();
#endif
}

/* How ticks relate to nanoseconds; what it costs to read them, in ticks: the time between two
 * reads, which every measured call includes. Takes 20 ms, once, before threads are started. */
struct watch_clock {
    double ticks_per_ns;
    uint64_t overhead;
};
struct watch_clock watch_calibrate(void);

/* What the kernel counts for the calling thread; `all_preemptions` for the process. */
struct watch {
    int schedstat;       /* a descriptor and 1; 0 before the first window, -1 if there is none */
    uint64_t cpu, delay; /* nanoseconds */
    long waits, preemptions, faults, all_preemptions;
};
/* Of the calling thread, always the same one for a watch that is zero at first. */
void watch_begin(struct watch *watch);
void watch_end(struct watch *watch);

enum watch_cause {
    WATCH_WORKED,
    WATCH_WAITED,
    WATCH_BEHIND,
    WATCH_PREEMPTED,
    WATCH_STOLEN,
    WATCH_CAUSES
};
extern const char *const watch_cause_names[WATCH_CAUSES];

struct watch_verdict {
    uint64_t wall, own, slept; /* nanoseconds */
    uint64_t charged;          /* own, and what it slept unless that is not the allocator's */
    enum watch_cause cause;
    long waits, preemptions, faults;
};
/* Of a call that took `wall` nanoseconds and ended after the window from `before` to `after`. */
struct watch_verdict watch_compare(const struct watch *before, const struct watch *after,
                                   uint64_t wall);
/* Of a call that has just ended and took `wall` nanoseconds. A new window begins. */
struct watch_verdict watch_judge(struct watch *watch, uint64_t wall);

#endif
