/*
 * thread.c - which thread uses which heap.
 *
 *     first malloc        heap from the pool, else a new one;  lu__heap -> it
 *     thread ends         what it collected is posted, its lists go back to their spans, and the
 *                         heap goes into the pool whole: the next thread goes on with it
 *     after that          (destructors that run later) every call borrows a heap from the pool
 *     before and after    lu__heap -> LU_EMPTY_HEAP, so the fast paths hand everything over
 *
 * A slow path is entered and left by lu__thread_enter and lu__thread_leave, which mark the heap
 * busy. A signal handler that allocates while its own thread is in a slow path sees the mark and
 * is served by emergency.c. In the child of fork, heaps that other threads left busy are given up
 * (their blocks can still be freed); the others go into the pool.
 *
 * Locks: pool_lock guards the pool, states and fresh heap structures; leaf but for lu__span_lock.
 */
#include <pthread.h>
#include <string.h>

#include "base/options.h"
#include "heap/guard.h"
#include "heap/harden.h"
#include "heap/heap.h"
#include "os/os.h"

/* No more than the fast paths read, so that what the loader writes to fits one page. */
#define FRONT(field) (offsetof(struct heap, field) / sizeof(uintptr_t))
#define NO_KEY ((uintptr_t)1 << 63) /* of an empty list: the end is no link */
const uintptr_t lu__empty_front[FRONT(current)] __attribute__((aligned(64))) = {
    [0 ... LU_CLASSES] = (uintptr_t)&lu__list_end,
    [FRONT(keys)... FRONT(keys) + LU_CLASSES] = NO_KEY,
};
_Static_assert(offsetof(struct heap, list) == 0, "lists first");
__thread struct heap *lu__heap = LU_EMPTY_HEAP;
__thread struct heap *lu__own_heap, *lu__hard_heap;
bool lu__perturbing; /* fast paths are off; see engine.c */

struct thread {
    bool acquiring; /* in acquire(), where there is no heap to mark busy      */
    bool gone;      /* its destructor has run                                 */
};
static __thread struct thread self __attribute__((tls_model("initial-exec")));

static struct lu__lock pool_lock;
static struct heap *pool; /* linked by next_pooled */
static size_t pool_count;
static struct heap *all_heaps;  /* linked by next_heap; grows only */
static struct heap *recycled;   /* structures of ended lu_heaps, linked by next_pooled */
static char *fresh, *fresh_end; /* META memory for more structures */
static bool ready;
static pthread_key_t exit_key;
static bool has_exit_key; /* without, heaps of finished threads are not used again */

static void thread_exit(void *unused);

/* Once, under pool_lock, before the first heap. */
static void init_locked(void) {
    if (ready) return;
    lu__options_init();
    lu__harden_init();
    lu__guard_init();
    lu__span_figures.limit = (size_t)lu__option(LU_OPT_LIMIT);
    lu__link_init();
    has_exit_key = pthread_key_create(&exit_key, thread_exit) == 0; /* it fails at 1024 keys */
    ready = true;
}

static struct heap *structure_locked(void) {
    size_t bytes = lu__align_up(sizeof(struct heap), 64);
    struct heap *heap = recycled;
    if (heap != NULL) {
        recycled = heap->next_pooled;
        struct heap *link = heap->next_heap;
        memset(heap, 0, sizeof *heap);
        heap->next_heap = link;
        return heap;
    }
    if (all_heaps == NULL) { /* no page of a region for the only heap of most processes */
        static struct heap first;
        fresh = (char *)&first;
        fresh_end = fresh + bytes;
    }
    if ((size_t)(fresh_end - fresh) < bytes) {
        bool zero;
        struct span *run = lu__run_alloc(1, 1, LU_KIND_META, &zero);
        if (run == NULL) return NULL;
        fresh = lu__span_start(run);
        fresh_end = fresh + LU_SLICE;
        if (!zero) memset(fresh, 0, LU_SLICE);
    }
    heap = (struct heap *)(void *)fresh;
    fresh += bytes;
    heap->next_heap = all_heaps;
    __atomic_store_n(&all_heaps, heap, __ATOMIC_RELEASE);
    return heap;
}

