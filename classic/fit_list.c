/*
 * fit_list.c - first, next, best and worst fit: one list by address, four searches.
 *
 *     head <-> free <-> free <-> free <-> head        by address, upwards
 *
 *     first   the first that is large enough, from the bottom. Low addresses fill up and high ones
 *             stay free; but small rests collect at the front, and every search passes them.
 *             About M log2 n bytes at worst (fit.c).
 *     next    the first from where the last search ended (Knuth's roving pointer). Few are looked
 *             at, but what lives long is scattered over the whole heap.
 *     best    the smallest that is large enough, the lowest of those. Large blocks are kept whole;
 *             rests are the smallest possible, and often of no use ("slivers"). About M n at worst.
 *     worst   the largest. Rests stay useful, but no large block survives.
 *
 * Order by address makes merging leave the list as it is, and first fit good (Wilson et al. 1995,
 * 3.5). Its price is to find the place of a block that is freed between used ones. Two searches for
 * it run side by side, along the list from the bottom, and from the block upwards over its
 * neighbours to the next free one; the first that ends wins: either free blocks are few, or the
 * next one is near.
 *
 * first, next: time linear in the free blocks before the one that fits; best, worst: in all.
 */
#include "classic/fit.h"

/* ---------------------------------------------------------------- the list */

/* After which of the list `block` comes. Neither neighbour is free. */
static struct lu__fit_block *place_of(struct lu__fit *fit, const struct lu__fit_block *block) {
    const struct lu__fit_block *fence = lu__fit_fence(fit), *near = lu__fit_after(block);
    struct lu__fit_block *listed = fit->list.next, *found = NULL;
    size_t steps = 0; /* of both searches */
    for (;; steps += 2) {
        if (listed == &fit->list || listed > block)
            found = listed->prev;
        else if (near == fence)
            found = fit->list.prev;
        else if (!lu__fit_is_used(near))
            found = near->prev;
        if (found != NULL) break;
        listed = listed->next;
        near = lu__fit_after(near);
    }
    LU_COUNT(&fit->heap, free_steps, steps);
    return found;
}

/* True if it ends above the place where next fit goes on. */
static bool is_ahead(const struct lu__fit *fit, const struct lu__fit_block *block) {
    return (uintptr_t)lu__fit_after(block) > fit->position;
}

static struct lu__fit_block *list_take(struct lu__fit *fit, struct lu__fit_block *block) {
    struct lu__fit_block *before = block->prev;
    before->next = block->next;
    block->next->prev = before;
    if (fit->rover == block) fit->rover = block->next;
    return before;
}

static void list_put(struct lu__fit *fit, struct lu__fit_block *block, struct lu__fit_block *hint) {
    if (hint == NULL) hint = place_of(fit, block);
    block->prev = hint;
    block->next = hint->next;
    hint->next->prev = block;
    hint->next = block;
    bool is_lowest = fit->rover == &fit->list || block < fit->rover;
    if (is_ahead(fit, block) && is_lowest) fit->rover = block;
}

static bool list_check(const struct lu__fit *fit, const struct lu__fit_block *block,
                       const struct lu__fit_block **state, struct lu__classic_fault *fault) {
    const struct lu__fit_block *head = &fit->list, *before = *state != NULL ? *state : head;
    const struct lu__fit_block *now = block != NULL ? block : head;
    if (before->next != now) {
        return lu__fit_wrong(fault, "a link that does not lead to the next free block", before);
    }
    if (now->prev != before) {
        return lu__fit_wrong(fault, "a link that does not lead to the free block before", now);
    }
    bool is_rover = (now == head || is_ahead(fit, now)) &&
                    (before == head || !is_ahead(fit, before));
    if (is_rover != (now == fit->rover)) {
        return lu__fit_wrong(fault, "the rover is not where the next search begins", now);
    }
    *state = now;
    return true;
}

/* ---------------------------------------------------------------- searches */

