/*
 * lucid.h - the public interface of the lucid memory allocator.
 *
 * The functions of malloc(3) need no header of lucid: link liblucid or preload liblucid.so, and the
 * program uses lucid's. This header declares what malloc(3) does not have: first-class heaps,
 * scopes, object caches, options, statistics, limits, stores, and a handler for misuse.
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
/* Like the functions of malloc(3) without the prefix; a block of either family may be freed by the
 * other. */

LU_API void *lu_malloc(size_t size) LU_MALLOC_LIKE LU_SIZE_IS(1);
LU_API void *lu_calloc(size_t count, size_t size) LU_MALLOC_LIKE LU_SIZE_IS(1, 2);
LU_API void *lu_realloc(void *block, size_t size) LU_SIZE_IS(2); /* size 0 frees, gives NULL */
LU_API void *lu_reallocarray(void *block, size_t count, size_t size) LU_SIZE_IS(2, 3);
LU_API void lu_free(void *block); /* NULL is fine; keeps errno */
/* free with the requested size; a size of another size class is a violation (if the program goes on
 * after it, the block is freed). */
LU_API void lu_free_sized(void *block, size_t size);
LU_API void lu_free_aligned_sized(void *block, size_t alignment, size_t size);
LU_API void *lu_aligned_alloc(size_t alignment, size_t size) LU_MALLOC_LIKE LU_SIZE_IS(2);
LU_API void *lu_memalign(size_t alignment, size_t size) LU_MALLOC_LIKE LU_SIZE_IS(2);
LU_API int lu_posix_memalign(void **out, size_t alignment, size_t size);
LU_API void *lu_valloc(size_t size) LU_MALLOC_LIKE LU_SIZE_IS(1);
LU_API void *lu_pvalloc(size_t size) LU_MALLOC_LIKE;

/* Bytes that may be used at `block`, at least the requested size; 0 for NULL. */
LU_API size_t lu_usable_size(const void *block);
/* The usable size of a block of malloc(size): a program that rounds its requests up to it wastes
 * nothing. 0 if the size is too large, and for size 0, whose block may not be used. */
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

/* Create a heap; NULL with ENOMEM, or EINVAL for unknown flags. lu_heap_destroy ends it. */
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
/* Blocks of a heap may be freed by lu_free (or free) like all others; lu_heap_free does the same,
 * and checks that the block belongs to this heap. */
LU_API void lu_heap_free(lu_heap_t *heap, void *block);

/* Called for one live block of a heap; returns false to stop the walk. No lock is held meanwhile:
 * the visitor may use all of lucid, except lu_heap_destroy on the heap that is walked, and may free
 * the block that it is given. If it is left by longjmp or an exception, the walk leaks 8 bytes for
 * each run of the heap (64 KiB and more), provided the heap has more than 64 runs. */
typedef bool lu_visit_fn(void *block, size_t usable_bytes, void *arg);
/* Visit every live block in no given order; true if no visitor stopped it. A block that lives
 * throughout is visited once. A block that is allocated, freed or resized meanwhile, by another
 * thread or by the visitor, may be visited or not, even after it was freed: so a visitor that reads
 * the blocks must know that no other thread frees them. A shared heap is locked for moments between
 * the visits. Returns false as well, with ENOMEM, if there is no memory for a list of the runs. */
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
 * pthread_exit and cancellation end the scope only in code that is compiled with -fexceptions, as
 * C++ is: there the blocks are freed. C code is compiled without it by default, and leaks the
 * blocks. */
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
 * the memory of the object leaves it. In between, the program gives lu_cache_free an object in its
 * constructed state.
 *
 * For objects of at most 4 KiB, each thread keeps free ones at hand, up to 63 of a cache and up to
 * 16 KiB, so that both calls need no lock (Bonwick and Adams, USENIX 2001). The objects at hand go
 * back to the cache when the thread ends, when it calls lu_purge, or when it uses the cache again
 * after lu_cache_reap. Only the first 255 caches that exist at a time have this. */
typedef struct lu_cache lu_cache_t;
/* Construct the object; returns 0, or an errno value with which the allocation then fails. */
typedef int lu_construct_fn(void *object, void *arg);
typedef void lu_destruct_fn(void *object, void *arg);

/* alignment 0 means that of malloc. Both functions may be NULL. NULL with EINVAL or ENOMEM. */
LU_API lu_cache_t *lu_cache_create(const char *name, size_t object_size, size_t alignment,
                                   lu_construct_fn *construct, lu_destruct_fn *destruct, void *arg);
