/*
 * pt.c - ptmalloc, the allocator of the GNU C library: Doug Lea's malloc made for threads.
 *
 * Source: Wolfram Gloger, ptmalloc2 (2006), after Doug Lea, malloc 2.7 (2000); thread caches by DJ
 * Delorie (glibc 2.26, 2017), safe-linking by Eyal Itkin (glibc 2.32, 2020).
 *
 *     malloc   the thread's own cache, no lock                                   pt_tcache.c
 *       |      an arena, locked: fast, small, unsorted, large bins, the top      pt_bins.c
 *       |      from the threshold (128 KiB, moving) up: a mapping                pt_map.c
 *       v      which arena; the break (main arena) or one more heap of 1 MiB     pt_arena.c
 *     free     a mapping goes back; else the thread's cache, if it has fewer than 7 of the size;
 *              else the arena the chunk came from: fast bin, or merged           pt_free.c
 *
 * What a program sees of it on 64 bits:
 *
 *     a chunk has 16 bytes before the pointer, of which 8 are the chunk before's if that is used;
 *     8 bytes are lost for each block; sizes are multiples of 16, at least 32
 *     malloc(1 … 24) takes 32 bytes, 25 … 40 takes 48, 41 … 56 takes 64
 *     the first malloc raises the break by 132 KiB (128 of them spare), its pointer is the heap's
 *     beginning + 16; malloc(128 KiB) is 132 KiB in a mapping, gone after free
 *
 * glibc keeps the cache of a thread in the heap too, as the first block; here all that is not
 * chunks, heap headers and fences lies elsewhere, so the first block is the program's. The fast
 * bins are emptied and filled under the arena's lock, which in glibc free does without.
 *
 * Bounds: malloc and free of cached sizes take constant time. Else one malloc may have to sort all
 * that was freed since the last one. Memory: 8 bytes and rounding for each block; per thread what
 * its cache holds; fragmentation of best fit, times the arenas, as free memory of one arena does
 * not serve threads of another. The worst case is a long-lived block above much that was freed:
 * the break cannot sink below it.
 *
 * Locks: list_lock, then the lock of one arena, then the area's. Cached chunks belong to a thread.
 * Misuse is reported under whatever lock is held; a handler that returns makes the call do nothing.
 */
#include <sched.h>

#include "classic/pt.h"

#define DEFAULT_KEEP (128 * LU_KIB)
#define ARENAS_PER_CPU 8u
#define SIMULATED_KEY ((uintptr_t)0x7c6b5a4938271605)

static struct pt *pt_of(const struct lu__classic *self) {
    return (struct pt *)self;
}

/* ---------------------------------------------------------------- life */

