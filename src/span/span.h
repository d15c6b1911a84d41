/*
 * span.h - address space -> slices -> runs and spans.
 *
 * Memory is reserved in regions (usually one, of 1 TiB), cut into slices of 64 KiB. A run is a
 * sequence of slices used for one thing. One descriptor of two cache lines stands for every slice,
 * found by arithmetic alone; that of a run's first slice, its head, describes the run:
 *
 *     region   |desc 0|desc 1| ...        ... |slice f|slice f+1| ... |   reserved, not committed
 *     base ----^                              ^ first                 ^ top          ^ committed
 *
 *     descriptor of address a:   base + ((a - base) >> 16) * 128
 *
 * Kinds of runs:
 *     SMALL   blocks of one size class, owned by a heap (a "span" in the narrow sense)
 *     LARGE   one block
 *     META    lucid's own structures
 *     FREE    dirty (was used, still resident) or clean (reads as zero)
 *     PURGING being given back by some thread; nobody else touches it
 *
 * Every slice below `top` belongs to exactly one run; the descriptors of slices that are not heads
 * have kind NONE (or INTERIOR in a SMALL run, TAIL at the end of a FREE one). Marks are changed in
 * an order such that walking head to head from `first` meets only whole runs at any moment: that
 * is what lets the child of fork rebuild everything else (lu__run_rebuild).
 */
#ifndef LU_SPAN_H
#define LU_SPAN_H

#include "base/base.h"
#include "os/lock.h"
#include "span/class.h"

#define LU_DESC_SHIFT 7
/* Parts of a slice are counted in units of 4 KiB, the smallest page of any kernel; a page of the
 * running one is 1, 4 or 16 of them. */
#define LU_UNIT_SHIFT 12
#define LU_UNIT (1u << LU_UNIT_SHIFT)
/* Spans of several slices lie inside an aligned window of this many bits, and so do links. */
#define LU_WINDOW_SHIFT 19

enum lu__kind {
    LU_KIND_NONE = 0,
    LU_KIND_SMALL,
    LU_KIND_INTERIOR, /* a slice of a SMALL run behind its head; `slices` leads back to the head */
    LU_KIND_LARGE,
    LU_KIND_META,
    LU_KIND_FREE,
    LU_KIND_TAIL, /* last slice of a FREE run of several; `slices` is the length of the run */
    LU_KIND_PURGING,
};

/* Where a SMALL span is in its life; see heap/small.c. */
#define LU_OF_THREAD_HARDENED 2 /* of_thread */
enum lu__span_state { LU_SPAN_CURRENT = 1, LU_SPAN_SLEEPING, LU_SPAN_PARTIAL };

struct heap;

struct span {
    /* ---- first line: read by free. Written by the owner, or under lu__span_lock if not SMALL. */
    struct heap *owner; /* SMALL: always; LARGE: the lu_heap it belongs to, or NULL            */
    uintptr_t *list;    /* the list that local frees push on: &head, or the heap's own list    */
    uintptr_t head;     /* list of free blocks while the span is not current                   */
    uint32_t needed;    /* local frees until the slow path wants to know                       */
    uint32_t inverse;   /* of the class                                                        */
    uint32_t bound;     /* offset * inverse is below it for starts of carved blocks (class.c);
                            0 sends every free to the slow path                                 */
    uint32_t limit;     /* bytes from the start up to which blocks were carved                 */
    uint8_t class_id;
    uint8_t kind;      /* enum lu__kind */
    uint8_t of_thread; /* SMALL, and the owner is a thread's heap, not a lu_heap: 1, if hardened
                            LU_OF_THREAD_HARDENED; else 0                                      */
    uint8_t zero;      /* FREE, and SMALL beyond limit: the memory reads as zero              */
    uint32_t slices;   /* length of the run; offset from the head for INTERIOR                */
    struct span *next; /* heap's partial list, or bin of free runs                       */
    uintptr_t key;     /* SMALL: of the links in this life of the span; see heap/link.c. Stays
                            when the life has ended, for the next key to be made of it          */

