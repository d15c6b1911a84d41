/*
 * dl_tree.c - the tree bins: free chunks from 512 bytes on, in bitwise digital tries.
 *
 * Each power of two of sizes is cut in halves, each half has a tree:
 *
 *     tree    0          1          2           3           …   30          31
 *     sizes   512..767   768..1023  1024..1535  1536..2047  …   16..24 MiB  from 24 MiB on
 *
 * Within a tree the next lower bit of the size tells which child is meant. A node on the way is
 * itself a chunk, of any size that belongs below it. For tree 2, with sizes 1024 + (0 … 511), the
 * first bit is 256, then 128, then 64:
 *
 *                        1216                          (any of the tree's sizes)
 *                 bit 256 = 0 / \ 1
 *              1040             1344 - 1344 - 1344     (a ring of one size; one is the node)
 *        bit 128 = 0 \ 1          \ 1
 *                   1168           1520
 *
 * Everything in child 0 is smaller than everything in child 1, but a node itself has no place in
 * that order. So the best fit for n is either on the path that n's bits name, or it is the least
 * of the last right subtree that the path passed by; and the least of a subtree is on its leftmost
 * path. If the tree has nothing large enough, all of the next tree that is not empty is. A map
 * with a bit for each tree finds that one.
 *
 * Bound: no path has more steps than there are bits left, 4 in trees 0 and 1, 19 in tree 30, 44 in
 * the last, however many chunks there are and in whatever order they came; nothing needs to be
 * balanced. To take a node out, any leaf below it may take its place. Further chunks of one size
 * cost O(1): they are in a ring with the node, and their link is NULL.
 *
 * Sources: tries: E. Fredkin, Trie Memory, 1960; D. E. Knuth, TAOCP vol. 3, 6.3 (digital search
 * trees); their use for chunks: D. Lea, A Memory Allocator, version 2.8, 2005.
 *
 * Invariants: *node->link == node; child[i]->link == &child[i]; the bit of a tree is set if and
 * only if it has a root. One thread at a time for each heap.
 */
#include "classic/dl.h"

/* The last tree is for all sizes to 2^48, more than there can be. */
#define LAST_TREE (LU_DL_BINS - 1)
#define HIGHEST_BIT ((size_t)1 << 47)
/* More nodes than two paths have: links go round in a circle. */
#define TOO_LONG 128u

unsigned lu__dl_tree_index(size_t size) {
    unsigned power = lu__log2(size);
    unsigned index = 2 * (power - LU_DL_TREE_SHIFT) + (unsigned)(size >> (power - 1) & 1);
    return LU_MIN(index, LAST_TREE);
}

/* The bit of the size that chooses between the children of the root. */
static size_t first_bit(unsigned index) {
    return index == LAST_TREE ? HIGHEST_BIT : (size_t)1 << (index / 2 + LU_DL_TREE_SHIFT - 2);
}

static struct lu__dl_node *node_of(const struct lu__chunk *chunk) {
    return (struct lu__dl_node *)(uintptr_t)chunk;
}

static size_t size_of(const struct lu__dl_node *node) {
    return lu__chunk_size(&node->chunk);
}

/* Another of the ring; the node itself if it is alone. */
static struct lu__dl_node *sibling(const struct lu__dl_node *node) {
    return node_of(lu__chunk_of_links(node->chunk.free.next));
}

/* ---------------------------------------------------------------- insert */

static void hang(struct lu__dl_node **link, struct lu__dl_node *node) {
    *link = node;
    node->link = link;
    node->child[0] = node->child[1] = NULL;
    node->chunk.free = (struct lu__links){&node->chunk.free, &node->chunk.free};
}

static void join_ring(struct lu__dl_node *member, struct lu__dl_node *node) {
    struct lu__links *links = &node->chunk.free, *before = &member->chunk.free;
    *links = (struct lu__links){before->next, before};
    before->next->prev = links;
    before->next = links;
    node->link = NULL;
}

/* True if it may be read: it is in the space. */
static bool known(const struct lu__dl_space *space, const struct lu__dl_node *node) {
    if ((uintptr_t)node % LU_CHUNK_ALIGN != 0) return false;
    const struct lu__dl_segment *segment = lu__dl_segment_of(space, node);
    return segment != NULL && segment->end - (uintptr_t)node >= sizeof *node;
}