/* The fast paths know the first region as far as it was committed when the thread last looked:
 * only there descriptors can be read. */
static void see_region(struct heap *heap) {
    size_t slices = __atomic_load_n(&lu__regions[0].ready, __ATOMIC_ACQUIRE);
    heap->size = slices << LU_SLICE_SHIFT; /* 0 before the first run of the process */
    heap->base = (uintptr_t)lu__regions[0].base;
    heap->base_away = -heap->base;
}

static struct heap *make_locked(enum heap_kind kind) {
    init_locked();
    struct heap *heap = structure_locked();
    if (heap == NULL) return NULL;
    if (lu__harden.on && (heap->hard = lu__hard_make()) == NULL) {
        heap->kind = LU_HEAP_OF_USER; /* not one that fork's child could pool */
        heap->next_pooled = recycled;
        recycled = heap;
        return NULL;
    }
    for (unsigned c = 0; c <= LU_CLASSES; c++) {
        heap->list[c] = LU_LIST_END;
        heap->keys[c] = NO_KEY;
    }
    heap->class_of[0] = LU_CLASSES;
    for (size_t size = 1; size <= LU_SMALL_MAX; size++) {
        heap->class_of[size] = (uint8_t)lu__class_of(size);
    }
    see_region(heap);
    heap->tick_left = 1;
    heap->cadence = 1; /* adapts itself */
    heap->sweep_class = LU_CLASSES;
    heap->kind = (uint8_t)kind;
    heap->state = LU_HEAP_ACTIVE;
    lu__guard_prepare(heap);
    return heap;
}

/* pool_lock is held by threads that are marked as in a slow path only, so that a signal handler
 * that interrupts the holder does not wait for it. */

struct heap *lu__heap_make(enum heap_kind kind) {
    struct heap *mine = lu__thread_enter();
    lu__lock_acquire(&pool_lock);
    struct heap *heap = make_locked(kind);
    lu__lock_release(&pool_lock);
    if (mine != NULL) lu__thread_leave(mine);
    return heap;
}

void lu__heap_recycle(struct heap *heap) {
    struct heap *mine = lu__thread_enter();
    lu__lock_acquire(&pool_lock);
    heap->kind = LU_HEAP_OF_USER; /* not one that fork's child could pool */
    heap->next_pooled = recycled;
    recycled = heap;
    lu__lock_release(&pool_lock);
    if (mine != NULL) lu__thread_leave(mine);
}

/* A heap for this thread, from the pool or new. */
static struct heap *acquire(void) {
    lu__lock_acquire(&pool_lock);
    struct heap *heap = pool;
    if (heap != NULL) {
        pool = heap->next_pooled;
        pool_count--;
        heap->state = LU_HEAP_ACTIVE;
    } else {
        heap = make_locked(LU_HEAP_OF_THREAD);
    }
    lu__lock_release(&pool_lock);
    return heap;
}

static void release(struct heap *heap) {
    lu__lock_acquire(&pool_lock);
    heap->state = LU_HEAP_POOLED;
    heap->next_pooled = pool;
    pool = heap;
    pool_count++;
    lu__lock_release(&pool_lock);
}

bool lu__thread_interrupted(void) {
    return lu__own_heap != NULL ? lu__own_heap->busy != 0 : self.acquiring;
}

static LU_COLD void go_slow(struct heap *heap) {
    lu__heap = LU_EMPTY_HEAP;
    lu__hard_heap = lu__harden.quick && !lu__perturbing && heap->hard != NULL ? heap : NULL;
}

/* Set what the fast paths of the calling thread, whose heap it is, are to use. */
static void set_front(struct heap *heap) {
    if (LU_UNLIKELY(lu__perturbing || lu__harden.on)) return go_slow(heap);
    lu__heap = heap->front;
}

void lu__thread_see_perturb(void) {
    if (lu__own_heap != NULL) set_front(lu__own_heap);
}

