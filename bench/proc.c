/*
 * proc.c - reads the files of /proc that tell of memory.
 *
 * The peak comes from VmHWM, which, unlike that of getrusage, does not remember the process that
 * called execve. A file of /proc is made anew by each read from its start, so a descriptor can stay
 * open; that of maps belongs to the memory that the process had when it was opened, and is of no
 * use after an execve.
 */
#include "proc.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, CHUNK = 4096 };

uint64_t proc_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool proc_read_rss(int statm_fd, uint64_t *rss) {
    char text[128];
    ssize_t length = pread(statm_fd, text, sizeof(text) - 1, 0);
    if (length <= 0) return false;
    text[length] = '\0';
    const char *at = strchr(text, ' ');
    uint64_t pages = 0;
    for (at = at != NULL ? at + 1 : ""; *at >= '0' && *at <= '9'; at++)
        pages = pages * 10 + (uint64_t)(*at - '0');
    *rss = pages * PAGE;
    return true;
}

uint64_t proc_count_mappings(int maps_fd) {
    char text[CHUNK];
    ssize_t length;
    uint64_t lines = 0;
    if (lseek(maps_fd, 0, SEEK_SET) != 0) return 0;
    while ((length = read(maps_fd, text, sizeof(text))) > 0)
        for (ssize_t i = 0; i < length; i++) lines += text[i] == '\n';
    return lines;
}

/* The value of VmHWM in bytes, or 0. */
static uint64_t read_peak(void) {
    char text[CHUNK];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
    const char *line = strstr(text, "VmHWM:");
    return line != NULL ? strtoull(line + strlen("VmHWM:"), NULL, 10) * 1024 : 0;
}

bool proc_measure_self(struct proc_memory *memory) {
    struct rusage used;
    *memory = (struct proc_memory){0};
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps >= 0) memory->mappings = proc_count_mappings(maps);
    if (maps >= 0) close(maps);
    int statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    bool good = proc_read_rss(statm, &memory->final_rss) && getrusage(RUSAGE_SELF, &used) == 0;
    if (statm >= 0) close(statm);
    memory->peak_rss = read_peak();
    if (!good || memory->mappings == 0 || memory->peak_rss == 0) return false;
    memory->mean_rss = memory->final_rss;
    memory->minor_faults = (uint64_t)used.ru_minflt;
    memory->major_faults = (uint64_t)used.ru_majflt;
    return true;
}

void proc_mean_add(struct proc_mean *mean, uint64_t now, uint64_t value) {
    if (mean->count == 0)
        mean->first_time = now;
    else
        mean->sum += ((double)mean->last_value + (double)value) / 2 *
                     (double)(now - mean->last_time);
    mean->last_time = now;
    mean->last_value = value;
    mean->count++;
}

uint64_t proc_mean_value(const struct proc_mean *mean) {
    uint64_t span = mean->last_time - mean->first_time;
    return span > 0 ? (uint64_t)(mean->sum / (double)span) : mean->last_value;
}
