/*
 * heap.h - the structures of a heap, and what its files share.
 *
 * A heap owns SMALL spans and has, for every size class, a list of free blocks that malloc pops:
 *
 *     heap->list[c]    -> block -> block -> ... LU_LIST_END       all of one span:
 *     heap->current[c] -> span whose blocks those are             span->list == &heap->list[c]
 *     heap->partial[c] -> span <-> span <-> ...                   spans with something to give
 *
 * A free block's first word is its link, encoded as  key ^ (next ^ block)  with the key of its span
 * (link.c). All blocks of a list lie in one aligned window of 512 KiB, so the decoded difference of
 * two is a multiple of 8 below 2^19; anything else means that the free block was written to, or
 * that it is the last one, whose next is LU_LIST_END: a word outside all slices in use that is
 * always 0, and no link either. That makes one test in malloc enough for an empty list, the last
 * block and a damaged link. (In a region of a few slices the end may lie in the window of blocks.
 * Then malloc takes the last block like any other, and the next call finds the list empty.) A block
 * handed out has its first word cleared, so a block being freed whose word decodes as a link was
 * almost surely freed before (see lu__link_is_free).
 *
 * Thread heaps are used by one thread at a time, without a lock. A lu_heap is the same structure
 * with a lock. Blocks freed by others come back through `pending` (remote.c).
 */
#ifndef LU_HEAP_H
#define LU_HEAP_H

#include "base/base.h"
#include "os/lock.h"
#include "span/span.h"

extern uintptr_t lu__list_end_at LU_HIDDEN;
#define LU_LIST_END (lu__list_end_at)
extern const uintptr_t lu__list_end LU_HIDDEN; /* where the lists of LU_EMPTY_HEAP end */

#define LU_NO_KEY ((uintptr_t)1 << 63) /* of an empty list: the end is no link */

#define LU_RING 16 /* spans for which a thread collects remote frees at a time */

/* Remote frees of one span that were not posted yet; its size is a power of two. */
struct remote_batch {
    struct span *span; /* NULL: unused                     */
    uintptr_t first, last;
    uint32_t room;     /* blocks until it is posted; never 0    */
    uint32_t capacity; /* room of an empty one                  */
};

enum heap_kind {
    LU_HEAP_UNMADE, /* a structure that is being made: fork's child leaves it alone */
    LU_HEAP_OF_THREAD,
    LU_HEAP_OF_USER
};
/* A pass that gives back what is free at the first visit, not when it was found idle: none, to
 * begin with the next tick, running. */
enum heap_urgent { LU_URGENT_NO, LU_URGENT_ASKED, LU_URGENT_NOW };
enum heap_state { LU_HEAP_ACTIVE, LU_HEAP_POOLED, LU_HEAP_ORPHAN };

struct heap {
    /* The fast path: read and written by the owner alone. */
    uintptr_t list[LU_CLASSES + 1];     /* at offset 0: one instruction less in malloc. The last,
                                       that of malloc(0), is always empty           */
    uintptr_t keys[LU_CLASSES + 1];     /* of each list's links: that of its span. The top bit is
                                       always set, so that the end is no link       */
    uintptr_t table;                    /* of the first region; size 0 sends all frees slow       */
    uintptr_t base_away;                /* -base: adding it to a pointer saves a register         */
    size_t size;                        /* mapped part of the first region, when last looked at   */
    uint8_t class_of[LU_SMALL_MAX + 1]; /* by size: an own copy, as it is reached from the heap
                                           without the address of a table                  */
    uint8_t last_taken[LU_CLASSES];     /* the list's last block was taken since the last refill  */

