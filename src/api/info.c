/*
 * info.c - mallinfo(3), malloc_stats(3) and malloc_info(3): lucid's figures in glibc's words.
 *
 *     glibc's word       here (lu_stats_t of lucid.h)
 *     mmap, hblkhd       huge: blocks with a mapping of their own
 *     arena, system      held_bytes without huge: what may be resident for blocks
 *     uordblks, in use   live_bytes without huge
 *     fordblks           arena - uordblks, so that the two always add up to arena
 *     ordblks            free blocks of all size classes
 *     keepcost           dirty_bytes: what malloc_trim could surely give back
 *     usmblks, fsmblks, smblks    0: there are no fast bins
 *     aspace             committed_bytes: address space that is writable
 *
 * and, behind what glibc tells, the parts of what is held (lu_held_t).
 *
 * Each function takes one snapshot by lu_stats_get, on its stack (some 3 KiB), and reports that; no
 * lock is held while it writes, so that a FILE may allocate its buffer from here. malloc_info is
 * the only place that uses stdio, on a FILE that the caller opened. The int fields of mallinfo stop
 * at INT_MAX where glibc's wrap around.
 */
#include "api/surface.h"
#include "base/format.h"
#include "base/glibc_info.h"
#include "lucid/lucid.h"
#include "stats/snapshot.h"

#include <unistd.h>

#ifdef __GLIBC__

/* a - b, and 0 where a snapshot taken in motion would make it negative. */
static size_t minus(size_t a, size_t b) {
    return a > b ? a - b : 0;
}

static size_t free_blocks(const lu_stats_t *stats) {
    size_t count = 0;
    for (size_t i = 0; i < stats->class_count; i++) count += stats->classes[i].free_blocks;
    return count;
}

/* ------------------------------------------------------------------ mallinfo ----------------- */

struct mallinfo2 lu__mallinfo2(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    struct mallinfo2 info = {0};
    info.uordblks = minus(stats.live_bytes, stats.huge_bytes);
    info.arena = LU_MAX(minus(stats.held_bytes, stats.huge_bytes), info.uordblks);
    info.fordblks = info.arena - info.uordblks;
    info.ordblks = free_blocks(&stats);
    info.hblks = stats.huge_blocks;
    info.hblkhd = stats.huge_bytes;
    info.keepcost = stats.dirty_bytes;
    return info;
}

struct mallinfo lu__mallinfo(void) {
    struct mallinfo2 wide = lu__mallinfo2();
    return lu__mallinfo_narrow(&wide);
}

/* ------------------------------------------------------------------ malloc_stats ------------- */

/* What glibc does not have: the parts of all system bytes, those that there are. */
static void print_parts(const lu_held_t *held) {
    char label[24], buffer[100];
    struct lu__text text;
    lu__print(STDERR_FILENO, "The system bytes are:\n");
    for (unsigned i = 0; i < LU_HELD_PARTS; i++) {
        if (lu__held_part(held, i) == 0) continue;
        lu__text_init(&text, label, sizeof label);
        lu__text_add(&text, "%s", lu__held_names[i]);
        while (text.need < 17) lu__text_add(&text, " ");
        lu__text_add(&text, "=");
        lu__text_init(&text, buffer, sizeof buffer);
        lu__stats_line(&text, label, lu__held_part(held, i));
        lu__print(STDERR_FILENO, "%s", buffer);
    }
}

void lu__malloc_stats(void) {
    lu_stats_t stats;
    char buffer[500];
    struct lu__text text;
    lu_stats_get(&stats);
    lu__text_init(&text, buffer, sizeof buffer);
    lu__text_add(&text, "Arena 0:\n");
    lu__stats_line(&text, "system bytes     =", minus(stats.held_bytes, stats.huge_bytes));
    lu__stats_line(&text, "in use bytes     =", minus(stats.live_bytes, stats.huge_bytes));
    lu__text_add(&text, "Total (incl. mmap):\n");
    lu__stats_line(&text, "system bytes     =", stats.held_bytes);
    lu__stats_line(&text, "in use bytes     =", stats.live_bytes);
    lu__stats_line(&text, "max system bytes =", stats.peak_held_bytes);
    lu__stats_line(&text, "mmap regions     =", stats.huge_blocks);
    lu__stats_line(&text, "mmap bytes       =", stats.huge_bytes);
    lu__print(STDERR_FILENO, "%s", buffer);
    if (lu__stats_has_memory(&stats)) {
        print_parts(&stats.held);
    } else {
        lu__print(STDERR_FILENO, "(" LU_STATS_NONE ")\n");
    }
}

/* ------------------------------------------------------------------ malloc_info -------------- */

static void write_totals(FILE *stream, const lu_stats_t *stats, size_t rest_count) {
    size_t held = minus(stats->held_bytes, stats->huge_bytes);
    size_t live = minus(stats->live_bytes, stats->huge_bytes);
    fprintf(stream, "<total type=\"fast\" count=\"0\" size=\"0\"/>\n");
    fprintf(stream, "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n", rest_count,
            minus(held, live));
}

static void write_system(FILE *stream, const lu_stats_t *stats) {
    fprintf(stream, "<system type=\"current\" size=\"%zu\"/>\n", stats->held_bytes);
    fprintf(stream, "<system type=\"max\" size=\"%zu\"/>\n", stats->peak_held_bytes);
    fprintf(stream, "<aspace type=\"total\" size=\"%zu\"/>\n", stats->committed_bytes);
    fprintf(stream, "<aspace type=\"mprotect\" size=\"%zu\"/>\n", stats->committed_bytes);
}

/* The same; readers of glibc's form pass over elements that they do not know. */
static void write_parts(FILE *stream, const lu_stats_t *stats) {
    for (unsigned i = 0; i < LU_HELD_PARTS; i++) {
        fprintf(stream, "<held part=\"%s\" size=\"%zu\"/>\n", lu__held_names[i],
                lu__held_part(&stats->held, i));
    }
}

/* Free blocks by size class; every block of a class has the same size. */
static void write_sizes(FILE *stream, const lu_stats_t *stats) {
    fprintf(stream, "<sizes>\n");
    for (size_t i = 0; i < stats->class_count; i++) {
        const lu_class_stats_t *class = &stats->classes[i];
        if (class->free_blocks > 0)
            fprintf(stream, "  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n",
                    class->block_bytes, class->block_bytes, class->free_blocks * class->block_bytes,
                    class->free_blocks);
    }
    fprintf(stream, "</sizes>\n");
}

int lu__malloc_info(int options, FILE *stream) {
    if (options != 0) {
        errno = EINVAL;
        return -1;
    }
    lu_stats_t stats;
    lu_stats_get(&stats);
    size_t rest_count = free_blocks(&stats);
    fprintf(stream, "<malloc version=\"1\">\n<heap nr=\"0\">\n");
    write_sizes(stream, &stats);
    write_totals(stream, &stats, rest_count);
    write_system(stream, &stats);
    fprintf(stream, "</heap>\n");
    write_totals(stream, &stats, rest_count);
    fprintf(stream, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", stats.huge_blocks,
            stats.huge_bytes);
    write_system(stream, &stats);
    write_parts(stream, &stats);
    fprintf(stream, "</malloc>\n");
    return 0;
}

#endif
