/*
 * engine.c - what concerns the process as a whole: purging, perturbing, and its copies.
 */
#include "engine/engine.h"

#include "engine/parts.h"
#include "engine/zero.h"
#include "harden/harden.h"
#include "heap/limit.h"
#include "heap/ops.h"
#include "heap/track.h"
#include "heap/user.h"
#include "sample/guard.h"
#include "span/huge.h"

unsigned char lu__perturb_byte;

static void sweep_visit(struct heap *heap, void *arg) {
    *(size_t *)arg += lu__heap_ops(heap)->sweep_all(heap, true);
}

size_t lu__engine_purge(void) {
    struct heap *heap = lu__thread_enter();
    if (heap == NULL) return 0;
    size_t returned = 0;
    lu__remote_flush(heap);
    heap->purge_seen = __atomic_add_fetch(&lu__purge_request, 1, __ATOMIC_RELAXED);
    returned += lu__heap_ops(heap)->sweep_all(heap, true);
    lu__pool_each(sweep_visit, &returned);
    returned += lu__heap_purge_structures();
    returned += lu__run_purge(SIZE_MAX);
    (void)lu__run_give_addresses(LU_MIB);
    lu__thread_leave(heap);
    return returned;
}

void lu__engine_set_perturb(int value) {
    lu__perturb_byte = (unsigned char)value;
    lu__perturbing = value != 0;
    lu__thread_see_ways();
}

void lu__engine_fork_child(bool alone) {
    bool marked = lu__thread_mark(); /* else a signal handler forks, above a slow path */
    lu__huge_fork_child();
    lu__run_fork_child();
    lu__walk_fork_child();
    lu__track_fork_child();
    lu__guard_fork_child();
    lu__hard_span_fork_child();
    lu__hard_large_fork_child();
    lu__zero_fork_child();
    lu__limit_fork_child();
    lu__sweep_fork_child();
    lu__thread_fork_child();
    lu__user_fork_child();
    lu__pool_fork_child(alone);
    if (marked) lu__inside_leave();
}
