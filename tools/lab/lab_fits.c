/*
 * lab_fits.c - first, next, best and worst fit and the buddy system on the same sequence of calls.
 */
#include <string.h>

#include "lab/lab_list.h"
#include "lab/lab_sim.h"

enum { EVENTS = 20000, SLOTS = 1500 };

/* Small ones mostly, and sizes that drift: what was freed is never quite what is asked for. */
static size_t drifting(uint64_t random, size_t event, size_t events) {
    size_t base = 32 + 400 * event / events;
    if (random % 10 == 0) return 2000 + (random >> 8) % 6000;
    return base + (random >> 8) % 200;
}

static const struct lab_workload workload = {"drifting sizes", EVENTS, SLOTS, drifting};

static const struct lu__policy *const policies[] = {
    &lu__policy_first, &lu__policy_next, &lu__policy_best, &lu__policy_worst, &lu__policy_buddy};
enum { FIRST, NEXT, BEST, WORST, BUDDY, POLICIES };

static void charts(struct lab *lab, const struct lab_course *courses) {
    struct document *document = lab_document(lab);
    document_chart(document, "Held for what lives", "event", "memory", "bytes", courses[0].event,
                   LAB_SAMPLES);
    document_series(document, "live", courses[0].live, LAB_SAMPLES);
    for (int p = 0; p < POLICIES; p++) {
        document_series(document, policies[p]->name, courses[p].held, LAB_SAMPLES);
    }
    document_chart(document, "External fragmentation", "event", "1 - largest free / free", "ratio",
                   courses[0].event, LAB_SAMPLES);
    for (int p = 0; p < POLICIES; p++) {
        document_series(document, policies[p]->name, courses[p].external, LAB_SAMPLES);
    }
    document_chart(document, "Internal fragmentation", "event", "1 - asked / used", "ratio",
                   courses[0].event, LAB_SAMPLES);
    for (int p = 0; p < POLICIES; p++) {
        document_series(document, policies[p]->name, courses[p].internal, LAB_SAMPLES);
    }
}

static void compare(struct lab *lab, const struct lab_course *courses) {
    const double *held[POLICIES];
    for (int p = 0; p < POLICIES; p++) held[p] = courses[p].held;
    double first = lab_mean(held[FIRST]), best = lab_mean(held[BEST]),
           worst = lab_mean(held[WORST]);
    lab_check(lab, "", best <= 1.02 * first, "best fit holds %.0f KiB on average, first fit %.0f",
              best / 1024, first / 1024);
    lab_check(lab, "", worst > 1.02 * best, "worst fit holds %.0f KiB: it cuts up what is large",
              worst / 1024);
    lab_check(lab, "", lab_mean(courses[BUDDY].internal) > 2 * lab_mean(courses[FIRST].internal),
              "inside its blocks buddy loses %.0f %%, first fit %.0f %%",
              100 * lab_mean(courses[BUDDY].internal), 100 * lab_mean(courses[FIRST].internal));
    lab_check(lab, "", courses[BUDDY].searches_each < 0.5 * courses[BEST].searches_each,
              "buddy looks at %.1f free blocks for each request, first fit at %.1f, best at %.1f",
              courses[BUDDY].searches_each, courses[FIRST].searches_each,
              courses[BEST].searches_each);
}

static void run(struct lab *lab) {
    static struct lab_course courses[POLICIES];
    for (int p = 0; p < POLICIES; p++) {
        document_heap(lab_document(lab), policies[p]->title, policies[p]->name);
        lab_simulate(&workload, policies[p], &courses[p], lab);
        lab_check(lab, policies[p]->name, courses[p].sound,
                  "all blocks sound; peak %.0f KiB held for %.0f KiB, %.1f searched for each",
                  courses[p].peak_held / 1024, courses[p].peak_live / 1024,
                  courses[p].searches_each);
    }
    charts(lab, courses);
    compare(lab, courses);
}

const struct lab_experiment lab_fits = {
    .name = "fits",
    .title = "First, next, best and worst fit and buddy on the same calls",
    .expect =
        "20,000 calls of the same program on five allocators. Best fit leaves the smallest rests "
        "and holds least, but must look at the most blocks to find the best one; first fit takes "
        "the lowest place, so that large blocks survive further up, and is nearly as lean. Worst "
        "fit always cuts the largest block, until nothing large is left: it holds most of the "
        "fits. Buddy hardly searches at all and merges at once, and pays inside the blocks: a "
        "request is rounded up to a power of two.",
    .run = run,
};