void lu__dl_tree_insert(struct lu__dl_space *space, struct lu__chunk *chunk) {
    struct lu__dl_node *node = node_of(chunk);
    size_t size = size_of(node);
    unsigned index = lu__dl_tree_index(size);
    struct lu__dl_node **link = &space->trees[index];
    size_t steps = 0;
    space->tree_map |= 1u << index;
    for (size_t bit = first_bit(index); *link != NULL; bit >>= 1) {
        if (!known(space, *link)) {
            /* What hung there is lost, but not what comes. */
            (void)lu__dl_damaged(space, "links of a free block are damaged", *link);
            break;
        }
        if (size_of(*link) == size && lu__dl_ring_sound(space, &(*link)->chunk.free)) {
            join_ring(*link, node);
            node = NULL;
            break;
        }
        link = &(*link)->child[(size & bit) != 0];
        steps++;
    }
    if (node != NULL) hang(link, node);
    LU_COUNT(space->heap, free_steps, steps);
}

/* ---------------------------------------------------------------- remove */

/* What points to the node is where it should be. */
static bool link_sound(const struct lu__dl_space *space, const struct lu__dl_node *node) {
    uintptr_t at = (uintptr_t)node->link, roots = (uintptr_t)space->trees;
    if (at % sizeof at != 0) return false;
    if (at - roots >= sizeof space->trees && lu__dl_segment_of(space, node->link) == NULL) {
        return false;
    }
    return *node->link == node;
}

static bool child_sound(const struct lu__dl_space *space, struct lu__dl_node *const *link) {
    return *link == NULL || (known(space, *link) && (*link)->link == link);
}

static bool node_sound(const struct lu__dl_space *space, const struct lu__dl_node *node) {
    return lu__dl_ring_sound(space, &node->chunk.free) &&
           (node->link == NULL ? sibling(node) != node
                               : link_sound(space, node) && child_sound(space, &node->child[0]) &&
                                     child_sound(space, &node->child[1]));
}

/* A leaf below the node, for its place; NULL: it is a leaf itself, or damaged. */
static struct lu__dl_node *leaf_below(const struct lu__dl_space *space, struct lu__dl_node *node,
                                      bool *sound) {
    struct lu__dl_node *leaf = NULL;
    *sound = true;
    for (struct lu__dl_node *const *link = node->child;;) {
        link = link[1] != NULL ? &link[1] : &link[0];
        if (*link == NULL) return leaf;
        if (!child_sound(space, link)) {
            *sound = false;
            return NULL;
        }
        leaf = *link;
        link = leaf->child;
    }
}

/* Give the place of the node to `other`, which has no place now. */
static void replace(struct lu__dl_node *node, struct lu__dl_node *other) {
    other->link = node->link;
    *other->link = other;
    for (int i = 0; i < 2; i++) {
        other->child[i] = node->child[i];
        if (other->child[i] != NULL) other->child[i]->link = &other->child[i];
    }
}

bool lu__dl_tree_remove(struct lu__dl_space *space, struct lu__chunk *chunk) {
    struct lu__dl_node *node = node_of(chunk), *other = sibling(node);
    bool sound = node_sound(space, node);
    if (sound && node->link != NULL && other == node) other = leaf_below(space, node, &sound);
    if (!sound) return lu__dl_damaged(space, "links of a free block are damaged", chunk);

    struct lu__links *links = &node->chunk.free;
    links->prev->next = links->next;
    links->next->prev = links->prev;
    if (node->link == NULL) return true;
    if (other == NULL) {
        *node->link = NULL;
        unsigned index = lu__dl_tree_index(size_of(node));
        if (space->trees[index] == NULL) space->tree_map &= ~(1u << index);
        return true;
    }
    if (other->link != NULL) *other->link = NULL; /* a leaf leaves its place */
    replace(node, other);
    return true;
}

/* ---------------------------------------------------------------- best fit */

struct search {
    const struct lu__dl_space *space;
    size_t size, least_rest;
    struct lu__dl_node *best;
    unsigned looked_at;
};

/* False: damaged; the search ends with nothing. */
static bool look(struct search *search, struct lu__dl_node *node) {
    if (search->looked_at >= TOO_LONG || !known(search->space, node) ||
        size_of(node) < LU_DL_LARGE) {
        search->best = NULL;
        return lu__dl_damaged(search->space, "links of a free block are damaged", node);
    }
    size_t size = size_of(node);
    search->looked_at++;
    if (size >= search->size && size - search->size < search->least_rest) {
        search->best = node;
        search->least_rest = size - search->size;
    }
    return true;
}

