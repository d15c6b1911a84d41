/* zero.h - blocks of no bytes. See zero.c. */
#ifndef LU_ZERO_H
#define LU_ZERO_H

#include "base/base.h"

/* A block for malloc(0), unlike every other live one; NULL if there can be none, if none was found
 * where this call looked, or if guard_zero is 0. Any thread, not in a signal handler that
 * interrupted it. */
void *lu__zero_alloc(void);
/* What `pointer` is there. */
enum lu__zero_place { LU_ZERO_NOT, LU_ZERO_LIVE, LU_ZERO_FREE, LU_ZERO_INTERIOR };
enum lu__zero_place lu__zero_find(const void *pointer);
/* Free a live one; false if it was freed meanwhile. */
bool lu__zero_free(const void *block);
/* The state, for zero.c and its tests. */
#define LU_ZERO_WORDS ((size_t)1 << 20)
struct lu__zero {
    uintptr_t names; /* the first; atomic, 0: not there yet         */
    uint64_t *bits;  /* LU_ZERO_WORDS of them; set before names     */
    size_t next;     /* word to look at first; under the lock       */
    bool refused;    /* the address space; under the lock           */
};
extern struct lu__zero lu__zero LU_HIDDEN;
/* In the child of fork. */
void lu__zero_fork_child(void);

#endif
