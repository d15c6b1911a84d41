/*
 * lab_faults.c - page faults: what it costs to map and unmap each time, against using memory again.
 */
#include <string.h>

#include "lab/lab_list.h"

enum { PAGES = 256 };

static bool heeds_mallopt(const struct lab *lab, size_t i) {
    return lab_is_known(lab, i) || strcmp(lab_name(lab, i), "dl") == 0;
}

static void check_one(struct lab *lab, size_t i) {
    const char *name = lab_name(lab, i);
    const struct lab_facts *mapped = lab_probe(
        lab, i, (const char *[]){"mapping_cost", "200", "1024", "1", NULL});
    const struct lab_facts *reused = lab_probe(
        lab, i, (const char *[]){"mapping_cost", "200", "1024", "0", NULL});
    double pages = PAGES * 4096.0 / lab_number(mapped, "page");
    double faults[] = {lab_number(mapped, "faults"), lab_number(reused, "faults")};
    double us[] = {lab_number(mapped, "ns") / 1000, lab_number(reused, "ns") / 1000};
    document_row(lab_document(lab), "%s|%.2f|%.1f|%.2f|%.1f", name, faults[0], us[0], faults[1],
                 us[1]);
    if (!heeds_mallopt(lab, i)) {
        lab_check(lab, name, faults[0] >= 0 && faults[1] >= 0,
                  "%.1f page faults for each block (it may not know mallopt's thresholds)",
                  faults[1]);
        return;
    }
    lab_check(lab, name, lab_near(faults[0], pages, 0.1),
              "mapped each time: %.1f page faults for the %.0f pages of each block", faults[0],
              pages);
    lab_check(lab, name, faults[1] < 0.1 * pages, "used again: %.2f page faults", faults[1]);
    lab_check(lab, name, us[0] > 3 * us[1], "%.1f us of processor time against %.1f: %.0f times",
              us[0], us[1], us[0] / us[1]);
}

static void run(struct lab *lab) {
    document_table(
        lab_document(lab), "malloc(1 MiB), every page written, free; 200 times",
        "allocator|mapped: faults|mapped: us of processor time|used again: faults|used again: us");
    for (size_t i = 0; i < lab_count(lab); i++) check_one(lab, i);
}

const struct lab_experiment lab_faults = {
    .name = "faults",
    .title = "Page faults: a mapping for each allocation, against using memory again",
    .expect =
        "A block with a mapping of its own begins without memory each time: every page that is "
        "written faults, the kernel finds a page, clears it and enters it in the page table. That "
        "costs far more than mmap and munmap themselves. The same program with the threshold above "
        "its size (mallopt) gets the same memory again and again, and does not fault at all. That "
        "is why the threshold moves.",
    .allocators = "glibc,pt,lucid",
    .run = run,
};
