/*
 * classic.h - the classic allocators behind one interface.
 *
 * A *policy* is an algorithm with its structures (kr.c, buddy.c …): one `struct lu__policy`, a
 * table of functions. A *classic heap* is one instance of it on an area (area.h). Whoever uses
 * heaps calls the functions lu__classic_… below; they look after what all policies have in common
 * (limits of sizes, copying resizes, statistics, what was asked for) and call the table.
 *
 *     tools, tests, preload.c         lu__classic_alloc(heap, bytes)
 *     classic.c                            heap->policy->alloc(heap, bytes)
 *     kr.c fit.c buddy.c …                      lu__area_sbrk(&heap->area, …)
 *     area.c                                         the kernel
 *
 * Words: a *block* is a piece of the area with whatever header it has; its *payload* is what the
 * caller gets, aligned to LU_CLASSIC_ALIGN; *asked* is what the caller wanted of it; *held* is what
 * the area took from the system. Internal fragmentation is 1 - asked / bytes of used blocks;
 * external fragmentation is 1 - largest free block / bytes of free blocks (0 without any).
 *
 * Threads: the policies whose `threaded` is false are called by one thread at a time; callers
 * see to that. Nothing here calls malloc, sets errno or ends the process, but the misuse handler.
 */
#ifndef LU_CLASSIC_H
#define LU_CLASSIC_H

#include "classic/area.h"

#define LU_CLASSIC_ALIGN ((size_t)16)

struct lu__classic;

/* What a policy is made with; zero is the default of everything. */
struct lu__classic_config {
    size_t limit_bytes;    /* of the area; 0: 64 GiB, and for a process all there is         */
    bool of_process;       /* on the process's own break and mappings                        */
    bool tracked;          /* remember what was asked for each block (statistics and walks)  */
    size_t step_bytes;     /* kr, first … worst: least rise of the break; 0: their own       */
    size_t top_pad;        /* dl, pt: more than needed at each rise; 0: 128 KiB              */
    size_t trim_threshold; /* dl, pt: a top above is given back; 0: 128 KiB                  */
    size_t mmap_threshold; /* dl, pt: at and above in a mapping; 0: dl 256 KiB, pt 128 KiB   */
    unsigned arenas;       /* pt: at most; 0: 8 for each processor                           */
    /* Called when a policy finds misuse or damage; it may return if the caller of the policy can
     * live with a call that did nothing. NULL: print a line and abort. */
    void (*misuse)(void *arg, const struct lu__classic *heap, const char *what, const void *block);
    void *misuse_arg;
};

enum lu__block_state {
    LU_BLOCK_USED,   /* the caller's                                                          */
    LU_BLOCK_FREE,   /* to be handed out, split and merged                                    */
    LU_BLOCK_CACHED, /* free for the caller, but set aside for the next call of its size
                        (tcache, fast bin, magazine, constructed object)                      */
    LU_BLOCK_TOP,    /* the free end below the break ("wilderness", "top")                    */
    LU_BLOCK_META    /* the allocator's own: arena, slab, fence                               */
};

struct lu__block {
    uintptr_t start; /* with its header                                                       */
    size_t bytes;    /* with its header: the next block begins at start + bytes               */
    size_t header;   /* bytes before the payload                                              */
    size_t usable;   /* bytes that the caller may write, of a used block; else 0              */
    size_t asked;    /* by the caller, of a used block in a tracked heap; else 0              */
    enum lu__block_state state;
    bool mapped; /* in a mapping, not below the break                                         */
};
/* False ends the walk. */
typedef bool lu__block_visit(void *arg, const struct lu__block *block);

/* Events since the heap was made. */
struct lu__classic_counters {
    uint64_t allocs, frees, resizes; /* calls that succeeded                                   */
    uint64_t failures;               /* calls that did not                                     */
    uint64_t searches;               /* free blocks (bins, slabs …) looked at for an alloc     */
    uint64_t free_steps;             /* blocks passed to find the place of one that becomes free */
    uint64_t splits, merges;         /* blocks cut in two; neighbours that became one          */
};

