/* preload.h - the figures of a preloaded classic heap in glibc's words; preload_info.c. */
#ifndef LU_CLASSIC_PRELOAD_H
#define LU_CLASSIC_PRELOAD_H

#include "classic/classic.h"

#include <malloc.h>
#include <stdio.h>

/* Blocks and their bytes, with headers. */
struct lu__preload_sum {
    size_t blocks, bytes;
};

struct lu__preload_figures {
    size_t held, peak_held;
    struct lu__preload_sum used;   /* but for the next      */
    struct lu__preload_sum mapped; /* whole mappings in use */
    struct lu__preload_sum free, cached, top, meta;
};

/* By a walk, if nobody else can change the heap meanwhile (`alone`); else all counts as used. */
void lu__preload_figures_read(struct lu__classic *heap, bool alone,
                              struct lu__preload_figures *figures);

struct mallinfo2 lu__preload_mallinfo2(const struct lu__preload_figures *figures);
struct mallinfo lu__preload_mallinfo(const struct lu__preload_figures *figures);
/* malloc_stats: on stderr. */
void lu__preload_print(const struct lu__preload_figures *figures, const char *name);
/* malloc_info. */
void lu__preload_write(const struct lu__preload_figures *figures, const char *name, FILE *stream);

#endif
