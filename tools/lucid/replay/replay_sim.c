/*
 * replay_sim.c - a program on a classic heap, simulated in this process.
 *
 * The heap lives in an area of its own with its own break, and who calls is told by number: the
 * same program gives the same heap at every run, to the byte. All figures are read off the heap by
 * walking it.
 *
 * Heap maps become data of a page, so a frame has a bound of blocks. A heap with more of them is
 * drawn coarser: neighbours below a size that is doubled until the frame fits are drawn as one
 * block, in the state that most of its bytes have, with the header and the inner loss of the used
 * ones among them.
 *
 *     |24|24|40|16|8000      |24|32|      below 64 B:     |104        |8000      |56   |
 */
#include "replay/replay_parts.h"

#include "frame/frame.h"

#include "classic/classic.h"

#include <stdlib.h>
#include <string.h>

#define MERGE_LEAST 64u
#define MERGE_MOST ((uint64_t)1 << 46)

struct birth {
    uintptr_t at;
    uint64_t event;
};

struct simulation {
    struct lu__classic *heap;
    struct replay_target *target;
};

/* ------------------------------------------------------------------ engine ------------------- */

static void *sim_alloc(void *self, const struct replay_op *op) {
    struct lu__classic *heap = ((struct simulation *)self)->heap;
    size_t align = (size_t)1 << op->align_log;
    if (align > heap->policy->align) return lu__classic_alloc_aligned(heap, align, op->size);
    return op->zeroed ? lu__classic_alloc_zeroed(heap, op->size)
                      : lu__classic_alloc(heap, op->size);
}

static void *sim_resize(void *self, void *block, const struct replay_op *op) {
    return lu__classic_resize(((struct simulation *)self)->heap, block, op->size);
}

static void sim_free(void *self, void *block) {
    lu__classic_free(((struct simulation *)self)->heap, block);
}

static void sim_enter(void *self, uint32_t thread) {
    lu__classic_set_thread(((struct simulation *)self)->heap, thread);
}

static void sim_leave(void *self) {
    lu__classic_thread_end(((struct simulation *)self)->heap);
}

/* Blocks passed one after the other: what a run on a long list takes its time for. */
static bool sim_enough(void *self) {
    const struct simulation *simulation = self;
    const struct lu__classic_counters *counters = &simulation->heap->counters;
    return counters->searches + counters->free_steps >= simulation->target->steps_most;
}

static void sim_sample(void *self, struct replay_sample *sample) {
    struct lu__classic_stats stats;
    struct lu__classic *heap = ((struct simulation *)self)->heap;
    const struct lu__area *area = &heap->area;
    lu__classic_stats(heap, &stats);
    sample->held = stats.held;
    sample->resident = replay_resident((void *)area->base, area->broken);
    for (size_t i = 0; i < area->mapping_count; i++)
        sample->resident += replay_resident((void *)area->mappings[i].start,
                                            area->mappings[i].bytes);
    sample->internal = stats.internal;
    sample->external = stats.external;
}

static void note_misuse(void *arg, const struct lu__classic *heap, const char *what,
                        const void *block) {
    struct replay_outcome *outcome = arg;
    replay_fail(outcome, "event %llu: the heap reports: %s, block at %llu",
                (unsigned long long)(heap->counters.allocs + heap->counters.frees +
                                     heap->counters.resizes + heap->counters.failures + 1),
                what, (unsigned long long)((uintptr_t)block - heap->area.base));
}

/* ------------------------------------------------------------------ heap maps ---------------- */

struct drawing {
    uintptr_t base;
    uint64_t event;
    const struct birth *births; /* by address */
    size_t birth_count, next_birth;
    struct document_block *blocks;
    size_t count, room;
};

static const char *const state_names[] = {[LU_BLOCK_USED] = "used",
                                          [LU_BLOCK_FREE] = "free",
                                          [LU_BLOCK_CACHED] = "cached",
                                          [LU_BLOCK_TOP] = "top",
                                          [LU_BLOCK_META] = "meta"};
#define STATES TOOL_COUNT_OF(state_names)

/* Events since the used block at `payload` was allocated; blocks come by address. */
static uint64_t age_of(struct drawing *drawing, uintptr_t payload) {
    while (drawing->next_birth < drawing->birth_count &&
           drawing->births[drawing->next_birth].at < payload)
        drawing->next_birth++;
    if (drawing->next_birth == drawing->birth_count) return 0;
    const struct birth *birth = &drawing->births[drawing->next_birth];
    return birth->at == payload ? drawing->event - birth->event : 0;
}

