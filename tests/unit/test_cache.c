/* test_cache.c - api/cache: objects that stay constructed while they are free. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "fork_unwatched.h"
#include "lucid/lucid.h"
#include "watch.h"

/* Every byte of an object belongs to the program while the object is free too. */
struct object {
    uint64_t magic;
    struct object *self;
    char payload[40];
};

enum { MAGIC = 0x600dcafe };

/* Written by constructors and destructors of several threads: atomic, relaxed. */
static size_t constructed, destructed;
static int construct_error;

static size_t load(const size_t *counter) {
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

static int construct(void *memory, void *arg) {
    struct object *object = memory;
    assert_ptr_equal(arg, &constructed);
    if (construct_error != 0) return construct_error;
    __atomic_fetch_add(&constructed, 1, __ATOMIC_RELAXED);
    object->magic = MAGIC;
    object->self = object;
    memset(object->payload, 'p', sizeof object->payload);
    return 0;
}

static void destruct(void *memory, void *arg) {
    struct object *object = memory;
    assert_ptr_equal(arg, &constructed);
    assert_int_equal(object->magic, MAGIC);
    __atomic_fetch_add(&destructed, 1, __ATOMIC_RELAXED);
    memset(object, 0xdd, sizeof *object);
}

static lu_cache_t *create(void) {
    constructed = destructed = 0;
    construct_error = 0;
    lu_cache_t *cache = lu_cache_create("objects", sizeof(struct object), 0, construct, destruct,
                                        &constructed);
    assert_non_null(cache);
    return cache;
}

static void assert_constructed(const struct object *object) {
    assert_non_null(object);
    assert_int_equal(object->magic, MAGIC);
    assert_ptr_equal(object->self, object);
    for (size_t i = 0; i < sizeof object->payload; i++) assert_int_equal(object->payload[i], 'p');
}

static size_t live_bytes(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.live_bytes;
}

/* ------------------------------------------------------------------ life of objects ---------- */

static void reuse(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    assert_int_equal(constructed, 0);
    struct object *a = lu_cache_alloc(cache);
    assert_constructed(a);
    assert_int_equal(constructed, 1); /* one by one, when needed */
    lu_cache_free(cache, a);
    assert_constructed(a); /* whole while it is free */
    assert_int_equal(destructed, 0);
    assert_ptr_equal(lu_cache_alloc(cache), a);
    assert_int_equal(constructed, 1);
    lu_cache_free(cache, a);
    lu_cache_free(cache, NULL);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 1);
}

/* Some thousand objects over many slabs, freed in another order. */
static void many(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    static struct object *objects[COUNT];
    size_t before = live_bytes();
    lu_cache_t *cache = create();
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            objects[i] = lu_cache_alloc(cache);
            assert_constructed(objects[i]);
            objects[i]->magic = i; /* an object that is given out twice shows */
        }
        for (size_t i = 0; i < COUNT; i++) assert_int_equal(objects[i]->magic, i);
        for (size_t i = 0; i < COUNT; i++) {
            struct object *object = objects[i * 7919 % COUNT];
            object->magic = MAGIC;
            lu_cache_free(cache, object);
        }
        assert_int_equal(constructed, COUNT);
    }
    assert_int_equal(destructed, 0);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, COUNT);
    assert_int_equal(live_bytes(), before);
}

/* Destroy runs the destructor for what the program never gave back, and not for raw memory. */
static void destroy_with_live_objects(void **state) {
    (void)state;
    size_t before = live_bytes();
    lu_cache_t *cache = create();
    struct object *objects[100];
    for (size_t i = 0; i < 100; i++) objects[i] = lu_cache_alloc(cache);
    for (size_t i = 0; i < 100; i += 3) lu_cache_free(cache, objects[i]);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 100);
    assert_int_equal(live_bytes(), before);
    lu_cache_destroy(NULL);
}

static void reap(void **state) {
    (void)state;
    enum { COUNT = 5000 };
    static struct object *objects[COUNT];
    lu_cache_t *cache = create();
    size_t empty = live_bytes();
    for (size_t i = 0; i < COUNT; i++) objects[i] = lu_cache_alloc(cache);
    assert_int_equal(lu_cache_reap(cache, 0), 0); /* all are with the program */
    for (size_t i = 0; i < COUNT; i++)
        if (i % 2 == 0) lu_cache_free(cache, objects[i]);
    assert_int_equal(lu_cache_reap(cache, COUNT), 0);
    assert_int_equal(lu_cache_reap(cache, 2000), 500);
    assert_int_equal(destructed, 500);
    assert_int_equal(lu_cache_reap(cache, 0), 2000);
    for (size_t i = 0; i < COUNT; i++)
        if (i % 2 != 0) assert_constructed(objects[i]);
    /* Reaped objects are constructed anew. */
    struct object *again = lu_cache_alloc(cache);
    assert_constructed(again);
    assert_int_equal(constructed, COUNT + 1);
    lu_cache_free(cache, again);
    for (size_t i = 0; i < COUNT; i++)
        if (i % 2 != 0) lu_cache_free(cache, objects[i]);
    assert_int_equal(lu_cache_reap(cache, 0), COUNT / 2 + 1);
    assert_int_equal(destructed, constructed);
    assert_true(live_bytes() < empty + 4096); /* the slabs are gone */
    assert_constructed(lu_cache_alloc(cache));
    lu_cache_destroy(cache);
    assert_int_equal(destructed, constructed);
}

