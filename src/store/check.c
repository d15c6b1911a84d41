/*
 * check.c - verifying a store.
 *
 * Blocks are walked by address, so a word whose check is wrong ends the walk: the blocks behind it
 * cannot be found. The checks follow the invariants in blocks.c:
 *
 *     by address   words, sizes, `prev_free`, no two free side by side, sizes at the ends of free
 *                  blocks; the sums are compared with the counts in the header
 *     by list      each entry is a free block of that class whose `previous` is the entry before:
 *                  so no block is met twice and a list ends. As many blocks as the first walk met
 *                  free means that each of them is listed.
 *
 * Both take time in proportion to the number of blocks and no memory. Called under the lock; a
 * contradiction is described by lu__store_damage.
 */
#include "os/file.h"
#include "os/os.h"
#include "store/store.h"

#include <errno.h>

uint64_t lu__store_seal(const struct store_header *header) {
    const uint64_t *words = (const uint64_t *)(const void *)header;
    uint64_t seal = 0;
    for (size_t i = 0; i < LU_STORE_OFFSET(seal) / 8; i++) {
        seal = lu__store_mix((seal ^ words[i]) + i + 1);
    }
    return seal;
}

int lu__store_verify_constant(const struct store_header *header, uint64_t file_bytes,
                              lu_store_fault_t *fault) {
    if (header->magic != LU_STORE_MAGIC) {
        return lu__store_fault(fault, LU_STORE_FOREIGN, EINVAL, "not a store: magic number", 0,
                               header->magic, LU_STORE_MAGIC);
    }
    if (file_bytes < LU_STORE_GRAIN) {
        return lu__store_fault(fault, LU_STORE_TRUNCATED, EUCLEAN, "length of the file", 0,
                               file_bytes, LU_STORE_GRAIN);
    }
    if (header->version != LU_STORE_FORMAT) {
        return lu__store_fault(fault, LU_STORE_VERSION, EINVAL, "version", LU_STORE_OFFSET(version),
                               header->version, LU_STORE_FORMAT);
    }
    const struct {
        const char *what;
        uint64_t offset, found, expected;
    } fields[] = {
        {"byte order", LU_STORE_OFFSET(order), header->order, LU_STORE_ORDER},
        {"size of the header", LU_STORE_OFFSET(header_bytes), header->header_bytes,
         LU_STORE_HEADER},
        {"page size", LU_STORE_OFFSET(grain_bytes), header->grain_bytes, LU_STORE_GRAIN},
        {"number of classes", LU_STORE_OFFSET(class_count), header->class_count, LU_STORE_CLASSES},
        {"length of the journal", LU_STORE_OFFSET(journal_max), header->journal_max,
         LU_STORE_JOURNAL},
    };
    for (size_t i = 0; i < LU_COUNT_OF(fields); i++) {
        if (fields[i].found != fields[i].expected) {
            return lu__store_fault(fault, LU_STORE_LAYOUT, EINVAL, fields[i].what, fields[i].offset,
                                   fields[i].found, fields[i].expected);
        }
    }
    size_t page = LU_OS_PAGE;
    if (page > LU_STORE_GRAIN) {
        return lu__store_fault(fault, LU_STORE_LAYOUT, EINVAL, "page size of this machine", 0, page,
                               LU_STORE_GRAIN);
    }
    if (header->seal != lu__store_seal(header)) {
        return lu__store_fault(fault, LU_STORE_DAMAGED, EUCLEAN, "seal of the header",
                               LU_STORE_OFFSET(seal), header->seal, lu__store_seal(header));
    }
    return 0;
}

static bool word_is(struct lu_store *store, const char *what, uint64_t offset, uint64_t expected) {
    uint64_t found = lu__store_read(store, offset);
    return found == expected || lu__store_damage(store, what, offset, found, expected);
}

bool lu__store_verify_quick(struct lu_store *store) {
    const struct store_header *header = lu__store_header(store);
    uint64_t bytes = header->file_bytes, root = header->root;
    if (!word_is(store, "check of the size", LU_STORE_OFFSET(file_check),
                 lu__store_check_of(store, bytes)) ||
        !word_is(store, "check of the root", LU_STORE_OFFSET(root_check),
                 lu__store_check_of(store, root))) {
        return false;
    }
    if (bytes % LU_STORE_GRAIN != 0 || bytes < LU_STORE_GRAIN || bytes > store->mapped) {
        return lu__store_damage(store, "size of the store", LU_STORE_OFFSET(file_bytes), bytes,
                                store->mapped);
    }
    struct store_block end;
    if (!lu__store_block(store, bytes - 8, &end)) {
        return lu__store_damage(store, "end mark", bytes - 8, lu__store_read(store, bytes - 8),
                                lu__store_encode(store, bytes - 8, 0, true, false));
    }
    return true;
}

