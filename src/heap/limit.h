/* limit.h - the limit on memory held, and the program's callback. */
#ifndef LU_LIMIT_H
#define LU_LIMIT_H

#include "base/base.h"
#include "lucid/lucid.h"

struct heap;

/* True while more than seven eighths of the limit are held: no free run should be kept that will
 * not be used again. Two relaxed loads where there is no limit or it is far. */
bool lu__limit_is_near(void);
/* How far an allocation has come that the limit refuses; zeroed for each. */
struct lu__limit_tries {
    unsigned calls; /* of the program's callback                        */
    bool soon;      /* what is easily had was given back                */
    bool all;       /* ... and all that can be had                      */
};
/* After an allocation of `size` bytes has failed, from the lu_heap `user` or, if that is NULL, from
 * the thread's: true if it is to be tried again, as the limit was the reason, and memory was given
 * back or the program's callback asks for it. No lock is held. */
bool lu__limit_reached(size_t size, struct heap *user, struct lu__limit_tries *tries);
/* As lu_set_limit. */
int lu__limit_set(size_t limit_bytes, lu_limit_fn *reached, void *arg);
/* In the child of fork. */
void lu__limit_fork_child(void);

#endif
