/* told.h - how often violations were told, so that those that go on do not flood a log. */
#ifndef LU_TOLD_H
#define LU_TOLD_H

#include "base/base.h"

enum { LU_TOLD_KINDS = 32 };

/* Count one more violation of `kind`, below LU_TOLD_KINDS, at what `mark` stands for: how many that
 * makes, this one included. Where there is no room left for the mark, how many of its kind that had
 * none. Takes no lock, allocates nothing, any number of threads and signal handlers at once. */
uint64_t lu__told_count(unsigned kind, uint64_t mark);
/* True of 1 and of the powers of ten: those times are to be told. */
bool lu__told_is_due(uint64_t times);
/* Violations so far, in this process and, until it was forked, in its parent. */
uint64_t lu__told_total(void);

#endif
