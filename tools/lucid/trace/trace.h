/*
 * trace.h - reading recorded allocations, whatever file they are in.
 *
 * docs/TRACE.md has the format. A reader gives the events of all threads in one order, in which no
 * block is allocated at an address before the one that was there is freed. Blocks have numbers, not
 * addresses: the first that was allocated is 0, and none is used twice.
 *
 * For one thread. Nothing here ends the process: what is wrong with a file is told in words.
 */
#ifndef LUCID_TRACE_H
#define LUCID_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum trace_kind {
    TRACE_ALLOC, /* malloc, calloc (zeroed), aligned_alloc … (align != 0) */
    TRACE_FREE,
    TRACE_RESIZE, /* realloc of `old`, which is gone, to `block`; sizes may be equal */
    TRACE_THREAD_END
};

struct trace_event {
    enum trace_kind kind;
    bool zeroed;
    uint32_t thread;  /* from 0, in order of appearance                        */
    uint64_t time_ns; /* since the recording began                             */
    uint64_t block;   /* ALLOC, FREE, RESIZE                                   */
    uint64_t old;     /* RESIZE                                                */
    uint64_t size;    /* asked: ALLOC, RESIZE                                  */
    uint64_t align;   /* asked for, or 0                                       */
    uint64_t site;    /* return address as recorded, or 0                      */
};

struct trace_info {
    const char *format;      /* "lucid 1", "rep"                              */
    char command[256];       /* that was recorded, or ""                      */
    uint64_t events, chunks; /* that can be read                              */
    uint64_t allocs, frees, resizes;
    uint32_t threads;
    uint64_t blocks; /* numbers used: all are below                   */
    uint64_t duration_ns;
    uint64_t live_blocks, live_bytes; /* never freed                           */
    uint64_t peak_live_bytes, total_bytes;
    uint64_t unknown_frees; /* of blocks from before the recording           */
    uint64_t double_allocs; /* at an address whose free was not recorded; a FREE was put in */
    uint64_t repaired;      /* events that waited for a later one: clocks that differ */
    uint64_t lost;          /* that the recording had to leave out           */
    bool torn;              /* ends in the middle of a chunk: what was before counts */
    bool ended;             /* the program reached its exit                  */
};

/* Why a file was refused, or what is wrong with it from where. */
struct trace_error {
    uint64_t offset; /* in the file, bytes */
    char reason[160];
};

struct trace;

/* Open and look through the whole file. NULL: refused, see `error`. A torn tail is no reason to
 * refuse. The caller closes. */
struct trace *trace_open(const char *path, struct trace_error *error);
void trace_close(struct trace *trace);
const struct trace_info *trace_info(const struct trace *trace);
/* The next event; false at the end. */
bool trace_next(struct trace *trace, struct trace_event *event);
void trace_rewind(struct trace *trace);

/* `lucid record` and `lucid trace`. */
int tool_record_main(int argc, char **argv);
int tool_trace_main(int argc, char **argv);

#endif
