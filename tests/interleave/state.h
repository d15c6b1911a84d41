/* state.h - is everything where it must be, when no thread runs? See state.c. */
#ifndef INTERLEAVE_STATE_H
#define INTERLEAVE_STATE_H

#include <stddef.h>

/* Every block of every span is live, or free in exactly one place; the counts say the same; and
 * `live` blocks are live. What is wrong ends the program. */
void state_check(size_t live);
/* The same in the child of fork, for any number; how many. */
size_t state_count_forked(void);

#endif
