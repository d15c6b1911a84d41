/* child.h - running the user's command on an allocator and measuring it. */
#ifndef LUCID_CHILD_H
#define LUCID_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "allocator.h"

/* System calls that change what memory a process has. */
enum memory_call {
    CALL_MMAP,
    CALL_MUNMAP,
    CALL_MREMAP,
    CALL_BRK,
    CALL_MADVISE,
    CALL_PROCESS_MADVISE,
    CALL_MPROTECT,
    CALL_COUNT
};
const char *child_call_name(enum memory_call call);

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

/* A run whose memory system calls are counted, those of its threads and children included; its
 * time says nothing. Processes that it leaves behind are killed. Returns 0, or the errno value
 * for which nothing could be traced (result->start_error tells a command that did not start). */
struct child_counts {
    uint64_t calls[CALL_COUNT];
    uint64_t total;
};
int child_count_calls(const struct child_plan *plan, struct child_result *result,
                      struct child_counts *counts);

/* ---- shared by child.c and trace.c ---- */

/* A child that is forked and waits to be released; its ends of two pipes are ours. */
struct child_process {
    pid_t pid;
    int release_fd; /* a byte written here lets it go on                                  */
    int report_fd;  /* it writes a child_report here before execve, and one more if that
                       fails; end of file after success                                   */
};
/* `before_exec` runs in the child just before execve and returns 0 or an errno value. */
void child_start(const struct child_plan *plan, int (*before_exec)(void),
                 struct child_process *process);
/* Let it go on and learn how execve went: 0, or an errno value with `*in_setup` telling whether
 * it came from before_exec. Faults that the child took before execve are stored. */
int child_release(struct child_process *process, bool *in_setup, int64_t *minor_faults,
                  int64_t *major_faults);
/* Translate a wait status, or the errno value of an execve that failed. */
void child_note_end(struct child_result *result, int wait_status);
void child_note_start_error(struct child_result *result, int error);

/* From the first to the second, keyboard signals are left to the child, and SIGTERM and SIGHUP
 * are passed on to it. */
void child_signals_begin(pid_t child);
void child_signals_end(void);

#endif
