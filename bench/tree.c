/*
 * tree.c - finds and samples the processes below one.
 *
 *     root ── /proc/ROOT/task/ROOT/children ──▶ child, child ── ... ──▶ grandchild
 *
 * Two descriptors stay open for each process, so that a sample costs two reads of about a
 * microsecond each; what is more costly, looking for the children of further threads and counting
 * mappings, has a pace that bounds its share of the time. A new process does not count in its first
 * sample: until its execve it is a copy of its parent, and its pages are its parent's.
 */
#include "tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH = 64, TEXT = 4096 };
/* Mappings are counted more often in the beginning, for the sake of short programs. */
#define MAPPINGS_FIRST 10000000u
#define MAPPINGS_LEAST 250000000u
#define THREADS_LEAST 100000000u

static int open_file(pid_t pid, const char *name) {
    char path[PATH];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static int open_children(pid_t pid, pid_t thread) {
    char name[PATH / 2];
    snprintf(name, sizeof(name), "task/%d/children", (int)thread);
    return open_file(pid, name);
}

static bool is_known(const struct tree *tree, pid_t pid) {
    for (unsigned i = 0; i < tree->count; i++)
        if (tree->processes[i].pid == pid) return true;
    return false;
}

static bool add(struct tree *tree, pid_t pid) {
    if (is_known(tree, pid)) return false;
    tree->full |= tree->count == TREE_PROCESSES_MAX;
    if (tree->full) return false;
    struct tree_process process = {pid, open_file(pid, "statm"), open_children(pid, pid), false};
    if (process.statm_fd < 0 || process.children_fd < 0) {
        if (process.statm_fd >= 0) close(process.statm_fd);
        if (process.children_fd >= 0) close(process.children_fd);
        return false;
    }
    tree->processes[tree->count++] = process;
    return true;
}

static void drop(struct tree *tree, unsigned index) {
    close(tree->processes[index].statm_fd);
    close(tree->processes[index].children_fd);
    tree->count--;
    for (unsigned i = index; i < tree->count; i++) tree->processes[i] = tree->processes[i + 1];
}

/* Add the processes that a children file names: numbers, each followed by a space. */
static void add_children(struct tree *tree, int children_fd) {
    char text[TEXT];
    ssize_t length = pread(children_fd, text, sizeof(text) - 1, 0);
    if (length <= 0) return;
    text[length] = '\0';
    char *end = text;
    for (char *at = text;; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at) return;
        add(tree, (pid_t)pid);
    }
}

/* The children of all threads of a process. */
static void add_children_of_threads(struct tree *tree, pid_t pid) {
    _Alignas(struct dirent64) char entries[TEXT];
    int directory = open_file(pid, "task");
    ssize_t length;
    if (directory < 0) return;
    while ((length = getdents64(directory, entries, sizeof(entries))) > 0)
        for (ssize_t at = 0; at < length;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)&entries[at];
            pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
            int children = thread > 0 && thread != pid ? open_children(pid, thread) : -1;
            if (children >= 0) {
                add_children(tree, children);
                close(children);
            }
            at += entry->d_reclen;
        }
    close(directory);
}

static void find_processes(struct tree *tree, uint64_t now) {
    bool threads_too = proc_pace_due(&tree->threads_pace, now);
    for (unsigned i = 0; i < tree->count; i++) { /* the new ones too */
        add_children(tree, tree->processes[i].children_fd);
        if (threads_too) add_children_of_threads(tree, tree->processes[i].pid);
    }
    if (threads_too) proc_pace_done(&tree->threads_pace, now, proc_now());
}

static void count_mappings(struct tree *tree, uint64_t now) {
    for (unsigned i = 0; i < tree->count; i++) {
        int maps = open_file(tree->processes[i].pid, "maps");
        if (maps < 0) continue;
        uint64_t count = proc_count_mappings(maps);
        close(maps);
        if (count > tree->mappings) tree->mappings = count;
    }
    proc_pace_done(&tree->mappings_pace, now, proc_now());
    if (tree->mappings_pace.least < MAPPINGS_LEAST) tree->mappings_pace.least *= 2;
}

bool tree_init(struct tree *tree, pid_t root) {
    *tree = (struct tree){
        .root = root, .mappings_pace = {MAPPINGS_FIRST, 0}, .threads_pace = {THREADS_LEAST, 0}};
    if (!add(tree, root)) return false;
    tree->processes[0].seen = true;
    return true;
}

void tree_begin(struct tree *tree) {
    tree->mean = (struct proc_mean){0};
}

void tree_sample(struct tree *tree) {
    bool root_lives = false;
    uint64_t sum = 0, now = proc_now();
    for (unsigned i = 0; i < tree->count;) {
        struct tree_process *process = &tree->processes[i];
        uint64_t rss;
        if (!proc_read_rss(process->statm_fd, &rss)) {
            drop(tree, i);
            continue;
        }
        if (process->seen) sum += rss;
        process->seen = true;
        root_lives |= process->pid == tree->root && rss > 0;
        i++;
    }
    if (root_lives) {
        proc_mean_add(&tree->mean, now, sum);
        tree->last_rss = sum;
        if (sum > tree->peak_rss) tree->peak_rss = sum;
    }
    find_processes(tree, now);
    if (proc_pace_due(&tree->mappings_pace, now)) count_mappings(tree, now);
}

void tree_fini(struct tree *tree) {
    while (tree->count > 0) drop(tree, tree->count - 1);
}
