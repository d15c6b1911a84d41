/* user.h - the engine's side of first-class heaps (lu_heap_t of lucid.h). */
#ifndef LU_USER_H
#define LU_USER_H

#include "heap/heap.h"

/* NULL with ENOMEM. align is a power of two. */
void *lu__user_alloc(struct heap *heap, size_t align, size_t size, bool zeroed);
/* In *user the lu_heap that a live block belongs to, or NULL. False if it is no live block, which
 * is reported for `call`. */
bool lu__engine_user_of(const void *block, const char *call, struct heap **user);

/* Free every block of the heap; its structure is empty afterwards. */
void lu__user_clear(struct heap *heap);
/* Call `visit` for every live block until it returns false; true if it never did. */
bool lu__user_walk(struct heap *heap, bool (*visit)(void *block, size_t bytes, void *arg),
                   void *arg);

#endif
