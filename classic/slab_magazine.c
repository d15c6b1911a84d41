/*
 * slab_magazine.c - magazines: objects at hand for each processor, and the depot they come from.
 *
 * Source: J. Bonwick and J. Adams, "Magazines and Vmem: Extending the Slab Allocator to Many CPUs
 * and Arbitrary Resources", USENIX 2001, section 3.
 *
 * A cache's slab layer has one lock. So that processors do not wait for each other there, each has
 * two *magazines* of constructed objects (*rounds*), loaded and previous, and the cache has a
 * *depot* of full and empty ones:
 *
 *       processor 0                processor 1               depot
 *     loaded   previous          loaded   previous       full  [#####]-[#####]-[#####]
 *     [###··]  [·····]           [##···]  [#####]        empty [·····]-[·····]
 *        | pop, push                                        ^
 *        `----- both empty (alloc), both full (free): exchange of one whole magazine
 *
 *     alloc   loaded has rounds: pop.   previous is full: swap the two, pop.
 *             depot has a full one: previous -> depot, loaded -> previous, that -> loaded; pop.
 *             else the slab layer.
 *     free    loaded has room: push.    previous is empty: swap the two, push.
 *             depot has an empty one, or one can be made: as above; push.
 *             else the slab layer.
 *
 * Why two: with one, a caller that allocates and frees a round in turn at the edge of a magazine
 * would go to the depot each time. With two it must use up M rounds after an exchange before the
 * next, so the depot's lock is taken at most once in M calls.
 *
 * M adapts: who finds the depot's lock held counts it as contention, and if that happened often in
 * an interval of exchanges, magazines made from then on are larger. Old ones serve until they come
 * to the depot empty. (Solaris looks at the clock every 15 s; counting exchanges gives the same
 * result in every run of a simulation, where there is never any contention.)
 *
 * The depot gives back what it does not need: the fewest full magazines that it held during an
 * interval were needed by nobody (the working set), and at its end their rounds go to the slabs.
 *
 * Here a place for magazines is found by the number of the processor that runs (a thread may be
 * moved between that and its lock: the lock keeps that right), or in a simulation by the number of
 * the thread. Locks: the processor's, then the depot's, then those of slab layers.
 */
#include <sched.h>

#include "classic/slab_parts.h"

#define TOLERATED(interval) ((interval) / 16) /* exchanges with contention */

/* ---------------------------------------------------------------- magazines */

static size_t rounds_of(unsigned kind) {
    return ((size_t)4 << kind) - 2;
}

size_t lu__magazine_bytes(unsigned kind) {
    return sizeof(struct lu__magazine) + rounds_of(kind) * sizeof(void *);
}

/* Larger objects have smaller magazines: what lies in them serves nobody else. */
void lu__magazine_setup(struct lu__slab_cache *cache) {
    size_t size = cache->size;
    cache->depot.kind = size <= 128 ? 2 : size <= 1024 ? 1 : 0;
    cache->depot.interval = size <= 1024 ? 64 : 16;
    cache->depot.most_kind = size <= 512 ? 5 : size <= 1024 ? 4 : size <= 4096 ? 3 : 1;
}

static struct lu__magazine *make_magazine(struct lu__slab_cache *cache) {
    unsigned kind = cache->depot.kind;
    struct lu__magazine *magazine = lu__slab_take(&cache->heap->magazines[kind]);
    if (magazine == NULL) return NULL;
    magazine->next = NULL;
    magazine->rounds = 0;
    magazine->capacity = (uint16_t)rounds_of(kind);
    magazine->kind = kind;
    return magazine;
}

static void give(struct lu__slab_heap *heap, void *object, bool by_caller) {
    size_t index;
    struct lu__slab *slab = lu__slab_locate(heap, object, &index);
    if (slab != NULL) {
        lu__slab_give(slab, index, by_caller);
    } else {
        lu__classic_misuse(&heap->head, "a slab's descriptor was overwritten", object);
    }
}

static void unmake_magazine(struct lu__slab_heap *heap, struct lu__magazine *magazine) {
    give(heap, magazine, true);
}

