/*
 * alloc.c - lu_store_malloc and the related functions: arguments, errno, and one operation of the
 * journal each.
 *
 * Every function here has the same shape:
 *
 *     enter (lock, recover what a dead process left, map what others added)
 *         find the block that is meant: a pointer that is no live block ends the call with EINVAL
 *         change words through the journal; copy or clear the new block
 *         end: all of it happens now, or what failed is undone
 *     leave
 *
 * Copying and clearing come before the end, so that no process that finds a block through a slot
 * sees it half filled. They touch only bytes of a block that was free: its links were noted in the
 * journal when it was taken.
 */
#include "os/file.h"
#include "store/store.h"

#include <errno.h>

/* Bytes of a block for `size` usable ones; 0 if there can be none. */
static uint64_t block_bytes(const struct lu_store *store, size_t size) {
    if (size > store->reserved) return 0;
    return LU_MAX(lu__align_up(size + LU_STORE_WORD, 16), (uint64_t)LU_STORE_MIN_BLOCK);
}

static char *usable(const struct lu_store *store, uint64_t at) {
    return store->base + at + LU_STORE_WORD;
}

/* The live block with that handle; false if there is none. */
static bool live_handle(const struct lu_store *store, uint64_t handle, struct store_block *out) {
    struct store_block next;
    return lu__store_block(store, handle - LU_STORE_WORD, out) && out->used && out->size != 0 &&
           lu__store_block(store, out->at + out->size, &next) && !next.prev_free;
}

static bool live_block(const struct lu_store *store, const void *pointer, struct store_block *out) {
    return live_handle(store, (uint64_t)((uintptr_t)pointer - (uintptr_t)store->base), out);
}

static void *end_with(struct lu_store *store, int error, void *result) {
    if (error == 0) error = lu__store_end(store);
    lu__store_leave(store);
    if (error == 0) return result;
    errno = error;
    return NULL;
}

/* Take a block in the operation in progress, all of it cleared if wanted; 0 if it failed. */
static uint64_t take(struct lu_store *store, size_t size, bool zero) {
    struct store_block block;
    uint64_t bytes = block_bytes(store, size);
    if (bytes == 0) {
        store->error = ENOMEM;
        return 0;
    }
    if (!lu__store_take(store, bytes, zero, &block)) return 0;
    if (zero) {
        __builtin_memset(usable(store, block.at), 0, block.size - LU_STORE_WORD);
        lu__store_step();
    }
    return block.at;
}

static void *allocate(struct lu_store *store, size_t size, bool zero) {
    int error;
    if (!lu__store_enter(store, NULL, &error)) {
        errno = error;
        return NULL;
    }
    uint64_t at = take(store, size, zero);
    return end_with(store, 0, usable(store, at));
}

void *lu_store_malloc(lu_store_t *store, size_t size) {
    return allocate(store, size, false);
}

void *lu_store_calloc(lu_store_t *store, size_t count, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(count, size, &total)) total = SIZE_MAX;
    return allocate(store, total, true);
}

int lu_store_free(lu_store_t *store, void *block) {
    int error;
    struct store_block found;
    if (block == NULL) return lu__store_is_open(store) ? 0 : EINVAL;
    if (!lu__store_enter(store, NULL, &error)) return error;
    if (live_block(store, block, &found)) {
        lu__store_give(store, &found);
        error = lu__store_end(store);
    } else {
        error = EINVAL;
    }
    lu__store_leave(store);
    return error;
}

size_t lu_store_usable_size(lu_store_t *store, const void *block) {
    int error;
    struct store_block found;
    if (block == NULL) return 0;
    if (lu__store_enter(store, NULL, &error)) {
        bool live = live_block(store, block, &found);
        lu__store_leave(store);
        if (live) return found.size - LU_STORE_WORD;
        error = EINVAL;
    }
    errno = error;
    return 0;
}

/* ------------------------------------------------------------------ realloc */

/* True if the block has only free memory, or none, between itself and the end of the store. */
static bool is_last(const struct lu_store *store, const struct store_block *block) {
    struct store_block next;
    if (!lu__store_block(store, block->at + block->size, &next)) return false;
    if (next.size != 0 && !next.used)
        return lu__store_block(store, next.at + next.size, &next) && next.size == 0;
    return next.size == 0;
}

