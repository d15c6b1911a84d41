/*
 * startup.c - how long a tiny process takes from its start to its end.
 *
 * bench_tiny, beside this program, is started over and over, each time by vfork and execve, and
 * waited for; parent and child take turns on one processor, so that nothing moves between
 * processors and no caches are cold for that. What disturbs a start only makes it longer, so the
 * shortest counts: "seconds" in the report is the shortest time by the clock, times the number of
 * processes. Medians are there too, and the processor time (user and system) of a process. Memory
 * in the report is that of the child. It is asked for in processes of their own, which are not
 * timed.
 *
 * In turn with these, the same program is started on the C library's malloc ("plain"), and with a
 * library preloaded that is empty ("empty"): what the loader takes for any library at all, and no
 * allocator that is preloaded can go below.
 */
#include "common.h"
#include "tiny.h"

#include <limits.h>
#include <sched.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 1000, WARM_UP = 20, REPORTS = 5 };

extern char **environ;

enum start { AS_IS, PLAIN, EMPTY, STARTS };

static char program[PATH_MAX];
static char **environments[STARTS];

static void find_program(void) {
    ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
    char *slash = length > 0 ? memrchr(program, '/', (size_t)length) : NULL;
    if (slash == NULL || slash + sizeof(TINY_PROGRAM) >= program + sizeof(program))
        bench_fail("cannot find " TINY_PROGRAM);
    strcpy(slash + 1, TINY_PROGRAM);
    if (access(program, X_OK) != 0) bench_fail(TINY_PROGRAM " is not beside bench_startup");
}

/* A copy of the environment with LD_PRELOAD as told; NULL: without. */
static char **environment_with(char *preload) {
    size_t count = 0, kept = 0;
    while (environ[count] != NULL) count++;
    char **copy = bench_map((count + 2) * sizeof(*copy));
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], "LD_PRELOAD=", 11) != 0) copy[kept++] = environ[i];
    }
    if (preload != NULL) copy[kept++] = preload;
    return copy; /* bench_map's memory is zero: the end is there */
}

static void make_environments(void) {
    static char preload[PATH_MAX + sizeof(EMPTY_LIBRARY)] = "LD_PRELOAD=";
    char *path = preload + strlen(preload);
    memcpy(path, program, strlen(program) - strlen(TINY_PROGRAM));
    strcat(path, EMPTY_LIBRARY);
    if (access(path, R_OK) != 0) bench_fail(EMPTY_LIBRARY " is not beside bench_startup");
    environments[AS_IS] = environ;
    environments[PLAIN] = environment_with(NULL);
    environments[EMPTY] = environment_with(preload);
}

static void stay_on_one_processor(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)sched_getcpu(), &set);
    if (sched_setaffinity(0, sizeof(set), &set) != 0) bench_fail("sched_setaffinity");
}

static double seconds_of(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

/* Returns the processor time of the child in seconds. */
static double run_child(enum start start, const posix_spawn_file_actions_t *actions,
                        char *argument) {
    char *arguments[] = {program, argument, NULL};
    struct rusage used;
    pid_t pid;
    int status;
    if (posix_spawn(&pid, program, actions, NULL, arguments, environments[start]) != 0)
        bench_fail("cannot start a process");
    if (wait4(pid, &status, 0, &used) != pid || status != 0) bench_fail("a child failed");
    return seconds_of(used.ru_utime) + seconds_of(used.ru_stime);
}

static void ask_child(const posix_spawn_file_actions_t *actions, int from_child,
                      struct proc_memory *memory) {
    char report[] = TINY_REPORT;
    run_child(AS_IS, actions, report);
    if (read(from_child, memory, sizeof(*memory)) != sizeof(*memory))
        bench_fail("a child said nothing");
}

/* The report of the one among several whose peak is the median. */
static struct proc_memory measure_memory(void) {
    struct proc_memory memory[REPORTS];
    posix_spawn_file_actions_t actions;
    int ends[2];
    if (pipe(ends) != 0) bench_fail("no pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], TINY_PIPE);
    for (int i = 0; i < REPORTS; i++) {
        int at = i;
        struct proc_memory new;
        ask_child(&actions, ends[0], &new);
        for (; at > 0 && memory[at - 1].peak_rss > new.peak_rss; at--) memory[at] = memory[at - 1];
        memory[at] = new;
    }
    posix_spawn_file_actions_destroy(&actions);
    close(ends[0]);
    close(ends[1]);
    return memory[REPORTS / 2];
}

static int compare(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

static void add_figures(struct bench *bench, const char *shortest, const char *median,
                        double *seconds, size_t count) {
    qsort(seconds, count, sizeof(*seconds), compare);
    bench_add_figure(bench, shortest, seconds[0] * 1e6);
    bench_add_figure(bench, median, seconds[count / 2] * 1e6);
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "startup", NULL, argc, argv);
    size_t processes = bench_scaled(&bench, PROCESSES);
    double *wall[STARTS], *cpu = bench_map(processes * sizeof(*cpu));
    for (int s = 0; s < STARTS; s++) wall[s] = bench_map(processes * sizeof(**wall));
    find_program();
    make_environments();
    stay_on_one_processor();
    for (int i = 0; i < WARM_UP; i++) run_child((enum start)(i % STARTS), NULL, NULL);

    for (size_t i = 0; i < processes; i++) {
        for (int s = STARTS - 1; s >= AS_IS; s--) { /* `cpu` keeps that of AS_IS, the last */
            uint64_t began = proc_now();
            cpu[i] = run_child((enum start)s, NULL, NULL);
            wall[s][i] = (double)(proc_now() - began) / 1e9;
        }
    }
    struct proc_memory memory = measure_memory();
    add_figures(&bench, "wall_min_us", "wall_median_us", wall[AS_IS], processes);
    add_figures(&bench, "plain_min_us", "plain_median_us", wall[PLAIN], processes);
    add_figures(&bench, "empty_min_us", "empty_median_us", wall[EMPTY], processes);
    add_figures(&bench, "cpu_min_us", "cpu_median_us", cpu, processes);
    bench.seconds = wall[AS_IS][0] * (double)processes;
    bench_report_memory(&bench, processes, &memory);
    return 0;
}
