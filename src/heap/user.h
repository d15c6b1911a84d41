/* user.h - what the heaps of programs (lu_heap_t of lucid.h) have besides. */
#ifndef LU_USER_H
#define LU_USER_H

#include "heap/heap.h"

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
