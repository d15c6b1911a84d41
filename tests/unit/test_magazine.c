/* test_magazine.c - api/magazine: objects of caches that threads have at hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/cache.h"
#include "fork_unwatched.h"
#include "lucid/lucid.h"
#include "watch.h"

enum { MAGIC = 0x600dcafe };

struct object {
    uint64_t magic;
    char room[192];
};

static size_t constructed, destructed; /* atomic */

static int construct(void *memory, void *arg) {
    (void)arg;
    ((struct object *)memory)->magic = MAGIC;
    __atomic_fetch_add(&constructed, 1, __ATOMIC_RELAXED);
    return 0;
}

static void destruct(void *memory, void *arg) {
    struct object *object = memory;
    (void)arg;
    assert_int_equal(object->magic, MAGIC);
    object->magic = 0;
    __atomic_fetch_add(&destructed, 1, __ATOMIC_RELAXED);
}

static lu_cache_t *create(void) {
    constructed = destructed = 0;
    lu_cache_t *cache = lu_cache_create("objects", sizeof(struct object), 0, construct, destruct,
                                        NULL);
    assert_non_null(cache);
    return cache;
}

static size_t at_hand(const lu_cache_t *cache) {
    const struct lu__magazine *magazine = lu__magazine_of(cache);
    bool is_its = magazine->serial == cache->serial;
    return is_its ? (size_t)(magazine->top - magazine->bottom) : 0;
}

static void in_thread(void *(*run)(void *), void *arg) {
    pthread_t id;
    void *result;
    assert_int_equal(pthread_create(&id, NULL, run, arg), 0);
    assert_int_equal(pthread_join(id, &result), 0);
    assert_ptr_equal(result, arg);
}

/* ------------------------------------------------------------------ at hand ------------------ */

/* No more than the bounds; what is too large, is not. */
static void bounds(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 8, 24, 200, 1000, 4096, 5000, 70000};
    static void *objects[300];
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        lu_cache_t *cache = lu_cache_create("sizes", sizes[i], 0, NULL, NULL, NULL);
        for (size_t k = 0; k < 300; k++) objects[k] = lu_cache_alloc(cache);
        size_t most = 0;
        for (size_t k = 0; k < 300; k++) {
            lu_cache_free(cache, objects[k]);
            most = LU_MAX(most, at_hand(cache));
        }
        size_t fit = LU_MIN((size_t)63, LU_MAGAZINE_BYTES / cache->shape.stride);
        assert_int_equal(most, sizes[i] <= 4096 ? fit : 0);
        assert_int_equal(at_hand(cache) + cache->ready_count, 300);
        assert_int_equal(lu_cache_reap(cache, 0), 300);
        assert_int_equal(at_hand(cache), 0);
        lu_cache_destroy(cache);
    }
}

/* The lock is taken once in many calls. */
static void without_lock(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    lu_cache_free(cache, lu_cache_alloc(cache));
    assert_int_equal(at_hand(cache), 1);
    assert_true(lu__cache_enter(cache)); /* who would take it, is refused */
    for (unsigned i = 0; i < 1000; i++) {
        struct object *object = lu_cache_alloc(cache);
        assert_non_null(object);
        assert_int_equal(object->magic, MAGIC);
        lu_cache_free(cache, object);
    }
    lu__cache_leave(cache);
    assert_int_equal(constructed, 1);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 1);
}

/* At a full and at an empty magazine, pairs go on without the lock as well. */
static void no_thrashing(void **state) {
    (void)state;
    void *objects[200];
    lu_cache_t *cache = create();
    for (size_t i = 0; i < 200; i++) objects[i] = lu_cache_alloc(cache);
    for (size_t i = 0; i < 200; i++) {
        lu_cache_free(cache, objects[i]);
        objects[i] = lu_cache_alloc(cache);
        size_t count = at_hand(cache);
        assert_true(lu__cache_enter(cache));
        lu_cache_free(cache, objects[i]);
        assert_true(at_hand(cache) == count + 1);
        void *again = lu_cache_alloc(cache);
        assert_ptr_equal(again, objects[i]);
        lu_cache_free(cache, again);
        lu__cache_leave(cache);
    }
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 200);
}

