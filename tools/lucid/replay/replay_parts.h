/*
 * replay_parts.h - what the files of `lucid replay` share.
 *
 *     trace ──▶ program ──▶ run on an engine ──▶ outcome ──▶ document, JSON
 *
 * A *program* is a trace made ready: operations of one size in one piece of shared memory, blocks
 * as slots that are used again. A *run* executes it on an *engine*, a table of functions: a
 * classic heap (replay_sim.c), lucid in a forked child (replay_lucid.c), or the malloc of a process
 * of its own (replay_driver.c). The *outcome* is shared memory too, so that it does not matter
 * which process the run was in. An event is an operation; event n is the nth, from 1.
 */
#ifndef LUCID_REPLAY_PARTS_H
#define LUCID_REPLAY_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "run/run.h"
#include "document/document.h"
#include "trace/trace.h"

struct lu__policy;

/* ------------------------------------------------------------------ program ------------------ */

struct replay_op {
    uint64_t time_ns;
    uint64_t size;
    uint32_t slot; /* TRACE_RESIZE: of the block before and after */
    uint32_t thread;
    uint8_t kind; /* enum trace_kind */
    bool zeroed;
    uint8_t align_log; /* 0: none asked for */
    uint8_t unused[5];
};

struct replay_program {
    uint64_t op_count;
    uint64_t every;        /* events from sample to sample                              */
    uint64_t sample_count; /* one after each `every` events, and one after the last     */
    uint64_t frame_count;  /* heap maps, evenly spaced from the first event to the last */
    uint32_t slot_count, thread_count;
    uint64_t peak_live, peak_event, final_live; /* as asked for, if nothing is refused  */
    uint64_t peak_blocks;
    struct replay_op ops[];
};

/* Shared memory that the children of fork see, and others that inherit the descriptor. */
struct replay_memory {
    int fd;
    size_t bytes;
    void *at;
};

/* A program of all events of `trace`; `every` 0: chosen by size. Ends the command with status 2 if
 * the events contradict each other. */
struct replay_memory replay_program_make(struct trace *trace, const char *path, uint64_t every,
                                         uint64_t frames);
/* New memory that reads as zero; dies without. */
struct replay_memory replay_memory_make(const char *name, size_t bytes);
void replay_memory_free(struct replay_memory *memory);
/* Event after which frame `index` (from 0) is drawn. */
uint64_t replay_frame_event(const struct replay_program *program, uint64_t index);

/* ------------------------------------------------------------------ outcome ------------------ */

struct replay_sample {
    uint64_t event, live, held;
    uint64_t resident;         /* of that, pages that are in memory */
    double internal, external; /* NAN: not known */
};

struct replay_counts {
    uint64_t searches, free_steps;      /* REPLAY_CLASSIC: blocks passed      */
    uint64_t splits, merges;            /* REPLAY_CLASSIC                     */
    uint64_t break_moves, maps, unmaps; /* REPLAY_CLASSIC                     */
    uint64_t system_calls;              /* for memory: these, or all of lucid */
};

struct replay_outcome {
    char error[200];   /* "": none. Else the run ended before its time */
    char library[200]; /* of a process: where its malloc is            */
    bool finished;
    bool stopped;      /* by its bound of steps, after `events`          */
    uint64_t events;   /* that were executed; meanwhile up to 1,023 behind */
    uint64_t failures; /* allocations that were refused                */
    double seconds;    /* in operations, samples and maps left out     */
    uint64_t peak_held, final_held;
    uint64_t peak_resident, final_resident; /* of the samples */
    struct replay_counts counts;
    uint64_t sample_count;
    struct replay_sample samples[];
};

struct replay_memory replay_outcome_make(const struct replay_program *program);

/* ------------------------------------------------------------------ run ---------------------- */

struct replay_block {
    void *at;       /* NULL: none, or it was refused */
    uint64_t size;  /* asked                         */
    uint64_t birth; /* event                         */
};

struct replay_run;

