/* trace_compact.h - from the file that a recording leaves to the one that is kept. */
#ifndef LUCID_TRACE_COMPACT_H
#define LUCID_TRACE_COMPACT_H

#include <stdbool.h>
#include <stdint.h>

#include "trace/trace.h"

/* Write the trace at `path` to `fd`, compressed and with an end. False: `error` says why, of the
 * source; or, with the offset UINT64_MAX, that it cannot be written. */
bool trace_compact(const char *path, int fd, struct trace_error *error);
/* The same with what was over by `last_ns`, as if the program had been ended then. */
bool trace_compact_until(const char *path, int fd, uint64_t last_ns, struct trace_error *error);

#endif