    /* Slow paths of the owner. */
    struct span *current[LU_CLASSES];
    struct span *partial[LU_CLASSES]; /* first of a doubly linked list        */
    struct span *partial_last[LU_CLASSES];
    uint32_t partial_count[LU_CLASSES];
    uint32_t span_count[LU_CLASSES];
    uint64_t created_ms[LU_CLASSES]; /* when the class last got a span, as ticked_ms */
    struct remote_batch ring[LU_RING];
    uint64_t ticked_ms;    /* when the clock was read last                        */
    uint64_t pass_ms;      /* when the running or last sweep began                */
    uint32_t tick_left;    /* slow paths until it is read again                   */
    uint32_t posts;        /* full batches of remote frees, of all spans          */
    uint32_t cadence;      /* frees of a current span between looks at the clock */
    uint32_t skipped;      /* looks at the clock left out                         */
    uint32_t sweep_class;  /* where it stands; LU_CLASSES: done                   */
    uint32_t sweep_left;   /* partial spans of that class still to visit          */
    uint32_t pace;         /* units of work for each millisecond                  */
    uint32_t allowed;      /* and what the time passed allows                     */
    uint32_t ticks;        /* since the clock has moved                           */
    uint32_t ticks_before; /* between its last two moves                         */
    uint32_t purge_seen;   /* lu__purge_request when it was last obeyed           */
    uint8_t urgent;        /* enum heap_urgent                                    */
    uint8_t pass_changed;  /* the last whole pass found spans that changed        */
    uint8_t changing;      /* the running one has                                 */
    uint8_t owing;         /* more work was to be done than the last tick did     */
    uint8_t busy;          /* the owner is in a slow path (also read after fork)  */
    uint8_t kind;          /* enum heap_kind */
    uint8_t shared;        /* LU_HEAP_OF_USER: take the lock                      */
    uint8_t alone;         /* the same: there is no need. 0 as well when it ended */
    uint8_t state;         /* enum heap_state; under the pool lock                */
    uint8_t has_huge;      /* LU_HEAP_OF_USER, under the lock: it had a huge block */
    uint8_t torn;          /* the same: it is being made whole after fork, see fork.c */
    uint8_t walking;       /* the same: walk_at is in use */
    uint8_t short_ways;    /* lu__short_heap may be this one */
    uint32_t run_count;    /* LU_HEAP_OF_USER, under the lock: in `all` */

    /* LU_HEAP_OF_USER only, under the lock. */
    struct lu__lock lock;
    struct lu__lock single; /* without `shared`: who is in it, noted */
    struct span *all;       /* every SMALL and LARGE run of this heap; also of a hardened one */

    struct heap *fast;       /* what the fast paths are to use: this heap, or the empty one */
    struct sampler *sampler; /* of allocations, or NULL; see ops.h */
    struct span *taken;      /* what was pending and is not taken in yet: see remote.c */
    struct span *sweep_at;   /* hardened: where in `all` the running pass stands, or NULL */
    struct span *walk_at;    /* LU_HEAP_OF_USER: and where one that notes its runs, or NULL  */
    struct span *posting;    /* what the thread is about to push, or has just pushed, on another's
                                pending stack: for the child of fork. See remote.c      */

    struct hard *hard; /* what it has instead when it is hardened, else NULL; see ops.h */

    struct heap *next_pooled, *prev_pooled;

    /* Written by other threads: a line of its own. */
    struct span *pending __attribute__((aligned(64))); /* atomic; spans with posted frees */
};

/* What every thread starts with and ends with: no lists, no region, so all calls go slow. */
extern const uintptr_t lu__empty_front[];
#define LU_EMPTY_HEAP ((struct heap *)lu__empty_front)
/* The heap that malloc and free use; never NULL. */
extern __thread struct heap *lu__heap
    __attribute__((tls_model("initial-exec"), visibility("hidden")));
extern bool lu__perturbing; /* freed and fresh memory is filled; see engine/engine.h */
/* No thread has fast paths, and who enters a heap goes by lu__setup_ops.entered; set before the
 * first heap, and once more when the library is loaded. */
extern bool lu__long_ways;
typedef uint16_t lu__quarter __attribute__((may_alias)); /* of a word of any type */

/* Fields of a span that its owner writes and others read, at any time but without consequence if
 * the value is old: a plain load, which can be an operand, but for the thread sanitizer. */
