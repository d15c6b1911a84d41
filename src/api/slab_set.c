/*
 * slab_set.c - the slabs of a cache by address, so that an address that never came from the cache
 * is recognised without reading the memory there.
 *
 *     root --> [ first, shift 6 | . . * . * ]           a place stands for 64 numbers
 *                                 |   '--> [ first, shift 0 | . slab . . ]     a place for one
 *                                 '------> [ first, shift 0 | slab . slab . ]
 *
 * A radix tree over the numbers of slabs (address by size), of 64 places a node. It is no higher
 * than the distance of the slabs requires: for a number that the root does not cover, a higher root
 * is put above it, whose one child is the old root; slabs within a megabyte make one leaf. So
 * nothing is ever moved or resized: finding, inserting or removing a slab takes a step for each
 * level, LU_SLAB_LEVELS at most, however many slabs there are.
 *
 * Every change is one store of a pointer to a complete node or slab, and a node stays until the
 * cache is destroyed. A forked child can go on with the tree as it is, even if a thread was
 * changing it.
 *
 * The caller holds the lock of the cache, but for lu__slab_set_clear.
 */
#include "api/slabs.h"
#include "engine/engine.h"

_Static_assert(LU_SLAB_LEVELS *LU_SLAB_FAN_SHIFT >= 64 - 14, "slabs have 16 KiB at least");

/* The last number that a node covers. */
static uint64_t last_of(const struct lu__slab_node *node) {
    return node->first + (((uint64_t)LU_SLAB_FAN << node->shift) - 1);
}

static bool covers(const struct lu__slab_node *node, uint64_t number) {
    return number >= node->first && number <= last_of(node);
}

static void **place_of(struct lu__slab_node *node, uint64_t number) {
    return &node->places[number >> node->shift & (LU_SLAB_FAN - 1)];
}

/* Make a spare node one that covers `number` at the level of `shift`. */
static struct lu__slab_node *set_up(struct lu__slab_node **spare, uint64_t number, uint32_t shift) {
    struct lu__slab_node *node = *spare;
    *spare = NULL;
    node->shift = shift;
    node->first = number & ~(((uint64_t)LU_SLAB_FAN << shift) - 1);
    return node;
}

/* A root that covers `number`. False if a node is missing for it. */
static bool raise_root(struct lu__slab_set *set, uint64_t number, struct lu__slab_node **spare) {
    for (;;) {
        struct lu__slab_node *root = set->root, *above;
        if (root != NULL && covers(root, number)) return true;
        if (*spare == NULL) return false;
        if (root == NULL) {
            above = set_up(spare, number, 0);
        } else {
            above = set_up(spare, root->first, root->shift + LU_SLAB_FAN_SHIFT);
            *place_of(above, root->first) = root;
        }
        __atomic_store_n(&set->root, above, __ATOMIC_RELEASE);
    }
}

bool lu__slab_set_insert(struct lu__slab_set *set, struct lu__slab *slab, uint64_t number,
                         struct lu__slab_node **spare) {
    if (!raise_root(set, number, spare)) return false;
    struct lu__slab_node *node = set->root;
    while (node->shift > 0) {
        void **place = place_of(node, number);
        if (*place == NULL) {
            if (*spare == NULL) return false;
            struct lu__slab_node *below = set_up(spare, number, node->shift - LU_SLAB_FAN_SHIFT);
            __atomic_store_n(place, below, __ATOMIC_RELEASE);
        }
        node = *place;
    }
    LU_ASSERT(*place_of(node, number) == NULL);
    __atomic_store_n(place_of(node, number), slab, __ATOMIC_RELEASE);
    return true;
}

void lu__slab_set_remove(struct lu__slab_set *set, uint64_t number) {
    struct lu__slab_node *node = set->root;
    while (node->shift > 0) node = *place_of(node, number);
    LU_ASSERT(*place_of(node, number) != NULL);
    __atomic_store_n(place_of(node, number), NULL, __ATOMIC_RELEASE);
}

struct lu__slab *lu__slab_set_next(const struct lu__slab_set *set, uint64_t *number,
                                   unsigned steps) {
    struct lu__slab_node *root = set->root;
    if (root != NULL && *number < root->first) *number = root->first;
    for (; root != NULL && *number <= last_of(root) && steps > 0; steps--) {
        struct lu__slab_node *node = root;
        void *place = *place_of(node, *number);
        while (place != NULL && node->shift > 0) {
            node = place;
            place = *place_of(node, *number);
        }
        *number = ((*number >> node->shift) + 1) << node->shift;
        if (place != NULL) return place;
    }
    if (root == NULL || *number > last_of(root)) *number = UINT64_MAX;
    return NULL;
}

static void free_node(struct lu__slab_node *node) {
    for (unsigned i = 0; node->shift > 0 && i < LU_SLAB_FAN; i++) {
        if (node->places[i] != NULL) free_node(node->places[i]);
    }
    lu__engine_free(node);
}

void lu__slab_set_clear(struct lu__slab_set *set) {
    if (set->root != NULL) free_node(set->root);
    set->root = NULL;
}
