/*
 * ops.h - what differs from heap to heap, and what the layers above want to be told: tables of
 * functions, through which alone this layer calls upwards.
 *
 *     lu__plain_ops      heap/plain.c       lists of free blocks, as small.c keeps them
 *     lu__hard_ops       harden/ops.c       hardened heaps and spans
 *     lu__sampler_ops    sample/sampler.c   which allocation is a sample
 *     lu__setup_ops      engine/setup.c     the first heap, and each new one
 *
 * All are constant and found by the linker. A heap has one of the first two; which, follows from
 * what it has, not from a pointer to functions in memory that a program can write to, which is what
 * attackers look for.
 */
#ifndef LU_OPS_H
#define LU_OPS_H

#include "heap/heap.h"

/* What a pointer into a SMALL span stands for. */
enum lu__block_is { LU_IS_LIVE, LU_IS_WILD, LU_IS_INTERIOR, LU_IS_FREE };
struct lu__block {
    uintptr_t at; /* where the block begins: unless it is wild                    */
    size_t bytes; /* that the program may use, if it is live; else that it can hold */
};

/* Live blocks of a run, for a walk (visit.c). */
#define LU_LOOK_PART 64 /* blocks of a hardened span that are looked at at a time */
struct lu__look {
    uint32_t next;        /* the first block of a hardened span that was not looked at */
    uint32_t size, count; /* of a span with lists: bytes, and blocks carved: live are those
                             whose bit is not set */
    uintptr_t start;
    uint32_t found; /* else these */
    struct {
        void *block;
        size_t bytes;
    } live[LU_LOOK_PART];
    uint8_t free_bits[LU_BITS_MOST / 8];
};

struct lu__heap_ops {
    /* -------- of a heap: by its owner, or who has it locked */

    /* A block; NULL: no memory. *zero: it is known to be zero. */
    void *(*alloc)(struct heap *heap, size_t align, size_t size, bool *zero);
    /* A pass that gives back what is free: begin one, and do so many units of work of it, or a
     * little more; what was done. `all`: also what was free for a short time only. */
    void (*sweep_begin)(struct heap *heap, bool all);
    uint32_t (*sweep_some)(struct heap *heap, uint32_t work);
    /* All of it at once; bytes given to the system. `again`: also look at spans that nothing was
     * freed in since they were swept. */
    size_t (*sweep_all)(struct heap *heap, bool again);
    /* Give back the spans in which nothing is in use. */
    void (*end_empty)(struct heap *heap);
    /* The thread ends; all that others freed was taken in. */
    void (*thread_exit)(struct heap *heap);
    /* Fork's child: the heap lists no span, as if it were new; what it held is its spans' again. */
    void (*make_whole)(struct heap *heap);
    /* lu_heap_destroy: all of its runs are gone. */
    void (*clear)(struct heap *heap);

    /* -------- of a SMALL span */

    enum lu__block_is (*find)(struct span *span, const void *pointer, struct lu__block *block);
    /* Free a block that `find` says is live, for `call`. No lock is held. */
    void (*free)(struct span *span, uintptr_t block, const char *call);
    /* True if the live block is one of `size` bytes as well, and has become one. */
    bool (*resize)(struct span *span, uintptr_t block, size_t size);
    /* Take in a span, the first of heap->taken, that others freed blocks of. */
    void (*take_in)(struct heap *heap, struct span *span);
    /* Fork's child: the span waits to be taken in; it is listed again by its heap. */
    bool (*waits)(const struct span *span);
    void (*make_span_whole)(struct heap *heap, struct span *span);
    /* Note its live blocks, or some; true if there are more. */
    bool (*look)(struct span *span, struct lu__look *look);
    /* Live blocks as far as another thread can tell. */
    uint32_t (*live)(const struct span *span);

