/* test_cache_fork.c - object caches in the child of a fork that came while another thread held the
 * lock of the cache. All that is made anew there is wrecked before, to show that nothing of it is
 * believed; what is kept is right after every single store, which step_cache.c shows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/cache.h"
#include "fork_unwatched.h"
#include "lucid/lucid.h"

enum { MAGIC = 0x600dcafe, MOST = 60000 };

struct object {
    uint64_t magic;
    char room[1000];
};

static size_t constructed, destructed;
static unsigned violations;

static int construct(void *memory, void *arg) {
    (void)arg;
    ((struct object *)memory)->magic = MAGIC;
    constructed++;
    return 0;
}

static void destruct(void *memory, void *arg) {
    struct object *object = memory;
    (void)arg;
    if (object->magic != MAGIC) violations++;
    object->magic = 0;
    destructed++;
}

static bool note(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    violations++;
    return true;
}

/* A thread that holds the lock of a cache until it is told to stop. */
struct holder {
    pthread_t id;
    lu_cache_t *cache;
    int in[2], out[2];
};

static void *hold(void *arg) {
    struct holder *holder = arg;
    char byte = 0;
    assert_true(lu__cache_enter(holder->cache));
    if (write(holder->in[1], &byte, 1) == 1) (void)!read(holder->out[0], &byte, 1);
    lu__cache_leave(holder->cache);
    return NULL;
}

static void holder_begin(struct holder *holder, lu_cache_t *cache) {
    char byte;
    holder->cache = cache;
    assert_int_equal(pipe(holder->in), 0);
    assert_int_equal(pipe(holder->out), 0);
    assert_int_equal(pthread_create(&holder->id, NULL, hold, holder), 0);
    assert_int_equal(read(holder->in[0], &byte, 1), 1);
}

static void holder_end(struct holder *holder) {
    assert_int_equal(write(holder->out[1], "", 1), 1);
    assert_int_equal(pthread_join(holder->id, NULL), 0);
    for (int i = 0; i < 2; i++) {
        (void)close(holder->in[i]);
        (void)close(holder->out[i]);
    }
}

/* Run `check` in a child; 0, or the line of what is wrong. */
#define REQUIRE(condition)                 \
    do {                                   \
        if (!(condition)) return __LINE__; \
    } while (0)

static void in_child(int (*check)(lu_cache_t *), lu_cache_t *cache) {
    int results[2], line = -1, status;
    assert_int_equal(pipe(results), 0);
    alarm(60); /* a fork that waits ends the program */
    pid_t pid = fork_unwatched();
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(60);
        line = check(cache);
        (void)!write(results[1], &line, sizeof line);
        syscall(SYS_exit_group, 0); /* past the sanitizer's own checks */
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    alarm(0);
    (void)close(results[1]);
    assert_true(WIFEXITED(status));
    assert_int_equal(read(results[0], &line, sizeof line), sizeof line);
    assert_int_equal(line, 0);
    (void)close(results[0]);
}

/* ------------------------------------------------------------------ wrecked ------------------ */

static struct object *objects[MOST];
static size_t count, held; /* `held` more are live */

/* Half of them live, in slabs of all kinds. */
static lu_cache_t *create(size_t number) {
    constructed = destructed = violations = 0;
    lu_cache_t *cache = lu_cache_create("objects", sizeof(struct object), 0, construct, destruct,
                                        NULL);
    assert_non_null(cache);
    for (count = 0; count < number; count++) objects[count] = lu_cache_alloc(cache);
    for (size_t i = number / 4; i < number * 3 / 4; i++) lu_cache_free(cache, objects[i]);
    (void)lu_cache_reap(cache, number / 4);
    return cache;
}

