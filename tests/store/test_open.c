/* test_open.c - what is refused, with which reason: foreign files, wrong versions and sizes, every
 * byte of the header damaged; and how a file is made. */
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

static const lu_store_config_t config = {.limit_bytes = (size_t)64 << 20};
static const char *path;
static unsigned char *bytes; /* a sound file of several grains with blocks in it */
static size_t size;
static struct worker worker;

static int prepare(void **state) {
    (void)state;
    path = strdup(files_path("store"));
    lu_store_t *store = lu_heap_open_file(path, NULL, NULL);
    if (store == NULL) return -1;
    worker_init(&worker, store, 4, 90000);
    for (int i = 0; i < 300; i++) worker_step(&worker, store);
    if (lu_store_set_root(store, worker.table) != 0 || lu_store_close(store) != 0) return -1;
    bytes = files_read(path, &size);
    return size >= 3 * LU_STORE_GRAIN ? 0 : -1;
}

/* Open what is at `path`: the reason, LU_STORE_FINE if it opens and checks. */
static lu_store_reason_t outcome(lu_store_fault_t *fault) {
    memset(fault, 0x5a, sizeof *fault);
    lu_store_t *store = lu_heap_open_file(path, &config, fault);
    if (store != NULL) {
        (void)lu_store_check(store, fault);
        assert_int_equal(lu_store_close(store), 0);
        return fault->reason;
    }
    assert_int_not_equal(fault->reason, LU_STORE_FINE);
    assert_int_equal(errno, fault->error);
    assert_non_null(memchr(fault->text, '\0', sizeof fault->text));
    assert_true(strlen(fault->text) > 5);
    return fault->reason;
}

static void refused(lu_store_reason_t reason, const char *text) {
    lu_store_fault_t fault;
    lu_store_reason_t found = outcome(&fault);
    if (found != reason) fail_msg("%s: reason %d and not %d", fault.text, found, reason);
    if (strstr(fault.text, text) == NULL) fail_msg("'%s' has no '%s'", fault.text, text);
}

static void foreign_files(void **state) {
    (void)state;
    lu_store_fault_t fault;
    size_t elf_size;
    unsigned char *elf = files_read("/proc/self/exe", &elf_size);
    files_write(path, elf, elf_size);
    refused(LU_STORE_FOREIGN, "magic number at offset 0: found 0x");
    files_write(path, elf, 7);
    refused(LU_STORE_FOREIGN, "magic number");
    files_write(path, "", 0);
    refused(LU_STORE_FOREIGN, "empty");
    memset(elf, 0, elf_size);
    files_write(path, elf, elf_size);
    refused(LU_STORE_FOREIGN, "found 0x0");
    free(elf);
    assert_int_equal(unlink(path), 0);
    refused(LU_STORE_SYSTEM, "opening the file");
    assert_int_equal(errno, ENOENT);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(LU_STORE_NOT_FILE, "directory");
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    refused(LU_STORE_NOT_FILE, "not a regular file");
    assert_int_equal(unlink(path), 0);
    assert_null(lu_heap_open_file("/dev/null", &config, &fault));
    assert_int_equal(fault.reason, LU_STORE_NOT_FILE);
    assert_null(lu_heap_open_file("/nowhere/at/all", NULL, &fault));
    assert_int_equal(fault.reason, LU_STORE_SYSTEM);
    assert_null(lu_heap_open_file(NULL, NULL, &fault));
    assert_int_equal(fault.reason, LU_STORE_USAGE);
    assert_null(lu_heap_open_file("", NULL, NULL));
}