static bool draw_block(void *arg, const struct lu__block *block) {
    struct drawing *drawing = arg;
    if (drawing->count == drawing->room) {
        drawing->room = drawing->room * 2 + 256;
        drawing->blocks = tool_grow(drawing->blocks, drawing->room, sizeof(struct document_block));
    }
    bool used = block->state == LU_BLOCK_USED;
    drawing->blocks[drawing->count++] = (struct document_block){
        .start = block->start - drawing->base,
        .bytes = block->bytes,
        .header = block->header,
        .asked = used ? block->asked : 0,
        .age = used ? age_of(drawing, block->start + block->header) : 0,
        .state = state_names[block->state],
    };
    return true;
}

static int by_address(const void *a, const void *b) {
    const struct birth *one = a, *other = b;
    return (one->at > other->at) - (one->at < other->at);
}

/* Of all live blocks. The caller frees. */
static struct birth *list_births(const struct replay_run *run, size_t *count) {
    struct birth *births = tool_alloc(run->program->slot_count, sizeof(struct birth));
    *count = 0;
    for (uint32_t slot = 0; slot < run->program->slot_count; slot++) {
        const struct replay_block *block = &run->blocks[slot];
        if (block->at == NULL) continue;
        births[(*count)++] = (struct birth){(uintptr_t)block->at, block->birth};
    }
    qsort(births, *count, sizeof(struct birth), by_address);
    return births;
}

/* ---- coarser ---- */

static bool is_used(const struct document_block *block) {
    return block->state == state_names[LU_BLOCK_USED];
}

/* From `at` on, how many blocks are drawn as one if those below `limit` bytes are merged. */
static size_t unit_length(const struct drawing *drawing, size_t at, uint64_t limit) {
    const struct document_block *blocks = drawing->blocks;
    uint64_t bytes = blocks[at].bytes;
    size_t length = 1;
    if (bytes >= limit) return 1;
    while (at + length < drawing->count && bytes < limit) {
        const struct document_block *next = &blocks[at + length];
        if (next->bytes >= limit || next->start != blocks[at].start + bytes) break;
        bytes += next->bytes;
        length++;
    }
    return length;
}

static size_t count_units(const struct drawing *drawing, uint64_t limit) {
    size_t units = 0;
    for (size_t at = 0; at < drawing->count; at += unit_length(drawing, at, limit)) units++;
    return units;
}

/* The state that most bytes of the blocks have. */
static const char *main_state(const struct document_block *blocks, size_t length) {
    uint64_t bytes[STATES] = {0};
    size_t most = 0;
    for (size_t i = 0; i < length; i++)
        for (size_t s = 0; s < STATES; s++)
            if (blocks[i].state == state_names[s]) bytes[s] += blocks[i].bytes;
    for (size_t s = 1; s < STATES; s++)
        if (bytes[s] > bytes[most]) most = s;
    return state_names[most];
}

static struct document_block merge(const struct document_block *blocks, size_t length) {
    if (length == 1) return blocks[0];
    struct document_block unit = {.start = blocks[0].start, .state = main_state(blocks, length)};
    uint64_t lost = 0;
    for (size_t i = 0; i < length; i++) {
        unit.bytes += blocks[i].bytes;
        if (blocks[i].age > unit.age) unit.age = blocks[i].age;
        if (!is_used(&blocks[i])) continue;
        unit.header += blocks[i].header;
        lost += blocks[i].bytes - blocks[i].header - blocks[i].asked;
    }
    if (is_used(&unit))
        unit.asked = unit.bytes - unit.header - lost;
    else
        unit.header = unit.age = 0;
    return unit;
}

static void make_coarser(struct drawing *drawing, struct replay_target *target) {
    uint64_t limit = MERGE_LEAST;
    if (drawing->count <= target->frame_room) return;
    while (limit < MERGE_MOST && count_units(drawing, limit) > target->frame_room) limit *= 2;
    size_t units = 0;
    for (size_t at = 0; at < drawing->count;) {
        size_t length = unit_length(drawing, at, limit);
        drawing->blocks[units++] = merge(&drawing->blocks[at], length);
        at += length;
    }
    target->merged_frames++;
    if (limit > target->merged_below) target->merged_below = limit;
    if (units > target->frame_room) {
        units = target->frame_room;
        target->cut_frames++;
    }
    drawing->count = units;
}

