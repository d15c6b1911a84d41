/*
 * probe_sizes.c - what single small requests take: the first one, steps of sizes, a million.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "probe/probe_list.h"

/* ------------------------------------------------------------------ malloc(1) ---------------- */

enum { MAPS_MOST = 200, NEW_MOST = 8, LARGE = 128 * 1024 };

struct maps {
    size_t count, bytes;
    struct line {
        struct probe_map map;
        char permissions[5];
    } lines[MAPS_MOST];
};

static struct maps before, after;

static void add_map(void *arg, const struct probe_map *map, const char *permissions) {
    struct maps *maps = arg;
    maps->bytes += map->end - map->start;
    if (maps->count == MAPS_MOST) probe_die("more than %d mappings", MAPS_MOST);
    struct line *line = &maps->lines[maps->count++];
    line->map = *map;
    memcpy(line->permissions, permissions, sizeof line->permissions);
}

static bool is_new(const struct line *line) {
    for (size_t i = 0; i < before.count; i++) {
        const struct line *old = &before.lines[i];
        if (old->map.start == line->map.start && old->map.end == line->map.end &&
            memcmp(old->permissions, line->permissions, 4) == 0) {
            return false;
        }
    }
    return true;
}

/* The lines of maps that malloc added or changed. */
static void tell_new_lines(void) {
    char name[16];
    size_t count = 0;
    for (size_t i = 0; i < after.count && count < NEW_MOST; i++) {
        const struct line *line = &after.lines[i];
        if (!is_new(line)) continue;
        snprintf(name, sizeof name, "new_%zu", ++count);
        probe_text(name, "%08lx-%08lx %s %s", (unsigned long)line->map.start,
                   (unsigned long)line->map.end, line->permissions, line->map.name);
    }
    probe_number("new_lines", (double)count);
}

static void tell_block(volatile char *byte) {
    struct probe_map map;
    const char *at = (const char *)(uintptr_t)byte;
    if (!probe_map_of(at, &map)) probe_die("malloc(1) gave what is not mapped");
    probe_number("usable_bytes", (double)malloc_usable_size((void *)(uintptr_t)byte));
    probe_number("map_bytes", (double)(map.end - map.start));
    probe_number("offset", (double)((uintptr_t)byte - map.start));
    probe_text("address", "%p", (const void *)at);
    probe_text("map_name", "%s", map.name);
    /* Where there are headers, this is the one of this block. */
    size_t word = 0;
    if ((uintptr_t)byte - map.start >= sizeof word) memcpy(&word, at - sizeof word, sizeof word);
    probe_number("word_before", (double)word);
    probe_text("header", "0x%zx", word);
}

/* What is there after a free: of one byte, and of a block of 128 KiB. */
static void tell_frees(char *byte) {
    struct probe_map map;
    free(byte);
    probe_number("freed_map_bytes", probe_map_of(byte, &map) ? (double)(map.end - map.start) : 0);
    /* What is left of the first heap would be enough for one. */
    char *first = probe_hidden((char *)malloc(LARGE));
    size_t mapped = probe_mapped();
    char *large = probe_hidden((char *)malloc(LARGE));
    if (first == NULL || large == NULL) probe_die("no memory for 128 KiB");
    probe_number("large_bytes", (double)probe_mapped() - (double)mapped);
    probe_number("large_offset", (double)((uintptr_t)large % probe_page()));
    free(large);
    probe_number("large_left", (double)probe_mapped() - (double)mapped);
    probe_number("large_there", probe_is_mapped(large));
    free(first);
}

/* One byte asked, the first of the process: the maps before and after, and where it lies. Then it
 * is freed; and a block of 128 KiB, asked for and freed. */
int probe_malloc1(int argc, char **argv) {
    (void)argc, (void)argv;
    probe_each_map(add_map, &before);
    size_t resident = probe_anonymous(), faults = probe_faults();
    volatile char *byte = probe_hidden((char *)malloc(1));
    if (byte == NULL) probe_die("malloc(1) gave NULL");
    byte[0] = 1;
    faults = probe_faults() - faults;
    resident = probe_anonymous() - resident;
    probe_each_map(add_map, &after);
    probe_number("mapped_bytes", (double)after.bytes - (double)before.bytes);
    probe_number("resident_bytes", (double)resident);
    probe_number("faults", (double)faults);
    tell_new_lines();
    tell_block(byte);
    tell_frees((char *)(uintptr_t)byte);
    return 0;
}

/* ------------------------------------------------------------------ steps -------------------- */

enum { NEIGHBOURS = 64 };

static int compare(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

/* In a heap that has had nothing but blocks of this size: the distance that is usual. */
static double distance_of(size_t size) {
    static uintptr_t at[NEIGHBOURS], gaps[NEIGHBOURS];
    for (int i = 0; i < NEIGHBOURS; i++) {
        at[i] = (uintptr_t)probe_hidden(malloc(size));
        if (at[i] == 0) probe_die("no memory");
    }
    qsort(at, NEIGHBOURS, sizeof at[0], compare);
    for (int i = 1; i < NEIGHBOURS; i++) gaps[i - 1] = at[i] - at[i - 1];
    qsort(gaps, NEIGHBOURS - 1, sizeof gaps[0], compare);
    return (double)gaps[NEIGHBOURS / 2];
}

static double usable_of(size_t size) {
    return (double)malloc_usable_size(probe_hidden(malloc(size)));
}

/* For 1 … N bytes (argument): the distance between neighbours, and what may be used. */
int probe_steps(int argc, char **argv) {
    size_t most = probe_argument(argc, argv, 1);
    for (size_t size = 1; size <= most; size++) {
        probe_point("distance", (double)size, probe_in_child(distance_of, size));
        probe_point("usable", (double)size, probe_in_child(usable_of, size));
    }
    return 0;
}

/* ------------------------------------------------------------------ a million ---------------- */

enum { MILLION = 1000000 };

static double bytes_each(size_t size) {
    void **all = mmap(NULL, MILLION * sizeof *all, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (all == MAP_FAILED) probe_die("no memory for the list");
    size_t resident = probe_anonymous();
    for (size_t i = 0; i < MILLION; i++) {
        char *object = probe_hidden((char *)malloc(size));
        if (object == NULL) probe_die("no memory");
        object[0] = 1; /* an object that is used: its page must be there */
        all[i] = object;
    }
    return ((double)probe_anonymous() - (double)resident) / MILLION;
}

/* A million objects of each of the sizes given: resident bytes for each. */
int probe_million(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        size_t size = probe_argument(argc, argv, i);
        probe_point("each", (double)size, probe_in_child(bytes_each, size));
        probe_point("usable", (double)size, probe_in_child(usable_of, size));
    }
    return 0;
}
