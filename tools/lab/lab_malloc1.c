/*
 * lab_malloc1.c - what malloc(1) really takes: the maps of a process before and after.
 *
 * The notes: one byte makes the heap 132 KiB large, and its address is 16 bytes past the heap's
 * beginning, for there is a header in front. Today's glibc puts its thread cache there first, so
 * that its first block lies behind it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "lab/lab_list.h"
#include "frame/frame.h"

enum { HEAP = 132 * 1024, HEADER = 16, CACHE = 0x290, CHUNK = 32, IN_USE = 1 };
enum { TABLES = 64 * 1024 }; /* what pt may need for its list of mappings */

static void check_ptmalloc(struct lab *lab, size_t i, const struct lab_facts *facts) {
    const char *name = lab_name(lab, i);
    double heap = lab_number(facts, "map_bytes"), offset = lab_number(facts, "offset");
    lab_check(lab, name, heap == HEAP,
              "the heap is now %.0f KiB (expected 132: a page for the "
              "request and 128 KiB to come)",
              heap / 1024);
    bool bare = offset == HEADER, cached = offset == CACHE + HEADER;
    lab_check(lab, name, bare || cached,
              "the first block is %.0f bytes past its beginning (16 of header%s)", offset,
              cached ? ", 656 of thread cache before it" : "");
    lab_check(lab, name, lab_number(facts, "usable_bytes") == 24,
              "%.0f bytes of it can be used "
              "(expected 24, the least that a block has)",
              lab_number(facts, "usable_bytes"));
    double word = lab_number(facts, "word_before");
    lab_check(lab, name, word == CHUNK + IN_USE,
              "the word in front of it is %s: 32 bytes, and 1 for \"the one before is in use\"; "
              "from it free knows the size",
              lab_text(facts, "header"));
}

static void check_frees(struct lab *lab, size_t i, const struct lab_facts *facts) {
    const char *name = lab_name(lab, i);
    double heap = lab_number(facts, "freed_map_bytes"), large = lab_number(facts, "large_bytes");
    lab_check(lab, name, heap == HEAP, "free of the byte: the heap still has %.0f KiB",
              heap / 1024);
    lab_check(
        lab, name,
        large >= HEAP && large < HEAP + TABLES && lab_number(facts, "large_offset") == HEADER,
        "malloc(128 KiB), when the heap has not so much left, maps %.0f KiB more, and the block is "
        "%.0f bytes past their beginning",
        large / 1024, lab_number(facts, "large_offset"));
    lab_check(lab, name,
              lab_number(facts, "large_left") < TABLES && lab_number(facts, "large_there") == 0,
              "free of it: the mapping is gone");
}

static void check_one(struct lab *lab, size_t i, const struct lab_facts *facts) {
    const char *name = lab_name(lab, i);
    double resident = lab_number(facts, "resident_bytes"), usable;
    usable = lab_number(facts, "usable_bytes");
    if (!lab_is_known(lab, i)) {
        lab_check(lab, name, usable >= 1, "%.0f bytes of it can be used", usable);
        return;
    }
    lab_check(lab, name, resident <= 256 * 1024, "%.0f KiB became resident, whatever was mapped",
              resident / 1024);
    lab_check(lab, name, lab_number(facts, "mapped_bytes") >= 4096,
              "the process has %s KiB more of address space",
              cell_count(lab_number(facts, "mapped_bytes") / 1024).text);
    if (lab_is_ptmalloc(lab, i)) {
        check_ptmalloc(lab, i, facts);
        check_frees(lab, i, facts);
    } else {
        lab_check(lab, name, usable == 8,
                  "%.0f bytes of it can be used (expected 8, the smallest class: no header)",
                  usable);
        lab_check(lab, name, lab_number(facts, "large_there") == 1,
                  "128 KiB, freed: their addresses stay, for they are part of the region");
    }
}

static void list_maps(struct lab *lab, size_t i, const struct lab_facts *facts) {
    char name[32];
    for (int k = 1; k <= lab_number(facts, "new_lines"); k++) {
        snprintf(name, sizeof name, "new_%d", k);
        document_row(lab_document(lab), "%s|%s", lab_name(lab, i), lab_text(facts, name));
    }
    if (lab_number(facts, "new_lines") == 0) {
        document_row(lab_document(lab), "%s|none: it was there before", lab_name(lab, i));
    }
}

static void run(struct lab *lab) {
    const struct lab_facts **facts = tool_alloc(lab_count(lab), sizeof(struct lab_facts *));
    for (size_t i = 0; i < lab_count(lab); i++) {
        facts[i] = lab_probe(lab, i, (const char *[]){"malloc1", NULL});
    }
    document_table(
        lab_document(lab), "malloc(1), the first of the process",
        "allocator|more address space, bytes|resident (no files), bytes|page faults|usable, bytes|"
        "address|offset in its mapping|word in front");
    for (size_t i = 0; i < lab_count(lab); i++) {
        document_row(lab_document(lab), "%s|%.0f|%.0f|%.0f|%.0f|%s|%.0f|%s", lab_name(lab, i),
                     lab_number(facts[i], "mapped_bytes"), lab_number(facts[i], "resident_bytes"),
                     lab_number(facts[i], "faults"), lab_number(facts[i], "usable_bytes"),
                     lab_text(facts[i], "address"), lab_number(facts[i], "offset"),
                     lab_text(facts[i], "header"));
    }
    document_table(lab_document(lab), "Lines of /proc/PID/maps that are new or other than before",
                   "allocator|line");
    for (size_t i = 0; i < lab_count(lab); i++) list_maps(lab, i, facts[i]);
    for (size_t i = 0; i < lab_count(lab); i++) check_one(lab, i, facts[i]);
    free(facts);
}

const struct lab_experiment lab_malloc1 = {
    .name = "malloc1",
    .title = "What malloc(1) really takes",
    .expect =
        "One byte is asked for and written, the first request of the process. glibc and pt raise "
        "the break: they take 132 KiB at once, so that the next requests need no system call, and "
        "put a header of 16 bytes in front of the byte, where free will find the size. lucid "
        "reserves a terabyte of addresses, which costs nothing, opens a part of it, and has no "
        "header: what a block is stands in a table beside it. On all of them hardly anything is "
        "resident, for only pages that were written take memory. Freed, the byte stays with the "
        "allocator; 128 KiB, which glibc and pt map by themselves, go back at once.",
    .allocators = "glibc,pt,lucid",
    .run = run,
};