struct lu__classic_stats {
    struct lu__classic_counters counters;
    uint64_t break_moves, maps, unmaps;     /* system calls for memory, by kind               */
    size_t held, peak_held, broken, mapped; /* bytes                                          */
    size_t used_blocks, used_bytes;         /* with headers                                   */
    size_t usable_bytes;                    /* that callers may write                         */
    size_t asked_bytes;                     /* of used blocks; 0 if not tracked               */
    size_t free_blocks, free_bytes;         /* FREE, CACHED and TOP                           */
    size_t largest_free, cached_bytes, meta_bytes;
    double internal, external; /* fragmentation, 0 to 1; internal of usable bytes
                                                if not tracked                                 */
};

/* What can be changed in a running heap, as by mallopt(3); bytes. */
enum lu__classic_tunable { LU_TUNE_MMAP_THRESHOLD, LU_TUNE_TRIM_THRESHOLD, LU_TUNE_TOP_PAD };

/* What validate found. */
struct lu__classic_fault {
    const char *what; /* a constant text */
    uintptr_t where;
};

/*
 * The table of a policy. `self` is what `state_bytes` of zeroed memory were made for, with struct
 * lu__classic at its beginning. Functions that may be NULL say so.
 */
struct lu__policy {
    const char *name;   /* "kr": what -a takes                       */
    const char *title;  /* "Kernighan & Ritchie", in one line         */
    const char *source; /* author, title, year                        */
    size_t state_bytes; /* of its struct                              */
    size_t align;       /* of every payload; at least 16              */
    bool threaded;      /* has its own locks                          */
    bool linear;        /* alloc or free may pass every free block    */

    /* The area and the config are ready; nothing need be taken yet. False: no memory. */
    bool (*init)(struct lu__classic *self) LU_MUST_CHECK;
    void (*fini)(struct lu__classic *self); /* NULL: nothing beside the area             */

    /* `bytes` is from 1 to PTRDIFF_MAX - 64 KiB. NULL: no memory. */
    void *(*alloc)(struct lu__classic *self, size_t bytes);
    /* `align` is a power of two above policy->align, at most a quarter of the address space; what
     * it gives is freed like any other. */
    void *(*alloc_aligned)(struct lu__classic *self, size_t align, size_t bytes);
    void (*free)(struct lu__classic *self, void *payload);
    /* A payload of at least `bytes` with the old contents where the policy can do that better than
     * by alloc, copy and free: in place, or by moving pages. NULL: it cannot; nothing was
     * changed. The function itself may be NULL. */
    void *(*resize)(struct lu__classic *self, void *payload, size_t bytes);
    /* 0 if the policy can see that it is no payload of a block in use. */
    size_t (*usable_size)(const struct lu__classic *self, const void *payload);
    /* True if a payload that alloc just gave is known to read as zero. NULL: never. */
    bool (*is_zero)(const struct lu__classic *self, const void *payload, size_t bytes);

    /* Visit every block in address order: together they are all that the area holds, without gap
     * or overlap. No `asked`: classic.c fills that in. The heap must be sound, and not change. */
    void (*walk)(struct lu__classic *self, lu__block_visit *visit, void *arg);
    /* Check every invariant; true if all hold. Must not fault on damage that a user's overflow by
     * some bytes can cause. */
    bool (*validate)(struct lu__classic *self, struct lu__classic_fault *fault);

    /* All may be NULL. Give free memory back to the system as far as that can be done. */
    void (*trim)(struct lu__classic *self);
    /* Change a number that the config set, and keep it where it is from then on. */
    void (*tune)(struct lu__classic *self, enum lu__classic_tunable which, size_t bytes);
    /* The calling thread (lu__classic_set_thread's, if simulated) ends: its caches go back. */
    void (*thread_end)(struct lu__classic *self);
    /* Around fork: take all locks; release them in the parent; make them free in the child. */
    void (*fork_prepare)(struct lu__classic *self);
    void (*fork_parent)(struct lu__classic *self);
    void (*fork_child)(struct lu__classic *self);
};

