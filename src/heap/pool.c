/*
 * pool.c - heaps are made, and those of threads wait for the next one.
 *
 *     waiting   newest ... oldest                 finished threads' heaps: a new thread takes the
 *               in front    sweep takes here      newest, whose memory is the likeliest in a cache
 *     visited   the same order                    ... that the sweep has visited in this round
 *
 * The sweep takes the oldest heap of `waiting`, and puts it in front of `visited` afterwards; when
 * nothing waits any more, the two change names, and the next round begins. So each step takes one
 * heap out for the time of one visit, whatever their number, every heap gets its turn, and threads
 * that start meanwhile find all others.
 *
 * A heap is busy (also read by the child of fork) from the moment that it is out of the pool, and
 * until it is in it. All is under pool_lock, as are the structures that heaps are made of
 * (structures.c); the callers are inside.
 */
#include "base/options.h"
#include "heap/heap.h"
#include "heap/ops.h"

#define SOME 8 /* heaps that a sweep of the pool visits */

struct pool {
    struct heap *first, *last; /* by next_pooled, prev_pooled */
};

static struct lu__lock pool_lock = LU_LOCK_INIT(LU_RANK_POOL);
static struct pool waiting, visited;
static size_t active_count; /* of threads' heaps; those being visited are pooled */
size_t lu__pooled_count;
static bool ready;

/* Once, before the first heap. */
static void init_locked(void) {
    if (ready) return;
    lu__options_init();
    lu__setup_ops.first();
    lu__span_figures.limit = (size_t)lu__option(LU_OPT_LIMIT);
    lu__link_init();
    lu__thread_init();
    LU_SET(ready, true);
}

/* ---------------------------------------------------------------- making heaps */

static struct heap *make_locked(enum heap_kind kind) {
    init_locked();
    struct heap *heap = lu__structure_take();
    if (heap == NULL) return NULL;
    for (unsigned c = 0; c <= LU_CLASSES; c++) {
        heap->list[c] = LU_LIST_END;
        heap->keys[c] = LU_NO_KEY;
    }
    heap->class_of[0] = LU_CLASSES;
    for (size_t size = 1; size <= LU_SMALL_MAX; size++) {
        heap->class_of[size] = (uint8_t)lu__class_of(size);
    }
    lu__heap_see_region(heap);
    heap->tick_left = 1;
    heap->cadence = 1; /* adapts itself */
    heap->sweep_class = LU_CLASSES;
    heap->state = LU_HEAP_ACTIVE;
    lu__lock_init(&heap->lock, LU_RANK_HEAP);
    heap->fast = heap;
    if (!lu__setup_ops.made(heap, kind)) {
        lu__structure_give(heap);
        return NULL;
    }
    /* Last: until then it is none that the child of fork could pool, and then it is in use. */
    lu__heap_set_busy(heap, kind == LU_HEAP_OF_THREAD);
    __atomic_store_n(&heap->kind, (uint8_t)kind, __ATOMIC_RELEASE);
    return heap;
}

struct heap *lu__heap_make(enum heap_kind kind) {
    struct heap *mine;
    if (!lu__thread_enter_any(&mine)) return NULL;
    lu__lock_acquire(&pool_lock);
    struct heap *heap = make_locked(kind);
    lu__lock_release(&pool_lock);
    lu__thread_leave(mine);
    return heap;
}

void lu__heap_recycle(struct heap *heap) {
    lu__lock_acquire(&pool_lock);
    lu__structure_give(heap);
    lu__lock_release(&pool_lock);
}

size_t lu__heap_purge_structures(void) {
    lu__lock_acquire(&pool_lock);
    size_t bytes = lu__structures_purge();
    lu__lock_release(&pool_lock);
    return bytes;
}

/* ---------------------------------------------------------------- the pool */

static void push(struct pool *pool, struct heap *heap) {
    heap->prev_pooled = NULL;
    heap->next_pooled = pool->first;
    if (pool->first != NULL) {
        pool->first->prev_pooled = heap;
    } else {
        pool->last = heap;
    }
    pool->first = heap;
}

static struct heap *pop_newest(struct pool *pool) {
    struct heap *heap = pool->first;
    if (heap == NULL) return NULL;
    pool->first = heap->next_pooled;
    if (pool->first != NULL) {
        pool->first->prev_pooled = NULL;
    } else {
        pool->last = NULL;
    }
    return heap;
}

static struct heap *pop_oldest(struct pool *pool) {
    struct heap *heap = pool->last;
    if (heap == NULL) return NULL;
    pool->last = heap->prev_pooled;
    if (pool->last != NULL) {
        pool->last->next_pooled = NULL;
    } else {
        pool->first = NULL;
    }
    return heap;
}

/* All that was visited waits again, as the oldest. */
static void begin_round(void) {
    if (visited.first == NULL) return;
    if (waiting.last != NULL) {
        waiting.last->next_pooled = visited.first;
        visited.first->prev_pooled = waiting.last;
    } else {
        waiting.first = visited.first;
    }
    waiting.last = visited.last;
    visited = (struct pool){NULL, NULL};
}

/* The counts are read without the lock. */
static void count(size_t *counter, size_t change) {
    __atomic_store_n(counter, *counter + change, __ATOMIC_RELAXED);
}

static void put_locked(struct pool *pool, struct heap *heap) {
    heap->state = LU_HEAP_POOLED;
    push(pool, heap);
    lu__heap_set_busy(heap, 0);
}

