/*
 * pt.h - what the files of the policy pt share: chunks, arenas, thread caches. Private to pt*.c.
 *
 *     pt.c          the table of the policy: alloc, free, resize, thread_end, fork
 *     pt_tcache.c   threads: who calls, and their caches of freed chunks
 *     pt_bins.c     where free chunks wait: fast, unsorted, small and large bins
 *     pt_free.c     freeing into an arena: checks, merging, giving the top back
 *     pt_arena.c    arenas: which one, and how they grow: the break, heaps in mappings
 *     pt_map.c      chunks in mappings of their own, and the threshold that moves
 *     pt_walk.c     walk: what is what, in address order
 *     pt_check.c    validate
 *
 * A chunk, its payload beginning 16 bytes after it:
 *
 *              used                                     free
 *     +0       last 8 bytes of the chunk before,        same
 *              or its size if that is free
 *     +8       size | A | M | P                         size | A | 1
 *     +16      payload                                  fd: next in the bin, towards older
 *     +24        …                                      bk: previous in the bin
 *     +32        …                                      fd_size, bk_size: large bins only
 *     +size    payload's last 8 bytes                   size again (prev_size of the next)
 *     +size+8  next chunk's size | … P=1                next chunk's size | … P=0
 *
 *     P  the chunk before is used      M  a mapping of its own      A  not of the main arena
 *
 * A cached chunk (tcache or fast bin) looks used to its neighbours, so it never merges:
 *
 *     +16      next in the list, encoded: (address of this word >> 12) xor next ("safe-linking")
 *     +24      tcache: the key, by which a second free is suspected
 *
 * The size word of a used chunk is read by its owner (free asks how large it is) while another
 * thread, under the arena's lock, changes its P: so it is always accessed atomically, relaxed.
 */
#ifndef LU_CLASSIC_PT_H
#define LU_CLASSIC_PT_H

#include "classic/chunk.h"
#include "classic/classic.h"

#define PT_P ((size_t)1)
#define PT_M ((size_t)2)
#define PT_A ((size_t)4)
#define PT_MARK ((size_t)8) /* during a walk: the chunk is in a list of free ones */
#define PT_BITS ((size_t)15)

#define PT_LEAST LU_CHUNK_LEAST
#define PT_HEADER LU_CHUNK_HEADER

#define PT_TCACHE_BINS 64u /* chunks of 32 to 1040 bytes */
#define PT_TCACHE_FULL 7u
#define PT_FAST_BINS 7u /* chunks of 32 to 128 bytes */
#define PT_FAST_MOST ((size_t)128)
#define PT_UNSORTED 1u
#define PT_LARGE_FIRST 64u /* bins 2 to 63: one size each, 32 to 1008; 64 to 126: ranges */
#define PT_BINS 127u
#define PT_LARGE_LEAST ((size_t)1024)

/* A chunk freed or merged of this size makes its arena tidy up. */
#define PT_TIDY_BYTES (64 * LU_KIB)
/* A heap of an arena: its size and alignment. See pt_arena.c. */
#define PT_HEAP_BYTES LU_MIB

struct pt_chunk {
    size_t prev_size; /* size of the chunk before, if that is free */
    size_t head;      /* size | bits */
    struct pt_chunk *fd, *bk;
    struct pt_chunk *fd_size, *bk_size; /* large bins, the first of each size: next smaller, next
                                           larger; NULL: not the first, or not in such a bin */
};

/* The payload of a cached chunk. */
struct pt_cached {
    uintptr_t next; /* encoded */
    uintptr_t key;  /* tcache */
};

/* Begins every heap of an arena that is not the main one. */
struct pt_heap {
    struct pt_arena *arena;
    struct pt_heap *prev; /* made before; NULL: the first */
    uintptr_t high;       /* above this no page was touched since it was last given back */
    size_t pad;
};

struct pt_arena {
    struct lu__lock lock;  /* guards all but `next` and `attached` */
    struct pt_arena *next; /* in the list of all; atomic, release by who appends */
    unsigned attached;     /* threads bound to it; atomic, relaxed */
    bool is_main;
    bool has_fast;                   /* a fast bin may hold something */
    bool forking;                    /* the lock was taken for a fork */
    struct pt_chunk *top;            /* the free end; NULL: nothing yet */
    struct pt_chunk *last_remainder; /* what the latest split for a small request left */
    struct pt_heap *heap;            /* the newest, where `top` is; NULL in the main arena */
    struct pt_cached *fast[PT_FAST_BINS];
    uint64_t binmap[2];            /* bit i is 0: bin i is empty */
    struct pt_chunk bins[PT_BINS]; /* heads of rings; of size 0; fd: front, bk: back */
};

/* One per thread that calls, real or simulated; used by that thread alone. */
struct pt_thread {
    struct pt_thread *next; /* in the list of all, or of spare ones; under list_lock */
    uint64_t serial;        /* of a real thread; 0: simulated */
    struct pt_arena *arena; /* bound to; NULL: none yet */
    uint16_t counts[PT_TCACHE_BINS];
    struct pt_cached *entries[PT_TCACHE_BINS];
};

