/* test_growth.c - a store that another process has made larger, and who died in the middle of
 * that. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "lucid/lucid.h"
#include "store/store.h"

static const lu_store_config_t config = {.flags = LU_STORE_CREATE, .limit_bytes = 64 << 20};

#ifndef LOCKS_ARE_NOT_ROBUST
enum { BLOCKS = 300, BLOCK_BYTES = 1000, DEATHS = 8 };

static lu_store_t *fresh(const char *name) {
    unlink(files_path(name));
    lu_store_t *store = lu_heap_open_file(files_path(name), &config, NULL);
    assert_non_null(store);
    return store;
}

/* In a process of its own: open the file, make it larger, and die in the middle of an operation
 * that has changed a word behind what others have mapped. */
static void grow_and_die(const char *name) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        lu_store_t *store = lu_heap_open_file(files_path(name), &config, NULL);
        if (store == NULL) _exit(1);
        for (int i = 0; i < BLOCKS; i++) {
            if (lu_store_malloc(store, BLOCK_BYTES) == NULL) _exit(2);
        }
        int error;
        if (!lu__store_enter(store, NULL, &error)) _exit(3);
        uint64_t end = lu__store_header(store)->file_bytes - 8;
        lu__store_put(store, end, ~lu__store_read(store, end));
        lu__store_apply(store);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

static void is_in_order(lu_store_t *store) {
    assert_int_equal(lu_store_check(store, NULL), 0);
    void *block = lu_store_malloc(store, BLOCK_BYTES);
    assert_non_null(block);
    lu_store_free(store, block);
    lu_store_info_t info;
    assert_int_equal(lu_store_info(store, &info), 0);
    assert_int_equal(info.live_blocks, BLOCKS);
}

/* Who recovers has mapped only the size at which it opened the store. */
static void recovered_by_who_saw_a_smaller_file(void **state) {
    (void)state;
    for (int i = 0; i < DEATHS; i++) {
        lu_store_t *store = fresh("grown");
        grow_and_die("grown");
        void *block = lu_store_malloc(store, BLOCK_BYTES);
        assert_non_null(block);
        lu_store_free(store, block);
        is_in_order(store);
        assert_int_equal(lu_store_close(store), 0);
        store = lu_heap_open_file(files_path("grown"), &config, NULL);
        assert_non_null(store);
        is_in_order(store);
        assert_int_equal(lu_store_close(store), 0);
    }
}

/* Who has no addresses for it leaves it to others. */
static void recovered_by_others(void **state) {
    (void)state;
    lu_store_t *store = fresh("limited");
    const lu_store_config_t small = {.limit_bytes = LU_STORE_GRAIN};
    lu_store_t *limited = lu_heap_open_file(files_path("limited"), &small, NULL);
    assert_non_null(limited);
    grow_and_die("limited");
    for (int i = 0; i < 2; i++) {
        errno = 0;
        assert_null(lu_store_malloc(limited, BLOCK_BYTES));
        assert_int_equal(errno, ENOMEM);
        is_in_order(store);
    }
    assert_int_equal(lu_store_close(limited), 0);
    is_in_order(store);
    assert_int_equal(lu_store_close(store), 0);
}
#endif

static void modes_and_paths(void **state) {
    (void)state;
    const char *path = files_path("mode");
    unlink(path);
    lu_store_config_t all = {.flags = LU_STORE_CREATE, .mode = ~0u};
    lu_store_t *store = lu_heap_open_file(path, &all, NULL);
    assert_non_null(store);
    struct stat file;
    assert_int_equal(stat(files_path("mode"), &file), 0);
    assert_int_equal(file.st_mode & ~0777u, S_IFREG);
    assert_int_equal(lu_store_close(store), 0);
    errno = 0;
    assert_null(lu_heap_open_file("", &config, NULL));
    assert_int_equal(errno, ENOENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#ifndef LOCKS_ARE_NOT_ROBUST
        cmocka_unit_test(recovered_by_who_saw_a_smaller_file),
        cmocka_unit_test(recovered_by_others),
#endif
        cmocka_unit_test(modes_and_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
