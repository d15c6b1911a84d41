/*
 * replay_run.c - executing a program on an engine.
 *
 * Operations are executed in the order of the program, whichever thread they are of. The program is
 * cut into stretches of one thread each; a stretch is executed by that thread (replay_threads.c) or
 * by this one in its name (engine->enter).
 *
 * What a real program would do with its memory is done in small: every block gets a pattern, a word
 * that only this block has, at its beginning and its end and once in every page; what is not
 * calloc's is not looked at before. The pattern is checked before the block is freed and after it
 * was resized. So the pages of a block count as they do in life, and a block that overlaps another,
 * or that the allocator writes to, is found out.
 *
 *     |pattern 64|   ...   |word at page|   ...   |word at page|   ...   |pattern 64|
 *
 * This runs under any malloc, and its figures must be that malloc's own: nothing here allocates
 * but by the engine, tables are shared memory (which is not counted as the heap's), and the clock
 * stands still while samples are taken.
 */
#include "replay/replay_parts.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define EDGE 64u
#define PAGE 4096u
#define TOLD_EACH 1024u /* events from one look of who shows the progress to the next */

void replay_fail(struct replay_outcome *outcome, const char *format, ...) {
    if (outcome->error[0] != '\0') return;
    va_list args;
    va_start(args, format);
    vsnprintf(outcome->error, sizeof(outcome->error), format, args);
    va_end(args);
}

/* ------------------------------------------------------------------ patterns ----------------- */

static uint64_t word_of(const struct replay_block *block, uint32_t slot) {
    uint64_t mixed = (block->birth << 32 | slot) * 0x9E3779B97F4A7C15u;
    return mixed ^ mixed >> 29;
}

static unsigned char byte_of(uint64_t word, uint64_t offset) {
    return (unsigned char)(word >> 8 * (offset % 8));
}

/* Call `at` for ranges of what is written in a block of `size` bytes; false from it ends. */
typedef bool range_fn(unsigned char *bytes, uint64_t from, uint64_t to, uint64_t word);

static bool each_range(unsigned char *bytes, uint64_t size, uint64_t word, range_fn *at) {
    if (size <= 2 * EDGE) return at(bytes, 0, size, word);
    if (!at(bytes, 0, EDGE, word)) return false;
    for (uint64_t page = PAGE; page + 8 <= size - EDGE; page += PAGE)
        if (!at(bytes, page, page + 8, word)) return false;
    return at(bytes, size - EDGE, size, word);
}

static bool write_range(unsigned char *bytes, uint64_t from, uint64_t to, uint64_t word) {
    for (uint64_t i = from; i < to; i++) bytes[i] = byte_of(word, i);
    return true;
}

static bool check_range(unsigned char *bytes, uint64_t from, uint64_t to, uint64_t word) {
    for (uint64_t i = from; i < to; i++)
        if (bytes[i] != byte_of(word, i)) return false;
    return true;
}

/* What a resize to `size` kept of a block of `before` bytes. */
static bool check_kept(unsigned char *bytes, uint64_t before, uint64_t size, uint64_t word) {
    if (before <= size) return each_range(bytes, before, word, check_range);
    uint64_t edge = before <= 2 * EDGE ? before : EDGE;
    if (!check_range(bytes, 0, edge < size ? edge : size, word)) return false;
    for (uint64_t page = PAGE; page + 8 <= size && page + 8 <= before - EDGE; page += PAGE)
        if (!check_range(bytes, page, page + 8, word)) return false;
    return true;
}

/* ------------------------------------------------------------------ operations --------------- */

static void fail_at(struct replay_run *run, const char *what) {
    replay_fail(run->outcome, "event %llu: %s", (unsigned long long)run->next + 1, what);
}

static void note_refusal(struct replay_run *run) {
    run->outcome->failures++;
}

static void alloc(struct replay_run *run, const struct replay_op *op) {
    const struct replay_engine *engine = run->engine;
    struct replay_block *block = &run->blocks[op->slot];
    *block = (struct replay_block){.birth = run->next + 1};
    unsigned char *at = engine->alloc(engine->self, op);
    run->last = at;
    if (at == NULL) {
        note_refusal(run);
        return;
    }
    uint64_t align = (uint64_t)1 << op->align_log;
    if ((uintptr_t)at % align != 0) fail_at(run, "the block is not aligned as asked for");
    if (op->zeroed && !each_range(at, op->size, 0, check_range))
        fail_at(run, "the block does not read as zero");
    block->at = at;
    block->size = op->size;
    run->live += op->size;
    each_range(at, op->size, word_of(block, op->slot), write_range);
}

static void resize(struct replay_run *run, const struct replay_op *op) {
    const struct replay_engine *engine = run->engine;
    struct replay_block *block = &run->blocks[op->slot];
    if (block->at == NULL) {
        alloc(run, op);
        return;
    }
    unsigned char *at = engine->resize(engine->self, block->at, op);
    run->last = at;
    if (at == NULL) {
        note_refusal(run); /* the block stays as it is */
        return;
    }
    uint64_t word = word_of(block, op->slot);
    if (!check_kept(at, block->size, op->size, word))
        fail_at(run, "a resize did not keep the block's contents");
    run->live += op->size - block->size;
    block->at = at;
    block->size = op->size;
    each_range(at, op->size, word, write_range);
}

static void end_block(struct replay_run *run, const struct replay_op *op) {
    const struct replay_engine *engine = run->engine;
    struct replay_block *block = &run->blocks[op->slot];
    run->last = block->at;
    if (block->at == NULL) return;
    if (!each_range(block->at, block->size, word_of(block, op->slot), check_range))
        fail_at(run, "the block is not as the program left it");
    run->live -= block->size;
    void *at = block->at;
    block->at = NULL;
    engine->free(engine->self, at);
}

