/*
 * lab_threshold.c - brk or mmap: from which size on a block has a mapping of its own.
 *
 * Found from outside: a block has its own mapping if its address is gone as soon as it is freed,
 * while blocks before and behind it live. Each trial is made in a fresh child.
 */
#include <stdio.h>

#include "lab/lab_list.h"

enum { KIB = 1024, FREED_KIB = 1024 };

static void check_ptmalloc(struct lab *lab, const char *name, double first, double after) {
    lab_check(lab, name, first > 127 * KIB && first <= 128 * KIB + 64,
              "blocks of %s bytes and more are mapped (expected: 128 KiB, less the header)",
              cell_count(first).text);
    lab_check(lab, name, after > first && lab_near(after, FREED_KIB * KIB, 0.02),
              "after a block of 1 MiB was freed, from %s bytes on: it moved to what was freed",
              cell_count(after).text);
}

/* In words: 0 is a size that was not found. */
static void in_words(char *text, size_t room, double bytes) {
    if (bytes > 0) {
        snprintf(text, room, "%s", cell_count(bytes).text);
    } else {
        snprintf(text, room, "none, up to 256 MiB");
    }
}

/* The same as a cell of a table, where numbers are plain. */
static const char *in_cell(double bytes, char text[40]) {
    in_words(text, 40, bytes);
    if (bytes > 0) snprintf(text, 40, "%.0f", bytes);
    return text;
}

static void check_one(struct lab *lab, size_t i) {
    const char *name = lab_name(lab, i);
    char at_first[40], later[40], cell[40], more[40];
    const struct lab_facts *facts = lab_probe(lab, i, (const char *[]){"threshold", "1024", NULL});
    double first = lab_number(facts, "at_first"), after = lab_number(facts, "after_free");
    in_words(at_first, sizeof at_first, first);
    in_words(later, sizeof later, after);
    document_row(lab_document(lab), "%s|%s|%s|%.0f", name, in_cell(first, cell),
                 in_cell(after, more), lab_number(facts, "trials"));
    if (lab_is_ptmalloc(lab, i)) {
        check_ptmalloc(lab, name, first, after);
    } else if (lab_is_lucid(lab, i)) {
        lab_check(lab, name, first == 32.0 * KIB * KIB,
                  "blocks of %.0f MiB and more are mapped (option mmap_threshold)",
                  first / KIB / KIB);
        lab_check(lab, name, after == first, "after a block of 1 MiB was freed: the same");
    } else {
        lab_check(lab, name, first >= 0 && after >= 0,
                  "smallest size with a mapping of its own: %s; after 1 MiB was freed: %s",
                  at_first, later);
    }
}

static void run(struct lab *lab) {
    document_table(lab_document(lab), "Smallest size with a mapping of its own",
                   "allocator|at first, bytes|after 1 MiB was freed, bytes|trials");
    for (size_t i = 0; i < lab_count(lab); i++) check_one(lab, i);
}

const struct lab_experiment lab_threshold = {
    .name = "threshold",
    .title = "brk or mmap: the threshold, and that it moves",
    .expect =
        "Small blocks are cut from the heap, which grows with brk; large ones get a mapping of "
        "their own with mmap, which can be given back whatever lies around it. glibc and pt draw "
        "the line at 128 KiB. But a program that frees such a block will soon want another, and "
        "mappings are dear: so when a mapped block is freed, the line moves up to its size (to 32 "
        "MiB at most), and the next one of that size comes from the heap. lucid keeps blocks of "
        "less than 32 MiB in its own region, whose pages it can give back one by one, and its line "
        "does not move.",
    .allocators = "glibc,pt,lucid",
    .run = run,
};
