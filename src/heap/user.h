/* user.h - the engine's side of first-class heaps (lu_heap_t of lucid.h). */
#ifndef LU_USER_H
#define LU_USER_H

#include "heap/heap.h"

/* NULL with ENOMEM. align is a power of two. */
void *lu__user_alloc(struct heap *heap, size_t align, size_t size, bool zeroed);
/* True if `block` is a live block of the heap; else that is reported for `call`. If it goes on, and
 * `to_free`, then true as well of a live block that is safe to free although it is another's. */
bool lu__user_has(const struct heap *heap, const void *block, const char *call, bool to_free);
/* As lu__engine_resize for a block of this heap, which stays one. */
void *lu__user_resize(struct heap *heap, void *block, size_t size);

/* Free every block of the heap; its structure is empty afterwards. Inside, and locked. */
void lu__user_clear(struct heap *heap);
/* Call `visit` for every live block until it returns false; true if it never did. False as well,
 * with ENOMEM, if there is no memory to note the heap's runs, or if the heap ends. The heap is
 * locked for moments, and no lock is held over a visit: it may use the library, and the heap. */
bool lu__user_walk(struct heap *heap, bool (*visit)(void *block, size_t bytes, void *arg),
                   void *arg);
/* In a copy of the process: heaps that threads which are not here were changing are made whole. */
void lu__user_fork_child(void);

#endif
