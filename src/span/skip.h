/* skip.h - the mappings of huge blocks, in order of their addresses; see skip.c. */
#ifndef LU_SKIP_H
#define LU_SKIP_H

#include "base/pieces.h"

struct heap;

#define LU_SKIP_LEVELS 12 /* enough for 4^12 blocks */

struct lu__skip_node {
    char *block;        /* first byte of the block                        */
    size_t bytes;       /* usable                                         */
    struct heap *owner; /* the lu_heap it belongs to, or NULL             */
    uint32_t offset;    /* of the block in its mapping                    */
    uint8_t levels;     /* in how many lists it is; 0: in none            */
    bool below;         /* smaller than mmap_threshold; see huge.c        */
    struct lu__skip_node *next[LU_SKIP_LEVELS];
};

/* Zeroed memory is an empty list. The caller holds the owner's lock, except for floor and next in a
 * signal handler that interrupts the holder. */
struct lu__skip {
    struct lu__skip_node *head[LU_SKIP_LEVELS];
    struct lu__skip_node *unused; /* through next[0]                            */
    struct lu__pieces fresh;      /* memory that nodes are cut from             */
    struct lu__skip_node *mapped; /* the first of each mapping, through next[0] */
    uint32_t random;
};

/* A node that is in no list, to be filled in by the caller, or NULL without memory. */
struct lu__skip_node *lu__skip_take(struct lu__skip *skip);
/* The node is no longer needed, and is in no list. */
void lu__skip_give(struct lu__skip *skip, struct lu__skip_node *node);
/* True if the node is in no list: its block has no mapping. */
void lu__skip_insert(struct lu__skip *skip, struct lu__skip_node *node);
/* Remove the node of the block that begins at `block`; NULL if there is none. The caller owns it,
 * and gives it back or inserts it. */
struct lu__skip_node *lu__skip_remove(struct lu__skip *skip, const void *block);
/* The last node that begins at or below `address`, or NULL. */
struct lu__skip_node *lu__skip_floor(const struct lu__skip *skip, uintptr_t address);
/* The first that begins at or above. The one behind it is its next[0]. */
struct lu__skip_node *lu__skip_ceiling(const struct lu__skip *skip, uintptr_t address);

/* Give all memory of the nodes back; the list is not used any more. */
void lu__skip_unmap(struct lu__skip *skip);

/* Number of nodes that all searches have looked at so far (relaxed; for tests). */
extern size_t lu__skip_steps LU_HIDDEN;

#endif
