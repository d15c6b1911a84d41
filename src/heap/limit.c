/*
 * limit.c - the limit on memory held: the figure stands in lu__span_figures, where span/run.c
 * checks it; here is what happens before an allocation fails for it.
 *
 *     held   0 ............................... 7/8 ............ limit
 *            free memory is kept a while       free runs go     first free runs go back, as many
 *                                              back at ticks,   as are lacking (span/run.c); then
 *                                              but for those    spans that are empty; then the
 *                                              that are always  callback may free something; then
 *                                              used again       NULL and ENOMEM
 *
 * Free pages inside spans that are used do not count for the limit, as whole runs do, so nothing is
 * won by giving them back sooner; the program would pay for every page that it uses again.
 *
 * Empty spans are looked for in the thread's heap and, in turn, in some heaps of finished threads;
 * a program that goes on failing at its limit does it every SQUEEZE_MS at most.
 *
 * The callback runs without any lock of ours and may use the whole API. The pair of function and
 * argument is changed under callback_lock and copied out before the call.
 */
#include "heap/limit.h"

#include <errno.h>

#include "heap/harden.h"
#include "heap/heap.h"
#include "os/os.h"
#include "span/span.h"

#define TRIES_MOST 8
#define SQUEEZE_MS 10

static struct lu__lock callback_lock = LU_LOCK_INIT(LU_RANK_LEAF);
static lu_limit_fn *callback;
static void *callback_arg;

bool lu__limit_is_near(void) {
    size_t limit = __atomic_load_n(&lu__span_figures.limit, __ATOMIC_RELAXED);
    return limit != 0 && lu__span_held() > limit - limit / 8;
}

static bool squeeze_heap(struct heap *heap, void *arg) {
    (void)arg;
    (void)lu__remote_take_in(heap);
    if (heap->hard != NULL) {
        lu__hard_sweep(heap);
    } else {
        for (unsigned c = 0; c < LU_CLASSES; c++) lu__small_demote(heap, c);
    }
    return true; /* go on with the next */
}

/* Give back the runs of spans in which nothing is in use; true if less is held now. */
static bool squeeze(size_t held) {
    static uint64_t squeezed_ms; /* 0: never */
    uint64_t now = lu__os_now_ms(), last = __atomic_load_n(&squeezed_ms, __ATOMIC_RELAXED);
    if (last != 0 && now - last < SQUEEZE_MS) return false;
    __atomic_store_n(&squeezed_ms, now, __ATOMIC_RELAXED);
    struct heap *heap = lu__thread_enter();
    if (heap == NULL) return false;
    lu__remote_flush(heap);
    (void)squeeze_heap(heap, NULL);
    lu__pool_some(squeeze_heap, NULL);
    (void)lu__run_purge(SIZE_MAX);
    lu__thread_leave(heap);
    return lu__span_held() < held;
}

bool lu__limit_reached(size_t size, int tries) {
    size_t limit = __atomic_load_n(&lu__span_figures.limit, __ATOMIC_RELAXED);
    if (limit == 0 || tries >= TRIES_MOST || size > (size_t)PTRDIFF_MAX) return false;
    size_t held = lu__span_held();
    if (held + lu__align_up(size, LU_SLICE) <= limit) return false;
    if (tries == 0 && size < limit && squeeze(held)) return true;
    if (!lu__thread_mark()) return false; /* a signal handler */
    lu__lock_acquire(&callback_lock);
    lu_limit_fn *reached = callback;
    void *arg = callback_arg;
    lu__lock_release(&callback_lock);
    lu__inside_leave();
    return reached != NULL && reached(size, held, arg);
}

int lu__limit_set(size_t limit_bytes, lu_limit_fn *reached, void *arg) {
    if (!lu__thread_mark()) return EAGAIN; /* a signal handler */
    lu__lock_acquire(&callback_lock);
    LU_SET(callback, NULL); /* at no instant with the other's argument: fork's child */
    LU_SET(callback_arg, arg);
    LU_SET(callback, reached);
    lu__lock_release(&callback_lock);
    lu__inside_leave();
    __atomic_store_n(&lu__span_figures.limit, limit_bytes, __ATOMIC_RELAXED);
    return 0;
}

void lu__limit_fork_child(void) {
    (void)lu__lock_fork_child(&callback_lock);
}