#if LU_TSAN
#define LU_RELAXED(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)
#else
#define LU_RELAXED(field) (field)
#endif

/* ---------------------------------------------------------------- links */

LU_INLINE uintptr_t lu__link_delta(uintptr_t key, uintptr_t block) {
    return *(const uintptr_t *)block ^ key;
}
LU_INLINE bool lu__delta_is_link(uintptr_t delta) {
    return (delta & ~(((uintptr_t)1 << LU_WINDOW_SHIFT) - 8)) == 0;
}
/* Addresses end below bit 48, so links and the key agree in the bits above, and a random word does
 * with probability 2^-16: the quick test that makes free look closer. The key is chosen so that
 * small numbers, pointers, text in ASCII and common floating point numbers never agree. */
LU_INLINE bool lu__looks_linked(const struct span *span, uintptr_t block) {
    return ((const lu__quarter *)block)[3] == ((const lu__quarter *)&span->key)[3];
}
/* Put `block` in front of the list whose first is *list. */
LU_INLINE void lu__list_push(uintptr_t key, uintptr_t *list, uintptr_t block) {
    *(uintptr_t *)block = (*list ^ block) ^ key;
    __atomic_signal_fence(__ATOMIC_RELEASE); /* a forked child may see what was done so far */
    *list = block;
}
/* The block behind `block` or LU_LIST_END; 0 if the word is no link. */
LU_INLINE uintptr_t lu__link_next(uintptr_t key, uintptr_t block) {
    uintptr_t delta = lu__link_delta(key, block), next = block ^ delta;
    return lu__delta_is_link(delta) || next == LU_LIST_END ? next : 0;
}
/* Once, before the first heap: make the secret that keys come from, and decide where lists end. */
void lu__link_init(void);
/* The key of the next life of `span`. */
uintptr_t lu__link_new_key(const struct span *span);
/* The same for a block on a list: a damaged link is reported, and ends the list. */
uintptr_t lu__list_broken(uintptr_t key, uintptr_t block);
LU_INLINE uintptr_t lu__list_step(uintptr_t key, uintptr_t block) {
    uintptr_t next = lu__link_next(key, block);
    return LU_LIKELY(next != 0) ? next : lu__list_broken(key, block);
}
/* True if `block` of `span`, whose first word decodes as a link, is indeed free: a live block may
 * hold such a word, as a program can copy bytes that it never wrote. So every list that the block
 * can be on is searched: the span's, the posted chain, and what threads have collected. Any thread;
 * lists that change meanwhile are followed with care, and at worst a double free is not seen. */
bool lu__link_is_free(struct span *span, uintptr_t block);
extern uint64_t lu__link_steps LU_HIDDEN; /* atomic: blocks and heaps that it has looked at */

/* ---------------------------------------------------------------- small.c: spans and blocks */

LU_INLINE uint32_t lu__span_capacity_bytes(const struct span *span) {
    uint32_t size = lu__class_size[span->class_id];
    return (span->slices << LU_SLICE_SHIFT) / size * size;
}
LU_INLINE uint32_t lu__span_carved(const struct span *span) {
    return span->limit / lu__class_size[span->class_id];
}
/* Units of the (one-slice) span that the block at `offset` touches, as bits. */
LU_INLINE uint32_t lu__block_units(uint32_t offset, uint32_t size) {
    uint32_t first = offset >> LU_UNIT_SHIFT, last = (offset + size - 1) >> LU_UNIT_SHIFT;
    return (uint32_t)((2ull << last) - (1ull << first));
}

/* What span->bound is to be; see span/class.c. */
LU_INLINE uint32_t lu__span_bound_now(const struct span *span) {
    uint32_t error = span->inverse * lu__class_size[span->class_id]; /* beyond 2^32 */
    return span->purged ? 0 : LU_MIN(lu__span_carved(span) * error, span->inverse);
}
#define LU_BITS_MOST (LU_SLICE / 8) /* blocks in a span at most */

