/*
 * lab_million.c - a million small objects: what each takes of resident memory.
 */
#include "lab/lab_list.h"

static const char *const arguments[] = {"million", "1", "23", "24", "25", "40", "41", NULL};
enum { SIZES = 6 };

static void check_one(struct lab *lab, size_t i) {
    const char *name = lab_name(lab, i);
    const struct lab_facts *facts = lab_probe(lab, i, arguments);
    const double *size, *each, *usable;
    size_t count = lab_series(facts, "each", &size, &each);
    if (lab_series(facts, "usable", &size, &usable) != count || count != SIZES) {
        lab_check(lab, name, false, "%zu sizes measured, not %d", count, SIZES);
        return;
    }
    document_series(lab_document(lab), name, each, count);
    for (size_t k = 0; k < count; k++) {
        double expected = usable[k] + (lab_is_ptmalloc(lab, i) ? 8 : 0);
        bool known = lab_is_known(lab, i);
        /* A byte each is a megabyte: what the process needs besides. */
        bool holds = known ? each[k] > expected - 0.1 && each[k] < expected + 1
                           : each[k] >= 0.9 * size[k];
        lab_check(lab, name, holds, "%.0f byte%s take%s %.2f each (%s%.0f%s)", size[k],
                  size[k] == 1 ? "" : "s", size[k] == 1 ? "s" : "", each[k],
                  known ? "expected " : "usable ", known ? expected : usable[k],
                  lab_is_ptmalloc(lab, i) ? ": 8 for the size and a multiple of 16" : "");
    }
}

static void run(struct lab *lab) {
    const double sizes[SIZES] = {1, 23, 24, 25, 40, 41};
    document_chart(lab_document(lab), "A million objects: resident bytes for each", "bytes asked",
                   "resident", "bytes", sizes, SIZES);
    for (size_t i = 0; i < lab_count(lab); i++) check_one(lab, i);
}

const struct lab_experiment lab_million = {
    .name = "million",
    .title = "A million small objects of 1, 23, 24, 25, 40 and 41 bytes",
    .expect =
        "What a step costs is seen when there are many. In glibc and pt an object of 24 bytes "
        "takes 32 and one of 25 takes 48: one byte more in the program is 16 MB more for a "
        "million, and even a single byte takes 32. In lucid it takes the size of its class: 8, 32 "
        "and 48 here. Every object is written to, and resident memory is read before and after.",
    .allocators = "glibc,pt,lucid",
    .run = run,
};
