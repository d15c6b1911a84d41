/*
 * pt_arena.c - arenas: which thread uses which one, and where they get memory from.
 *
 * Source: Wolfram Gloger, ptmalloc (1996) and ptmalloc2 (2006): Doug Lea's malloc several times
 * over, each with a lock of its own, and threads spread over them.
 *
 *     main arena         | chunk | chunk | …   | top      |
 *                        base                             break, raised by sbrk
 *
 *     another arena      |heap| chunk | … | top |fence|   the newest heap
 *                          |prev
 *                          v
 *                        |heap| chunk | … | chunk |fence| an older one
 *
 * A heap is a mapping of PT_HEAP_BYTES (1 MiB; glibc: 64) at a multiple of its size, so the heap of
 * a chunk, and by its first word the arena, are found by clearing the low bits of the address. The
 * bit A in the chunk says whether to do so. The fence is two headers, the first of 16 bytes and
 * used for ever, so that no chunk merges with what is not there. A heap is made accessible as a
 * whole (glibc: as the top moves); pages that were not touched cost nothing all the same.
 *
 * A thread is bound to an arena: a new thread to one that nobody uses, else to a new one, else,
 * when there are 8 for each processor (config.arenas), to the next in turn. If it finds it locked
 * it tries the others and stays with the first that is free; if none is and there may be more, it
 * makes one. A chunk goes back to the arena it came from, whoever frees it.
 *
 *     lock order: list_lock, then one arena's lock, then the area's
 *
 * Arenas are never destroyed before the heap of all is. Memory goes back from the top only: at
 * least `trim_threshold` must be free there, and `top_pad` stays; one used chunk near the top pins
 * all below it, which is this design's worst case. Of an arena's heap the pages go back, and the
 * whole mapping if nothing in it is used and the older heap has room for some more.
 */
#include "classic/pt.h"

/* ---------------------------------------------------------------- making arenas and heaps */

static struct pt_heap *new_heap(struct pt *pt, struct pt_arena *arena) {
    struct pt_heap *heap = lu__area_map(&pt->base.area, PT_HEAP_BYTES, PT_HEAP_BYTES);
    if (heap == NULL) return NULL;
    heap->arena = arena;
    struct pt_chunk *first = lu__pt_heap_first(heap), *fence = lu__pt_heap_fence(heap);
    lu__pt_set_head(first, ((uintptr_t)fence - (uintptr_t)first) | PT_P | PT_A);
    lu__pt_set_head(fence, PT_HEADER | PT_P | PT_A);
    lu__pt_set_head(lu__pt_at(fence, PT_HEADER), PT_P | PT_A);
    heap->high = (uintptr_t)first + PT_LEAST;
    return heap;
}

static struct pt_arena *create_locked(struct pt *pt) {
    if (pt->arena_count >= pt->arena_limit) return NULL;
    struct pt_arena *arena = lu__classic_meta_alloc(sizeof *arena), *last = &pt->main;
    if (arena == NULL) return NULL;
    lu__pt_bins_init(arena);
    arena->heap = new_heap(pt, arena);
    if (arena->heap == NULL) {
        lu__classic_meta_free(arena, sizeof *arena);
        return NULL;
    }
    arena->top = lu__pt_heap_first(arena->heap);
    while (last->next != NULL) last = last->next;
    __atomic_store_n(&last->next, arena, __ATOMIC_RELEASE);
    pt->arena_count++;
    return arena;
}

struct pt_arena *lu__pt_arena_create(struct pt *pt) {
    lu__lock_acquire(&pt->list_lock);
    struct pt_arena *arena = create_locked(pt);
    lu__lock_release(&pt->list_lock);
    return arena;
}

/* ---------------------------------------------------------------- choosing one */

void lu__pt_attach(struct pt_thread *thread, struct pt_arena *arena) {
    if (thread->arena != NULL) {
        (void)__atomic_sub_fetch(&thread->arena->attached, 1, __ATOMIC_RELAXED);
    }
    (void)__atomic_add_fetch(&arena->attached, 1, __ATOMIC_RELAXED);
    thread->arena = arena;
}

/* For a thread that has none. */
static LU_COLD void bind(struct pt *pt, struct pt_thread *thread) {
    lu__lock_acquire(&pt->list_lock);
    struct pt_arena *arena = &pt->main;
    while (arena != NULL && __atomic_load_n(&arena->attached, __ATOMIC_RELAXED) != 0) {
        arena = arena->next;
    }
    if (arena == NULL) arena = create_locked(pt);
    if (arena == NULL) {
        arena = pt->shared != NULL && pt->shared->next != NULL ? pt->shared->next : &pt->main;
        pt->shared = arena;
    }
    lu__pt_attach(thread, arena);
    lu__lock_release(&pt->list_lock);
}

/* The thread's arena is locked by somebody: another one, locked; NULL if there is none. */
static LU_COLD struct pt_arena *other_arena(struct pt *pt, const struct pt_arena *own) {
    struct pt_arena *arena = lu__pt_next_arena(own);
    for (;; arena = lu__pt_next_arena(arena)) {
        if (arena == NULL) arena = &pt->main;
        if (arena == own) break;
        if (lu__lock_try(&arena->lock)) return arena;
    }
    arena = lu__pt_arena_create(pt);
    if (arena != NULL) lu__lock_acquire(&arena->lock);
    return arena;
}

