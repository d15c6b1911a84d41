/* blocks.h - blocks that know their size and show damage, for programs of many threads or forks. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "check.h"

struct block {
    size_t size;
    unsigned char bytes[];
};

/* Sizes below 2^bits, one in `rare` below 2^most_bits. */
static inline struct block *make_block_of(uint64_t *state, uint64_t rare, unsigned bits,
                                          unsigned most_bits) {
    size_t size = check_random_size(state, check_random(state) % rare == 0 ? most_bits : bits);
    struct block *block = malloc(sizeof *block + size);
    CHECK(block != NULL);
    block->size = size;
    check_fill(block->bytes, size, size);
    return block;
}

/* Mostly up to 4 KiB, one in 300 up to 2 MiB. */
static inline struct block *make_block(uint64_t *state) {
    return make_block_of(state, 300, 12, 21);
}

static inline void end_block(struct block *block) {
    if (block == NULL) return;
    CHECK_FILLED(block->bytes, block->size, block->size);
    free(block);
}

#endif
