/*
 * measure.h - what the two ways of bench_measure share: processes that are started, watched and
 * waited for, and the figures in its report. One thread; nothing allocates.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include "proc.h"

#include <sys/resource.h>
#include <sys/types.h>

/* Statuses of our own failures, of a command that cannot be started, and above it of signals. */
enum { MEASURE_FAILED = 125, MEASURE_NOT_STARTED = 127, MEASURE_SIGNALLED = 128 };

struct measure_result {
    double seconds, cpu_seconds;
    struct proc_memory memory;
};

/* A message to stderr. Returns MEASURE_FAILED. */
int measure_say(const char *what, const char *detail);
/* Take processor time, faults and the peak of one process from what the kernel counted. */
void measure_take_usage(struct measure_result *result, const struct rusage *used);

/* ------------------------------------------------------------------ child.c ------------------ */

struct child {
    pid_t pid; /* 0 once it has ended and been waited for */
    int status;
    struct rusage used;
};
enum child_role {
    CHILD_COMMAND,
    CHILD_SERVER, /* reads nothing; its output goes to stderr */
    CHILD_CLIENT, /* without LD_PRELOAD */
};

/* To be called once, before any child is started: from then on child_tick notices their ends. */
void child_init(void);
/* Start a program, found by PATH; it gets SIGTERM if this process ends. False after a message. */
bool child_start(struct child *child, char **arguments, enum child_role role);
/* Wait 10 ms, less if a child ends. */
void child_tick(void);
/* True if the child has ended, now or before; its status and usage are then set. */
bool child_ended(struct child *child);
/* The exit status that stands for how it ended. */
int child_exit_status(const struct child *child);
/* End it by SIGTERM, after 10 s by SIGKILL, and wait. False if the latter was needed. */
bool child_stop(struct child *child);

/* ------------------------------------------------------------------ serve.c ------------------ */

/* Run `client` against `server` and measure the latter. `ready` is a TCP port of this machine on
 * which it will listen, or the name of a file that it will make. Returns the exit status; 0 only
 * if all went well and `result` is set. */
int serve_measure(const char *ready, char **server, char **client, struct measure_result *result);

#endif