static void constructor_fails(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    construct_error = EAGAIN;
    for (int i = 0; i < 1000; i++) {
        errno = 0;
        assert_null(lu_cache_alloc(cache));
        assert_int_equal(errno, EAGAIN);
    }
    construct_error = 0;
    struct object *a = lu_cache_alloc(cache), *b;
    assert_constructed(a);
    construct_error = EAGAIN;
    assert_null(lu_cache_alloc(cache));
    lu_cache_free(cache, a);
    b = lu_cache_alloc(cache); /* one that is constructed needs no constructor */
    assert_ptr_equal(a, b);
    lu_cache_destroy(cache);
    assert_int_equal(constructed, 1);
    assert_int_equal(destructed, 1);
}

static void without_functions(void **state) {
    (void)state;
    lu_cache_t *cache = lu_cache_create(NULL, 24, 0, NULL, NULL, NULL);
    char *a = lu_cache_alloc(cache);
    assert_non_null(a);
    memset(a, 'a', 24);
    lu_cache_free(cache, a);
    for (int i = 0; i < 24; i++) assert_int_equal(a[i], 'a');
    assert_int_equal(lu_cache_reap(cache, 0), 1);
    lu_cache_destroy(cache);
}

/* ------------------------------------------------------------------ sizes and alignments ----- */

static void try_size(size_t size, size_t alignment) {
    enum { COUNT = 40 };
    char *objects[COUNT];
    lu_cache_t *cache = lu_cache_create("sizes", size, alignment, NULL, NULL, NULL);
    assert_non_null(cache);
    size_t least = alignment != 0 ? alignment : size < 16 ? 8 : 16;
    for (size_t i = 0; i < COUNT; i++) {
        objects[i] = lu_cache_alloc(cache);
        assert_non_null(objects[i]);
        assert_int_equal((uintptr_t)objects[i] % least, 0);
        memset(objects[i], (int)i, size);
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(objects[i][0], i);
        assert_int_equal(objects[i][size - 1], i);
        lu_cache_free(cache, objects[i]);
    }
    lu_cache_destroy(cache);
}

static void sizes(void **state) {
    (void)state;
    static const size_t all[] = {1,   2,    7,    8,     15,    16,    17,     64,
                                 100, 1000, 4096, 12345, 16000, 16384, 100000, 300000};
    size_t before = live_bytes();
    for (size_t i = 0; i < LU_COUNT_OF(all); i++) {
        try_size(all[i], 0);
        for (size_t alignment = 1; alignment <= 65536; alignment *= 16) try_size(all[i], alignment);
    }
    assert_int_equal(live_bytes(), before);
}

static void bad_arguments(void **state) {
    (void)state;
    static const struct {
        size_t size, alignment;
        int error;
    } cases[] = {{0, 0, EINVAL},        {8, 3, EINVAL},           {8, 48, EINVAL},
                 {SIZE_MAX, 0, ENOMEM}, {PTRDIFF_MAX, 1, ENOMEM}, {8, (size_t)1 << 63, ENOMEM}};
    for (size_t i = 0; i < LU_COUNT_OF(cases); i++) {
        errno = 0;
        assert_null(lu_cache_create("bad", cases[i].size, cases[i].alignment, NULL, NULL, NULL));
        assert_int_equal(errno, cases[i].error);
    }
    /* Possible in principle, but not in this machine: the allocation fails and can be repeated. */
    lu_cache_t *cache = lu_cache_create("vast", (size_t)1 << 52, 0, NULL, NULL, NULL);
    for (int i = 0; cache != NULL && i < 3; i++) {
        errno = 0;
        assert_null(lu_cache_alloc(cache));
        assert_int_equal(errno, ENOMEM);
    }
    lu_cache_destroy(cache);
}

/* First objects of slabs begin at different offsets where a slab has room to spare. */
static void colours(void **state) {
    (void)state;
    enum { COUNT = 400, SIZE = 1000 };
    lu_cache_t *cache = lu_cache_create("colours", SIZE, 8, NULL, NULL, NULL);
    uint64_t offsets = 0;
    for (size_t i = 0; i < COUNT; i++) {
        uintptr_t object = (uintptr_t)lu_cache_alloc(cache);
        offsets |= (uint64_t)1 << (object % SIZE % 64);
    }
    assert_true(__builtin_popcountl(offsets) > 1);
    lu_cache_destroy(cache);
}

/* ------------------------------------------------------------------ misuse ------------------- */

