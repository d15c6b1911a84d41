/*
 * limit.c - the limit on memory held: the figure stands in lu__span_figures, where span/run.c
 * checks it; here is what happens before an allocation fails for it.
 *
 *     held   0 ............................... 7/8 ............ limit
 *            free memory is kept a while       goes back at     first all that is free goes back,
 *                                              ticks, without   then the callback may free
 *                                              delay (sweep.c)  something, then NULL and ENOMEM
 *
 * Giving all back walks every heap, so a program that goes on failing at its limit does it every
 * SQUEEZE_MS at most.
 *
 * The callback runs without any lock of ours and may use the whole API. The pair of function and
 * argument is changed under callback_lock and copied out before the call.
 */
#include "heap/limit.h"

#include "heap/engine.h"
#include "os/lock.h"
#include "os/os.h"
#include "span/span.h"

#define TRIES_MOST 8
#define SQUEEZE_MS 10

static struct lu__lock callback_lock;
static lu_limit_fn *callback;
static void *callback_arg;

bool lu__limit_is_near(void) {
    size_t limit = __atomic_load_n(&lu__span_figures.limit, __ATOMIC_RELAXED);
    return limit != 0 && lu__span_held() > limit - limit / 8;
}

/* Give everything back that is free; true if less is held now. */
static bool squeeze(size_t held) {
    static uint64_t squeezed_ms; /* 0: never */
    uint64_t now = lu__os_now_ms(), last = __atomic_load_n(&squeezed_ms, __ATOMIC_RELAXED);
    if (last != 0 && now - last < SQUEEZE_MS) return false;
    __atomic_store_n(&squeezed_ms, now, __ATOMIC_RELAXED);
    (void)lu__engine_purge();
    return lu__span_held() < held;
}

bool lu__limit_reached(size_t size, int tries) {
    size_t limit = __atomic_load_n(&lu__span_figures.limit, __ATOMIC_RELAXED);
    if (limit == 0 || tries >= TRIES_MOST || size > (size_t)PTRDIFF_MAX) return false;
    size_t held = lu__span_held();
    if (held + lu__align_up(size, LU_SLICE) <= limit) return false;
    if (tries == 0 && size < limit && squeeze(held)) return true;
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
