/*
 * trace_reader.h - how a file format gets behind trace.h: trace_open looks at the first bytes,
 * lets the format open the file, and then reads all events once to count what trace_info tells.
 *
 *     trace.c          trace_open and its kin, for every format
 *     trace_lucid.c    the format of docs/TRACE.md
 *     trace_rep.c      malloc-lab traces
 *
 * A format embeds struct trace as its first member. It fills in of `info`: format, command, chunks,
 * torn; and, if it knows of such things, what the list below says. Everything else there is counted
 * from the events by trace.c, which also gives `block` numbers their bounds: a format numbers
 * blocks from 0, in the order of the events that make them, without a gap.
 */
#ifndef LUCID_TRACE_READER_H
#define LUCID_TRACE_READER_H

#include "trace/trace.h"

struct trace_ops {
    /* The next event; false at the end, and where it cannot go on (`failed`). */
    bool (*next)(struct trace *trace, struct trace_event *event);
    void (*rewind)(struct trace *trace);
    /* Frees the trace as well. */
    void (*close)(struct trace *trace);
};

struct trace {
    const struct trace_ops *ops;
    struct trace_info info; /* of the format: format, command, chunks, torn, ended, lost */
    /* Counted by next, if the format knows of such things; from the beginning on. */
    uint64_t unknown_frees, double_allocs, repaired;
    bool failed; /* set by next: without memory, or the file is another than when it was opened */
};

/* Fill in `error` (if it is not NULL); returns NULL, so that a caller may return it. */
void *trace_refuse(struct trace_error *error, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* True if a file that begins with these bytes (up to 512 of them; all if the file has less) is of
 * the format. */
bool trace_lucid_is(const unsigned char *first, size_t bytes);
bool trace_rep_is(const unsigned char *first, size_t bytes);

/* Open and check the whole file. NULL: refused, see `error`. */
struct trace *trace_lucid_open(const char *path, struct trace_error *error);
struct trace *trace_rep_open(const char *path, struct trace_error *error);

#endif
