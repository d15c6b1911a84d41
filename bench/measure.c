/*
 * measure.c - runs a program and writes what it used to a file.
 *
 *     measure FILE COMMAND [ARGUMENT...]
 *     measure FILE --server PORT|FILE -- SERVER [ARGUMENT...] -- CLIENT [ARGUMENT...]
 *
 * The first form measures the command and its descendants. Every 10 ms their resident memory is
 * added up; the final figure is the last such sum. The peak is the kernel's, or the greatest sum if
 * that is more; the number of mappings is the most that any one process was seen to have, 0 if
 * there was no time to look. The second form is explained in serve.c.
 *
 * The kernel's figure for the peak of a process includes the time before execve, when it still was
 * a copy of its parent. From a driver in Python that is more than many a program ever needs. This
 * parent is small: linked statically, it never allocates. Exit status: that of the command, 128 + N
 * after signal N, 127 if it was not started, 125 if it could not be measured.
 */
#include "measure.h"
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int measure_say(const char *what, const char *detail) {
    dprintf(STDERR_FILENO, "measure: %s: %s\n", what, detail);
    return MEASURE_FAILED;
}

static double seconds_of(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

void measure_take_usage(struct measure_result *result, const struct rusage *used) {
    result->cpu_seconds = seconds_of(used->ru_utime) + seconds_of(used->ru_stime);
    result->memory.peak_rss = (uint64_t)used->ru_maxrss * 1024;
    result->memory.minor_faults = (uint64_t)used->ru_minflt;
    result->memory.major_faults = (uint64_t)used->ru_majflt;
}

/* Returns the exit status of the command. */
static int measure_command(char **arguments, struct measure_result *result) {
    static struct tree tree;
    struct child child;
    uint64_t began = proc_now();
    if (!child_start(&child, arguments, CHILD_COMMAND)) return MEASURE_FAILED;
    if (!tree_init(&tree, child.pid)) {
        child_stop(&child);
        return measure_say("cannot watch the command", "/proc does not tell of it");
    }
    for (child_tick(); !child_ended(&child); child_tick()) tree_sample(&tree);
    result->seconds = (double)(proc_now() - began) / 1e9;
    measure_take_usage(result, &child.used);
    struct proc_memory *memory = &result->memory;
    if (memory->peak_rss < tree.peak_rss) memory->peak_rss = tree.peak_rss;
    /* Without a sample, the command took less than 10 ms, and its peak tells enough. */
    memory->final_rss = tree.last_rss != 0 ? tree.last_rss : memory->peak_rss;
    memory->mean_rss = tree.mean.count != 0 ? proc_mean_value(&tree.mean) : memory->peak_rss;
    memory->mappings = tree.mappings;
    tree_fini(&tree);
    if (tree.full) return measure_say("the command", "has too many processes to watch");
    return child_exit_status(&child);
}

/* The arguments after the next "--", which is made the end of those before it; NULL if either part
 * is empty or there is no "--". */
static char **split(char **arguments) {
    for (char **at = arguments; *at != NULL; at++)
        if (strcmp(*at, "--") == 0) {
            *at = NULL;
            return *arguments != NULL && at[1] != NULL ? at + 1 : NULL;
        }
    return NULL;
}

static int write_result(const char *path, const struct measure_result *result) {
    const struct proc_memory *memory = &result->memory;
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0 ||
        dprintf(file,
                "{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"peak_rss\": %lu, "
                "\"final_rss\": %lu, \"mean_rss\": %lu, \"minor_faults\": %lu, "
                "\"major_faults\": %lu, \"mappings\": %lu}\n",
                result->seconds, result->cpu_seconds, memory->peak_rss, memory->final_rss,
                memory->mean_rss, memory->minor_faults, memory->major_faults, memory->mappings) < 0)
        return measure_say(path, strerror(errno));
    return 0;
}

int main(int argc, char **argv) {
    struct measure_result result = {0};
    char **server = NULL, **client = NULL;
    bool serves = argc > 2 && strcmp(argv[2], "--server") == 0;
    if (serves && argc > 5 && strcmp(argv[4], "--") == 0) {
        server = argv + 5;
        client = split(server);
    }
    if (argc < 3 || (serves && client == NULL))
        return measure_say("usage", "measure FILE COMMAND [ARGUMENT...], or "
                                    "measure FILE --server PORT|FILE -- SERVER... -- CLIENT...");
    child_init();
    int status = serves ? serve_measure(argv[3], server, client, &result)
                        : measure_command(argv + 2, &result);
    if (serves && status != 0) return status;
    int written = write_result(argv[1], &result);
    return written != 0 ? written : status;
}
