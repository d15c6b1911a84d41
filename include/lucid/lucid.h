/*
 * lucid.h - the public interface of the lucid memory allocator.
 *
 * The malloc(3) names need no header of ours: link liblucid or preload liblucid.so and they are
 * lucid's. This header adds what malloc(3) has no words for: first-class heaps, scopes, object
 * caches, options, statistics, limits and a handler for misuse.
 *
 * Conventions, unless a function says otherwise:
 *   - sizes and alignments are in bytes; alignments are powers of two;
 *   - a function that returns a pointer returns NULL with errno set (ENOMEM or EINVAL) on failure;
 *   - a function that returns int returns 0 or an errno value and leaves errno alone;
 *   - every function may be called from any thread at any time, but not from a signal handler;
 *   - the caller owns what it is given, and gives blocks back with lu_free().
 */
#ifndef LUCID_H
#define LUCID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LUCID_VERSION_MAJOR 0
#define LUCID_VERSION_MINOR 1
#define LUCID_VERSION_PATCH 0

#if defined(__GNUC__)
#define LU_API __attribute__((visibility("default")))
#define LU_MALLOC_LIKE __attribute__((malloc, warn_unused_result))
#define LU_SIZE_IS(...) __attribute__((alloc_size(__VA_ARGS__)))
#else
#define LU_API
#define LU_MALLOC_LIKE
#define LU_SIZE_IS(...)
#endif

/* ------------------------------------------------------------------ plain allocation --------- */
/* As the functions of malloc(3) without the prefix; blocks of both families are one. */

LU_API void *lu_malloc(size_t size) LU_MALLOC_LIKE LU_SIZE_IS(1);
LU_API void *lu_calloc(size_t count, size_t size) LU_MALLOC_LIKE LU_SIZE_IS(1, 2);
LU_API void *lu_realloc(void *block, size_t size) LU_SIZE_IS(2); /* size 0 frees, gives NULL */
LU_API void *lu_reallocarray(void *block, size_t count, size_t size) LU_SIZE_IS(2, 3);
LU_API void lu_free(void *block); /* NULL is fine; keeps errno */
/* free with the size that was asked for; a size of another size class is a violation (which frees
   the block, if the program goes on). */
LU_API void lu_free_sized(void *block, size_t size);
LU_API void lu_free_aligned_sized(void *block, size_t alignment, size_t size);
LU_API void *lu_aligned_alloc(size_t alignment, size_t size) LU_MALLOC_LIKE LU_SIZE_IS(2);
LU_API void *lu_memalign(size_t alignment, size_t size) LU_MALLOC_LIKE LU_SIZE_IS(2);
LU_API int lu_posix_memalign(void **out, size_t alignment, size_t size);
LU_API void *lu_valloc(size_t size) LU_MALLOC_LIKE LU_SIZE_IS(1);
LU_API void *lu_pvalloc(size_t size) LU_MALLOC_LIKE;

/* Bytes that may be used at `block`, at least what was asked for; 0 for NULL. */
LU_API size_t lu_usable_size(const void *block);
/* What lu_usable_size would say of malloc(size): round up to it to waste nothing. 0: too large,
   or size 0, of which nothing may be used. */
LU_API size_t lu_good_size(size_t size);
/* True if `address` lies in memory that lucid manages (block, free memory or metadata). */
LU_API bool lu_owns(const void *address);

/* ------------------------------------------------------------------ first-class heaps -------- */

typedef struct lu_heap lu_heap_t;

enum {
    /* Any thread may allocate and free: a lock inside. */
    LU_HEAP_SHARED = 0,
    /* The caller promises one thread at a time: no lock. */
    LU_HEAP_SINGLE_THREADED = 1
};