/* Up to where links have touched the pages, from the start of the slice. */
LU_INLINE uint32_t lu__span_touched(const struct span *span) {
    return (uint32_t)span->touched * 8;
}

/* A block of class `c`, first word cleared. *zero: the whole block is known to be zero. */
void *lu__small_alloc(struct heap *heap, unsigned c, bool *zero);
/* The last block of the heap's list, first word cleared, without a refill; 0 if there is none, its
 * link is damaged, or that was done already since the last refill. May be interrupted as malloc. */
uintptr_t lu__small_last(struct heap *heap, unsigned c);
/* Free a checked block of the heap's own span. */
void lu__small_free(struct heap *heap, struct span *span, uintptr_t block);
/* span->needed has come down to 0. */
void lu__small_needed(struct heap *heap, struct span *span);
/* The same for the calling thread's heap, which it has not entered. */
void lu__free_needed(struct heap *heap, struct span *span) __attribute__((cold));
/* `count` blocks, linked from first to last, come back to a span of this heap at once. */
void lu__small_return(struct heap *heap, struct span *span, uintptr_t first, uintptr_t last,
                      uint32_t count);
/* Make the current span of class `c` an ordinary one, with its free blocks on its own list. */
void lu__small_demote(struct heap *heap, unsigned c);
/* True if no block of the current span of class `c`, which is there, is out. Looks at no more than
 * *steps blocks, and subtracts what it did. */
bool lu__small_is_idle(const struct heap *heap, unsigned c, uint32_t *steps);
void lu__partial_remove(struct heap *heap, struct span *span);
void lu__partial_append(struct heap *heap, struct span *span);
/* Give the empty span back. */
void lu__span_release(struct heap *heap, struct span *span);
/* Put a run on the heap's list of all its runs, or take it off: of lu_heaps, and of hardened heaps.
 * What is taken off has its owner cleared first: it is about to be another heap's, and whoever has
 * the lock of the heap, and fork's child, go by the owner. */
void lu__heap_link(struct heap *heap, struct span *span);
void lu__heap_unlink(struct heap *heap, struct span *span);

/* ---------------------------------------------------------------- remote.c */

/* Free a checked block of another thread's heap. heap: the caller's or NULL; what is only borrowed
 * does not collect, as nobody would post for it. */
void lu__remote_free(struct heap *heap, struct span *span, uintptr_t block);
/* Start a batch with `block`, posting what the slot held; post a full one. */
void lu__remote_begin(struct heap *heap, struct remote_batch *batch, struct span *span,
                      uintptr_t block);
void lu__remote_post(struct heap *heap, struct remote_batch *batch);
/* The heap's slot for the span: &heap->ring[descriptor number % LU_RING], with one shift less. */
LU_INLINE struct remote_batch *lu__remote_slot(struct heap *heap, const struct span *span) {
    size_t offset = (uintptr_t)span / ((1u << LU_DESC_SHIFT) / sizeof heap->ring[0]) &
                    (LU_RING - 1) * sizeof heap->ring[0];
    return (struct remote_batch *)(void *)((char *)heap->ring + offset);
}
/* The fast path: put the block in the heap's batch for its span. */
LU_INLINE void lu__remote_collect(struct heap *heap, struct span *span, uintptr_t block) {
    struct remote_batch *batch = lu__remote_slot(heap, span);
    if (LU_UNLIKELY(batch->span != span)) {
        lu__remote_begin(heap, batch, span, block);
        return;
    }
    __atomic_store_n((uintptr_t *)block, (batch->first ^ block) ^ span->key, __ATOMIC_RELAXED);
    batch->first = block;
    if (LU_UNLIKELY(--batch->room == 0)) lu__remote_post(heap, batch);
}
/* Post what the heap has collected. */
void lu__remote_flush(struct heap *heap);
/* Note that the calling thread, whose heap it is, pushes `span` on its owner's pending stack, if it
 * turns out that nobody else has to. Returns what was noted before, by what a signal handler that
 * does this has interrupted, for lu__remote_pushed. */
