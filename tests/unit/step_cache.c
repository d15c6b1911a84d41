/*
 * step_cache.c - a fork at every instruction of an object cache at which its lock is held, and of
 * those that take objects from hand and give them back.
 *
 * The processor's trap flag stops the program after each instruction; the handler forks, and the
 * child takes the lock for that of a thread which it has not. It then uses the cache up: objects
 * that are live are whole, are never given out, and can be freed; nothing is given out twice; and
 * each object is destructed once at most, all but the one that was on its way.
 *
 *     main   lu_cache_alloc:  instruction, instruction, instruction, ...
 *     child                              '- use_up()  '- use_up()
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/cache.h"
#include "lucid/lucid.h"

enum { MAGIC = 0x600dcafe, LIVE_MOST = 200, FRESH = 120 };

struct object {
    uint64_t magic;
    uint64_t id; /* 0: with the cache */
    char room[1500];
};

static lu_cache_t *cache;
static struct object *live[LIVE_MOST];
static size_t live_count;
static size_t constructed, destructed;
static unsigned violations;
static bool refuses;
static bool everywhere; /* not only where the lock is held */
static size_t forks;    /* in all */

static bool is_live(const struct object *object) {
    for (size_t i = 0; i < live_count; i++)
        if (live[i] == object) return true;
    return false;
}

static int construct(void *memory, void *arg) {
    struct object *object = memory;
    (void)arg;
    if (is_live(object)) _exit(10);
    if (refuses) return EAGAIN;
    object->magic = MAGIC;
    object->id = 0;
    constructed++;
    return 0;
}

static void destruct(void *memory, void *arg) {
    struct object *object = memory;
    (void)arg;
    if (object->magic != MAGIC) _exit(11); /* twice, or before it was constructed */
    object->magic = 0;
    destructed++;
}

static bool note(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    violations++;
    return true;
}

/* ------------------------------------------------------------------ the child ---------------- */

/* 0, or what is wrong. */
static int use_up(void) {
    static struct object *fresh[FRESH];
    refuses = false;
    violations = 0;
    for (size_t i = 0; i < live_count; i++)
        if (live[i]->magic != MAGIC || live[i]->id != i + 1) return 20;
    for (size_t i = 0; i < FRESH; i++) {
        fresh[i] = lu_cache_alloc(cache);
        if (fresh[i] == NULL || fresh[i]->magic != MAGIC) return 21;
        if (is_live(fresh[i])) return 22;
        if (fresh[i]->id >= 1000) return 23; /* given out twice */
        fresh[i]->id = 1000 + i;
    }
    for (size_t i = 0; i < FRESH; i++) {
        if (fresh[i]->id != 1000 + i) return 24;
        if (i % 2 == 0) lu_cache_free(cache, fresh[i]);
    }
    for (size_t i = 0; i < live_count; i++) {
        if (live[i]->id != i + 1) return 25;
        lu_cache_free(cache, live[i]);
    }
    if (violations != 0) return 26;
    if (live_count > 0) lu_cache_free(cache, live[0]);
    if (live_count > 0 && violations != 1) return 27;
    (void)lu_cache_reap(cache, 3);
    if (cache->ready_count > 3) return 28;
    lu_cache_destroy(cache);
    return destructed <= constructed && constructed <= destructed + 1 ? 0 : 29;
}

/* What this thread holds now is as if held by a thread that is not in this process. */
static void be_another_thread(void) {
    lu__lock_thread = (struct lu__lock_thread){.process = &lu__process_first};
}

static void check_here(void) {
    int status;
    pid_t pid = fork();
    forks++;
    if (pid == 0) {
        alarm(20); /* a deadlock ends the child */
        be_another_thread();
        _exit(use_up());
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
        static const char text[] = "step_cache: a child failed\n";
        (void)!write(2, text, sizeof text - 1);
        _exit(pid < 0 ? 1 : WIFEXITED(status) ? WEXITSTATUS(status) : 2);
    }
}

static void trapped(int number) {
    (void)number;
    if (everywhere || __atomic_load_n(&cache->lock.word, __ATOMIC_RELAXED) != 0) check_here();
}

/* ------------------------------------------------------------------ step by step ------------- */

/* The red zone below the stack pointer may be in use. */
static void flip_trap(void) {
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\tpushfq\n\txorq $0x100, (%%rsp)\n\tpopfq\n\t"
                     "lea 128(%%rsp), %%rsp"
                     :
                     :
                     : "memory", "cc");
}