/* Down the path of the size's bits; then *later is the subtree to go on with, or NULL. */
static bool look_on_path(struct search *search, unsigned index, struct lu__dl_node **later) {
    struct lu__dl_node *node = search->space->trees[index];
    for (size_t bit = first_bit(index); node != NULL; bit >>= 1) {
        if (!look(search, node)) return false;
        bool right = (search->size & bit) != 0;
        if (!right && node->child[1] != NULL) *later = node->child[1];
        if (search->least_rest == 0) {
            *later = NULL;
            return true;
        }
        node = node->child[right];
    }
    return true;
}

struct lu__chunk *lu__dl_tree_best(const struct lu__dl_space *space, size_t size) {
    struct search search = {.space = space, .size = size, .least_rest = SIZE_MAX};
    struct lu__dl_node *node = NULL;
    uint32_t above = space->tree_map; /* the trees of which all is large enough */
    bool sound = true;
    if (size >= LU_DL_LARGE) {
        unsigned index = lu__dl_tree_index(size);
        above = index == LAST_TREE ? 0 : above & (~0u << (index + 1));
        sound = look_on_path(&search, index, &node);
    }
    if (sound && search.best == NULL && node == NULL && above != 0) {
        node = space->trees[__builtin_ctz(above)];
    }
    while (sound && node != NULL) {
        sound = look(&search, node);
        if (sound) node = node->child[node->child[0] == NULL];
    }
    LU_COUNT(space->heap, searches, search.looked_at);
    return search.best != NULL ? &search.best->chunk : NULL;
}

/* ---------------------------------------------------------------- validate */

struct check {
    const struct lu__dl_space *space;
    struct lu__classic_fault *fault;
    size_t chunks, limit; /* more than there can be: a circle */
};

static bool wrong(struct check *check, const char *what, const void *where) {
    *check->fault = (struct lu__classic_fault){what, (uintptr_t)where};
    return false;
}

static bool check_header(struct check *check, const struct lu__dl_node *node) {
    if (!known(check->space, node)) return wrong(check, "a link that leaves the space", node);
    if ((node->chunk.head & LU_CHUNK_FLAGS) != LU_CHUNK_BEFORE_USED) {
        return wrong(check, "a block in a tree that is not free", node);
    }
    if (++check->chunks > check->limit) return wrong(check, "a circle of links", node);
    return true;
}

static bool check_ring(struct check *check, const struct lu__dl_node *node) {
    if (!lu__dl_ring_sound(check->space, &node->chunk.free)) {
        return wrong(check, "a ring that is broken", node);
    }
    for (const struct lu__dl_node *other = sibling(node); other != node; other = sibling(other)) {
        if (!check_header(check, other)) return false;
        if (size_of(other) != size_of(node) || other->link != NULL) {
            return wrong(check, "a ring of different sizes, or with two nodes of a tree", other);
        }
        if (!lu__dl_ring_sound(check->space, &other->chunk.free)) {
            return wrong(check, "a ring that is broken", other);
        }
    }
    return true;
}

/* A subtree for the sizes from `least` to least + 2 * bit - 1. */
static bool check_tree(struct check *check, struct lu__dl_node *const *link, size_t least,
                       size_t bit) {
    const struct lu__dl_node *node = *link;
    if (node == NULL) return true;
    if (!check_header(check, node)) return false;
    if (node->link != link) return wrong(check, "a node that does not know its place", node);
    if (size_of(node) < least || size_of(node) - least >= 2 * bit) {
        return wrong(check, "a block in the wrong part of a tree", node);
    }
    return check_ring(check, node) && check_tree(check, &node->child[0], least, bit / 2) &&
           check_tree(check, &node->child[1], least + bit, bit / 2);
}

bool lu__dl_tree_validate(const struct lu__dl_space *space, unsigned index, size_t *chunks,
                          struct lu__classic_fault *fault) {
    struct check check = {.space = space, .fault = fault, .chunks = *chunks};
    check.limit = *chunks + space->footprint / LU_DL_LARGE;
    bool marked = (space->tree_map >> index & 1) != 0;
    if (marked != (space->trees[index] != NULL)) {
        return wrong(&check, "the map of trees is not what they are", &space->trees[index]);
    }
    size_t bit = first_bit(index);
    size_t least = index == LAST_TREE ? 0 : 2 * bit * (2 + (index & 1));
    if (!check_tree(&check, &space->trees[index], least, bit)) return false;
    *chunks = check.chunks;
    return true;
}