LU_INLINE struct span *lu__remote_pushes(struct heap *heap, struct span *span) {
    struct span *before = __atomic_load_n(&heap->posting, __ATOMIC_RELAXED);
    __atomic_store_n(&heap->posting, span, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return before;
}
LU_INLINE void lu__remote_pushed(struct heap *heap, struct span *before) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&heap->posting, before, __ATOMIC_RELAXED);
}
/* Push the span on its owner's pending stack. */
void lu__remote_push(struct span *span);
/* True if others have posted to this heap what is not taken in yet. */
LU_INLINE bool lu__remote_waits(const struct heap *heap) {
    return heap->taken != NULL || __atomic_load_n(&heap->pending, __ATOMIC_RELAXED) != NULL;
}
/* Take in what was posted: of some spans, or of all that are there now. */
void lu__remote_drain(struct heap *heap);
void lu__remote_drain_all(struct heap *heap);
/* Take in what was posted to `span`, the first of heap->taken: for lu__plain_ops. */
void lu__remote_take_span(struct heap *heap, struct span *span);
/* Take in some of it, if there is any; true if there was. */
LU_INLINE bool lu__remote_take_in(struct heap *heap) {
    if (LU_LIKELY(!lu__remote_waits(heap))) return false;
    lu__remote_drain(heap);
    return true;
}
/* In the child of fork: push what `heap`'s thread, which is not there, would have pushed. */
void lu__remote_fork_child(struct heap *heap);
/* First block posted to the span and not taken in yet, or 0; any thread. */
uintptr_t lu__remote_first(const struct span *span);
/* How many there are. */
uint32_t lu__remote_count(const struct span *span);

/* ---------------------------------------------------------------- large.c */

void *lu__large_alloc(struct heap *user, size_t align, size_t size, bool *zero);
/* `span` is LARGE and `block` its start. */
void lu__large_free(struct span *span);
/* Who frees a LARGE run takes it first: of two threads that free it at once, one finds it taken. It
 * stays so, as hardened ones do in the quarantine, until the run is another's. */
LU_INLINE LU_MUST_CHECK bool lu__large_take(struct span *span) {
    return __atomic_exchange_n(&span->taken, 1, __ATOMIC_ACQ_REL) == 0 &&
           LU_LIKELY(__atomic_load_n(&span->kind, __ATOMIC_RELAXED) == LU_KIND_LARGE);
}
LU_INLINE bool lu__large_is_taken(const struct span *span) {
    return __atomic_load_n(&span->taken, __ATOMIC_RELAXED) != 0;
}
/* A block that is a mapping, whatever its size. */
void *lu__large_huge(struct heap *user, size_t align, size_t size);
/* Resize the block of the run, which keeps its contents, to `size` bytes without copying. NULL: it
 * stays as it was; a new block may still be possible. */
void *lu__large_resize(struct span *span, size_t size);
/* The same for the start of a huge block. small_stay: also if it becomes smaller than mappings of
 * their own are, as long as its pages are worth to be moved. */
void *lu__large_resize_huge(void *block, size_t size, bool small_stay);
LU_INLINE size_t lu__large_bytes(const struct span *span) {
    return __atomic_load_n(&span->large_bytes, __ATOMIC_RELAXED);
}
/* Where the block begins, from the start of its run; see large.c and harden/large.c. */
LU_INLINE size_t lu__large_offset(const struct span *span) {
    return __atomic_load_n(&span->offset, __ATOMIC_RELAXED);
}

/* ---------------------------------------------------------------- sweep.c */

