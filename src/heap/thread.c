/*
 * thread.c - which thread uses which heap.
 *
 *     first malloc        heap from the pool, else a new one;  lu__heap -> it
 *     thread ends         what it collected is posted, its lists go back to their spans, and the
 *                         heap goes into the pool whole: the next thread goes on with it
 *     after that          (destructors that run later) every call borrows a heap from the pool
 *     before and after    lu__heap -> LU_EMPTY_HEAP, so the fast paths hand everything over
 *
 * A slow path is entered and left by lu__thread_enter and lu__thread_leave. They mark the thread as
 * inside (os/lock.h): a signal handler that allocates above it sees the mark, takes no lock, and is
 * served by emergency.c. And they mark the heap as busy: in the child of fork, heaps that other
 * threads left busy are given up (their blocks can still be freed); the others go into the pool.
 *
 * No lock here; pool.c has the pool.
 */
#include <pthread.h>

#include "base/options.h"
#include "heap/heap.h"
#include "heap/ops.h"
#include "os/os.h"

/* No more than the fast paths read, so that what the loader writes to fits one page. */
#define FRONT(field) (offsetof(struct heap, field) / sizeof(uintptr_t))
const uintptr_t lu__empty_front[FRONT(current)] __attribute__((aligned(64))) = {
    [0 ... LU_CLASSES] = (uintptr_t)&lu__list_end,
    [FRONT(keys)... FRONT(keys) + LU_CLASSES] = LU_NO_KEY,
};
_Static_assert(offsetof(struct heap, list) == 0, "lists first");
__thread struct heap *lu__heap = LU_EMPTY_HEAP;
__thread struct heap *lu__own_heap, *lu__short_heap;
bool lu__perturbing, lu__long_ways;

static __thread bool gone __attribute__((tls_model("initial-exec"))); /* its destructor has run */
static __thread struct heap *borrowed __attribute__((tls_model("initial-exec")));
void (*lu__thread_ending)(void);
static pthread_key_t exit_key;
static bool has_exit_key; /* without, heaps of finished threads are not used again */
static uint32_t leaving;  /* atomic: threads in thread_exit */

static void thread_exit(void *unused);

void lu__thread_init(void) {
    has_exit_key = pthread_key_create(&exit_key, thread_exit) == 0; /* it fails at 1024 keys */
}

void lu__thread_fini(void) {
    if (has_exit_key) (void)pthread_key_delete(exit_key);
    __atomic_store_n(&has_exit_key, false, __ATOMIC_SEQ_CST);
    for (uint32_t seen; (seen = __atomic_load_n(&leaving, __ATOMIC_SEQ_CST)) != 0;) {
        (void)lu__os_wait(&leaving, seen);
    }
}

void lu__thread_fork_child(void) {
    leaving = gone && borrowed != NULL; /* a handler may have forked above thread_exit */
}

/* The fast paths know the first region as far as it was mapped when the thread last looked: only
 * there descriptors can be read. They stay when the memory goes, and then stand for nothing. */
void lu__heap_see_region(struct heap *heap) {
    size_t slices = __atomic_load_n(&lu__regions[0].ready, __ATOMIC_ACQUIRE);
    heap->size = slices << LU_SLICE_SHIFT; /* 0 before the first run of the process */
    heap->table = (uintptr_t)lu__regions[0].table;
    heap->base_away = -(uintptr_t)lu__regions[0].base;
}

bool lu__thread_interrupted(void) {
    const struct heap *heap = lu__own_heap; /* short ways mark only the heap */
    return lu__is_inside() || (heap != NULL && heap->busy);
}

bool lu__thread_has(const struct heap *heap) {
    return heap == lu__own_heap || heap == borrowed;
}

bool lu__thread_mark(void) {
    return !lu__thread_interrupted() && lu__inside_enter();
}

static LU_COLD void go_slow(struct heap *heap) {
    lu__heap = LU_EMPTY_HEAP;
    lu__short_heap = heap->short_ways && !lu__perturbing ? heap : NULL;
}