struct pt {
    struct lu__classic base;
    uint64_t id;      /* differs in all heaps of the process */
    uint32_t creator; /* lu__lock_me() of the thread that made it */
    uintptr_t key;    /* of chunks in a tcache */
    /* Atomic, relaxed: frees and mallopt move them. */
    size_t mmap_threshold, trim_threshold, top_pad;
    bool fixed_thresholds;
    unsigned arena_limit;
    struct lu__lock list_lock; /* guards what follows, and `next` of arenas and threads; taken
                                  before the lock of an arena */
    bool forking;              /* list_lock was taken for a fork */
    unsigned arena_count;
    struct pt_arena *shared; /* the arena that a thread was given last when all were in use */
    struct pt_thread *threads, *spare;
    struct pt_thread **simulated; /* by number */
    size_t simulated_room;
    struct pt_arena main;
};

LU_INLINE size_t lu__pt_top_pad(const struct pt *pt) {
    return __atomic_load_n(&pt->top_pad, __ATOMIC_RELAXED);
}

/* What one call wants. */
struct pt_request {
    struct pt *pt;
    struct pt_thread *thread; /* NULL: without cache */
    struct pt_arena *arena;   /* locked */
    size_t bytes;             /* of the chunk wanted */
    size_t search;            /* of a chunk to cut it from: more than `bytes` to align it */
    size_t align;
    bool damaged;    /* misuse was told: end the call */
    uint64_t looked; /* free chunks looked at */
};

/* ---- chunks ---- */

LU_INLINE size_t lu__pt_head(const struct pt_chunk *chunk) {
    return __atomic_load_n(&chunk->head, __ATOMIC_RELAXED);
}
LU_INLINE void lu__pt_set_head(struct pt_chunk *chunk, size_t head) {
    __atomic_store_n(&chunk->head, head, __ATOMIC_RELAXED);
}
LU_INLINE size_t lu__pt_size(const struct pt_chunk *chunk) {
    return lu__pt_head(chunk) & ~PT_BITS;
}
LU_INLINE struct pt_chunk *lu__pt_at(const struct pt_chunk *chunk, size_t offset) {
    return (struct pt_chunk *)((uintptr_t)chunk + offset);
}
/* Bit P of the chunk at `offset`: is what lies before it used? */
LU_INLINE bool lu__pt_used_before(const struct pt_chunk *chunk, size_t offset) {
    return (lu__pt_head(lu__pt_at(chunk, offset)) & PT_P) != 0;
}
LU_INLINE void lu__pt_set_used_before(struct pt_chunk *chunk, size_t offset) {
    struct pt_chunk *at = lu__pt_at(chunk, offset);
    lu__pt_set_head(at, lu__pt_head(at) | PT_P);
}
LU_INLINE void *lu__pt_payload(const struct pt_chunk *chunk) {
    return (void *)((uintptr_t)chunk + PT_HEADER);
}
LU_INLINE struct pt_chunk *lu__pt_chunk_of(const void *payload) {
    return (struct pt_chunk *)((uintptr_t)payload - PT_HEADER);
}
/* The bit A of an arena's chunks. */
LU_INLINE size_t lu__pt_bit_of(const struct pt_arena *arena) {
    return arena->is_main ? 0 : PT_A;
}
LU_INLINE struct pt_heap *lu__pt_heap_of(const void *at) {
    return (struct pt_heap *)lu__align_down((uintptr_t)at, PT_HEAP_BYTES);
}
LU_INLINE struct pt_arena *lu__pt_arena_of(struct pt *pt, const struct pt_chunk *chunk) {
    return (lu__pt_head(chunk) & PT_A) != 0 ? lu__pt_heap_of(chunk)->arena : &pt->main;
}
/* Chunks of a heap lie between these two; the end is a fence of two headers. */
LU_INLINE struct pt_chunk *lu__pt_heap_first(const struct pt_heap *heap) {
    return (struct pt_chunk *)((uintptr_t)heap + sizeof *heap);
}
LU_INLINE struct pt_chunk *lu__pt_heap_fence(const struct pt_heap *heap) {
    return (struct pt_chunk *)((uintptr_t)heap + PT_HEAP_BYTES - 2 * PT_HEADER);
}
LU_INLINE size_t lu__pt_top_size(const struct pt_arena *arena) {
    return arena->top != NULL ? lu__pt_size(arena->top) : 0;
}

/* ---- safe-linking: the same both ways ---- */

LU_INLINE uintptr_t lu__pt_link(const uintptr_t *place, uintptr_t word) {
    return ((uintptr_t)place >> 12) ^ word;
}

/* ---- pt_tcache.c ---- */