static void wreck(lu_cache_t *cache) {
    struct lu__slab *slab;
    uint64_t number = 0;
    while ((slab = lu__slab_set_next(&cache->set, &number, UINT32_MAX)) != NULL) {
        slab->next = slab->previous = (struct lu__slab *)(void *)(uintptr_t)(number * 16);
        slab->ready = 77777;
        slab->raw = 88888;
        memset(slab->order, 0xee, cache->shape.count * sizeof slab->order[0]);
    }
    cache->ready.first = (struct lu__slab *)(void *)(uintptr_t)16;
    cache->raw.first = (struct lu__slab *)(void *)(uintptr_t)32;
    cache->ready_count = SIZE_MAX / 2;
}

static int use_all(lu_cache_t *cache) {
    size_t was = constructed - destructed, live = count - (count * 3 / 4 - count / 4);
    wreck(cache);
    for (size_t i = 0; i < count; i += i + 1 == count / 4 ? 1 + count * 3 / 4 - count / 4 : 1) {
        REQUIRE(objects[i]->magic == MAGIC);
        objects[i]->magic = i; /* given out again while it is live, it shows */
    }
    static struct object *fresh[MOST];
    for (size_t i = 0; i < count; i++) {
        fresh[i] = lu_cache_alloc(cache);
        REQUIRE(fresh[i] != NULL && fresh[i]->magic == MAGIC);
        fresh[i]->magic = MAGIC + 1 + i;
    }
    for (size_t i = 0; i < count; i++) {
        REQUIRE(fresh[i]->magic == MAGIC + 1 + i);
        fresh[i]->magic = MAGIC;
        lu_cache_free(cache, fresh[i]);
    }
    for (size_t i = 0; i < count; i += i + 1 == count / 4 ? 1 + count * 3 / 4 - count / 4 : 1) {
        REQUIRE(objects[i]->magic == i);
        objects[i]->magic = MAGIC;
        lu_cache_free(cache, objects[i]);
    }
    REQUIRE(violations == 0);
    lu_cache_free(cache, objects[0]);
    REQUIRE(violations == 1);
    REQUIRE(constructed - destructed >= was && constructed - destructed <= live + count + was);
    size_t ready = constructed - destructed - held;
    REQUIRE(lu_cache_reap(cache, 10) == ready - LU_MIN(ready, 10));
    lu_cache_destroy(cache);
    REQUIRE(constructed == destructed && violations == 1);
    return 0;
}

static void nothing_is_lost(void **state) {
    (void)state;
    static const size_t numbers[] = {1, 16, 1000, MOST / 4};
    lu_set_violation_handler(note, NULL);
    for (size_t i = 0; i < LU_COUNT_OF(numbers); i++) {
        lu_cache_t *cache = create(numbers[i]);
        struct holder holder;
        holder_begin(&holder, cache);
        in_child(use_all, cache);
        holder_end(&holder);
        lu_cache_destroy(cache);
        assert_int_equal(constructed, destructed);
    }
    lu_set_violation_handler(NULL, NULL);
}

/* ------------------------------------------------------------------ a little at a time ------- */

/* What an allocation settles is bounded, so that the first is not as long as the cache is large. */
static int settle_slowly(lu_cache_t *cache) {
    size_t slabs = 0, settled = 0;
    uint64_t number = 0;
    struct lu__slab *slab;
    wreck(cache);
    REQUIRE(lu_cache_alloc(cache) != NULL);
    while ((slab = lu__slab_set_next(&cache->set, &number, UINT32_MAX)) != NULL) {
        slabs++;
        settled += slab->epoch == cache->epoch;
    }
    REQUIRE(slabs > 3000);
    REQUIRE(settled > 0 && settled <= 65);
    for (size_t i = 0; i < slabs / 16; i++) REQUIRE(lu_cache_alloc(cache) != NULL);
    /* A free settles its own slab only. */
    REQUIRE(cache->unsettled);
    number = lu__slab_number(cache, objects[count - 1]);
    slab = lu__slab_set_find(&cache->set, number);
    size_t ready = cache->ready_count;
    REQUIRE(slab->epoch != cache->epoch);
    lu_cache_free(cache, objects[count - 1]);
    REQUIRE(slab->epoch == cache->epoch && slab->ready == 0 && cache->ready_count == ready);
    lu_purge(); /* what is at hand */
    REQUIRE(slab->ready == 1 && cache->ready_count > ready);
    REQUIRE(violations == 0);
    return 0;
}

