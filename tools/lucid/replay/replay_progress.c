/*
 * replay_progress.c - how far a replay is, on a terminal.
 *
 *     kr (2 of 6): 43 % of 2,922,257 events, about 12 s left
 *
 * Whatever process the run is in, its outcome is shared memory, and the number of events in it
 * grows with the run. So a timer of this process can look at it four times a second, while this
 * process simulates or waits for the other one; the run itself neither writes nor allocates for it.
 * What remains is estimated from the pace so far.
 *
 * The handler formats into a buffer of its own and calls write(2), and keeps errno. System calls go
 * on after it. A timer is not inherited by children. One run at a time.
 */
#include "replay/replay_parts.h"

#include "frame/frame.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const struct timeval tick = {.tv_usec = 250000};

static struct {
    const char *what;
    const struct replay_outcome *outcome; /* NULL: nothing is shown */
    uint64_t op_count;
    double began;
    struct sigaction before;
} shown;

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void show(int signal) {
    (void)signal;
    int error = errno;
    char line[160], left[40] = "";
    uint64_t done = __atomic_load_n(&shown.outcome->events, __ATOMIC_RELAXED);
    double all = (double)shown.op_count, part = (double)done / all;
    if (done > 0)
        snprintf(left, sizeof(left), ", about %.0f s left",
                 (seconds_now() - shown.began) * (1 - part) / part);
    snprintf(line, sizeof(line), "\r\033[K%s: %.0f %% of %s events%s", shown.what, 100 * part,
             cell_count(all).text, left);
    if (write(STDERR_FILENO, line, strlen(line)) < 0) errno = 0; /* nobody looks */
    errno = error;
}

static void set_timer(struct timeval every) {
    struct itimerval timer = {every, every};
    setitimer(ITIMER_REAL, &timer, NULL);
}

void replay_progress_begin(const char *what, const struct replay_outcome *outcome,
                           uint64_t op_count) {
    if (!isatty(STDERR_FILENO)) return;
    shown.what = what;
    shown.outcome = outcome;
    shown.op_count = op_count;
    shown.began = seconds_now();
    struct sigaction action = {.sa_handler = show, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, &shown.before);
    show(0);
    set_timer(tick);
}

void replay_progress_end(void) {
    if (shown.outcome == NULL) return;
    set_timer((struct timeval){0});
    sigaction(SIGALRM, &shown.before, NULL);
    shown.outcome = NULL;
    output_progress_end();
}
