/* test_cache_end.c - api/cache_end: destructors that use their own cache. Whatever they do, each
 * object that was constructed is destructed once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/base.h"
#include "lucid/lucid.h"
#include "watch.h"

enum { MOST = 4000 };

struct node {
    size_t id;            /* given by the constructor, one by one    */
    struct node *kids[2]; /* owned: freed by the destructor          */
    char room[1000];
};

/* What the destructor shall do besides, and what happened. */
static lu_cache_t *cache;
static void (*meanwhile)(struct node *node);
static size_t constructed, destructed, times[MOST];
static size_t before; /* live bytes without the cache */

static size_t live_bytes(void) {
    lu_stats_t stats;
    lu_purge(); /* posts what was freed of other threads' heaps */
    lu_stats_get(&stats);
    return stats.live_bytes;
}

static int construct(void *object, void *arg) {
    struct node *node = object;
    assert_null(arg);
    assert_true(constructed < MOST);
    memset(node, 0, sizeof *node);
    node->id = constructed++;
    return 0;
}

static void destruct(void *object, void *arg) {
    struct node *node = object;
    assert_null(arg);
    assert_int_equal(times[node->id]++, 0);
    destructed++;
    if (meanwhile != NULL) meanwhile(node);
    for (size_t i = 0; i < 2; i++) {
        if (node->kids[i] != NULL) lu_cache_free(cache, node->kids[i]);
        node->kids[i] = NULL;
    }
}

static void begin(void (*also)(struct node *node)) {
    memset(times, 0, sizeof times);
    constructed = destructed = 0;
    meanwhile = NULL;
    before = live_bytes();
    cache = lu_cache_create("nodes", sizeof(struct node), 0, construct, destruct, NULL);
    assert_non_null(cache);
    meanwhile = also;
}

static void assert_all_ended(void) {
    assert_int_equal(destructed, constructed);
    for (size_t i = 0; i < constructed; i++) assert_int_equal(times[i], 1);
    assert_int_equal(live_bytes(), before);
}

/* ------------------------------------------------------------------ misuse is still seen ----- */

/* ------------------------------------------------------------------ destroy ------------------ */

/* A chain in which each node owns the one before, or the one behind, and a tree. */
static void trees(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 2, 16, 100, 2000};
    static struct node *nodes[MOST];
    for (size_t s = 0; s < LU_COUNT_OF(sizes); s++) {
        size_t count = sizes[s];
        for (int shape = 0; shape < 4; shape++) {
            begin(NULL);
            for (size_t i = 0; i < count; i++) nodes[i] = lu_cache_alloc(cache);
            for (size_t i = 0; i < count; i++) {
                struct node *node = nodes[i];
                if (shape == 0 && i > 0) node->kids[0] = nodes[i - 1];
                if (shape == 1 && i + 1 < count) node->kids[0] = nodes[i + 1];
                if (shape == 2 && 2 * i + 1 < count) node->kids[0] = nodes[2 * i + 1];
                if (shape == 2 && 2 * i + 2 < count) node->kids[1] = nodes[2 * i + 2];
                if (shape == 3 && i > 0) nodes[(i - 1) / 3]->kids[i % 2] = node; /* some are lost */
            }
            if (shape != 1) lu_cache_free(cache, nodes[shape == 0 ? count - 1 : 0]); /* the root */
            lu_cache_destroy(cache);
            assert_int_equal(constructed, count);
            assert_all_ended();
        }
    }
    assert_int_equal(violations, 0);
}

static void *taken, *freed;

static void free_wrongly(struct node *node) {
    if (violations != 0 || node == taken) return;
    lu_cache_free(cache, taken); /* right, once */
    assert_int_equal(violations, 0);
    lu_cache_free(cache, taken);
    assert_int_equal(violations, 1);
    assert_int_equal(last.kind, LU_DOUBLE_FREE);
    lu_cache_free(cache, freed); /* before it was destroyed, or after */
    assert_int_equal(violations, 2);
    assert_int_equal(last.kind, LU_DOUBLE_FREE);
    assert_ptr_equal(last.pointer, freed);
    lu_cache_free(cache, node->room);
    assert_int_equal(last.kind, LU_INTERIOR_POINTER);
    lu_cache_free(cache, &violations);
    assert_int_equal(last.kind, LU_WRONG_HEAP);
    assert_int_equal(violations, 4);
}