/* A heap of its own; NULL with ENOMEM, or EINVAL for unknown flags. Ends by lu_heap_destroy. */
LU_API lu_heap_t *lu_heap_create(unsigned flags);
/* Free every block of the heap at once, and the heap. NULL is fine. */
LU_API void lu_heap_destroy(lu_heap_t *heap);
LU_API void *lu_heap_malloc(lu_heap_t *heap, size_t size) LU_MALLOC_LIKE LU_SIZE_IS(2);
LU_API void *lu_heap_calloc(lu_heap_t *heap, size_t count, size_t size) LU_MALLOC_LIKE
    LU_SIZE_IS(2, 3);
LU_API void *lu_heap_aligned_alloc(lu_heap_t *heap, size_t alignment, size_t size) LU_MALLOC_LIKE
    LU_SIZE_IS(3);
/* Resize a block of this heap (or NULL); the result belongs to this heap. size 0 frees. */
LU_API void *lu_heap_realloc(lu_heap_t *heap, void *block, size_t size) LU_SIZE_IS(3);
/* Blocks of a heap are freed by lu_free (or free), as all others; this is the same with a check
   that the block is of this heap. */
LU_API void lu_heap_free(lu_heap_t *heap, void *block);

/* One live block of a heap; return false to stop the walk. No lock is held meanwhile: the visitor
 * may use all of lucid, and of the heap that is walked all but lu_heap_destroy; it may free the
 * block that it is given. One that is left by longjmp or an exception leaks 8 bytes for each run of
 * the heap (64 KiB and more) if it has more than 64. */
typedef bool lu_visit_fn(void *block, size_t usable_bytes, void *arg);
/* Visit every live block in no given order; true if no visitor stopped it. What lives throughout
   is visited once; what is allocated, freed or resized meanwhile, by other threads or the visitor,
   may be visited or not, and that after it was freed: so a visitor that reads its blocks must know
   that nobody frees them (but itself, the one that it is given). A shared heap is locked for
   moments between the visits. False as well, with ENOMEM, if there is no memory for a list of the
   runs. */
LU_API bool lu_heap_walk(lu_heap_t *heap, lu_visit_fn *visit, void *arg);

/* ------------------------------------------------------------------ scoped heaps ------------- */
/* What alloca gives, without its stack limit: blocks that end with a C scope.
 *
 *     void f(size_t n) {
 *         LU_SCOPE(scope);
 *         char *line = lu_scope_alloc(&scope, n);
 *         ...
 *     }                                      // every block of `scope` is freed here
 *
 * A scope is used by one thread at a time. longjmp over it leaks, as with any cleanup. Exceptions,
 * pthread_exit and cancellation end it only in code that is compiled with -fexceptions: C is not,
 * by itself, and leaks there; with it, or as C++, the blocks are freed. */
typedef struct lu_scope {
    void *chunks;     /* newest chunk of memory, linked to the older ones */
    char *next, *end; /* free part of the newest chunk                    */
} lu_scope_t;

#define LU_SCOPE_INIT \
    { NULL, NULL, NULL }
#define LU_SCOPE(name) lu_scope_t name __attribute__((cleanup(lu_scope_end))) = LU_SCOPE_INIT

/* `size` bytes aligned for any type, until the scope ends; NULL with ENOMEM. */
LU_API void *lu_scope_alloc(lu_scope_t *scope, size_t size) LU_MALLOC_LIKE LU_SIZE_IS(2);
LU_API void *lu_scope_aligned_alloc(lu_scope_t *scope, size_t alignment, size_t size) LU_MALLOC_LIKE
    LU_SIZE_IS(3);
/* Free every block now; the scope can be used again. */
LU_API void lu_scope_end(lu_scope_t *scope);

/* ------------------------------------------------------------------ object caches ------------ */
/* Bonwick's object caches (USENIX Summer 1994): objects of one type that stay constructed while
 * they are free. The constructor runs when an object first enters the cache, the destructor when
 * its memory leaves it; in between, lu_cache_free gives back an object in its constructed state.
 *
 * Each thread keeps free objects of at most 4 KiB at hand, up to 63 of a cache and 16 KiB, so that
 * both calls need no lock (Bonwick and Adams, USENIX 2001). They go back to the cache when the
 * thread ends, calls lu_purge, or calls the cache again after lu_cache_reap. The first 255 caches
 * that there are at a time have this. */
