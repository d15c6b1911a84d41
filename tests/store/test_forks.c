/* test_forks.c - a fork, or a failure, at every system call of opening a store.
 * Replaces lu__os_file_* by --wrap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/surface.h"
#include "files.h"
#include "os/file.h"
#include "store/store.h"
#include "worker.h"

/* The engine's archive registers the handler of fork with it. */
__attribute__((used)) static void (*const at_load)(void) = lu__at_load;

enum { SECONDS = 60 }; /* for what takes a moment, or never ends */

static const lu_store_config_t config = {.flags = LU_STORE_CREATE, .limit_bytes = (size_t)64 << 20};
static void (*at_point)(void);
static unsigned points, act_at; /* calls so far; at which of them something happens */
static bool fails;              /* the next call does */

static bool point(void) {
    if (++points == act_at && at_point != NULL) at_point();
    bool failing = fails;
    fails = false;
    return failing;
}

#define WRAP(name, parameters, arguments)                              \
    int __real_lu__os_file_##name parameters;                          \
    int __wrap_lu__os_file_##name parameters;                          \
    int __wrap_lu__os_file_##name parameters {                         \
        return point() ? ENOMEM : __real_lu__os_file_##name arguments; \
    }

WRAP(create, (const char *path, unsigned mode, char *scratch, size_t bytes, int *out),
     (path, mode, scratch, bytes, out))
WRAP(info, (int fd, struct lu__os_file_info *out), (fd, out))
WRAP(resize, (int fd, uint64_t size), (fd, size))
WRAP(allocate, (int fd, uint64_t from, uint64_t size), (fd, from, size))
WRAP(map, (int fd, void *wish, size_t size, void **out), (fd, wish, size, out))
WRAP(lock, (int fd, uint64_t byte, enum lu__os_file_lock kind, bool wait), (fd, byte, kind, wait))
WRAP(publish, (int fd, const char *scratch, const char *path), (fd, scratch, path))

static void begin(unsigned at, void (*what)(void)) {
    points = 0;
    act_at = at;
    at_point = what;
}

static void damage(const char *path) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, LU_STORE_FIRST, SEEK_SET), 0);
    assert_int_equal(fwrite("damage", 1, 6, file), 6);
    assert_int_equal(fclose(file), 0);
}

static void make(const char *name) {
    (void)unlink(files_path(name));
    lu_store_t *store = lu_heap_open_file(files_path(name), &config, NULL);
    assert_non_null(store);
    for (int i = 0; i < 10; i++) assert_non_null(lu_store_malloc(store, 100));
    assert_int_equal(lu_store_close(store), 0);
}

/* ------------------------------------------------------------------ another process is faster */

static void made_by_another(void) {
    at_point = NULL;
    pid_t child = fork();
    if (child == 0) {
        lu_store_t *store = lu_heap_open_file(files_path("forked"), &config, NULL);
        _exit(store == NULL || lu_store_alloc_to(store, NULL, 100) != 0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Whenever the file appears while it is made: then that is opened. */
static void appears_meanwhile(void **state) {
    (void)state;
    unsigned acted = 0;
    for (bool done = false; !done; acted++) {
        (void)unlink(files_path("forked"));
        begin(acted + 1, made_by_another);
        lu_store_t *store = lu_heap_open_file(files_path("forked"), &config, NULL);
        done = at_point != NULL;
        begin(0, NULL);
        assert_non_null(store);
        assert_int_equal(lu_store_root(store) != 0, !done);
        assert_non_null(lu_store_malloc(store, 200000));
        assert_int_equal(lu_store_check(store, NULL), 0);
        assert_int_equal(lu_store_close(store), 0);
    }
    assert_true(acted >= 8);
}

/* ------------------------------------------------------------------ children that stay */

static pid_t children[2];

static void stay(void) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) pause();
}

/* One by fork, and one by the system call, for which no handler runs. */
static void leave_children(void) {
    at_point = NULL;
    if ((children[0] = fork()) == 0) stay();
    if ((children[1] = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)) == 0) stay();
}

static void end_children(void) {
    for (int i = 0; i < 2; i++) {
        assert_true(children[i] > 0);
        assert_int_equal(kill(children[i], SIGKILL), 0);
        assert_int_equal(waitpid(children[i], NULL, 0), children[i]);
        children[i] = 0;
    }
}

/* A process of its own opens it in time, whoever else is there. */
static lu_store_reason_t opened_by_another(const lu_store_config_t *how) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        lu_store_fault_t fault;
        alarm(SECONDS);
        lu_store_t *store = lu_heap_open_file(files_path("forked"), how, &fault);
        if (store != NULL && (lu_store_malloc(store, 10) == NULL || lu_store_close(store) != 0)) {
            _exit(99);
        }
        _exit((int)fault.reason);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status)) fail_msg("opening after a fork at call %u hangs", act_at);
    return (lu_store_reason_t)WEXITSTATUS(status);
}

/* Opened with `how`, which `reason` comes of, with children made at each call of it. */
static void children_at_every_call(const lu_store_config_t *how, lu_store_reason_t reason,
                                   bool exists) {
    unsigned acted = 0;
    for (unsigned at = 1;; at++) {
        lu_store_fault_t fault;
        if (!exists) (void)unlink(files_path("forked"));
        begin(at, leave_children);
        lu_store_t *store = lu_heap_open_file(files_path("forked"), how, &fault);
        bool done = at_point != NULL;
        begin(0, NULL);
        assert_int_equal(fault.reason, reason);
        if (!done) assert_int_equal(opened_by_another(how), reason);
        if (store != NULL) {
            assert_non_null(lu_store_malloc(store, 200000));
            assert_int_equal(lu_store_check(store, NULL), 0);
            assert_int_equal(lu_store_close(store), 0);
            if (!done) assert_int_equal(opened_by_another(how), reason);
        }
        if (done) break;
        end_children();
        acted++;
    }
    assert_true(acted >= 4);
}

