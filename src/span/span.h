/*
 * span.h - address space -> slices -> runs and spans.
 *
 * Memory comes from regions (usually one), which are divided into slices of 64 KiB. A run is a
 * sequence of slices used for one purpose. Every slice has a descriptor of two cache lines, found
 * by arithmetic alone; the descriptor of a run's first slice, its head, describes the run:
 *
 *     | 0 |desc 0|desc 1| ...    (free addresses)     |slice 0|slice 1| ...   |       (free)
 *         ^ table                                     ^ base             ^ top ^ ready      limit
 *
 *     descriptor of address a:   table + ((a - base) >> 16) * 128
 *
 * Nothing is reserved: other mappings may take the addresses behind either part that are not mapped
 * yet. A region that meets such a mapping ends there (region.c).
 *
 * Kinds of runs:
 *     SMALL   blocks of one size class, owned by a heap (a "span" in the narrow sense)
 *     LARGE   one block
 *     META    lucid's own structures
 *     FREE    dirty (was used, still resident), clean (reads as zero) or a hole (not mapped)
 *     PURGING being given back by some thread; no other thread touches it
 *
 * Every slice below `top` belongs to exactly one run; the descriptors of slices that are not heads
 * have kind NONE (or INTERIOR in a SMALL run, TAIL at the end of a FREE one). Descriptors are
 * changed in an order such that a walk from head to head, from slice 0 on, meets only whole runs at
 * any moment: from them the child of fork can rebuild everything else (lu__run_rebuild).
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

/* What is in a FREE run, in the order in which such runs are taken (span->zero); in a PURGING one,
 * what becomes of it. */
enum lu__free { LU_FREE_DIRTY, LU_FREE_CLEAN, LU_FREE_HOLE, LU_FREES };

/* The kind of owner of a SMALL span, and so what the fast paths may do with it. Unless it is
 * LU_OF_NOBODY, the run is a span; LU_OF_USER and above: it belongs to an unhardened lu_heap. */
enum lu__whose {
    LU_OF_NOBODY, /* another run, or a hardened lu_heap's */
    LU_OF_THREAD,
    LU_OF_THREAD_HARDENED,
    LU_OF_USER,       /* single-threaded: any owner of a block may change the heap */
    LU_OF_USER_SHARED /* under the heap's lock                                */
};

/* Where a SMALL span is in its life; see heap/small.c. */
enum lu__span_state { LU_SPAN_CURRENT = 1, LU_SPAN_SLEEPING, LU_SPAN_PARTIAL };

struct heap;

struct span {
    /* ---- first line: read by free. Written by the owner, or under lu__span_lock if not SMALL. */
    struct heap *owner; /* SMALL: always; LARGE: the lu_heap it belongs to, or NULL            */
    uintptr_t *list;    /* the list that local frees push on: &head, or the heap's own list    */
    uintptr_t head;     /* list of free blocks while the span is not current                   */
    union {
        uint32_t needed;     /* SMALL: local frees until free takes the slow path              */
        uint32_t dirty_from; /* LARGE, hardened: bytes from the start: beyond, it may not be zero */
        uint32_t made;       /* META of structures: those from this number on were never used  */
    };
    uint32_t inverse; /* of the class                                                        */
    uint32_t bound;   /* offset * inverse is below it for starts of carved blocks (class.c);
                            0 sends every free to the slow path                                 */
    union {
        uint32_t limit;  /* SMALL: bytes from the start up to which blocks were carved         */
        uint32_t offset; /* LARGE: from the start to the block                                 */
    };
    uint8_t class_id;
    uint8_t kind;      /* enum lu__kind */
    uint8_t whose;     /* enum lu__whose */
    uint8_t zero;      /* FREE, PURGING: enum lu__free. SMALL: beyond limit it reads as zero   */
    uint32_t slices;   /* length of the run; offset from the head for INTERIOR                */
    struct span *next; /* heap's partial list, or bin of free runs                       */
    uintptr_t key;     /* SMALL: of the links in this life of the span; see heap/link.c. Stays
                            when the life has ended, for the next key to be made of it          */

