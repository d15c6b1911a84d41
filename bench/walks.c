/*
 * walks.c - calls whose cost must not grow with what the heap holds, and for how long others wait.
 *
 * An allocator that looks at all runs, spans, threads or caches in one call, or under a lock, is
 * quick in every benchmark with a small heap. Each row here makes 1,000 of something, then 100,000
 * or a million, and reports for each number the longest single call:
 *
 *     free-young      free of a run beside n free runs of the same size, half of them old
 *     large-malloc    malloc and free of 1.06 MiB with n free runs of 1 MiB
 *     huge-malloc     malloc of blocks with a mapping of their own, until there are n; and then
 *     huge-free       free of these
 *     heap-destroy    lu_heap_destroy with n such blocks
 *     fork            all that a child does until it has allocated, forked with n runs
 *     stats-beside    another thread that needs runs, while mallinfo2 looks at n spans
 *     trim-beside     the same, while malloc_trim gives back pages of its n spans
 *     remote-refill   malloc, after another thread has freed the blocks of n spans of this one
 *     sweep           light use, while pages of n half free spans may go back
 *     stale-list      free of a block with a word copied from one of n free blocks of its span
 *     thread-start    the first malloc of a thread, after n threads at once have come and gone
 *     thread-exit     the end of such a thread
 *     pool-tick       malloc and free of runs meanwhile
 *     stale-heaps     as stale-list, with the heaps of n threads
 *     cache-create    lu_cache_create with n caches
 *     cache-destroy   lu_cache_destroy of the oldest of n
 *     cache-fork      fork with n caches
 *     limit           pairs of free and malloc in a heap of half free spans, when so many
 *                     thousandths of its limit are held
 *
 * Each number has a process of its own, which this one starts, so each begins with a new heap:
 *
 *     bench_walks ROW  --pipe, fork, exec-->  bench_walks -n COUNT ROW  --"calls longest ..."-->
 *
 * Numbers are multiplied by the scale. What takes more than GIVE_UP seconds is ended, and its
 * longest call reported as having taken all that time.
 */
#include "walks.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { COUNTS = 4, GIVE_UP = 60, LINE = 256, COUNT_LEAST = 10, STALE_TIMES = 1000 };
#define MEASURE_NANOSECONDS 1200000000u

/* The last of the counts is for lucid alone, which needs no memory for what is not touched. */
struct row {
    const char *name;
    void (*run)(struct walk *walk);
    uint64_t counts[COUNTS];
    bool fixed; /* the counts are not scaled */
};