static void misuse(void **state) {
    (void)state;
    lu_set_violation_handler(note, &violations);
    lu_cache_t *cache = create(), *empty = create();
    struct object *a = lu_cache_alloc(cache), *b = lu_cache_alloc(cache), local;
    void *other = lu_malloc(sizeof local);

    lu_cache_free(cache, a);
    assert_refused(cache, a, LU_DOUBLE_FREE, a);
    assert_refused(cache, b->payload, LU_INTERIOR_POINTER, b);
    assert_refused(cache, (char *)b + 1, LU_INTERIOR_POINTER, b);
    assert_refused(cache, &local, LU_WRONG_HEAP, NULL);
    assert_refused(cache, other, LU_WRONG_HEAP, NULL);
    assert_refused(cache, (void *)8, LU_WRONG_HEAP, NULL);
    assert_refused(cache, (void *)UINTPTR_MAX, LU_WRONG_HEAP, NULL);
    assert_refused(empty, b, LU_WRONG_HEAP, NULL);
    uintptr_t slab = lu__align_down((uintptr_t)b, 16384);
    assert_refused(cache, (void *)slab, LU_WRONG_HEAP, NULL); /* where no object is */

    assert_constructed(b); /* the cache is whole, and b still ours */
    assert_ptr_equal(lu_cache_alloc(cache), a);
    lu_cache_free(cache, b);
    lu_free(other);
    lu_cache_destroy(empty);
    lu_cache_destroy(cache);
    assert_int_equal(destructed, 2);
    lu_set_violation_handler(NULL, NULL);
}

/* ------------------------------------------------------------------ threads, fork, limit ----- */

static void *hammer(void *arg) {
    lu_cache_t *cache = arg;
    struct object *mine[64];
    for (unsigned round = 0; round < 300; round++) {
        for (size_t i = 0; i < 64; i++) {
            mine[i] = lu_cache_alloc(cache);
            if (mine[i] == NULL || mine[i]->magic != MAGIC || mine[i]->self != mine[i]) return NULL;
            mine[i]->magic = (uintptr_t)&mine;
        }
        for (size_t i = 0; i < 64; i++) {
            if (mine[i]->magic != (uintptr_t)&mine) return NULL;
            mine[i]->magic = MAGIC;
            lu_cache_free(cache, mine[i]);
        }
        if (round % 16 == 0) lu_cache_reap(cache, 10);
    }
    return arg;
}

static void threads(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    pthread_t ids[4];
    void *result;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&ids[i], NULL, hammer, cache), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(ids[i], &result), 0);
        assert_ptr_equal(result, cache);
    }
    lu_cache_destroy(cache);
    assert_int_equal(load(&constructed), load(&destructed));
}

/* A fork while another thread is in the cache: the child can use it. */
static void fork_amid(void **state) {
    (void)state;
    lu_cache_t *cache = create();
    pthread_t id;
    assert_int_equal(pthread_create(&id, NULL, hammer, cache), 0);
    for (int i = 0; i < 20; i++) {
        pid_t pid = fork_unwatched();
        assert_true(pid >= 0);
        if (pid == 0) {
            alarm(20); /* a deadlock ends the child */
            void *object = lu_cache_alloc(cache);
            lu_cache_free(cache, object);
            syscall(SYS_exit_group, object != NULL ? 0 : 1); /* past the sanitizer's own checks */
        }
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_int_equal(pthread_join(id, NULL), 0);
    lu_cache_destroy(cache);
}

static size_t reaped;

/* What a limit is for: caches give up what they keep in store. */
static bool give_up_store(size_t wanted, size_t held, void *arg) {
    (void)wanted, (void)held;
    size_t now = lu_cache_reap(arg, 0);
    reaped += now;
    return now > 0;
}

static void reaped_at_the_limit(void **state) {
    (void)state;
    enum { COUNT = 30000 };
    static void *objects[COUNT];
    lu_cache_t *cache = create();
    lu_stats_t stats;
    for (size_t i = 0; i < COUNT; i++) objects[i] = lu_cache_alloc(cache);
    for (size_t i = 0; i < COUNT; i++) lu_cache_free(cache, objects[i]);
    lu_purge(); /* so that a large block needs memory that is not held yet */
    lu_stats_get(&stats);
    assert_int_equal(lu_set_limit(stats.held_bytes + 65536, give_up_store, cache), 0);
    void *block = lu_malloc(1 << 20);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    assert_non_null(block);
    assert_int_equal(reaped, COUNT);
    lu_free(block);
    lu_cache_destroy(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reuse),
        cmocka_unit_test(many),
        cmocka_unit_test(destroy_with_live_objects),
        cmocka_unit_test(reap),
        cmocka_unit_test(constructor_fails),
        cmocka_unit_test(without_functions),
        cmocka_unit_test(sizes),
        cmocka_unit_test(bad_arguments),
        cmocka_unit_test(colours),
        cmocka_unit_test(misuse),
        cmocka_unit_test(threads),
        cmocka_unit_test(fork_amid),
        cmocka_unit_test(reaped_at_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