static struct object *stepped_alloc(void) {
    flip_trap();
    struct object *object = lu_cache_alloc(cache);
    flip_trap();
    return object;
}

static void stepped_free(struct object *object) {
    flip_trap();
    lu_cache_free(cache, object);
    flip_trap();
}

static size_t stepped_reap(size_t keep) {
    flip_trap();
    size_t count = lu_cache_reap(cache, keep);
    flip_trap();
    return count;
}

/* It is live from here on. */
static void keep(struct object *object) {
    assert_non_null(object);
    live[live_count++] = object;
    object->id = live_count;
}

/* The last but `from_end` is not. */
static struct object *drop(size_t from_end) {
    size_t at = live_count - 1 - from_end;
    struct object *object = live[at];
    live[at] = live[--live_count];
    live[at]->id = at + 1;
    object->id = 0;
    return object;
}

static void begin(void) {
    struct sigaction action = {.sa_handler = trapped};
    assert_int_equal(sigaction(SIGTRAP, &action, NULL), 0);
    lu_set_violation_handler(note, NULL);
    constructed = destructed = live_count = violations = 0;
    refuses = everywhere = false;
    cache = lu_cache_create("objects", sizeof(struct object), 0, construct, destruct, NULL);
    assert_non_null(cache);
}

static void end(void) {
    lu_cache_destroy(cache);
    assert_int_equal(constructed, destructed);
    assert_int_equal(violations, 0);
    signal(SIGTRAP, SIG_DFL);
    lu_set_violation_handler(NULL, NULL);
}

/* ------------------------------------------------------------------ cases -------------------- */

/* The first slab; the last object of it, which leaves the list; the next slab; a failure. */
static void allocate(void **state) {
    (void)state;
    size_t before = forks;
    begin();
    for (size_t i = 0; i < 25; i++) {
        bool watched = i < 2 || (i >= 8 && i < 13);
        keep(watched ? stepped_alloc() : lu_cache_alloc(cache));
    }
    refuses = true;
    assert_null(stepped_alloc());
    refuses = false;
    assert_true(forks > before + 200);
    end();
}

/* From a full slab and from one that is not; then the ready ones are given out again. */
static void give_back(void **state) {
    (void)state;
    begin();
    for (size_t i = 0; i < 40; i++) keep(lu_cache_alloc(cache));
    for (size_t i = 0; i < 4; i++) stepped_free(drop(7 * i));
    for (size_t i = 0; i < 4; i++) keep(stepped_alloc());
    end();
}

/* Objects that are at hand; from a full magazine some go back, and some come when it is empty. What
 * the child's other thread had is the child's, whatever that was doing. */
static void at_hand(void **state) {
    (void)state;
    size_t before = forks;
    begin();
    for (size_t i = 0; i < 40; i++) keep(lu_cache_alloc(cache));
    for (size_t i = 0; i < 24; i++) lu_cache_free(cache, drop(1));
    everywhere = true;
    for (size_t i = 0; i < 12; i++) stepped_free(drop(1));
    for (size_t i = 0; i < 12; i++) keep(stepped_alloc());
    everywhere = false;
    assert_true(forks > before + 500);
    end();
}

/* Objects of a slab, then the slab. */
static void reap(void **state) {
    (void)state;
    begin();
    for (size_t i = 0; i < 24; i++) keep(lu_cache_alloc(cache));
    for (size_t i = 0; i < 22; i++) lu_cache_free(cache, drop(1));
    assert_int_equal(stepped_reap(0), 22);
    keep(stepped_alloc());
    end();
}

/* While the child of another such fork settles its slabs. */
static void settle(void **state) {
    (void)state;
    begin();
    for (size_t i = 0; i < 60; i++) keep(lu_cache_alloc(cache));
    for (size_t i = 0; i < 30; i++) lu_cache_free(cache, drop(i % 13));
    assert_true(lu__cache_enter(cache)); /* of a thread that is gone */
    be_another_thread();
    lu__cache_forks++;
    assert_true(lu__inside_enter());
    lu__cache_see_fork(cache);
    lu__inside_leave();
    assert_true(cache->unsettled);
    stepped_free(drop(20));
    for (size_t i = 0; i < 6; i++) keep(stepped_alloc());
    while (cache->ready.first != NULL) keep(lu_cache_alloc(cache));
    keep(stepped_alloc());
    end();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allocate), cmocka_unit_test(give_back), cmocka_unit_test(at_hand),
        cmocka_unit_test(reap),     cmocka_unit_test(settle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