/* The rounds go to their slabs, and the magazines (a list) as well. */
static void empty_out(struct lu__slab_heap *heap, struct lu__magazine *magazine) {
    while (magazine != NULL) {
        struct lu__magazine *next = magazine->next;
        while (magazine->rounds > 0) give(heap, magazine->round[--magazine->rounds], false);
        unmake_magazine(heap, magazine);
        magazine = next;
    }
}

/* ---------------------------------------------------------------- the depot */

static void lock_depot(struct lu__slab_depot *depot) {
    if (lu__lock_try(&depot->lock)) return;
    lu__lock_acquire(&depot->lock);
    depot->contended++;
    depot->contention++;
}

static void put_full(struct lu__slab_depot *depot, struct lu__magazine *magazine) {
    magazine->next = depot->full;
    __atomic_store_n(&depot->full, magazine, __ATOMIC_RELAXED);
    depot->fulls++;
}

static struct lu__magazine *get_full(struct lu__slab_depot *depot) {
    struct lu__magazine *magazine = depot->full;
    if (magazine == NULL) return NULL;
    __atomic_store_n(&depot->full, magazine->next, __ATOMIC_RELAXED);
    magazine->next = NULL;
    depot->fulls--;
    depot->least_fulls = LU_MIN(depot->least_fulls, depot->fulls);
    return magazine;
}

static void put_empty(struct lu__slab_depot *depot, struct lu__magazine *magazine) {
    magazine->next = depot->empty;
    depot->empty = magazine;
    depot->empties++;
}

static struct lu__magazine *get_empty(struct lu__slab_depot *depot) {
    struct lu__magazine *magazine = depot->empty;
    if (magazine == NULL) return NULL;
    depot->empty = magazine->next;
    magazine->next = NULL;
    depot->empties--;
    depot->least_empties = LU_MIN(depot->least_empties, depot->empties);
    return magazine;
}

/* An empty one of the size that is wanted now; smaller ones leave. */
static struct lu__magazine *get_room(struct lu__slab_cache *cache) {
    struct lu__magazine *magazine;
    while ((magazine = get_empty(&cache->depot)) != NULL) {
        if (magazine->kind == cache->depot.kind) return magazine;
        unmake_magazine(cache->heap, magazine);
    }
    return make_magazine(cache);
}

/* The end of an interval: magazines grow if there was contention, and what nobody needed leaves. */
static void end_interval(struct lu__slab_cache *cache) {
    struct lu__slab_depot *depot = &cache->depot;
    struct lu__magazine *surplus = NULL, *magazine;
    lu__lock_acquire(&depot->lock);
    if (depot->operations >= depot->interval) {
        if (depot->contended > TOLERATED(depot->interval) && depot->kind < depot->most_kind) {
            depot->kind++;
            depot->growths++;
        }
        for (size_t n = depot->least_fulls; n > 0; n--) {
            magazine = get_full(depot);
            magazine->next = surplus;
            surplus = magazine;
        }
        for (size_t n = depot->least_empties; n > 0; n--) {
            magazine = get_empty(depot);
            magazine->next = surplus;
            surplus = magazine;
        }
        depot->least_fulls = depot->fulls;
        depot->least_empties = depot->empties;
        depot->operations = depot->contended = 0;
    }
    lu__lock_release(&depot->lock);
    empty_out(cache->heap, surplus);
}

/* ---------------------------------------------------------------- processors */

static struct lu__slab_cpu *here(struct lu__slab_cache *cache) {
    const struct lu__slab_heap *heap = cache->heap;
    unsigned number = heap->head.thread;
    if (heap->options.by_processor || heap->head.config.of_process) {
        number = (unsigned)sched_getcpu();
    }
    return &cache->cpus[number % LU_SLAB_PROCESSORS];
}

static void swap(struct lu__slab_cpu *cpu) {
    struct lu__magazine *loaded = cpu->loaded;
    cpu->loaded = cpu->previous;
    cpu->previous = loaded;
}