static unsigned cpu_count(void) {
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

static bool init(struct lu__classic *self) {
    static uint64_t last_id; /* atomic, relaxed */
    struct pt *pt = pt_of(self);
    const struct lu__classic_config *config = &self->config;
    pt->id = __atomic_add_fetch(&last_id, 1, __ATOMIC_RELAXED);
    pt->creator = lu__lock_me();
    pt->key = config->of_process ? (uintptr_t)lu__os_random() | 1 : SIMULATED_KEY;
    pt->fixed_thresholds = config->mmap_threshold != 0 || config->trim_threshold != 0 ||
                           config->top_pad != 0;
    pt->mmap_threshold = config->mmap_threshold != 0 ? config->mmap_threshold : DEFAULT_KEEP;
    pt->trim_threshold = config->trim_threshold != 0 ? config->trim_threshold : DEFAULT_KEEP;
    pt->top_pad = config->top_pad != 0 ? config->top_pad : DEFAULT_KEEP;
    pt->arena_limit = config->arenas != 0 ? config->arenas : ARENAS_PER_CPU * cpu_count();
    pt->arena_count = 1;
    pt->main.is_main = true;
    lu__pt_bins_init(&pt->main);
    return true;
}

static void free_records(struct pt_thread *record) {
    while (record != NULL) {
        struct pt_thread *next = record->next;
        lu__classic_meta_free(record, sizeof *record);
        record = next;
    }
}

static void fini(struct lu__classic *self) {
    struct pt *pt = pt_of(self);
    struct pt_arena *arena = pt->main.next;
    while (arena != NULL) {
        struct pt_arena *next = arena->next;
        lu__classic_meta_free(arena, sizeof *arena);
        arena = next;
    }
    free_records(pt->threads);
    free_records(pt->spare);
    if (pt->simulated != NULL) {
        lu__classic_meta_free(pt->simulated, pt->simulated_room * sizeof *pt->simulated);
    }
}

/* ---------------------------------------------------------------- alloc */

/* The used chunk of request->search becomes one of request->bytes whose payload is aligned. */
static struct pt_chunk *align_chunk(struct pt_request *request, struct pt_chunk *chunk) {
    struct pt *pt = request->pt;
    struct pt_arena *arena = request->arena;
    uintptr_t payload = (uintptr_t)chunk + PT_HEADER;
    size_t lead = lu__align_up(payload, request->align) - payload;
    if (lead != 0) {
        if (lead < PT_LEAST) lead += request->align;
        size_t head = lu__pt_head(chunk);
        struct pt_chunk *aligned = lu__pt_at(chunk, lead);
        lu__pt_set_head(aligned, ((head & ~PT_BITS) - lead) | PT_P | lu__pt_bit_of(arena));
        lu__pt_set_head(chunk, lead | (head & PT_BITS));
        LU_COUNT(&pt->base, splits, 1);
        lu__pt_arena_free(pt, arena, chunk);
        chunk = aligned;
    }
    lu__pt_shrink(pt, arena, chunk, request->bytes);
    return chunk;
}

/* From request->arena, or a mapping. */
static struct pt_chunk *alloc_locked(struct pt_request *request) {
    struct pt *pt = request->pt;
    struct pt_chunk *chunk = lu__pt_take_from_bins(request);
    if (chunk == NULL && request->damaged) return NULL;
    if (chunk == NULL &&
        request->search >= __atomic_load_n(&pt->mmap_threshold, __ATOMIC_RELAXED)) {
        chunk = lu__pt_map(pt, request->bytes, request->align);
        if (chunk != NULL) return chunk;
    }
    if (chunk == NULL && lu__pt_arena_grow(request)) chunk = lu__pt_take_from_top(request);
    if (chunk == NULL || request->align <= LU_CHUNK_ALIGN) return chunk;
    return align_chunk(request, chunk);
}

/* Any arena could have had it. */
static bool is_small(const struct pt_request *request) {
    return request->search < PT_HEAP_BYTES / 2;
}

static struct pt_chunk *try_arena(struct pt_request *request, struct pt_arena *arena) {
    lu__lock_acquire(&arena->lock);
    request->arena = arena;
    struct pt_chunk *chunk = alloc_locked(request);
    lu__lock_release(&arena->lock);
    bool mapped = chunk != NULL && (lu__pt_head(chunk) & PT_M) != 0;
    if (chunk != NULL && !mapped && request->thread != NULL && is_small(request)) {
        lu__pt_attach(request->thread, arena);
    }
    return chunk;
}

/* The thread's arena cannot grow: the limit, or the break is in somebody's way. */
static LU_COLD struct pt_chunk *alloc_elsewhere(struct pt_request *request) {
    struct pt *pt = request->pt;
    struct pt_arena *own = request->arena, *arena = &pt->main;
    struct pt_chunk *chunk = NULL;
    for (; arena != NULL && chunk == NULL; arena = lu__pt_next_arena(arena)) {
        if (arena != own) chunk = try_arena(request, arena);
        if (chunk == NULL && request->damaged) return NULL;
    }
    if (chunk == NULL && is_small(request)) {
        arena = lu__pt_arena_create(pt);
        if (arena != NULL) chunk = try_arena(request, arena);
    }
    return chunk != NULL ? chunk : lu__pt_map(pt, request->bytes, request->align);
}

static void *serve(struct pt_request *request) {
    struct pt *pt = request->pt;
    request->arena = lu__pt_arena_acquire(pt, request->thread);
    struct pt_chunk *chunk = alloc_locked(request);
    lu__lock_release(&request->arena->lock);
    if (chunk == NULL && !request->damaged) chunk = alloc_elsewhere(request);
    if (request->looked != 0) LU_COUNT(&pt->base, searches, request->looked);
    return chunk != NULL ? lu__pt_payload(chunk) : NULL;
}

static void *alloc(struct lu__classic *self, size_t bytes) {
    struct pt *pt = pt_of(self);
    size_t size = lu__chunk_bytes_for(bytes);
    struct pt_thread *thread = lu__pt_thread_of_caller(pt);
    void *cached = lu__pt_tcache_get(pt, thread, size);
    if (cached != NULL) return cached;
    struct pt_request request = {.pt = pt, .thread = thread, .bytes = size, .search = size};
    return serve(&request);
}

static void *alloc_aligned(struct lu__classic *self, size_t align, size_t bytes) {
    size_t size = lu__chunk_bytes_for(bytes);
    struct pt_request request = {.pt = pt_of(self),
                                 .thread = lu__pt_thread_of_caller(pt_of(self)),
                                 .bytes = size,
                                 .search = size + align + PT_LEAST,
                                 .align = align};
    return serve(&request);
}

static bool is_zero(const struct lu__classic *self, const void *payload, size_t bytes) {
    (void)self, (void)bytes;
    return (lu__pt_head(lu__pt_chunk_of(payload)) & PT_M) != 0;
}

/* ---------------------------------------------------------------- free, resize */

/* True if the payload may be one, as far as can be told without its arena's lock. In a tracked
 * heap memory that is not held is noticed; elsewhere touching it faults, as in glibc. */
static bool is_plausible(struct pt *pt, const void *payload) {
    const struct pt_chunk *chunk = lu__pt_chunk_of(payload);
    if ((uintptr_t)payload % LU_CHUNK_ALIGN != 0 || (uintptr_t)payload < PT_LEAST) return false;
    if (pt->base.config.tracked && !lu__area_contains(&pt->base.area, chunk)) return false;
    size_t head = lu__pt_head(chunk), size = head & ~PT_BITS;
    if (size < PT_LEAST || size > (size_t)0 - (uintptr_t)chunk) return false;
    return (head & PT_MARK) == 0 && ((head & PT_M) != 0 || lu__pt_arena_of(pt, chunk) != NULL);
}

static void free_block(struct lu__classic *self, void *payload) {
    struct pt *pt = pt_of(self);
    struct pt_chunk *chunk = lu__pt_chunk_of(payload);
    if (!is_plausible(pt, payload)) {
        lu__classic_misuse(self, "free(): invalid pointer", payload);
        return;
    }
    size_t head = lu__pt_head(chunk), size = head & ~PT_BITS;
    if ((head & PT_M) != 0) {
        lu__pt_unmap(pt, chunk);
        return;
    }
    struct pt_thread *thread = lu__pt_thread_of_caller(pt);
    if (lu__pt_tcache_holds(pt, thread, payload, size)) {
        lu__classic_misuse(self, "double free detected in tcache", payload);
        return;
    }
    if (lu__pt_tcache_has_room(thread, size)) {
        lu__pt_tcache_put(pt, thread, chunk, size);
        return;
    }
    struct pt_arena *arena = lu__pt_arena_of(pt, chunk);
    lu__lock_acquire(&arena->lock);
    lu__pt_arena_free(pt, arena, chunk);
    lu__lock_release(&arena->lock);
}

static void *resize(struct lu__classic *self, void *payload, size_t bytes) {
    struct pt *pt = pt_of(self);
    struct pt_chunk *chunk = lu__pt_chunk_of(payload);
    size_t size = lu__chunk_bytes_for(bytes);
    if (!is_plausible(pt, payload)) {
        lu__classic_misuse(self, "realloc(): invalid pointer", payload);
        return NULL;
    }
    if ((lu__pt_head(chunk) & PT_M) != 0) {
        chunk = lu__pt_remap(pt, chunk, size);
        return chunk != NULL ? lu__pt_payload(chunk) : NULL;
    }
    struct pt_arena *arena = lu__pt_arena_of(pt, chunk);
    lu__lock_acquire(&arena->lock);
    bool fits = lu__pt_extend(pt, arena, chunk, size);
    if (fits) lu__pt_shrink(pt, arena, chunk, size);
    lu__lock_release(&arena->lock);
    return fits ? payload : NULL;
}

static size_t usable_size(const struct lu__classic *self, const void *payload) {
    if (!is_plausible(pt_of(self), payload)) return 0;
    size_t head = lu__pt_head(lu__pt_chunk_of(payload));
    return (head & ~PT_BITS) - ((head & PT_M) != 0 ? PT_HEADER : LU_CHUNK_OVERHEAD);
}

/* ---------------------------------------------------------------- the rest of the table */

static void trim(struct lu__classic *self) {
    struct pt_arena *arena = &pt_of(self)->main;
    for (; arena != NULL; arena = lu__pt_next_arena(arena)) {
        lu__lock_acquire(&arena->lock);
        lu__pt_arena_trim(pt_of(self), arena);
        lu__lock_release(&arena->lock);
    }
}

/* A threshold that was set stays there, as in glibc. */
static void tune(struct lu__classic *self, enum lu__classic_tunable which, size_t bytes) {
    struct pt *pt = pt_of(self);
    size_t *number = which == LU_TUNE_MMAP_THRESHOLD   ? &pt->mmap_threshold
                     : which == LU_TUNE_TRIM_THRESHOLD ? &pt->trim_threshold
                                                       : &pt->top_pad;
    __atomic_store_n(&pt->fixed_thresholds, true, __ATOMIC_RELAXED);
    __atomic_store_n(number, bytes, __ATOMIC_RELAXED);
}

static void thread_end(struct lu__classic *self) {
    lu__pt_thread_end(pt_of(self));
}

/* A lock that this thread holds already is not waited for: fork comes out of a signal handler that
 * interrupted the holder, who releases it when the handler is done. */
static bool take_for_fork(struct lu__lock *lock) {
    if (lu__lock_is_mine(lock)) return false;
    lu__lock_acquire(lock);
    return true;
}

static void fork_prepare(struct lu__classic *self) {
    struct pt *pt = pt_of(self);
    pt->forking = take_for_fork(&pt->list_lock);
    for (struct pt_arena *a = &pt->main; a != NULL; a = a->next) {
        a->forking = take_for_fork(&a->lock);
    }
}

static void fork_parent(struct lu__classic *self) {
    struct pt *pt = pt_of(self);
    for (struct pt_arena *a = &pt->main; a != NULL; a = a->next) {
        if (a->forking) lu__lock_release(&a->lock);
    }
    if (pt->forking) lu__lock_release(&pt->list_lock);
}

static void fork_child(struct lu__classic *self) {
    struct pt *pt = pt_of(self);
    for (struct pt_arena *a = &pt->main; a != NULL; a = a->next) {
        if (a->forking) lu__lock_reset(&a->lock);
    }
    if (pt->forking) lu__lock_reset(&pt->list_lock);
    if (self->config.of_process) lu__pt_threads_of_child(pt);
}

const struct lu__policy lu__policy_pt = {
    .name = "pt",
    .title = "ptmalloc: dlmalloc's bins in arenas, thread caches before them",
    .source = "W. Gloger, ptmalloc2, 2006; thread caches: D. Delorie, glibc 2.26, 2017",
    .state_bytes = sizeof(struct pt),
    .align = LU_CHUNK_ALIGN,
    .threaded = true,
    .init = init,
    .fini = fini,
    .alloc = alloc,
    .alloc_aligned = alloc_aligned,
    .free = free_block,
    .resize = resize,
    .usable_size = usable_size,
    .is_zero = is_zero,
    .walk = lu__pt_walk,
    .validate = lu__pt_validate,
    .trim = trim,
    .tune = tune,
    .thread_end = thread_end,
    .fork_prepare = fork_prepare,
    .fork_parent = fork_parent,
    .fork_child = fork_child,
};