static void double_free_at_the_end(void **state) {
    (void)state;
    for (int order = 0; order < 2; order++) {
        begin(free_wrongly);
        void *first = lu_cache_alloc(cache), *second = lu_cache_alloc(cache);
        (void)lu_cache_alloc(cache);
        violations = 0;
        taken = order == 0 ? first : second;
        freed = order == 0 ? second : first;
        lu_cache_free(cache, freed);
        lu_cache_destroy(cache);
        assert_int_equal(violations, 4);
        assert_all_ended();
    }
}

static void try_all(struct node *node) {
    (void)node;
    errno = 0;
    assert_null(lu_cache_alloc(cache));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(lu_cache_reap(cache, 0), 0);
    lu_cache_destroy(cache);
}

static void use_while_destroyed(void **state) {
    (void)state;
    begin(try_all);
    for (size_t i = 0; i < 100; i++) {
        void *object = lu_cache_alloc(cache);
        if (i % 3 == 0) lu_cache_free(cache, object);
    }
    lu_cache_destroy(cache);
    assert_all_ended();
    assert_int_equal(violations, 0);
}

/* ------------------------------------------------------------------ reap --------------------- */

static void take_and_free(struct node *node) {
    (void)node;
    if (constructed == MOST) return;
    lu_cache_free(cache, lu_cache_alloc(cache));
}

static void fill(size_t count) {
    static void *objects[MOST];
    for (size_t i = 0; i < count; i++) objects[i] = lu_cache_alloc(cache);
    for (size_t i = 0; i < count; i++) lu_cache_free(cache, objects[i]);
}

/* As many are destroyed as there were too many, though each leaves another behind. */
static void reap_ends(void **state) {
    (void)state;
    begin(take_and_free);
    fill(100);
    assert_int_equal(lu_cache_reap(cache, 10), 90);
    assert_int_equal(constructed, 100);
    assert_int_equal(lu_cache_reap(cache, 0), 10);
    assert_int_equal(destructed, 100);
    assert_int_equal(constructed, 101); /* by the destructor of the last */
    meanwhile = NULL;
    assert_int_equal(lu_cache_reap(cache, 0), 1);
    lu_cache_destroy(cache);
    assert_all_ended();
}

static void reap_more(struct node *node) {
    (void)node;
    (void)lu_cache_reap(cache, 0);
}

static void *reap_on_small_stack(void *arg) {
    fill(MOST);
    lu_cache_reap(cache, 0);
    return arg;
}

/* One in the other, as far as a small stack can bear. */
static void reap_in_reap(void **state) {
    (void)state;
    pthread_attr_t attr;
    pthread_t id;
    begin(reap_more);
    assert_int_equal(pthread_attr_init(&attr), 0);
    assert_int_equal(pthread_attr_setstacksize(&attr, 256 << 10), 0);
    assert_int_equal(pthread_create(&id, &attr, reap_on_small_stack, NULL), 0);
    assert_int_equal(pthread_join(id, NULL), 0);
    (void)pthread_attr_destroy(&attr);
    assert_int_equal(destructed, MOST);
    meanwhile = NULL;
    lu_cache_destroy(cache);
    assert_all_ended();
}

/* Trees of which only the root was freed: their destructors free the rest, and reap goes on. */
static void reap_trees(void **state) {
    (void)state;
    struct node *node = NULL;
    begin(NULL);
    for (size_t i = 0; i < 1000; i++) {
        struct node *above = lu_cache_alloc(cache);
        above->kids[0] = node;
        node = above;
    }
    lu_cache_free(cache, node);
    size_t total = 0, now;
    while ((now = lu_cache_reap(cache, 0)) > 0) total += now;
    assert_int_equal(total, 1000);
    lu_cache_destroy(cache);
    assert_all_ended();
    assert_int_equal(violations, 0);
}

/* A destructor or constructor does not have its object yet, or any more. */
static void free_self(struct node *node) {
    lu_cache_free(cache, node);
}

