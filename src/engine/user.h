/* user.h - calls for a heap of the program (lu_heap_t of lucid.h). */
#ifndef LU_ENGINE_USER_H
#define LU_ENGINE_USER_H

#include "heap/user.h"

/* NULL with ENOMEM. align is a power of two. */
void *lu__user_alloc(struct heap *heap, size_t align, size_t size, bool zeroed);
/* True if `block` is a live block of the heap; else that is reported for `call`. If it goes on, and
 * `to_free`, then true as well of a live block that is safe to free although it is another's. */
bool lu__user_has(const struct heap *heap, const void *block, const char *call, bool to_free);
/* As lu__engine_resize for a block of this heap, which stays one. */
void *lu__user_resize(struct heap *heap, void *block, size_t size);

#endif
