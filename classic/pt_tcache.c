/*
 * pt_tcache.c - the threads of pt, and for each a cache of chunks that it freed.
 *
 * Source: DJ Delorie's per-thread cache of glibc 2.26 (2017); the key against double frees of 2.29
 * (2018); Eyal Itkin's safe-linking of 2.32 (2020).
 *
 *     entries[0]  chunks of   32:  [*]--> newest --> … --> oldest      counts[0]  0 to 7
 *     entries[1]              48:  [*]--> …
 *       …
 *     entries[63]           1040
 *
 * Free puts a chunk in front of its list while that has fewer than 7, malloc takes the newest: no
 * lock, no look at neighbours, a handful of instructions. So a thread that frees and allocates the
 * same sizes again hardly ever meets another one. The price: 64 x 7 chunks, 235 KiB at most, may
 * lie idle in each thread; none of them merges, and a chunk that one thread allocates and another
 * frees moves into the other's cache.
 *
 * Two defences cost a few instructions. The next pointer is stored xor its own place's address
 * without the last 12 bits, so who overwrites it, and does not know where the heap is, makes a
 * pointer that is not aligned, which is noticed as it is taken. And a cached chunk bears a key in
 * its second word: if a chunk that is freed has the key there, the list is searched for it.
 *
 * Whose cache? In the heap of a process a real thread's, found by a thread-local word. Elsewhere
 * heaps are used in simulations: then threads are numbers (lu__classic_set_thread). Calls of the
 * thread that made the heap, and all calls if the heap is tracked (it is used by one thread at a
 * time then), count as the simulated thread's; those of further real threads as their own.
 *
 * Records lie in memory of their own and are reused; glibc has them in the heap, which moves its
 * first block by 656 bytes.
 */
#include "classic/pt.h"

#define SIMULATED_MOST 65536u

static __thread struct {
    uint64_t heap_id;         /* of the heap that `record` belongs to */
    struct pt_thread *record; /* NULL: ended                          */
    uint64_t serial;          /* of the thread; 0: not given yet      */
} mine __attribute__((tls_model("initial-exec")));

static uint64_t last_serial; /* atomic, relaxed */

/* ---------------------------------------------------------------- records */

static struct pt_thread *new_record_locked(struct pt *pt, uint64_t serial) {
    struct pt_thread *record = pt->spare;
    if (record != NULL) {
        pt->spare = record->next;
        *record = (struct pt_thread){0};
    } else {
        record = lu__classic_meta_alloc(sizeof *record);
        if (record == NULL) return NULL;
    }
    record->serial = serial;
    record->next = pt->threads;
    pt->threads = record;
    return record;
}

static LU_COLD struct pt_thread *real_thread(struct pt *pt) {
    if (mine.serial == 0) mine.serial = __atomic_add_fetch(&last_serial, 1, __ATOMIC_RELAXED);
    lu__lock_acquire(&pt->list_lock);
    struct pt_thread *record = pt->threads;
    while (record != NULL && record->serial != mine.serial) record = record->next;
    if (record == NULL) record = new_record_locked(pt, mine.serial);
    lu__lock_release(&pt->list_lock);
    if (record != NULL) {
        mine.heap_id = pt->id;
        mine.record = record;
    }
    return record;
}

/* Room for the number in the table. */
static bool make_room(struct pt *pt, unsigned number) {
    size_t room = LU_MAX(pt->simulated_room, LU_OS_PAGE / sizeof *pt->simulated);
    while (room <= number) room *= 2;
    if (room == pt->simulated_room) return true;
    struct pt_thread **fresh = lu__classic_meta_alloc(room * sizeof *fresh);
    if (fresh == NULL) return false;
    for (size_t i = 0; i < pt->simulated_room; i++) fresh[i] = pt->simulated[i];
    if (pt->simulated != NULL) {
        lu__classic_meta_free(pt->simulated, pt->simulated_room * sizeof *fresh);
    }
    pt->simulated = fresh;
    pt->simulated_room = room;
    return true;
}

static LU_COLD struct pt_thread *new_simulated(struct pt *pt, unsigned number) {
    if (number >= SIMULATED_MOST || !make_room(pt, number)) return NULL;
    lu__lock_acquire(&pt->list_lock);
    pt->simulated[number] = new_record_locked(pt, 0);
    lu__lock_release(&pt->list_lock);
    return pt->simulated[number];
}

static bool is_simulated(const struct pt *pt) {
    const struct lu__classic_config *config = &pt->base.config;
    return !config->of_process && (config->tracked || pt->creator == lu__lock_me());
}

struct pt_thread *lu__pt_thread_of_caller(struct pt *pt) {
    if (mine.heap_id == pt->id) return mine.record;
    if (!is_simulated(pt)) return real_thread(pt);
    unsigned number = pt->base.thread;
    if (LU_LIKELY(number < pt->simulated_room && pt->simulated[number] != NULL)) {
        return pt->simulated[number];
    }
    return new_simulated(pt, number);
}