/* What the walk by address counts. */
struct tally {
    uint64_t live_blocks, live_bytes, free_blocks;
    bool root_is_live;
};

static bool walk_by_address(struct lu_store *store, struct tally *tally) {
    const struct store_header *header = lu__store_header(store);
    uint64_t end = header->file_bytes - 8;
    bool after_free = false;
    struct store_block block;
    for (uint64_t at = LU_STORE_FIRST;; at += block.size) {
        if (!lu__store_block(store, at, &block)) {
            return lu__store_damage(store, "word of a block", at, lu__store_read(store, at),
                                    LU_STORE_WITHOUT);
        }
        if (block.prev_free != after_free || (after_free && !block.used)) {
            return lu__store_damage(store, "flags of a block", at, lu__store_read(store, at),
                                    lu__store_encode(store, at, block.size, true, after_free));
        }
        if (at == end) return true;
        after_free = !block.used;
        if (block.used) {
            tally->live_blocks++;
            tally->live_bytes += block.size;
            tally->root_is_live |= header->root == at + LU_STORE_WORD;
        } else {
            tally->free_blocks++;
            if (!word_is(store, "size at the end of a free block", at + block.size - 8,
                         block.size)) {
                return false;
            }
        }
    }
}

static bool walk_list(struct lu_store *store, unsigned class, uint64_t free_blocks,
                      uint64_t *count) {
    uint64_t link = LU_STORE_OFFSET(heads) + class * 8u, prev = 0;
    uint64_t at = lu__store_read(store, link);
    struct store_block block;
    while (at != 0) {
        if (*count == free_blocks || !lu__store_free_block(store, at, &block) ||
            lu__store_class(block.size) != class) {
            return lu__store_damage(store, "link of a free block", link, at, 0);
        }
        if (!word_is(store, "previous of a free block", at + 16, prev)) return false;
        ++*count;
        prev = at;
        link = at + 8;
        at = lu__store_read(store, link);
    }
    return true;
}

static bool walk_lists(struct lu_store *store, uint64_t free_blocks) {
    uint64_t count = 0;
    for (unsigned word = 0; word < LU_STORE_BITMAP; word++) {
        uint64_t bits = 0;
        for (unsigned i = 0; i < 64 && word * 64 + i < LU_STORE_CLASSES; i++) {
            unsigned class = word * 64 + i;
            if (!walk_list(store, class, free_blocks, &count)) return false;
            if (lu__store_header(store)->heads[class] != 0) bits |= (uint64_t)1 << i;
        }
        if (!word_is(store, "bitmap of the lists", LU_STORE_OFFSET(bitmap) + word * 8u, bits)) {
            return false;
        }
    }
    if (count == free_blocks) return true;
    return lu__store_damage(store, "number of listed free blocks", LU_STORE_OFFSET(heads), count,
                            free_blocks);
}

bool lu__store_verify(struct lu_store *store) {
    const struct store_header *header = lu__store_header(store);
    struct tally tally = {0};
    if (lu__store_verify_constant(header, header->file_bytes, store->fault) != 0) {
        store->error = EUCLEAN;
        return false;
    }
    if (!lu__store_verify_quick(store) || !walk_by_address(store, &tally) ||
        !walk_lists(store, tally.free_blocks) ||
        !word_is(store, "number of live blocks", LU_STORE_OFFSET(live_blocks), tally.live_blocks) ||
        !word_is(store, "bytes in live blocks", LU_STORE_OFFSET(live_bytes), tally.live_bytes)) {
        return false;
    }
    if (header->root == 0 || tally.root_is_live) return true;
    return lu__store_damage(store, "root, which is no live block", LU_STORE_OFFSET(root),
                            header->root, 0);
}

int lu_store_check(lu_store_t *store, lu_store_fault_t *fault) {
    int error;
    if (!lu__store_enter(store, fault, &error)) return error;
    if (lu__store_verify(store) && fault != NULL) {
        *fault = (lu_store_fault_t){.reason = LU_STORE_FINE};
    }
    error = store->error;
    lu__store_leave(store);
    return error;
}
