/*
 * preload.c - a classic allocator as a library to preload: the names of glibc's malloc.o, all of
 * them, over one classic heap on the process's own break and mappings.
 *
 *     program --> malloc, __libc_malloc …     the rules of C, POSIX and glibc: this file
 *                        |
 *                   enter / leave             one lock, unless the policy has its own
 *                        |
 *                   lu__classic_alloc …       classic.c, and the one policy LU_POLICY
 *
 * Compiled once for each policy. The heap is made by the first call, which may come before any
 * constructor; it takes its memory from the kernel, so nothing goes round in a circle. What might
 * allocate waits: pthread_atfork for the constructor, pthread_setspecific until the thread is
 * marked as known and no lock is held.
 *
 * A call that comes while the same thread is in the middle of another one (out of a signal handler,
 * or out of the making of the heap) cannot be served by a policy without locks of its own: it finds
 * no memory, and what it frees is lost.
 *
 * Threads: a policy with caches is told when a thread ends, by a key's destructor. What the thread
 * still does afterwards, in destructors that run later, is done under the lock, and followed by
 * another such message, so that no cache is left behind.
 *
 * Fork: all locks are taken before and given back after, in the parent and in the child. libc's
 * lock of its list of streams comes first, as it does when libc forks on its own malloc: who holds
 * it may want memory. The library is initialised before all others (initfirst), so its handler is
 * the last before a fork, and no other one allocates while the locks are held.
 *
 * A program that moves the break itself (sbrk) takes it from the heap: area.c sees that, and what
 * the policy cannot have elsewhere is NULL with ENOMEM from then on.
 *
 * Where manuals leave a choice this is as src/api/malloc.c.
 */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>

#include "classic/classic.h"
#include "classic/preload.h"

#ifndef LU_POLICY
#error "compile with -DLU_POLICY=lu__policy_NAME"
#endif

#define EXPORT __attribute__((visibility("default")))
#if __has_attribute(copy)
#define ALIAS(target) __attribute__((alias(#target), visibility("default"), copy(target)))
#else
#define ALIAS(target) __attribute__((alias(#target), visibility("default")))
#endif

static const struct lu__policy *const policy = &LU_POLICY;

static struct lu__lock lock; /* of the making; of every call if the policy is not threaded */
static struct lu__classic *the_heap; /* atomic; NULL until it is made                          */
static pthread_key_t end_key;        /* of a threaded policy                                   */
static bool has_end_key;             /* it fails at 1024 keys: then caches stay                */
static size_t threads;               /* known and not gone; under the lock                     */

static __thread struct {
    bool known; /* the key is set               */
    bool gone;  /* the key's destructor has run */
} self __attribute__((tls_model("initial-exec")));

/* ---------------------------------------------------------------- a call's begin and end */

/* False: this thread holds it already. */
static bool take_lock(void) {
    if (LU_LIKELY(lu__lock_try(&lock))) return true;
    if (lu__lock_is_mine(&lock)) return false;
    lu__lock_acquire(&lock);
    return true;
}

static void thread_ends(void *unused) {
    (void)unused;
    lu__classic_thread_end(the_heap);
    lu__lock_acquire(&lock);
    self.gone = true;
    threads--;
    lu__lock_release(&lock);
}

static LU_COLD struct lu__classic *make_heap(void) {
    static const struct lu__classic_config config = {.of_process = true};
    if (!take_lock()) return NULL;
    struct lu__classic *heap = the_heap;
    if (heap == NULL) {
        heap = lu__classic_create(policy, &config);
        if (heap != NULL && policy->threaded) {
            has_end_key = pthread_key_create(&end_key, thread_ends) == 0;
        }
        __atomic_store_n(&the_heap, heap, __ATOMIC_RELEASE);
    }
    lu__lock_release(&lock);
    return heap;
}

static LU_COLD bool know_thread(struct lu__classic *heap) {
    int saved = errno;
    if (!take_lock()) return false;
    self.known = true;
    threads++;
    lu__lock_release(&lock);
    if (has_end_key) (void)pthread_setspecific(end_key, heap);
    errno = saved;
    return true;
}

/* The heap, for one call of this thread; NULL if there is none. */
static struct lu__classic *enter(void) {
    struct lu__classic *heap = __atomic_load_n(&the_heap, __ATOMIC_ACQUIRE);
    if (LU_UNLIKELY(heap == NULL) && (heap = make_heap()) == NULL) return NULL;
    if (policy->threaded && LU_LIKELY(!self.gone)) {
        return LU_LIKELY(self.known) || know_thread(heap) ? heap : NULL;
    }
    return take_lock() ? heap : NULL;
}