/* More caches than numbers; each of them works. */
static void many_caches(void **state) {
    (void)state;
    enum { CACHES = 2 * LU_RACK_CACHES };
    static lu_cache_t *caches[CACHES];
    size_t numbered = 0;
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < CACHES; i++) {
            caches[i] = lu_cache_create("one", 64, 0, NULL, NULL, NULL);
            numbered += caches[i]->place != 0;
        }
        for (size_t i = 0; i < CACHES; i++) {
            for (size_t k = 0; k < 3; k++) lu_cache_free(caches[i], lu_cache_alloc(caches[i]));
            assert_int_equal(at_hand(caches[i]), caches[i]->place != 0);
            assert_int_equal(lu_cache_reap(caches[i], 0), 1);
        }
        for (size_t i = 0; i < CACHES; i++) lu_cache_destroy(caches[i]);
    }
    assert_int_equal(numbered, 2 * (LU_RACK_CACHES - 1));
}

/* A cache of the same number, and likely at the same address, does not get what was at hand. */
static void number_used_again(void **state) {
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        lu_cache_t *cache = create();
        struct object *object = lu_cache_alloc(cache);
        lu_cache_free(cache, object);
        lu_cache_destroy(cache);
        lu_cache_t *other = create();
        object = lu_cache_alloc(other);
        assert_int_equal(constructed, 1);
        lu_cache_free(other, object);
        lu_cache_destroy(other);
        assert_int_equal(destructed, 1);
    }
}

/* ------------------------------------------------------------------ misuse ------------------- */

/* Every address of a slab that the magazine knows, and of the two beside it. */
static void every_address(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 3, 8, 24, 48, 200, 1000, 1016, 4096};
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        lu_cache_t *cache = lu_cache_create("one", sizes[i], 1, NULL, NULL, NULL);
        char *object = lu_cache_alloc(cache), *other = lu_cache_alloc(cache);
        lu_cache_free(cache, other);
        char *slab = (char *)lu__magazine_of(cache)->slab;
        assert_ptr_equal(slab, (char *)((size_t)object & cache->slab_mask));
        size_t bytes = cache->shape.slab_bytes, stride = cache->shape.stride;
        const char *first = ((struct lu__slab *)(void *)slab)->objects;
        for (char *at = slab - 64; at < slab + bytes + 64; at++) {
            if (at == object) continue;
            bool within = at >= first && at < first + cache->shape.count * stride;
            size_t away = within ? (size_t)(at - first) % stride : 0;
            lu_violation_kind_t kind = !within     ? LU_WRONG_HEAP
                                       : away != 0 ? LU_INTERIOR_POINTER
                                                   : LU_DOUBLE_FREE;
            if (within && sizes[i] > 4 && away > 2 && away + 2 < stride) continue; /* alike */
            assert_refused(cache, at, kind, within ? at - away : NULL);
        }
        lu_cache_free(cache, object);
        lu_cache_destroy(cache);
    }
}

struct hand_over {
    lu_cache_t *cache;
    void *object;
};

static void *free_it(void *arg) {
    struct hand_over *it = arg;
    lu_cache_free(it->cache, it->object);
    return arg;
}

/* One object at hand of another thread, or of none any more, is free. */
static void freed_elsewhere(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    struct hand_over it = {cache, lu_cache_alloc(cache)};
    lu_cache_free(cache, it.object);
    in_thread(free_it, &it);
    assert_int_equal(violations, 1);
    assert_int_equal(last.kind, LU_DOUBLE_FREE);
    assert_ptr_equal(lu_cache_alloc(cache), it.object);
    in_thread(free_it, &it);
    assert_int_equal(violations, 1);
    assert_refused(cache, it.object, LU_DOUBLE_FREE, it.object);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 1);
}

/* Two threads free an object at one instant: who is given it second is not. */
static void at_hand_twice(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    struct object *object = lu_cache_alloc(cache), *other = lu_cache_alloc(cache);
    lu_cache_free(cache, other);
    lu_cache_free(cache, object);
    struct lu__magazine *magazine = lu__magazine_of(cache);
    magazine->top[1] = magazine->top[0];
    magazine->top++;
    assert_ptr_equal(lu_cache_alloc(cache), object);
    assert_int_equal(violations, 0);
    assert_ptr_equal(lu_cache_alloc(cache), other);
    assert_int_equal(violations, 1);
    assert_int_equal(last.kind, LU_DOUBLE_FREE);
    assert_ptr_equal(last.pointer, object);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 2);
}