LU_API void *lu_cache_alloc(lu_cache_t *cache);
LU_API void lu_cache_free(lu_cache_t *cache, void *object); /* NULL is fine */
/* Destroy the free objects that there are at the call, but keep `keep` of them; returns how many
 * were destroyed. The objects that other threads have at hand are neither counted nor destroyed:
 * each such thread gives them back at its next call on the cache. Destructors may use the cache,
 * and may be left by longjmp; calls nested more than 16 deep do nothing. */
LU_API size_t lu_cache_reap(lu_cache_t *cache, size_t keep);
/* Destroy the cache and every object in it, free or not: the destructor runs once for each. In a
 * destructor, lu_cache_free may be called once for each object that the program has not freed,
 * whether it was destroyed already or not; lu_cache_alloc returns NULL with EINVAL, lu_cache_reap
 * returns 0, and lu_cache_destroy does nothing. A constructor or destructor may destroy its own
 * cache. If a destructor is left by longjmp, the objects that are not yet destroyed stay as they
 * are for ever. */
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

/* What the memory that lucid holds for blocks is used for: bytes, and their sum is held_bytes.
   "Free" are free blocks, and what else of a heap's spans may be resident and holds no block. */
typedef struct lu_held {
    size_t live_small;  /* blocks of the size classes: what the program may use of them      */
    size_t live_large;  /* blocks above those, in runs of slices                             */
    size_t live_huge;   /* blocks in mappings of their own                                   */
    size_t padding;     /* around live blocks: rounding to slices, canaries, guards          */
    size_t free_active; /* free, in heaps of threads that looked at the clock, as every some
                           thousand calls do, in the last second; and of the caller          */
    size_t free_idle;   /* free, in heaps of other threads: they give nothing back meanwhile */
    size_t free_ended;  /* free, in heaps of finished threads                                */
    size_t free_user;   /* free, in lu_heaps                                                 */
    size_t waiting;     /* freed by other threads; the owner has not taken it in yet         */
    size_t quarantine;  /* freed; held back by hardened heaps                                */
    size_t free_runs;   /* whole slices that nobody uses: dirty_bytes                        */
    size_t transit;     /* what changed while it was counted; 0 if nobody else allocates     */
} lu_held_t;

typedef struct lu_stats {
    size_t live_bytes; /* in blocks that the program holds: the sum of lu_usable_size     */
    size_t live_blocks;
    size_t held_bytes;      /* memory that lucid keeps for blocks: live, free and dirty, bytes
                               that may be resident: pages never touched are not among them    */
    lu_held_t held;         /* its parts                                                       */
    size_t dirty_bytes;     /* of it: in free runs not yet returned to the system              */
    size_t returned_bytes;  /* given back to the system since the start (purged or unmapped)   */
    size_t reserved_bytes;  /* the same as committed_bytes: nothing is only reserved           */
    size_t committed_bytes; /* address space that is mapped: held, metadata and unbacked       */
    size_t metadata_bytes;  /* lucid's own tables and heaps, that may be resident              */
    size_t unbacked_bytes;  /* addresses without memory: never touched, or given back          */
    size_t peak_held_bytes; /* highest so far, lucid's own structures included                 */
    size_t large_blocks, large_bytes; /* live, above the size classes, in runs of slices       */
    size_t huge_blocks, huge_bytes;   /* live, in mappings of their own                        */
    size_t guarded_blocks, guarded_bytes; /* live samples of guard_sample: part of live_bytes,
                                             not of held_bytes                                 */
    size_t thread_heaps; /* heaps in use by threads                                         */
    size_t pooled_heaps; /* heaps of finished threads, waiting for the next                 */
    size_t os_calls;     /* system calls made for memory since the start                    */
    size_t limit_bytes;  /* 0: none                                                         */
    size_t class_count;
    lu_class_stats_t classes[LU_CLASS_MAX];
} lu_stats_t;

/* A snapshot. Exact while no other thread allocates, a close estimate otherwise; the parts of
   held_bytes add up to it in any case. All of memory is 0 before the first call that allocates, and
   where the calling thread is interrupted inside the allocator, in a signal handler or by gdb. */
LU_API void lu_stats_get(lu_stats_t *out);
/* The snapshot as JSON (schema "lucid-stats-1") into `text`, always terminated if text_bytes > 0;
   returns the length it needs without the terminator. Does not allocate. */
LU_API size_t lu_stats_json(char *text, size_t text_bytes);

/* ------------------------------------------------------------------ memory ------------------- */

/* Give back to the system all free memory that can be: that of the calling thread, of finished
 * threads and of shared heaps; other threads give back theirs at their next slow path. Returns the
 * number of bytes given back. */
