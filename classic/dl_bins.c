/*
 * dl_bins.c - the small bins: free chunks below 512 bytes, a ring for each size.
 *
 *     small_map  bit:    0    1    2    3    4    …    31
 *                        -    -    x         x         x
 *     small[i]                     |         |         |
 *                                  v         v         v
 *     chunks of i * 16 bytes      [32]      [64]      [496]
 *                                  |                   |
 *                                 [32]                [496]
 *
 * All chunks of a bin have the same size, so the first is as good as any: a chunk that was freed
 * comes to the front, and what was freed last is used first, while it is in the cache. The map
 * tells with one shift and one count of zeros which bin above a size has something: no bin is
 * looked into in vain. (The original spaces its 32 bins by 8 bytes even where all sizes are
 * multiples of 16, and leaves half of them empty; these reach twice as far. Bins 0 and 1 are never
 * used, for the smallest chunk has 32 bytes.)
 *
 * Rings begin and end at small[i]. Before a chunk is taken out, its neighbours must be in the
 * segments of the space and point back to it: so the classic attack on such lists, and most
 * overflows into a free chunk, are found before they do harm. Cost: O(1) each.
 *
 * One thread at a time for each heap.
 */
#include "classic/dl.h"

void lu__dl_bins_init(struct lu__dl_space *space) {
    for (unsigned i = 0; i < LU_DL_BINS; i++) {
        space->small[i] = (struct lu__links){&space->small[i], &space->small[i]};
        space->trees[i] = NULL;
    }
    space->small_map = space->tree_map = 0;
}

/* True if this may be read: a bin's own links, or a chunk's in the space. */
static bool known(const struct lu__dl_space *space, const struct lu__links *links) {
    uintptr_t at = (uintptr_t)links, bins = (uintptr_t)space->small;
    if (at - bins < sizeof space->small) return (at - bins) % sizeof *links == 0;
    return at % LU_CHUNK_ALIGN == 0 && lu__dl_segment_of(space, lu__chunk_of_links(links)) != NULL;
}

bool lu__dl_ring_sound(const struct lu__dl_space *space, const struct lu__links *links) {
    return known(space, links->next) && known(space, links->prev) && links->next->prev == links &&
           links->prev->next == links;
}

static void insert_small(struct lu__dl_space *space, struct lu__chunk *chunk, size_t size) {
    unsigned index = (unsigned)(size >> LU_DL_SMALL_SHIFT);
    struct lu__links *bin = &space->small[index];
    chunk->free = (struct lu__links){bin->next, bin};
    bin->next->prev = &chunk->free;
    bin->next = &chunk->free;
    space->small_map |= 1u << index;
}

static bool remove_small(struct lu__dl_space *space, struct lu__chunk *chunk, size_t size) {
    unsigned index = (unsigned)(size >> LU_DL_SMALL_SHIFT);
    if (!lu__dl_ring_sound(space, &chunk->free)) {
        return lu__dl_damaged(space, "links of a free block are damaged", chunk);
    }
    chunk->free.prev->next = chunk->free.next;
    chunk->free.next->prev = chunk->free.prev;
    struct lu__links *bin = &space->small[index];
    if (bin->next == bin) space->small_map &= ~(1u << index);
    return true;
}

void lu__dl_bin(struct lu__dl_space *space, struct lu__chunk *chunk) {
    size_t size = lu__chunk_size(chunk);
    if (size < LU_DL_LARGE) {
        insert_small(space, chunk, size);
    } else {
        lu__dl_tree_insert(space, chunk);
    }
}

bool lu__dl_unbin(struct lu__dl_space *space, struct lu__chunk *chunk) {
    size_t size = lu__chunk_size(chunk);
    if (size < LU_DL_LARGE) return remove_small(space, chunk, size);
    return lu__dl_tree_remove(space, chunk);
}

struct lu__chunk *lu__dl_take_small(struct lu__dl_space *space, unsigned index) {
    struct lu__chunk *chunk = lu__chunk_of_links(space->small[index].next);
    size_t size = (size_t)index << LU_DL_SMALL_SHIFT;
    LU_COUNT(space->heap, searches, 1);
    if (!known(space, &chunk->free) || chunk->head != (size | LU_CHUNK_BEFORE_USED)) {
        (void)lu__dl_damaged(space, "the header of a free block is damaged", chunk);
        return NULL;
    }
    return remove_small(space, chunk, size) ? chunk : NULL;
}