/* ------------------------------------------------------------------ samples ------------------ */

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t replay_resident(const void *start, size_t bytes) {
    static unsigned char in_memory[4096]; /* only one thread runs at a time */
    const size_t most = sizeof(in_memory) * PAGE;
    uintptr_t at = (uintptr_t)start / PAGE * PAGE, end = (uintptr_t)start + bytes;
    uint64_t pages = 0;
    while (at < end) {
        size_t part = end - at < most ? end - at : most;
        if (mincore((void *)at, part, in_memory) != 0) break;
        for (size_t i = 0; i * PAGE < part; i++) pages += in_memory[i] & 1;
        at += part;
    }
    return pages * PAGE;
}

static void take_sample(struct replay_run *run, uint64_t event, struct replay_sample *sample) {
    struct replay_outcome *outcome = run->outcome;
    *sample = (struct replay_sample){
        .event = event, .live = run->live, .internal = NAN, .external = NAN};
    run->engine->sample(run->engine->self, sample);
    if (sample->held > outcome->peak_held) outcome->peak_held = sample->held;
    if (sample->resident > outcome->peak_resident) outcome->peak_resident = sample->resident;
    outcome->final_held = sample->held;
    outcome->final_resident = sample->resident;
}

static void look(struct replay_run *run, uint64_t event) {
    const struct replay_program *program = run->program;
    struct replay_outcome *outcome = run->outcome;
    struct replay_sample unused;
    bool last = event == program->op_count;
    bool sampled = event % program->every == 0 || last;
    bool drawn = run->engine->frame != NULL && run->frames < program->frame_count &&
                 event == replay_frame_event(program, run->frames);
    if (!sampled && !drawn && event != program->peak_event) return;
    run->spent_ns += now_ns() - run->resumed_ns;
    if (sampled && outcome->sample_count < program->sample_count)
        take_sample(run, event, &outcome->samples[outcome->sample_count++]);
    else if (event == program->peak_event)
        take_sample(run, event, &unused);
    if (drawn) {
        run->engine->frame(run->engine->self, run, event);
        run->frames++;
    }
    run->resumed_ns = now_ns();
}

/* ------------------------------------------------------------------ stretches ---------------- */

static void step(struct replay_run *run, const struct replay_op *op) {
    const struct replay_engine *engine = run->engine;
    if (engine->clock != NULL) engine->clock(engine->self, op->time_ns);
    switch ((enum trace_kind)op->kind) {
    case TRACE_ALLOC:
        alloc(run, op);
        break;
    case TRACE_RESIZE:
        resize(run, op);
        break;
    case TRACE_FREE:
        end_block(run, op);
        break;
    case TRACE_THREAD_END:
        if (engine->leave != NULL) engine->leave(engine->self);
        break;
    }
}

/* Operations of one thread from the next on; the end of a thread is the last. */
static void do_stretch(void *arg) {
    struct replay_run *run = arg;
    const struct replay_program *program = run->program;
    uint32_t thread = program->ops[run->next].thread;
    bool ended = false;
    while (!ended && run->next < program->op_count && !run->outcome->stopped) {
        const struct replay_op *op = &program->ops[run->next];
        if (op->thread != thread) break;
        ended = op->kind == TRACE_THREAD_END;
        step(run, op);
        if (run->outcome->error[0] != '\0') break;
        run->next++;
        if (run->next % TOLD_EACH == 0)
            __atomic_store_n(&run->outcome->events, run->next, __ATOMIC_RELAXED);
        run->outcome->stopped = run->engine->enough != NULL && run->next < program->op_count &&
                                run->engine->enough(run->engine->self);
        if (!ended) look(run, run->next);
    }
}

static bool ended_thread(const struct replay_run *run) {
    return run->next > 0 && run->program->ops[run->next - 1].kind == TRACE_THREAD_END;
}

static void do_stretch_on_thread(struct replay_run *run, struct replay_threads *threads) {
    uint32_t thread = run->program->ops[run->next].thread;
    if (!replay_threads_call(threads, thread, do_stretch, run))
        fail_at(run, "no further thread could be started");
    else if (ended_thread(run))
        replay_threads_end(threads, thread);
}

static void do_all(struct replay_run *run) {
    const struct replay_engine *engine = run->engine;
    struct replay_threads *threads = NULL;
    if (engine->enter == NULL) {
        threads = replay_threads_make(run->program->thread_count);
        if (threads == NULL) fail_at(run, "no memory for the threads");
    }
    run->resumed_ns = now_ns();
    while (run->next < run->program->op_count && run->outcome->error[0] == '\0' &&
           !run->outcome->stopped) {
        if (engine->enter == NULL) {
            do_stretch_on_thread(run, threads);
        } else {
            engine->enter(engine->self, run->program->ops[run->next].thread);
            do_stretch(run);
        }
        /* Seen from outside: the thread is gone. */
        if (run->outcome->error[0] == '\0' && ended_thread(run)) look(run, run->next);
    }
    run->spent_ns += now_ns() - run->resumed_ns;
}

void replay_run(const struct replay_program *program, const struct replay_engine *engine,
                struct replay_outcome *outcome) {
    struct replay_run run = {.program = program, .engine = engine, .outcome = outcome};
    size_t bytes = (program->slot_count + 1) * sizeof(struct replay_block);
    run.blocks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run.blocks == MAP_FAILED) {
        replay_fail(outcome, "no memory for the table of blocks: errno %d", errno);
        return;
    }
    do_all(&run);
    outcome->events = run.next;
    outcome->seconds = (double)run.spent_ns / 1e9;
    outcome->finished = outcome->error[0] == '\0';
    munmap(run.blocks, bytes);
}