/* The call that event `event` was; addresses as the map has them. */
static void write_call(const struct replay_run *run, uintptr_t base, uint64_t event,
                       char text[REPLAY_CALL_TEXT]) {
    const struct replay_op *op = &run->program->ops[event - 1];
    char place[32] = "NULL", align[40] = "";
    if (run->last != NULL)
        snprintf(place, sizeof(place), "+0x%llx",
                 (unsigned long long)((uintptr_t)run->last - base));
    if (op->align_log > 0)
        snprintf(align, sizeof(align), "%s, ",
                 cell_count((double)((uint64_t)1 << op->align_log)).text);
    const struct cell size = cell_count((double)op->size);
    switch ((enum trace_kind)op->kind) {
    case TRACE_ALLOC:
        snprintf(text, REPLAY_CALL_TEXT, "%s(%s%s) = %s",
                 align[0] != '\0' ? "memalign"
                 : op->zeroed     ? "calloc"
                                  : "malloc",
                 align, size.text, place);
        break;
    case TRACE_RESIZE:
        snprintf(text, REPLAY_CALL_TEXT, "realloc(..., %s) = %s", size.text, place);
        break;
    case TRACE_FREE:
        snprintf(text, REPLAY_CALL_TEXT, "free(%s)", place);
        break;
    case TRACE_THREAD_END:
        snprintf(text, REPLAY_CALL_TEXT, "end of thread %u", op->thread);
        break;
    }
}

static void sim_frame(void *self, const struct replay_run *run, uint64_t event) {
    struct simulation *simulation = self;
    struct replay_target *target = simulation->target;
    struct drawing drawing = {.base = simulation->heap->area.base, .event = event};
    struct birth *births = list_births(run, &drawing.birth_count);
    drawing.births = births;
    lu__classic_walk(simulation->heap, draw_block, &drawing);
    free(births);
    make_coarser(&drawing, target);
    target->frames = tool_grow(target->frames, target->frame_count + 1, sizeof(*target->frames));
    target->frames[target->frame_count++] = (struct replay_frame){
        .event = event,
        .held = lu__area_held(&simulation->heap->area),
        .live = run->live,
        .blocks = drawing.blocks,
        .count = drawing.count};
    write_call(run, drawing.base, event, target->frames[target->frame_count - 1].call);
}

void replay_frames_free(struct replay_target *target) {
    for (size_t i = 0; i < target->frame_count; i++) free(target->frames[i].blocks);
    free(target->frames);
    target->frames = NULL;
    target->frame_count = 0;
    target->merged_below = target->merged_frames = target->cut_frames = 0;
}

/* ------------------------------------------------------------------ the run ------------------ */

static void note_stats(struct lu__classic *heap, struct replay_outcome *outcome) {
    struct lu__classic_stats stats;
    lu__classic_stats(heap, &stats);
    outcome->peak_held = stats.peak_held;
    outcome->final_held = stats.held;
    outcome->counts = (struct replay_counts){
        .searches = stats.counters.searches,
        .free_steps = stats.counters.free_steps,
        .splits = stats.counters.splits,
        .merges = stats.counters.merges,
        .break_moves = stats.break_moves,
        .maps = stats.maps,
        .unmaps = stats.unmaps,
        .system_calls = stats.break_moves + stats.maps + stats.unmaps,
    };
}

void replay_classic(const struct replay_program *program, struct replay_target *target) {
    struct replay_outcome *outcome = target->outcome;
    struct lu__classic_config config = {
        .tracked = true, .misuse = note_misuse, .misuse_arg = outcome};
    struct simulation simulation = {lu__classic_create(target->policy, &config), target};
    struct replay_engine engine = {.alloc = sim_alloc,
                                   .resize = sim_resize,
                                   .free = sim_free,
                                   .sample = sim_sample,
                                   .frame = target->frame_room > 0 ? sim_frame : NULL,
                                   .enter = sim_enter,
                                   .enough = target->steps_most > 0 ? sim_enough : NULL,
                                   .leave = sim_leave,
                                   .self = &simulation};
    struct lu__classic_fault fault;
    if (simulation.heap == NULL) tool_die("no address space for a simulated heap");
    replay_run(program, &engine, outcome);
    if (outcome->error[0] == '\0' && !lu__classic_validate(simulation.heap, &fault)) {
        outcome->finished = false;
        replay_fail(outcome, "after the last event the heap is damaged: %s, at %llu", fault.what,
                    (unsigned long long)(fault.where - simulation.heap->area.base));
    }
    if (outcome->finished) note_stats(simulation.heap, outcome);
    lu__classic_destroy(simulation.heap);
}
