/*
 * lab_giveback.c - free and the system: when resident memory falls, and when it does not.
 *
 * Also the notes' pattern of sizes that grow and leave holes, which a leak checker does not see:
 * Valgrind runs the same program and finds nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/lab_list.h"
#include "frame/frame.h"

#define MIB (1024.0 * 1024.0)

static const struct {
    const char *name, *words;
} stages[] = {{"full", "100,000 blocks of 1,000 bytes"},
              {"pinned", "all freed but the last"},
              {"pinned_later", "after a quiet while"},
              {"pinned_trimmed", "after malloc_trim"},
              {"empty", "the last one freed"},
              {"unpinned", "again, and all freed at once"},
              {"large", "a block of 10 MiB"},
              {"large_freed", "that freed"},
              {"large_later", "after a quiet while"}};
enum {
    FULL,
    PINNED,
    PINNED_LATER,
    TRIMMED,
    EMPTY,
    UNPINNED,
    LARGE,
    LARGE_FREED,
    LARGE_LATER,
    STAGES
};

struct measured {
    const struct lab_facts *facts;
    double mib[STAGES];
};

/* lucid is given the time that it takes, ten seconds at most; of others it is known that they do
 * nothing by themselves, or it is to be seen. */
static void measure(struct lab *lab, size_t i, struct measured *measured) {
    const char *patient = lab_is_lucid(lab, i) ? "1" : "0";
    measured->facts = lab_probe(lab, i, (const char *[]){"giveback", "700", patient, NULL});
    for (int k = 0; k < STAGES; k++) {
        measured->mib[k] = lab_number(measured->facts, stages[k].name) / MIB;
    }
}

static void check_ptmalloc(struct lab *lab, const char *name, const double *mib) {
    lab_check(lab, name, mib[PINNED] > 0.9 * mib[FULL] && mib[PINNED_LATER] > 0.9 * mib[FULL],
              "all freed but the last: %.1f MiB, and %.1f later: the break cannot sink below a "
              "block that is in use",
              mib[PINNED], mib[PINNED_LATER]);
    lab_check(lab, name, mib[TRIMMED] < 0.1 * mib[FULL],
              "after malloc_trim %.1f MiB: it gives back whole pages below the pin as well, by "
              "madvise",
              mib[TRIMMED]);
    lab_check(lab, name, mib[EMPTY] < 0.1 * mib[FULL],
              "the last one freed: %.1f MiB: the free top is given back", mib[EMPTY]);
    lab_check(lab, name, mib[UNPINNED] < 0.1 * mib[FULL],
              "all freed, nothing pinned: %.1f MiB at once", mib[UNPINNED]);
    lab_check(lab, name, mib[LARGE_FREED] < 0.1 * mib[LARGE],
              "a block of 10 MiB has a mapping: %.1f MiB when it is freed", mib[LARGE_FREED]);
}

static void check_lucid(struct lab *lab, const char *name, const struct measured *measured) {
    const double *mib = measured->mib;
    lab_check(lab, name, mib[PINNED_LATER] < 0.2 * mib[FULL],
              "all freed but the last: %.1f MiB, and %.1f after %.1f quiet seconds: pages go back "
              "by themselves, wherever they are",
              mib[PINNED], mib[PINNED_LATER], lab_number(measured->facts, "quiet_ms") / 1000);
    lab_check(lab, name, mib[TRIMMED] < 0.1 * mib[FULL] && mib[EMPTY] < 0.1 * mib[FULL],
              "after malloc_trim %.1f MiB", mib[TRIMMED]);
    lab_check(lab, name, mib[LARGE_LATER] < 0.2 * mib[LARGE],
              "a block of 10 MiB, freed: %.1f MiB, and %.1f after %.1f quiet seconds",
              mib[LARGE_FREED], mib[LARGE_LATER],
              lab_number(measured->facts, "large_quiet_ms") / 1000);
}

static void check_stages(struct lab *lab, size_t i, const struct measured *measured) {
    const char *name = lab_name(lab, i);
    const double *mib = measured->mib;
    lab_check(lab, name, mib[FULL] > 95, "full: %.1f MiB", mib[FULL]);
    if (lab_is_ptmalloc(lab, i)) {
        check_ptmalloc(lab, name, mib);
    } else if (lab_is_lucid(lab, i)) {
        check_lucid(lab, name, measured);
    }
}

