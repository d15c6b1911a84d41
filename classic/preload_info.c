/*
 * preload_info.c - mallinfo(3), malloc_stats(3) and malloc_info(3) of a preloaded classic heap.
 *
 *     glibc's word       here
 *     mmap, hblkhd       blocks in use that are a mapping each
 *     arena, system      all that is held but these
 *     uordblks, in use   the other blocks in use, and the allocator's own, with headers
 *     fordblks           arena - uordblks
 *     ordblks            free blocks, the top among them
 *     smblks, fsmblks    cached blocks: free for the caller, set aside for the next of their size
 *     keepcost           the top
 *
 * One walk gives the figures; the caller sees to it that the heap holds still for so long, or has
 * all that is held counted as used. Nothing is locked while they are written, as a FILE may ask for
 * its buffer then; malloc_info is the only place that uses stdio, on a stream that the caller
 * opened. The int fields of mallinfo stop at INT_MAX.
 */
#include <unistd.h>

#include "base/format.h"
#include "base/glibc_info.h"
#include "classic/preload.h"

static void add(struct lu__preload_sum *sum, const struct lu__block *block) {
    sum->blocks++;
    sum->bytes += block->bytes;
}

/* True for a block that is all of a mapping, as far as can be seen from the block. */
static bool is_mapping(const struct lu__block *block) {
    return block->mapped && block->start % LU_OS_PAGE == 0 && block->bytes % LU_OS_PAGE == 0;
}

static bool add_block(void *arg, const struct lu__block *block) {
    struct lu__preload_figures *figures = arg;
    switch (block->state) {
    case LU_BLOCK_USED:
        add(is_mapping(block) ? &figures->mapped : &figures->used, block);
        break;
    case LU_BLOCK_FREE:
        add(&figures->free, block);
        break;
    case LU_BLOCK_CACHED:
        add(&figures->cached, block);
        break;
    case LU_BLOCK_TOP:
        add(&figures->top, block);
        break;
    case LU_BLOCK_META:
        add(&figures->meta, block);
        break;
    }
    return true;
}

void lu__preload_figures_read(struct lu__classic *heap, bool alone,
                              struct lu__preload_figures *figures) {
    *figures = (struct lu__preload_figures){0};
    if (alone) lu__classic_walk(heap, add_block, figures);
    figures->held = lu__area_held(&heap->area);
    figures->peak_held = heap->area.peak;
    if (!alone) figures->used.bytes = figures->held;
}

static size_t in_use(const struct lu__preload_figures *figures) {
    return figures->used.bytes + figures->meta.bytes;
}

static size_t of_arena(const struct lu__preload_figures *figures) {
    return figures->held - figures->mapped.bytes;
}

/* ---------------------------------------------------------------- mallinfo */

struct mallinfo2 lu__preload_mallinfo2(const struct lu__preload_figures *figures) {
    struct mallinfo2 info = {0};
    info.arena = of_arena(figures);
    info.ordblks = figures->free.blocks + figures->top.blocks;
    info.smblks = figures->cached.blocks;
    info.hblks = figures->mapped.blocks;
    info.hblkhd = figures->mapped.bytes;
    info.fsmblks = figures->cached.bytes;
    info.uordblks = in_use(figures);
    info.fordblks = info.arena - info.uordblks;
    info.keepcost = figures->top.bytes;
    return info;
}

struct mallinfo lu__preload_mallinfo(const struct lu__preload_figures *figures) {
    struct mallinfo2 wide = lu__preload_mallinfo2(figures);
    return lu__mallinfo_narrow(&wide);
}

/* ---------------------------------------------------------------- malloc_stats */

void lu__preload_print(const struct lu__preload_figures *figures, const char *name) {
    char buffer[500];
    struct lu__text text;
    lu__text_init(&text, buffer, sizeof buffer);
    lu__text_add(&text, "Arena 0 (%s):\n", name);
    lu__stats_line(&text, "system bytes     =", of_arena(figures));
    lu__stats_line(&text, "in use bytes     =", in_use(figures));
    lu__text_add(&text, "Total (incl. mmap):\n");
    lu__stats_line(&text, "system bytes     =", figures->held);
    lu__stats_line(&text, "in use bytes     =", in_use(figures) + figures->mapped.bytes);
    lu__stats_line(&text, "max system bytes =", figures->peak_held);
    lu__stats_line(&text, "mmap regions     =", figures->mapped.blocks);
    lu__stats_line(&text, "mmap bytes       =", figures->mapped.bytes);
    lu__print(STDERR_FILENO, "%s", buffer);
}

/* ---------------------------------------------------------------- malloc_info */

static void write_total(FILE *stream, const char *type, const struct lu__preload_sum *sum) {
    fprintf(stream, "<total type=\"%s\" count=\"%zu\" size=\"%zu\"/>\n", type, sum->blocks,
            sum->bytes);
}

static void write_totals(FILE *stream, const struct lu__preload_figures *figures) {
    const struct lu__preload_sum rest = {figures->free.blocks + figures->top.blocks,
                                         figures->free.bytes + figures->top.bytes};
    write_total(stream, "fast", &figures->cached);
    write_total(stream, "rest", &rest);
}

static void write_system(FILE *stream, const struct lu__preload_figures *figures) {
    fprintf(stream, "<system type=\"current\" size=\"%zu\"/>\n", figures->held);
    fprintf(stream, "<system type=\"max\" size=\"%zu\"/>\n", figures->peak_held);
    fprintf(stream, "<aspace type=\"total\" size=\"%zu\"/>\n", figures->held);
    fprintf(stream, "<aspace type=\"mprotect\" size=\"%zu\"/>\n", figures->held);
}

void lu__preload_write(const struct lu__preload_figures *figures, const char *name, FILE *stream) {
    fprintf(stream, "<malloc version=\"1\" allocator=\"%s\">\n<heap nr=\"0\">\n", name);
    write_totals(stream, figures);
    write_system(stream, figures);
    fprintf(stream, "</heap>\n");
    write_totals(stream, figures);
    write_total(stream, "mmap", &figures->mapped);
    write_system(stream, figures);
    fprintf(stream, "</malloc>\n");
}
