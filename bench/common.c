/*
 * common.c - arguments, clock, memory samples and the report of the benchmark programs.
 *
 * One timer signal every 10 ms reads /proc/self/statm through a descriptor that stays open, and
 * at most every 250 ms counts the lines of /proc/self/maps. Only async-signal-safe calls are used
 * there, and nothing allocates. The handler may run in any thread; `sampler.busy` belongs to the
 * one that set it, and who finds it set leaves the sample out. bench_stop keeps it.
 */
#include "common.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

enum { SAMPLE_MICROSECONDS = 10000, MAPPINGS_NANOSECONDS = 250000000 };

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
    {"duration", 'd', "SECONDS", 0, "How long to run, where the program goes by time", 0},
    {"count", 'n', "N", 0, "One number of things, where the program has several", 0},
    {"list", 'l', NULL, 0, "Also list what was found remarkable, on stderr", 0},
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
        if (bench->threads < 1 || bench->threads > BENCH_THREADS_MAX)
            argp_error(state, "1 to 256 threads");
        bench->threads_asked = bench->threads;
        return 0;
    case 'd':
        bench->duration = strtod(arg, NULL);
        if (!(bench->duration > 0)) argp_error(state, "the duration must be above 0");
        return 0;
    case 'n':
        bench->count = strtoull(arg, NULL, 10);
        if (bench->count == 0) argp_error(state, "the count must be above 0");
        return 0;
    case 'l':
        bench->list = true;
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
        static char first[sizeof(bench->name) / 2];
        snprintf(first, sizeof(first), "%.*s", (int)strcspn(modes, " "), modes);
        bench->mode = first;
    }
    snprintf(bench->name, sizeof(bench->name), "%s%s%s", name, bench->mode != NULL ? "-" : "",
             bench->mode != NULL ? bench->mode : "");
}

uint64_t bench_scaled(const struct bench *bench, uint64_t count) {
    double scaled = (double)count * bench->scale;
    return scaled < 1 ? 1 : (uint64_t)scaled;
}

/* ------------------------------------------------------------------ memory ------------------- */

static struct {
    atomic_flag busy;
    int statm, maps; /* descriptors */
    struct proc_mean rss;
    struct proc_pace pace; /* of counting mappings */
    uint64_t mappings;     /* the most */
    uint64_t peak_rss;     /* the most before the last reset */
} sampler = {.busy = ATOMIC_FLAG_INIT, .statm = -1, .maps = -1};

static int open_proc(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) bench_fail(path);
    return fd;
}

uint64_t bench_rss(void) {
    uint64_t rss;
    if (sampler.statm < 0) sampler.statm = open_proc("/proc/self/statm");
    if (!proc_read_rss(sampler.statm, &rss)) bench_fail("cannot read /proc/self/statm");
    return rss;
}

static struct proc_memory measure_self(void) {
    struct proc_memory memory;
    if (!proc_measure_self(&memory)) bench_fail("cannot read /proc/self");
    return memory;
}

uint64_t bench_peak_rss(void) {
    return measure_self().peak_rss;
}

void bench_reset_peak_rss(void) {
    uint64_t peak = bench_peak_rss();
    if (peak > sampler.peak_rss) sampler.peak_rss = peak;
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "5", 1) != 1) bench_fail("cannot reset the peak of resident memory");
    close(fd);
}

static void count_mappings(void) {
    uint64_t began = proc_now(), count = proc_count_mappings(sampler.maps);
    proc_pace_done(&sampler.pace, began, proc_now());
    if (count > sampler.mappings) sampler.mappings = count;
}

/* With `busy` held. */
static void take_sample(void) {
    uint64_t rss, now = proc_now();
    if (proc_read_rss(sampler.statm, &rss)) proc_mean_add(&sampler.rss, now, rss);
    if (proc_pace_due(&sampler.pace, now)) count_mappings();
}

static void handle_timer(int signal_number) {
    int saved = errno;
    (void)signal_number;
    if (!atomic_flag_test_and_set_explicit(&sampler.busy, memory_order_acquire)) {
        take_sample();
        atomic_flag_clear_explicit(&sampler.busy, memory_order_release);
    }
    errno = saved;
}

static void set_timer(long microseconds) {
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    if (setitimer(ITIMER_REAL, &timer, NULL) != 0) bench_fail("setitimer");
}

/* ------------------------------------------------------------------ clock and report --------- */

