/* emergency.h - blocks for signal handlers; see emergency.c. */
#ifndef LU_EMERGENCY_H
#define LU_EMERGENCY_H

#include "base/base.h"

/* Memory for a signal handler that interrupted this thread in a slow path: lock free, and never
 * reused. */
void *lu__emergency_alloc(size_t align, size_t size);
/* Usable bytes, or 0 if `block` is not from there. */
size_t lu__emergency_usable(const void *block);

#endif