static void settled_in_steps(void **state) {
    (void)state;
    lu_cache_t *cache = create(MOST);
    for (size_t i = MOST / 4; i < MOST / 4 * 3; i++) objects[i] = lu_cache_alloc(cache); /* full */
    while (cache->ready.first != NULL) (void)lu_cache_alloc(cache);
    struct holder holder;
    holder_begin(&holder, cache);
    in_child(settle_slowly, cache);
    holder_end(&holder);
    lu_cache_destroy(cache);
}

/* ------------------------------------------------------------------ who holds what ----------- */

/* A cache that nobody was in, and of which nobody has objects at hand, is as it was. */
static int as_it_was(lu_cache_t *cache) {
    REQUIRE(cache->forks != lu__cache_forks);
    uint32_t epoch = cache->epoch;
    struct lu__slab *ready = cache->ready.first;
    REQUIRE(cache->users == 0 && lu_cache_alloc(cache) != NULL);
    REQUIRE(cache->epoch == epoch && !cache->unsettled && ready != NULL);
    REQUIRE(cache->forks == lu__cache_forks);
    lu_cache_t *other = lu_cache_create("other", 8, 0, NULL, NULL, NULL);
    REQUIRE(other != NULL && other->forks == lu__cache_forks);
    return 0;
}

static void *create_elsewhere(void *arg) {
    (void)arg;
    return create(1000);
}

static void free_lock(void **state) {
    (void)state;
    void *cache;
    pthread_t id;
    assert_int_equal(pthread_create(&id, NULL, create_elsewhere, NULL), 0);
    assert_int_equal(pthread_join(id, &cache), 0);
    in_child(as_it_was, cache);
    lu_cache_destroy(cache);
}

/* The forking thread holds the lock itself, below the handler that forks: it goes on with it. */
static lu_cache_t *entered;

static int go_on(lu_cache_t *cache) {
    uint32_t epoch = cache->epoch;
    REQUIRE(lu_cache_alloc(cache) == NULL && errno == ENOMEM); /* no deadlock */
    REQUIRE(lu__lock_is_mine(&cache->lock) && cache->epoch == epoch);
    lu__cache_leave(cache);
    REQUIRE(lu_cache_alloc(cache) != NULL);
    return 0;
}

static void fork_here(int number) {
    (void)number;
    in_child(go_on, entered);
}

static void own_lock(void **state) {
    (void)state;
    entered = create(100);
    signal(SIGUSR1, fork_here);
    assert_true(lu__cache_enter(entered));
    raise(SIGUSR1);
    lu__cache_leave(entered);
    signal(SIGUSR1, SIG_DFL);
    lu_cache_destroy(entered);
}

/* A fork in a fork, each amid a change; in the child the other thread is only made believe, as the
 * sanitizers bear none there. */
static int again(lu_cache_t *cache) {
    REQUIRE(lu_cache_alloc(cache) != NULL);
    held = 1;
    REQUIRE(lu__cache_enter(cache));
    REQUIRE(cache->epoch == 1);
    struct lu__lock_thread self = lu__lock_thread;
    lu__lock_thread = (struct lu__lock_thread){
        .process = &lu__process_first}; /* another thread's */
    in_child(use_all, cache);
    lu__lock_thread = self;
    lu__cache_leave(cache);
    REQUIRE(lu_cache_alloc(cache) != NULL);
    return 0;
}

static void fork_in_fork(void **state) {
    (void)state;
    lu_set_violation_handler(note, NULL);
    lu_cache_t *cache = create(1000);
    struct holder holder;
    holder_begin(&holder, cache);
    in_child(again, cache);
    holder_end(&holder);
    lu_cache_destroy(cache);
    lu_set_violation_handler(NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_lost), cmocka_unit_test(settled_in_steps),
        cmocka_unit_test(free_lock),       cmocka_unit_test(own_lock),
        cmocka_unit_test(fork_in_fork),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
