/*
 * probe_system.c - when memory comes from the system and when it goes back: the threshold between
 * break and mapping, memory that nobody touches, what is resident after frees, and what mappings
 * cost.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "probe/probe_list.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

static char *block_of(size_t bytes) {
    char *block = probe_hidden((char *)malloc(bytes));
    if (block == NULL) probe_die("no memory for %zu bytes", bytes);
    return block;
}

/* Without help of the library: qsort and stdio may allocate, sleeping does not. */
static void sleep_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* ------------------------------------------------------------------ the threshold ------------ */

/* True if a block of that size has a mapping of its own, which is gone as soon as it is freed. */
static double goes_at_once(size_t bytes) {
    char *keep = block_of(bytes); /* so that the free one is not the top of anything */
    char *block = block_of(bytes), *after = block_of(bytes);
    bool apart = probe_is_mapped(block);
    free(block);
    apart = apart && !probe_is_mapped(block);
    free(after);
    free(keep);
    return apart;
}

/* The smallest size for which that is so, found by halving; 0 if there is none up to `most`. */
static size_t threshold(size_t most, size_t *trials) {
    size_t low = 0, high = most;
    ++*trials;
    if (probe_in_child(goes_at_once, most) == 0) return 0;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        ++*trials;
        if (probe_in_child(goes_at_once, middle) != 0) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

/* The threshold at the start, and after a block of a size (argument, KiB) was freed. */
int probe_threshold(int argc, char **argv) {
    size_t freed = probe_argument(argc, argv, 1) * KIB, trials = 0;
    probe_number("at_first", (double)threshold(256 * MIB, &trials));
    free(block_of(freed));
    probe_number("after_free", (double)threshold(256 * MIB, &trials));
    probe_number("freed", (double)freed);
    probe_number("trials", (double)trials);
    return 0;
}

/* ------------------------------------------------------------------ untouched ---------------- */

/* A figure of one of the two calls: "malloc_faults". */
static void tell(const char *call, const char *what, double value) {
    char name[64];
    snprintf(name, sizeof name, "%s_%s", call, what);
    probe_number(name, value);
}

static void ask_and_write(const char *call, char *block, size_t resident, size_t faults) {
    if (block == NULL) probe_die("%s: no memory for 1 GiB", call);
    tell(call, "faults", (double)(probe_faults() - faults));
    tell(call, "resident", (double)probe_anonymous() - (double)resident);
    faults = probe_faults();
    for (size_t i = 1; i <= 3; i++) ((volatile char *)block)[i * (GIB / 4) + 100] = 1;
    tell(call, "write_faults", (double)(probe_faults() - faults));
    tell(call, "write_resident", (double)probe_anonymous() - (double)resident);
}

/* 1 GiB from malloc, then from calloc: resident bytes and faults after asking, and after three
 * bytes were written far from each other. */
int probe_untouched(int argc, char **argv) {
    (void)argc, (void)argv;
    size_t resident = probe_anonymous(), faults = probe_faults();
    char *block = probe_hidden((char *)malloc(GIB));
    ask_and_write("malloc", block, resident, faults);
    free(block);
    resident = probe_anonymous();
    faults = probe_faults();
    block = probe_hidden((char *)calloc(1, GIB));
    ask_and_write("calloc", block, resident, faults);
    bool zero = true;
    for (size_t i = 0; i < GIB; i += 64 * MIB) zero = zero && block[i] == 0;
    tell("calloc", "zero", zero);
    free(block);
    return 0;
}

/* malloc of so many MiB (argument), with address space limited to so many (argument; 0: as it is):
 * whether that succeeds, and errno. */
int probe_too_much(int argc, char **argv) {
    size_t bytes = probe_argument(argc, argv, 1) * MIB, limit = probe_argument(argc, argv, 2) * MIB;
    if (limit != 0) {
        struct rlimit at_most = {probe_mapped() + limit, probe_mapped() + limit};
        if (setrlimit(RLIMIT_AS, &at_most) != 0) probe_die("cannot set RLIMIT_AS");
    }
    errno = 0;
    char *block = probe_hidden((char *)malloc(bytes));
    bool told = errno == ENOMEM;
    probe_number("succeeds", block != NULL);
    probe_number("out_of_memory", block == NULL && told);
    if (block != NULL) {
        ((volatile char *)block)[bytes - 1] = 1; /* its last page can be had */
        probe_number("resident", (double)probe_resident());
    }
    char *small = probe_hidden((char *)malloc(100));
    probe_number("goes_on", small != NULL);
    return 0;
}

/* ------------------------------------------------------------------ giving back -------------- */

enum { SMALL = 1000, COUNT = 100000 };

static char *blocks[COUNT];

static void fill(void) {
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = block_of(SMALL);
        memset(blocks[i], 1, SMALL);
    }
}

static void tell_resident(const char *name, size_t before) {
    size_t now = probe_resident();
    probe_number(name, now > before ? (double)(now - before) : 0);
}

/* A program that has little to do: for so many milliseconds, or, if `patient`, until not more than
 * a fifth of `full` is there, for ten seconds at most. How long it was. */
