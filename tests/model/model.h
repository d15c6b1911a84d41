/*
 * model.h - the shadow of a heap: what every live block must be, kept apart from the heap.
 *
 * A slot remembers a block (tests/support/shadow.h). Slots live in static tables, one per thread,
 * and in a row of cells through which threads hand blocks to each other. A block is in one slot or
 * in none. The heap of a slot is 0 for plain blocks; then come the thread's own, then the shared.
 *
 * The same source is built on the malloc names, for any malloc; on the lu_ names (MODEL_LU), with
 * heaps, scopes and caches on top; and so on a kernel that refuses memory (MODEL_FAULTS).
 */
#ifndef MODEL_H
#define MODEL_H

#include "shadow.h"

#ifdef MODEL_LU
#include "lucid/lucid.h"
#define model_malloc lu_malloc
#define model_calloc lu_calloc
#define model_realloc lu_realloc
#define model_reallocarray lu_reallocarray
#define model_free lu_free
#define model_aligned_alloc lu_aligned_alloc
#define model_memalign lu_memalign
#define model_posix_memalign lu_posix_memalign
#define model_valloc lu_valloc
#define model_pvalloc lu_pvalloc
#define model_trim() ((void)lu_purge())
#else
#include <malloc.h>
#define model_malloc malloc
#define model_calloc calloc
#define model_realloc realloc
#define model_reallocarray reallocarray
#define model_free free
#define model_aligned_alloc aligned_alloc
#define model_memalign memalign
#define model_posix_memalign posix_memalign
#define model_valloc valloc
#define model_pvalloc pvalloc
#define model_trim() ((void)malloc_trim(0))
#endif

enum {
    MODEL_SLOTS = 1500,  /* of one thread                                     */
    MODEL_CELLS = 512,   /* through which blocks go from thread to thread     */
    MODEL_THREADS = 64,  /* at most                                           */
    MODEL_OWN_HEAPS = 2, /* single-threaded heaps of each thread              */
    MODEL_SHARED = 2,    /* heaps that all threads use                        */
};

struct thread {
    struct slot slots[MODEL_SLOTS];
    uint64_t random; /* state of the generator                */
    uint64_t ops;    /* operations to do in this epoch        */
    size_t live;     /* bytes in the slots                    */
    void *own[MODEL_OWN_HEAPS];
};

/* slots.c: a block enters a slot, is checked, changes hands and leaves. */

/* Check the new block's place and usable size, then fill it and note it. */
void model_enter(struct thread *thread, struct slot *slot, void *block, size_t size,
                 size_t alignment, int heap);
/* The pattern must be there; also alignment and usable size. */
void model_verify(const struct slot *slot);
/* The block is gone (freed by the caller, after model_verify). */
void model_leave(struct thread *thread, struct slot *slot);
/* Swap a slot with a random cell; blocks of the thread's own heaps stay. */
void model_hand_over(struct thread *thread, struct slot *slot);
/* Verify and free what is in the cells. */
void model_empty_cells(void);
/* A size: mostly small, some of pages, few of megabytes. */
size_t model_size(struct thread *thread);
/* Random number below `bound`. */
size_t model_below(struct thread *thread, size_t bound);

/* model.c: true if memory is refused at the moment (MODEL_FAULTS), and `block` is NULL with ENOMEM
 * for it. */
bool model_refused(const void *block);

/* ops.c: one random operation; free the block of a slot in one of the ways that fit. */
void model_step(struct thread *thread);
void model_free_slot(struct thread *thread, struct slot *slot);

/* own.c: heaps, scopes and caches of lucid; on another malloc nothing. */
void model_own_init(void);
void model_own_fini(void);
/* The library's figures, while no thread runs. */
void model_own_check(void);
void model_own_thread_init(struct thread *thread);
void model_own_thread_fini(struct thread *thread);
/* One operation; false if there is none of this kind. */
bool model_own_step(struct thread *thread, struct slot *slot);
void model_own_free(struct thread *thread, struct slot *slot);
bool model_own_realloc(struct thread *thread, struct slot *slot, size_t size, void **out);

#endif