struct pt_arena *lu__pt_arena_acquire(struct pt *pt, struct pt_thread *thread) {
    if (thread != NULL && thread->arena == NULL) bind(pt, thread);
    struct pt_arena *arena = thread != NULL ? thread->arena : &pt->main;
    if (LU_LIKELY(lu__lock_try(&arena->lock))) return arena;
    struct pt_arena *other = thread != NULL ? other_arena(pt, arena) : NULL;
    if (other == NULL) {
        lu__lock_acquire(&arena->lock);
        return arena;
    }
    lu__pt_attach(thread, other);
    return other;
}

/* ---------------------------------------------------------------- growing */

static bool raise_break(struct pt *pt, struct pt_arena *arena, size_t need) {
    struct lu__area *area = &pt->base.area;
    size_t had = lu__pt_top_size(arena);
    size_t rise = lu__align_up(need + lu__pt_top_pad(pt) - had, LU_OS_PAGE);
    void *old = lu__area_sbrk(area, (ptrdiff_t)rise);
    if (old == NULL) { /* with nothing to spare */
        rise = lu__align_up(need - had, LU_OS_PAGE);
        old = lu__area_sbrk(area, (ptrdiff_t)rise);
    }
    if (old == NULL) return false;
    if (arena->top == NULL) arena->top = old;
    lu__pt_set_head(arena->top, (had + rise) | PT_P);
    return true;
}

/* The old top becomes a chunk like others, the new heap the top. */
static bool add_heap(struct pt *pt, struct pt_arena *arena, size_t need) {
    if (need > PT_HEAP_BYTES - sizeof(struct pt_heap) - 2 * PT_HEADER) return false;
    struct pt_heap *heap = new_heap(pt, arena);
    if (heap == NULL) return false;
    struct pt_chunk *old = arena->top;
    heap->prev = arena->heap;
    arena->heap = heap;
    arena->top = lu__pt_heap_first(heap);
    return lu__pt_push_unsorted(pt, arena, old, lu__pt_size(old));
}

bool lu__pt_arena_grow(const struct pt_request *request) {
    struct pt_arena *arena = request->arena;
    size_t need = request->search + PT_LEAST;
    if (lu__pt_top_size(arena) >= need) return true;
    return arena->is_main ? raise_break(request->pt, arena, need)
                          : add_heap(request->pt, arena, need);
}

/* ---------------------------------------------------------------- giving back */

static void sink_break(struct pt *pt, struct pt_arena *arena, size_t pad) {
    size_t size = lu__pt_top_size(arena);
    if (size <= pad + PT_LEAST) return;
    size_t extra = lu__align_down(size - PT_LEAST - pad, LU_OS_PAGE);
    if (extra == 0 || lu__area_sbrk(&pt->base.area, -(ptrdiff_t)extra) == NULL) return;
    lu__pt_set_head(arena->top, (size - extra) | PT_P);
}

/* True if the newest heap was all free, and the one before it has its top now. */
static bool drop_heap(struct pt *pt, struct pt_arena *arena, size_t pad) {
    struct pt_heap *heap = arena->heap, *prev = heap->prev;
    if (prev == NULL || arena->top != lu__pt_heap_first(heap)) return false;
    struct pt_chunk *fence = lu__pt_heap_fence(prev);
    if (lu__pt_used_before(fence, 0) || fence->prev_size < pad + PT_LEAST + LU_OS_PAGE) {
        return false;
    }
    struct pt_chunk *last = lu__pt_at(fence, (size_t)0 - fence->prev_size);
    if (!lu__pt_unlink(pt, arena, last)) return false;
    lu__pt_set_head(fence, lu__pt_head(fence) | PT_P);
    arena->top = last;
    arena->heap = prev;
    lu__area_unmap(&pt->base.area, heap, PT_HEAP_BYTES);
    return true;
}

void lu__pt_give_back_top(struct pt *pt, struct pt_arena *arena, size_t pad) {
    if (arena->is_main) {
        sink_break(pt, arena, pad);
        return;
    }
    while (drop_heap(pt, arena, lu__pt_top_pad(pt))) continue;
    struct pt_heap *heap = arena->heap;
    uintptr_t keep = lu__align_up((uintptr_t)arena->top + PT_LEAST + pad, LU_OS_PAGE);
    uintptr_t fence = lu__align_down((uintptr_t)lu__pt_heap_fence(heap), LU_OS_PAGE);
    uintptr_t end = LU_MIN(lu__align_up(heap->high, LU_OS_PAGE), fence);
    size_t threshold = __atomic_load_n(&pt->trim_threshold, __ATOMIC_RELAXED);
    if (keep >= end || (pad != 0 && end - (uintptr_t)arena->top < threshold)) return;
    lu__area_purge(&pt->base.area, (void *)keep, end - keep);
    heap->high = keep;
}
