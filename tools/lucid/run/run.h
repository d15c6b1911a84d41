/*
 * run.h - a program on an allocator: which allocators there are, running it and measuring it, its
 * system calls, and the parts of a report that every command has.
 */
#ifndef LUCID_RUN_H
#define LUCID_RUN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct output;

/* `lucid run`. */
int tool_run_main(int argc, char **argv);

/* ------------------------------------------------------------------ allocators --------------- */

/* What may be asked for, for messages and help. */
#define ALLOCATOR_NAMES                                                                        \
    "lucid, glibc, jemalloc, mimalloc, tcmalloc, tcmalloc_minimal, a classic one (kr, first, " \
    "next, best, best_tree, worst, buddy, slab, dl, pt), or NAME=PATH of a library to preload"

struct allocator {
    char *name;    /* as shown                                                  */
    char *library; /* to preload: an absolute path, or the C library's soname   */
};

/* A list of them that grows; zero is an empty one. */
struct allocator_list {
    struct allocator *at;
    size_t count;
};

/* Add the allocator that `spec` means: a known name, or NAME=PATH. Dies with a message for an
 * unknown name, a library that is not found or that is no shared object, and a name twice. */
void allocator_add(struct allocator_list *list, const char *spec);
/* As allocator_add for each part of a comma-separated list. */
void allocator_add_all(struct allocator_list *list, const char *specs);
/* A file of lucid's own, built beside the command or installed in lib/lucid; the caller frees. Dies
 * if it is not found. */
char *allocator_find_part(const char *file);
/* The library that records, to be preloaded in front of any other; the caller frees. Dies if it is
 * not found. */
char *allocator_find_recorder(void);
void allocator_list_fini(struct allocator_list *list);

/* ------------------------------------------------------------------ a run (child.c) ---------- */

struct child_plan {
    char *const *argv;                 /* the command, ended by NULL                           */
    const struct allocator *allocator; /* what runs under it; NULL: the environment stays      */
    const char *recorder;              /* library to preload in front of that, or NULL         */
    const char *record;                /* with it: LUCID_RECORD without the PID in front       */
    const char *lucid_options;         /* value for LUCID_OPTIONS, or NULL: as it is           */
    bool quiet;                        /* stdout and stderr to /dev/null                       */
    bool repeated;                     /* one of several runs: stdin is rewound if it is a
                                          file, and /dev/null otherwise                        */
    bool sampled;                      /* resident memory is looked at all the time            */
};

struct child_result {
    pid_t pid;
    int exit_status; /* as a shell gives it: 128 + N when signal N ended the child, 126 and 127
                        when it was not started                                                */
    int signal;      /* that ended it, or 0                                                    */
    int start_error; /* errno of execve when the command could not be started, or 0            */
    double wall_seconds, user_seconds, system_seconds; /* of the child and those it waited for */
    int64_t peak_rss_bytes; /* of the largest process; if sampled, of all together if that was
                               more                                                            */
    int64_t final_rss_bytes, mean_rss_bytes; /* of all processes, if sampled; 0: never seen    */
    int64_t minor_faults, major_faults;
};

/* What LD_PRELOAD must be for a program on `allocator`: the caller's own value is kept behind it.
 * The caller frees. */
char *child_preload(const struct allocator *allocator);

/* Run to the end, timed, with nothing in the child's way. */
void child_run(const struct child_plan *plan, struct child_result *result);

/* From the first to the second, keyboard signals are left to the child, and SIGTERM and SIGHUP
 * are passed on to it. */
void child_signals_begin(pid_t child);
void child_signals_end(void);

/* ------------------------------------------------------------------ system calls ------------- */

/* How often a command calls the kernel, as strace counts it. */
struct syscall_count {
    char name[32];
    uint64_t calls;
};

struct syscall_counts {
    struct syscall_count *at; /* most frequent first */
    size_t count;
    uint64_t total;
};

/* Dies with a message if there is no strace. */
void syscalls_require(const char *option);
/* Run the command once, untimed, with its threads and children; `result` tells how it ended. Dies
 * if nothing could be counted. The caller ends with syscalls_fini. */
void syscalls_count(char *const *command, const struct allocator *allocator,
                    struct child_result *result, struct syscall_counts *counts);
void syscalls_fini(struct syscall_counts *counts);

/* ------------------------------------------------------------------ report.c ----------------- */

/* Parts of a report. JSON is a new reference. */
void report_command(struct output *out, const char *title, char *const *command);
json_t *report_result_json(const struct child_result *result);
json_t *report_command_json(char *const *command);

#endif