static const struct row rows[] = {
    {"free-young", walk_free_young, {1000, 100000, 0, 1000000}, false},
    {"large-malloc", walk_large_malloc, {1000, 100000, 0, 0}, false},
    {"huge-malloc", walk_huge_malloc, {1000, 100000, 0, 0}, false},
    {"huge-free", walk_huge_free, {1000, 100000, 0, 0}, false},
    {"heap-destroy", walk_heap_destroy, {1000, 100000, 0, 0}, false},
    {"fork", walk_fork, {1000, 100000, 0, 1000000}, false},
    {"stats-beside", walk_stats_beside, {1000, 10000, 0, 30000}, false},
    {"trim-beside", walk_trim_beside, {1000, 10000, 0, 30000}, false},
    {"remote-refill", walk_remote_refill, {1000, 100000, 0, 0}, false},
    {"sweep", walk_sweep, {1000, 10000, 0, 30000}, false},
    {"stale-list", walk_stale_list, {1000, 8000, 0, 0}, false},
    {"thread-start", walk_thread_start, {1000, 10000, 0, 0}, false},
    {"thread-exit", walk_thread_exit, {1000, 10000, 0, 0}, false},
    {"pool-tick", walk_pool_tick, {1000, 10000, 0, 0}, false},
    {"stale-heaps", walk_stale_heaps, {1000, 10000, 0, 0}, false},
    {"cache-create", walk_cache_create, {1000, 100000, 0, 1000000}, false},
    {"cache-destroy", walk_cache_destroy, {1000, 100000, 0, 1000000}, false},
    {"cache-fork", walk_cache_fork, {1000, 100000, 0, 0}, false},
    {"limit", walk_limit, {1, 886, 950, 999}, true},
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

/* ------------------------------------------------------------------ one call ----------------- */

static double ns_of(const struct walk *walk, uint64_t ticks) {
    return (double)ticks / walk->clock.ticks_per_ns;
}

void walk_begin(struct walk *walk) {
    walk->began = watch_ticks();
    if (walk->window != 0 && ns_of(walk, walk->began - walk->window) < WATCH_LOOK) return;
    watch_begin(&walk->watch);
    walk->window = walk->began = watch_ticks();
}

static struct watch_verdict end(struct walk *walk) {
    uint64_t ticks = watch_ticks() - walk->began;
    ticks = ticks > walk->clock.overhead ? ticks - walk->clock.overhead : 0;
    uint64_t wall = (uint64_t)ns_of(walk, ticks);
    if (wall < WATCH_LOOK) return (struct watch_verdict){.wall = wall, .own = wall};
    struct watch_verdict verdict = watch_judge(&walk->watch, wall);
    walk->window = watch_ticks();
    return verdict;
}

void walk_add(struct walk *walk, uint64_t nanoseconds) {
    walk->calls++;
    walk->sum += nanoseconds;
    if (nanoseconds > walk->longest) walk->longest = nanoseconds;
}

void walk_end(struct walk *walk) {
    walk_add(walk, end(walk).own);
}

void walk_end_waiting(struct walk *walk) {
    struct watch_verdict verdict = end(walk);
    walk_add(walk, verdict.own + verdict.slept);
}

void walk_merge(struct walk *into, const struct walk *from) {
    into->calls += from->calls;
    into->sum += from->sum;
    if (from->longest > into->longest) into->longest = from->longest;
}

bool walk_goes_on(struct walk *walk) {
    uint64_t now = proc_now();
    if (walk->deadline == 0) walk->deadline = now + MEASURE_NANOSECONDS;
    return now < walk->deadline;
}

uint64_t walk_cpu(void) {
    struct timespec cpu;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu);
    return (uint64_t)cpu.tv_sec * 1000000000 + (uint64_t)cpu.tv_nsec;
}

/* ------------------------------------------------------------------ things ------------------- */