/* The record of the calling thread; NULL: no memory for it, or the thread has ended. */
struct pt_thread *lu__pt_thread_of_caller(struct pt *pt);
/* A payload of a chunk of `size`, or NULL: none cached. */
void *lu__pt_tcache_get(struct pt *pt, struct pt_thread *thread, size_t size);
/* True if the cache has room for a chunk of `size`. */
bool lu__pt_tcache_has_room(const struct pt_thread *thread, size_t size);
/* There is room. */
void lu__pt_tcache_put(const struct pt *pt, struct pt_thread *thread, struct pt_chunk *chunk,
                       size_t size);
/* True if the payload is in the cache already. */
bool lu__pt_tcache_holds(const struct pt *pt, const struct pt_thread *thread, const void *payload,
                         size_t size);
void lu__pt_thread_end(struct pt *pt);
/* The child of fork has one thread. */
void lu__pt_threads_of_child(struct pt *pt);

/* ---- pt_bins.c; under the arena's lock ---- */

void lu__pt_bins_init(struct pt_arena *arena);
/* The bin of a free chunk of `size` that is not in the unsorted one. */
unsigned lu__pt_bin_for(size_t size);
/* True if `chunk` with `size` can be a chunk of the arena by its size and its place. */
bool lu__pt_is_sane(const struct pt_arena *arena, const struct pt_chunk *chunk, size_t size);
/* Make a free chunk of `size`, next to no other free one and in no bin, the newest in the unsorted
 * bin. False: the bin is damaged. */
bool lu__pt_push_unsorted(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk,
                          size_t size) LU_MUST_CHECK;
/* Take a chunk out of whichever bin it is in. False: damage. */
bool lu__pt_unlink(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk) LU_MUST_CHECK;
void lu__pt_push_fast(struct pt_arena *arena, struct pt_chunk *chunk, size_t size);
/* A used chunk of at least request->search from the bins, or NULL. */
struct pt_chunk *lu__pt_take_from_bins(struct pt_request *request);
/* The same from the top. */
struct pt_chunk *lu__pt_take_from_top(struct pt_request *request);

/* ---- pt_free.c; under the arena's lock ---- */

/* Free a chunk that is not mapped, past the tcache. */
void lu__pt_arena_free(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk);
/* Empty the fast bins into the unsorted one. False: damage. */
bool lu__pt_consolidate(struct pt *pt, struct pt_arena *arena);
/* Let a used chunk end after `bytes`, if that leaves enough for a free one. */
void lu__pt_shrink(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk, size_t bytes);
/* The chunk grows in place to `bytes` or more. False: it cannot. */
bool lu__pt_extend(struct pt *pt, struct pt_arena *arena, struct pt_chunk *chunk, size_t bytes);
/* Give back what can be. */
void lu__pt_arena_trim(struct pt *pt, struct pt_arena *arena);

/* ---- pt_arena.c ---- */

/* An arena for the thread, locked. */
struct pt_arena *lu__pt_arena_acquire(struct pt *pt, struct pt_thread *thread);
/* Bind a thread to an arena. */
void lu__pt_attach(struct pt_thread *thread, struct pt_arena *arena);
/* One more, unlocked and with nobody attached; NULL: no memory, or as many as may be. */
struct pt_arena *lu__pt_arena_create(struct pt *pt);
/* A top from which request->search can be cut. False: no memory. Under the arena's lock. */
bool lu__pt_arena_grow(const struct pt_request *request) LU_MUST_CHECK;
/* The top grew downwards: give what is above the threshold back. Under the arena's lock. */
void lu__pt_give_back_top(struct pt *pt, struct pt_arena *arena, size_t pad);
LU_INLINE struct pt_arena *lu__pt_next_arena(const struct pt_arena *arena) {
    return __atomic_load_n(&arena->next, __ATOMIC_ACQUIRE);
}

/* ---- pt_map.c ---- */

/* A chunk in a mapping of its own, or NULL. */
struct pt_chunk *lu__pt_map(struct pt *pt, size_t bytes, size_t align);
void lu__pt_unmap(struct pt *pt, struct pt_chunk *chunk);
/* Where the chunk is then, or NULL: it is as it was. */
struct pt_chunk *lu__pt_remap(struct pt *pt, struct pt_chunk *chunk, size_t bytes);
/* The chunk in the mapping at `start`; NULL if that cannot be one. */
struct pt_chunk *lu__pt_mapped_chunk(const struct lu__mapping *mapping);

/* ---- pt_walk.c ---- */

/* True if the mapping is that of an arena's heap. Safe whatever is in it. */
bool lu__pt_is_heap(struct pt *pt, const struct lu__mapping *mapping);
/* Set (or clear) PT_MARK in all chunks of tcaches and fast bins, whose lists are sound. */
void lu__pt_mark_cached(struct pt *pt, bool on);
void lu__pt_walk(struct lu__classic *self, lu__block_visit *visit, void *arg);

/* ---- pt_check.c ---- */

bool lu__pt_validate(struct lu__classic *self, struct lu__classic_fault *fault);

#endif
