/*
 * magazine.c - magazines: constructed objects that a thread has at hand, without a lock.
 *
 *     thread: lu__rack --> [ head | 1 | 2 | 3 | ... ]      a magazine for each numbered cache
 *                                   |
 *                  bottom [ - ] [ object, state ] [ object, state ] . . .
 *                                                 ^ top             ^ full
 *
 * After Bonwick and Adams, "Magazines and Vmem" (USENIX 2001), section 3. Their threads have two
 * magazines, loaded and previous; here a thread has one with twice the rounds. Half of it is filled
 * from the slabs when it is empty, and given back when it is full: as with two, the lock of the
 * cache is taken at most once in so many calls. There is no depot: the slabs take its place.
 *
 * The state of an object (slabs.h) is the only truth. A pop sets it from `hand` to `live`, a push
 * the reverse, each by one store; everything else in a rack only says where such objects can be
 * found. So no other thread ever has to read a rack, and the child of fork forgets all racks: an
 * object in a magazine there is ready again when its slab is settled (cache.c).
 *
 * Stamps. A magazine is valid if it has the stamp of its cache. The cache's stamp changes
 *
 *     in lu_cache_reap      the thread gives back what it has at hand, at its next call
 *     in a child of fork    with the serial: what the magazine holds is not its own any more
 *     in lu_cache_destroy   for ever; a later cache of that number or address has another
 *
 * Racks and rounds lie in META runs, are used again by later threads, and never go back. A rack
 * without a thread is in the list of idle ones, or belonged to a thread that does not exist in this
 * child of fork: a search through all racks that there were at the fork finds those when a rack is
 * needed.
 *
 * Locks: lu__caches_lock (cache.c) guards the registry of caches, the lists of racks and their
 * memory; its holder may take the lock of a cache, so that no cache can end while a thread that
 * ends gives its objects back. A rack belongs to its thread.
 */
#include "api/magazine.h"

#include <string.h>

#include "api/cache.h"
#include "api/surface.h"
#include "base/pieces.h"
#include "heap/heap.h"

#define ROUNDS_BYTES ((LU_MAGAZINE_MOST + 1) * sizeof(struct lu__round))

struct lu__rack lu__no_rack;
__thread struct lu__rack *lu__rack = &lu__no_rack;

static struct lu_cache *registry[LU_RACK_CACHES]; /* by number; [0] is none              */
static uint32_t number_hint = 1;                  /* the numbers below are in use          */
static struct lu__rack *all_racks;                /* by next_all                           */
static struct lu__rack *idle;                     /* by next_idle                          */
static struct lu__rack *inherited;      /* in a child: this and the next may be nobody's */
static uint32_t inherited_forks;        /* ... if they were claimed before this fork */
static struct lu__pieces racks, rounds; /* zeroed META memory                    */
static uint64_t stamps;                 /* given so far; atomic                  */
static const uint8_t no_state = LU_SLAB_RAW;

_Static_assert(sizeof(struct lu__magazine) == 64, "cache->place is the number by it");
_Static_assert(sizeof(struct lu__rack_head) <= sizeof(struct lu__magazine),
               "place 0 is the head's");
_Static_assert(LU_SLICE % sizeof(struct lu__rack) == 0 && LU_SLICE % ROUNDS_BYTES == 0, "pieces");

uint64_t lu__magazine_stamp(void) {
    return __atomic_add_fetch(&stamps, 1, __ATOMIC_RELAXED);
}

/* ------------------------------------------------------------------ the registry ------------- */

void lu__magazine_enroll(struct lu_cache *cache) {
    if (cache->most_rounds == 0 || !lu__inside_enter()) return;
    lu__lock_acquire(&lu__caches_lock);
    uint32_t number = number_hint;
    while (number < LU_RACK_CACHES && registry[number] != NULL) number++;
    number_hint = number;
    if (number < LU_RACK_CACHES) {
        cache->place = number * sizeof(struct lu__magazine);
        LU_SET(registry[number], cache);
    }
    lu__lock_release(&lu__caches_lock);
    lu__inside_leave();
}

