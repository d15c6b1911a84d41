/*
 * replay_lucid.c - a program on lucid's engine, in a forked child of this process.
 *
 * The command has the engine under its lu_ names and does not use it itself, so a child starts with
 * a fresh one. Its threads are real ones that take turns. What would differ from run to run is the
 * clock, by which lucid gives memory back: here it shows the time of the trace. The linker leads
 * the engine's calls of lu__os_now_ms to __wrap_lu__os_now_ms below (tools/lucid/CMakeLists.txt).
 */
#include "replay/replay_parts.h"

#include "frame/frame.h"

#include "lucid/lucid.h"
#include "span/huge.h"
#include "span/span.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

uint64_t __real_lu__os_now_ms(void);
uint64_t __wrap_lu__os_now_ms(void);

/* Of the trace, in a child that replays; only one thread runs at a time. */
static uint64_t trace_ms;
static bool has_trace_time;

uint64_t __wrap_lu__os_now_ms(void) {
    return has_trace_time ? trace_ms : __real_lu__os_now_ms();
}

static void *engine_alloc(void *self, const struct replay_op *op) {
    (void)self;
    if (op->align_log > 4) return lu_memalign((size_t)1 << op->align_log, op->size);
    return op->zeroed ? lu_calloc(1, op->size) : lu_malloc(op->size);
}

static void *engine_resize(void *self, void *block, const struct replay_op *op) {
    (void)self;
    return lu_realloc(block, op->size > 0 ? op->size : 1);
}

static void engine_free(void *self, void *block) {
    (void)self;
    lu_free(block);
}

static void engine_clock(void *self, uint64_t time_ns) {
    (void)self;
    uint64_t now = 1000 + time_ns / 1000000; /* not 0 at the start, as after no boot */
    if (now > trace_ms) trace_ms = now;
}

static uint64_t resident_slices(const struct region *region, size_t from, size_t end) {
    return replay_resident(region->base + (from << LU_SLICE_SHIFT), (end - from) << LU_SLICE_SHIFT);
}

/* Blocks, free memory and lucid's own tables, as far as they were ever touched. */
static uint64_t resident_bytes(void) {
    uint64_t resident = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        resident += replay_resident((char *)(region->table - 1), region->table_bytes);
        size_t from = 0; /* of what is mapped up to the next hole */
        for (size_t slice = 0; slice < region->top;) {
            const struct span *run = lu__region_desc(region, slice);
            size_t end = slice + run->slices;
            if (run->kind == LU_KIND_FREE && run->zero == LU_FREE_HOLE) {
                resident += resident_slices(region, from, slice);
                from = end;
            }
            slice = end;
        }
        resident += resident_slices(region, from, region->ready);
    }
    struct lu__huge huge;
    for (uintptr_t from = 0; lu__huge_next(NULL, &from, &huge);) {
        resident += replay_resident(huge.block, huge.bytes);
    }
    return resident;
}

static void engine_sample(void *self, struct replay_sample *sample) {
    (void)self;
    lu_stats_t stats;
    lu_stats_get(&stats);
    sample->held = stats.held_bytes + stats.metadata_bytes;
    sample->resident = resident_bytes();
    sample->internal = stats.live_bytes == 0 ? 0
                                             : 1 - (double)sample->live / (double)stats.live_bytes;
}

static bool note_violation(const lu_violation_t *violation, void *arg) {
    replay_fail(arg, "%s", violation->message);
    return true;
}

static void run_in_child(const struct replay_program *program, struct replay_outcome *outcome) {
    const struct replay_engine engine = {.alloc = engine_alloc,
                                         .resize = engine_resize,
                                         .free = engine_free,
                                         .sample = engine_sample,
                                         .clock = engine_clock};
    lu_stats_t stats;
    tool_read_options();
    has_trace_time = true;
    engine_clock(NULL, 0);
    lu_set_violation_handler(note_violation, outcome);
    replay_run(program, &engine, outcome);
    lu_stats_get(&stats);
    outcome->final_held = stats.held_bytes + stats.metadata_bytes;
    /* Between samples as well, but without the descriptors, half a KiB for each run of blocks. */
    if (stats.peak_held_bytes > outcome->peak_held) outcome->peak_held = stats.peak_held_bytes;
    outcome->counts.system_calls = stats.os_calls;
}

void replay_lucid(const struct replay_program *program, struct replay_target *target) {
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) tool_die("cannot start a process: %s", strerror(errno));
    if (pid == 0) {
        run_in_child(program, target->outcome);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) tool_die("cannot wait for a process: %s", strerror(errno));
    if (WIFSIGNALED(status)) {
        target->outcome->finished = false;
        replay_fail(target->outcome, "signal %d ended the process", WTERMSIG(status));
    }
}