static void own_object_is_not_live(void **state) {
    (void)state;
    begin(free_self);
    fill(1);
    assert_int_equal(lu_cache_reap(cache, 0), 1);
    assert_int_equal(violations, 1);
    assert_int_equal(last.kind, LU_DOUBLE_FREE);
    lu_cache_destroy(cache);
    assert_all_ended();
}

/* ------------------------------------------------------------------ destroyed from inside ---- */

static void destroy_all(struct node *node) {
    size_t id = node->id;
    meanwhile = NULL;
    lu_cache_destroy(cache);
    assert_int_equal(node->id, id); /* it is still there */
    assert_int_equal(destructed, constructed);
}

static void destroyed_by_a_destructor(void **state) {
    (void)state;
    for (size_t count = 1; count < 100; count += 7) {
        begin(destroy_all);
        for (size_t i = 0; i < count; i++) (void)lu_cache_alloc(cache);
        fill(50);
        (void)lu_cache_reap(cache, 0);
        assert_all_ended();
        assert_int_equal(violations, 0);
    }
}

static int destroy_in_construct(void *object, void *arg) {
    struct node *node = object;
    assert_null(arg);
    memset(node, 0, sizeof *node);
    node->id = constructed++;
    if (constructed % 50 != 0) return 0;
    lu_cache_destroy(cache);
    node->id = constructed - 1;
    return constructed % 100 == 0 ? EAGAIN : 0;
}

static void destroyed_by_a_constructor(void **state) {
    (void)state;
    for (int fails = 0; fails < 2; fails++) {
        begin(NULL);
        lu_cache_destroy(cache);
        cache = lu_cache_create("nodes", sizeof(struct node), 0, destroy_in_construct, destruct,
                                NULL);
        size_t count = fails ? 100 : 50;
        if (fails) constructed = 50, times[49] = 1;
        for (size_t i = fails ? 51 : 1; i < count; i++) assert_non_null(lu_cache_alloc(cache));
        errno = 0;
        assert_null(lu_cache_alloc(cache));
        assert_int_equal(errno, fails ? EAGAIN : EINVAL);
        assert_int_equal(destructed, fails ? 49 : 50);
        assert_int_equal(live_bytes(), before);
    }
}

static jmp_buf out;
static unsigned jumps;

static void jump(struct node *node) {
    (void)node;
    if (jumps == 0) return;
    jumps--;
    longjmp(out, 1);
}

/* Left by longjmp, an object is neither free nor destructed again; the cache goes on, however often
 * that happens. */
static void left_by_longjmp(void **state) {
    (void)state;
    begin(jump);
    fill(100);
    jumps = 40;
    if (setjmp(out) == 0 || jumps > 0) {
        (void)lu_cache_reap(cache, 0);
        fail();
    }
    assert_int_equal(destructed, 40);
    assert_int_equal(lu_cache_reap(cache, 0), 60);
    fill(20);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, constructed);
}

/* ------------------------------------------------------------------ two caches --------------- */

/* Each object owns one of the other cache, which owns one of this, and so on. */
struct pair {
    struct pair *owned;
    uint64_t alive;
    char room[200];
};
static lu_cache_t *left, *right;
static size_t pairs;
static bool alone; /* the other cache is gone */

static int construct_pair(void *object, void *arg) {
    struct pair *pair = object;
    (void)arg;
    pair->owned = NULL;
    pair->alive = 1;
    pairs++;
    return 0;
}
/* `arg`: the cache of what it owns. */
static void destruct_pair(void *object, void *arg) {
    struct pair *pair = object;
    assert_int_equal(pair->alive, 1);
    pair->alive = 0;
    pairs--;
    if (pair->owned != NULL && !alone) lu_cache_free(*(lu_cache_t **)arg, pair->owned);
    pair->owned = NULL;
}

static struct pair *make_chain(size_t length) {
    struct pair *pair = NULL;
    for (size_t i = 0; i < length; i++) {
        struct pair *above = lu_cache_alloc(i % 2 == 0 ? left : right);
        assert_non_null(above);
        above->owned = pair;
        pair = above;
    }
    return pair;
}

