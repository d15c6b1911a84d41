/* record.h - who called: a stack, kept, and printed. */
#ifndef LU_RECORD_H
#define LU_RECORD_H

#include "base/base.h"

#define LU_RECORD_FRAMES 32

struct lu__record {
    int32_t thread; /* its id, as the kernel counts              */
    uint32_t count; /* of the frames, the nearest first; 0: none */
    uintptr_t frames[LU_RECORD_FRAMES];
};

/* The calling thread and its stack, without frames of lucid itself (stack.h). */
void lu__record_here(struct lu__record *record);
/* "WHAT by thread N:" and a line for each frame, on standard error. In signal handlers, too. */
void lu__record_print(const char *what, const struct lu__record *record);
/* In the child of fork. */
void lu__record_fork_child(void);

#endif
