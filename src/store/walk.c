/*
 * walk.c - the walks over all blocks, for the program and for purging.
 *
 *     | visited ............ | block | block | ...
 *       ^ before   ^ at      ^ position
 *
 * No lock is held while the program's visitor runs, so that the visitor may use the store and
 * others go on: a walk takes the lock for each step. Between two steps it keeps only a position,
 * the end of the block that was visited last. At the next step the position may lie inside another
 * block: blocks before it may have been freed and merged with those behind. Then the walk goes on
 * behind that block. So the walk never goes back, comes to an end, and visits each block once that
 * is live from its begin to its end.
 *
 * The block at a position is mostly known by its own word, or found from a block a little before it
 * (the last one visited, or the one before that, with which it merged); else it is searched for.
 */
#include "os/file.h"
#include "os/os.h"
#include "store/store.h"

#include <errno.h>

struct walk {
    uint64_t position, at, before; /* the last two: 0 at first */
};

/* The block behind `block`, in its place. False at the end of the store, or damage. */
static bool go_on(struct lu_store *store, struct store_block *block) {
    uint64_t at = block->at + block->size;
    if (at >= lu__store_header(store)->file_bytes - 8) return false;
    if (lu__store_block(store, at, block)) return true;
    return lu__store_damage(store, "word of a block", at, LU_STORE_WITHOUT, 0);
}

/* The first block at the position or behind it. False at the end of the store, or damage. */
static bool resume(struct lu_store *store, struct walk *walk, struct store_block *out) {
    uint64_t position = walk->position;
    if (walk->at != 0 && lu__store_block(store, walk->at, out)) walk->before = walk->at;
    if (position >= lu__store_header(store)->file_bytes - 8) return false;
    if (lu__store_block(store, position, out)) return true;
    if (walk->before == 0 || !lu__store_block(store, walk->before, out) ||
        position - out->at >= out->size) {
        if (!lu__store_holder(store, position, out)) {
            return lu__store_damage(store, "word of a block", position, LU_STORE_WITHOUT, 0);
        }
    }
    walk->before = out->at;
    return go_on(store, out);
}

/* Under the lock: the next block that is, or is not, in use. False at the end, or damage. */
static bool next_block(struct lu_store *store, struct walk *walk, bool used,
                       struct store_block *out) {
    if (!resume(store, walk, out)) return false;
    while (out->used != used) {
        walk->before = out->at;
        if (!go_on(store, out)) return false;
    }
    walk->at = out->at;
    walk->position = out->at + out->size;
    return true;
}

bool lu_store_walk(lu_store_t *store, lu_visit_fn *visit, void *arg) {
    struct walk walk = {.position = LU_STORE_FIRST};
    int error = EINVAL;
    for (;;) {
        struct store_block block;
        if (visit == NULL || !lu__store_enter(store, NULL, &error)) break;
        bool found = next_block(store, &walk, true, &block);
        char *usable = store->base + walk.at + LU_STORE_WORD;
        error = store->error;
        lu__store_leave(store);
        if (error != 0) break;
        if (!found) return true;
        if (!visit(usable, block.size - LU_STORE_WORD, arg)) return false;
    }
    errno = error;
    return false;
}

/* Give back the pages of a free block that hold neither its links nor its size, and add them to
 * *bytes. */
static int purge_block(const struct lu_store *store, const struct store_block *block,
                       size_t *bytes) {
    uintptr_t start = (uintptr_t)store->base + block->at;
    uintptr_t from = lu__align_up(start + 24, LU_OS_PAGE);
    uintptr_t to = lu__align_down(start + block->size - 8, LU_OS_PAGE);
    if (from >= to) return 0;
    int error = lu__os_file_punch((void *)from, to - from);
    if (error == 0) *bytes += to - from;
    return error;
}

size_t lu_store_purge(lu_store_t *store) {
    struct walk walk = {.position = LU_STORE_FIRST};
    size_t bytes = 0;
    int error;
    for (bool found = true; found && lu__store_enter(store, NULL, &error);) {
        struct store_block block;
        found = next_block(store, &walk, false, &block);
        error = store->error;
        if (found) error = purge_block(store, &block, &bytes);
        lu__store_leave(store);
        if (error != 0) break;
    }
    if (error != 0) errno = error;
    return error == 0 ? bytes : 0;
}
