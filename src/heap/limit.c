/*
 * limit.c - the limit on memory held: the figures stand in lu__span_figures, where span/held.c
 * checks them, whatever asks for memory; here is what happens before an allocation fails for it.
 *
 *     held   0 ............................. 7/8 ............ limit
 *            free memory is kept a while     free runs go     1. free runs go back, as many as are
 *                                            back at ticks,      lacking (span/held.c)
 *                                            but for those    2. now and then: empty spans
 *                                            that are always  3. the callback may free something
 *                                            used again       4. all that is free goes back
 *                                                             5. NULL and ENOMEM
 *
 * A program that frees something in its callback, as caches do, is at its limit all the time; so
 * empty spans are looked for every SQUEEZE_MS at most (2). Nothing fails before all was given back
 * that can be had (4): of the thread's heap and the lu_heap that was asked, of finished threads'
 * heaps, of shared lu_heaps that nobody is in, and free pages inside spans. What was looked at in
 * vain is not looked at again before it changes, so that failing is not slow either. Other threads'
 * heaps nobody can touch; they are asked to do the same at their next tick, for whoever fails next.
 *
 * The callback runs without any lock of ours and may use the whole API. What it asks for itself
 * gets no callback, on any heap, and is NULL at the limit: a function that allocates in order to
 * free would call itself until the stack ends. The pair of function and argument is changed under
 * callback_lock and copied out before the call.
 */
#include "heap/limit.h"

#include <errno.h>

#include "heap/heap.h"
#include "heap/ops.h"
#include "os/os.h"
#include "span/span.h"

#define CALLS_MOST 8u
#define SQUEEZE_MS 10u

static struct lu__lock callback_lock = LU_LOCK_INIT(LU_RANK_LEAF);
static lu_limit_fn *callback;
static void *callback_arg;
/* The frame that the thread's callback was called from; 0: none runs. */
static __thread uintptr_t callback_frame __attribute__((tls_model("initial-exec")));

bool lu__limit_is_near(void) {
    size_t limit = __atomic_load_n(&lu__span_figures.limit, __ATOMIC_RELAXED);
    return limit != 0 && lu__span_held() > limit - limit / 8;
}

/* ---------------------------------------------------------------- giving back */

static bool demote(struct heap *heap, void *arg) {
    (void)arg;
    (void)lu__remote_take_in(heap);
    lu__heap_ops(heap)->end_empty(heap);
    return true; /* go on with the next */
}

static void sweep(struct heap *heap, void *arg) {
    (void)arg;
    (void)lu__heap_ops(heap)->sweep_all(heap, false);
}

/* Do what `visit` does to the lu_heap, if the program is not in it. */
static void visit_user(struct heap *user, void (*visit)(struct heap *, void *)) {
    if (user == NULL || !lu__user_lock(user)) return;
    visit(user, NULL);
    lu__user_unlock(user);
}

/* True for one caller in SQUEEZE_MS. */
static bool is_time(uint64_t *last_ms) {
    uint64_t now = lu__os_now_ms(), last = __atomic_load_n(last_ms, __ATOMIC_RELAXED);
    if (last != 0 && now - last < SQUEEZE_MS) return false; /* 0: never */
    __atomic_store_n(last_ms, now, __ATOMIC_RELAXED);
    return true;
}

/* Give back the runs of spans in which nothing is in use, of the heaps at hand. heap: the thread's,
 * or NULL if the limit forbids it one. */
static void squeeze(struct heap *heap) {
    static uint64_t squeezed_ms;
    if (!is_time(&squeezed_ms)) return;
    if (heap != NULL) {
        lu__remote_flush(heap);
        (void)demote(heap, NULL);
    }
    lu__pool_some(demote, NULL);
}

/* Give back all that is free. */
static void squeeze_all(struct heap *heap, struct heap *user) {
    static uint64_t asked_ms;
    if (heap != NULL) {
        lu__remote_flush(heap);
        sweep(heap, NULL);
    }
    visit_user(user, sweep);
    lu__pool_each(sweep, NULL);
    lu__pool_shared(sweep, NULL);
    if (is_time(&asked_ms)) {
        uint32_t request = __atomic_add_fetch(&lu__purge_request, 1, __ATOMIC_RELAXED);
        if (heap != NULL) heap->purge_seen = request;
    }
}

/* True if less is held then. */
static bool give_back(struct heap *user, bool all) {
    struct heap *heap;
    if (!lu__thread_enter_any(&heap)) return false;
    size_t held = lu__span_held();
    if (all) {
        squeeze_all(heap, user);
    } else {
        squeeze(heap);
    }
    (void)lu__run_purge(SIZE_MAX);
    lu__thread_leave(heap);
    return lu__span_held() < held;
}

/* ---------------------------------------------------------------- the callback */

/* Ask the program, unless its callback is what asks. (If it was left by a jump, the stack is not so
 * deep any more.) */
static bool ask(size_t size, struct lu__limit_tries *tries) {
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0), outer = callback_frame;
    if (tries->calls == CALLS_MOST || (outer != 0 && frame < outer)) return false;
    if (!lu__thread_mark()) return false; /* a signal handler */
    lu__lock_acquire(&callback_lock);
    lu_limit_fn *reached = callback;
    void *arg = callback_arg;
    lu__lock_release(&callback_lock);
    lu__inside_leave();
    if (reached == NULL) return false;
    tries->calls++;
    callback_frame = frame;
    bool again = reached(size, lu__span_held(), arg);
    callback_frame = 0;
    return again;
}

bool lu__limit_reached(size_t size, struct heap *user, struct lu__limit_tries *tries) {
    size_t limit = __atomic_load_n(&lu__span_figures.limit, __ATOMIC_RELAXED);
    if (limit == 0 || size > (size_t)PTRDIFF_MAX || !lu__span_was_refused()) return false;
    bool first = !tries->soon, may_fit = size < limit;
    tries->soon = true;
    if (first && may_fit && give_back(user, false)) return true;
    if (ask(size, tries)) {
        tries->all = false;
        return true;
    }
    if (tries->all || !may_fit) return false;
    tries->all = true;
    return give_back(user, true);
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