/* ------------------------------------------------------------------ threads ------------------ */

static void *use_some(void *arg) {
    void *objects[30];
    for (size_t i = 0; i < 30; i++) objects[i] = lu_cache_alloc(arg);
    for (size_t i = 0; i < 30; i++) lu_cache_free(arg, objects[i]);
    return at_hand(arg) == 30 ? arg : NULL;
}

/* What a thread had at hand is there for all when it ends; the rack for the next thread. */
static void thread_ends(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    for (unsigned i = 0; i < 100; i++) {
        in_thread(use_some, cache);
        assert_int_equal(cache->ready_count, 30);
        assert_int_equal(cache->users, 0);
    }
    assert_int_equal(constructed, 30);
    assert_int_equal(lu_cache_reap(cache, 0), 30);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 30);
}

static pthread_barrier_t barrier;

static void *keep_some(void *arg) {
    void *object = lu_cache_alloc(arg);
    lu_cache_free(arg, object);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* reaped meanwhile */
    if (lu_cache_alloc(arg) != object) return NULL;
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* destroyed meanwhile */
    return arg;
}

/* What another thread has at hand, reap leaves, and destroy does not. */
static void kept_by_another(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    pthread_t id;
    void *result;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&id, NULL, keep_some, cache), 0);
    pthread_barrier_wait(&barrier);
    struct object *mine = lu_cache_alloc(cache);
    lu_cache_free(cache, mine);
    assert_int_equal(lu_cache_reap(cache, 0), 1);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    assert_int_equal(constructed, 2);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 2);
    pthread_barrier_wait(&barrier);
    assert_int_equal(pthread_join(id, &result), 0);
    assert_ptr_equal(result, cache);
    (void)pthread_barrier_destroy(&barrier);
}

/* ------------------------------------------------------------------ fork --------------------- */

static void *hold_some(void *arg) {
    void *objects[50];
    for (size_t i = 0; i < 50; i++) objects[i] = lu_cache_alloc(arg);
    for (size_t i = 0; i < 50; i++) lu_cache_free(arg, objects[i]);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return arg;
}

/* All that this thread and another have at hand is the child's, once. */
static int use_in_child(lu_cache_t *cache) {
    struct object *objects[200];
    size_t before = constructed;
    for (size_t i = 0; i < 200; i++) {
        objects[i] = lu_cache_alloc(cache);
        if (objects[i] == NULL || objects[i]->magic != MAGIC) return 1;
        objects[i]->magic = i;
    }
    if (constructed != before + 200 - 60) return 2;
    for (size_t i = 0; i < 200; i++) {
        if (objects[i]->magic != i) return 3;
        objects[i]->magic = MAGIC;
        lu_cache_free(cache, objects[i]);
    }
    if (lu_cache_reap(cache, 0) != 200) return 4;
    lu_cache_destroy(cache);
    return constructed == destructed ? 0 : 5;
}

static void forked(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    pthread_t id;
    void *mine[10];
    int status = -1;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&id, NULL, hold_some, cache), 0);
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < 10; i++) mine[i] = lu_cache_alloc(cache);
    for (size_t i = 0; i < 10; i++) lu_cache_free(cache, mine[i]);
    assert_int_equal(at_hand(cache), 10);
    assert_int_equal(constructed, 60);
    pid_t pid = fork_unwatched();
    if (pid == 0) {
        int wrong = use_in_child(cache);
        syscall(SYS_exit_group, wrong); /* past the sanitizer's own checks */
    }
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_int_equal(status, 0);
    pthread_barrier_wait(&barrier);
    assert_int_equal(pthread_join(id, NULL), 0);
    (void)pthread_barrier_destroy(&barrier);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 60);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds),
        cmocka_unit_test(without_lock),
        cmocka_unit_test(no_thrashing),
        cmocka_unit_test(many_caches),
        cmocka_unit_test(number_used_again),
        cmocka_unit_test_setup_teardown(every_address, watch, unwatch),
        cmocka_unit_test_setup_teardown(freed_elsewhere, watch, unwatch),
        cmocka_unit_test_setup_teardown(at_hand_twice, watch, unwatch),
        cmocka_unit_test(thread_ends),
        cmocka_unit_test(kept_by_another),
        cmocka_unit_test(forked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