static void wrong_arguments(void **state) {
    (void)state;
    lu_store_fault_t fault;
    files_write(path, bytes, size);
    lu_store_config_t wrong = {.flags = 64};
    assert_null(lu_heap_open_file(path, &wrong, &fault));
    assert_int_equal(fault.reason, LU_STORE_USAGE);
    assert_null(lu_heap_open_shared(&wrong, &fault));
    wrong = (lu_store_config_t){.address = (void *)(uintptr_t)12345};
    assert_null(lu_heap_open_file(path, &wrong, &fault));
    assert_int_equal(fault.reason, LU_STORE_USAGE);
    wrong = (lu_store_config_t){.limit_bytes = LU_STORE_GRAIN}; /* less than there is */
    assert_null(lu_heap_open_file(path, &wrong, &fault));
    assert_int_equal(fault.reason, LU_STORE_LIMIT);
    assert_int_equal(fault.expected, size);
    wrong = (lu_store_config_t){.limit_bytes = SIZE_MAX};
    assert_null(lu_heap_open_file(path, &wrong, &fault));
    assert_int_equal(fault.reason, LU_STORE_LIMIT);
    wrong = (lu_store_config_t){.limit_bytes = (size_t)1 << 43}; /* no machine has room twice */
    lu_store_t *stores[64];
    size_t count = 0;
    while (count < 64 && (stores[count] = lu_heap_open_shared(&wrong, &fault)) != NULL) count++;
    assert_true(count < 64);
    assert_int_equal(fault.reason, LU_STORE_LIMIT);
    while (count-- > 0) assert_int_equal(lu_store_close(stores[count]), 0);
}

static void truncation(void **state) {
    (void)state;
    lu_store_fault_t fault;
    for (size_t length = 8; length < size;) {
        files_write(path, bytes, length);
        refused(LU_STORE_TRUNCATED, "length of the file: found ");
        (void)outcome(&fault);
        assert_int_equal(fault.found, length);
        /* Every page boundary and its neighbours; in the header every odd size too. */
        size_t page = (length + 1) / 4096 * 4096;
        if (length < 300) {
            length++;
        } else {
            length = length == page - 1 ? page : length == page ? page + 1 : page + 4095;
        }
    }
    unsigned char *longer = calloc(1, size + 2 * LU_STORE_GRAIN);
    memcpy(longer, bytes, size);
    const size_t more[] = {1, 4095, 4096, LU_STORE_GRAIN, 2 * LU_STORE_GRAIN};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        files_write(path, longer, size + more[i]);
        refused(LU_STORE_SIZE, "length of the file: found ");
    }
    free(longer);
    files_write(path, bytes, size);
    refused(LU_STORE_FINE, "");
}

static void header_fields(void **state) {
    (void)state;
    const struct {
        size_t offset, bytes;
        lu_store_reason_t reason;
    } fields[] = {
#define FIELD(name, reason) \
    {offsetof(struct store_header, name), sizeof(((struct store_header *)0)->name), reason}
        FIELD(magic, LU_STORE_FOREIGN),      FIELD(version, LU_STORE_VERSION),
        FIELD(order, LU_STORE_LAYOUT),       FIELD(header_bytes, LU_STORE_LAYOUT),
        FIELD(grain_bytes, LU_STORE_LAYOUT), FIELD(class_count, LU_STORE_LAYOUT),
        FIELD(journal_max, LU_STORE_LAYOUT), FIELD(address, LU_STORE_DAMAGED),
        FIELD(key, LU_STORE_DAMAGED),        FIELD(reserved, LU_STORE_DAMAGED),
        FIELD(seal, LU_STORE_DAMAGED),       FIELD(file_bytes, LU_STORE_DAMAGED),
        FIELD(file_check, LU_STORE_DAMAGED), FIELD(root, LU_STORE_DAMAGED),
        FIELD(root_check, LU_STORE_DAMAGED), FIELD(live_blocks, LU_STORE_DAMAGED),
        FIELD(live_bytes, LU_STORE_DAMAGED), FIELD(growing, LU_STORE_FINE),
        FIELD(recoveries, LU_STORE_FINE),    FIELD(lock_kind, LU_STORE_FINE),
        FIELD(lock, LU_STORE_FINE),          FIELD(journal_state, LU_STORE_DAMAGED),
        FIELD(bitmap, LU_STORE_DAMAGED),     FIELD(heads, LU_STORE_DAMAGED),
#undef FIELD
    };
    unsigned char *copy = malloc(size);
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        for (size_t at = 0; at<fields[i].bytes; at += fields[i].bytes> 80 ? 13 : 1) {
            memcpy(copy, bytes, size);
            copy[fields[i].offset + at] ^= (unsigned char)(1u << (at + i) % 8);
            files_write(path, copy, size);
            lu_store_fault_t fault;
            lu_store_reason_t found = outcome(&fault);
            if (found != fields[i].reason) {
                fail_msg("byte %zu: reason %d and not %d (%s)", fields[i].offset + at, found,
                         fields[i].reason, fault.text);
            }
        }
    }
    free(copy);
}

