/*
 * record.h - liblucid-record.so: what its files share.
 *
 *     wrap.c        malloc and its kin: call the allocator behind, record what came of it
 *     operators.c   operator new and delete, for allocators that have their own
 *     writer.c      per thread: events into the thread's chunk
 *     file.c        per process: the file, its chunks, which processes record
 *     crc.c         CRC-32C; the reader has it too
 *
 * Nothing here may allocate by malloc, call a cancellation point, or change errno.
 */
#ifndef LUCID_RECORD_H
#define LUCID_RECORD_H

#include "base/base.h"
#include "record/trace_format.h"

#define RECORD_EXPORT __attribute__((visibility("default")))

/* ---- wrap.c ---- */

/* Whatever must be there before the first event; cheap once it is. */
void record_prepare(void);

/* ---- file.c: the process ---- */

/* In memory that the kernel replaces by zeros in the child of a fork, however that is made. */
struct record_page {
    uint32_t generation; /* what threads that may record have in their record_thread; 0: none may */
};
extern struct record_page *record_page;

struct record_file {
    uint64_t start_ns;     /* CLOCK_MONOTONIC at tick 0 */
    struct trace_end *end; /* in the header, shared with the file */
    bool sites;
};
extern struct record_file record_file;

/* Read LUCID_RECORD and begin, if this process is one that is to be recorded. */
void record_file_start(void);
/* True if this process may record now; begins anew in a child that is recorded as well. */
bool record_file_is_on(void);
/* A new chunk of at least `room` bytes, mapped; NULL if there can be none, and then all recording
 * ends. The caller fills in thread, number, tick and tid, and then has it begin. */
struct trace_chunk *record_file_take(size_t room);
void record_file_begin(struct trace_chunk *chunk);
/* Its events are complete: note that, and unmap it. */
void record_file_seal(struct trace_chunk *chunk, uint32_t events);
/* An event could not be recorded. */
void record_file_lose(void);
void record_file_at_exit(uint64_t tick);

/* ---- writer.c: the thread ---- */

struct writer; /* the chunk that is written, and what its reader will know at this point */

struct record_thread {
    struct writer *writer; /* good while the generation is the page's                    */
    uint32_t generation;
    uint32_t depth;      /* calls of malloc and its kin under way: the outermost counts  */
    uint32_t busy;       /* in the middle of an event; seen by a signal handler          */
    uint32_t numbered;   /* 1: `number` holds                                            */
    uint32_t number;     /* of the thread                                                */
    uint32_t chunks;     /* begun so far                                                 */
    uint32_t ended;      /* the end of the thread is recorded; a few frees may follow    */
    uint32_t keyed;      /* its end will be noticed                                      */
    uint64_t made;       /* blocks recorded as allocated                                 */
    const void *last;    /* the last of them                                             */
    const void *site;    /* of the operator new that malloc is called by, or NULL        */
    uintptr_t frame;     /* and where on the stack that is                               */
    const void *deleted; /* operator delete of it was recorded and is under way          */
};
extern __thread struct record_thread record_me
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* Ticks since the recording began. */
uint64_t record_now(void);
void record_alloc(enum trace_tag tag, const void *block, size_t size, size_t alignment,
                  const void *site);
/* Before the block is freed. */
void record_free(const void *block, const void *site);
/* realloc, which began at tick `before` and was done now. */
void record_resize(const void *old, const void *block, size_t size, uint64_t before,
                   const void *site);
/* Once, before any event. */
void record_writer_init(void);

#endif