struct heap *lu__thread_enter(void) {
    struct heap *heap = lu__own_heap;
    if (LU_LIKELY(heap != NULL)) {
        if (heap->busy) return NULL;
        lu__heap_set_busy(heap, 1);
        if (LU_UNLIKELY(heap->hard == NULL) && LU_UNLIKELY(lu__harden.on)) {
            heap->hard = lu__hard_make(); /* it was made before there were options to read */
        }
        return heap;
    }
    if (self.acquiring) return NULL;
    self.acquiring = true;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    heap = acquire();
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    self.acquiring = false;
    if (heap == NULL) return NULL;
    if (!self.gone) {
        lu__own_heap = heap;
        set_front(heap);
        /* May allocate: the heap is there already. */
        if (has_exit_key) (void)pthread_setspecific(exit_key, heap);
    }
    lu__heap_set_busy(heap, 1);
    return heap;
}

void lu__thread_leave(struct heap *heap) {
    see_region(heap);
    lu__heap_set_busy(heap, 0);
    if (LU_UNLIKELY(lu__own_heap != heap)) {
        release(heap); /* borrowed */
    } else {
        set_front(heap);
    }
}

static void thread_exit(void *unused) {
    (void)unused;
    struct heap *heap = lu__own_heap;
    if (heap == NULL || heap->busy) return;
    lu__heap = LU_EMPTY_HEAP;
    lu__own_heap = lu__hard_heap = NULL;
    self.gone = true;
    lu__heap_set_busy(heap, 1);
    lu__remote_flush(heap);
    if (heap->hard != NULL) lu__hard_thread_exit(heap);
    if (__atomic_load_n(&heap->pending, __ATOMIC_RELAXED) != NULL) lu__remote_drain(heap);
    for (unsigned c = 0; c < LU_CLASSES; c++) lu__small_demote(heap, c);
    size_t most = (size_t)lu__option(LU_OPT_ARENA_MAX);
    if (most != 0 && pool_count >= most) (void)lu__sweep_all(heap);
    lu__heap_set_busy(heap, 0);
    release(heap);
}

void lu__pool_each(void (*visit)(struct heap *, void *), void *arg) {
    lu__lock_acquire(&pool_lock);
    struct heap *list = pool;
    pool = NULL;
    pool_count = 0;
    for (struct heap *heap = list; heap != NULL; heap = heap->next_pooled) {
        heap->state = LU_HEAP_ACTIVE;
    }
    lu__lock_release(&pool_lock);
    while (list != NULL) {
        struct heap *next = list->next_pooled;
        lu__heap_set_busy(list, 1);
        visit(list, arg);
        lu__heap_set_busy(list, 0);
        release(list);
        list = next;
    }
}

void lu__heap_each(void (*visit)(struct heap *, void *), void *arg) {
    struct heap *heap = __atomic_load_n(&all_heaps, __ATOMIC_ACQUIRE);
    for (; heap != NULL; heap = heap->next_heap) visit(heap, arg);
}

void lu__pool_counts(size_t *active, size_t *pooled) {
    size_t threads = 0;
    lu__lock_acquire(&pool_lock);
    for (struct heap *heap = all_heaps; heap != NULL; heap = heap->next_heap) {
        threads += heap->kind == LU_HEAP_OF_THREAD && heap->state == LU_HEAP_ACTIVE;
    }
    *active = threads;
    *pooled = pool_count;
    lu__lock_release(&pool_lock);
}

void lu__thread_fork_child(void) {
    if (!ready || lu__lock_is_mine(&pool_lock)) return; /* the interrupted call goes on with it */
    lu__lock_reset(&pool_lock);
    pool = NULL;
    pool_count = 0;
    for (struct heap *heap = all_heaps; heap != NULL; heap = heap->next_heap) {
        if (heap->kind != LU_HEAP_OF_THREAD) {
            if (!lu__lock_is_mine(&heap->lock)) lu__lock_reset(&heap->lock);
        } else if (heap != lu__own_heap) {
            if (heap->busy || heap->state == LU_HEAP_ORPHAN) {
                heap->state = LU_HEAP_ORPHAN;
            } else {
                release(heap);
            }
        }
    }
}