LU_API size_t lu_purge(void);

/* Called when an allocation would pass the limit (also lu_heap_create): free something and return
   true to try again (at most 8 times per allocation), or return false to let it fail with NULL and
   ENOMEM. No lock is held: the function may use all of lucid, on any heap. For its own allocations
   it is not called again: they return NULL with ENOMEM where they would pass the limit. Several
   threads may call it at the same time. It should return: if it is left by longjmp or an exception,
   it counts as running until the thread meets the limit again with no more stack in use than when
   it was called. */
typedef bool lu_limit_fn(size_t wanted_bytes, size_t held_bytes, void *arg);
/* Limit the memory held, lucid's own structures included; 0 removes the limit. `reached` may be
   NULL. Returns 0.

   The limit counts the memory that can be resident: of blocks to 64 KiB the pages that were handed
   out; larger blocks in whole multiples of 64 KiB; blocks with a mapping of their own in whole
   pages; and free memory, until it goes back to the system. Pages that were never used, or went
   back, do not count (except pages that went back inside free blocks of several pages, which may be
   allocated again at any time). Before lucid refuses anything, all free memory goes back. There are
   two exceptions: the free memory of other threads' heaps, which are told to give it back and do so
   at one of their next calls; and memory that the kernel does not take, such as locked pages. With
   a limit below the memory held, allocations fail until enough is free. */
LU_API int lu_set_limit(size_t limit_bytes, lu_limit_fn *reached, void *arg);

/* ------------------------------------------------------------------ stores ------------------- */
/* Heaps over files and shared memory.
 *
 * A store is a heap whose memory and metadata lie in a file, or in memory shared with children.
 * Other processes may use it at the same time, and a process that is killed at any moment leaves it
 * consistent: the operation that was under way has happened as a whole, or not at all.
 * share/doc/lucid/docs/STORE.md tells what that covers (not a power failure), the format, and the
 * limits.
 *
 *   - A store begins at another address in each process, so its blocks refer to each other by
 *     handles: offsets that are valid for ever, 0 meaning none. Pointers are valid in this process
 *     until lu_store_close.
 *   - Blocks are aligned to 16 and belong to the store; lu_free() and lu_realloc() refuse them.
 *   - Every function may be called by any thread of any process that has the store open, and by
 *     children of fork, which inherit it. It is for one machine and one PID namespace. If a signal
 *     handler forks while it interrupts a call on a store, the child cannot use that store: there
 *     the interrupted call and all others fail with EINVAL.
 *   - Besides the errors that are named, all may fail with EINVAL (no open store, not a block of
 *     it), EDEADLK (called by a signal handler that interrupts another call), EUCLEAN (the metadata
 *     is damaged: nothing was changed, lu_store_check says more) and ENOTRECOVERABLE (the same,
 *     found while recovering from the death of another process). Misuse never aborts.
 *   - A store over a file uses one file descriptor of the process. If the program closes it, or
 *     opens another file under its number, the store can be used but cannot grow: EBADF. Other
 *     files are not touched. */
typedef struct lu_store lu_store_t;

