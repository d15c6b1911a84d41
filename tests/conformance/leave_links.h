/*
 * leave_links.h - memory that free lists have been in, of a size that the caller chooses.
 */
#ifndef LEAVE_LINKS_H
#define LEAVE_LINKS_H

#include "check.h"

enum { BLOCKS = 3001 }; /* a prime: every stride visits all blocks */

/* Fill spans with blocks of the size and free them in an order that makes long lists. */
static void leave_links(size_t size, size_t stride) {
    static void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(size);
        CHECK(blocks[i] != NULL);
    }
    for (size_t i = 0; i < BLOCKS; i++) free(blocks[i * stride % BLOCKS]);
}

#endif
