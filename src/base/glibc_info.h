/* glibc_info.h - how the malloc of glibc tells its figures, for all who stand in for it. */
#ifndef LU_GLIBC_INFO_H
#define LU_GLIBC_INFO_H

#include <malloc.h>

#include "base/format.h"

#ifdef __GLIBC__

/* The figures as ints, which stop at INT_MAX. */
struct mallinfo lu__mallinfo_narrow(const struct mallinfo2 *wide);

/* One line of malloc_stats: the number ends in column 30. */
void lu__stats_line(struct lu__text *text, const char *label, size_t value);

#endif
#endif