static void two_caches(void **state) {
    (void)state;
    before = live_bytes();
    pairs = 0;
    left = lu_cache_create("left", sizeof(struct pair), 0, construct_pair, destruct_pair, &right);
    right = lu_cache_create("right", sizeof(struct pair), 0, construct_pair, destruct_pair, &left);
    lu_cache_free(right, make_chain(1000));
    for (size_t total = 0, now; total < 1000; total += now) {
        now = lu_cache_reap(right, 0) + lu_cache_reap(left, 0);
        assert_true(now > 0);
    }
    assert_int_equal(pairs, 0);
    /* What the objects of one own is freed into the other while the one is destroyed. */
    (void)make_chain(500);
    lu_cache_free(right, make_chain(500));
    lu_cache_destroy(right);
    assert_int_equal(violations, 0);
    assert_int_equal(pairs, 500);
    alone = true;
    lu_cache_destroy(left);
    alone = false;
    assert_int_equal(pairs, 0);
    assert_int_equal(violations, 0);
    assert_int_equal(live_bytes(), before);
}

/* ------------------------------------------------------------------ threads ------------------ */

static pthread_barrier_t together;
static size_t live_objects;

static int count_up(void *object, void *arg) {
    (void)arg;
    *(uint64_t *)object = 77;
    __atomic_fetch_add(&live_objects, 1, __ATOMIC_RELAXED);
    return 0;
}
static void count_down(void *object, void *arg) {
    (void)arg;
    assert_int_equal(*(uint64_t *)object, 77);
    *(uint64_t *)object = 0;
    __atomic_fetch_sub(&live_objects, 1, __ATOMIC_RELAXED);
}

static void *reap_and_use(void *arg) {
    lu_cache_t *shared = arg;
    uint64_t *objects[80];
    pthread_barrier_wait(&together);
    for (unsigned round = 0; round < 200; round++) {
        for (size_t i = 0; i < 80; i++) {
            objects[i] = lu_cache_alloc(shared);
            if (objects[i] == NULL || *objects[i] != 77) return NULL;
            *objects[i] = i;
        }
        for (size_t i = 0; i < 80; i++) {
            if (*objects[i] != i) return NULL;
            *objects[i] = 77;
            lu_cache_free(shared, objects[i]);
        }
        (void)lu_cache_reap(shared, round % 2 == 0 ? 0 : 100);
    }
    return arg;
}

/* Threads reap and use a cache at once; each object is destructed once. */
static void reaped_by_many(void **state) {
    (void)state;
    before = live_bytes();
    lu_cache_t *shared = lu_cache_create("many", 100, 0, count_up, count_down, NULL);
    pthread_t ids[4];
    void *result;
    assert_int_equal(pthread_barrier_init(&together, NULL, 4), 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, reap_and_use, shared), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(ids[i], &result), 0);
        assert_ptr_equal(result, shared);
    }
    (void)lu_cache_reap(shared, 0); /* all: what the threads had at hand came back as they ended */
    assert_int_equal(live_objects, 0);
    lu_cache_destroy(shared);
    assert_int_equal(live_objects, 0);
    assert_int_equal(violations, 0);
    (void)pthread_barrier_destroy(&together);
    assert_int_equal(live_bytes(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(trees, watch, unwatch),
        cmocka_unit_test_setup_teardown(double_free_at_the_end, watch, unwatch),
        cmocka_unit_test_setup_teardown(use_while_destroyed, watch, unwatch),
        cmocka_unit_test_setup_teardown(reap_ends, watch, unwatch),
        cmocka_unit_test_setup_teardown(reap_in_reap, watch, unwatch),
        cmocka_unit_test_setup_teardown(reap_trees, watch, unwatch),
        cmocka_unit_test_setup_teardown(own_object_is_not_live, watch, unwatch),
        cmocka_unit_test_setup_teardown(destroyed_by_a_destructor, watch, unwatch),
        cmocka_unit_test_setup_teardown(destroyed_by_a_constructor, watch, unwatch),
        cmocka_unit_test_setup_teardown(left_by_longjmp, watch, unwatch),
        cmocka_unit_test_setup_teardown(two_caches, watch, unwatch),
        cmocka_unit_test_setup_teardown(reaped_by_many, watch, unwatch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