typedef struct lu_cache lu_cache_t;
/* Construct the object; 0, or an errno value that makes the allocation fail with it. */
typedef int lu_construct_fn(void *object, void *arg);
typedef void lu_destruct_fn(void *object, void *arg);

/* alignment 0 means that of malloc. Both functions may be NULL. NULL with EINVAL or ENOMEM. */
LU_API lu_cache_t *lu_cache_create(const char *name, size_t object_size, size_t alignment,
                                   lu_construct_fn *construct, lu_destruct_fn *destruct, void *arg);
LU_API void *lu_cache_alloc(lu_cache_t *cache);
LU_API void lu_cache_free(lu_cache_t *cache, void *object); /* NULL is fine */
/* Destroy the free objects beyond `keep`, no more than there are at the call; returns how many were
 * destroyed. Those that other threads have at hand are neither counted nor destroyed: they become
 * free for all at the next call that such a thread makes for the cache. Destructors may use the
 * cache, and may be left by longjmp; more than 16 calls in one another do nothing. */
LU_API size_t lu_cache_reap(lu_cache_t *cache, size_t keep);
/* Destroy the cache and every object in it, free or not: the destructor runs once for each. In
 * there, lu_cache_free is right for what the program has not freed, whether it was destroyed before
 * or will be; lu_cache_alloc gives NULL with EINVAL, lu_cache_reap 0, and lu_cache_destroy does
 * nothing. A constructor or destructor may destroy its own cache. Left by longjmp, what is not yet
 * destroyed stays as it is for ever. */
LU_API void lu_cache_destroy(lu_cache_t *cache);

/* ------------------------------------------------------------------ options ------------------ */
/* The keys of LUCID_OPTIONS=key:value,... ; `lucid options` lists them. */
typedef struct lu_option_info {
    const char *key;
    const char *summary;    /* one line                                         */
    const char *origin;     /* "default", "environment", "mallopt", "program" or "cgroup" */
    char value[32];         /* effective value, as text                         */
    char default_value[32]; /* as text                                          */
} lu_option_info_t;

/* The option number `index` (from 0); false past the last. */
LU_API bool lu_option_at(size_t index, lu_option_info_t *out);
/* 0, ENOENT for an unknown key, ERANGE if the text does not fit. */
LU_API int lu_option_get(const char *key, char *text, size_t text_bytes);
/* 0, ENOENT for an unknown key, EINVAL for a bad value, EPERM if it can only be set at start. */
LU_API int lu_option_set(const char *key, const char *value);

/* ------------------------------------------------------------------ statistics --------------- */

#define LU_CLASS_MAX 96

typedef struct lu_class_stats {
    size_t block_bytes; /* size of the blocks of this class                                  */
    size_t live_blocks; /* handed to the program and not freed                               */
    size_t free_blocks; /* carved and free, ready for reuse                                  */
    size_t spans;       /* spans that hold blocks of this class                              */
} lu_class_stats_t;

typedef struct lu_stats {
    size_t live_bytes; /* in blocks that the program holds: the sum of lu_usable_size     */
    size_t live_blocks;
    size_t held_bytes;      /* memory that lucid keeps for blocks: live, free and dirty, bytes
                               that may be resident: pages never touched are not among them    */
    size_t dirty_bytes;     /* of it: in free runs not yet returned to the system              */
    size_t returned_bytes;  /* given back to the system since the start (purged or unmapped)   */
    size_t reserved_bytes;  /* the same as committed_bytes: nothing is only reserved           */
    size_t committed_bytes; /* address space that is mapped                                    */
    size_t metadata_bytes;  /* lucid's own tables and heaps, that may be resident              */
    size_t peak_held_bytes; /* highest so far, lucid's own structures included                 */
    size_t large_blocks, large_bytes; /* live, above the size classes, in runs of slices       */
    size_t huge_blocks, huge_bytes;   /* live, in mappings of their own                        */
    size_t thread_heaps; /* heaps in use by threads                                         */
    size_t pooled_heaps; /* heaps of finished threads, waiting for the next                 */
    size_t os_calls;     /* system calls made for memory since the start                    */
    size_t limit_bytes;  /* 0: none                                                         */
    size_t class_count;
    lu_class_stats_t classes[LU_CLASS_MAX];
} lu_stats_t;

