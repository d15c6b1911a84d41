/*
 * lab_slab.c - slab against buddy, the reuse of constructed objects, and cache colouring.
 *
 * The effect of colouring is counted by a small model of a data cache, 32 KiB of 8 ways and lines
 * of 64 bytes, which sees one access to the first line of an object of every slab.
 */
#include <stdlib.h>
#include <string.h>

#include "classic/slab.h"
#include "lab/lab_list.h"
#include "lab/lab_sim.h"
#include "frame/frame.h"

/* ------------------------------------------------------------------ lost inside, lost outside - */

enum { EVENTS = 20000, SLOTS = 1000 };

/* Objects of a kernel: a handful of sizes, none a power of two. */
static size_t kernel_object(uint64_t random, size_t event, size_t events) {
    static const size_t sizes[] = {96, 192, 600, 1088, 1700, 2300};
    (void)event, (void)events;
    return sizes[random % TOOL_COUNT_OF(sizes)];
}

static const struct lab_workload workload = {"kernel objects", EVENTS, SLOTS, kernel_object};

static void add_charts(struct document *document, const struct lab_course *slab,
                       const struct lab_course *buddy) {
    document_chart(document, "Internal fragmentation: slab against buddy", "event",
                   "1 - asked / used", "ratio", slab->event, LAB_SAMPLES);
    document_series(document, "slab", slab->internal, LAB_SAMPLES);
    document_series(document, "buddy", buddy->internal, LAB_SAMPLES);
    document_chart(document, "External fragmentation: slab against buddy", "event",
                   "1 - largest free / free", "ratio", slab->event, LAB_SAMPLES);
    document_series(document, "slab", slab->external, LAB_SAMPLES);
    document_series(document, "buddy", buddy->external, LAB_SAMPLES);
    document_chart(document, "Held for what lives", "event", "memory", "bytes", slab->event,
                   LAB_SAMPLES);
    document_series(document, "live", slab->live, LAB_SAMPLES);
    document_series(document, "slab", slab->held, LAB_SAMPLES);
    document_series(document, "buddy", buddy->held, LAB_SAMPLES);
}

static void add_row(struct document *document, const char *name, const struct lab_course *course) {
    document_row(document, "%s|%.1f|%.1f|%.1f|%.0f|%.0f", name, 100 * lab_mean(course->internal),
                 100 * lab_mean(course->external), 100 * course->external_after,
                 lab_mean(course->held) / 1024, (double)course->last.free_blocks);
}

static void compare_with_buddy(struct lab *lab) {
    static struct lab_course slab, buddy;
    struct document *document = lab_document(lab);
    document_heap(document, lu__policy_slab.title, "slab");
    lab_simulate(&workload, &lu__policy_slab, &slab, lab);
    document_heap(document, lu__policy_buddy.title, "buddy");
    lab_simulate(&workload, &lu__policy_buddy, &buddy, lab);
    document_table(document, "Lost inside, lost outside",
                   "policy|internal, %|external, %|external when all was freed, %|held, KiB|"
                   "free blocks when all was freed");
    add_row(document, "slab", &slab);
    add_row(document, "buddy", &buddy);
    add_charts(document, &slab, &buddy);
    lab_check(lab, "", slab.sound && buddy.sound, "all blocks were sound");
    lab_check(lab, "", lab_mean(slab.internal) < 0.5 * lab_mean(buddy.internal),
              "lost inside blocks: slab %.1f %%, buddy %.1f %%", 100 * lab_mean(slab.internal),
              100 * lab_mean(buddy.internal));
    lab_check(lab, "", lab_mean(slab.held) < lab_mean(buddy.held),
              "held on average: slab %.0f KiB, buddy %.0f KiB, for %.0f KiB that live",
              lab_mean(slab.held) / 1024, lab_mean(buddy.held) / 1024, lab_mean(slab.live) / 1024);
    lab_check(lab, "buddy", buddy.external_after < slab.external_after,
              "when all was freed, buddy has merged everything into %zu blocks, the largest with "
              "%.0f %% of what is free; slab keeps %zu pieces, set aside for its sizes",
              buddy.last.free_blocks, 100 * (1 - buddy.external_after), slab.last.free_blocks);
}

/* ------------------------------------------------------------------ reuse -------------------- */

static void count_call(void *object, void *arg) {
    memset(object, 0, 64);
    ++*(size_t *)arg;
}

