/* blocks.h - blocks that know their size and show damage, for the programs that fork under load. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "check.h"

struct block {
    size_t size;
    unsigned char bytes[];
};

/* Mostly up to 4 KiB, one in 300 up to 2 MiB. */
static struct block *make_block(uint64_t *state) {
    size_t size = check_random_size(state, check_random(state) % 300 == 0 ? 21 : 12);
    struct block *block = malloc(sizeof *block + size);
    CHECK(block != NULL);
    block->size = size;
    check_fill(block->bytes, size, size);
    return block;
}

static void end_block(struct block *block) {
    if (block == NULL) return;
    CHECK_FILLED(block->bytes, block->size, block->size);
    free(block);
}

#endif
