/*
 * skip.c - the mappings of huge blocks, in order of their addresses: a skip list (W. Pugh, "Skip
 * Lists: A Probabilistic Alternative to Balanced Trees", 1990).
 *
 *     head[2] --------------------> c -------------------------> NULL
 *     head[1] -----------> b -----> c -------------------------> NULL
 *     head[0] --> a -----> b -----> c --> d --> e ------------> NULL     all, by address
 *
 * A node is in the bottom list and, with a chance of a quarter for each, in the lists above it. So
 * a search looks at about 2 * log2(n) nodes to find the block around an address, or the place where
 * a node is inserted or removed. Heights come from a generator with a fixed start: the program does
 * not choose addresses, the kernel does.
 *
 * Invariants, at every instant: the bottom list is in order, ends, and has every node that is in
 * any other; a node in a list is filled in; none of `unused` is in a list. So nodes enter from the
 * bottom and leave from the top, each list by one store. The child of fork, or a signal handler
 * that interrupts the holder of the lock, may find the list half changed: it sees the list with or
 * without the node, and can go on. At worst the node itself is lost.
 *
 * Nodes are cut from memory mapped here, 64 KiB at a time, and used again; it is given back only
 * when the library is unloaded: the first node of each mapping leads to the mapping before.
 */
#include "span/skip.h"

#include "os/os.h"

#define NODES_BYTES (64 * LU_KIB)
_Static_assert(NODES_BYTES % sizeof(struct lu__skip_node) == 0, "nodes fill their memory");

size_t lu__skip_steps;

/* For every level the pointer after which `address` belongs: that of the last node that begins
 * below it, or the head's. */
static void find_places(struct lu__skip *skip, uintptr_t address,
                        struct lu__skip_node **places[LU_SKIP_LEVELS]) {
    struct lu__skip_node **lists = skip->head;
    size_t steps = 0;
    for (unsigned level = LU_SKIP_LEVELS; level-- > 0;) {
        struct lu__skip_node *next;
        for (; (next = lists[level]) != NULL && (uintptr_t)next->block < address; steps++) {
            lists = next->next;
        }
        places[level] = &lists[level];
    }
    __atomic_store_n(&lu__skip_steps, lu__skip_steps + steps, __ATOMIC_RELAXED);
}

static unsigned draw_levels(struct lu__skip *skip) {
    unsigned levels = 1;
    uint32_t random = skip->random * 1664525u + 1013904223u; /* Numerical Recipes */
    skip->random = random;
    for (random >>= 8; levels < LU_SKIP_LEVELS && (random & 3) == 0; random >>= 2) levels++;
    return levels;
}

struct lu__skip_node *lu__skip_take(struct lu__skip *skip) {
    struct lu__skip_node *node = skip->unused;
    if (node != NULL) {
        LU_SET(skip->unused, node->next[0]);
        return node;
    }
    if (skip->fresh.count == 0) {
        void *memory;
        if (lu__os_map(NODES_BYTES, LU_OS_PAGE, &memory) != 0) return NULL;
        struct lu__skip_node *first = memory;
        first->next[0] = skip->mapped;
        LU_SET(skip->mapped, first);
        lu__pieces_refill(&skip->fresh, first + 1, NODES_BYTES / sizeof *node - 1);
    }
    return lu__pieces_take(&skip->fresh, sizeof *node);
}

void lu__skip_give(struct lu__skip *skip, struct lu__skip_node *node) {
    LU_ASSERT(node->levels == 0);
    node->next[0] = skip->unused;
    LU_SET(skip->unused, node);
}

void lu__skip_insert(struct lu__skip *skip, struct lu__skip_node *node) {
    struct lu__skip_node **places[LU_SKIP_LEVELS];
    find_places(skip, (uintptr_t)node->block, places);
    unsigned levels = draw_levels(skip);
    for (unsigned i = 0; i < levels; i++) node->next[i] = *places[i];
    node->levels = (uint8_t)levels;
    for (unsigned i = 0; i < levels; i++) LU_SET(*places[i], node);
}

struct lu__skip_node *lu__skip_remove(struct lu__skip *skip, const void *block) {
    struct lu__skip_node **places[LU_SKIP_LEVELS];
    find_places(skip, (uintptr_t)block, places);
    struct lu__skip_node *node = *places[0];
    if (node == NULL || node->block != block) return NULL;
    for (unsigned level = LU_SKIP_LEVELS; level-- > 0;) {
        /* Not by node->levels: in a forked child it may be in fewer. */
        if (*places[level] == node) LU_SET(*places[level], node->next[level]);
    }
    node->levels = 0;
    return node;
}

struct lu__skip_node *lu__skip_floor(const struct lu__skip *skip, uintptr_t address) {
    struct lu__skip_node *const *lists = skip->head, *found = NULL, *next;
    size_t steps = 0;
    for (unsigned level = LU_SKIP_LEVELS; level-- > 0;) {
        for (; (next = __atomic_load_n(&lists[level], __ATOMIC_ACQUIRE)) != NULL &&
               (uintptr_t)next->block <= address;
             steps++) {
            found = next;
            lists = next->next;
        }
    }
    __atomic_store_n(&lu__skip_steps, lu__skip_steps + steps, __ATOMIC_RELAXED);
    return found;
}

struct lu__skip_node *lu__skip_ceiling(const struct lu__skip *skip, uintptr_t address) {
    if (address == 0) return skip->head[0];
    struct lu__skip_node *below = lu__skip_floor(skip, address - 1);
    return below != NULL ? below->next[0] : skip->head[0];
}

void lu__skip_unmap(struct lu__skip *skip) {
    for (struct lu__skip_node *first = skip->mapped, *before; first != NULL; first = before) {
        before = first->next[0];
        lu__os_unmap(first, NODES_BYTES);
    }
}
