/*
 * walks_heaps.c - rows of bench_walks about many threads, and about many object caches.
 *
 *     n threads at once, each allocates     they end; what an allocator keeps for threads to come
 *     and waits for the others              is n times what one had         then: the calls
 */
#include "walks.h"

#include <limits.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    STACK_BYTES = 64 << 10,
    LIVES = 500,
    RUN_BYTES = 100000,
    TINY_BLOCK = 8,
    TINY_FREE = 16,
    CALLS = 1000,
    FORKS = 20,
};

/* ------------------------------------------------------------------ threads ------------------ */

static pthread_barrier_t barrier;

static void *live_once(void *unused) {
    void *block = walk_malloc(100, true);
    (void)unused;
    pthread_barrier_wait(&barrier);
    free(block);
    return NULL;
}

static void start_thread(pthread_t *thread, void *(*work)(void *), void *arg) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setguardsize(&attributes, 0); /* so that stacks are few mappings */
    if (pthread_create(thread, &attributes, work, arg) != 0) bench_fail("no thread");
    pthread_attr_destroy(&attributes);
}

static void make_heaps(const struct walk *walk) {
    pthread_t *threads = bench_map(walk->count * sizeof(*threads));
    pthread_barrier_init(&barrier, NULL, (unsigned)walk->count);
    for (uint64_t t = 0; t < walk->count; t++) start_thread(&threads[t], live_once, NULL);
    for (uint64_t t = 0; t < walk->count; t++) pthread_join(threads[t], NULL);
}

static void *first_malloc(void *arg) {
    struct walk *walk = arg, here = {.clock = walk->clock};
    walk_begin(&here);
    void *block = walk_malloc(100, true);
    walk_end(&here);
    watch_end(&here.watch);
    walk_merge(walk, &here);
    free(block);
    return NULL;
}

void walk_thread_start(struct walk *walk) {
    pthread_t thread;
    make_heaps(walk);
    for (int i = 0; i < LIVES && walk_goes_on(walk); i++) {
        start_thread(&thread, first_malloc, walk);
        pthread_join(thread, NULL);
    }
}

/* Destructors run in the order of their keys, and the allocator's has been made before: when ours
 * runs, its work is done. What the C library does after all destructors is not seen. */
static pthread_key_t key;

struct life {
    struct walk *walk;
    uint64_t cpu; /* at the end of the thread's own work */
};

static void end_life(void *arg) {
    struct life *life = arg;
    walk_add(life->walk, walk_cpu() - life->cpu);
}

static void *live_and_end(void *arg) {
    struct life *life = arg;
    free(walk_malloc(100, true));
    pthread_setspecific(key, life);
    life->cpu = walk_cpu();
    return NULL;
}

void walk_thread_exit(struct walk *walk) {
    struct life life = {.walk = walk};
    pthread_t thread;
    make_heaps(walk);
    pthread_key_create(&key, end_life);
    for (int i = 0; i < LIVES && walk_goes_on(walk); i++) {
        start_thread(&thread, live_and_end, &life);
        pthread_join(thread, NULL);
    }
}

void walk_pool_tick(struct walk *walk) {
    make_heaps(walk);
    while (walk_goes_on(walk)) {
        walk_pair(walk, RUN_BYTES);
    }
}

void walk_stale_heaps(struct walk *walk) {
    void *table[TINY_FREE + 1];
    make_heaps(walk);
    for (int i = 0; i <= TINY_FREE; i++) table[i] = walk_malloc(TINY_BLOCK, true);
    for (int i = 1; i <= TINY_FREE; i++) free(table[i]);
    walk_free_stale(walk, table[0], table[TINY_FREE / 2], TINY_BLOCK);
}

/* ------------------------------------------------------------------ caches ------------------- */

typedef void *create_fn(const char *, size_t, size_t, void *, void *, void *);
typedef void destroy_fn(void *);

static create_fn *create;
static destroy_fn *destroy;

static void *make_cache(void) {
    void *cache = create("walks", 64, 0, NULL, NULL, NULL);
    if (cache == NULL) bench_fail("no cache");
    return cache;
}

static void **make_caches(const struct walk *walk) {
    void **caches = walk_table(walk->count);
    create = (create_fn *)walk_find("lu_cache_create");
    destroy = (destroy_fn *)walk_find("lu_cache_destroy");
    if (create == NULL || destroy == NULL) bench_fail("this allocator has no object caches");
    for (uint64_t i = 0; i < walk->count; i++) caches[i] = make_cache();
    return caches;
}

void walk_cache_create(struct walk *walk) {
    (void)make_caches(walk);
    for (int i = 0; i < CALLS && walk_goes_on(walk); i++) {
        walk_begin(walk);
        (void)make_cache();
        walk_end(walk);
    }
}

void walk_cache_destroy(struct walk *walk) {
    void **caches = make_caches(walk);
    for (uint64_t i = 0; i < walk->count && i < CALLS && walk_goes_on(walk); i++) {
        walk_begin(walk);
        destroy(caches[i]);
        walk_end(walk);
    }
}

void walk_cache_fork(struct walk *walk) {
    (void)make_caches(walk);
    for (int i = 0; i < FORKS && walk_goes_on(walk); i++) {
        walk_begin(walk);
        pid_t child = fork();
        if (child == 0) _exit(0);
        walk_end(walk);
        if (child < 0 || waitpid(child, NULL, 0) != child) bench_fail("no child");
    }
}