/* Called in slow paths: now and then, purges what has been free for long. */
void lu__tick_slow(struct heap *heap);
LU_INLINE void lu__tick(struct heap *heap) {
    if (LU_UNLIKELY(--heap->tick_left == 0)) lu__tick_slow(heap);
}
/* True for most of the looks at the clock while there is nothing to give back. */
bool lu__may_skip_tick(struct heap *heap);
/* Local frees of a current span until its owner looks at the clock. */
uint32_t lu__cadence(const struct heap *heap);
/* A pooled heap may have something to do. */
void lu__sweep_wake_pool(void);
/* In the child of fork. */
void lu__sweep_fork_child(void);
/* Raised by lu_purge: every heap sweeps itself at its next tick. */
extern uint32_t lu__purge_request;

/* ---------------------------------------------------------------- thread.c */

/* Enter a slow path: the thread is marked as inside (os/lock.h), and its heap as busy. The heap, or
 * NULL, with nothing done, if there can be none: no memory, or a signal handler interrupted this
 * thread in a slow path. */
struct heap *lu__thread_enter(void);
/* For what takes locks also without a heap: false only in such a handler. *heap is NULL if there is
 * no memory for one; the thread is marked all the same. */
bool lu__thread_enter_any(struct heap **heap) LU_MUST_CHECK;
/* `heap` is what it was entered with. */
void lu__thread_leave(struct heap *heap);
/* Only the mark, for what does not touch the thread's heap; lu__inside_leave ends it. False in such
 * a handler. */
bool lu__thread_mark(void) LU_MUST_CHECK;
/* lu__perturbing or lu__long_ways has changed: for this thread now, for others at their next slow
 * path. */
void lu__thread_see_ways(void);
/* True if the heap is the calling thread's, for good or borrowed. */
bool lu__thread_has(const struct heap *heap);
/* True in a signal handler that interrupted this thread in a slow path. */
bool lu__thread_interrupted(void);
/* The thread's own, or NULL; also while lu__heap is the empty one. */
extern __thread struct heap *lu__own_heap
    __attribute__((tls_model("initial-exec"), visibility("hidden")));
/* Heap of the calling thread or NULL, without making one. */
LU_INLINE struct heap *lu__thread_heap(void) {
    return lu__own_heap;
}
/* The same if it has no lists, but short ways of another kind, which may be used now; else NULL.
 * See engine/hardened_fast.c. */
extern __thread struct heap *lu__short_heap
    __attribute__((tls_model("initial-exec"), visibility("hidden")));
/* The compiler may not move accesses of the slow path across the mark. */
LU_INLINE void lu__heap_set_busy(struct heap *heap, uint8_t busy) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&heap->busy, busy, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}
/* Once, before the first heap. */
void lu__thread_init(void);
/* What the end of a thread that has a heap calls first, or NULL. Atomic; set once (LU_SET). */
extern void (*lu__thread_ending)(void) LU_HIDDEN;
/* The library is unloaded: threads that end from now on do without us. Returns when those that are
 * at it have done. */
void lu__thread_fini(void);
/* In the child of fork. */
void lu__thread_fork_child(void);
void lu__heap_see_region(struct heap *heap);

/* ---------------------------------------------------------------- pool.c */

/* A heap for this thread, which is inside, from the pool or new; busy. NULL: no memory. */
struct heap *lu__pool_acquire(void);
/* The busy heap of a thread is no longer needed. */
void lu__pool_release(struct heap *heap);
/* Prepare a heap structure from fresh memory. NULL: no memory. */
struct heap *lu__heap_make(enum heap_kind kind);
/* Give the structure of an ended lu_heap back for the next; inside. */
void lu__heap_recycle(struct heap *heap);
/* The lock goes by who has it: `shared` may be another heap's if this one has ended meanwhile. */
LU_INLINE void lu__user_unlock(struct heap *heap) {
    if (heap->shared || LU_UNLIKELY(lu__lock_is_mine(&heap->lock))) {
        lu__lock_release(&heap->lock);
    } else {
        lu__lock_unnote(&heap->single);
    }
}
/* The same for a shared one, for a moment: the thread becomes inside as well, until it calls
 * lu__user_leave. False, with nothing done, where that takes longer: another thread has it locked,
 * or what lu__user_lock and lu__thread_mark refuse. */
