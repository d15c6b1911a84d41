/* test_walk.c - visitors that use the store they walk, and what must not hold its lock.
 * Replaces lu__os_file_sync by --wrap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "worker.h"

enum { BLOCKS = 300 };

static lu_store_t *store;
static char *blocks[BLOCKS]; /* by address; NULL: not live */
static size_t visits[BLOCKS], strange;
static uint64_t random_state;

static int set_up(void **state) {
    (void)state;
    (void)unlink(files_path("walk"));
    lu_store_config_t config = {.flags = LU_STORE_CREATE, .limit_bytes = (size_t)64 << 20};
    store = lu_heap_open_file(files_path("walk"), &config, NULL);
    if (store == NULL) return -1;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = lu_store_malloc(store, 20 + i * 37 % 900);
        visits[i] = 0;
    }
    strange = 0;
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    lu_store_fault_t fault;
    int error = lu_store_check(store, &fault);
    if (error != 0) fprintf(stderr, "%s\n", fault.text);
    return error == 0 ? lu_store_close(store) : -1;
}

static size_t index_of(const void *block) {
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i] == block) return i;
    }
    return BLOCKS;
}

static size_t note_visit(const void *block) {
    size_t at = index_of(block);
    if (at == BLOCKS) {
        strange++;
    } else {
        visits[at]++;
    }
    return at;
}

static void drop(size_t at) {
    if (at >= BLOCKS || blocks[at] == NULL) return;
    assert_int_equal(lu_store_free(store, blocks[at]), 0);
    blocks[at] = NULL;
}

static bool frees_it(void *block, size_t usable, void *arg) {
    (void)usable, (void)arg;
    drop(note_visit(block));
    return true;
}

static void visitor_frees_what_it_sees(void **state) {
    (void)state;
    assert_true(lu_store_walk(store, frees_it, NULL));
    for (size_t i = 0; i < BLOCKS; i++) assert_int_equal(visits[i], 1);
    assert_int_equal(strange, 0);
}

/* Blocks around the visited one, in front of the walk and behind it, so that they merge. */
static bool frees_many(void *block, size_t usable, void *arg) {
    size_t at = note_visit(block), width = *(size_t *)arg;
    (void)usable;
    assert_int_equal(visits[at], 1);
    for (size_t i = 0; i < width; i++) {
        drop(at + 1 - i);
        if (worker_random(&random_state) % 2 == 0) drop(at + i);
    }
    drop(worker_random(&random_state) % BLOCKS);
    return true;
}

static void visitor_frees_others(void **state) {
    (void)state;
    for (size_t width = 1; width < 8; width++) {
        random_state = width;
        assert_true(lu_store_walk(store, frees_many, &width));
        assert_int_equal(strange, 0);
        for (size_t i = 0; i < BLOCKS; i++) assert_true(blocks[i] == NULL || visits[i] == 1);
        assert_int_equal(tear_down(NULL), 0);
        assert_int_equal(set_up(NULL), 0);
    }
}

static bool changes_much(void *block, size_t usable, void *arg) {
    void *more[16];
    (void)usable, (void)arg;
    size_t at = index_of(block);
    if (at < BLOCKS) visits[at]++;
    if (random_state % 3 == 0) drop(at);
    for (size_t i = 0; i < 16; i++) {
        more[i] = lu_store_malloc(store, worker_random(&random_state) % 1500);
        assert_non_null(more[i]);
    }
    for (size_t i = 0; i < 15; i++) assert_int_equal(lu_store_free(store, more[i]), 0);
    more[15] = lu_store_realloc(store, more[15], 1 + worker_random(&random_state) % 9000);
    assert_non_null(more[15]);
    return lu_store_free(store, more[15]) == 0 && lu_store_check(store, NULL) == 0;
}

static void visitor_allocates(void **state) {
    (void)state;
    random_state = 77;
    assert_true(lu_store_walk(store, changes_much, NULL));
    for (size_t i = 0; i < BLOCKS; i++) assert_true(visits[i] == 1);
}

static void *allocates(void *arg) {
    (void)arg;
    return lu_store_malloc(store, 50);
}

/* Another thread, and a child, get on while the visitor waits for them. */
static bool waits_for_others(void *block, size_t usable, void *arg) {
    pthread_t thread;
    void *result;
    int status;
    (void)block, (void)usable, (void)arg;
    assert_int_equal(pthread_create(&thread, NULL, allocates, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_non_null(result);
    pid_t child = fork();
    if (child == 0) _exit(lu_store_malloc(store, 50) == NULL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    return false;
}

static void others_go_on(void **state) {
    (void)state;
    assert_false(lu_store_walk(store, waits_for_others, NULL));
}

static jmp_buf away;

static bool jumps(void *block, size_t usable, void *arg) {
    (void)block, (void)usable, (void)arg;
    longjmp(away, 1);
}

static void visitor_does_not_return(void **state) {
    (void)state;
    pthread_t thread;
    void *result;
    if (setjmp(away) == 0) (void)lu_store_walk(store, jumps, NULL);
    assert_non_null(lu_store_malloc(store, 10));
    assert_int_equal(pthread_create(&thread, NULL, allocates, NULL), 0);
    assert_int_equal(pthread_join(thread, &result), 0);
    assert_non_null(result);
}

static bool closes(void *block, size_t usable, void *arg) {
    (void)block, (void)usable, (void)arg;
    assert_int_equal(lu_store_close(store), 0);
    return true;
}

static void visitor_closes(void **state) {
    errno = 0;
    assert_false(lu_store_walk(store, closes, NULL));
    assert_int_equal(errno, EINVAL);
    assert_int_equal(set_up(state), 0);
}

/* Many blocks become one behind the walk and in front of it: no step looks at all of its bytes. */
static bool frees_all(void *block, size_t usable, void *arg) {
    (void)block, (void)usable, (void)arg;
    for (size_t i = 0; i < BLOCKS; i++) drop(i);
    strange++;
    return true;
}

static void visitor_frees_all(void **state) {
    (void)state;
    assert_true(lu_store_walk(store, frees_all, NULL));
    assert_int_equal(strange, 1);
}

static void *made_while_syncing;

int __real_lu__os_file_sync(void *at, size_t size);
int __wrap_lu__os_file_sync(void *at, size_t size);
int __wrap_lu__os_file_sync(void *at, size_t size) {
    made_while_syncing = lu_store_malloc(store, 100);
    return __real_lu__os_file_sync(at, size);
}

static void sync_keeps_nobody(void **state) {
    (void)state;
    assert_int_equal(lu_store_sync(store), 0);
    assert_non_null(made_while_syncing);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        CASE(visitor_frees_what_it_sees), CASE(visitor_frees_others),
        CASE(visitor_allocates),          CASE(others_go_on),
        CASE(visitor_does_not_return),    CASE(visitor_closes),
        CASE(visitor_frees_all),          CASE(sync_keeps_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