/* A refused file must stay byte for byte as it was: it may be somebody's only copy. */
static void refused_files_stay(void **state) {
    (void)state;
    unsigned char *copy = malloc(size);
    const size_t spoiled[] = {3,
                              9,
                              30,
                              50,
                              offsetof(struct store_header, file_check),
                              offsetof(struct store_header, journal_state) + 4,
                              size - 3};
    for (size_t i = 0; i < sizeof spoiled / sizeof *spoiled; i++) {
        memcpy(copy, bytes, size);
        copy[spoiled[i]] ^= 4;
        files_write(path, copy, size);
        lu_store_fault_t fault;
        assert_null(lu_heap_open_file(path, &config, &fault));
        size_t after_size;
        unsigned char *after = files_read(path, &after_size);
        assert_int_equal(after_size, size);
        /* But for the mutex, which is made anew by who is alone. */
        size_t from = offsetof(struct store_header, lock_kind);
        memcpy(after + from, copy + from, offsetof(struct store_header, journal_state) - from);
        assert_memory_equal(after, copy, size);
        free(after);
    }
    free(copy);
}

static void verify_flag(void **state) {
    (void)state;
    unsigned char *copy = malloc(size);
    memcpy(copy, bytes, size);
    copy[offsetof(struct store_header, live_bytes)] ^= 1;
    files_write(path, copy, size);
    lu_store_t *store = lu_heap_open_file(path, &config, NULL);
    assert_non_null(store); /* seen by a check only */
    assert_int_equal(lu_store_close(store), 0);
    lu_store_config_t verify = config;
    lu_store_fault_t fault;
    verify.flags = LU_STORE_VERIFY;
    assert_null(lu_heap_open_file(path, &verify, &fault));
    assert_int_equal(fault.reason, LU_STORE_DAMAGED);
    assert_non_null(strstr(fault.text, "bytes in live blocks at offset"));
    free(copy);
}

/* Several processes that open a file that is not there make one and the same. */
static void made_once(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        (void)unlink(path);
        pid_t children[4];
        for (int i = 0; i < 4; i++) {
            children[i] = fork();
            assert_true(children[i] >= 0);
            if (children[i] == 0) {
                lu_store_t *store = lu_heap_open_file(path, NULL, NULL);
                _exit(store == NULL || lu_store_malloc(store, 100) == NULL);
            }
        }
        for (int i = 0; i < 4; i++) {
            int status;
            assert_int_equal(waitpid(children[i], &status, 0), children[i]);
            assert_int_equal(status, 0);
        }
        lu_store_fault_t fault;
        lu_store_t *store = lu_heap_open_file(path, &config, &fault);
        if (store == NULL) fail_msg("%s", fault.text);
        lu_store_info_t info;
        assert_int_equal(lu_store_info(store, &info), 0);
        assert_int_equal(info.live_blocks, 4);
        assert_int_equal(lu_store_close(store), 0);
    }
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

/* A root that a dead process had put there, but not ended, was never there. */
#ifndef LOCKS_ARE_NOT_ROBUST
static void root_of_a_dead_process(void **state) {
    (void)state;
    files_write(path, bytes, size);
    lu_store_t *store = lu_heap_open_file(path, &config, NULL);
    assert_non_null(store);
    uint64_t root = lu_store_root(store);
    assert_true(root != 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int error;
        if (!lu__store_enter(store, NULL, &error)) _exit(1);
        lu__store_put_root(store, root + 16);
        lu__store_apply(store);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(lu_store_root(store), root);
    assert_int_equal(lu_store_check(store, NULL), 0);
    assert_int_equal(lu_store_close(store), 0);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(foreign_files),
        cmocka_unit_test(wrong_arguments),
        cmocka_unit_test(truncation),
        cmocka_unit_test(header_fields),
        cmocka_unit_test(verify_flag),
        cmocka_unit_test(refused_files_stay),
        cmocka_unit_test(made_once),
#ifndef LOCKS_ARE_NOT_ROBUST
        cmocka_unit_test(root_of_a_dead_process),
#endif
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
