/* syscalls.h - how often a command calls the kernel, as strace counts it. */
#ifndef LUCID_SYSCALLS_H
#define LUCID_SYSCALLS_H

#include <stdint.h>

#include "child.h"

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

#endif
