/* test_descriptors.c - the descriptor of a store belongs to the program like any other: it may be
 * closed, and its number given to another file, which must then stay as it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "store/store.h"
#include "worker.h"

enum { MANY = 64, VICTIM_BYTES = 100 };
static const lu_store_config_t config = {.flags = LU_STORE_CREATE, .limit_bytes = (size_t)64 << 20};

static lu_store_t *fresh(const char *name) {
    (void)unlink(files_path(name));
    lu_store_t *store = lu_heap_open_file(files_path(name), &config, NULL);
    assert_non_null(store);
    return store;
}

/* Another file under the number of the store's: an open one, or none with `name` NULL. */
static void replace(const lu_store_t *store, const char *name) {
    int fd = store->fd;
    assert_int_equal(close(fd), 0);
    if (name == NULL) return;
    char text[VICTIM_BYTES];
    memset(text, 'v', sizeof text);
    files_write(files_path(name), text, sizeof text);
    int victim = open(files_path(name), O_RDWR);
    assert_true(victim >= 0);
    if (victim == fd) return;
    assert_int_equal(dup2(victim, fd), fd);
    assert_int_equal(close(victim), 0);
}

static void is_as_it_was(const char *name) {
    size_t size;
    unsigned char *bytes = files_read(files_path(name), &size);
    assert_int_equal(size, VICTIM_BYTES);
    for (size_t i = 0; i < size; i++) assert_int_equal(bytes[i], 'v');
    free(bytes);
}

/* Calls that need the file say EBADF, others go on; closing leaves the number to its owner. */
static void use_without(lu_store_t *store, bool number_in_use) {
    int fd = store->fd;
    void *block = lu_store_malloc(store, 100);
    assert_non_null(block);
    errno = 0;
    assert_null(lu_store_malloc(store, (size_t)3 << 20));
    assert_int_equal(errno, EBADF);
    assert_null(lu_store_realloc(store, block, (size_t)3 << 20));
    assert_int_equal(errno, EBADF);
    assert_int_equal(lu_store_alloc_to(store, NULL, (size_t)3 << 20), EBADF);
    assert_int_equal(lu_store_sync(store), 0);
    assert_int_equal(lu_store_check(store, NULL), 0);
    assert_int_equal(lu_store_free(store, block), 0);
    assert_int_equal(lu_store_close(store), 0);
    assert_int_equal(fcntl(fd, F_GETFD) >= 0, number_in_use);
    if (number_in_use) assert_int_equal(close(fd), 0);
}

static void closed(void **state) {
    (void)state;
    lu_store_t *store = fresh("closed");
    replace(store, NULL);
    use_without(store, false);
}

static void given_to_another(void **state) {
    (void)state;
    lu_store_t *store = fresh("given");
    replace(store, "victim");
    use_without(store, true);
    is_as_it_was("victim");
}

#ifndef LOCKS_ARE_NOT_ROBUST
/* Who recovers a file that a dead process was making longer wants to cut it. */
static void while_recovering(void **state) {
    (void)state;
    lu_store_t *store = fresh("recover");
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int error;
        if (!lu__store_enter(store, NULL, &error)) _exit(1);
        lu__store_header(store)->growing = 20 * LU_STORE_GRAIN;
        if (ftruncate(store->fd, 20 * LU_STORE_GRAIN) != 0) _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    replace(store, "victim");
    use_without(store, true);
    is_as_it_was("victim");
    store = lu_heap_open_file(files_path("recover"), &config, NULL);
    assert_non_null(store);
    struct stat file;
    assert_int_equal(stat(files_path("recover"), &file), 0);
    assert_int_equal(file.st_size, LU_STORE_GRAIN);
    assert_int_equal(lu_store_check(store, NULL), 0);
    assert_int_equal(lu_store_close(store), 0);
}
#endif

/* What a program prints must not end in a store, although it has closed where it goes. */
static void not_where_output_goes(void **state) {
    (void)state;
    char path[512];
    snprintf(path, sizeof path, "%s", files_path("low"));
    for (int again = 0; again < 2; again++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            for (int fd = 0; fd < MANY; fd++) close(fd);
            lu_store_t *store = lu_heap_open_file(path, &config, NULL);
            if (store == NULL || store->fd < 3) _exit(1);
            for (int fd = 0; fd < 3; fd++) {
                if (fcntl(fd, F_GETFD) >= 0) _exit(2);
            }
            if ((fcntl(store->fd, F_GETFD) & FD_CLOEXEC) == 0) _exit(3);
            _exit(lu_store_close(store));
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
    }
}

/* What is refused was not made, under its name or any. */
static void refused_is_not_made(void **state) {
    (void)state;
    char directory[512];
    snprintf(directory, sizeof directory, "%s", files_path(""));
    lu_store_t *other = lu_heap_open_shared(&config, NULL);
    lu_store_info_t info;
    assert_int_equal(lu_store_info(other, &info), 0);
    lu_store_config_t bad[] = {config, config, config};
    bad[0].flags |= LU_STORE_SAME_ADDRESS; /* where the other is */
    bad[0].address = info.address;
    bad[1].limit_bytes = (size_t)1 << 60;
    bad[2].limit_bytes = LU_STORE_MAX - 2 * LU_STORE_GRAIN; /* there may be room for it */
    int before = files_count(directory);
    assert_true(before > 0);
    for (size_t i = 0; i < 3; i++) {
        lu_store_fault_t fault = {.reason = LU_STORE_FINE};
        lu_store_t *store = lu_heap_open_file(files_path("unmade"), &bad[i], &fault);
        assert_int_equal(store != NULL, fault.reason == LU_STORE_FINE);
        if (i < 2) assert_null(store);
        if (store != NULL) {
            assert_int_equal(lu_store_close(store), 0);
            assert_int_equal(unlink(files_path("unmade")), 0);
        }
        assert_int_equal(files_count(directory), before);
    }
    assert_int_equal(lu_store_close(other), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(closed),
        cmocka_unit_test(given_to_another),
#ifndef LOCKS_ARE_NOT_ROBUST
        cmocka_unit_test(while_recovering),
#endif
        cmocka_unit_test(not_where_output_goes),
        cmocka_unit_test(refused_is_not_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
