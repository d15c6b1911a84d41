/*
 * replay_program.c - a trace made ready to be executed many times.
 *
 *     trace      a 0 24 | a 1 100 | f 0 | a 2 8 …      blocks have numbers, none is used twice
 *     program    a 0 24 | a 1 100 | f 0 | a 0 8 …      slots are: as many as live at a time
 *
 * So a run needs one small table of slots, however long the trace is. The program lies in memory
 * that has a descriptor (memfd_create(2)), for it is executed in several processes: in this one, in
 * a forked child, and in commands that inherit the descriptor.
 *
 * A reader promises that a block is freed once and after it was allocated. That is checked here,
 * for a run would follow wild pointers otherwise.
 */
#include "replay/replay_parts.h"

#include "frame/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NO_SLOT UINT32_MAX
#define SAMPLES 500
#define SAMPLES_LEAST 60
#define VISITS 30000000u /* blocks that all samples of a heap may look at together */

struct replay_memory replay_memory_make(const char *name, size_t bytes) {
    struct replay_memory memory = {.bytes = bytes, .fd = memfd_create(name, MFD_CLOEXEC)};
    if (memory.fd < 0 || ftruncate(memory.fd, (off_t)bytes) != 0)
        tool_die("no memory for the %s: %s", name, strerror(errno));
    memory.at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
    if (memory.at == MAP_FAILED) tool_die("no memory for the %s: %s", name, strerror(errno));
    return memory;
}

void replay_memory_free(struct replay_memory *memory) {
    if (memory->at == NULL) return;
    munmap(memory->at, memory->bytes);
    close(memory->fd);
    *memory = (struct replay_memory){.fd = -1};
}

struct replay_memory replay_outcome_make(const struct replay_program *program) {
    return replay_memory_make("outcome", sizeof(struct replay_outcome) +
                                             program->sample_count * sizeof(struct replay_sample));
}

uint64_t replay_frame_event(const struct replay_program *program, uint64_t index) {
    __extension__ typedef unsigned __int128 wide;
    if (program->frame_count == 1) return program->op_count;
    return 1 + (uint64_t)((wide)index * (program->op_count - 1) / (program->frame_count - 1));
}

/* ------------------------------------------------------------------ making ------------------- */

struct maker {
    const char *path;
    uint64_t block_count;
    struct replay_program *program;
    uint32_t *slot_of;    /* by block; NO_SLOT: not live */
    uint64_t *size_of;    /* by slot */
    uint32_t *free_slots; /* the last one freed is the next one used */
    uint32_t free_count, room;
    uint64_t live, live_blocks;
};

static _Noreturn void contradicts(const struct maker *maker, const char *what, uint64_t block) {
    tool_bad_input("%s: event %llu %s, block %llu", maker->path,
                   (unsigned long long)maker->program->op_count + 1, what,
                   (unsigned long long)block);
}

static uint32_t take_slot(struct maker *maker) {
    if (maker->free_count > 0) return maker->free_slots[--maker->free_count];
    uint32_t slot = maker->program->slot_count++;
    if (slot == maker->room) {
        maker->room = maker->room * 2 + 1024;
        maker->size_of = tool_grow(maker->size_of, maker->room, sizeof(uint64_t));
        maker->free_slots = tool_grow(maker->free_slots, maker->room, sizeof(uint32_t));
    }
    return slot;
}

static uint32_t begin_block(struct maker *maker, uint64_t block, uint32_t slot, uint64_t size) {
    if (block >= maker->block_count) contradicts(maker, "has a number out of bounds", block);
    if (maker->slot_of[block] != NO_SLOT) contradicts(maker, "allocates a live block", block);
    maker->slot_of[block] = slot;
    maker->size_of[slot] = size;
    maker->live += size;
    maker->live_blocks++;
    return slot;
}

static uint32_t end_block(struct maker *maker, uint64_t block) {
    if (block >= maker->block_count) contradicts(maker, "has a number out of bounds", block);
    uint32_t slot = maker->slot_of[block];
    if (slot == NO_SLOT) contradicts(maker, "needs a block that is not live", block);
    maker->slot_of[block] = NO_SLOT;
    maker->live -= maker->size_of[slot];
    maker->live_blocks--;
    return slot;
}

/* The power of two that is at least `align`, as memalign has it. */
static uint8_t log_of(uint64_t align) {
    uint8_t log = 0;
    while (log < 62 && ((uint64_t)1 << log) < align) log++;
    return log;
}

static void add_event(struct maker *maker, const struct trace_event *event) {
    struct replay_program *program = maker->program;
    struct replay_op *op = &program->ops[program->op_count];
    op->time_ns = event->time_ns;
    op->thread = event->thread;
    op->kind = (uint8_t)event->kind;
    switch (event->kind) {
    case TRACE_ALLOC:
        op->slot = begin_block(maker, event->block, take_slot(maker), event->size);
        op->size = event->size;
        op->zeroed = event->zeroed;
        op->align_log = log_of(event->align);
        break;
    case TRACE_RESIZE:
        op->slot = end_block(maker, event->old);
        op->size = event->size;
        begin_block(maker, event->block, op->slot, event->size);
        break;
    case TRACE_FREE:
        op->slot = end_block(maker, event->block);
        maker->free_slots[maker->free_count++] = op->slot;
        break;
    case TRACE_THREAD_END:
        break;
    }
    program->op_count++;
    if (event->thread >= program->thread_count) program->thread_count = event->thread + 1;
    if (maker->live_blocks > program->peak_blocks) program->peak_blocks = maker->live_blocks;
    if (maker->live > program->peak_live) {
        program->peak_live = maker->live;
        program->peak_event = program->op_count;
    }
}

/* Samples walk the heap: fewer of a heap that has many blocks. */
static uint64_t choose_every(const struct replay_program *program) {
    uint64_t samples = VISITS / (program->peak_blocks + 1);
    if (samples > SAMPLES) samples = SAMPLES;
    if (samples < SAMPLES_LEAST) samples = SAMPLES_LEAST;
    return (program->op_count + samples - 1) / samples;
}

struct replay_memory replay_program_make(struct trace *trace, const char *path, uint64_t every,
                                         uint64_t frames) {
    const struct trace_info *info = trace_info(trace);
    if (info->events == 0) tool_bad_input("%s has no events to replay", path);
    if (info->events > UINT32_MAX || info->blocks > UINT32_MAX)
        tool_bad_input("%s has more events than can be replayed; 'lucid trace cut' shortens it",
                       path);
    struct replay_memory memory = replay_memory_make(
        "program", sizeof(struct replay_program) + info->events * sizeof(struct replay_op));
    struct maker maker = {.path = path, .block_count = info->blocks, .program = memory.at};
    maker.slot_of = tool_alloc(info->blocks, sizeof(uint32_t));
    memset(maker.slot_of, 0xff, info->blocks * sizeof(uint32_t));
    struct trace_event event;
    trace_rewind(trace);
    while (trace_next(trace, &event)) {
        if (maker.program->op_count == info->events) break;
        add_event(&maker, &event);
    }
    free(maker.slot_of);
    free(maker.size_of);
    free(maker.free_slots);
    struct replay_program *program = maker.program;
    program->final_live = maker.live;
    program->every = every != 0 ? every : choose_every(program);
    program->sample_count = (program->op_count + program->every - 1) / program->every;
    program->frame_count = frames < program->op_count ? frames : program->op_count;
    return memory;
}
