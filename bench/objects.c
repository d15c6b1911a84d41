/*
 * objects.c - objects of 200 bytes that must be constructed before they are used.
 *
 *     plain       malloc and free, with nothing constructed: what the others are compared with
 *     construct   malloc, all bytes are set, free
 *     cache       a cache of lucid's keeps them constructed (lu_cache_alloc, lu_cache_free)
 *
 * In waves: one object is taken and given back, then a few, then a few hundred. In the first two
 * modes the program runs on any allocator, in the third on lucid alone.
 */
#include "common.h"

#include <dlfcn.h>

enum { SIZE = 200, MOST = 400, ROUNDS = 60000, PAIRS = 400, FEW = 16 };

static void *cache;
static void *(*cache_alloc)(void *cache);
static void (*cache_free)(void *cache, void *object);

#define INLINE static inline __attribute__((always_inline))

static int construct(void *object, void *arg) {
    (void)arg;
    memset(object, 0x5a, SIZE);
    return 0;
}

static void *find(const char *name) {
    void *function = dlsym(RTLD_DEFAULT, name);
    if (function == NULL) bench_fail("this allocator has no object caches");
    return function;
}

static void make_cache(void) {
    typedef void *create_fn(const char *, size_t, size_t, int (*)(void *, void *), void *, void *);
    cache_alloc = (void *(*)(void *))find("lu_cache_alloc");
    cache_free = (void (*)(void *, void *))find("lu_cache_free");
    cache = ((create_fn *)find("lu_cache_create"))("objects", SIZE, 0, construct, NULL, NULL);
    if (cache == NULL) bench_fail("no cache");
}

static void *take_plain(void) {
    return malloc(SIZE);
}
static void *take_constructed(void) {
    void *object = malloc(SIZE);
    if (object != NULL) construct(object, NULL);
    return object;
}
static void *take_cached(void) {
    return cache_alloc(cache);
}
static void give_cached(void *object) {
    cache_free(cache, object);
}

/* Takes `count` and gives them back, the oldest first. Inlined, so that in each mode the allocator
 * is called as a program would, with nothing in between. */
INLINE void wave(void *(*take)(void), void (*give)(void *), size_t count) {
    static unsigned char *objects[MOST];
    for (size_t i = 0; i < count; i++) {
        objects[i] = take();
        if (objects[i] == NULL) bench_fail("no memory");
        objects[i][0] = (unsigned char)i;
    }
    for (size_t i = 0; i < count; i++) {
        if (objects[i][0] != (unsigned char)i) bench_fail("an object was overwritten");
        objects[i][0] = 0x5a;
        give(objects[i]);
    }
}

INLINE void waves(void *(*take)(void), void (*give)(void *), uint64_t rounds) {
    for (uint64_t i = 0; i < rounds; i++) {
        for (unsigned k = 0; k < PAIRS; k++) wave(take, give, 1);
        for (unsigned k = 0; k < PAIRS / FEW; k++) wave(take, give, FEW);
        if (i % 4 == 0) wave(take, give, MOST);
    }
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "objects", "plain construct cache", argc, argv);
    uint64_t rounds = bench_scaled(&bench, ROUNDS);
    bool cached = strcmp(bench.mode, "cache") == 0;
    if (cached) make_cache();
    bench_start(&bench);
    if (cached) {
        waves(take_cached, give_cached, rounds);
    } else if (strcmp(bench.mode, "construct") == 0) {
        waves(take_constructed, free, rounds);
    } else {
        waves(take_plain, free, rounds);
    }
    bench_stop(&bench);
    bench_report(&bench, rounds * (2 * PAIRS + MOST / 4));
    return 0;
}
