/*
 * blocks.c - the blocks of a store: splitting, merging, and the lists of free ones.
 *
 * Boundary tags (Knuth, The Art of Computer Programming 1, 2.5) with segregated lists as in TLSF
 * (Masmano, Ripoll, Crespo, Real, ECRTS 2004): a class is one size up to 240 bytes, and above that
 * a sixteenth of a power of two. A bitmap says which classes have free blocks.
 *
 *     take   the first of an exact class; else the best of the first 8 of the own class that fits,
 *            else the first of the next class that has any, which is larger for certain. The rest
 *            goes back as a free block, unless it is smaller than the smallest block.
 *     give   merge with the free neighbours, so that free blocks never touch, and push.
 *
 * So a block wastes 8 bytes, the rounding of its size to 16, and seldom a remainder of 16; and a
 * store becomes one free block again when everything is freed.
 *
 * Invariants, at the end of every operation:
 *   - the blocks, by their sizes, lead from LU_STORE_FIRST to the end mark at file_bytes - 8;
 *   - `prev_free` of a block is true if and only if the block before it is free; no two are free
 *     side by side; a free block's last 8 bytes are its size;
 *   - heads[c] begins a list of exactly the free blocks of class c, linked both ways by offsets,
 *     and bit c of the bitmap says whether there are any;
 *   - inside a block there is no word that proves itself but by the program's doing: the word of a
 *     block that is merged away is cleared. That is what makes a second free of it noticed.
 *
 * Everything here is called under the lock between lu__store_begin and lu__store_end, writes only
 * by lu__store_put, and trusts no offset before lu__store_block has proved it. No word is read that
 * was put and not applied: lists are changed first, each time after lu__store_apply, and then the
 * words of blocks, which are not read again in the same operation.
 */
#include "store/store.h"

#include <errno.h>

enum { USED = 1, PREV_FREE = 2, FLAGS = 15, FIRST_FITS = 8 };

/* Where the links of a free block at `at`, and its size at its end, are. */
static uint64_t next_of(uint64_t at) {
    return at + 8;
}
static uint64_t prev_of(uint64_t at) {
    return at + 16;
}
static uint64_t end_of(uint64_t at, uint64_t size) {
    return at + size - 8;
}
static uint64_t head_of(unsigned class) {
    return LU_STORE_OFFSET(heads) + class * 8u;
}
static uint64_t bits_of(unsigned class) {
    return LU_STORE_OFFSET(bitmap) + class / 64 * 8u;
}

uint64_t lu__store_encode(const struct lu_store *store, uint64_t at, uint64_t size, bool used,
                          bool prev_free) {
    uint64_t low = size | (used ? USED : 0) | (prev_free ? PREV_FREE : 0);
    uint64_t key = lu__store_header(store)->key;
    return low | (lu__store_mix((low ^ key) + at * 0x9e3779b97f4a7c15u) >> 44 << 44);
}

uint64_t lu__store_check_of(const struct lu_store *store, uint64_t value) {
    return lu__store_mix(value ^ lu__store_header(store)->key);
}

bool lu__store_block(const struct lu_store *store, uint64_t at, struct store_block *out) {
    uint64_t end = lu__store_header(store)->file_bytes - 8;
    if (at % 16 != 8 || at < LU_STORE_FIRST || at > end || end > store->mapped - 8) return false;
    uint64_t word = lu__store_read(store, at);
    out->at = at;
    out->size = word & (LU_STORE_MAX - 1) & ~(uint64_t)FLAGS;
    out->used = (word & USED) != 0;
    out->prev_free = (word & PREV_FREE) != 0;
    if (word != lu__store_encode(store, at, out->size, out->used, out->prev_free)) return false;
    if (at == end) return out->size == 0 && out->used;
    return out->size >= LU_STORE_MIN_BLOCK && out->size <= end - at;
}

bool lu__store_free_block(const struct lu_store *store, uint64_t at, struct store_block *out) {
    return lu__store_block(store, at, out) && !out->used &&
           lu__store_read(store, end_of(at, out->size)) == out->size;
}

static bool holds(const struct store_block *block, uint64_t offset) {
    return offset - block->at < LU_MAX(block->size, (uint64_t)LU_STORE_WORD);
}

