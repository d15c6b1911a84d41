/* test_random.c - random operations judged again and again: reopened elsewhere, and with a system
 * that fails when it is told to.   Replaces lu__os_file_* by --wrap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "files.h"
#include "worker.h"

static unsigned fail_one_in; /* 0: nothing fails */
static uint64_t fail_random = 1;
static size_t failed[3];

static bool fails(int which) {
    if (fail_one_in == 0 || worker_random(&fail_random) % fail_one_in != 0) return false;
    failed[which]++;
    return true;
}

int __real_lu__os_file_resize(int fd, uint64_t size);
int __wrap_lu__os_file_resize(int fd, uint64_t size);
int __wrap_lu__os_file_resize(int fd, uint64_t size) {
    return fails(0) ? ENOMEM : __real_lu__os_file_resize(fd, size);
}

int __real_lu__os_file_allocate(int fd, uint64_t from, uint64_t size);
int __wrap_lu__os_file_allocate(int fd, uint64_t from, uint64_t size);
int __wrap_lu__os_file_allocate(int fd, uint64_t from, uint64_t size) {
    return fails(1) ? ENOMEM : __real_lu__os_file_allocate(fd, from, size);
}

int __real_lu__os_file_map(int fd, void *wish, size_t size, void **out);
int __wrap_lu__os_file_map(int fd, void *wish, size_t size, void **out);
int __wrap_lu__os_file_map(int fd, void *wish, size_t size, void **out) {
    return fails(2) ? ENOMEM : __real_lu__os_file_map(fd, wish, size, out);
}

static lu_store_t *open_it(const char *name) {
    lu_store_fault_t fault;
    lu_store_config_t config = {.flags = LU_STORE_CREATE, .limit_bytes = (size_t)256 << 20};
    lu_store_t *store = lu_heap_open_file(files_path(name), &config, &fault);
    if (store == NULL) fail_msg("%s", fault.text);
    return store;
}

static uint64_t a_seed(void) {
    uint64_t seed = (uint64_t)time(NULL) ^ (uint64_t)getpid() << 20;
    printf("seed %llu\n", (unsigned long long)seed);
    return seed;
}

static void against_shadow(void **state) {
    (void)state;
    static struct worker worker;
    lu_store_t *store = open_it("random");
    worker_init(&worker, store, a_seed(), 60000);
    for (int i = 0; i < 3000; i++) {
        worker_step(&worker, store);
        if (i % 10 == 0 && !worker_judge(&worker, 1, store, 0)) fail_msg("after step %d", i);
        if (i % 100 == 0) { /* reopened, and every other time where it has never been */
            lu_store_info_t info;
            assert_int_equal(lu_store_info(store, &info), 0);
            assert_int_equal(lu_store_close(store), 0);
            void *taken = i % 200 == 0
                              ? mmap(info.address, 4096, PROT_NONE,
                                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0)
                              : NULL;
            assert_ptr_not_equal(taken, MAP_FAILED);
            store = open_it("random");
            if (taken != NULL) assert_int_equal(munmap(taken, 4096), 0);
            if (!worker_judge(&worker, 1, store, 0)) fail_msg("reopened after step %d", i);
        }
    }
    assert_int_equal(lu_store_close(store), 0);
}

/* A long life of the same amount of data must not make the file larger and larger. */
static void long_life(void **state) {
    (void)state;
    static struct worker worker;
    lu_store_t *store = open_it("life");
    lu_store_info_t early, late;
    worker_init(&worker, store, 11, 8000);
    for (int i = 0; i < 20000; i++) worker_step(&worker, store);
    assert_int_equal(lu_store_info(store, &early), 0);
    for (int i = 0; i < 100000; i++) worker_step(&worker, store);
    assert_int_equal(lu_store_info(store, &late), 0);
    assert_true(worker_judge(&worker, 1, store, 0));
    if (late.size_bytes > early.size_bytes + 65536) {
        fail_msg("%zu bytes, then %zu", early.size_bytes, late.size_bytes);
    }
    assert_int_equal(lu_store_close(store), 0);
}

static void with_failures(void **state) {
    (void)state;
    static struct worker worker;
    lu_store_t *store = open_it("failing");
    worker_init(&worker, store, a_seed(), 900000);
    /* As long as it takes: some calls are seldom made. */
    for (int i = 0; i < 1500 || (i < 1000000 && (failed[0] == 0 || failed[1] == 0)); i++) {
        fail_one_in = 2;
        worker_step(&worker, store);
        fail_one_in = 0;
        if (i % 10 == 0 && !worker_judge(&worker, 1, store, 0)) fail_msg("after step %d", i);
    }
    for (int i = 0; i < 2; i++) assert_true(failed[i] > 0);
    /* An opener that fails leaves the file as it is. */
    assert_int_equal(lu_store_close(store), 0);
    lu_store_fault_t fault;
    fail_one_in = 1;
    assert_null(lu_heap_open_file(files_path("failing"), NULL, &fault));
    assert_int_equal(fault.reason, LU_STORE_LIMIT);
    assert_int_equal(fault.error, ENOMEM);
    assert_null(lu_heap_open_file(files_path("unmade"), NULL, &fault));
    fail_one_in = 0;
    assert_true(failed[2] > 0);
    assert_int_not_equal(access(files_path("unmade"), F_OK), 0);
    store = open_it("failing");
    assert_true(worker_judge(&worker, 1, store, 0));
    assert_int_equal(lu_store_close(store), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_shadow),
        cmocka_unit_test(long_life),
        cmocka_unit_test(with_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