/* A snapshot. Exact while no other thread allocates, a close estimate otherwise. */
LU_API void lu_stats_get(lu_stats_t *out);
/* The snapshot as JSON (schema "lucid-stats-1") into `text`, always terminated if text_bytes > 0;
   returns the length it needs without the terminator. Does not allocate. */
LU_API size_t lu_stats_json(char *text, size_t text_bytes);

/* ------------------------------------------------------------------ memory ------------------- */

/* Give all free memory that can be given back to the system: the caller's, that of finished
   threads and the shared; other threads do their part at their next slow path. Bytes returned. */
LU_API size_t lu_purge(void);

/* Called when an allocation would pass the limit (also lu_heap_create): free something and return
   true to try again (at most 8 times per allocation), or return false to let it fail with NULL and
   ENOMEM. No lock is held: it may use all of lucid, on any heap. What it allocates itself gets no
   such call, but NULL with ENOMEM where that would pass the limit. Other threads may be in it at
   the same time. It is to return: one that is left by longjmp or an exception counts as running
   until the thread, with no more stack in use than when it was called, meets the limit again. */
typedef bool lu_limit_fn(size_t wanted_bytes, size_t held_bytes, void *arg);
/* Limit the memory held, lucid's own structures included; 0 removes the limit. `reached` may be
   NULL. Returns 0.

   What counts is what can be resident: of blocks to 64 KiB the pages that were handed out, larger
   ones by whole 64 KiB, those with a mapping of their own by whole pages; free memory, until it
   goes back to the system. Pages that were never used, or went back, do not (but those that went
   back inside free blocks of several pages, which may be taken again at any time). Nothing is
   refused before all that is free went back, but for what other threads' heaps keep: those are
   asked for it, and do their part at one of their next calls; and what the kernel does not take,
   such as locked memory. A limit below what is held refuses until enough is free. */
LU_API int lu_set_limit(size_t limit_bytes, lu_limit_fn *reached, void *arg);

/* ------------------------------------------------------------------ stores ------------------- */
/* Heaps over files and shared memory.
 *
 * A store is a heap whose memory and whose bookkeeping lie in a file, or in memory shared with
 * children. Other processes may use it at the same time, and a process that is killed at any moment
 * leaves it in order: an operation that it was in has happened, or has not. docs/STORE.md tells
 * what that covers (not a power failure), the format, and the limits.
 *
 *   - A store begins at another address in each process, so what lies in it refers to other blocks
 *     by handles: offsets that are valid for ever, 0 meaning none. Pointers are good in this
 *     process until lu_store_close.
 *   - Blocks are aligned to 16 and belong to the store; lu_free() and lu_realloc() refuse them.
 *   - Every function may be called by any thread of any process that has the store open, and by
 *     children of fork, which inherit it. It is for one machine and one PID namespace. Only a child
 *     that is forked by a signal handler above a call of a store has that store no more: there the
 *     interrupted call and all others fail with EINVAL.
 *   - Besides the errors that are named, all may fail with EINVAL (no open store, not a block of
 *     it), EDEADLK (called by a signal handler above another call), EUCLEAN (its bookkeeping is
 *     damaged: nothing was changed, lu_store_check says more) and ENOTRECOVERABLE (the same, found
 *     while recovering from the death of another process). Misuse never aborts.
 *   - A file's descriptor is one of the program's. If the program closes it, or puts another file
 *     there, the store can be used but cannot grow: EBADF. Other files are not touched. */