static void leave(struct lu__classic *heap) {
    if (policy->threaded) {
        if (LU_LIKELY(!self.gone)) return;
        lu__classic_thread_end(heap);
    }
    lu__lock_release(&lock);
}

/* ---------------------------------------------------------------- start and fork */

/* Of glibc, for its own fork. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

static bool in_a_call; /* fork came out of a signal handler in the middle of a call */

static void fork_prepare(void) {
    if (_IO_list_lock != NULL) _IO_list_lock();
    bool mine = !take_lock();
    in_a_call = mine;
    if (policy->threaded && the_heap != NULL) lu__classic_fork_prepare(the_heap);
}

static void fork_parent(void) {
    if (policy->threaded && the_heap != NULL) lu__classic_fork_parent(the_heap);
    if (!in_a_call) lu__lock_release(&lock);
    if (_IO_list_unlock != NULL) _IO_list_unlock();
}

static void fork_child(void) {
    if (policy->threaded && the_heap != NULL) lu__classic_fork_child(the_heap);
    threads = self.known && !self.gone;
    if (!in_a_call) lu__lock_reset(&lock);
    if (_IO_list_resetlock != NULL) _IO_list_resetlock();
}

__attribute__((constructor(101))) static void at_load(void) {
    (void)pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* ---------------------------------------------------------------- plain */

static LU_COLD void *fail(int error) {
    errno = error;
    return NULL;
}

static void *allocate(size_t size) {
    struct lu__classic *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return fail(ENOMEM);
    void *block = lu__classic_alloc(heap, size);
    leave(heap);
    return LU_LIKELY(block != NULL) ? block : fail(ENOMEM);
}

static void *allocate_zeroed(size_t size) {
    struct lu__classic *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return fail(ENOMEM);
    void *block = lu__classic_alloc_zeroed(heap, size);
    leave(heap);
    return LU_LIKELY(block != NULL) ? block : fail(ENOMEM);
}

/* `align` is a power of two. errno stays as it is. */
static void *allocate_aligned(size_t align, size_t size) {
    struct lu__classic *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return NULL;
    void *block = lu__classic_alloc_aligned(heap, align, size);
    leave(heap);
    return block;
}

static void release(void *block) {
    if (block == NULL) return;
    struct lu__classic *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return;
    lu__classic_free(heap, block);
    leave(heap);
}

static void *resize(void *block, size_t size) {
    if (block == NULL) return allocate(size);
    if (size == 0) {
        release(block);
        return NULL;
    }
    struct lu__classic *heap = enter();
    if (LU_UNLIKELY(heap == NULL)) return fail(ENOMEM);
    void *now = lu__classic_resize(heap, block, size);
    leave(heap);
    return LU_LIKELY(now != NULL) ? now : fail(ENOMEM);
}

EXPORT void *malloc(size_t size) {
    return allocate(size);
}

EXPORT void *calloc(size_t count, size_t size) {
    size_t total;
    if (LU_UNLIKELY(__builtin_mul_overflow(count, size, &total))) return fail(ENOMEM);
    return allocate_zeroed(total);
}

EXPORT void free(void *block) {
    release(block);
}

EXPORT void *realloc(void *block, size_t size) {
    return resize(block, size);
}

EXPORT void *reallocarray(void *block, size_t count, size_t size) {
    size_t total;
    if (LU_UNLIKELY(__builtin_mul_overflow(count, size, &total))) return fail(ENOMEM);
    return resize(block, total);
}

/* C23: not in every libc, but where they are they must be ours. */
EXPORT void free_sized(void *block, size_t size);
EXPORT void free_sized(void *block, size_t size) {
    (void)size;
    release(block);
}

EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size);
EXPORT void free_aligned_sized(void *block, size_t alignment, size_t size) {
    (void)alignment;
    (void)size;
    release(block);
}

/* ---------------------------------------------------------------- aligned */

static void *aligned_or_fail(size_t alignment, size_t size) {
    void *block = allocate_aligned(alignment, size);
    return LU_LIKELY(block != NULL) ? block : fail(ENOMEM);
}

EXPORT void *aligned_alloc(size_t alignment, size_t size) {
    if (!lu__is_pow2(alignment)) return fail(EINVAL);
    return aligned_or_fail(alignment, size);
}

EXPORT void *memalign(size_t alignment, size_t size) {
    if (alignment > SIZE_MAX / 2 + 1) return fail(EINVAL);
    if (alignment == 0) alignment = 1;
    if (!lu__is_pow2(alignment)) alignment = (size_t)2 << lu__log2(alignment);
    return aligned_or_fail(alignment, size);
}

