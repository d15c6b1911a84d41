/*
 * lab_kr.c - the walk-through of the notes, step by step, on the allocator of Kernighan & Ritchie.
 *
 * There a header has 8 bytes, as on 32 bits; here a unit is 16, and all figures of bytes are twice
 * as large. Counted in units they are the same: a heap of 7 at first, and 4 for each sbrk.
 */
#include <string.h>

#include "lab/lab_list.h"
#include "lab/lab_sim.h"

enum { UNIT = 16, FIRST_UNITS = 7, STEP_UNITS = 4 };

enum { BLOCKS = 4 };

struct walk {
    struct lab *lab;
    struct lu__classic *heap;
    int step;
    struct lab_birth births[BLOCKS]; /* of all that was allocated, freed or not */
    size_t birth_count;
};

/* A block that is there from the next step on. */
static void *ask(struct walk *walk, size_t bytes) {
    void *block = lu__classic_alloc(walk->heap, bytes);
    for (size_t i = 0; i < walk->birth_count; i++) {
        if (walk->births[i].payload == block) walk->births[i--] = walk->births[--walk->birth_count];
    }
    walk->births[walk->birth_count++] = (struct lab_birth){block, (uint64_t)walk->step + 1};
    return block;
}

/* Draw it, and compare the free blocks, in units, and the heap with what they must be. */
static void show(struct walk *walk, const char *what, const char *free_blocks, size_t units) {
    char found[64];
    walk->step++;
    lab_free_list(walk->heap, UNIT, found, sizeof found);
    size_t held = lu__area_held(&walk->heap->area) / UNIT;
    lab_frame(walk->lab, walk->heap, (uint64_t)walk->step, walk->births, walk->birth_count);
    document_frame_call(lab_document(walk->lab), "%s", what);
    lab_check(walk->lab, "kr", strcmp(found, free_blocks) == 0 && held == units,
              "step %d, %s: free blocks of %s units in a heap of %zu (expected %s in %zu)",
              walk->step, what, found, held, free_blocks, units);
}

struct told {
    const char *what;
};

static void on_misuse(void *arg, const struct lu__classic *heap, const char *what,
                      const void *block) {
    (void)heap, (void)block;
    ((struct told *)arg)->what = what;
}

/* p2 is written past its end: over the header of the free block behind it. */
static void destroy_neighbour(struct walk *walk, char *p2, const struct told *told) {
    struct lu__classic_fault fault = {"nothing", 0};
    memset(p2 + 2 * UNIT, 'A', UNIT);
    bool sound = lu__classic_validate(walk->heap, &fault);
    lab_check(walk->lab, "kr", !sound,
              "p2 written past its end: the header of the free block "
              "behind it is gone; the check of the heap says \"%s\"",
              fault.what);
    (void)lu__classic_alloc(walk->heap, 40 * UNIT);
    lab_check(walk->lab, "kr", told->what != NULL, "the next malloc walks the list and says \"%s\"",
              told->what != NULL ? told->what : "nothing");
}

static void run(struct lab *lab) {
    struct told told = {NULL};
    struct lu__classic_config config = {
        .step_bytes = STEP_UNITS * UNIT, .misuse = on_misuse, .misuse_arg = &told};
    struct walk walk = {.lab = lab, .heap = lab_heap(&lu__policy_kr, &config)};
    document_heap(lab_document(lab), "The eight steps", "kr");
    lu__classic_free(walk.heap, lu__classic_alloc(walk.heap, (FIRST_UNITS - 1) * UNIT));
    show(&walk, "one free block", "7", 7);
    void *p1 = ask(&walk, UNIT);
    show(&walk, "p1 = malloc(1 unit), cut from the tail", "5", 7);
    char *p2 = ask(&walk, 2 * UNIT);
    show(&walk, "p2 = malloc(2 units)", "2", 7);
    lu__classic_free(walk.heap, p1);
    show(&walk, "free(p1)", "2+2", 7);
    /* In the book, what sbrk brings is given a header and freed, like a block that was in use. Here
     * that is done by hand, so that it can be seen: a block of just that size, from the system. */
    uint64_t rises = walk.heap->area.break_moves;
    void *brought = ask(&walk, (STEP_UNITS - 1) * UNIT);
    show(&walk, "malloc(2 units): neither block is enough, sbrk brings 4 units", "2+2", 11);
    lu__classic_free(walk.heap, brought);
    show(&walk, "which are freed, and merge with what p1 had", "2+6", 11);
    void *p3 = ask(&walk, 2 * UNIT);
    show(&walk, "3 units are cut from the tail of that: p3", "2+3", 11);
    lab_check(lab, "kr", walk.heap->area.break_moves == rises + 1, "one rise of the break for all");
    lu__classic_free(walk.heap, p3);
    show(&walk, "free(p3): merged; the break does not sink", "2+6", 11);
    destroy_neighbour(&walk, p2, &told);
    lu__classic_destroy(walk.heap);
}

const struct lab_experiment lab_kr = {
    .name = "kr",
    .title = "Kernighan & Ritchie in eight steps, and what an overflow does",
    .expect =
        "Every block begins with a header of one unit: the link to the next free block, and the "
        "size. Free blocks are a circle in the order of addresses; malloc takes the first that is "
        "large enough and cuts its tail off; free puts a block back at its place and merges it "
        "with free neighbours; when nothing is large enough the break rises, and it never sinks. "
        "Two free blocks that do not touch cannot serve a request that both together could: that "
        "is external fragmentation. And the headers lie between the user's bytes: who writes past "
        "the end of a block destroys the next header, and the walk around the circle goes "
        "anywhere. (The book's code notices nothing; this one looks at a link before it follows "
        "it.)",
    .run = run,
};