/* A row for each stage, a column for each allocator. */
static void list_stages(struct lab *lab, const struct measured *measured) {
    char *row = tool_format("%s", "stage|what");
    for (size_t i = 0; i < lab_count(lab); i++) row = lab_append(row, "|%s", lab_name(lab, i));
    document_table(lab_document(lab), "Resident memory", row);
    for (int k = 0; k < STAGES; k++) {
        free(row);
        row = tool_format("%d|%s", k + 1, stages[k].words);
        for (size_t i = 0; i < lab_count(lab); i++) {
            row = lab_append(row, "|%s", cell_bytes(measured[i].mib[k] * MIB).text);
        }
        document_row(lab_document(lab), "%s", row);
    }
    free(row);
}

static void run_stages(struct lab *lab) {
    double numbers[STAGES];
    struct measured *measured = tool_alloc(lab_count(lab), sizeof *measured);
    for (size_t i = 0; i < lab_count(lab); i++) measure(lab, i, &measured[i]);
    list_stages(lab, measured);
    for (int k = 0; k < STAGES; k++) numbers[k] = k + 1;
    document_chart(lab_document(lab), "Resident memory, by the number of the stage", "stage",
                   "resident", "bytes", numbers, STAGES);
    for (size_t i = 0; i < lab_count(lab); i++) {
        double bytes[STAGES];
        for (int k = 0; k < STAGES; k++) bytes[k] = measured[i].mib[k] * MIB;
        document_series(lab_document(lab), lab_name(lab, i), bytes, STAGES);
    }
    for (size_t i = 0; i < lab_count(lab); i++) check_stages(lab, i, &measured[i]);
    free(measured);
}

static void check_growing(struct lab *lab, size_t i) {
    const char *name = lab_name(lab, i);
    const double *round, *resident, *live;
    const struct lab_facts *facts = lab_probe(lab, i, (const char *[]){"growing", NULL});
    size_t count = lab_series(facts, "resident", &round, &resident);
    if (lab_series(facts, "live", &round, &live) != count || count == 0) {
        lab_check(lab, name, false, "growing sizes: nothing was measured");
        return;
    }
    char title[100];
    snprintf(title, sizeof title, "Sizes that grow, on %s: resident and live", name);
    document_chart(lab_document(lab), title, "round", "memory", "bytes", round, count);
    document_series(lab_document(lab), "resident", resident, count);
    document_series(lab_document(lab), "live", live, count);
    double held = lab_number(facts, "resident"), used = lab_number(facts, "live");
    lab_check(lab, name,
              lab_is_ptmalloc(lab, i) ? held > 1.8 * used
              : lab_is_lucid(lab, i)  ? held < 1.3 * used
                                      : held > 0.9 * used,
              "growing sizes: %.1f MiB resident for %.1f MiB that live (%.2f times)", held / MIB,
              used / MIB, held / used);
}

static bool have_valgrind(void) {
    return system("command -v valgrind >/dev/null 2>&1") == 0;
}

/* The same pattern under Valgrind: it puts its own malloc under the program and looks for leaks. */
static void check_valgrind(struct lab *lab) {
    if (!have_valgrind()) {
        lab_check(lab, "valgrind", false,
                  "not measured: there is no valgrind in PATH (Debian package valgrind)");
        return;
    }
    const struct lab_facts *facts = lab_probe_under(lab, "valgrind --leak-check=full",
                                                    (const char *[]){"growing", NULL});
    const char *said = strstr(lab_complaint(facts), "All heap blocks were freed");
    lab_check(lab, "valgrind", said != NULL && lab_end(facts) == 0,
              "Valgrind says of that program: \"%.52s\"", said != NULL ? said : "something else");
}

static void run(struct lab *lab) {
    run_stages(lab);
    for (size_t i = 0; i < lab_count(lab); i++) check_growing(lab, i);
    check_valgrind(lab);
}

const struct lab_experiment lab_giveback = {
    .name = "giveback",
    .title = "free and the system: when memory goes back, and when it does not",
    .expect =
        "free gives a block to the allocator, not to the kernel. With brk only the end of the heap "
        "can be given back, so one block in use at the top keeps all the free memory below it; "
        "when that block goes, the top is trimmed. A mapped block goes back at once. lucid looks "
        "for pages that have been idle for a while, wherever they are. And memory can be lost "
        "without a leak: when each request is larger than every hole that was left, the holes stay "
        "empty, and the heap is twice what lives in it. Every block is freed in the end, so "
        "Valgrind finds nothing.",
    .allocators = "glibc,pt,lucid",
    .run = run,
};
