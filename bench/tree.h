/*
 * tree.h - what a process and its descendants have in memory, seen from outside.
 *
 * One thread owns a tree. Nothing here allocates. Call tree_sample about every 10 ms.
 */
#ifndef BENCH_TREE_H
#define BENCH_TREE_H

#include "proc.h"

#include <sys/types.h>

enum { TREE_PROCESSES_MAX = 200 };

struct tree_process {
    pid_t pid;
    int statm_fd, children_fd; /* the latter of the main thread's children */
    bool seen;                 /* in an earlier sample; it does not count before */
};

struct tree {
    struct tree_process processes[TREE_PROCESSES_MAX];
    unsigned count;
    bool full; /* there were more processes than fit, and the figures lack them */
    pid_t root;
    struct proc_pace mappings_pace, threads_pace;
    /* The most of the sum so far; the sum in the last sample that had the root; its mean since
     * tree_begin; the most mappings of any one process. */
    uint64_t peak_rss, last_rss, mappings;
    struct proc_mean mean;
};

/* Begin with `root`, a child that was just started. False if /proc does not tell of it. */
bool tree_init(struct tree *tree, pid_t root);
/* The mean is from now on. */
void tree_begin(struct tree *tree);
void tree_sample(struct tree *tree);
void tree_fini(struct tree *tree);

#endif
