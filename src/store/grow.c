/*
 * grow.c - making a store larger when no free block is large enough.
 *
 *     before   | ... | block | end |
 *     after    | ... | block | free block ............................... | end |
 *                              ^ file_bytes - 8, as it was                  ^ the new one - 8
 *
 * The word of the old end mark becomes that of a free block, merged with the one before it if that
 * is free. A store over a file grows by an eighth, at least 64 KiB and at most 64 MiB, so that a
 * large one is not extended often; the last bytes below the limit or on the disk are taken too.
 *
 * All of it is part of the operation that needs the memory (journal.c): `growing` is set, the file
 * is made longer, its disk blocks are allocated so that the disk cannot be full later, and then
 * words are changed. A failure on the way undoes them and cuts the file back. Other processes use
 * the new part when they next take the lock and see a larger file_bytes (store.c).
 */
#include "os/file.h"
#include "store/store.h"

#include <errno.h>

/* Make the file longer. 0 or an errno value. */
static int extend(struct lu_store *store, uint64_t old_bytes, uint64_t new_bytes) {
    if (store->fd >= 0) {
        uint64_t *growing = &lu__store_header(store)->growing;
        struct lu__os_file_info info;
        int error = lu__store_file(store, &info);
        if (error != 0) return error;
        lu__store_step();
        __atomic_store_n(growing, LU_MAX(*growing, new_bytes), __ATOMIC_RELEASE);
        lu__store_step();
        error = lu__os_file_resize(store->fd, new_bytes);
        lu__store_step();
        if (error == 0 && (store->flags & LU_STORE_SPARSE) == 0) {
            error = lu__os_file_allocate(store->fd, old_bytes, new_bytes - old_bytes);
        }
        if (error != 0) return error;
    }
    lu__store_step();
    return lu__store_map(store, new_bytes);
}

/* The store has `bytes` from now on: a free block up to the new end mark. */
static void adopt(struct lu_store *store, const struct store_block *end, uint64_t bytes) {
    /* First as a block in use, which then is freed like any other and merges with the one
     * before. */
    struct store_block fresh = {end->at, bytes - 8 - end->at, true, end->prev_free};
    /* The size of a free block that it merges with: the taker may overwrite it before the end. */
    if (end->prev_free) lu__store_note(store, end->at - 8);
    lu__store_put(store, LU_STORE_OFFSET(file_bytes), bytes);
    lu__store_put(store, LU_STORE_OFFSET(file_check), lu__store_check_of(store, bytes));
    lu__store_put(store, bytes - 8, lu__store_encode(store, bytes - 8, 0, true, false));
    lu__store_put(store, fresh.at,
                  lu__store_encode(store, fresh.at, fresh.size, true, fresh.prev_free));
    lu__store_give(store, &fresh);
    lu__store_apply(store);
    /* It was never counted as live. */
    struct store_header *header = lu__store_header(store);
    lu__store_put(store, LU_STORE_OFFSET(live_blocks), header->live_blocks + 1);
    lu__store_put(store, LU_STORE_OFFSET(live_bytes), header->live_bytes + fresh.size);
    if (store->fd >= 0) lu__store_put(store, LU_STORE_OFFSET(growing), 0);
}

bool lu__store_grow(struct lu_store *store, uint64_t size) {
    uint64_t old = lu__store_header(store)->file_bytes;
    struct store_block end;
    if (!lu__store_block(store, old - 8, &end)) {
        return lu__store_damage(store, "end mark", old - 8, LU_STORE_WITHOUT, 0);
    }
    uint64_t tail = end.prev_free ? lu__store_read(store, end.at - 8) : 0;
    uint64_t missing = tail < size ? size - tail : 16;
    uint64_t least = lu__align_up(missing, LU_STORE_GRAIN);
    if (size >= LU_STORE_MAX || least > store->reserved - old) {
        store->error = ENOMEM;
        return false;
    }
    uint64_t step = LU_MIN(LU_MAX(old / 8, least), 64 * LU_MIB) & ~(uint64_t)(LU_STORE_GRAIN - 1);
    step = LU_MIN(LU_MAX(step, least), store->reserved - old);
    int error = extend(store, old, old + step);
    if (error != 0 && step > least) {
        step = least;
        error = extend(store, old, old + step);
    }
    if (error != 0) {
        store->error = error;
        return false;
    }
    adopt(store, &end, old + step);
    lu__store_apply(store);
    return store->error == 0;
}