/* Set what the fast paths of the calling thread, whose heap it is, are to use. */
static void set_front(struct heap *heap) {
    if (LU_UNLIKELY(lu__perturbing || lu__long_ways)) return go_slow(heap);
    lu__heap = heap->fast;
}

void lu__thread_see_ways(void) {
    if (lu__own_heap != NULL) set_front(lu__own_heap);
}

/* For a thread that has none; it is inside. */
static struct heap *acquire(void) {
    struct heap *heap = lu__pool_acquire();
    if (heap == NULL || gone) return borrowed = heap;
    lu__own_heap = heap;
    set_front(heap);
    if (!has_exit_key) return heap;
    lu__heap_set_busy(heap, 0);
    lu__inside_leave();
    (void)pthread_setspecific(exit_key, heap); /* may allocate: the heap is there already */
    lu__inside_begin();
    lu__heap_set_busy(heap, 1);
    return heap;
}

static LU_COLD bool enter_rarely(struct heap **out) {
    struct heap *heap = lu__own_heap;
    if (!lu__thread_mark()) return false;
    if (heap == NULL) {
        *out = acquire();
        return true;
    }
    lu__heap_set_busy(heap, 1);
    lu__setup_ops.entered(heap);
    *out = heap;
    return true;
}

/* True if *out was entered; else it is rare. */
LU_INLINE bool enter_quickly(struct heap **out) {
    struct heap *heap = *out = lu__own_heap;
    if (LU_UNLIKELY(heap == NULL) || LU_UNLIKELY(lu__long_ways)) return false;
    if (LU_UNLIKELY(!lu__inside_enter())) return false;
    lu__heap_set_busy(heap, 1);
    return true;
}

bool lu__thread_enter_any(struct heap **out) {
    return LU_LIKELY(enter_quickly(out)) || enter_rarely(out);
}

struct heap *lu__thread_enter(void) {
    struct heap *heap;
    if (LU_LIKELY(enter_quickly(&heap))) return heap;
    if (!enter_rarely(&heap)) return NULL;
    if (heap == NULL) lu__inside_leave();
    return heap;
}

void lu__thread_leave(struct heap *heap) {
    if (LU_LIKELY(heap != NULL)) {
        lu__heap_see_region(heap);
        if (LU_UNLIKELY(lu__own_heap != heap)) {
            borrowed = NULL;
            lu__pool_release(heap);
        } else {
            lu__heap_set_busy(heap, 0);
            set_front(heap);
        }
    }
    lu__inside_leave();
}

static void leave_thread(void) {
    struct heap *heap = lu__own_heap;
    if (heap == NULL || !lu__thread_mark()) return;
    lu__heap_set_busy(heap, 1);
    lu__heap = LU_EMPTY_HEAP;
    borrowed = heap;
    lu__own_heap = lu__short_heap = NULL;
    gone = true;
    lu__remote_flush(heap);
    lu__remote_drain(heap); /* what there is more of, whoever has the heap next takes in */
    lu__heap_ops(heap)->thread_exit(heap);
    size_t most = (size_t)lu__option(LU_OPT_ARENA_MAX), active, pooled;
    lu__pool_counts(&active, &pooled);
    if (most != 0 && pooled >= most) heap->urgent = LU_URGENT_ASKED;
    borrowed = NULL;
    lu__pool_release(heap);
    lu__inside_leave();
}

static void thread_exit(void *unused) {
    (void)unused;
    __atomic_fetch_add(&leaving, 1, __ATOMIC_RELAXED);
    void (*ending)(void) = __atomic_load_n(&lu__thread_ending, __ATOMIC_ACQUIRE);
    if (ending != NULL) ending();
    leave_thread();
    /* Partner: lu__thread_fini, after which this code may be gone. */
    if (__atomic_load_n(&leaving, __ATOMIC_RELAXED) == 0) return; /* a copy forgot the others */
    uint32_t others = __atomic_sub_fetch(&leaving, 1, __ATOMIC_SEQ_CST);
    if (others == 0 && !__atomic_load_n(&has_exit_key, __ATOMIC_SEQ_CST))
        lu__os_wake(&leaving, true);
}