LU_INLINE LU_MUST_CHECK bool lu__user_try(struct heap *heap) {
    uint32_t me;
    if (LU_UNLIKELY(!lu__lock_me_quickly(&me))) return false;
    if (LU_UNLIKELY(!lu__inside_enter_quickly())) return false;
    if (LU_LIKELY(lu__lock_try_as(&heap->lock, me))) return true;
    lu__inside_undo();
    return false;
}
/* Both return `result`, so that they can be called last. lu__user_leave_rarely is for the case that
 * some thread waits for the lock, or that misuse is to be reported. */
void *lu__user_leave_rarely(struct heap *heap, void *result, bool waits) __attribute__((cold));
LU_INLINE void *lu__user_leave(struct heap *heap, void *result) {
    bool waits = lu__lock_let_go(&heap->lock);
    if (LU_UNLIKELY(waits) || LU_UNLIKELY(lu__inside_state() != LU_INSIDE)) {
        return lu__user_leave_rarely(heap, result, waits);
    }
    lu__inside_set(0);
    return result;
}
/* Lock a lu_heap for the calling thread, which is inside; of one that is not shared it is only
 * noted who is in it, for the child of fork. False: the heap has ended, and who uses it does wrong;
 * or the thread has it locked, and calls itself. */
LU_INLINE LU_MUST_CHECK bool lu__user_lock(struct heap *heap) {
    if (!heap->shared) {
        lu__lock_note(&heap->single);
    } else {
        if (lu__lock_is_mine(&heap->lock)) return false;
        lu__lock_acquire(&heap->lock);
    }
    uint8_t kind = __atomic_load_n(&heap->kind, __ATOMIC_RELAXED);
    if (LU_LIKELY(kind == LU_HEAP_OF_USER)) return true;
    lu__user_unlock(heap);
    return false;
}
/* In a copy of the process: make it free if another thread had it, and true then. */
LU_INLINE bool lu__user_fork_lock(struct heap *heap) {
    bool locked = lu__lock_fork_child(&heap->lock);
    return lu__lock_fork_child(&heap->single) || locked;
}
/* Give back pages of structures that no heap uses; inside. Bytes. */
size_t lu__heap_purge_structures(void);
/* Call `visit` for a few pooled heaps, whose turn it is, each taken out of the pool meanwhile;
 * until it says false. */
void lu__pool_some(bool (*visit)(struct heap *, void *), void *arg);
/* The same for all that are there now, one after the other. */
void lu__pool_each(void (*visit)(struct heap *, void *), void *arg);
/* Call `visit` for every shared lu_heap that has memory and that nobody is in, locked, and under
 * the lock of the pool. */
void lu__pool_shared(void (*visit)(struct heap *, void *), void *arg);
/* Threads' heaps that threads use, and that wait for one. */
void lu__pool_counts(size_t *active, size_t *pooled);
extern size_t lu__pooled_count LU_HIDDEN; /* of the latter */
LU_INLINE size_t lu__pool_count(void) {
    return __atomic_load_n(&lu__pooled_count, __ATOMIC_RELAXED);
}
/* In a process that is a copy of another: if the caller is `alone`, all heaps but its own are of
 * nobody; else one of those in use may be that of a thread which goes on with it. */
void lu__pool_fork_child(bool alone);

/* ---------------------------------------------------------------- structures.c; under the lock */

/* A structure that is zero, but for its lock; NULL: no memory. */
struct heap *lu__structure_take(void);
/* Its heap has ended, or was never made. */
void lu__structure_give(struct heap *heap);
/* Give back pages that only free structures cover. Bytes. */
size_t lu__structures_purge(void);
/* In a copy of the process, if another thread held the lock. */
void lu__structures_fork_child(void);
/* Without the lock, any thread: call `visit` for every structure that was ever used, whatever its
 * state; it must only look. */
void lu__heap_each(void (*visit)(struct heap *, void *), void *arg);

#endif