static void reuse(struct lab *lab) {
    enum { TASKS = 1000, ALIVE = 20 };
    size_t made = 0;
    void *tasks[ALIVE] = {NULL};
    struct lu__slab_cache_stats stats;
    struct lu__classic *heap = lab_heap(&lu__policy_slab, NULL);
    struct lu__slab_cache *cache = lu__slab_cache_create(heap, "task", 1700, 0, count_call, NULL,
                                                         &made);
    if (cache == NULL) tool_die("no memory for a cache");
    for (size_t i = 0; i < TASKS; i++) {
        lu__slab_cache_free(cache, tasks[i % ALIVE]);
        tasks[i % ALIVE] = lu__slab_cache_alloc(cache);
    }
    lu__slab_cache_stats(cache, &stats);
    document_table(lab_document(lab), "1,000 tasks, 20 alive at a time",
                   "allocations|constructor calls|allocations that got a constructed object");
    document_row(lab_document(lab), "%d|%zu|%lu", TASKS, made, (unsigned long)stats.reused);
    lab_check(lab, "slab", made < TASKS / 4 && stats.reused >= TASKS - 4 * ALIVE - made,
              "%d objects were allocated, and the constructor ran %zu times: what free takes back "
              "stays constructed",
              TASKS, made);
    lu__classic_destroy(heap);
}

/* ------------------------------------------------------------------ colouring ---------------- */

enum { SETS = 64, WAYS = 8, LINE = 64 };

struct model {
    uintptr_t lines[SETS][WAYS]; /* the most recently used first */
    size_t misses, accesses;
};

static void touch(struct model *model, uintptr_t address) {
    uintptr_t line = address / LINE, *set = model->lines[line % SETS];
    int way = 0;
    while (way < WAYS - 1 && set[way] != line) way++;
    model->misses += set[way] != line;
    model->accesses++;
    memmove(&set[1], &set[0], (size_t)way * sizeof set[0]);
    set[0] = line;
}

/* The share of misses when the first objects of many slabs are looked at in turn. */
static double misses(bool coloured, size_t *colours) {
    enum { OBJECT = 700, SLABS = 24, OBJECTS_MOST = 24 * 64, ROUNDS = 50 };
    struct model model = {.misses = 0};
    void *objects[OBJECTS_MOST];
    struct lu__slab_cache_stats stats;
    struct lu__classic *heap = lab_heap(&lu__policy_slab, NULL);
    lu__slab_configure(heap,
                       &(struct lu__slab_options){.no_colour = !coloured, .no_magazines = true});
    struct lu__slab_cache *cache = lu__slab_cache_create(heap, "object", OBJECT, 0, NULL, NULL,
                                                         NULL);
    if (cache == NULL) tool_die("no memory for a cache");
    lu__slab_cache_stats(cache, &stats);
    *colours = stats.colours;
    size_t step = stats.objects_per_slab, count = SLABS * step;
    if (count > OBJECTS_MOST) tool_die("slabs of %zu objects", step);
    for (size_t i = 0; i < count; i++) objects[i] = lu__slab_cache_alloc(cache);
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < count; i += step) {
            touch(&model, (uintptr_t)objects[i] - heap->area.base);
        }
    }
    lu__classic_destroy(heap);
    return (double)model.misses / (double)model.accesses;
}

static void colouring(struct lab *lab) {
    size_t with, without;
    double coloured = misses(true, &with), plain = misses(false, &without);
    document_table(lab_document(lab),
                   "The same object of each slab, 50 times in turn; a model of a "
                   "cache of 32 KiB, 8 ways",
                   "colouring|different offsets|accesses that miss");
    document_row(lab_document(lab), "on|%zu|%.3f", with, coloured);
    document_row(lab_document(lab), "off|%zu|%.3f", without, plain);
    lab_check(lab, "slab", coloured < 0.5 * plain,
              "with colouring %.1f %% of the accesses miss the cache, without %.1f %%",
              100 * coloured, 100 * plain);
}

static void run(struct lab *lab) {
    compare_with_buddy(lab);
    reuse(lab);
    colouring(lab);
}

const struct lab_experiment lab_slab = {
    .name = "slab",
    .title = "Slab against buddy: fragmentation, reuse of objects, cache colouring",
    .expect =
        "A kernel asks for the same few sizes again and again, none of them a power of two. Buddy "
        "rounds each up to one and loses a third inside its blocks; slabs are cut into objects of "
        "exactly the size and lose little. Buddy in turn merges what is free, up to the powers of "
        "two that fit into the heap, where a slab stays cut for its size: slab is for what is "
        "lost inside, buddy for what is lost outside, and a kernel has both, one above the other. "
        "A freed object stays constructed, so the constructor runs for new slabs only. And as the "
        "slabs begin at page boundaries, their first objects would all fall into the same sets of "
        "the processor's cache; colouring begins each slab some lines further, and they stop "
        "driving each other out.",
    .run = run,
};
