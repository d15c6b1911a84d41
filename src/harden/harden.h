/*
 * harden.h - LUCID_OPTIONS=harden: the checks that cost more than the ones that are always on.
 *
 * Hardened, no thread has the fast paths of engine/fast.h: lu__heap stays the empty one, so what is
 * unhardened executes the same instructions whether this exists or not. Nearly every call of a
 * hardened thread then takes a short way of its own (engine/hardened_fast.c); the others take the
 * slow paths of the engine, which hand small and large blocks over to here.
 *
 * Off unless an option says otherwise; set once, before the first heap.
 */
#ifndef LU_HARDEN_H
#define LU_HARDEN_H

#include "heap/ops.h"

struct lu__harden {
    bool on;
    bool short_ways; /* all is on that engine/hardened_fast.c takes for granted                   */
    bool rings;      /* the quarantine is longer than what fits the fifos                         */
    uint8_t level;   /* of the option, which single keys may have changed */
    bool random_order;
    bool zero_on_free;
    bool guard_slices;
    bool guard_large;
    bool array_pairs;    /* delete[] must meet new[]                                             */
    bool page_blocks;    /* blocks from half a page are guarded like large ones                  */
    uint8_t check_freed; /* 1: a block before it is handed out, 2: free neighbours of a freed one */
    uint8_t canary;      /* 1: a word at the block's end, 2: from the request's end              */
    size_t quarantine;   /* bytes of small blocks that a heap holds back: of each class, or with
                             `rings` of all                                                  */
};
extern struct lu__harden lu__harden LU_HIDDEN;
extern uint64_t lu__hard_secret LU_HIDDEN; /* of canaries */

/* Read the options; once. */
void lu__harden_init(void);

/* ---------------------------------------------------------------- blocks.c */

/* What a heap has besides, in memory of its own; NULL: no memory. */
struct hard *lu__hard_make(void);
/* A block from a hardened heap, entered or locked; NULL: no memory. */
void *lu__hard_alloc(struct heap *heap, size_t align, size_t size, bool *zero);
/* Free a block that lu__hard_find said is live. Called outside (os/lock.h): misuse is reported, and
 * the handler is the program's. */
void lu__hard_free(struct span *span, uintptr_t block, const char *call);
/* What `pointer` is, into the hardened SMALL span; *block: where its block begins, unless it is
 * wild. */
enum lu__block_is lu__hard_find(const struct span *span, const void *pointer, uintptr_t *block);
/* Bytes that a block of the span can hold, for reports. */
size_t lu__hard_block_bytes(const struct span *span);
/* Bytes of a live block that the program may use. */
size_t lu__hard_usable(const struct span *span, uintptr_t block);
/* Make the live block `size` bytes where it is; false if that cannot be. */
bool lu__hard_resize(struct span *span, uintptr_t block, size_t size);
/* True if a request for `size` at `align` could have given this block of `usable` bytes. */
bool lu__hard_size_matches(const struct span *span, size_t usable, size_t align, size_t size);
/* A block was made by new[], will be freed by delete[]: which is a violation if it was not. Others
 * than small hardened blocks are not looked at. */
void lu__hard_array_made(void *block);
void lu__hard_array_ends(const void *block);
/* The thread ends: what its heap holds of other heaps goes back, then it goes into the pool. */
void lu__hard_thread_exit(struct heap *heap);
/* Blocks of the span that are live, and those that are free and held back by a heap, for some time
 * or to be handed out; live_bytes: what the program may use of the former. Other threads may change
 * them meanwhile. */
struct lu__hard_counts {
    uint32_t live, kept;
    size_t live_bytes;
};
struct lu__hard_counts lu__hard_count(const struct span *span);

/* ---------------------------------------------------------------- spans.c */

/* Take in a span of which blocks came back. */
void lu__hard_take_in(struct heap *heap, struct span *span);
/* Give wholly free spans back, and large blocks that have been free for long, or all: begin, and go
 * on for so many units of work (sweep.c), while heap->sweep_at is not NULL. Units used. */
void lu__hard_sweep_begin(struct heap *heap, bool all);
uint32_t lu__hard_sweep_some(struct heap *heap, uint32_t units);
/* All of that at once. */
void lu__hard_sweep(struct heap *heap);
/* Give a hardened run of a lu_heap that ends back, now or, if the kernel does not open its guard
 * again, later. */
void lu__hard_release(struct span *span);
/* The heap's blocks are all gone: for lu_heap_destroy, after lu__hard_release of each run. */
void lu__hard_reset(struct heap *heap);

/* For the child of fork (heap/fork.c). First the hardened lu_heap gives the free blocks that it
 * holds back to its spans, and lists no span; then each span is made whole, and listed again. */
void lu__hard_make_whole(struct heap *heap);
void lu__hard_make_span_whole(struct heap *heap, struct span *span);

/* ---------------------------------------------------------------- large.c */

void *lu__hard_large_alloc(struct heap *user, size_t align, size_t size, bool *zero);
/* True while few enough large blocks are guarded: each takes up to three mappings. */
bool lu__hard_may_guard(void);
/* Report what was written behind the block, before it is freed. Called outside. */
void lu__hard_large_check(const struct span *span);
void lu__hard_large_free(struct span *span);
/* End the quarantine of all large blocks, and empty the stock: their runs become free. */
void lu__hard_large_flush(void);
/* Give back the runs of the stock that were not used again for long, or all. */
void lu__hard_large_tidy(bool all);
/* Give the run of a heap that ends back, as soon as that can be done. */
void lu__hard_large_release(struct span *span);

/* In the child of fork. */
void lu__hard_span_fork_child(void);
void lu__hard_large_fork_child(void);

#endif
