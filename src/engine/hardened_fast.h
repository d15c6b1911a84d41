/* hardened_fast.h - the short ways of hardened threads; see hardened_fast.c. */
#ifndef LU_HARDENED_FAST_H
#define LU_HARDENED_FAST_H

#include "harden/harden.h"

/* malloc and free, for threads that have a lu__short_heap; they end in lu__alloc_long and
 * lu__free_long where something is out of the ordinary. */
void *lu__hard_malloc(size_t size);
void *lu__hard_calloc(size_t size);
void lu__hard_free_quick(void *block);
/* A block that its caller says is of `size`, with no alignment above 16, and of new[] if it is an
 * `array`. False: nothing was done, take the long way. */
bool lu__hard_free_sized(void *block, size_t size, bool array);
/* new[] and delete[], where they are told from new and delete; for the same threads. */
void *lu__hard_new_array(size_t size);
void lu__hard_delete_array(void *block);
/* realloc to a size that is not 0. NULL: nothing was done, take the long way. */
void *lu__hard_realloc(void *block, size_t size);

#endif