bool lu__store_holder(struct lu_store *store, uint64_t offset, struct store_block *out) {
    uint64_t end = lu__store_header(store)->file_bytes - 8;
    if (offset < LU_STORE_FIRST || offset > end || end > store->mapped - 8) return false;
    uint64_t chunk = UINT64_MAX;
    *out = (struct store_block){.at = UINT64_MAX};
    for (uint64_t at = ((offset - 8) & ~(uint64_t)15) + 8; at >= LU_STORE_FIRST; at -= 16) {
        if (at / LU_STORE_GRAIN != chunk) {
            chunk = at / LU_STORE_GRAIN;
            uint64_t hint = store->hints[chunk % LU_STORE_HINTS];
            if (hint != 0 && lu__store_block(store, hint, out) && holds(out, offset)) break;
        }
        uint64_t size = lu__store_read(store, at) & (LU_STORE_MAX - 1);
        if ((size > offset - at || at == end) && lu__store_block(store, at, out) &&
            holds(out, offset)) {
            break;
        }
    }
    if (!holds(out, offset)) return false;
    store->hints[offset / LU_STORE_GRAIN % LU_STORE_HINTS] = out->at;
    return true;
}

static void put_word(struct lu_store *store, uint64_t at, uint64_t size, bool used,
                     bool prev_free) {
    lu__store_put(store, at, lu__store_encode(store, at, size, used, prev_free));
}

/* Write it again with another `prev_free`. */
static void mark(struct lu_store *store, const struct store_block *block, bool prev_free) {
    if (block->prev_free != prev_free) {
        put_word(store, block->at, block->size, block->used, prev_free);
    }
}

unsigned lu__store_class(uint64_t size) {
    uint64_t units = size / 16;
    if (units < 16) return (unsigned)units;
    unsigned log = lu__log2(units);
    return (log - 3) * 16 + (unsigned)(units >> (log - 4) & 15);
}

static bool bad_block(struct lu_store *store, uint64_t at, const char *what) {
    uint64_t end = store->mapped - 8;
    bool inside = at % 8 == 0 && at <= end;
    return lu__store_damage(store, what, at, inside ? lu__store_read(store, at) : LU_STORE_WITHOUT,
                            0);
}

/* The block behind one that is proved. */
static bool following(struct lu_store *store, const struct store_block *block,
                      struct store_block *out) {
    if (lu__store_block(store, block->at + block->size, out)) return true;
    return bad_block(store, block->at + block->size, "word of a block");
}

/* ------------------------------------------------------------------ lists */

static void push(struct lu_store *store, uint64_t at, uint64_t size) {
    lu__store_apply(store);
    unsigned class = lu__store_class(size);
    uint64_t first = lu__store_read(store, head_of(class));
    struct store_block block;
    if (first != 0 && !lu__store_free_block(store, first, &block)) {
        (void)bad_block(store, first, "first block of a list");
        return;
    }
    lu__store_put(store, next_of(at), first);
    lu__store_put(store, prev_of(at), 0);
    if (first != 0) lu__store_put(store, prev_of(first), at);
    lu__store_put(store, head_of(class), at);
    uint64_t bits = lu__store_read(store, bits_of(class)), bit = (uint64_t)1 << class % 64;
    if ((bits & bit) == 0) lu__store_put(store, bits_of(class), bits | bit);
}

/* What is linked to a listed block: `link` is the offset of the word that leads to it. */
struct neighbours {
    uint64_t next, prev, link;
};

/* False, through lu__store_damage, if they are not linked to it in turn. */
static bool links_of(struct lu_store *store, const struct store_block *block,
                     struct neighbours *out) {
    lu__store_apply(store);
    uint64_t next = lu__store_read(store, next_of(block->at));
    uint64_t prev = lu__store_read(store, prev_of(block->at));
    struct store_block other;
    *out = (struct neighbours){next, prev, 0};
    if (next != 0 && (!lu__store_free_block(store, next, &other) ||
                      lu__store_read(store, prev_of(next)) != block->at)) {
        return lu__store_damage(store, "next of a free block", next_of(block->at), next, 0);
    }
    uint64_t link = prev == 0 ? head_of(lu__store_class(block->size)) : next_of(prev);
    if ((prev != 0 && !lu__store_free_block(store, prev, &other)) ||
        lu__store_read(store, link) != block->at) {
        return lu__store_damage(store, "previous of a free block", prev_of(block->at), prev, 0);
    }
    out->link = link;
    return true;
}