    /* ---- second line: remote frees and rare things */
    uint64_t remote; /* atomic: posted remote frees, packed; see heap/remote.c              */
    struct span *pending_next; /* in the owner's pending stack                                  */
    struct span *all_next, *all_prev; /* all runs of a lu_heap; FREE and dirty: by age         */
    struct span *prev; /* to `next`                                                          */
    uint32_t stamp;    /* SMALL: frees seen at last sweep                                       */
    uint16_t reserve;  /* blocks out that `needed` does not count                             */
    uint16_t purged;   /* bit i: unit i of the span was given back, its blocks are off every
                            list                                                                */
    uint16_t off;      /* blocks on no list: those, and those in a bitmap                   */
    uint16_t track;    /* atomic: the number of its bitmap, or 0; see heap/track.c            */
    uint16_t rings;    /* atomic: how many slots of heaps' rings collect frees of its blocks  */
    uint16_t seen;     /* CURRENT: limit / 8 when it was last swept; PARTIAL: see sweep.c    */
    uint16_t touched;  /* slice by slice, whatever it is part of: bytes / 8 from its start that a
                            SMALL span once linked and nothing has purged since (see small.c) */
    uint8_t state;     /* SMALL: enum lu__span_state                                          */
    uint8_t hardened;  /* SMALL, LARGE: see heap/harden_parts.h; and of those                   */
    uint8_t guarded;   /* an inaccessible slice ends the run                              */
    uint8_t swept;     /* PARTIAL: nothing was freed since the last sweep. CURRENT: nothing was
                         carved since what is not carved was given back                     */
} __attribute__((aligned(128)));
_Static_assert(sizeof(struct span) == (size_t)1 << LU_DESC_SHIFT, "descriptors are 128 bytes");
_Static_assert(offsetof(struct span, remote) == 64, "the second line starts with `remote`");

struct region {
    char *base;        /* aligned to the window; the descriptor table starts here          */
    size_t size;       /* bytes reserved                                                   */
    uint32_t first;    /* first slice behind the descriptor table, and in the first region behind
                           the one whose descriptor is lu__region_zeros                     */
    uint32_t top;      /* slices from here were never handed out: zero                     */
    uint32_t limit;    /* slices in all                                                    */
    uint32_t ready;    /* slices below are committed, and so are their descriptors         */
    size_t desc_ready; /* bytes of the descriptor table that are committed                */
};

#define LU_REGIONS 256
extern struct region lu__regions[LU_REGIONS] LU_HIDDEN;
extern uint32_t lu__region_count; /* atomic; grows only */

LU_INLINE struct span *lu__region_desc(const struct region *region, size_t slice) {
    return (struct span *)(region->base + (slice << LU_DESC_SHIFT));
}

/* The address of a descriptor in the first region that stands for no memory and is zero for ever;
 * the region is made if there is none. 0: there can be none. Takes lu__span_lock. */
uintptr_t lu__region_zeros(void);
/* The region of `address`, or NULL. Any thread, no lock. */
struct region *lu__region_of(const void *address);
/* The head of the run that holds `address`, which lies in `region`; NULL for descriptors, META and
 * memory never handed out. Exact for live blocks; a guess where other threads change the run. */
struct span *lu__span_of(const struct region *region, const void *address);
/* First byte of the run. */
char *lu__span_start(const struct span *span);

LU_INLINE size_t lu__span_bytes(const struct span *span) {
    return (size_t)span->slices << LU_SLICE_SHIFT;
}

/* Guards runs, regions and the figures below. Taken in slow paths only; a leaf lock. */
extern struct lu__lock lu__span_lock;

/* Figures in bytes, written under lu__span_lock, read anywhere (relaxed). */
struct lu__span_figures {
    size_t used;     /* in SMALL, LARGE and META runs          */
    size_t dirty;    /* in FREE runs that are not clean        */
    size_t huge;     /* in mappings of their own               */
    size_t returned; /* given back since the start             */
    size_t reserved, committed, meta;
    size_t peak;  /* of used + dirty + huge                 */
    size_t limit; /* on used + dirty + huge, 0 for none     */
    size_t huge_blocks;
};
extern struct lu__span_figures lu__span_figures;
LU_INLINE size_t lu__span_held(void) {
    return __atomic_load_n(&lu__span_figures.used, __ATOMIC_RELAXED) +
           __atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED) +
           __atomic_load_n(&lu__span_figures.huge, __ATOMIC_RELAXED);
}

