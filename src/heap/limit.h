/* limit.h - the limit on memory held, and the program's callback. */
#ifndef LU_LIMIT_H
#define LU_LIMIT_H

#include "base/base.h"
#include "lucid/lucid.h"

/* True while more than seven eighths of the limit are held: no free run should be kept that will
 * not be used again. Two relaxed loads where there is no limit or it is far. */
bool lu__limit_is_near(void);
/* After an allocation of `size` bytes has failed for the `tries`-th time (from 0): true if the
 * limit was the reason and memory was given back, or the program's callback asks to try again. No
 * lock is held. */
bool lu__limit_reached(size_t size, int tries);
/* As lu_set_limit. */
int lu__limit_set(size_t limit_bytes, lu_limit_fn *reached, void *arg);
/* In the child of fork. */
void lu__limit_fork_child(void);

#endif