/* ---------------------------------------------------------------- the cache */

/* PT_TCACHE_BINS or more: not of a size for the cache. */
static size_t bin_of(size_t size) {
    return (size - PT_LEAST) / LU_CHUNK_ALIGN;
}

bool lu__pt_tcache_has_room(const struct pt_thread *thread, size_t size) {
    size_t bin = bin_of(size);
    return thread != NULL && bin < PT_TCACHE_BINS && thread->counts[bin] < PT_TCACHE_FULL;
}

void lu__pt_tcache_put(const struct pt *pt, struct pt_thread *thread, struct pt_chunk *chunk,
                       size_t size) {
    struct pt_cached *entry = lu__pt_payload(chunk);
    size_t bin = bin_of(size);
    entry->next = lu__pt_link(&entry->next, (uintptr_t)thread->entries[bin]);
    entry->key = pt->key;
    thread->entries[bin] = entry;
    thread->counts[bin]++;
}

void *lu__pt_tcache_get(struct pt *pt, struct pt_thread *thread, size_t size) {
    size_t bin = bin_of(size);
    if (thread == NULL || bin >= PT_TCACHE_BINS || thread->counts[bin] == 0) return NULL;
    struct pt_cached *entry = thread->entries[bin];
    uintptr_t next = lu__pt_link(&entry->next, entry->next);
    if (LU_UNLIKELY(next % LU_CHUNK_ALIGN != 0)) {
        /* This one is good; what hangs on it is lost. */
        lu__classic_misuse(&pt->base, "unaligned tcache chunk", (void *)next);
        next = 0;
    }
    thread->entries[bin] = (struct pt_cached *)next;
    thread->counts[bin] = next == 0 ? 0 : (uint16_t)(thread->counts[bin] - 1);
    entry->key = 0;
    return entry;
}

bool lu__pt_tcache_holds(const struct pt *pt, const struct pt_thread *thread, const void *payload,
                         size_t size) {
    const struct pt_cached *entry = payload;
    size_t bin = bin_of(size);
    if (thread == NULL || bin >= PT_TCACHE_BINS || LU_LIKELY(entry->key != pt->key)) return false;
    /* Once in 2^64 that is the program's own word. */
    const struct pt_cached *at = thread->entries[bin];
    for (unsigned left = thread->counts[bin]; left > 0 && at != NULL; left--) {
        if (at == entry) return true;
        at = (const struct pt_cached *)lu__pt_link(&at->next, at->next);
        if ((uintptr_t)at % LU_CHUNK_ALIGN != 0) return false;
    }
    return false;
}

/* ---------------------------------------------------------------- the end of a thread */

static void flush(struct pt *pt, struct pt_thread *thread) {
    for (size_t bin = 0; bin < PT_TCACHE_BINS; bin++) {
        size_t size = PT_LEAST + bin * LU_CHUNK_ALIGN;
        void *payload;
        while ((payload = lu__pt_tcache_get(pt, thread, size)) != NULL) {
            struct pt_chunk *chunk = lu__pt_chunk_of(payload);
            struct pt_arena *arena = lu__pt_arena_of(pt, chunk);
            lu__lock_acquire(&arena->lock);
            lu__pt_arena_free(pt, arena, chunk);
            lu__lock_release(&arena->lock);
        }
    }
}

static void retire(struct pt *pt, struct pt_thread *thread) {
    flush(pt, thread);
    if (thread->arena != NULL) {
        (void)__atomic_sub_fetch(&thread->arena->attached, 1, __ATOMIC_RELAXED);
    }
    lu__lock_acquire(&pt->list_lock);
    struct pt_thread **at = &pt->threads;
    while (*at != thread) at = &(*at)->next;
    *at = thread->next;
    thread->next = pt->spare;
    pt->spare = thread;
    lu__lock_release(&pt->list_lock);
}

void lu__pt_thread_end(struct pt *pt) {
    struct pt_thread *thread;
    if (is_simulated(pt)) {
        unsigned number = pt->base.thread;
        if (number >= pt->simulated_room || pt->simulated[number] == NULL) return;
        thread = pt->simulated[number];
        pt->simulated[number] = NULL;
    } else {
        thread = mine.heap_id == pt->id ? mine.record : real_thread(pt);
        mine.heap_id = pt->id; /* what it calls from now on goes without a cache */
        mine.record = NULL;
    }
    if (thread != NULL) retire(pt, thread);
}

void lu__pt_threads_of_child(struct pt *pt) {
    struct pt_thread *thread = mine.heap_id == pt->id ? mine.record : NULL;
    struct pt_arena *arena = &pt->main;
    for (; arena != NULL; arena = lu__pt_next_arena(arena)) {
        unsigned attached = thread != NULL && thread->arena == arena;
        __atomic_store_n(&arena->attached, attached, __ATOMIC_RELAXED);
    }
}
