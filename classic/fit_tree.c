/*
 * fit_tree.c - best fit over a balanced tree.
 *
 * Source: R. Seidel, C. R. Aragon, Randomized Search Trees, Algorithmica 16, 1996 (treaps).
 *
 *                   [48 @0x900]          by (size, address): smaller ones to the left.
 *                   /         \          Upwards the priority grows, which is a hash of the block's
 *          [32 @0x100]     [96 @0x300]   place: as if the blocks had come in random order, so the
 *                 \                      depth is about 2 ln m for m free blocks, whatever a
 *             [48 @0x500]                program does. A node needs two words and nothing else.
 *
 * The search finds the leftmost node that is large enough: the smallest block, and of those the
 * lowest. That is what `best` chooses (fit_list.c), so both give the same addresses for the same
 * calls; here it takes logarithmic time, and so does freeing. In memory best fit's bound holds for
 * both, about M n (fit.c).
 */
#include "classic/fit.h"

/* ---------------------------------------------------------------- order */

/* The finaliser of SplitMix64 (Steele, Lea, Flood 2014): no two places have the same. */
static uint64_t priority_of(const struct lu__fit *fit, const struct lu__fit_block *block) {
    uint64_t x = (uintptr_t)block - fit->heap.area.base;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool is_less(const struct lu__fit_block *a, const struct lu__fit_block *b) {
    size_t a_bytes = lu__fit_bytes(a), b_bytes = lu__fit_bytes(b);
    return a_bytes != b_bytes ? a_bytes < b_bytes : a < b;
}

/* ---------------------------------------------------------------- the tree */

static void tree_put(struct lu__fit *fit, struct lu__fit_block *block, struct lu__fit_block *hint) {
    (void)hint;
    uint64_t priority = priority_of(fit, block);
    struct lu__fit_block **at = &fit->root;
    size_t steps = 0;
    for (; *at != NULL && priority_of(fit, *at) > priority; steps++) {
        at = is_less(block, *at) ? &(*at)->left : &(*at)->right;
    }
    /* What was there is split into what is less and what is more. */
    struct lu__fit_block *rest = *at, **less = &block->left, **more = &block->right;
    *at = block;
    for (; rest != NULL; steps++) {
        if (is_less(rest, block)) {
            *less = rest;
            less = &rest->right;
            rest = rest->right;
        } else {
            *more = rest;
            more = &rest->left;
            rest = rest->left;
        }
    }
    *less = *more = NULL;
    LU_COUNT(&fit->heap, free_steps, steps);
}

static struct lu__fit_block *tree_take(struct lu__fit *fit, struct lu__fit_block *block) {
    struct lu__fit_block **at = &fit->root;
    while (*at != block && *at != NULL) {
        at = is_less(block, *at) ? &(*at)->left : &(*at)->right;
    }
    if (*at == NULL) {
        lu__classic_misuse(&fit->heap, "a free block that is not in the tree", block);
        return NULL;
    }
    struct lu__fit_block *less = block->left, *more = block->right;
    while (less != NULL && more != NULL) {
        if (priority_of(fit, less) > priority_of(fit, more)) {
            *at = less;
            at = &less->right;
            less = less->right;
        } else {
            *at = more;
            at = &more->left;
            more = more->left;
        }
    }
    *at = less != NULL ? less : more;
    return NULL;
}

static struct lu__fit_block *tree_search(struct lu__fit *fit, size_t bytes) {
    size_t seen = 0;
    struct lu__fit_block *found = NULL, *node = fit->root;
    while (node != NULL) {
        seen++;
        if (lu__fit_bytes(node) >= bytes) {
            found = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    LU_COUNT(&fit->heap, searches, seen);
    return found;
}

/* ---------------------------------------------------------------- checks */

/* Links of a node that is to be between `low` and `high` (NULL: no bound): true if they can be. */
static bool is_child(const struct lu__fit *fit, const struct lu__fit_block *node,
                     const struct lu__fit_block *low, const struct lu__fit_block *high,
                     uint64_t below) {
    return lu__fit_is_inside(fit, node) && !lu__fit_is_used(node) &&
           (low == NULL || is_less(low, node)) && (high == NULL || is_less(node, high)) &&
           priority_of(fit, node) < below;
}

/* Find `block` from the root. Bounds narrow with each step, so the way has an end, whatever the
 * links are. */
static bool tree_check(const struct lu__fit *fit, const struct lu__fit_block *block,
                       const struct lu__fit_block **state, struct lu__classic_fault *fault) {
    const struct lu__fit_block *node = fit->root, *low = NULL, *high = NULL;
    uint64_t below = UINT64_MAX;
    (void)state;
    if (block == NULL) {
        return fit->free_blocks != 0 || node == NULL ||
               lu__fit_wrong(fault, "the tree has a node too many", node);
    }
    while (node != block) {
        if (node == NULL) return lu__fit_wrong(fault, "a free block not in the tree", block);
        if (!is_child(fit, node, low, high, below)) {
            return lu__fit_wrong(fault, "a link of the tree was overwritten", node);
        }
        below = priority_of(fit, node);
        if (is_less(block, node)) {
            high = node;
            node = node->left;
        } else {
            low = node;
            node = node->right;
        }
    }
    below = priority_of(fit, block);
    if ((block->left != NULL && !is_child(fit, block->left, low, block, below)) ||
        (block->right != NULL && !is_child(fit, block->right, block, high, below))) {
        return lu__fit_wrong(fault, "a link of the tree was overwritten", block);
    }
    return true;
}

/* ---------------------------------------------------------------- the policy */

static const struct lu__fit_order tree_order = {
    .search = tree_search, .take = tree_take, .put = tree_put, .check = tree_check};

static bool best_tree_init(struct lu__classic *self) {
    return lu__fit_init(self, &tree_order);
}

const struct lu__policy lu__policy_best_tree = {
    .name = "best_tree",
    .title = "Best fit: the smallest free block that is large enough, by a balanced tree",
    .source = "R. Seidel, C. R. Aragon, Randomized Search Trees, 1996; Knuth vol. 1, 2.5",
    .init = best_tree_init,
    LU_FIT_FUNCTIONS,
};