EXPORT int posix_memalign(void **out, size_t alignment, size_t size) {
    if (!lu__is_pow2(alignment) || alignment % sizeof(void *) != 0) return EINVAL;
    void *block = allocate_aligned(alignment, size);
    if (block == NULL) return ENOMEM;
    *out = block;
    return 0;
}

EXPORT void *valloc(size_t size) {
    return aligned_or_fail(LU_OS_PAGE, size);
}

EXPORT void *pvalloc(size_t size) {
    if (size > PTRDIFF_MAX) return fail(ENOMEM);
    return aligned_or_fail(LU_OS_PAGE, lu__align_up(size, LU_OS_PAGE));
}

/* ---------------------------------------------------------------- questions */

EXPORT size_t malloc_usable_size(void *block) {
    struct lu__classic *heap = block != NULL ? enter() : NULL;
    if (heap == NULL) return 0;
    size_t bytes = lu__classic_usable_size(heap, block);
    leave(heap);
    return bytes;
}

EXPORT int malloc_trim(size_t pad) {
    (void)pad;
    struct lu__classic *heap = enter();
    if (heap == NULL) return 0;
    size_t before = lu__area_held(&heap->area);
    lu__classic_trim(heap);
    size_t after = lu__area_held(&heap->area);
    leave(heap);
    return after < before;
}

/* The thresholds of the policies that have some: 1, or 0 for what is not known. */
EXPORT int mallopt(int parameter, int value) {
    enum lu__classic_tunable which;
    if (parameter == M_MMAP_THRESHOLD) {
        which = LU_TUNE_MMAP_THRESHOLD;
    } else if (parameter == M_TRIM_THRESHOLD) {
        which = LU_TUNE_TRIM_THRESHOLD;
    } else if (parameter == M_TOP_PAD && value >= 0) {
        which = LU_TUNE_TOP_PAD;
    } else {
        return 0;
    }
    struct lu__classic *heap = enter();
    if (heap == NULL) return 0;
    /* -1 is the largest of all, as in glibc. */
    bool known = lu__classic_tune(heap, which, value < 0 ? PTRDIFF_MAX : (size_t)value);
    leave(heap);
    return known;
}

/* A heap must hold still while it is walked. One that is threaded does while there is one thread,
 * and the lock keeps new ones away; of another only what it holds is told. */
static struct lu__preload_figures take_figures(void) {
    struct lu__preload_figures figures = {0};
    struct lu__classic *heap = enter();
    if (heap == NULL) return figures;
    bool locked = policy->threaded && !self.gone && take_lock();
    bool alone = !policy->threaded || (self.gone ? threads == 0 : locked && threads == 1);
    lu__preload_figures_read(heap, alone, &figures);
    if (locked) lu__lock_release(&lock);
    leave(heap);
    return figures;
}

EXPORT struct mallinfo2 mallinfo2(void) {
    struct lu__preload_figures figures = take_figures();
    return lu__preload_mallinfo2(&figures);
}

EXPORT struct mallinfo __libc_mallinfo(void); /* libc's header calls the other name deprecated */
EXPORT struct mallinfo __libc_mallinfo(void) {
    struct lu__preload_figures figures = take_figures();
    return lu__preload_mallinfo(&figures);
}

EXPORT void malloc_stats(void) {
    struct lu__preload_figures figures = take_figures();
    lu__preload_print(&figures, policy->name);
}

EXPORT int malloc_info(int options, FILE *stream) {
    if (options != 0) {
        errno = EINVAL;
        return -1;
    }
    struct lu__preload_figures figures = take_figures();
    lu__preload_write(&figures, policy->name, stream);
    return 0;
}

/* ---------------------------------------------------------------- more names of the same */

struct mallinfo mallinfo(void) ALIAS(__libc_mallinfo);
void cfree(void *block) ALIAS(free);
void *__libc_malloc(size_t size) ALIAS(malloc);
void *__libc_calloc(size_t count, size_t size) ALIAS(calloc);
void *__libc_realloc(void *block, size_t size) ALIAS(realloc);
void *__libc_reallocarray(void *block, size_t count, size_t size) ALIAS(reallocarray);
void __libc_free(void *block) ALIAS(free);
void __libc_cfree(void *block) ALIAS(free);
void *__libc_memalign(size_t alignment, size_t size) ALIAS(memalign);
void *__libc_valloc(size_t size) ALIAS(valloc);
void *__libc_pvalloc(size_t size) ALIAS(pvalloc);
int __posix_memalign(void **out, size_t alignment, size_t size) ALIAS(posix_memalign);
int __libc_mallopt(int parameter, int value) ALIAS(mallopt);
