/* child.h - below run.h: the memory system calls of a command, and how a child is started. */
#ifndef LUCID_CHILD_H
#define LUCID_CHILD_H

#include "run/run.h"

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

/* A run whose memory system calls are counted, those of its threads and children included; its
 * time says nothing. Processes that it leaves behind are killed. Returns 0, or the errno value
 * for which nothing could be traced (result->start_error tells a command that did not start). */
struct child_counts {
    uint64_t calls[CALL_COUNT];
    uint64_t total;
};
int child_count_calls(const struct child_plan *plan, struct child_result *result,
                      struct child_counts *counts);

/* ---- shared by child.c and child_calls.c ---- */

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

#endif