typedef struct lu_store lu_store_t;

enum {
    LU_STORE_CREATE = 1,       /* make the file if there is none                              */
    LU_STORE_SPARSE = 2,       /* grow without having the disk blocks set aside: a full disk is
                                  then SIGBUS on the first use of a page, not ENOSPC          */
    LU_STORE_SAME_ADDRESS = 4, /* refuse to open at another address than that of the creation:
                                  for those who keep pointers in the store                    */
    LU_STORE_VERIFY = 8        /* lu_store_check as part of opening                           */
};

typedef struct lu_store_config {
    unsigned flags;     /* LU_STORE_*                                                         */
    unsigned mode;      /* of a new file: of 0777, less the umask; 0 stands for 0600          */
    size_t limit_bytes; /* how large the store may get in this process, rounded up to 64 KiB:
                           address space is reserved for it. 0: 1 TiB, halved until there is
                           room                                                               */
    void *address;      /* where a new store shall begin, a multiple of 64 KiB; NULL: a place
                           that is seldom in use. A wish, unless LU_STORE_SAME_ADDRESS is set */
} lu_store_config_t;

/* Why a store was refused. */
typedef enum lu_store_reason {
    LU_STORE_FINE,
    LU_STORE_SYSTEM,    /* a system call failed, see `error`                           */
    LU_STORE_USAGE,     /* wrong arguments                                             */
    LU_STORE_NOT_FILE,  /* a directory, a pipe, a device                               */
    LU_STORE_FOREIGN,   /* not a store: wrong magic number, or empty                   */
    LU_STORE_VERSION,   /* a store of another version                                  */
    LU_STORE_LAYOUT,    /* byte order, page size or structures of another kind of lucid */
    LU_STORE_TRUNCATED, /* the file is shorter than the store in it                    */
    LU_STORE_SIZE,      /* the file is longer than the store in it                     */
    LU_STORE_DAMAGED,   /* its bookkeeping contradicts itself                          */
    LU_STORE_ADDRESS,   /* LU_STORE_SAME_ADDRESS, and the place is taken               */
    LU_STORE_LIMIT      /* larger than limit_bytes or than the address space has room  */
} lu_store_reason_t;

typedef struct lu_store_fault {
    lu_store_reason_t reason;
    int error;       /* errno value that goes with it                                    */
    uint64_t offset; /* byte of the file that it is about, or 0                          */
    uint64_t found;
    uint64_t expected;
    char text[160]; /* one line without newline: what, where, found and expected         */
} lu_store_fault_t;

/* Open a heap in the file `path`; `config` NULL stands for LU_STORE_CREATE alone. The caller owns
   the result and ends it with lu_store_close. NULL with errno set, and the reason in `fault` (which
   may be NULL), if it cannot be opened; the file is then as it was, and one that was not there is
   not made. If its last user was killed in the middle of something, that is put in order first. At
   most 64 stores are open in a process (EMFILE). Several processes, and one process several times,
   may open a file at once. Waits while another process is opening it. */
LU_API lu_store_t *lu_heap_open_file(const char *path, const lu_store_config_t *config,
                                     lu_store_fault_t *fault);
/* A heap in anonymous shared memory, for this process and the children that it forks from now on.
   Of the flags only LU_STORE_SAME_ADDRESS has a meaning. Its memory is free when the last process
   has closed it or ended. */
LU_API lu_store_t *lu_heap_open_shared(const lu_store_config_t *config, lu_store_fault_t *fault);
/* Close it in this process. 0; EINVAL or EDEADLK, and then it stays open. No other thread of the
   process may be using it. Blocks stay in the file. */
LU_API int lu_store_close(lu_store_t *store);

