/*
 * sample.c - resident memory of a process and its descendants, by looking.
 *
 *     /proc/PID/statm                  resident pages of each process in the list
 *     /proc/PID/task/TID/children      the list: children of every thread, recursively
 *
 *     bytes  |        ____ last sample: final
 *            |   ____|    |            a sample holds until the next one;
 *            |__|         |            mean = area / time
 *            +----------------- time
 *
 * Pages that processes share are counted once for each. What happens between two samples is not
 * seen, so the caller takes the kernel's own peak of the largest process where that is more. A
 * process whose parent has ended is no longer found.
 *
 * Looking must not slow what is measured: statm takes no lock of the process, and listing, which
 * reads a file for every thread, is done at most for LIST_SHARE of the time.
 */
#include "run/sample.h"

#include "frame/frame.h"

#include <dirent.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LIST_SHARE 0.02

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int64_t resident_bytes(pid_t pid) {
    char path[64];
    long long pages = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0; /* it has ended */
    if (fscanf(file, "%*s %lld", &pages) != 1) pages = 0;
    fclose(file);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static void add_pid(struct sampler *sampler, pid_t pid) {
    if (sampler->count == sampler->room) {
        sampler->room = sampler->room * 2 + 8;
        sampler->pids = tool_grow(sampler->pids, sampler->room, sizeof(pid_t));
    }
    sampler->pids[sampler->count++] = pid;
}

static void add_children_of_thread(struct sampler *sampler, pid_t pid, const char *thread) {
    char path[64 + 256];
    int child;
    snprintf(path, sizeof(path), "/proc/%d/task/%s/children", (int)pid, thread);
    FILE *file = fopen(path, "re");
    if (file == NULL) return;
    while (fscanf(file, "%d", &child) == 1) add_pid(sampler, child);
    fclose(file);
}

static void add_children(struct sampler *sampler, pid_t pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    if (threads == NULL) return;
    for (struct dirent *entry = readdir(threads); entry != NULL; entry = readdir(threads))
        if (entry->d_name[0] != '.') add_children_of_thread(sampler, pid, entry->d_name);
    closedir(threads);
}

static void list_processes(struct sampler *sampler) {
    double start = now();
    sampler->count = 0;
    add_pid(sampler, sampler->root);
    for (size_t i = 0; i < sampler->count; i++) add_children(sampler, sampler->pids[i]);
    double end = now();
    sampler->list_at = end + (end - start) / LIST_SHARE;
}

/* The last sample holds until `time`. */
static void hold_until(struct sampler *sampler, double time) {
    sampler->byte_seconds += (double)sampler->last_bytes * (time - sampler->last_at);
    sampler->last_at = time;
}

/* A kernel may be built without the lists of children (CONFIG_PROC_CHILDREN). */
static void warn_without_lists(void) {
    static bool looked;
    char path[64];
    if (looked) return;
    looked = true;
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    if (access(path, R_OK) != 0)
        tool_warn("this kernel does not list the children of a process; mean and final RSS are of "
                  "the first process of the command only");
}

void sampler_init(struct sampler *sampler, pid_t root) {
    warn_without_lists();
    *sampler = (struct sampler){.root = root};
}

void sampler_take(struct sampler *sampler) {
    double time = now();
    int64_t sum = 0;
    if (time >= sampler->list_at) list_processes(sampler);
    for (size_t i = 0; i < sampler->count; i++) sum += resident_bytes(sampler->pids[i]);
    if (sum == 0) return; /* nothing is left but the exit status */
    if (sampler->last_bytes == 0) {
        sampler->first_at = sampler->last_at = time;
    } else {
        hold_until(sampler, time);
    }
    sampler->last_bytes = sum;
    if (sum > sampler->peak_bytes) sampler->peak_bytes = sum;
}

struct sampled sampler_fini(struct sampler *sampler) {
    if (sampler->last_bytes != 0) hold_until(sampler, now());
    double seconds = sampler->last_at - sampler->first_at;
    double mean = seconds > 0 ? sampler->byte_seconds / seconds : (double)sampler->last_bytes;
    free(sampler->pids);
    return (struct sampled){sampler->peak_bytes, sampler->last_bytes, (int64_t)mean};
}
