/*
 * common.c - arguments, clock, memory samples and the report of the benchmark programs.
 *
 * One timer signal every 10 ms reads /proc/self/statm through a descriptor that stays open and
 * adds to two counters; only async-signal-safe calls are used there, and nothing allocates. The
 * peak comes from the kernel (VmHWM), which, unlike that of getrusage, does not remember the
 * process that called execve.
 */
#include "common.h"

#include <argp.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

enum { SAMPLE_MICROSECONDS = 10000, PAGE = 4096 };

void bench_fail(const char *what) {
    fprintf(stderr, "bench: %s\n", what);
    abort();
}

/* ------------------------------------------------------------------ arguments ---------------- */

struct input {
    struct bench *bench;
    const char *modes;
};

static const struct argp_option options[] = {
    {"scale", 's', "FACTOR", 0, "Multiply the work by FACTOR (default: 1)", 0},
    {"threads", 't', "N", 0, "Number of threads, where the program has any", 0},
    {"seed", 'S', "N", 0, "Seed of the random numbers (default: 1)", 0},
    {0},
};

static bool is_word_of(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == '\0'))
            return length > 0;
    return false;
}

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct input *input = state->input;
    struct bench *bench = input->bench;
    switch (key) {
    case 's':
        bench->scale = strtod(arg, NULL);
        if (!(bench->scale > 0)) argp_error(state, "the scale must be above 0");
        return 0;
    case 't':
        bench->threads = (unsigned)strtoul(arg, NULL, 10);
        if (bench->threads < 1 || bench->threads > 256) argp_error(state, "1 to 256 threads");
        return 0;
    case 'S':
        bench->seed = strtoull(arg, NULL, 10);
        return 0;
    case ARGP_KEY_ARG:
        if (input->modes == NULL || !is_word_of(input->modes, arg))
            argp_error(state, "unknown argument '%s'", arg);
        bench->mode = arg;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static unsigned default_threads(void) {
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors < 2 ? 2 : processors > 16 ? 16 : (unsigned)processors;
}

void bench_init(struct bench *bench, const char *name, const char *modes, int argc, char **argv) {
    const struct argp parser = {options, parse_option, modes, NULL, NULL, NULL, NULL};
    struct input input = {bench, modes};
    *bench = (struct bench){.scale = 1, .threads = default_threads(), .seed = 1};
    argp_parse(&parser, argc, argv, 0, NULL, &input);
    if (modes != NULL && bench->mode == NULL) {
        bench->mode = strndup(modes, strcspn(modes, " "));
        if (bench->mode == NULL) bench_fail("no memory");
    }
    snprintf(bench->name, sizeof(bench->name), "%s%s%s", name, bench->mode != NULL ? "-" : "",
             bench->mode != NULL ? bench->mode : "");
}

uint64_t bench_scaled(const struct bench *bench, uint64_t count) {
    double scaled = (double)count * bench->scale;
    return scaled < 1 ? 1 : (uint64_t)scaled;
}

/* ------------------------------------------------------------------ memory ------------------- */

static int statm_fd = -1;
static volatile uint64_t sample_sum, sample_count;

/* Resident bytes by /proc/self/statm; async-signal-safe. 0 if it cannot be read. */
static uint64_t read_statm(void) {
    char text[128];
    ssize_t length = pread(statm_fd, text, sizeof(text) - 1, 0);
    if (length <= 0) return 0;
    text[length] = '\0';
    const char *at = strchr(text, ' ');
    uint64_t pages = 0;
    for (at = at != NULL ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
        pages = pages * 10 + (uint64_t)(*at - '0');
    return pages * PAGE;
}

uint64_t bench_rss(void) {
    if (statm_fd < 0) statm_fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    return read_statm();
}

uint64_t bench_peak_rss(void) {
    char text[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
    if (fd >= 0) close(fd);
    text[length > 0 ? length : 0] = '\0';
    const char *line = strstr(text, "VmHWM:");
    if (line == NULL) bench_fail("no VmHWM in /proc/self/status");
    return strtoull(line + strlen("VmHWM:"), NULL, 10) * 1024;
}

static void take_sample(int signal_number) {
    (void)signal_number;
    sample_sum += read_statm();
    sample_count++;
}

static void set_timer(long microseconds) {
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    if (setitimer(ITIMER_REAL, &timer, NULL) != 0) bench_fail("setitimer");
}

/* ------------------------------------------------------------------ clock and report --------- */

void bench_start(struct bench *bench) {
    struct sigaction action = {.sa_handler = take_sample, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    bench_rss();
    set_timer(SAMPLE_MICROSECONDS);
    clock_gettime(CLOCK_MONOTONIC, &bench->started);
}

void bench_stop(struct bench *bench) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    set_timer(0);
    bench->seconds = (double)(now.tv_sec - bench->started.tv_sec) +
                     (double)(now.tv_nsec - bench->started.tv_nsec) / 1e9;
    bench->mean_rss = sample_count > 0 ? (double)sample_sum / (double)sample_count
                                       : (double)bench_rss();
}

void bench_report_rss(const struct bench *bench, uint64_t operations, uint64_t peak_rss,
                      uint64_t final_rss, uint64_t mean_rss) {
    printf("{\"name\": \"%s\", \"ops\": %lu, \"seconds\": %.6f, \"ops_per_second\": %.0f, "
           "\"peak_rss\": %lu, \"final_rss\": %lu, \"mean_rss\": %lu}\n",
           bench->name, operations, bench->seconds, (double)operations / bench->seconds, peak_rss,
           final_rss, mean_rss);
    if (fflush(stdout) != 0) bench_fail("cannot write the result");
}

void bench_report(const struct bench *bench, uint64_t operations) {
    uint64_t final_rss = bench_rss();
    bench_report_rss(bench, operations, bench_peak_rss(), final_rss, (uint64_t)bench->mean_rss);
}

/* ------------------------------------------------------------------ sizes -------------------- */

static double random_fraction(uint64_t *random) {
    return (double)(bench_random(random) >> 11) / 9007199254740992.0;
}

static uint32_t clamp(double size, uint32_t least, uint32_t most) {
    return size < least ? least : size > most ? most : (uint32_t)size;
}

void bench_sizes_inverse_square(struct bench_sizes *sizes, uint64_t *random, uint32_t least,
                                uint32_t most) {
    /* The inverse of the distribution function of c / x^2 on [least, most + 1). */
    double low = 1.0 / least, high = 1.0 / ((double)most + 1);
    for (size_t i = 0; i < BENCH_SIZES; i++)
        sizes->at[i] = clamp(1.0 / (low - random_fraction(random) * (low - high)), least, most);
}

void bench_sizes_log_uniform(struct bench_sizes *sizes, uint64_t *random, uint32_t least,
                             uint32_t most) {
    double low = log(least), high = log((double)most + 1);
    for (size_t i = 0; i < BENCH_SIZES; i++)
        sizes->at[i] = clamp(exp(low + random_fraction(random) * (high - low)), least, most);
}