struct replay_engine {
    /* `self` first; `op` has size, alignment and whether zeros are wanted. NULL: refused. */
    void *(*alloc)(void *self, const struct replay_op *op);
    void *(*resize)(void *self, void *block, const struct replay_op *op);
    void (*free)(void *self, void *block);
    /* Fill held, resident, internal and external; `live` is there already. */
    void (*sample)(void *self, struct replay_sample *sample);
    /* May be NULL: true ends the run after this event; its figures are those up to there. */
    bool (*enough)(void *self);
    /* May be NULL: draw the heap as it is after `event`. */
    void (*frame)(void *self, const struct replay_run *run, uint64_t event);
    /* Simulated threads: who makes the calls that follow, and that it ends. NULL: each thread of
     * the trace is a real one, and they take turns. */
    void (*enter)(void *self, uint32_t thread);
    void (*leave)(void *self);
    /* May be NULL: the time of the trace is now `time_ns`. */
    void (*clock)(void *self, uint64_t time_ns);
    void *self;
};

struct replay_run {
    const struct replay_program *program;
    const struct replay_engine *engine;
    struct replay_outcome *outcome;
    struct replay_block *blocks; /* by slot */
    uint64_t next;               /* operation; those before are done */
    uint64_t live;
    const void *last; /* what the last call gave or freed; NULL: nothing */
    uint64_t frames;  /* drawn */
    uint64_t spent_ns, resumed_ns;
};

/* Run the whole program, or up to the first error. Needs no malloc: every table is shared memory
 * of its own, so the figures of the process's allocator are the trace's. */
void replay_run(const struct replay_program *program, const struct replay_engine *engine,
                struct replay_outcome *outcome);
/* Bytes of the pages in a range that are in memory. */
uint64_t replay_resident(const void *start, size_t bytes);
/* Note what went wrong, unless something did before. */
void replay_fail(struct replay_outcome *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Threads that take turns: one works, all others wait (replay_threads.c). */
struct replay_threads;
struct replay_threads *replay_threads_make(uint32_t count); /* NULL: no memory */
/* Call work(arg) on thread `number`, which is made if it is not there, and wait. Number 0 is the
 * calling thread. False: there cannot be so many. */
bool replay_threads_call(struct replay_threads *threads, uint32_t number, void (*work)(void *),
                         void *arg);
/* Thread `number` ends; nothing if it is not there. */
void replay_threads_end(struct replay_threads *threads, uint32_t number);

/* ------------------------------------------------------------------ targets ------------------ */

enum replay_kind { REPLAY_CLASSIC, REPLAY_LUCID, REPLAY_PROCESS };

#define REPLAY_CALL_TEXT 128
struct replay_frame {
    uint64_t event, held, live;
    char call[REPLAY_CALL_TEXT]; /* that it is after */
    struct document_block *blocks;
    size_t count;
};

struct replay_target {
    char *name;
    enum replay_kind kind;
    const struct lu__policy *policy; /* REPLAY_CLASSIC */
    uint64_t steps_most;             /* REPLAY_CLASSIC: then it is stopped; 0: never */
    size_t allocator;                /* REPLAY_PROCESS: in the list */
    struct replay_memory memory;     /* its outcome */
    struct replay_outcome *outcome;
    struct replay_frame *frames;
    size_t frame_count;
    size_t frame_room;                  /* blocks that a frame may have           */
    uint64_t merged_below;              /* neighbours smaller than that are drawn as one; 0: none */
    uint64_t merged_frames, cut_frames; /* how many frames that, or the end missing, concerns */
};

void replay_classic(const struct replay_program *program, struct replay_target *target);
void replay_lucid(const struct replay_program *program, struct replay_target *target);
void replay_process(const struct replay_memory *program, const struct allocator *allocator,
                    struct replay_target *target);
void replay_frames_free(struct replay_target *target);

/* While `outcome` grows, show on a terminal how far it is and what remains; `what` says which run
 * it is and stays valid. Nothing if standard error is no terminal (replay_progress.c). */
void replay_progress_begin(const char *what, const struct replay_outcome *outcome,
                           uint64_t op_count);
void replay_progress_end(void);

/* ------------------------------------------------------------------ report ------------------- */

struct replay_report {
    const char *path;
    const struct trace_info *info;
    const struct replay_program *program;
    const struct replay_target *targets;
    size_t target_count;
    unsigned repeats;
};

/* The caller destroys it. */
struct document *replay_document(const struct replay_report *report);
/* The member "results" of its JSON. */
json_t *replay_results(const struct replay_report *report);

/* Live at most through held at most; means over the samples that know it. NAN: not known. */
double replay_utilisation(const struct replay_program *program,
                          const struct replay_outcome *outcome);
double replay_mean_internal(const struct replay_outcome *outcome);
double replay_mean_external(const struct replay_outcome *outcome);

#endif