static void unlist(struct lu_store *store, const struct store_block *block) {
    struct neighbours list;
    if (!links_of(store, block, &list)) return;
    lu__store_put(store, list.link, list.next);
    if (list.next != 0) lu__store_put(store, prev_of(list.next), list.prev);
    if (list.prev == 0 && list.next == 0) {
        unsigned class = lu__store_class(block->size);
        uint64_t bits = lu__store_read(store, bits_of(class));
        lu__store_put(store, bits_of(class), bits & ~((uint64_t)1 << class % 64));
    }
}

/* A listed block becomes, or is part of, a free block of [at, at + size), which is listed instead:
 * mostly in the same list, where it takes the old one's place. */
static void relist(struct lu_store *store, const struct store_block *block, uint64_t at,
                   uint64_t size) {
    struct neighbours list;
    if (lu__store_class(size) != lu__store_class(block->size)) {
        unlist(store, block);
        push(store, at, size);
    } else if (at != block->at && links_of(store, block, &list)) {
        lu__store_put(store, list.link, at);
        if (list.next != 0) lu__store_put(store, prev_of(list.next), at);
        lu__store_put(store, next_of(at), list.next);
        lu__store_put(store, prev_of(at), list.prev);
    }
}

/* The first class above `class` that has blocks; LU_STORE_CLASSES if there is none. */
static unsigned next_class(const struct lu_store *store, unsigned class) {
    uint64_t above = ~(uint64_t)0 << class % 64 << 1; /* two shifts: one of 64 is undefined */
    for (unsigned word = class / 64; word < LU_STORE_BITMAP; word++) {
        uint64_t bits = lu__store_read(store, LU_STORE_OFFSET(bitmap) + word * 8u) & above;
        if (bits != 0) return LU_MIN(word * 64 + (unsigned)__builtin_ctzl(bits), LU_STORE_CLASSES);
        above = ~(uint64_t)0;
    }
    return LU_STORE_CLASSES;
}

/* The best of the first blocks of the own class. False if none fits. */
static bool find_own(struct lu_store *store, uint64_t size, struct store_block *out) {
    uint64_t at = lu__store_read(store, head_of(lu__store_class(size)));
    out->size = UINT64_MAX;
    for (int i = 0; at != 0 && i < FIRST_FITS; i++) {
        struct store_block block;
        if (!lu__store_free_block(store, at, &block)) return bad_block(store, at, "free block");
        if (block.size >= size && block.size < out->size) *out = block;
        if (block.size == size) break;
        at = lu__store_read(store, next_of(at));
    }
    return out->size != UINT64_MAX;
}

static bool find(struct lu_store *store, uint64_t size, struct store_block *out) {
    if (find_own(store, size, out)) return true;
    unsigned class = next_class(store, lu__store_class(size));
    if (store->error != 0 || class == LU_STORE_CLASSES) return false;
    uint64_t at = lu__store_read(store, head_of(class));
    if (lu__store_free_block(store, at, out) && out->size >= size) return true;
    return bad_block(store, at, "first block of a list");
}

/* ------------------------------------------------------------------ splitting and merging */

/* Note the links and the size of a free block in the journal, because its bytes are written to
 * before the operation ends or is undone. */
static void note_free(struct lu_store *store, const struct store_block *block) {
    lu__store_note(store, next_of(block->at));
    lu__store_note(store, prev_of(block->at));
    lu__store_note(store, end_of(block->at, block->size));
}

/* Write the words of a free block, which is listed already, over [at, at + size), whose neighbours
 * are in use. */
static void put_free(struct lu_store *store, uint64_t at, uint64_t size) {
    put_word(store, at, size, false, false);
    lu__store_put(store, end_of(at, size), size);
}

/* The block behind one that is proved, also by its size at its end if it is free. */
static bool neighbour(struct lu_store *store, const struct store_block *block,
                      struct store_block *out) {
    if (!following(store, block, out)) return false;
    if (out->used || lu__store_read(store, end_of(out->at, out->size)) == out->size) return true;
    return bad_block(store, out->at, "free block");
}

/* The free block in front of one that says that there is one. */
static bool preceding(struct lu_store *store, const struct store_block *block,
                      struct store_block *out) {
    uint64_t size = lu__store_read(store, block->at - 8);
    if (size <= block->at - LU_STORE_FIRST && lu__store_block(store, block->at - size, out) &&
        !out->used && !out->prev_free && out->size == size) {
        return true;
    }
    return lu__store_damage(store, "size of a free block", block->at - 8, size, 0);
}

