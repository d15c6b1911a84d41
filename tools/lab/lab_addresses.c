/*
 * lab_addresses.c - the address space of a process as the textbook draws it, from the process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/lab_list.h"

/* Low to high, as the probe tells them. */
static const struct {
    const char *name, *kind, *note;
} parts[] = {
    {"low", "mapping", "mappings of who asked the kernel for a low address"},
    {"text", "text", "machine code and constants; not writable"},
    {"data", "data", "static variables with a value: a copy of what is in the file"},
    {"bss", "bss", "static variables without one: zero, and not in the file"},
    {"heap", "heap", "from the end of bss to the break; grows upwards"},
    {"mappings", "mapping",
     "libraries, files, large blocks, memory of allocators; grows downwards"},
    {"stack", "stack",
     "local variables, return addresses, at its top arguments and environment; grows downwards"},
};
enum { PARTS = 7 };

static const char *const places[] = {"function",    "constant",    "initialised",      "zeroed",
                                     "small_block", "large_block", "library_function", "local",
                                     "argument",    "environment"};
static const char *const place_names[] = {
    "a function",        "a string constant", "static int x = 1",   "static int x",
    "malloc(100)",       "malloc(1 MiB)",     "a function of libc", "a local variable",
    "argv[0], a string", "the environment"};

static uint64_t address(const struct lab_facts *facts, const char *name, const char *what) {
    char key[64];
    snprintf(key, sizeof key, "%s_%s", name, what);
    return strtoull(lab_text(facts, key), NULL, 16);
}

static void draw(struct lab *lab, const char *name, const struct lab_facts *facts) {
    char title[80];
    snprintf(title, sizeof title, "The process's address space, on %s", name);
    document_addresses(lab_document(lab), title);
    for (int i = 0; i < PARTS; i++) {
        uint64_t start = address(facts, parts[i].name, "start");
        uint64_t bytes = address(facts, parts[i].name, "end") - start;
        if (bytes != 0) {
            document_part(lab_document(lab), parts[i].name, start, bytes, parts[i].kind,
                          parts[i].note);
        }
    }
    document_part(lab_document(lab), "kernel", 0xffff800000000000u, (uint64_t)1 << 47, "kernel",
                  "the same in every process, and out of reach");
}

static void list_places(struct lab *lab, const char *name, const struct lab_facts *facts) {
    char title[80];
    snprintf(title, sizeof title, "Where things are, on %s", name);
    document_table(lab_document(lab), title, "thing|address|part");
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint64_t at = address(facts, places[i], "at");
        const char *part = "?";
        for (int p = 0; p < PARTS; p++) {
            if (at >= address(facts, parts[p].name, "start") &&
                at < address(facts, parts[p].name, "end")) {
                part = parts[p].name;
            }
        }
        document_row(lab_document(lab), "%s|0x%llx|%s", place_names[i], (unsigned long long)at,
                     part);
    }
}

static void check_order(struct lab *lab, const char *name, const struct lab_facts *facts) {
    bool rising = true;
    uint64_t before = 0;
    for (int p = 0; p < PARTS; p++) {
        uint64_t start = address(facts, parts[p].name, "start");
        uint64_t end = address(facts, parts[p].name, "end");
        if (end == start) continue; /* no heap below the break */
        rising = rising && start >= before && end > start;
        before = end;
    }
    lab_check(lab, name, rising,
              "from low to high: text, data, bss, heap, mappings, stack, and none overlaps");
}

static bool is_in(const struct lab_facts *facts, const char *place, const char *part) {
    uint64_t at = address(facts, place, "at");
    return at >= address(facts, part, "start") && at < address(facts, part, "end");
}

static bool in_mapping(const struct lab_facts *facts, const char *place) {
    return is_in(facts, place, "mappings") || is_in(facts, place, "low");
}

