/* told.h - how often violations were reported, so that a program that goes on does not flood a
 * log. */
#ifndef LU_TOLD_H
#define LU_TOLD_H

#include "base/base.h"

enum { LU_TOLD_KINDS = 32 };

/* Count one more violation of `kind` (below LU_TOLD_KINDS) at the place that `mark` stands for.
 * Returns their number, this one included; if there is no room for the mark, the number of
 * violations of its kind that found none. Takes no lock, allocates nothing; any number of threads
 * and signal handlers may call it at once. */
uint64_t lu__told_count(unsigned kind, uint64_t mark);
/* True for the powers of ten, 1 included: those times are reported. */
bool lu__told_is_due(uint64_t times);
/* Violations so far, in this process and, until it was forked, in its parent. */
uint64_t lu__told_total(void);

#endif