static void children_stay(void **state) {
    (void)state;
    lu_store_config_t how = config;
    make("forked");
    children_at_every_call(&how, LU_STORE_FINE, true);
    children_at_every_call(&how, LU_STORE_FINE, false);
    make("forked");
    how.flags = LU_STORE_VERIFY;
    damage(files_path("forked"));
    children_at_every_call(&how, LU_STORE_DAMAGED, true);
}

/* ------------------------------------------------------------------ children that go on */

static pid_t parent;

/* As a signal handler does that forks: the child goes on with the same call, and ends first. */
static void fork_and_go_on(void) {
    at_point = NULL;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(SECONDS);
        return;
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void going_on_is_refused(bool exists) {
    unsigned acted = 0;
    parent = getpid();
    for (unsigned at = 1;; at++) {
        if (!exists) (void)unlink(files_path("forked"));
        begin(at, fork_and_go_on);
        lu_store_t *store = lu_heap_open_file(files_path("forked"), &config, NULL);
        if (getpid() != parent) _exit(store == NULL ? 0 : 1);
        bool done = at_point != NULL;
        begin(0, NULL);
        assert_non_null(store);
        assert_non_null(lu_store_malloc(store, 200000));
        assert_int_equal(lu_store_check(store, NULL), 0);
        assert_int_equal(lu_store_close(store), 0);
        if (done) break;
        acted++;
    }
    assert_true(acted >= 4);
}

static void children_go_on(void **state) {
    (void)state;
    make("forked");
    going_on_is_refused(true);
    going_on_is_refused(false);
}

/* ------------------------------------------------------------------ another thread forks */

static sem_t reached, released;

static void wait_here(void) {
    at_point = NULL;
    sem_post(&reached);
    while (sem_wait(&released) != 0) continue;
}

static void *opens(void *path) {
    return lu_heap_open_file(path, &config, NULL);
}

/* The child of a thread that was opening nothing has nothing of what another one was opening. */
static bool has_it(const char *path) {
    char line[600];
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    if (maps == NULL) return true;
    while (fgets(line, sizeof line, maps) != NULL) found |= strstr(line, path) != NULL;
    fclose(maps);
    for (int fd = 3; fd < 64; fd++) {
        char name[32];
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(name, line, sizeof line - 1);
        if (length < 0) continue;
        line[length] = '\0';
        found |= strcmp(line, path) == 0;
    }
    return found;
}

static int count_free_slots(void) {
    lu_store_config_t least = {.limit_bytes = LU_STORE_GRAIN};
    int count = 0;
    while (lu_heap_open_shared(&least, NULL) != NULL) count++;
    return count;
}

static void another_thread_opens(void **state) {
    (void)state;
    char path[512];
    make("forked");
    snprintf(path, sizeof path, "%s", files_path("forked"));
    assert_int_equal(sem_init(&reached, 0, 0), 0);
    assert_int_equal(sem_init(&released, 0, 0), 0);
    for (unsigned at = 1; at <= 6; at++) {
        pthread_t thread;
        void *store;
        int status;
        begin(at, wait_here);
        assert_int_equal(pthread_create(&thread, NULL, opens, path), 0);
        while (sem_wait(&reached) != 0) continue;
        pid_t child = fork();
        if (child == 0) _exit(has_it(path) ? 1 : count_free_slots() == 64 ? 0 : 2);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        sem_post(&released);
        assert_int_equal(pthread_join(thread, &store), 0);
        assert_non_null(store);
        assert_int_equal(lu_store_close(store), 0);
    }
}

/* ------------------------------------------------------------------ failures */

static void fail_here(void) {
    at_point = NULL;
    fails = true;
}

/* Each call of making a file fails in turn: nothing is left of it, and of the locks. */
static void failures_leave_nothing(void **state) {
    (void)state;
    char directory[512];
    snprintf(directory, sizeof directory, "%s", files_path(""));
    (void)unlink(files_path("forked"));
    int before = files_count(directory);
    assert_true(before > 0);
    unsigned refused = 0;
    for (unsigned at = 1;; at++) {
        lu_store_fault_t fault;
        begin(at, fail_here);
        lu_store_t *store = lu_heap_open_file(files_path("forked"), &config, &fault);
        bool done = at_point != NULL;
        begin(0, NULL);
        if (store != NULL) {
            assert_int_equal(lu_store_close(store), 0);
            assert_int_equal(unlink(files_path("forked")), 0);
        } else {
            assert_true(fault.reason == LU_STORE_SYSTEM || fault.reason == LU_STORE_LIMIT);
            assert_int_equal(fault.error, ENOMEM);
            refused++;
        }
        assert_int_equal(files_count(directory), before);
        if (done) break;
    }
    assert_true(refused >= 8);
    assert_int_equal(count_free_slots(), 64);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appears_meanwhile),      cmocka_unit_test(children_stay),
        cmocka_unit_test(children_go_on),         cmocka_unit_test(another_thread_opens),
        cmocka_unit_test(failures_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