    /* ---- second line: remote frees and rare things */
    union {
        uint64_t remote;      /* SMALL, atomic: posted remote frees, packed; see heap/remote.c */
        uint64_t large_bytes; /* LARGE: that the program may use                               */
    };
    struct span *pending_next; /* in the owner's pending stack                                  */
    struct span *all_next, *all_prev; /* all runs of a lu_heap; FREE and dirty: by age         */
    struct span *prev; /* to `next`                                                          */
    union {
        uint32_t last_mark; /* SMALL: what changes with every free, as the last sweep saw it   */
        uint32_t queued;    /* SMALL, hardened, atomic: 1: its heap lists it, or soon will     */
        uint32_t in_use;    /* META of structures: a bit for each                              */
    };
    union {
        uint16_t reserve;  /* SMALL: live blocks that `needed` does not count                  */
        uint16_t capacity; /* SMALL, hardened: blocks that fit                                 */
    };
    uint16_t purged; /* bit i: unit i of the span was given back, its blocks are on no
                            list                                                               */
    union {
        uint16_t unlisted; /* SMALL: free blocks on no list: those, and those in a bitmap      */
        uint16_t filling;  /* LARGE, hardened: bytes behind the request that were filled       */
    };
    uint16_t track; /* atomic: the number of its bitmap, or 0; see heap/track.c            */
    uint16_t rings; /* atomic: how many slots of heaps' rings collect frees of its blocks  */
    union {
        uint16_t swept_to; /* CURRENT: limit / 8 at the last sweep. PARTIAL: blocks of the list
                              whose insides went back                                          */
        uint16_t gone;     /* META of structures: free ones whose pages went back              */
    };
    uint16_t touched; /* for each slice, whatever run it is in: bytes / 8 from its start that a
                            SMALL span once linked and that were not purged since (see small.c) */
    uint16_t absent;  /* of a run in use, what cannot be resident and does not count as held:
                            SMALL: bit i: its sixteenth i; else: units. See held.c              */
    uint8_t state;    /* SMALL: enum lu__span_state. PURGING: enum lu__free, what it was      */
    uint8_t hardened; /* SMALL, LARGE: see harden/parts.h; and of those                   */
    uint8_t guarded;  /* an inaccessible slice ends the run                              */
    union {
        uint8_t swept;   /* PARTIAL: nothing was freed since the last sweep. CURRENT: nothing was
                            carved since what is not carved was given back                     */
        uint8_t taken;   /* LARGE, atomic: it is being freed, or was (lu__large_take)          */
        uint8_t retired; /* META: its pages went back, and it counts as not used               */
    };
} __attribute__((aligned(128)));
_Static_assert(sizeof(struct span) == (size_t)1 << LU_DESC_SHIFT, "descriptors are 128 bytes");
_Static_assert(offsetof(struct span, remote) == 64, "the second line starts with `remote`");

struct region {
    char *base;         /* first byte of slice 0, aligned to the window                       */
    struct span *table; /* its descriptor; the one before that stands for nothing, and is zero
                            for ever                                                           */
    size_t table_bytes; /* mapped, from that one on; only grows, as readers look at descriptors of
                            slices that were unmapped meanwhile                                */
    uint32_t top;       /* slices from here are not handed out: zero, if they are mapped       */
    uint32_t limit;     /* slices that it can have; less if a mapping is in the way            */
    uint32_t ready;     /* slices below are mapped, but for holes, and so are their descriptors */
    uint32_t had;       /* slices below were below the top once                               */
    bool plain;         /* where the kernel maps, and would put other mappings into a hole     */
};

#define LU_REGIONS 256
extern struct region lu__regions[LU_REGIONS] LU_HIDDEN;
extern uint32_t lu__region_count; /* atomic; grows only */

LU_INLINE struct span *lu__region_desc(const struct region *region, size_t slice) {
    return region->table + slice;
}
LU_INLINE size_t lu__region_slice(const struct region *region, const struct span *desc) {
    return (size_t)(desc - region->table);
}

/* The address of a descriptor in the first region that stands for no memory and is always zero;
 * makes the region if there is none. 0: there can be no region. Takes lu__span_lock. */
uintptr_t lu__region_zeros(void);
/* The region of `address`, which is in a slice that is ready, or NULL. Any thread, no lock. */
struct region *lu__region_of(const void *address);
/* The region of a descriptor. The same. */
struct region *lu__region_of_desc(const struct span *desc);
/* True if `address` was in a run once, and the top has come down below it. Any thread, no lock. */
bool lu__region_had(const void *address);
/* True if `address` is in the table of a region, as far as it is mapped. The same. */
bool lu__region_is_table(const void *address);
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