static void check_places(struct lab *lab, size_t i, const struct lab_facts *facts) {
    const char *name = lab_name(lab, i);
    lab_check(lab, name, is_in(facts, "function", "text") && is_in(facts, "constant", "text"),
              "functions and constants are in text");
    lab_check(lab, name, is_in(facts, "initialised", "data") && is_in(facts, "zeroed", "bss"),
              "static variables are in data and bss");
    lab_check(lab, name, is_in(facts, "local", "stack"), "local variables are on the stack");
    lab_check(lab, name, is_in(facts, "argument", "stack") && is_in(facts, "environment", "stack"),
              "arguments and the environment are at the top of the stack");
    bool in_heap = is_in(facts, "small_block", "heap");
    bool large_in_heap = is_in(facts, "large_block", "heap");
    lab_check(lab, name,
              (in_heap || in_mapping(facts, "small_block")) &&
                  (!lab_is_known(lab, i) || in_heap == lab_is_ptmalloc(lab, i)),
              "malloc(100) is %s", in_heap ? "in the heap, below the break" : "in a mapping");
    lab_check(lab, name,
              in_mapping(facts, "large_block") || (large_in_heap && !lab_is_known(lab, i)),
              "malloc(1 MiB) is %s", large_in_heap ? "in the heap as well" : "in a mapping");
}

/* alloca's memory goes when the function returns; a scope's when the scope ends. */
static void check_lives(struct lab *lab, size_t i, const struct lab_facts *facts) {
    const char *name = lab_name(lab, i);
    lab_check(lab, name,
              lab_number(facts, "alloca_same") == 1 &&
                  lab_number(facts, "alloca_resident") < 3 * 1024 * 1024,
              "1,000 calls that take %.0f KiB each by alloca: always at the same address, gone on "
              "return",
              lab_number(facts, "alloca_bytes") / 1024);
    lab_check(lab, name,
              lab_number(facts, "static_kept") == 1 && lab_number(facts, "local_lost") == 1,
              "a static variable has its value in the next call, a local one begins anew");
    lab_check(lab, name, lab_number(facts, "block_kept") == 1,
              "a block that a function allocated is there after its return, until free");
    if (!lab_is_lucid(lab, i)) return;
    lab_check(lab, name,
              lab_number(facts, "scope_kept") == 0 &&
                  lab_number(facts, "scope_resident") < 8 * 1024 * 1024,
              "1,000 scopes that allocate 1 MiB from the heap each (LU_SCOPE): no block is left, "
              "and nothing was freed by hand");
}

static void compare_kinds(struct lab *lab) {
    document_table(lab_document(lab), "Kinds of storage", "kind|where|lives|size|costs");
    document_row(lab_document(lab), "static|data and bss|as long as the program|known when it is "
                                    "compiled|nothing");
    document_row(lab_document(lab),
                 "stack: local variables|stack|until the function returns|known when it is "
                 "compiled|one subtraction");
    document_row(lab_document(lab), "stack: alloca|stack|until the function returns|any, but the "
                                    "stack has some MiB|one subtraction");
    document_row(lab_document(lab), "heap: malloc|heap or mappings|until free|any|a search, and "
                                    "somebody must free");
    document_row(lab_document(lab), "heap: a scope of lucid (LU_SCOPE)|mappings|until the scope "
                                    "ends|any|an addition; nobody must free");
}

static void run(struct lab *lab) {
    compare_kinds(lab);
    for (size_t i = 0; i < lab_count(lab); i++) {
        const struct lab_facts *facts = lab_probe(lab, i, (const char *[]){"addresses", NULL});
        draw(lab, lab_name(lab, i), facts);
        list_places(lab, lab_name(lab, i), facts);
        check_order(lab, lab_name(lab, i), facts);
        check_places(lab, i, facts);
        check_lives(lab, i, facts);
    }
}

const struct lab_experiment lab_addresses = {
    .name = "addresses",
    .title = "The address space: text, data, bss, heap, mappings, stack",
    .expect =
        "From low to high addresses a process has its code and constants (text), its static "
        "variables (data and, those that begin as zero, bss), the heap, which brk lets grow "
        "upwards, then far above it the mappings with libraries and large blocks, and at the top "
        "the stack, which grows downwards. Static storage lives as long as the program, stack "
        "storage as long as its function, heap storage until free. alloca takes memory from the "
        "stack, which is gone when the function returns; a scope of lucid does the same for blocks "
        "of the heap, which may be large.",
    .allocators = "glibc,pt,lucid",
    .run = run,
};
