/*
 * syscalls.c - all system calls of a command, counted by strace(1) in a run of its own.
 *
 *     strace -f -c -o FILE -E LD_PRELOAD=... -- COMMAND...
 *
 *     % time     seconds  usecs/call     calls    errors syscall
 *     ------ ----------- ----------- --------- --------- ----------------
 *      62.03    0.000232           9        24           mmap
 *       5.35    0.000020           5         4         2 openat
 *     ------ ----------- ----------- --------- --------- ----------------
 *     100.00    0.000374           7        51         2 total
 *
 * (`lucid run --syscalls` counts only the calls for memory, and does so itself: child_calls.c.) The
 * allocator is put under the command and not under strace. strace passes on how the command ended.
 */
#include "run/run.h"

#include "frame/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STRACE "strace"

void syscalls_require(const char *option) {
    tool_need_program(STRACE, "strace", option);
}

/* strace's arguments with the command behind them; the caller frees the array. */
static char **strace_command(char *const *command, char *path, char *environment) {
    char *head[] = {STRACE, "-f", "-c", "-o", path, "-E", environment, "--"};
    size_t count = 0;
    while (command[count] != NULL) count++;
    char **argv = tool_alloc(TOOL_COUNT_OF(head) + count + 1, sizeof(char *));
    memcpy(argv, head, sizeof(head));
    memcpy(argv + TOOL_COUNT_OF(head), command, count * sizeof(char *));
    return argv;
}

static void add_count(struct syscall_counts *counts, const char *name, uint64_t calls) {
    counts->at = tool_grow(counts->at, counts->count + 1, sizeof(counts->at[0]));
    struct syscall_count *added = &counts->at[counts->count++];
    snprintf(added->name, sizeof(added->name), "%s", name);
    added->calls = calls;
    counts->total += calls;
}

/* The number of calls is the fourth word of a line, the name the last; the number of errors may
 * stand between them. Lines of the frame have no number there. */
static void read_line(struct syscall_counts *counts, const char *line) {
    unsigned long long calls;
    char first[32], second[32];
    int words = sscanf(line, "%*f %*f %*u %llu %31s %31s", &calls, first, second);
    const char *name = words == 3 ? second : first;
    if (words >= 2 && strcmp(name, "total") != 0) add_count(counts, name, calls);
}

static int by_calls(const void *a, const void *b) {
    const struct syscall_count *x = a, *y = b;
    if (x->calls != y->calls) return x->calls < y->calls ? 1 : -1;
    return strcmp(x->name, y->name);
}

static void read_counts(struct syscall_counts *counts, const char *path) {
    char line[256];
    FILE *file = fopen(path, "re");
    if (file == NULL) tool_die("cannot read %s: %s", path, strerror(errno));
    while (fgets(line, sizeof(line), file) != NULL) read_line(counts, line);
    fclose(file);
    qsort(counts->at, counts->count, sizeof(counts->at[0]), by_calls);
}

static char *make_file(void) {
    const char *directory = getenv("TMPDIR");
    bool given = directory != NULL && directory[0] != '\0';
    char *path = tool_format("%s/lucid-strace-XXXXXX", given ? directory : "/tmp");
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) tool_die("cannot make %s: %s", path, strerror(errno));
    close(fd);
    return path;
}

void syscalls_count(char *const *command, const struct allocator *allocator,
                    struct child_result *result, struct syscall_counts *counts) {
    *counts = (struct syscall_counts){NULL, 0, 0};
    char *path = make_file();
    char *preload = child_preload(allocator);
    char *environment = tool_format("LD_PRELOAD=%s", preload);
    char **argv = strace_command(command, path, environment);
    struct child_plan plan = {.argv = argv, .quiet = true, .repeated = true};
    child_run(&plan, result);
    read_counts(counts, path);
    unlink(path);
    if (result->start_error != 0)
        tool_die("cannot run %s: %s", STRACE, strerror(result->start_error));
    if (counts->count == 0 && result->signal == 0)
        tool_die("strace counted nothing (exit status %d); may programs be traced here?",
                 result->exit_status);
    free(argv);
    free(environment);
    free(preload);
    free(path);
}

void syscalls_fini(struct syscall_counts *counts) {
    free(counts->at);
    *counts = (struct syscall_counts){NULL, 0, 0};
}