struct heap *lu__pool_acquire(void) {
    lu__lock_acquire(&pool_lock);
    struct heap *heap = pop_newest(&waiting);
    if (heap == NULL) heap = pop_newest(&visited);
    if (heap != NULL) {
        count(&lu__pooled_count, (size_t)-1);
    } else {
        heap = make_locked(LU_HEAP_OF_THREAD);
    }
    if (heap != NULL) {
        count(&active_count, 1);
        heap->state = LU_HEAP_ACTIVE;
        lu__heap_set_busy(heap, 1);
    }
    lu__lock_release(&pool_lock);
    return heap;
}

void lu__pool_release(struct heap *heap) {
    lu__lock_acquire(&pool_lock);
    /* An orphan was this thread's when it forked, in a handler: the child has not counted it. */
    if (heap->state == LU_HEAP_ACTIVE) count(&active_count, (size_t)-1);
    count(&lu__pooled_count, 1);
    put_locked(&waiting, heap);
    lu__lock_release(&pool_lock);
}

/* Take the oldest that waits out of the pool, or NULL. */
static struct heap *take_out(void) {
    lu__lock_acquire(&pool_lock);
    struct heap *heap = pop_oldest(&waiting);
    if (heap != NULL) {
        heap->state = LU_HEAP_ACTIVE;
        lu__heap_set_busy(heap, 1);
    }
    lu__lock_release(&pool_lock);
    return heap;
}

static void put_back(struct heap *heap) {
    lu__lock_acquire(&pool_lock);
    if (heap->state == LU_HEAP_ORPHAN) count(&lu__pooled_count, 1); /* as in lu__pool_release */
    put_locked(&visited, heap);
    lu__lock_release(&pool_lock);
}

void lu__pool_some(bool (*visit)(struct heap *, void *), void *arg) {
    lu__lock_acquire(&pool_lock);
    if (waiting.first == NULL) begin_round();
    lu__lock_release(&pool_lock);
    bool more = true;
    for (unsigned i = 0; i < SOME && more; i++) {
        struct heap *heap = take_out();
        if (heap == NULL) return;
        more = visit(heap, arg);
        put_back(heap);
    }
}

void lu__pool_each(void (*visit)(struct heap *, void *), void *arg) {
    lu__lock_acquire(&pool_lock);
    begin_round(); /* what comes later stands in front of those that are there, and is not waited
                      for */
    size_t count = lu__pooled_count;
    lu__lock_release(&pool_lock);
    while (count-- > 0) {
        struct heap *heap = take_out();
        if (heap == NULL) return;
        visit(heap, arg);
        put_back(heap);
    }
}

struct visit {
    void (*visit)(struct heap *, void *);
    void *arg;
};

static void visit_shared(struct heap *heap, void *arg) {
    const struct visit *visit = arg;
    if (heap->kind != LU_HEAP_OF_USER || !heap->shared || !lu__lock_try(&heap->lock)) return;
    if (heap->all != NULL) visit->visit(heap, visit->arg);
    lu__lock_release(&heap->lock);
}

/* Structures are made and given back under the lock; a heap that is ending has no runs left. */
void lu__pool_shared(void (*visit)(struct heap *, void *), void *arg) {
    struct visit each = {visit, arg};
    lu__lock_acquire(&pool_lock);
    lu__heap_each(visit_shared, &each);
    lu__lock_release(&pool_lock);
}

void lu__pool_counts(size_t *active, size_t *pooled) {
    *active = __atomic_load_n(&active_count, __ATOMIC_RELAXED);
    *pooled = __atomic_load_n(&lu__pooled_count, __ATOMIC_RELAXED);
}

/* The lists may be half changed; what was in them says that itself. */
static void pool_again(struct heap *heap, void *unused) {
    (void)unused;
    if (heap->kind != LU_HEAP_OF_THREAD || heap->state != LU_HEAP_POOLED || heap->busy) return;
    count(&lu__pooled_count, 1);
    put_locked(&waiting, heap);
}

static void pool_of_nobody(struct heap *heap, void *unused) {
    (void)unused;
    if (heap->kind != LU_HEAP_OF_THREAD) return;
    if (heap == lu__thread_heap()) {
        count(&active_count, 1);
    } else if (heap->busy || heap->state == LU_HEAP_ORPHAN) {
        heap->state = LU_HEAP_ORPHAN;
    } else {
        count(&lu__pooled_count, 1);
        put_locked(&waiting, heap);
    }
}

static void push_noted(struct heap *heap, void *unused) {
    (void)unused;
    if (!lu__thread_has(heap)) lu__remote_fork_child(heap); /* its own push goes on */
}

void lu__pool_fork_child(bool alone) {
    if (lu__lock_is_mine(&pool_lock)) return; /* the interrupted call goes on with it */
    bool held = lu__lock_fork_child(&pool_lock);
    if (!ready) return; /* who was at it is not here: the next one begins anew */
    if (held) lu__structures_fork_child();
    waiting = visited = (struct pool){NULL, NULL};
    count(&lu__pooled_count, -lu__pooled_count);
    if (!alone) return lu__heap_each(pool_again, NULL);
    count(&active_count, -active_count);
    lu__heap_each(pool_of_nobody, NULL);
    lu__heap_each(push_noted, NULL);
}
