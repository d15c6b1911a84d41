/*
 * lab_threads.c - many threads: one lock, arenas, thread caches; and frees by another thread.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/lab_list.h"
#include "frame/frame.h"

static const size_t counts[] = {1, 2, 4, 8};
static const double RESIDENT_MOST = 48.0 * 1024 * 1024;
enum { COUNTS = 4, FOUR = 2, EIGHT = 3 };

struct measured {
    double rate[COUNTS], resident[COUNTS], waits[COUNTS]; /* blocks of their own    */
    double cross[COUNTS], cross_resident[COUNTS];         /* freed by another thread */
    double worked[COUNTS];                                /* pairs per second of processor time */
    double passed[COUNTS];                                /* share that another thread freed    */
};

static void measure(struct lab *lab, size_t i, struct measured *measured) {
    for (size_t k = 0; k < COUNTS; k++) {
        char threads[16];
        snprintf(threads, sizeof threads, "%zu", counts[k]);
        const struct lab_facts *own = lab_probe(lab, i,
                                                (const char *[]){"threads", threads, "0", NULL});
        const struct lab_facts *cross = lab_probe(lab, i,
                                                  (const char *[]){"threads", threads, "1", NULL});
        measured->rate[k] = lab_number(own, "pairs_per_second") / 1e6;
        measured->worked[k] = lab_number(own, "pairs_per_worked_second") / 1e6;
        measured->resident[k] = lab_number(own, "resident");
        measured->waits[k] = 1e6 * lab_number(own, "waits") / lab_number(own, "pairs");
        measured->cross[k] = lab_number(cross, "pairs_per_second") / 1e6;
        measured->cross_resident[k] = lab_number(cross, "resident");
        measured->passed[k] = lab_number(cross, "passed") / lab_number(cross, "pairs");
    }
}

static void chart(struct lab *lab, const char *title, const char *label, const char *unit,
                  const struct measured *measured, size_t offset) {
    double x[COUNTS];
    for (size_t k = 0; k < COUNTS; k++) x[k] = (double)counts[k];
    document_chart(lab_document(lab), title, "threads", label, unit, x, COUNTS);
    for (size_t i = 0; i < lab_count(lab); i++) {
        const double *values = (const double *)((const char *)&measured[i] + offset);
        document_series(lab_document(lab), lab_name(lab, i), values, COUNTS);
    }
}

static void list(struct lab *lab, const struct measured *measured) {
    document_table(lab_document(lab), "With 4 threads",
                   "allocator|millions of pairs a second|of processor time|waits per million|"
                   "freed by another: millions a second|share passed on|resident KiB|"
                   "freed by another: resident KiB");
    for (size_t i = 0; i < lab_count(lab); i++) {
        const struct measured *m = &measured[i];
        document_row(lab_document(lab), "%s|%.1f|%.1f|%.1f|%.1f|%.2f|%.0f|%.0f", lab_name(lab, i),
                     m->rate[FOUR], m->worked[FOUR], m->waits[FOUR], m->cross[FOUR],
                     m->passed[FOUR], m->resident[FOUR] / 1024, m->cross_resident[FOUR] / 1024);
    }
}

/* What one lock costs is compared by processor time and by waits, for what else the machine does
 * changes these little. */
static void check_one_lock(struct lab *lab, size_t lucid, size_t locked,
                           const struct measured *measured) {
    const struct measured *one = &measured[locked], *own = &measured[lucid];
    lab_check(lab, "", own->worked[FOUR] > 1.5 * one->worked[FOUR],
              "with 4 threads, a second of processor time does %.1f million pairs with lucid's "
              "caches and %.1f with the one lock of %s",
              own->worked[FOUR], one->worked[FOUR], lab_name(lab, locked));
    lab_check(lab, "", one->waits[FOUR] > 4 * own->waits[FOUR],
              "in a million pairs threads wait %.1f times with the one lock of %s, and %.1f with "
              "lucid's caches",
              one->waits[FOUR], lab_name(lab, locked), own->waits[FOUR]);
}

static void check(struct lab *lab, const struct measured *measured) {
    size_t lucid = SIZE_MAX, locked = SIZE_MAX;
    for (size_t i = 0; i < lab_count(lab); i++) {
        const struct measured *m = &measured[i];
        lab_check(lab, lab_name(lab, i), m->rate[0] > 0 && m->cross[FOUR] > 0,
                  "millions of malloc and free a second: %.1f with 1 thread, %.1f with 4; freed by "
                  "another thread %.1f with 4",
                  m->rate[0], m->rate[FOUR], m->cross[FOUR]);
        lab_check(lab, lab_name(lab, i),
                  m->passed[EIGHT] > 0.5 && m->cross_resident[EIGHT] < RESIDENT_MOST,
                  "%.0f %% of the blocks were freed by another thread, and used again: %.1f MiB "
                  "with 8 threads, for 4 that live or are on their way",
                  100 * m->passed[EIGHT], m->cross_resident[EIGHT] / 1024 / 1024);
        if (lab_is_lucid(lab, i)) lucid = i;
        if (strcmp(lab_name(lab, i), "dl") == 0) locked = i;
    }
    if (lucid != SIZE_MAX && locked != SIZE_MAX) check_one_lock(lab, lucid, locked, measured);
}

static void run(struct lab *lab) {
    struct measured *measured = tool_alloc(lab_count(lab), sizeof *measured);
    for (size_t i = 0; i < lab_count(lab); i++) measure(lab, i, &measured[i]);
    list(lab, measured);
    chart(lab, "Throughput, each thread with blocks of its own", "millions of pairs a second", "",
          measured, offsetof(struct measured, rate));
    chart(lab, "How often a thread waited, per million pairs", "waits", "", measured,
          offsetof(struct measured, waits));
    chart(lab, "Throughput, each block freed by another thread", "millions of pairs a second", "",
          measured, offsetof(struct measured, cross));
    chart(lab, "Resident memory then", "resident", "bytes", measured,
          offsetof(struct measured, resident));
    chart(lab, "Resident memory, freed by another thread", "resident", "bytes", measured,
          offsetof(struct measured, cross_resident));
    check(lab, measured);
    free(measured);
}

const struct lab_experiment lab_threads = {
    .name = "threads",
    .title = "Many threads: one lock, arenas, thread caches",
    .expect =
        "Each thread has 1,000 blocks and replaces one by chance, for a tenth of a second. dl has "
        "one lock around everything (the adaptor's): threads wait for each other, and more of "
        "them do not get more done. pt and glibc give threads arenas of their own and a small "
        "cache in front, lucid a whole heap each: most calls touch nothing that is shared. Memory "
        "is the price: what one thread keeps the others cannot have. A block that another thread "
        "frees must find its way home: pt takes the lock of its arena, lucid collects such frees "
        "and hands them over in batches. (On a machine with two processors two threads is all that "
        "can run at a time.)",
    .allocators = "dl,pt,glibc,lucid",
    .run = run,
};
