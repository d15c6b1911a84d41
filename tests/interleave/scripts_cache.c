/*
 * scripts_cache.c - what a few threads do to an object cache: taking and giving back what is at
 * hand, reaping, ends of threads, and a fork at any place of another.
 *
 *     thread 0    has two objects at hand, thread 1 one; two more are live
 *
 * An object holds a mark whenever it is free, and the number of a thread while that has it: one
 * that is given out while it is live, or destructed twice, shows.
 */
#include "scripts_cache.h"

#include "api/surface.h"
#include "explore.h"
#include "lucid/lucid.h"

enum { FREE_MARK = 77, OBJECTS = 4, SIZE = 1500 };

static lu_cache_t *cache;
static uint64_t *objects[OBJECTS], *taken[EXPLORE_THREADS];
static size_t built, torn;
static unsigned reports;

static int build(void *object, void *arg) {
    (void)arg;
    *(uint64_t *)object = FREE_MARK;
    built++;
    return 0;
}
static void tear(void *object, void *arg) {
    (void)arg;
    EXPLORE_CHECK(*(uint64_t *)object == FREE_MARK);
    *(uint64_t *)object = 0;
    torn++;
}
static bool count_report(const lu_violation_t *violation, void *arg) {
    (void)arg;
    EXPLORE_CHECK(violation->kind == LU_DOUBLE_FREE);
    reports++;
    return true;
}

static uint64_t *take(void) {
    uint64_t *object = lu_cache_alloc(cache);
    EXPLORE_CHECK(object != NULL && *object == FREE_MARK);
    *object = explore_self();
    return object;
}
static void give(uint64_t *object) {
    EXPLORE_CHECK(*object == explore_self());
    *object = FREE_MARK;
    lu_cache_free(cache, object);
}

static void make(void) {
    built = torn = reports = 0;
    lu_set_violation_handler(count_report, NULL);
    cache = lu_cache_create("explored", SIZE, 0, build, tear, NULL);
    EXPLORE_CHECK(cache != NULL);
    for (size_t i = 0; i < OBJECTS; i++) objects[i] = take();
    give(objects[0]);
    give(objects[1]);
}
static void take_and_give(void) {
    give(take());
}
void caches_prepare(void) {
    explore_as(0, make);
    explore_as(1, take_and_give);
    for (size_t i = 2; i < OBJECTS; i++) *objects[i] = FREE_MARK;
}

/* Frees what another thread allocated, and uses what it gets. */
void caches_use(void) {
    lu_cache_free(cache, objects[2 + explore_self() % 2]);
    uint64_t *one = take(), *other = take();
    give(one);
    give(other);
}
/* More than are at hand, and more than a magazine has room for. */
void caches_use_many(void) {
    uint64_t *mine[12];
    for (size_t i = 0; i < 12; i++) mine[i] = take();
    for (size_t i = 0; i < 12; i++) give(mine[i]);
}
void caches_reap(void) {
    (void)lu_cache_reap(cache, 0);
}
void caches_use_and_end(void) {
    caches_use();
    explore_thread_end();
}

/* All threads have come to their ends, or are not in this child. */
static void destroy(void) {
    lu_cache_destroy(cache);
}
void caches_check(void) {
    EXPLORE_CHECK(reports == 0);
    explore_as(0, destroy);
    EXPLORE_CHECK(built == torn);
}

void caches_fork_then_use(void) {
    uint64_t *mine[6];
    explore_fork();
    lu__cache_fork_child(true);
    for (size_t i = 0; i < 6; i++) mine[i] = take();
    for (size_t i = 0; i < 6; i++) give(mine[i]);
    (void)lu_cache_reap(cache, 0);
    EXPLORE_CHECK(reports == 0);
}

/* One object freed by two threads: reported once, and never given out twice. */
void caches_free_same(void) {
    lu_cache_free(cache, objects[2]);
}
static void take_one(void) {
    taken[explore_self()] = take();
}
void caches_check_same(void) {
    explore_as(0, take_one);
    explore_as(1, take_one);
    EXPLORE_CHECK(taken[0] != taken[1]);
    EXPLORE_CHECK(reports == 1);
}