/* Copy the block to another place. Returns the new block, or 0. */
static uint64_t move(struct lu_store *store, const struct store_block *block, uint64_t bytes) {
    struct store_block taken, now;
    if (!lu__store_take(store, bytes, true, &taken)) return 0;
    bool is_root = lu__store_header(store)->root == block->at + LU_STORE_WORD;
    __builtin_memcpy(usable(store, taken.at), usable(store, block->at),
                     LU_MIN(block->size, bytes) - LU_STORE_WORD);
    lu__store_step();
    /* Taking one may have changed its flags. */
    if (!lu__store_block(store, block->at, &now)) {
        (void)lu__store_damage(store, "word of a block", block->at, LU_STORE_WITHOUT, 0);
        return 0;
    }
    lu__store_give(store, &now);
    if (is_root) lu__store_put_root(store, taken.at + LU_STORE_WORD);
    return taken.at;
}

static uint64_t resize(struct lu_store *store, const struct store_block *block, size_t size) {
    uint64_t bytes = block_bytes(store, size);
    if (bytes == 0) {
        store->error = ENOMEM;
        return 0;
    }
    if (lu__store_resize(store, block, bytes)) return block->at;
    if (store->error != 0) return 0;
    /* The last block grows with the file, unless there is a place for it elsewhere. */
    struct store_block now;
    if (is_last(store, block) && lu__store_grow(store, bytes - block->size) &&
        lu__store_block(store, block->at, &now) && lu__store_resize(store, &now, bytes)) {
        return block->at;
    }
    return store->error == 0 ? move(store, block, bytes) : 0;
}

void *lu_store_realloc(lu_store_t *store, void *block, size_t size) {
    int error;
    struct store_block found;
    if (block == NULL) return lu_store_malloc(store, size);
    if (size == 0) {
        error = lu_store_free(store, block);
        if (error != 0) errno = error;
        return NULL;
    }
    if (!lu__store_enter(store, NULL, &error)) {
        errno = error;
        return NULL;
    }
    if (!live_block(store, block, &found)) return end_with(store, EINVAL, NULL);
    uint64_t at = resize(store, &found, size);
    return end_with(store, 0, usable(store, at));
}

/* ------------------------------------------------------------------ slots and the root */

/* The offset of a slot: an aligned word inside a live block. False if the address is not one. */
static bool slot_offset(struct lu_store *store, const uint64_t *slot, uint64_t *out) {
    if (slot == NULL) {
        *out = LU_STORE_OFFSET(root);
        return true;
    }
    uint64_t offset = (uint64_t)((uintptr_t)slot - (uintptr_t)store->base);
    struct store_block block;
    *out = offset;
    return offset % 8 == 0 && lu__store_holder(store, offset, &block) && block.used &&
           block.at != offset;
}

static void put_slot(struct lu_store *store, uint64_t slot, uint64_t handle) {
    if (slot == LU_STORE_OFFSET(root)) {
        lu__store_put_root(store, handle);
    } else {
        lu__store_put(store, slot, handle);
    }
}

static bool is_inside(const struct store_block *block, uint64_t offset) {
    return offset - block->at < block->size;
}

int lu_store_alloc_to(lu_store_t *store, uint64_t *slot, size_t size) {
    int error;
    uint64_t offset;
    if (!lu__store_enter(store, NULL, &error)) return error;
    error = EINVAL;
    if (slot_offset(store, slot, &offset)) {
        uint64_t at = take(store, size, true);
        put_slot(store, offset, at + LU_STORE_WORD);
        error = lu__store_end(store);
    }
    lu__store_leave(store);
    return error;
}

int lu_store_free_from(lu_store_t *store, uint64_t *slot) {
    int error;
    uint64_t offset;
    struct store_block block;
    if (!lu__store_enter(store, NULL, &error)) return error;
    error = EINVAL;
    if (slot_offset(store, slot, &offset)) {
        uint64_t handle = lu__store_read(store, offset);
        if (handle == 0) {
            error = 0;
        } else if (live_handle(store, handle, &block) && !is_inside(&block, offset)) {
            lu__store_give(store, &block);
            put_slot(store, offset, 0);
            error = lu__store_end(store);
        }
    }
    lu__store_leave(store);
    return error;
}

int lu_store_set_root(lu_store_t *store, uint64_t handle) {
    int error;
    struct store_block block;
    if (!lu__store_enter(store, NULL, &error)) return error;
    error = EINVAL;
    if (handle == 0 || live_handle(store, handle, &block)) {
        lu__store_put_root(store, handle);
        error = lu__store_end(store);
    }
    lu__store_leave(store);
    return error;
}