/* As malloc(3): at least `size` bytes; NULL with ENOMEM (limit reached, or size beyond it), ENOSPC
   (disk full), EFBIG, EDQUOT or EBADF (file cannot grow). A process that is killed before it has
   stored the pointer or handle somewhere leaves a block that nobody knows: lu_store_alloc_to has no
   such gap. */
LU_API void *lu_store_malloc(lu_store_t *store, size_t size) LU_SIZE_IS(2);
LU_API void *lu_store_calloc(lu_store_t *store, size_t count, size_t size) LU_SIZE_IS(2, 3);
/* `block` may be NULL; size 0 frees and gives NULL. On failure the block stays as it is. If it
   moves, the old one ends in the same instant; if it is the root, the root follows. */
LU_API void *lu_store_realloc(lu_store_t *store, void *block, size_t size) LU_SIZE_IS(3);
/* 0, also for NULL; EINVAL if it is not a live block of the store (freed already, or no block).
   Freeing the root sets the root to 0. Keeps errno. */
LU_API int lu_store_free(lu_store_t *store, void *block);
/* Bytes that may be used at `block`; 0 with EINVAL if it is not a live block of the store. */
LU_API size_t lu_store_usable_size(lu_store_t *store, const void *block);

/* Allocate and write the new block's handle to *slot, or free the block whose handle *slot is and
   write 0 there: both at one instant, so that no death can come between. `slot` is an aligned word
   inside a live block of the store (another one than the freed), or NULL for the root. The new
   block reads as zero, all of its usable bytes. 0 or an errno value as above, EINVAL for any other
   slot; freeing handle 0 does nothing. */
LU_API int lu_store_alloc_to(lu_store_t *store, uint64_t *slot, size_t size);
LU_API int lu_store_free_from(lu_store_t *store, uint64_t *slot);

/* Handle of an address inside the store, and the way back; 0 and NULL for what lies outside (and
   for NULL and 0), with EINVAL unless it was NULL or 0. Neither says whether a block is live. The
   end of a block that another process has made longer may be used after asking for it anew. */
LU_API uint64_t lu_store_handle(lu_store_t *store, const void *address);
LU_API void *lu_store_pointer(lu_store_t *store, uint64_t handle);
/* One handle that is kept for the program: where to begin. 0 in a new store; 0 with errno set on
   failure. Setting takes 0 or the handle of a live block; 0 or an errno value. */
LU_API uint64_t lu_store_root(lu_store_t *store);
LU_API int lu_store_set_root(lu_store_t *store, uint64_t handle);

/* Visit every live block by address; true if no visitor stopped it. Nothing is locked during a
   visit: the visitor may use the store, close it (which ends the walk with EINVAL), or leave by
   longjmp, and others may go on. What is live from begin to end is visited once, what is freed
   before its turn is not, and what is new may be. Where others free blocks meanwhile, a visited one
   may be gone already. False with errno set if it could not be walked. */
LU_API bool lu_store_walk(lu_store_t *store, lu_visit_fn *visit, void *arg);
/* Write everything to the disk and wait. 0 or an errno value; 0 at once for shared memory. After a
   power failure the file is sound if nothing was changed since the begin of a sync that succeeded.
   Others go on meanwhile; how much of what they do then is on the disk nobody knows. */
LU_API int lu_store_sync(lu_store_t *store);
/* Give the pages inside free blocks back to the file system or the kernel; bytes that were given
   back, 0 with errno set on failure. In a file their next use needs disk blocks again: a full disk
   is SIGBUS then. */
LU_API size_t lu_store_purge(lu_store_t *store);
/* Verify the whole bookkeeping: every block, every list, every count. 0; EUCLEAN with the first
   contradiction in `fault` (which may be NULL); another errno value if it could not be done. Others
   wait until it ends. Reads all headers, so it takes about 20 ns per block, and more where pages
   must come from the disk. */
LU_API int lu_store_check(lu_store_t *store, lu_store_fault_t *fault);

