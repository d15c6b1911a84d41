/*
 * walk.c - a walk over all runs that blocks no other thread for long.
 *
 *     | run | run | FREE ......... | run | run |  ...
 *       seen  seen  ^ lu__walk_at: the next one, always the head of a run
 *
 * The lock is held for a few runs at a time. In between the tiling may change: a run behind the
 * mark is seen as it will be then, a run before it was seen as it was. The run that the mark points
 * at may become part of a free or a larger run that begins before it; the code that joins them
 * moves the mark on to the end of the joined run (run.c). So no head has to be searched backwards,
 * which would take longer for larger runs. Where the top comes down below the mark, the mark
 * becomes the top.
 *
 * One walk at a time: walk_lock is held throughout, and taken before lu__span_lock.
 */
#include "span/run_parts.h"

#define EFFORT 64u /* of the visits under one hold of the lock */

struct span *lu__walk_at;
static struct lu__lock walk_lock = LU_LOCK_INIT(LU_RANK_WALK);

/* Visit some runs of the region. False: all were. */
static bool visit_some(const struct region *region, lu__run_visit_fn *visit, void *arg) {
    lu__lock_acquire(&lu__span_lock);
    struct span *first = lu__region_desc(region, 0);
    struct span *top = lu__region_desc(region, region->top);
    struct span *run = lu__walk_at != NULL ? lu__walk_at : first;
    for (unsigned effort = 0; run < top && effort < EFFORT; run += run->slices) {
        effort += visit(run, arg);
        LU_STEP();
    }
    bool more = run < top;
    lu__walk_at = more ? run : NULL;
    lu__lock_release(&lu__span_lock);
    return more;
}

void lu__run_walk(lu__run_visit_fn *visit, void (*between)(void *arg), void *arg) {
    lu__lock_acquire(&walk_lock);
    lu__look_begin();
    for (uint32_t i = 0; i < __atomic_load_n(&lu__region_count, __ATOMIC_ACQUIRE); i++) {
        bool more = true;
        while (more) {
            more = visit_some(&lu__regions[i], visit, arg);
            between(arg);
        }
    }
    lu__look_end();
    lu__lock_release(&walk_lock);
}

void lu__walk_fork_child(void) {
    if (lu__lock_is_mine(&walk_lock)) return; /* the interrupted call goes on */
    if (lu__lock_fork_child(&walk_lock)) lu__walk_at = NULL;
}