void *walk_find(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

void *walk_malloc(size_t size, bool touch) {
    char *block = malloc(size);
    if (block == NULL) bench_fail("no memory");
    if (touch) block[0] = 1;
    bench_escape(block);
    return block;
}

void walk_pair(struct walk *walk, size_t size) {
    walk_begin(walk);
    void *block = walk_malloc(size, false);
    walk_end(walk);
    walk_begin(walk);
    free(block);
    walk_end(walk);
}

void walk_free_stale(struct walk *walk, void *block, const void *freed, size_t size) {
    void *word;
    for (int i = 0; i < STALE_TIMES && walk_goes_on(walk); i++) {
        bench_escape(freed);
        memcpy(&word, freed, sizeof(word));
        memcpy(block, &word, sizeof(word));
        walk_begin(walk);
        free(block);
        walk_end(walk);
        block = walk_malloc(size, false);
    }
}

void **walk_table(uint64_t count) {
    return bench_map(count * sizeof(void *));
}

/* ------------------------------------------------------------------ processes ---------------- */

static const struct row *row_of(const char *name) {
    const struct row *row = rows;
    while (strcmp(row->name, name) != 0) row++;
    return row;
}

static int measure(const struct row *row, struct bench *bench) {
    static struct walk walk;
    walk.count = bench->count;
    walk.clock = watch_calibrate();
    row->run(&walk);
    printf("%lu calls, longest %lu ns, sum %lu ns, %lu per second\n", walk.calls, walk.longest,
           walk.sum, walk.rate);
    return fflush(stdout) == 0 ? 0 : 1;
}

static pid_t start(const char *name, uint64_t count, int *output) {
    char number[32];
    int ends[2];
    snprintf(number, sizeof(number), "%lu", count);
    if (pipe2(ends, O_CLOEXEC) != 0) bench_fail("no pipe");
    pid_t child = fork();
    if (child < 0) bench_fail("no process");
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "bench_walks", "-n", number, name, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *output = ends[0];
    return child;
}

/* What the child printed, within the time; "" else. */
static void read_line(int output, char *line) {
    uint64_t began = proc_now(), length = 0;
    struct pollfd poll_for = {.fd = output, .events = POLLIN};
    for (;;) {
        int64_t left = GIVE_UP * 1000 - (int64_t)((proc_now() - began) / 1000000);
        if (left <= 0 || poll(&poll_for, 1, (int)left) == 0) break;
        ssize_t got = read(output, line + length, LINE - 1 - length);
        if (got == 0) {
            line[length] = '\0';
            return;
        }
        if (got > 0) length += (uint64_t)got;
    }
    line[0] = '\0';
}

/* Measure one number in a child and add the point; memory is the most of all children. */
static void measure_count(struct bench *bench, const struct row *row, uint64_t count,
                          struct proc_memory *memory) {
    char line[LINE];
    int output, status;
    struct rusage used;
    struct walk walk = {.longest = (uint64_t)GIVE_UP * 1000000000};
    pid_t child = start(row->name, count, &output);
    read_line(output, line);
    bool late = line[0] == '\0';
    if (late) kill(child, SIGKILL);
    if (wait4(child, &status, 0, &used) != child || (status != 0 && !WIFSIGNALED(status)))
        bench_fail("a measuring process failed");
    if (WIFSIGNALED(status) && WTERMSIG(status) != SIGKILL)
        bench_fail("a measuring process was ended by a signal");
    close(output);
    if (!late && sscanf(line, "%lu calls, longest %lu ns, sum %lu ns, %lu", &walk.calls,
                        &walk.longest, &walk.sum, &walk.rate) != 4)
        bench_fail("a measuring process printed something else");
    uint64_t peak = (uint64_t)used.ru_maxrss * 1024;
    if (peak > memory->peak_rss) memory->peak_rss = peak;
    memory->minor_faults += (uint64_t)used.ru_minflt;
    bench_add_point(bench,
                    "\"count\": %lu, \"calls\": %lu, \"longest\": %lu, \"mean\": %.0f, "
                    "\"rate\": %lu",
                    count, walk.calls, walk.longest,
                    walk.calls != 0 ? (double)walk.sum / (double)walk.calls : 0, walk.rate);
}

static uint64_t count_of(const struct bench *bench, const struct row *row, size_t i) {
    uint64_t count = row->counts[i];
    if (count == 0 || row->fixed) return count;
    if (i == COUNTS - 1 && walk_find("lu_version") == NULL) return 0;
    count = bench_scaled(bench, count);
    return count < COUNT_LEAST ? COUNT_LEAST : count;
}

int main(int argc, char **argv) {
    static char modes[ROWS * 20];
    struct bench bench;
    struct proc_memory memory = {0};
    for (size_t i = 0; i < ROWS; i++) {
        strcat(modes, rows[i].name);
        if (i + 1 < ROWS) strcat(modes, " ");
    }
    bench_init(&bench, "walks", modes, argc, argv);
    const struct row *row = row_of(bench.mode);
    if (bench.count != 0) return measure(row, &bench);
    uint64_t began = proc_now(), measured = 0;
    for (size_t i = 0; i < COUNTS; i++) {
        uint64_t count = count_of(&bench, row, i);
        if (count == 0) continue;
        measure_count(&bench, row, count, &memory);
        measured++;
    }
    bench.seconds = (double)(proc_now() - began) / 1e9;
    memory.final_rss = memory.mean_rss = memory.peak_rss;
    bench_report_memory(&bench, measured, &memory);
    return 0;
}
