/*
 * limit.c - the limit on memory held: the figure stands in lu__span_figures, where span/run.c
 * checks it; here is the callback that may free something so that an allocation can go on.
 *
 * The callback runs without any lock of ours and may use the whole API. The pair of function and
 * argument is changed under callback_lock and copied out before the call.
 */
#include "heap/limit.h"

#include "os/lock.h"
#include "span/span.h"

#define TRIES_MOST 8

static struct lu__lock callback_lock;
static lu_limit_fn *callback;
static void *callback_arg;

bool lu__limit_reached(size_t size, int tries) {
    size_t limit = __atomic_load_n(&lu__span_figures.limit, __ATOMIC_RELAXED);
    if (limit == 0 || tries >= TRIES_MOST || size > (size_t)PTRDIFF_MAX) return false;
    size_t held = lu__span_held();
    if (held + lu__align_up(size, LU_SLICE) <= limit) return false;
    lu__lock_acquire(&callback_lock);
    lu_limit_fn *reached = callback;
    void *arg = callback_arg;
    lu__lock_release(&callback_lock);
    return reached != NULL && reached(size, held, arg);
}

int lu__limit_set(size_t limit_bytes, lu_limit_fn *reached, void *arg) {
    lu__lock_acquire(&callback_lock);
    callback = reached;
    callback_arg = arg;
    lu__lock_release(&callback_lock);
    __atomic_store_n(&lu__span_figures.limit, limit_bytes, __ATOMIC_RELAXED);
    return 0;
}

void lu__limit_fork_child(void) {
    if (!lu__lock_is_mine(&callback_lock)) lu__lock_reset(&callback_lock);
}