void bench_start(struct bench *bench) {
    struct sigaction action = {.sa_handler = handle_timer, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    sampler.maps = open_proc("/proc/self/maps");
    uint64_t rss = bench_rss();
    bench->started = proc_now();
    proc_mean_add(&sampler.rss, bench->started, rss);
    sampler.pace = (struct proc_pace){MAPPINGS_NANOSECONDS, bench->started + MAPPINGS_NANOSECONDS};
    set_timer(SAMPLE_MICROSECONDS);
}

void bench_stop(struct bench *bench) {
    bench->seconds = (double)(proc_now() - bench->started) / 1e9;
    set_timer(0);
    while (atomic_flag_test_and_set_explicit(&sampler.busy, memory_order_acquire)) {
    }
    sampler.pace.next = 0;
    take_sample();
    bench->mean_rss = proc_mean_value(&sampler.rss);
    bench->mappings = sampler.mappings;
}

static void add_extra(struct bench *bench, const char *format, va_list arguments) {
    size_t length = strlen(bench->extra), space = sizeof(bench->extra) - length;
    int added = vsnprintf(bench->extra + length, space, format, arguments);
    if (added < 0 || (size_t)added >= space) bench_fail("the report has become too long");
}

static __attribute__((format(printf, 2, 3))) void add_text(struct bench *bench, const char *format,
                                                           ...) {
    va_list arguments;
    va_start(arguments, format);
    add_extra(bench, format, arguments);
    va_end(arguments);
}

static void end_points(struct bench *bench) {
    if (bench->in_points) add_text(bench, "]");
    bench->in_points = false;
}

void bench_add_figure(struct bench *bench, const char *key, double value) {
    end_points(bench);
    add_text(bench, ", \"%s\": %.9g", key, value);
}

void bench_add_point(struct bench *bench, const char *format, ...) {
    va_list arguments;
    add_text(bench, bench->in_points ? ", {" : ", \"points\": [{");
    va_start(arguments, format);
    add_extra(bench, format, arguments);
    va_end(arguments);
    add_text(bench, "}");
    bench->in_points = true;
}

void bench_report_memory(struct bench *bench, uint64_t operations,
                         const struct proc_memory *memory) {
    end_points(bench);
    printf("{\"name\": \"%s\", \"ops\": %lu, \"seconds\": %.6f, \"ops_per_second\": %.0f, "
           "\"peak_rss\": %lu, \"final_rss\": %lu, \"mean_rss\": %lu, \"minor_faults\": %lu, "
           "\"major_faults\": %lu, \"mappings\": %lu%s}\n",
           bench->name, operations, bench->seconds, (double)operations / bench->seconds,
           memory->peak_rss, memory->final_rss, memory->mean_rss, memory->minor_faults,
           memory->major_faults, memory->mappings, bench->extra);
    if (fflush(stdout) != 0) bench_fail("cannot write the result");
}

void bench_report(struct bench *bench, uint64_t operations) {
    struct proc_memory memory = measure_self();
    memory.mean_rss = bench->mean_rss;
    if (memory.peak_rss < sampler.peak_rss) memory.peak_rss = sampler.peak_rss;
    if (memory.mappings < bench->mappings) memory.mappings = bench->mappings;
    bench_report_memory(bench, operations, &memory);
}

/* ------------------------------------------------------------------ parts of programs -------- */

void bench_use_lightly(double seconds, uint64_t *random) {
    uint64_t end = proc_now() + (uint64_t)(seconds * 1e9);
    for (uint32_t i = 0; proc_now() < end; i++) {
        uint32_t size = 16 + (uint32_t)bench_random_below(random, 2000);
        struct bench_block block = bench_allocate(size, i);
        usleep(1000);
        bench_check_and_free(&block);
    }
}

void bench_start_threads(struct bench_threads *threads, unsigned count, void *(*work)(void *),
                         void *arguments, size_t argument_bytes) {
    if (count > BENCH_THREADS_MAX) bench_fail("too many threads");
    for (unsigned t = 0; t < count; t++)
        if (pthread_create(&threads->at[t], NULL, work, (char *)arguments + t * argument_bytes) !=
            0)
            bench_fail("no thread");
    threads->count = count;
}

void bench_join_threads(const struct bench_threads *threads) {
    for (unsigned t = 0; t < threads->count; t++) pthread_join(threads->at[t], NULL);
}

void bench_run_threads(unsigned count, void *(*work)(void *), void *arguments,
                       size_t argument_bytes) {
    struct bench_threads threads;
    bench_start_threads(&threads, count, work, arguments, argument_bytes);
    bench_join_threads(&threads);
}

void *bench_map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) bench_fail("no memory");
    return at;
}