/* Figures in bytes, most of them written under lu__span_lock; read anywhere (relaxed). */
struct lu__span_figures {
    size_t used;        /* in SMALL, LARGE and META runs          */
    size_t absent;      /* of that, what cannot be resident: changed without the lock, too */
    size_t dirty;       /* in FREE runs that are not clean        */
    size_t going;       /* of that, in pieces that a thread is giving back */
    size_t huge;        /* in mappings of their own               */
    size_t returned;    /* given back since the start: as well    */
    size_t mapped;      /* by regions, descriptors included         */
    size_t meta;        /* in META runs, without what is absent     */
    size_t peak;        /* of what is held: as well, see held.c     */
    size_t limit;       /* on that, 0 for none: set without it      */
    size_t huge_blocks; /* written under huge.c's lock           */
};
extern struct lu__span_figures lu__span_figures;
LU_INLINE size_t lu__span_held(void) {
    size_t sum = __atomic_load_n(&lu__span_figures.used, __ATOMIC_RELAXED) +
                 __atomic_load_n(&lu__span_figures.dirty, __ATOMIC_RELAXED) +
                 __atomic_load_n(&lu__span_figures.huge, __ATOMIC_RELAXED);
    size_t absent = __atomic_load_n(&lu__span_figures.absent, __ATOMIC_RELAXED) +
                    __atomic_load_n(&lu__span_figures.going, __ATOMIC_RELAXED);
    return sum > absent ? sum - absent : 0; /* they are not read at one instant */
}

/* ---- runs (run.c). All take lu__span_lock themselves. */

/* A run of `slices`, its start a multiple of `align_slices` (a power of two), of the given kind.
 * *zero tells whether all of it reads as zero. NULL if there is no memory or the limit forbids. */
struct span *lu__run_alloc(size_t slices, size_t align_slices, enum lu__kind kind, bool *zero);
/* The same. If it reads as zero, `absent` bytes of it do not count as held, until lu__span_touch:
 * whole units; of a SMALL run all. */
struct span *lu__run_alloc_sparse(size_t slices, size_t align_slices, enum lu__kind kind,
                                  size_t absent, bool *zero);
/* Free a run. If it has absent memory, near the limit the rest goes back as well, so that the
 * memory held does not become more. */
void lu__run_free(struct span *run);
/* The same for a LARGE run whose pages have all been moved out of it, so that it reads as zero; so
 * many bytes are huge from now on (lu__huge_adopt). */
void lu__run_free_clean(struct span *run, size_t huge_bytes);
/* Make a LARGE run longer or shorter in place; growing fails if the memory behind it is in use.
 * Fresh slices have undefined contents. */
bool lu__run_grow(struct span *run, size_t slices);
void lu__run_shrink(struct span *run, size_t slices);
/* ---- giving back (purge.c, room.c). Bytes that went back, in whole slices. Take the lock for
 * moments. */

/* Give dirty free memory back, whatever its age: at most `most_bytes`, rounded up to slices, and
 * less where it is in many small runs, because every system call takes time. 0: there is none. */
size_t lu__run_purge(size_t most_bytes);
/* Give back memory that was not needed for purge_delay, at most `most_bytes`; `pressed`: of any
 * age, except memory that is used again and again. 0 also if the lock is taken. */
size_t lu__run_purge_due(uint64_t now_ms, bool pressed, size_t most_bytes);
/* From lu__run_settle_later to lu__run_settle the calling thread's frees of runs give nothing back
 * because of a flood; lu__run_settle does so once for all. For calls of the program that free many
 * runs. In between, how many bytes wait. */
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
/* The pages of the run are gone, or were replaced by others. */
void lu__run_forget_touched(struct span *run);
/* A run of kind META is about to be freed: it no longer counts as such. */
void lu__span_forget_meta(const struct span *run);
/* So many bytes of a META run are absent from now on; the caller has purged those that were not
 * absent before. False, and nothing done: there are fewer than before, and the limit forbids the
 * difference. */
bool lu__run_meta_absent(struct span *run, size_t bytes) LU_MUST_CHECK;
/* Give back the pages of a META run, whose addresses stay: it reads as zero, and is not in use;
 * span->retired says so. False: the kernel refuses. */