void lu__magazine_strike(struct lu_cache *cache) {
    size_t number = cache->place / sizeof(struct lu__magazine);
    if (number == 0 || !lu__inside_enter()) return;
    lu__lock_acquire(&lu__caches_lock);
    LU_SET(registry[number], NULL);
    number_hint = LU_MIN(number_hint, (uint32_t)number);
    lu__lock_release(&lu__caches_lock);
    lu__inside_leave();
}

/* ------------------------------------------------------------------ racks -------------------- */

static void *take_piece(struct lu__pieces *pieces, size_t bytes) {
    bool zero;
    if (pieces->count == 0) {
        struct span *run = lu__run_alloc(1, 1, LU_KIND_META, &zero);
        if (run == NULL) return NULL;
        void *start = lu__span_start(run);
        if (!zero) memset(start, 0, LU_SLICE);
        lu__pieces_refill(pieces, start, LU_SLICE / bytes);
    }
    return lu__pieces_take(pieces, bytes);
}

/* Of no cache, and empty. */
static void reset(struct lu__magazine *magazine) {
    magazine->stamp = 0;
    magazine->serial = 0;
    magazine->top = magazine->bottom;
    magazine->slab = 0;
}

static void reset_all(struct lu__rack *rack) {
    for (uint32_t i = 1; i < rack->head.used; i++) reset(&rack->magazines[i]);
}

static struct lu__rack *nobodys_locked(void) {
    struct lu__rack *rack = idle;
    if (rack != NULL) {
        LU_SET(idle, rack->head.next_idle);
        return rack;
    }
    while ((rack = inherited) != NULL) {
        LU_SET(inherited, rack->head.next_all);
        if (rack->head.forks == inherited_forks) continue;
        reset_all(rack);
        return rack;
    }
    rack = take_piece(&racks, sizeof *rack);
    if (rack == NULL) return NULL;
    rack->head.used = 1;
    rack->head.next_all = all_racks;
    LU_SET(all_racks, rack);
    return rack;
}

/* A rack for a thread whose end will be noticed. */
static void claim(void) {
    struct heap *heap = lu__thread_enter();
    if (heap == NULL) return;
    lu__thread_leave(heap);
    if (heap != lu__own_heap || !lu__thread_mark()) return;
    lu__lock_acquire(&lu__caches_lock);
    struct lu__rack *rack = lu__rack == &lu__no_rack ? nobodys_locked() : lu__rack;
    if (rack != NULL) {
        rack->head.forks = inherited_forks;
        lu__rack = rack;
        LU_SET(lu__thread_ending, lu__magazine_thread_exit);
    }
    lu__lock_release(&lu__caches_lock);
    lu__inside_leave();
}

void lu__magazine_prepare_slow(const struct lu_cache *cache) {
    if (lu__rack == &lu__no_rack) claim();
    if (lu__rack == &lu__no_rack || lu__magazine_of(cache)->bottom != NULL || !lu__thread_mark())
        return;
    lu__lock_acquire(&lu__caches_lock);
    struct lu__round *bottom = take_piece(&rounds, ROUNDS_BYTES);
    lu__lock_release(&lu__caches_lock);
    lu__inside_leave();
    if (bottom == NULL) return;
    struct lu__rack *rack = lu__rack;
    uint32_t number = (uint32_t)(cache->place / sizeof(struct lu__magazine));
    bottom->state = (uint8_t *)(uintptr_t)&no_state;
    lu__magazine_of(cache)->top = bottom;
    LU_SET(lu__magazine_of(cache)->bottom, bottom);
    if (rack->head.used <= number) LU_SET(rack->head.used, number + 1);
}

/* ------------------------------------------------------------------ one magazine ------------- */