static void count(struct lu_store *store, int64_t blocks, int64_t bytes) {
    const struct store_header *header = lu__store_header(store);
    if (blocks != 0) {
        lu__store_put(store, LU_STORE_OFFSET(live_blocks), header->live_blocks + (uint64_t)blocks);
    }
    lu__store_put(store, LU_STORE_OFFSET(live_bytes), header->live_bytes + (uint64_t)bytes);
}

/* Split a listed block: its first `size` bytes are in use from now on; the rest, if it is large
 * enough for a block, stays free. The caller writes the word of the first part. */
static void cut_off(struct lu_store *store, struct store_block *block, uint64_t size, bool filled) {
    struct store_block next;
    bool whole = block->size - size < LU_STORE_MIN_BLOCK;
    if (whole && !following(store, block, &next)) return;
    if (filled) note_free(store, block);
    if (whole) {
        size = block->size;
        unlist(store, block);
        mark(store, &next, false);
    } else {
        uint64_t rest = block->size - size;
        relist(store, block, block->at + size, rest);
        put_free(store, block->at + size, rest);
    }
    block->size = size;
    block->used = true;
}

bool lu__store_take(struct lu_store *store, uint64_t size, bool filled, struct store_block *out) {
    lu__store_apply(store);
    if (!find(store, size, out)) {
        if (store->error != 0 || !lu__store_grow(store, size)) return false;
        if (!find(store, size, out)) {
            return lu__store_damage(store, "free lists", LU_STORE_OFFSET(heads), LU_STORE_WITHOUT,
                                    0);
        }
    }
    cut_off(store, out, size, filled);
    put_word(store, out->at, out->size, true, false);
    count(store, 1, (int64_t)out->size);
    if (filled) lu__store_apply(store);
    return store->error == 0;
}

void lu__store_give(struct lu_store *store, const struct store_block *block) {
    struct store_block next, prev;
    uint64_t at = block->at, size = block->size;
    lu__store_apply(store);
    if (!neighbour(store, block, &next)) return;
    if (block->prev_free && !preceding(store, block, &prev)) return;
    if (!next.used) size += next.size;
    if (block->prev_free) {
        at = prev.at;
        size += prev.size;
        if (!next.used) unlist(store, &next);
        relist(store, &prev, at, size);
        lu__store_put(store, block->at, 0);
    } else if (!next.used) {
        relist(store, &next, at, size);
    } else {
        push(store, at, size);
    }
    if (next.used) {
        mark(store, &next, true);
    } else {
        lu__store_put(store, next.at, 0);
    }
    put_free(store, at, size);
    count(store, -1, -(int64_t)block->size);
    if (lu__store_header(store)->root == block->at + 8) lu__store_put_root(store, 0);
}

/* The `rest` bytes of a block behind its first `size` bytes become free. */
static void give_rest(struct lu_store *store, const struct store_block *block, uint64_t size,
                      const struct store_block *next) {
    uint64_t at = block->at + size, rest = block->size - size;
    if (next->used) {
        push(store, at, rest);
        mark(store, next, true);
    } else {
        rest += next->size;
        relist(store, next, at, rest);
        lu__store_put(store, next->at, 0);
    }
    put_free(store, at, rest);
}

bool lu__store_resize(struct lu_store *store, const struct store_block *block, uint64_t size) {
    struct store_block next;
    uint64_t have = block->size;
    lu__store_apply(store);
    if (!neighbour(store, block, &next)) return false;
    if (size <= have) {
        if (have - size < LU_STORE_MIN_BLOCK) return true;
        give_rest(store, block, size, &next);
    } else {
        if (next.used || have + next.size < size) return false;
        cut_off(store, &next, size - have, false);
        lu__store_put(store, next.at, 0);
        size = have + next.size;
    }
    put_word(store, block->at, size, true, block->prev_free);
    count(store, 0, (int64_t)(size - have));
    return store->error == 0;
}

void lu__store_put_root(struct lu_store *store, uint64_t handle) {
    lu__store_apply(store); /* it may be changed twice in an operation */
    lu__store_put(store, LU_STORE_OFFSET(root), handle);
    lu__store_put(store, LU_STORE_OFFSET(root_check), lu__store_check_of(store, handle));
}