    /* -------- of a SMALL or LARGE run whose lu_heap ends: give it back */
    void (*release)(struct span *run);
};
extern const struct lu__heap_ops lu__plain_ops LU_HIDDEN, lu__hard_ops LU_HIDDEN;

LU_INLINE const struct lu__heap_ops *lu__heap_ops(const struct heap *heap) {
    return LU_LIKELY(heap->hard == NULL) ? &lu__plain_ops : &lu__hard_ops;
}
LU_INLINE const struct lu__heap_ops *lu__run_ops(const struct span *run) {
    return LU_LIKELY(!run->hardened) ? &lu__plain_ops : &lu__hard_ops;
}

/* What a sampler is told of the lists that malloc pops, from which it knows how many allocations
 * there were. Only of heaps that have one; by the owner. */
struct lu__sampler_ops {
    /* The span becomes current, with `out` of its blocks not on its list; as well what `renewed`
     * tells. */
    void (*begun)(struct heap *heap, struct span *span, uint32_t out);
    /* It no longer is, and has `listed` left. */
    void (*ended)(struct heap *heap, const struct span *span, uint32_t listed);
    /* `blocks` were put on a list; or taken off, if fewer than 0, and not by malloc. */
    void (*counted)(struct heap *heap, int32_t blocks);
    /* A list is about to be given `blocks` fresh ones: how many it should be, at least 1. */
    uint32_t (*carved)(struct heap *heap, uint32_t blocks);
    /* span->needed, of a current span, was set anew: after as many frees it wants to know. */
    void (*renewed)(struct heap *heap, struct span *span);
};
extern const struct lu__sampler_ops lu__sampler_ops LU_HIDDEN;

/* The calls: out of line, so that a heap without a sampler pays for a test and no more. */
void lu__sampler_tell_begun(struct heap *heap, struct span *span, uint32_t out) LU_COLD;
void lu__sampler_tell_ended(struct heap *heap, const struct span *span, uint32_t listed) LU_COLD;
void lu__sampler_tell_counted(struct heap *heap, int32_t blocks) LU_COLD;
uint32_t lu__sampler_tell_carved(struct heap *heap, uint32_t blocks) LU_COLD;
void lu__sampler_tell_renewed(struct heap *heap, struct span *span) LU_COLD;

LU_INLINE void lu__sampler_begun(struct heap *heap, struct span *span, uint32_t out) {
    if (LU_UNLIKELY(heap->sampler != NULL)) lu__sampler_tell_begun(heap, span, out);
}
LU_INLINE void lu__sampler_ended(struct heap *heap, const struct span *span, uint32_t listed) {
    if (LU_UNLIKELY(heap->sampler != NULL)) lu__sampler_tell_ended(heap, span, listed);
}
LU_INLINE void lu__sampler_counted(struct heap *heap, int32_t blocks) {
    if (LU_UNLIKELY(heap->sampler != NULL)) lu__sampler_tell_counted(heap, blocks);
}
/* Of `bytes`, blocks of `size`, so many. */
LU_INLINE uint32_t lu__sampler_carved(struct heap *heap, uint32_t bytes, uint32_t size) {
    if (LU_LIKELY(heap->sampler == NULL)) return bytes;
    return lu__sampler_tell_carved(heap, bytes / size) * size;
}
LU_INLINE void lu__sampler_renewed(struct heap *heap, struct span *span) {
    if (LU_UNLIKELY(heap->sampler != NULL)) lu__sampler_tell_renewed(heap, span);
}

struct lu__setup_ops {
    /* Once, before the first heap: read the options, and set up what heaps need. */
    void (*first)(void);
    /* A new heap, all of whose fields but its lists' are 0: give it what it has besides. False: no
     * memory. */
    bool (*made)(struct heap *heap, enum heap_kind kind);
    /* A thread enters its heap while lu__long_ways says that it is to come here. */
    void (*entered)(struct heap *heap);
};
extern const struct lu__setup_ops lu__setup_ops LU_HIDDEN;

#endif