/* ---- runs (run.c). All take lu__span_lock themselves. */

/* A run of `slices`, its start a multiple of `align_slices` (a power of two), of the given kind.
 * *zero tells whether all of it reads as zero. NULL if there is no memory or the limit forbids. */
struct span *lu__run_alloc(size_t slices, size_t align_slices, enum lu__kind kind, bool *zero);
void lu__run_free(struct span *run);
/* The same for a LARGE run whose pages have all been moved out of it, so that it reads as zero; its
 * bytes are huge from now on (lu__huge_adopt). */
void lu__run_free_clean(struct span *run);
/* Make a LARGE run longer or shorter in place; growing fails if what lies behind is in use.
 * Fresh slices have undefined contents. */
bool lu__run_grow(struct span *run, size_t slices);
void lu__run_shrink(struct span *run, size_t slices);
/* ---- giving back (purge.c). Bytes that went back, in whole slices. Take the lock for moments. */

/* Free memory that was used, whatever its age: `most_bytes` at most, rounded up to slices, and less
 * where it is in many small runs, as every call of the kernel takes its time. 0: there is none. */
size_t lu__run_purge(size_t most_bytes);
/* What nobody has needed for purge_delay, at most `most_bytes`; `pressed`: for any time, but for
 * what is used again and again. 0 also if the lock is taken. */
size_t lu__run_purge_due(uint64_t now_ms, bool pressed, size_t most_bytes);
/* From lu__run_settle_later to lu__run_settle the calling thread's frees of runs give nothing back
 * because of a flood, and then it does so once: where one call of a program frees many. In between,
 * how many bytes wait. */
extern __thread size_t lu__my_unsettled
    __attribute__((tls_model("initial-exec"), visibility("hidden"))); /* 0, or 1 + bytes */
LU_INLINE void lu__run_settle_later(void) {
    lu__my_unsettled = 1;
}
LU_INLINE size_t lu__run_unsettled(void) {
    return lu__my_unsettled - 1;
}
void lu__run_settle_now(void);
LU_INLINE void lu__run_settle(void) {
    if (LU_UNLIKELY(lu__my_unsettled > 1)) {
        lu__run_settle_now();
    } else {
        lu__my_unsettled = 0;
    }
}
/* The pages of the run are no longer there, or others. */
void lu__run_forget_touched(struct span *run);
/* Add to the limit-checked figures for memory outside regions; false if the limit forbids it. */
bool lu__span_charge(size_t bytes);
void lu__span_uncharge(size_t bytes);
/* A run of kind META is about to be freed: it no longer counts as such. */
void lu__span_forget_meta(size_t bytes);
/* Once the memory that was charged is really there. */
void lu__span_note_peak(void);
/* True while some thread purges a run without the lock. */
bool lu__run_purging(void);
/* In the child of fork, where another thread may have held the lock: rebuild the bins from the
 * descriptors. */
void lu__run_rebuild(void);

/* ---- a look at all runs (walk.c) */

/* Looks at a run of whatever kind, under lu__span_lock; returns the effort: 1 for a short look, 64
 * for one of some ten microseconds. */
typedef unsigned lu__run_visit_fn(const struct span *run, void *arg);
/* Visit all runs, in order of address in each region; `between` is called now and then, and after
 * the last, without the lock. Others change runs meanwhile. */
void lu__run_walk(lu__run_visit_fn *visit, void (*between)(void *arg), void *arg);
/* In the child of fork. */
void lu__walk_fork_child(void);

/* ---- regions (region.c); under lu__span_lock. */

/* Take `slices` fresh ones from the top of a region, aligned: the index of the first, and in
 * *skipped how many slices below it were passed over for the alignment. False: no memory. */
bool lu__region_extend(size_t slices, size_t align_slices, struct region **region, uint32_t *slice,
                       uint32_t *skipped);

#endif
