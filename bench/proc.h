/*
 * proc.h - what /proc tells of the memory of a process.
 *
 * Nothing here allocates, and all but proc_measure_self is async-signal-safe: the benchmark
 * programs look at themselves from a signal handler, and bench_measure must stay smaller than any
 * program that it watches.
 */
#ifndef BENCH_PROC_H
#define BENCH_PROC_H

#include <stdbool.h>
#include <stdint.h>

/* What is told of a process. Bytes, except for the last three, which are numbers. */
struct proc_memory {
    uint64_t peak_rss, final_rss, mean_rss;
    uint64_t minor_faults, major_faults, mappings;
};

/* Nanoseconds of the clock that only goes forward. */
uint64_t proc_now(void);

/* Resident bytes by an open descriptor of a statm file; 0 if the process has no memory any more.
 * False if the process is gone. */
bool proc_read_rss(int statm_fd, uint64_t *rss);
/* The number of mappings by an open descriptor of a maps file, which is read from its start; 0 if
 * it cannot be read. The kernel needs about a microsecond for each. */
uint64_t proc_count_mappings(int maps_fd);
/* Figures of this process; the mean is what is resident now. False if /proc cannot be read. */
bool proc_measure_self(struct proc_memory *memory);

/* Something that costs an unknown time is done now and then: not before `least` nanoseconds have
 * passed, and so seldom that it takes no more than one part in 200 of the time. */
struct proc_pace {
    uint64_t least, next;
};
static inline bool proc_pace_due(const struct proc_pace *pace, uint64_t now) {
    return now >= pace->next;
}
static inline void proc_pace_done(struct proc_pace *pace, uint64_t began, uint64_t ended) {
    uint64_t wait = (ended - began) * 200;
    pace->next = ended + (wait > pace->least ? wait : pace->least);
}

/* A mean that is weighted by time: each value holds half of the way to its neighbours. */
struct proc_mean {
    uint64_t first_time, last_time, last_value, count;
    double sum; /* of value x nanoseconds */
};
void proc_mean_add(struct proc_mean *mean, uint64_t now, uint64_t value);
/* 0 if there is no value. */
uint64_t proc_mean_value(const struct proc_mean *mean);

#endif