enum {
    LU_STORE_CREATE = 1,       /* make the file if there is none                              */
    LU_STORE_SPARSE = 2,       /* grow without allocating the disk blocks: a full disk then
                                  raises SIGBUS at the first use of a page, not ENOSPC        */
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
    LU_STORE_DAMAGED,   /* its metadata contradicts itself                             */
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
   not made. If the last process that used it was killed in the middle of an operation, that
   operation is first undone. At most 64 stores can be open in a process (EMFILE). A file may be
   open in several processes, and several times in one process. The call waits while another process
   is opening the file. */
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
   stored the pointer or handle somewhere leaves a block that nothing refers to: lu_store_alloc_to
   has no such gap. */
LU_API void *lu_store_malloc(lu_store_t *store, size_t size) LU_SIZE_IS(2);
LU_API void *lu_store_calloc(lu_store_t *store, size_t count, size_t size) LU_SIZE_IS(2, 3);
/* `block` may be NULL; size 0 frees and gives NULL. On failure the block stays as it is. If the
 * block moves, the old one is freed in the same atomic operation; if it is the root, the root
 * becomes the new one. */
LU_API void *lu_store_realloc(lu_store_t *store, void *block, size_t size) LU_SIZE_IS(3);
/* 0, also for NULL; EINVAL if it is not a live block of the store (freed already, or no block).
   Freeing the root sets the root to 0. Keeps errno. */
LU_API int lu_store_free(lu_store_t *store, void *block);
/* Bytes that may be used at `block`; 0 with EINVAL if it is not a live block of the store. */
LU_API size_t lu_store_usable_size(lu_store_t *store, const void *block);

/* Allocate and write the new block's handle to *slot, or free the block whose handle *slot is and
   write 0 there: both in one atomic operation, which a kill cannot divide. `slot` is an aligned
   word inside a live block of the store (another one than the freed), or NULL for the root. The new
   block reads as zero, all of its usable bytes. 0 or an errno value as above, EINVAL for any other
   slot; freeing handle 0 does nothing. */
LU_API int lu_store_alloc_to(lu_store_t *store, uint64_t *slot, size_t size);
LU_API int lu_store_free_from(lu_store_t *store, uint64_t *slot);

/* The handle of an address inside the store, and the address of a handle. Outside of the store the
 * result is 0 or NULL with EINVAL; for NULL and 0 it is 0 and NULL without an error. Neither
 * function says whether a block is live. When another process has made a block longer, ask for its
 * address anew before you use the new end. */
LU_API uint64_t lu_store_handle(lu_store_t *store, const void *address);
LU_API void *lu_store_pointer(lu_store_t *store, uint64_t handle);
/* The root: one handle that the store keeps for the program, from which it reaches all others. 0 in
 * a new store; 0 with errno set on failure. It can be set to 0 or to the handle of a live block;
 * that returns 0 or an errno value. */
LU_API uint64_t lu_store_root(lu_store_t *store);
LU_API int lu_store_set_root(lu_store_t *store, uint64_t handle);

/* Visit every live block by address; true if no visitor stopped it. Nothing is locked during a
   visit: the visitor may use the store, close it (which ends the walk with EINVAL), or leave by
   longjmp, and others may go on. A block that is live from begin to end is visited once, a block
   that is freed before its turn is not visited, and a new block may be. If other threads or
   processes free blocks meanwhile, a block may be gone already when it is visited. Returns false
   with errno set if the store could not be walked. */
LU_API bool lu_store_walk(lu_store_t *store, lu_visit_fn *visit, void *arg);
/* Write everything to the disk and wait. 0 or an errno value; 0 at once for shared memory. After a
 * power failure the file is sound if nothing was changed since a successful sync began. Others go
 * on meanwhile; it is not known how much of what they do then reaches the disk. */
LU_API int lu_store_sync(lu_store_t *store);
/* Give the pages inside free blocks back to the file system or the kernel; bytes that were given
   back, 0 with errno set on failure. In a file their next use needs disk blocks again: a full disk
   is SIGBUS then. */
LU_API size_t lu_store_purge(lu_store_t *store);
/* Verify all metadata: every block, every list, every count. 0; EUCLEAN with the first
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
    LU_WRONG_HEAP,       /* a block given to another heap or cache                 */
    /* Found with LUCID_OPTIONS=harden or guard_sample only (share/doc/lucid/docs/HARDENING.md): */
    LU_DELETE_MISMATCH,     /* new[] without delete[], or the other way round         */
    LU_WRITE_AFTER_FREE,    /* a freed block was written to                           */
    LU_OVERFLOW,            /* memory behind the block was written to                 */
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

/* Called for every violation, before its line is printed; returns true to go on, false to print and
   abort, or with LUCID_OPTIONS=abort:0 to print and go on. If the program goes on, the call does
   what is certainly right: a live block that was passed with a wrong size or alignment, or by
   lu_heap_free to the wrong lu_heap, is freed (except a block of another single-threaded heap). Any
   other call is ignored, and damaged memory is leaked.

   Of the violations after which the program goes on, lucid prints the first of a kind at a place,
   the tenth, the hundredth and so on, with their number so far. The handler is called for all of
   them; one that writes a log can select them in the same way by `times`. (A table has room for
   some 200 places; further ones count as one. A forked child counts on. Places are told apart by
   the stack where it can be walked: with glibc 2.35 and later; `place` is NULL where lucid is
   linked into the program's own file.)

   It is called with no lock held and may use all of lucid. (In a signal handler it must not
   allocate; nothing may allocate there.) Violations that are found in the middle of a call are
   reported at its end, at most four for each call. Misuse by the handler itself is not reported to
   it. The handler should return: if it is left by longjmp or an exception, it counts as running
   until the thread commits another violation with no more stack in use than then. */
typedef bool lu_violation_fn(const lu_violation_t *violation, void *arg);
/* NULL removes the handler. */
LU_API void lu_set_violation_handler(lu_violation_fn *handler, void *arg);

/* "0.1.0" */
LU_API const char *lu_version(void);

#ifdef __cplusplus
}
#endif
#endif
