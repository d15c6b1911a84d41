/* huge.h - blocks in mappings of their own. */
#ifndef LU_HUGE_H
#define LU_HUGE_H

#include "base/base.h"

struct heap;

struct lu__huge {
    char *block;        /* first byte of the block                        */
    size_t bytes;       /* usable: the request, in whole pages            */
    struct heap *owner; /* the lu_heap it belongs to, or NULL             */
    size_t offset;      /* of the block in its mapping                    */
};

/* From this size the pages of a block are moved rather than copied: below, copying is cheaper than
 * changing page tables. */
#define LU_HUGE_MOVE_LEAST (512 * LU_KIB)
/* Blocks below mmap_threshold that may have a mapping each, because they were moved or became
 * smaller: the system allows a process 65,530 mappings. */
#define LU_HUGE_BELOW_MOST 4096u

/* A zeroed block of at least `size` bytes; NULL if there is no memory or the limit forbids. */
void *lu__huge_alloc(size_t size, size_t align, struct heap *owner);
/* Make a block of `size` bytes, for `owner`, from the pages of a run: all `had` bytes at `from`,
 * which are no more than it needs; the block begins `offset` bytes behind their start. The pages
 * are moved, and their old place reads as zero; the caller must pass the run to lu__run_free_clean,
 * with the lesser of `had` and the usable bytes. NULL: everything is as it was. */
void *lu__huge_adopt(void *from, size_t had, size_t offset, size_t size,
                     struct heap *owner) LU_MUST_CHECK;
/* Copy the node of the block that holds `address`. UNKNOWN: no block was found, but the caller is a
 * signal handler that interrupted its thread while it changed the table. */
enum lu__huge_place { LU_HUGE_NONE, LU_HUGE_FOUND, LU_HUGE_UNKNOWN };
enum lu__huge_place lu__huge_find(const void *address, struct lu__huge *out);
/* Unmap the block; false if `block` is not the start of one. */
bool lu__huge_free(void *block);
/* Resize, moving if needed. NULL, and the block as it was: no memory, or there would be one block
 * too many below mmap_threshold. */
void *lu__huge_resize(void *block, size_t size);
/* The first block of `owner` at or above *from, which then becomes the end of that block; false:
 * there is none. No lock is held when it returns, and in between for no longer than it takes to
 * look at 64. */
bool lu__huge_next(const struct heap *owner, uintptr_t *from, struct lu__huge *out);
/* In the child of fork. */
void lu__huge_fork_child(void);
/* The library is unloaded: give the memory of the table back. Blocks stay where they are. */
void lu__huge_unload(void);

#endif
