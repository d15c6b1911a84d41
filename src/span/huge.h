/* huge.h - blocks in mappings of their own, and the table that knows them. */
#ifndef LU_HUGE_H
#define LU_HUGE_H

#include "base/base.h"

struct heap;

struct lu__huge {
    char *block;        /* first byte of the block: start of the mapping; NULL: slot never used */
    size_t bytes;       /* of the mapping, all usable; 0: slot given up                         */
    struct heap *owner; /* the lu_heap it belongs to, or NULL                                   */
};

/* A zeroed block of at least `size` bytes; NULL if there is no memory or the limit forbids. */
void *lu__huge_alloc(size_t size, size_t align, struct heap *owner);
/* Copy what is known of the block that holds `address`. UNKNOWN: in a signal handler that
 * interrupted its thread while it changed the table, where none was found. */
enum lu__huge_place { LU_HUGE_NONE, LU_HUGE_FOUND, LU_HUGE_UNKNOWN };
enum lu__huge_place lu__huge_find(const void *address, struct lu__huge *out);
/* Unmap the block; false if `block` is not the start of one. */
bool lu__huge_free(void *block);
/* Resize, moving if needed; NULL (and the block as it was) on failure. */
void *lu__huge_resize(void *block, size_t size);
/* Call `visit` for every block of `owner`; with the table locked. */
void lu__huge_each(const struct heap *owner, void (*visit)(const struct lu__huge *, void *),
                   void *arg);
/* In the child of fork. */
void lu__huge_fork_child(void);

#endif
