/* glibc_info.h - the forms in which glibc's malloc reports its figures, for its replacements. */
#ifndef LU_GLIBC_INFO_H
#define LU_GLIBC_INFO_H

#include <malloc.h>

#include "base/format.h"

#ifdef __GLIBC__

/* The figures as ints; larger values become INT_MAX. */
struct mallinfo lu__mallinfo_narrow(const struct mallinfo2 *wide);

/* One line of malloc_stats: the number ends in column 30. */
void lu__stats_line(struct lu__text *text, const char *label, size_t value);

#endif
#endif