void lu__magazine_flush(struct lu_cache *cache, struct lu__magazine *magazine, size_t keep) {
    struct lu__round *first = magazine->bottom + 1;
    size_t count = (size_t)(magazine->top - magazine->bottom), out = count - LU_MIN(count, keep);
    for (size_t i = 0; i < out; i++) lu__cache_put_ready(cache, first[i].object);
    if (out != 0) memmove(first, first + out, (count - out) * sizeof *first);
    magazine->top = magazine->bottom + (count - out);
}

struct lu__magazine *lu__magazine_adopt(struct lu_cache *cache) {
    struct lu__magazine *magazine = lu__magazine_of(cache);
    if (cache->place == 0 || cache->ending || magazine->bottom == NULL) return NULL;
    if (magazine->serial != cache->serial) {
        magazine->top = magazine->bottom; /* what was there is a destroyed cache's */
        magazine->full = magazine->bottom + cache->most_rounds;
        cache->users++;
        magazine->serial = cache->serial;
    } else if (magazine->stamp != cache->stamp) {
        lu__magazine_flush(cache, magazine, 0);
    } else {
        return magazine;
    }
    magazine->slab = 0;
    LU_SET(magazine->stamp, cache->stamp);
    return magazine;
}

void lu__magazine_flush_mine(struct lu_cache *cache) {
    struct lu__magazine *magazine = lu__magazine_adopt(cache);
    if (magazine != NULL) lu__magazine_flush(cache, magazine, 0);
}

void lu__magazine_refill(struct lu_cache *cache, struct lu__magazine *magazine) {
    const struct lu__slab_shape *shape = &cache->shape;
    const struct lu__round *half = magazine->bottom + cache->most_rounds / 2;
    struct lu__slab *slab;
    while (magazine->top < half && (slab = cache->ready.first) != NULL) {
        uint32_t index = lu__slab_pop_ready(slab);
        cache->ready_count--;
        lu__cache_relink(cache, slab, &cache->ready);
        lu__magazine_push(magazine, lu__slab_object(shape, slab, index), &slab->states[index]);
    }
}

/* ------------------------------------------------------------------ all of a thread ---------- */

/* `end`: the thread ends. The caller is inside. */
static void give_back(struct lu__rack *rack, uint32_t number, bool end) {
    struct lu__magazine *magazine = &rack->magazines[number];
    if (magazine->serial == 0) return;
    lu__lock_acquire(&lu__caches_lock);
    struct lu_cache *cache = registry[number];
    if (cache != NULL) {
        lu__cache_see_fork_locked(cache);
        lu__lock_acquire(&cache->lock);
        if (cache->serial == magazine->serial && !cache->ending) {
            lu__magazine_flush(cache, magazine, 0);
            if (end) cache->users--;
        }
        lu__lock_release(&cache->lock);
    }
    if (end) reset(magazine);
    lu__lock_release(&lu__caches_lock);
}

void lu__magazine_thread_exit(void) {
    struct lu__rack *rack = lu__rack;
    if (rack == &lu__no_rack || !lu__thread_mark()) return;
    lu__rack = &lu__no_rack;
    for (uint32_t i = 1; i < rack->head.used; i++) give_back(rack, i, true);
    lu__lock_acquire(&lu__caches_lock);
    rack->head.next_idle = idle;
    LU_SET(idle, rack);
    lu__lock_release(&lu__caches_lock);
    lu__inside_leave();
}

void lu__magazine_purge(void) {
    struct lu__rack *rack = lu__rack;
    if (rack == &lu__no_rack || !lu__thread_mark()) return;
    for (uint32_t i = 1; i < rack->head.used; i++) give_back(rack, i, false);
    lu__inside_leave();
}

/* ------------------------------------------------------------------ fork --------------------- */

void lu__magazine_fork_child(void) {
    idle = NULL;
    inherited = all_racks;
    inherited_forks = lu__cache_forks;
    if (lu__rack == &lu__no_rack) return;
    reset_all(lu__rack);
    lu__rack->head.forks = inherited_forks;
}
