/*
 * gather.c - making one run from neighbouring free memory of several kinds.
 *
 *     | in use | clean |  dirty  | hole ........ | in use |
 *               <---------- wanted -------->
 *
 * Only runs of one kind are merged, so pieces that went back lie between pieces that did not. A
 * program that replaces buffers of many sizes would find each piece of its dirty memory too small,
 * and take fresh memory from the top: more page faults, and a larger peak. So before clean memory,
 * holes and the top are tried, a search looks for a dirty run that has room together with its free
 * neighbours. Only the missing part becomes dirty, which costs a mapping where it is a hole. Small
 * requests do not come here: they find room in dirty memory if there is any.
 *
 * Everything is under lu__span_lock. A search is short: few runs, and few pieces beside each.
 */
#include "span/run_parts.h"

#define LOOK 16u   /* dirty runs, the largest first                   */
#define PIECES 8u  /* free runs beside one                            */
#define PART_OF 8u /* a dirty run has at least this part of a request */

static struct span *free_behind(const struct region *region, struct span *run) {
    struct span *beside = lu__run_behind(region, run);
    return beside != NULL && beside->kind == LU_KIND_FREE ? beside : NULL;
}

static struct span *free_in_front(const struct region *region, struct span *run) {
    struct span *beside = lu__run_in_front(region, run);
    return beside != NULL && beside->kind == LU_KIND_FREE ? beside : NULL;
}

/* Do the run and the free memory around it have so much? */
static bool has_room(const struct region *region, struct span *run, size_t slices) {
    size_t sum = run->slices, pieces = 0;
    struct span *at = free_behind(region, run);
    for (; at != NULL && sum < slices && pieces < PIECES; at = free_behind(region, at), pieces++) {
        sum += at->slices;
    }
    at = free_in_front(region, run);
    for (; at != NULL && sum < slices && pieces < PIECES;
         at = free_in_front(region, at), pieces++) {
        sum += at->slices;
    }
    return sum >= slices;
}

/* Make the dirty run that large. If that fails halfway, what was done stays: the memory is still
 * free. */
static struct span *extend(const struct region *region, struct span *run, size_t slices) {
    while (run != NULL && run->slices < slices) {
        LU_STEP();
        struct span *beside = free_behind(region, run);
        bool behind = beside != NULL;
        if (!behind) beside = free_in_front(region, run);
        if (beside == NULL) return NULL;
        run = lu__run_soak(beside, slices - run->slices, behind);
    }
    return run;
}

struct span *lu__run_gather(size_t slices) {
    struct span *run = lu__bins_next_dirty(NULL);
    for (unsigned looked = 0; run != NULL && looked < LOOK; looked++) {
        if (run->slices < slices / PART_OF) break;
        const struct region *region = lu__region_of_desc(run);
        if (has_room(region, run, slices)) return extend(region, run, slices);
        run = lu__bins_next_dirty(run);
    }
    return NULL;
}