static struct lu__fit_block *first_search(struct lu__fit *fit, size_t bytes) {
    size_t seen = 0;
    struct lu__fit_block *block = fit->list.next;
    for (; block != &fit->list; block = block->next) {
        seen++;
        if (lu__fit_bytes(block) >= bytes) break;
    }
    LU_COUNT(&fit->heap, searches, seen);
    return block != &fit->list ? block : NULL;
}

static struct lu__fit_block *next_search(struct lu__fit *fit, size_t bytes) {
    size_t seen = 0;
    struct lu__fit_block *block = fit->rover, *found = NULL;
    do {
        seen += block != &fit->list; /* the head has no bytes */
        if (lu__fit_bytes(block) >= bytes) found = block;
        block = block->next;
    } while (found == NULL && block != fit->rover);
    LU_COUNT(&fit->heap, searches, seen);
    return found;
}

static struct lu__fit_block *best_search(struct lu__fit *fit, size_t bytes) {
    size_t seen = 0, least = SIZE_MAX;
    struct lu__fit_block *found = NULL, *block = fit->list.next;
    for (; block != &fit->list && least != bytes; block = block->next) {
        size_t has = lu__fit_bytes(block);
        seen++;
        if (has >= bytes && has < least) {
            found = block;
            least = has;
        }
    }
    LU_COUNT(&fit->heap, searches, seen);
    return found;
}

static struct lu__fit_block *worst_search(struct lu__fit *fit, size_t bytes) {
    size_t seen = 0, most = bytes - 1;
    struct lu__fit_block *found = NULL, *block = fit->list.next;
    for (; block != &fit->list; block = block->next) {
        size_t has = lu__fit_bytes(block);
        seen++;
        if (has > most) {
            found = block;
            most = has;
        }
    }
    LU_COUNT(&fit->heap, searches, seen);
    return found;
}

/* ---------------------------------------------------------------- the policies */

#define LIST_ORDER .take = list_take, .put = list_put, .check = list_check

static const struct lu__fit_order first_order = {.search = first_search, LIST_ORDER};
static const struct lu__fit_order next_order = {.search = next_search, LIST_ORDER};
static const struct lu__fit_order best_order = {.search = best_search, LIST_ORDER};
static const struct lu__fit_order worst_order = {.search = worst_search, LIST_ORDER};

static bool first_init(struct lu__classic *self) {
    return lu__fit_init(self, &first_order);
}

static bool next_init(struct lu__classic *self) {
    return lu__fit_init(self, &next_order);
}

static bool best_init(struct lu__classic *self) {
    return lu__fit_init(self, &best_order);
}

static bool worst_init(struct lu__classic *self) {
    return lu__fit_init(self, &worst_order);
}

const struct lu__policy lu__policy_first = {
    .name = "first",
    .title = "First fit: the lowest free block that is large enough",
    .source = "D. E. Knuth, The Art of Computer Programming vol. 1, 2.5, algorithm A",
    .linear = true,
    .init = first_init,
    LU_FIT_FUNCTIONS,
};

const struct lu__policy lu__policy_next = {
    .name = "next",
    .title = "Next fit: the first large enough from where the last search ended",
    .source = "D. E. Knuth, The Art of Computer Programming vol. 1, 2.5, exercise 6",
    .linear = true,
    .init = next_init,
    LU_FIT_FUNCTIONS,
};

const struct lu__policy lu__policy_best = {
    .name = "best",
    .title = "Best fit: the smallest free block that is large enough, by a list",
    .source = "D. E. Knuth, The Art of Computer Programming vol. 1, 2.5",
    .linear = true,
    .init = best_init,
    LU_FIT_FUNCTIONS,
};

const struct lu__policy lu__policy_worst = {
    .name = "worst",
    .title = "Worst fit: the largest free block",
    .source = "P. R. Wilson et al., Dynamic Storage Allocation: A Survey and Critical Review, 1995",
    .linear = true,
    .init = worst_init,
    LU_FIT_FUNCTIONS,
};
