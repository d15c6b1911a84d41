/*
 * trace.c - trace_open and its kin, for every format: the format is chosen by the first bytes,
 * opens and checks its file, and then all events are read once, here, to count them.
 *
 * What is counted is what trace.h tells. The size of each block is kept only for that time.
 */
#include "trace/trace.h"

#include "trace/trace_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_BYTES = 512 };

void *trace_refuse(struct trace_error *error, uint64_t offset, const char *format, ...) {
    if (error == NULL) return NULL;
    va_list args;
    va_start(args, format);
    error->offset = offset;
    vsnprintf(error->reason, sizeof(error->reason), format, args);
    va_end(args);
    return NULL;
}

/* ------------------------------------------------------------------ counting ----------------- */

struct counting {
    struct trace_info *info;
    uint64_t *sizes; /* of each block so far */
    size_t room;
    uint64_t live_bytes;
};

/* A block appears, the next in order. False without memory, or if it is another. */
static bool count_block(struct counting *counting, uint64_t block, uint64_t size) {
    struct trace_info *info = counting->info;
    if (block != info->blocks) return false;
    if (block == counting->room) {
        size_t room = counting->room == 0 ? 1024 : 2 * counting->room;
        uint64_t *sizes = reallocarray(counting->sizes, room, sizeof(*sizes));
        if (sizes == NULL) return false;
        counting->sizes = sizes;
        counting->room = room;
    }
    counting->sizes[block] = size;
    info->blocks++;
    info->live_blocks++;
    info->live_bytes += size;
    info->total_bytes += size;
    if (info->live_bytes > info->peak_live_bytes) info->peak_live_bytes = info->live_bytes;
    return true;
}

static bool count_end(struct counting *counting, uint64_t block) {
    struct trace_info *info = counting->info;
    if (block >= info->blocks) return false;
    info->live_blocks--;
    info->live_bytes -= counting->sizes[block];
    return true;
}

static bool count_event(struct counting *counting, const struct trace_event *event) {
    struct trace_info *info = counting->info;
    info->events++;
    if (event->thread >= info->threads) info->threads = event->thread + 1;
    if (event->time_ns > info->duration_ns) info->duration_ns = event->time_ns;
    switch (event->kind) {
    case TRACE_ALLOC:
        info->allocs++;
        return count_block(counting, event->block, event->size);
    case TRACE_FREE:
        info->frees++;
        return count_end(counting, event->block);
    case TRACE_RESIZE:
        info->resizes++;
        return count_end(counting, event->old) && count_block(counting, event->block, event->size);
    case TRACE_THREAD_END:
        return true;
    }
    return false;
}

static bool count_all(struct trace *trace) {
    struct counting counting = {.info = &trace->info};
    struct trace_event event;
    bool good = true;
    while (good && trace->ops->next(trace, &event)) good = count_event(&counting, &event);
    free(counting.sizes);
    trace->info.unknown_frees = trace->unknown_frees;
    trace->info.double_allocs = trace->double_allocs;
    trace->info.repaired = trace->repaired;
    return good && !trace->failed;
}

/* ------------------------------------------------------------------ the interface ------------ */

static struct trace *open_known(const char *path, struct trace_error *error) {
    unsigned char first[FIRST_BYTES];
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return trace_refuse(error, 0, "cannot be opened: %s", strerror(errno));
    bool is_file = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    ssize_t got = is_file ? pread(fd, first, sizeof(first), 0) : 0;
    int problem = errno;
    close(fd);
    if (!is_file) return trace_refuse(error, 0, "not a regular file");
    if (got < 0) return trace_refuse(error, 0, "cannot be read: %s", strerror(problem));
    if (got == 0) return trace_refuse(error, 0, "the file is empty");
    if (trace_lucid_is(first, (size_t)got)) return trace_lucid_open(path, error);
    if (trace_rep_is(first, (size_t)got)) return trace_rep_open(path, error);
    return trace_refuse(error, 0, "neither a trace of 'lucid record' nor a .rep trace");
}

struct trace *trace_open(const char *path, struct trace_error *error) {
    struct trace *trace = open_known(path, error);
    if (trace == NULL) return NULL;
    if (!count_all(trace)) {
        trace_close(trace);
        return trace_refuse(error, 0, "the events cannot be read (out of memory?)");
    }
    trace_rewind(trace);
    return trace;
}

void trace_close(struct trace *trace) {
    if (trace != NULL) trace->ops->close(trace);
}

const struct trace_info *trace_info(const struct trace *trace) {
    return &trace->info;
}

bool trace_next(struct trace *trace, struct trace_event *event) {
    return trace->ops->next(trace, event);
}

void trace_rewind(struct trace *trace) {
    trace->unknown_frees = trace->double_allocs = trace->repaired = 0;
    trace->ops->rewind(trace);
}
