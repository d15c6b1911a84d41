/* zero.h - blocks of no bytes. See zero.c. */
#ifndef LU_ZERO_H
#define LU_ZERO_H

#include "base/base.h"

/* A block for malloc(0), unlike every other live one; NULL if there can be none, if none was found
 * where this call looked, or if guard_zero is 0. Any thread, not in a signal handler that
 * interrupted it. */
void *lu__zero_alloc(void);
/* What `pointer` is there. */
enum lu__zero_place { LU_ZERO_NOT, LU_ZERO_LIVE, LU_ZERO_FREE, LU_ZERO_INTERIOR };
enum lu__zero_place lu__zero_find(const void *pointer);
/* Free a live one; false if it was freed meanwhile. */
bool lu__zero_free(const void *block);
/* The state, for zero.c and its tests. */
#define LU_ZERO_WORDS ((size_t)1 << 10) /* of the first part; each other has twice as many */
#define LU_ZERO_PARTS 10u
struct lu__zero_part {
    uintptr_t names; /* the first; atomic, 0: not there yet  */
    uint64_t *bits;  /* set before names                     */
};
struct lu__zero {
    struct lu__zero_part part[LU_ZERO_PARTS];
    unsigned parts; /* that are there; under the lock       */
    size_t next;    /* word to look at first; under the lock */
    size_t live;    /* names; atomic                        */
    uint32_t calls; /* while there are no names; under the lock */
};
extern struct lu__zero lu__zero LU_HIDDEN;
LU_INLINE size_t lu__zero_words(unsigned part) {
    return LU_ZERO_WORDS << part;
}
/* How many words come before those of `part`. */
LU_INLINE size_t lu__zero_before(unsigned part) {
    return lu__zero_words(part) - LU_ZERO_WORDS;
}
/* A word by its number. */
LU_INLINE unsigned lu__zero_part_of(size_t word) {
    return lu__log2(word / LU_ZERO_WORDS + 1);
}
LU_INLINE uint64_t *lu__zero_word(size_t word) {
    unsigned part = lu__zero_part_of(word);
    return &lu__zero.part[part].bits[word - lu__zero_before(part)];
}
/* In the child of fork. */
void lu__zero_fork_child(void);
/* The library is unloaded. */
void lu__zero_unload(void);

#endif
