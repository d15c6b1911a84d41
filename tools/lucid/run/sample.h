/* sample.h - resident memory of a process and its descendants while they run. */
#ifndef LUCID_SAMPLE_H
#define LUCID_SAMPLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Before the first sample a new program is loaded; the time until then counts for nothing. */
enum { SAMPLE_FIRST_MS = 1, SAMPLE_INTERVAL_MS = 10 };

struct sampler {
    pid_t root;
    pid_t *pids; /* it and its descendants, as last listed */
    size_t count, room;
    double list_at;                 /* when to list them again              */
    double first_at, last_at;       /* seconds of CLOCK_MONOTONIC; 0: never */
    int64_t last_bytes, peak_bytes; /* sums over all processes              */
    double byte_seconds;            /* up to last_at                        */
};

/* Bytes, of all processes together; 0 if the process was never seen alive. */
struct sampled {
    int64_t peak, final, mean; /* `mean` is weighted by time */
};

/* Begin with process `root`; the caller calls sampler_take after SAMPLE_FIRST_MS, and from then on
 * every SAMPLE_INTERVAL_MS. */
void sampler_init(struct sampler *sampler, pid_t root);
void sampler_take(struct sampler *sampler);
/* After the end of `root`. */
struct sampled sampler_fini(struct sampler *sampler);

#endif