/* Under the processor's lock. True if there is a full magazine now. `due`: an interval ends. */
static bool load_full(struct lu__slab_cache *cache, struct lu__slab_cpu *cpu, bool *due) {
    struct lu__slab_depot *depot = &cache->depot;
    if (__atomic_load_n(&depot->full, __ATOMIC_RELAXED) == NULL) return false;
    lock_depot(depot);
    struct lu__magazine *full = get_full(depot);
    if (full != NULL) {
        if (cpu->previous != NULL) put_empty(depot, cpu->previous);
        cpu->previous = cpu->loaded;
        cpu->loaded = full;
        depot->exchanges++;
        *due = ++depot->operations >= depot->interval;
    }
    lu__lock_release(&depot->lock);
    return full != NULL;
}

static bool load_empty(struct lu__slab_cache *cache, struct lu__slab_cpu *cpu, bool *due) {
    struct lu__slab_depot *depot = &cache->depot;
    lock_depot(depot);
    struct lu__magazine *room = get_room(cache);
    if (room != NULL) {
        if (cpu->previous != NULL) put_full(depot, cpu->previous);
        cpu->previous = cpu->loaded;
        cpu->loaded = room;
        depot->exchanges++;
        *due = ++depot->operations >= depot->interval;
    }
    lu__lock_release(&depot->lock);
    return room != NULL;
}

static bool has_rounds(const struct lu__magazine *magazine) {
    return magazine != NULL && magazine->rounds > 0;
}

void *lu__magazine_pop(struct lu__slab_cache *cache) {
    struct lu__slab_cpu *cpu = here(cache);
    void *object = NULL;
    bool due = false;
    lu__lock_acquire(&cpu->lock);
    if (!has_rounds(cpu->loaded) && has_rounds(cpu->previous)) swap(cpu);
    if (has_rounds(cpu->loaded) || load_full(cache, cpu, &due)) {
        object = cpu->loaded->round[--cpu->loaded->rounds];
        cpu->allocs++;
    }
    lu__lock_release(&cpu->lock);
    if (due) end_interval(cache);
    return object;
}

static bool has_room(const struct lu__magazine *magazine) {
    return magazine != NULL && magazine->rounds < magazine->capacity;
}

bool lu__magazine_push(struct lu__slab_cache *cache, void *object) {
    struct lu__slab_cpu *cpu = here(cache);
    bool due = false, done = false;
    lu__lock_acquire(&cpu->lock);
    if (!has_room(cpu->loaded) && has_room(cpu->previous)) swap(cpu);
    if (has_room(cpu->loaded) || load_empty(cache, cpu, &due)) {
        cpu->loaded->round[cpu->loaded->rounds++] = object;
        cpu->frees++;
        done = true;
    }
    lu__lock_release(&cpu->lock);
    if (due) end_interval(cache);
    return done;
}

/* ---------------------------------------------------------------- draining */

void lu__magazine_drain_cpu(struct lu__slab_cache *cache, unsigned number) {
    struct lu__slab_cpu *cpu = &cache->cpus[number % LU_SLAB_PROCESSORS];
    lu__lock_acquire(&cpu->lock);
    struct lu__magazine *loaded = cpu->loaded, *previous = cpu->previous;
    cpu->loaded = cpu->previous = NULL;
    lu__lock_release(&cpu->lock);
    empty_out(cache->heap, loaded);
    empty_out(cache->heap, previous);
}

void lu__magazine_drain(struct lu__slab_cache *cache) {
    struct lu__slab_depot *depot = &cache->depot;
    for (unsigned cpu = 0; cpu < LU_SLAB_PROCESSORS; cpu++) lu__magazine_drain_cpu(cache, cpu);
    lu__lock_acquire(&depot->lock);
    struct lu__magazine *full = depot->full, *empty = depot->empty;
    __atomic_store_n(&depot->full, NULL, __ATOMIC_RELAXED);
    depot->empty = NULL;
    depot->fulls = depot->empties = depot->least_fulls = depot->least_empties = 0;
    lu__lock_release(&depot->lock);
    empty_out(cache->heap, full);
    empty_out(cache->heap, empty);
}