bool lu__run_retire(struct span *run);
/* The META run is to be used again. False, and nothing done: the limit forbids it. */
bool lu__run_wake(struct span *run) LU_MUST_CHECK;
/* The system refused `bytes`, some of which are `charged` already (lu__span_charge): give back all
 * free memory, if that may help. False: there was none, or it cannot help. Takes the lock for
 * moments. */
bool lu__run_refused(size_t bytes, size_t charged);
/* Unmap clean free memory, and what was mapped in advance beyond `keep` bytes. False: there was
 * none. Takes the lock for moments. */
bool lu__run_give_addresses(size_t keep);
/* How many bytes of addresses are left to the process, as far as that is known: SIZE_MAX if it has
 * not met a limit. Under lu__span_lock. */
size_t lu__run_room(void);
/* True while some thread purges a run without the lock. */
bool lu__run_purging(void);
/* In the child of fork: where another thread held the lock or purged, rebuild the bins. */
void lu__run_fork_child(void);
/* Rebuild them from the descriptors. */
void lu__run_rebuild(void);

/* ---- what counts as held, and its limit (held.c). Free memory goes back before any is refused. */

/* Charge memory outside regions against the limit; false if the limit forbids it. */
bool lu__span_charge(size_t bytes) LU_MUST_CHECK;
void lu__span_uncharge(size_t bytes);
/* Called when the memory that was charged has really been mapped. */
void lu__span_note_peak(void);
/* The bytes [from, to) of the owner's SMALL run are about to be used: those that were absent count
 * from now on. False, with nothing done: the limit forbids it. */
bool lu__span_touch_slow(struct span *span, uint32_t from, uint32_t to) LU_MUST_CHECK;
LU_INLINE LU_MUST_CHECK bool lu__span_touch(struct span *span, uint32_t from, uint32_t to) {
    return LU_LIKELY(span->absent == 0) || lu__span_touch_slow(span, from, to);
}
/* The bytes [from, to) of the owner's SMALL run have been given back, and lu__span_touch is called
 * before they are used. */
void lu__span_leave(struct span *span, uint32_t from, uint32_t to);
/* Bytes of the run in use that do not count as held. */
size_t lu__span_absent(const struct span *span);
/* True if the limit refused the calling thread's last request. */
bool lu__span_was_refused(void);

/* ---- looks at blocks of others (purge.c) */

/* Between these two calls, every run that is in use after the first stays readable, whether it is
 * seen under lu__span_lock or not, and whichever thread frees it: for code that follows lists of
 * other threads. Nests. */
void lu__look_begin(void);
void lu__look_end(void);
/* True if some thread may be looking, so that memory freed before must not be unmapped. */
bool lu__look_is_on(void);

/* ---- a look at all runs (walk.c) */

/* Looks at a run of whatever kind, under lu__span_lock; returns the effort: 1 for a short look, 64
 * for one of some ten microseconds. */
typedef unsigned lu__run_visit_fn(const struct span *run, void *arg);
/* Visit all runs, in order of address in each region; `between` is called now and then, and after
 * the last run, without the lock. Other threads change runs meanwhile. */
void lu__run_walk(lu__run_visit_fn *visit, void (*between)(void *arg), void *arg);
/* In the child of fork. */
void lu__walk_fork_child(void);

/* ---- regions (region.c); under lu__span_lock. */

/* Fresh slices from the top of a region. The slices between the top and the first of them were
 * passed over for the alignment, and are mapped or not. */
struct lu__fresh {
    struct region *region;
    uint32_t slice, skipped;
    bool hole;
};
/* Take `slices`, aligned. `may_skip` says if so many slices that are passed over may be a hole.
 * False: no memory. */
bool lu__region_extend(size_t slices, size_t align_slices, bool (*may_skip)(size_t slices),
                       struct lu__fresh *fresh);
/* Map a part of a hole again. 0 or an errno value: EEXIST, another mapping is there. */
int lu__region_fill(struct span *head, size_t slices) LU_MUST_CHECK;
/* The top comes down to `slice`: between them is a hole that ends at the top, and the marks of its
 * slices are cleared. What was mapped behind the top in advance goes back; false, with nothing
 * done, if the kernel refuses that. */
bool lu__region_lower(struct region *region, size_t slice) LU_MUST_CHECK;
/* Give back what was mapped in advance beyond `keep` bytes. Returns how much that was. */
size_t lu__region_trim(size_t keep);
/* In a child of fork whose parent may have been changing the region: nothing is mapped in advance
 * from now on. */
void lu__region_settle(struct region *region);

#endif
