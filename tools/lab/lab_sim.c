/*
 * lab_sim.c - see lab_sim.h.
 *
 * The workload keeps a table of slots. Each event picks a slot by chance: what is in it is freed,
 * and a new block put there. So blocks live as long as their slot is not picked, in an order that
 * has nothing to do with that of their addresses, which is what makes holes. Each block begins with
 * the number of its slot, which must still be there when it is freed.
 */
#include "lab/lab_sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frame/frame.h"

enum { ROOM = 256 * 1024 * 1024 };

struct lu__classic *lab_heap(const struct lu__policy *policy,
                             const struct lu__classic_config *config) {
    struct lu__classic_config tracked = config != NULL ? *config : (struct lu__classic_config){0};
    tracked.tracked = true;
    if (tracked.limit_bytes == 0) tracked.limit_bytes = ROOM; /* also where there are limits */
    struct lu__classic *heap = lu__classic_create(policy, &tracked);
    if (heap == NULL) tool_die("no memory for a heap of %s", policy->name);
    return heap;
}

/* ------------------------------------------------------------------ pictures ----------------- */

static const char *state_name(enum lu__block_state state) {
    static const char *const names[] = {"used", "free", "cached", "top", "meta"};
    return names[state];
}

struct drawing {
    struct document *document;
    uintptr_t base;
    uint64_t event;
    const struct lab_birth *births;
    size_t birth_count;
};

static int by_address(const void *a, const void *b) {
    uintptr_t one = (uintptr_t)((const struct lab_birth *)a)->payload;
    uintptr_t other = (uintptr_t)((const struct lab_birth *)b)->payload;
    return (one > other) - (one < other);
}

static uint64_t age_of(const struct drawing *drawing, const struct lu__block *block) {
    struct lab_birth wanted = {(const void *)(block->start + block->header), 0};
    const struct lab_birth *birth = drawing->birth_count == 0
                                        ? NULL
                                        : bsearch(&wanted, drawing->births, drawing->birth_count,
                                                  sizeof wanted, by_address);
    return birth != NULL && block->state == LU_BLOCK_USED ? drawing->event - birth->event : 0;
}

static bool draw_block(void *arg, const struct lu__block *block) {
    const struct drawing *drawing = arg;
    document_block(drawing->document, &(struct document_block){
                                          .start = block->start - drawing->base,
                                          .bytes = block->bytes,
                                          .header = block->header,
                                          .asked = block->asked,
                                          .age = age_of(drawing, block),
                                          .state = state_name(block->state),
                                      });
    return true;
}

void lab_frame(struct lab *lab, struct lu__classic *heap, uint64_t event, struct lab_birth *births,
               size_t birth_count) {
    struct lu__classic_stats stats;
    struct drawing drawing = {lab_document(lab), heap->area.base, event, births, birth_count};
    if (birth_count > 0) qsort(births, birth_count, sizeof births[0], by_address);
    lu__classic_stats(heap, &stats);
    document_frame(drawing.document, event, stats.held, stats.asked_bytes);
    lu__classic_walk(heap, draw_block, &drawing);
}

struct list {
    char *text;
    size_t room, unit;
};

static bool list_free(void *arg, const struct lu__block *block) {
    struct list *list = arg;
    if (block->state != LU_BLOCK_FREE) return true;
    const char *plus = list->text[0] != '\0' ? "+" : "";
    size_t length = strlen(list->text);
    snprintf(list->text + length, list->room - length, "%s%zu", plus, block->bytes / list->unit);
    return true;
}

void lab_free_list(struct lu__classic *heap, size_t unit, char *text, size_t room) {
    struct list list = {text, room, unit};
    text[0] = '\0';
    lu__classic_walk(heap, list_free, &list);
}

/* ------------------------------------------------------------------ the workload ------------- */

/* xorshift64*, Vigna 2016. */
static uint64_t next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

struct slot {
    size_t *block; /* begins with the slot's number */
    size_t born;
};

static bool drop(struct lu__classic *heap, struct slot *slot, size_t i) {
    bool sound = slot->block == NULL || *slot->block == i;
    lu__classic_free(heap, slot->block);
    slot->block = NULL;
    return sound;
}

static void sample(struct lu__classic *heap, struct lab_course *course, size_t which,
                   size_t event) {
    struct lu__classic_stats stats;
    lu__classic_stats(heap, &stats);
    course->event[which] = (double)event;
    course->live[which] = (double)stats.asked_bytes;
    course->held[which] = (double)stats.held;
    course->internal[which] = stats.internal;
    course->external[which] = stats.external;
    course->peak_live = LU_MAX(course->peak_live, course->live[which]);
    course->peak_held = (double)stats.peak_held;
    course->searches_each = (double)stats.counters.searches / (double)stats.counters.allocs;
}

static void draw(struct lab *lab, struct lu__classic *heap, const struct slot *slots, size_t count,
                 size_t event, size_t size, const size_t *block) {
    struct lab_birth *births = tool_alloc(count, sizeof *births);
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (slots[i].block == NULL) continue;
        births[used++] = (struct lab_birth){slots[i].block, slots[i].born};
    }
    lab_frame(lab, heap, event, births, used);
    document_frame_call(lab_document(lab), "malloc(%s) = +0x%zx", cell_count((double)size).text,
                        (size_t)((uintptr_t)block - heap->area.base));
    free(births);
}

/* Free what is left, and look once more. */
static void finish(struct lu__classic *heap, struct slot *slots, size_t count,
                   struct lab_course *course) {
    struct lu__classic_fault fault;
    course->sound &= lu__classic_validate(heap, &fault);
    for (size_t i = 0; i < count; i++) course->sound &= drop(heap, &slots[i], i);
    lu__classic_stats(heap, &course->last);
    course->external_after = course->last.external;
    course->sound &= lu__classic_validate(heap, &fault);
}

double lab_mean(const double values[LAB_SAMPLES]) {
    double sum = 0;
    for (int i = 0; i < LAB_SAMPLES; i++) sum += values[i] / LAB_SAMPLES;
    return sum;
}

void lab_simulate(const struct lab_workload *workload, const struct lu__policy *policy,
                  struct lab_course *course, struct lab *lab) {
    struct lu__classic *heap = lab_heap(policy, NULL);
    struct slot *slots = tool_alloc(workload->slots, sizeof *slots);
    uint64_t random = 88172645463325252u;
    *course = (struct lab_course){.sound = true};
    for (size_t event = 1, which = 0; event <= workload->events; event++) {
        size_t i = next(&random) % workload->slots;
        course->sound &= drop(heap, &slots[i], i);
        size_t size = workload->size(next(&random), event, workload->events);
        size_t *block = lu__classic_alloc(heap, LU_MAX(size, sizeof(size_t)));
        if (block == NULL) tool_die("%s has no memory", policy->name);
        *block = i;
        slots[i] = (struct slot){block, event};
        bool first = lab != NULL && event == 1; /* how each begins */
        if (first) draw(lab, heap, slots, workload->slots, event, size, block);
        if (event * LAB_SAMPLES < (which + 1) * workload->events) continue;
        sample(heap, course, which++, event);
        if (lab != NULL && which % 5 == 0)
            draw(lab, heap, slots, workload->slots, event, size, block);
    }
    finish(heap, slots, workload->slots, course);
    free(slots);
    lu__classic_destroy(heap);
}
