/*
 * lab_steps.c - steps of sizes: how far neighbours are from each other for 1 … 200 bytes.
 */
#include <stdlib.h>

#include "lab/lab_list.h"
#include "frame/frame.h"

enum { MOST = 200 };

/* What the notes derive for 64 bits: 8 bytes for the size, multiples of 16, at least 32. */
static double ptmalloc_distance(double size) {
    size_t bytes = ((size_t)size + 8 + 15) & ~(size_t)15;
    return bytes < 32 ? 32 : (double)bytes;
}

static size_t count_steps(const double *distance, size_t count) {
    size_t steps = 1;
    for (size_t k = 1; k < count; k++) steps += distance[k] != distance[k - 1];
    return steps;
}

struct sizes {
    const double *size, *distance, *usable;
    size_t count;
};

static void check_one(struct lab *lab, size_t i, const struct sizes *sizes) {
    const char *name = lab_name(lab, i);
    size_t wrong = 0;
    double header = 0;
    if (sizes->count != MOST) {
        lab_check(lab, name, false, "%zu sizes measured, not %d", sizes->count, MOST);
        return;
    }
    for (size_t k = 0; k < sizes->count; k++) {
        double distance = sizes->distance[k], usable = sizes->usable[k];
        double expected = lab_is_ptmalloc(lab, i) ? ptmalloc_distance(sizes->size[k]) : usable;
        wrong += lab_is_known(lab, i) ? distance != expected : distance < sizes->size[k];
        header += (distance - usable) / (double)sizes->count;
    }
    lab_check(lab, name, wrong == 0,
              "%zu steps from %.0f to %.0f bytes, %zu of 200 sizes not as "
              "expected (%s)",
              count_steps(sizes->distance, sizes->count), sizes->distance[0],
              sizes->distance[sizes->count - 1], wrong,
              lab_is_ptmalloc(lab, i) ? "32, 48, 64 …: size + 8, up to a multiple of 16"
              : lab_is_lucid(lab, i)  ? "what can be used, and nothing else"
                                      : "at least the size");
    lab_check(lab, name, header >= 0, "%.1f bytes of each block are the allocator's", header);
}

/* Sizes with the same distance in one row. */
static void list_steps(struct lab *lab, size_t i, const struct sizes *sizes) {
    size_t from = 0;
    for (size_t k = 1; k <= sizes->count; k++) {
        if (k < sizes->count && sizes->distance[k] == sizes->distance[from]) continue;
        document_row(lab_document(lab), "%s|%.0f|%.0f|%.0f|%.0f", lab_name(lab, i),
                     sizes->size[from], sizes->size[k - 1], sizes->distance[from],
                     sizes->usable[k - 1]);
        from = k;
    }
}

static void measure(struct lab *lab, size_t i, struct sizes *sizes) {
    const struct lab_facts *facts = lab_probe(lab, i, (const char *[]){"steps", "200", NULL});
    sizes->count = lab_series(facts, "distance", &sizes->size, &sizes->distance);
    if (lab_series(facts, "usable", &sizes->size, &sizes->usable) != sizes->count) {
        sizes->count = 0;
    }
}

static void run(struct lab *lab) {
    double asked[MOST];
    struct sizes *sizes = tool_alloc(lab_count(lab), sizeof *sizes);
    for (size_t i = 0; i < lab_count(lab); i++) measure(lab, i, &sizes[i]);
    for (int k = 0; k < MOST; k++) asked[k] = k + 1;
    document_chart(lab_document(lab), "Distance between neighbours", "bytes asked", "distance",
                   "bytes", asked, MOST);
    for (size_t i = 0; i < lab_count(lab); i++) {
        if (sizes[i].count == MOST) {
            document_series(lab_document(lab), lab_name(lab, i), sizes[i].distance, MOST);
        }
    }
    document_table(lab_document(lab), "The steps",
                   "allocator|from|to, bytes asked|distance|usable");
    for (size_t i = 0; i < lab_count(lab); i++) list_steps(lab, i, &sizes[i]);
    for (size_t i = 0; i < lab_count(lab); i++) check_one(lab, i, &sizes[i]);
    free(sizes);
}

const struct lab_experiment lab_steps = {
    .name = "steps",
    .title = "Steps of sizes: the distance of neighbours for 1 to 200 bytes",
    .expect =
        "Nobody gets exactly what was asked for. glibc and pt need 8 bytes in front of each block "
        "and hand out multiples of 16, at least 32, because a free block must hold its links: "
        "neighbours are 32 apart up to 24 bytes, 48 up to 40, 64 up to 56. lucid has size classes "
        "and no headers: the distance is what can be used, in steps that grow with the size.",
    .allocators = "glibc,pt,lucid",
    .run = run,
};