/* The head of every instance. Policies read `area`, `config` and `thread`, and count. */
struct lu__classic {
    const struct lu__policy *policy;
    struct lu__area area;
    struct lu__classic_config config;
    /* Counted by the policies: searches, free_steps, splits, merges (relaxed atomics where
     * threaded). */
    struct lu__classic_counters counters;
    unsigned thread;         /* number of the simulated thread that calls, from 0 */
    struct lu__asked *asked; /* of a tracked heap (asked.h)                       */
};

#define LU_COUNT(heap, what, n) \
    ((void)__atomic_fetch_add(&(heap)->counters.what, (uint64_t)(n), __ATOMIC_RELAXED))

/* ---- for users ---- */

/* All policies, ended by NULL; in the order in which the book tells them. */
extern const struct lu__policy *const lu__policies[];
/* NULL: no such name. */
const struct lu__policy *lu__policy_find(const char *name);

/* A new heap; `config` NULL: defaults. NULL: no memory. The caller destroys it. */
struct lu__classic *lu__classic_create(const struct lu__policy *policy,
                                       const struct lu__classic_config *config);
void lu__classic_destroy(struct lu__classic *heap);

/* A payload of at least `bytes`, 0 counting as 1; NULL: no memory, or too much. */
void *lu__classic_alloc(struct lu__classic *heap, size_t bytes);
/* The same, reading as zero. */
void *lu__classic_alloc_zeroed(struct lu__classic *heap, size_t bytes);
/* The same at a multiple of `align`, a power of two. */
void *lu__classic_alloc_aligned(struct lu__classic *heap, size_t align, size_t bytes);
/* NULL is nothing. */
void lu__classic_free(struct lu__classic *heap, void *payload);
/* As realloc(3), but that 0 bytes count as 1; NULL: `payload` is as it was. */
void *lu__classic_resize(struct lu__classic *heap, void *payload, size_t bytes);
/* Bytes that may be written from `payload` on; 0 for NULL. */
size_t lu__classic_usable_size(const struct lu__classic *heap, const void *payload);

void lu__classic_walk(struct lu__classic *heap, lu__block_visit *visit, void *arg);
/* The policy's own invariants, and those of all: blocks tile what is held, payloads are aligned,
 * used blocks hold what was asked. */
bool lu__classic_validate(struct lu__classic *heap, struct lu__classic_fault *fault);
/* Walks the heap. */
void lu__classic_stats(struct lu__classic *heap, struct lu__classic_stats *stats);
void lu__classic_trim(struct lu__classic *heap);
/* False: the policy has no such number. */
bool lu__classic_tune(struct lu__classic *heap, enum lu__classic_tunable which, size_t bytes);

/* A simulation of threads: who makes the calls that follow; and that this one ends. */
void lu__classic_set_thread(struct lu__classic *heap, unsigned thread);
void lu__classic_thread_end(struct lu__classic *heap);

void lu__classic_fork_prepare(struct lu__classic *heap);
void lu__classic_fork_parent(struct lu__classic *heap);
void lu__classic_fork_child(struct lu__classic *heap);

/* ---- for policies ---- */

/* Tell of misuse or damage: config.misuse, or a line "lucid: NAME: WHAT: block 0x…" and abort. */
void lu__classic_misuse(const struct lu__classic *heap, const char *what, const void *block);
/* Memory for a policy's own tables, outside the area and not counted; zeroed whole pages. */
void *lu__classic_meta_alloc(size_t bytes);
void lu__classic_meta_free(void *at, size_t bytes);

extern const struct lu__policy lu__policy_kr, lu__policy_first, lu__policy_next, lu__policy_best,
    lu__policy_best_tree, lu__policy_worst, lu__policy_buddy, lu__policy_slab, lu__policy_dl,
    lu__policy_pt;

#endif