typedef struct lu_store_info {
    void *address;      /* where it begins in this process                                    */
    size_t size_bytes;  /* of the file, or of the part of shared memory that is in use        */
    size_t limit_bytes; /* how large it may get in this process                               */
    size_t live_bytes;  /* in live blocks, by usable size                                     */
    size_t live_blocks;
    size_t recoveries; /* operations of killed processes that were undone, since creation    */
    bool moved;        /* it lies at another address than at its creation                    */
    bool shared;       /* anonymous, not a file                                              */
} lu_store_info_t;
LU_API int lu_store_info(lu_store_t *store, lu_store_info_t *out);

/* ------------------------------------------------------------------ violations --------------- */

typedef enum lu_violation_kind {
    LU_DOUBLE_FREE,      /* the block is free already                              */
    LU_FOREIGN_POINTER,  /* not memory of lucid: stack, static, another allocator  */
    LU_WILD_POINTER,     /* inside lucid's memory where no live block is           */
    LU_INTERIOR_POINTER, /* inside a block, not at its start                       */
    LU_CORRUPT_LINK,     /* a free block was written to: its link is damaged       */
    LU_SIZE_MISMATCH,    /* sized free or delete with a size of another class      */
    LU_ALIGN_MISMATCH,   /* aligned sized free of a block without that alignment   */
    LU_WRONG_HEAP,       /* a block given to a heap or cache it is not of          */
    /* Found with LUCID_OPTIONS=harden or guard_sample only (docs/HARDENING.md): */
    LU_DELETE_MISMATCH,     /* new[] without delete[], or the other way round         */
    LU_WRITE_AFTER_FREE,    /* a freed block is no longer as it was left              */
    LU_OVERFLOW,            /* what lies behind the block was written to              */
    LU_GUARD_OVERFLOW,      /* read or write beyond a sampled block, caught by the processor */
    LU_GUARD_UNDERFLOW,     /* the same in front of it                                */
    LU_GUARD_USE_AFTER_FREE /* read or write of a sampled block that is free       */
} lu_violation_kind_t;

typedef struct lu_violation {
    lu_violation_kind_t kind;
    const void *pointer; /* what the program passed, or the damaged block            */
    const char *call;    /* "free", "realloc", "malloc", ...                         */
    const void *block;   /* start of the nearest block, or NULL                      */
    size_t block_bytes;  /* its size class, or 0 where unknown                       */
    const char *message; /* the line that is printed, without its newline            */
    const void *place;   /* return address of the program's call, or NULL: unknown   */
    size_t times;        /* violations of this kind at this place, this one included */
} lu_violation_t;

/* Called for every violation, before its line is printed; returns true to go on, false to print
   and abort, or with LUCID_OPTIONS=abort:0 to print and go on. A call that goes on does what is
   right beyond doubt: a live block that was passed with a wrong size or alignment, or to the wrong
   lu_heap by lu_heap_free, is freed as what it is (but for a block of another single-threaded
   heap). Otherwise it is ignored, and what was damaged is leaked.

   Of violations that go on, lucid prints the first of a kind at a place, the tenth, the hundredth
   and so on, with how many there were. The handler is told of all: one that writes a log can do the
   same by `times`. (Of as many places as fit a table, some 200; further ones count as one. A
   forked child counts on. Places are told apart by the stack where it can be walked: with glibc
   2.35 and later; `place` is NULL where lucid is linked into the program's own file.)

   It is called with no lock held and may use all of lucid. (In a signal handler it must not
   allocate, as nothing there.) What is found in the middle of a call is told at its end, four for
   each call at most. Misuse by the handler itself is not told to it. It is to return: one that is
   left by longjmp or an exception counts as running until the thread, with no more stack in use
   than then, does wrong again. */
typedef bool lu_violation_fn(const lu_violation_t *violation, void *arg);
/* NULL removes the handler. */
LU_API void lu_set_violation_handler(lu_violation_fn *handler, void *arg);

/* "0.1.0" */
LU_API const char *lu_version(void);

#ifdef __cplusplus
}
#endif
#endif