static double be_quiet(size_t milliseconds, bool patient, size_t before, size_t full) {
    enum { STEP_MS = 10, CALLS = 30, MOST_MS = 10000 };
    uint64_t start = probe_now_ns();
    for (size_t ms = 0; ms < (patient ? MOST_MS : milliseconds); ms += STEP_MS) {
        for (int i = 0; i < CALLS; i++) free(block_of(5000));
        sleep_ms(STEP_MS);
        if (!patient) continue;
        size_t now = probe_resident();
        if (now <= before || now - before <= full / 5) break;
    }
    return (double)(probe_now_ns() - start) / 1e6;
}

static void give_back_large(size_t milliseconds, bool patient) {
    size_t before = probe_resident();
    char *large = block_of(10 * MIB);
    memset(large, 1, 10 * MIB);
    tell_resident("large", before);
    free(large);
    tell_resident("large_freed", before);
    probe_number("large_quiet_ms", be_quiet(milliseconds, patient, before, 10 * MIB));
    tell_resident("large_later", before);
}

/* 100 MB in blocks of 1,000 bytes. All but the last are freed (it pins the top); a while passes
 * with little work (arguments: milliseconds, patient); malloc_trim; the last one too. And a block
 * of 10 MiB, freed. */
int probe_giveback(int argc, char **argv) {
    size_t milliseconds = probe_argument(argc, argv, 1);
    bool patient = probe_argument(argc, argv, 2) != 0;
    size_t before = probe_resident();
    fill();
    tell_resident("full", before);
    size_t full = probe_resident() - before;
    for (size_t i = 0; i + 1 < COUNT; i++) free(blocks[i]);
    tell_resident("pinned", before);
    probe_number("quiet_ms", be_quiet(milliseconds, patient, before, full));
    tell_resident("pinned_later", before);
    malloc_trim(0);
    tell_resident("pinned_trimmed", before);
    free(blocks[COUNT - 1]);
    tell_resident("empty", before);
    /* Again, without a pin, for malloc_trim has changed the rest. */
    fill();
    for (size_t i = 0; i < COUNT; i++) free(blocks[i]);
    tell_resident("unpinned", before);
    malloc_trim(0);
    give_back_large(patient ? milliseconds : 0, patient);
    return 0;
}

/* Sizes that grow: each round takes two blocks, larger than all before, and frees the first. What
 * it leaves is a hole into which nothing fits that is asked for later. All is freed in the end, so
 * a program that looks for leaks finds none. */
int probe_growing(int argc, char **argv) {
    enum { ROUNDS = 400, FIRST = 2000, STEP = 300 };
    static char *kept[ROUNDS];
    size_t live = 0, before = probe_anonymous(), now = before;
    (void)argc, (void)argv;
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t bytes = FIRST + round * STEP;
        char *block = block_of(bytes);
        kept[round] = block_of(bytes);
        memset(block, 1, bytes);
        memset(kept[round], 1, bytes);
        live += bytes;
        free(block);
        if (round % 8 != 7) continue;
        now = probe_anonymous();
        probe_point("resident", (double)round + 1, now > before ? (double)(now - before) : 0);
        probe_point("live", (double)round + 1, (double)live);
    }
    probe_number("resident", now > before ? (double)(now - before) : 0);
    probe_number("live", (double)live);
    malloc_trim(0);
    now = probe_anonymous();
    probe_number("trimmed", now > before ? (double)(now - before) : 0);
    for (size_t round = 0; round < ROUNDS; round++) free(kept[round]);
    return 0;
}

/* ------------------------------------------------------------------ what mappings cost ------- */

/* N times (argument) a block of so many KiB (argument), touched and freed; mapped each time if the
 * last argument is 1 (mallopt keeps the threshold where it is), reused otherwise. Processor time is
 * that of the quickest of some batches: what else the machine does can only make it longer. */
int probe_mapping_cost(int argc, char **argv) {
    enum { BATCHES = 5 };
    size_t rounds = probe_argument(argc, argv, 1), bytes = probe_argument(argc, argv, 2) * KIB;
    bool mapped = probe_argument(argc, argv, 3) != 0;
    double best = 0;
    mallopt(M_MMAP_THRESHOLD, mapped ? 64 * 1024 : 64 * 1024 * 1024);
    mallopt(M_TRIM_THRESHOLD, 512 * 1024 * 1024);
    char *block = block_of(bytes); /* the first time is dear in any case */
    probe_touch(block, bytes);
    free(block);
    size_t faults = probe_faults(), each = rounds / BATCHES;
    for (int batch = 0; batch < BATCHES; batch++) {
        uint64_t start = probe_worked_ns();
        for (size_t i = 0; i < each; i++) {
            block = block_of(bytes);
            probe_touch(block, bytes);
            free(block);
        }
        double ns = (double)(probe_worked_ns() - start) / (double)each;
        if (batch == 0 || ns < best) best = ns;
    }
    probe_number("ns", best);
    probe_number("faults", (double)(probe_faults() - faults) / (double)(BATCHES * each));
    probe_number("page", (double)probe_page());
    return 0;
}
