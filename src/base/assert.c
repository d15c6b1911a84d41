/*
 * assert.c - the end of a process in which lucid found a mistake of its own.
 *
 * LU_ASSERT and LU_ASSERT_SLOW (base.h) come here. This is not for misuse by the program, which is
 * always checked and goes through lu__violation (violation.h), nor for a lack of memory, which is
 * an ordinary result. After a broken invariant nothing can be trusted any more: lucid writes one
 * line without allocating and aborts, so that a debugger or a core file shows the state as it was
 * found. May be called from any thread and under any lock.
 */
#include "base/base.h"
#include "base/format.h"

#include <stdlib.h>
#include <unistd.h>

#if LU_DEBUG >= 1
size_t lu__steps;
#endif

void lu__assert_failed(const char *what, const char *file, int line) {
    lu__print(STDERR_FILENO, "lucid: %s:%d: assertion failed: %s\n", file, line, what);
    abort();
}
