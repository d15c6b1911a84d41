/* test_api.c - lu_store_*: what each call does, and that wrong ones only fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "files.h"
#include "worker.h"

#define MIB ((size_t)1 << 20)
static const lu_store_config_t small = {.flags = LU_STORE_CREATE, .limit_bytes = 64 * MIB};

static lu_store_t *fresh(const char *name) {
    (void)unlink(files_path(name));
    lu_store_t *store = lu_heap_open_file(files_path(name), &small, NULL);
    assert_non_null(store);
    return store;
}

static void close_checked(lu_store_t *store) {
    lu_store_fault_t fault;
    int error = lu_store_check(store, &fault);
    if (error != 0) fail_msg("%s", fault.text);
    assert_int_equal(fault.reason, LU_STORE_FINE);
    assert_int_equal(lu_store_close(store), 0);
}

static lu_store_info_t info_of(lu_store_t *store) {
    lu_store_info_t info;
    assert_int_equal(lu_store_info(store, &info), 0);
    return info;
}

static void sizes_and_alignment(void **state) {
    (void)state;
    lu_store_t *store = fresh("sizes");
    void *blocks[600];
    for (size_t i = 0; i < 600; i++) {
        size_t size = i < 500 ? i : i * 977;
        blocks[i] = lu_store_malloc(store, size);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        size_t usable = lu_store_usable_size(store, blocks[i]);
        assert_in_range(usable, size, size < 24 ? 24 : size + 40);
        worker_fill(blocks[i], usable, i);
    }
    assert_int_equal(info_of(store).live_blocks, 600);
    for (size_t i = 0; i < 600; i++) {
        size_t usable = lu_store_usable_size(store, blocks[i]);
        assert_true(worker_is_filled(blocks[i], usable, i));
        assert_int_equal(lu_store_free(store, blocks[i]), 0);
    }
    assert_int_equal(info_of(store).live_blocks, 0);
    assert_int_equal(info_of(store).live_bytes, 0);
    /* All free memory is one block again: it holds the largest size that is left. */
    void *all = lu_store_malloc(store, info_of(store).size_bytes - 8192 - 64);
    size_t before = info_of(store).size_bytes;
    assert_non_null(all);
    assert_int_equal(info_of(store).size_bytes, before);
    close_checked(store);
}

static void zeroing_and_overflow(void **state) {
    (void)state;
    lu_store_t *store = fresh("zero");
    for (size_t size = 1; size < 3000; size += 61) {
        unsigned char *block = lu_store_malloc(store, size);
        memset(block, 0xff, lu_store_usable_size(store, block));
        assert_int_equal(lu_store_free(store, block), 0);
        block = lu_store_calloc(store, size, 1);
        for (size_t i = 0; i < size; i++) assert_int_equal(block[i], 0);
        assert_int_equal(lu_store_free(store, block), 0);
    }
    volatile size_t huge = SIZE_MAX / 2; /* not known to the compiler, which would warn */
    errno = 0;
    assert_null(lu_store_calloc(store, huge, 3));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(lu_store_malloc(store, huge * 2 + 1));
    assert_int_equal(errno, ENOMEM);
    errno = 0;
    assert_null(lu_store_malloc(store, 65 * MIB));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(lu_store_alloc_to(store, NULL, huge), ENOMEM);
    assert_int_equal(lu_store_root(store), 0);
    /* Up to the limit and not beyond, and nothing is lost. */
    void *first = lu_store_malloc(store, 60 * MIB);
    assert_non_null(first);
    assert_null(lu_store_malloc(store, 8 * MIB));
    assert_null(lu_store_realloc(store, first, 70 * MIB));
    assert_int_equal(lu_store_free(store, first), 0);
    assert_non_null(lu_store_malloc(store, 61 * MIB));
    close_checked(store);
}

static void resizing(void **state) {
    (void)state;
    lu_store_t *store = fresh("resize");
    size_t size = 100;
    unsigned char *block = lu_store_realloc(store, NULL, size);
    worker_fill(block, size, 5);
    assert_int_equal(lu_store_set_root(store, lu_store_handle(store, block)), 0);
    uint64_t random = 3;
    for (int i = 0; i < 2000; i++) {
        size_t wanted = 1 + worker_random(&random) % (i % 50 == 0 ? 400000 : 2000);
        void *other = lu_store_malloc(store, worker_random(&random) % 300);
        unsigned char *now = lu_store_realloc(store, block, wanted);
        assert_non_null(now);
        assert_true(worker_is_filled(now, wanted < size ? wanted : size, 5));
        assert_int_equal(lu_store_root(store), lu_store_handle(store, now)); /* follows */
        if (now != block) assert_int_equal(lu_store_free(store, block), EINVAL);
        worker_fill(now, wanted, 5);
        block = now;
        size = wanted;
        if (i % 3 != 0) assert_int_equal(lu_store_free(store, other), 0);
        if (i % 100 == 0) assert_int_equal(lu_store_check(store, NULL), 0);
    }
    errno = 0;
    assert_null(lu_store_realloc(store, block, 0));
    assert_int_equal(errno, 0);
    assert_int_equal(lu_store_root(store), 0); /* went with its block */
    /* The last block of a store grows where it is. */
    char *last = lu_store_malloc(store, info_of(store).size_bytes);
    assert_ptr_equal(lu_store_realloc(store, last, 3 * info_of(store).size_bytes), last);
    close_checked(store);
}

/* Into the hole in front of it, which it fills: the block that is freed then has another flag. */
static void moving_to_the_neighbour(void **state) {
    (void)state;
    lu_store_t *store = fresh("neighbour");
    void *first = lu_store_malloc(store, 24), *hole = lu_store_malloc(store, 1000);
    char *block = lu_store_malloc(store, 100);
    void *last = lu_store_malloc(store, 24);
    assert_true(first != NULL && hole != NULL && block != NULL && last != NULL);
    worker_fill(block, 100, 3);
    assert_int_equal(lu_store_free(store, hole), 0);
    char *moved = lu_store_realloc(store, block, 1000);
    assert_ptr_equal(moved, hole);
    assert_true(worker_is_filled(moved, 100, 3));
    assert_int_equal(lu_store_free(store, block), EINVAL);
    assert_int_equal(info_of(store).live_blocks, 3);
    close_checked(store);
}

static void roots_and_slots(void **state) {
    (void)state;
    lu_store_t *store = fresh("slots");
    assert_int_equal(lu_store_root(store), 0);
    assert_int_equal(lu_store_alloc_to(store, NULL, 64), 0); /* into the root */
    uint64_t *table = lu_store_pointer(store, lu_store_root(store));
    assert_non_null(table);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(table[i], 0);
        assert_int_equal(lu_store_alloc_to(store, &table[i], 100), 0);
        assert_int_equal(lu_store_handle(store, lu_store_pointer(store, table[i])), table[i]);
    }
    assert_int_equal(info_of(store).live_blocks, 9);
    assert_int_equal(lu_store_free_from(store, &table[3]), 0);
    assert_int_equal(table[3], 0);
    assert_int_equal(lu_store_free_from(store, &table[3]), 0);
    assert_int_equal(info_of(store).live_blocks, 8);
    uint64_t outside = table[0];
    assert_int_equal(lu_store_alloc_to(store, &outside, 100), EINVAL);
    assert_int_equal(lu_store_free_from(store, &outside), EINVAL);
    assert_int_equal(lu_store_alloc_to(store, (uint64_t *)((char *)table + 4), 100), EINVAL);
    uint64_t *inner = lu_store_pointer(store, table[1]);
    *inner = table[1];
    assert_int_equal(lu_store_free_from(store, inner), EINVAL); /* the slot in its own block */
    *inner = table[1] + 16;
    assert_int_equal(lu_store_free_from(store, inner), EINVAL); /* no block */
    assert_int_equal(*inner, table[1] + 16);
    assert_int_equal(lu_store_set_root(store, table[1] + 16), EINVAL);
    assert_int_equal(lu_store_set_root(store, UINT64_MAX - 7), EINVAL);
    assert_int_equal(lu_store_set_root(store, table[1]), 0);
    assert_int_equal(lu_store_root(store), table[1]);
    assert_int_equal(lu_store_set_root(store, 0), 0);
    close_checked(store);
}

static void misuse_only_fails(void **state) {
    (void)state;
    lu_store_t *store = fresh("misuse"), *other = fresh("other");
    char *block = lu_store_malloc(store, 5000), *second = lu_store_malloc(store, 100);
    char local[64], *plain = lu_malloc(100);
    assert_int_equal(lu_store_free(store, NULL), 0);
    void *bad[] = {block + 16,
                   block + 1,
                   block - 16,
                   block + 4992,
                   local,
                   plain,
                   (void *)8,
                   (void *)(uintptr_t)-8,
                   info_of(store).address,
                   (char *)info_of(store).address + info_of(store).size_bytes,
                   lu_store_malloc(other, 100)};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        errno = 0;
        assert_int_equal(lu_store_free(store, bad[i]), EINVAL);
        assert_int_equal(errno, 0);
        assert_null(lu_store_realloc(store, bad[i], 10));
        assert_int_equal(errno, EINVAL);
        assert_int_equal(lu_store_usable_size(store, bad[i]), 0);
    }
    assert_int_equal(lu_store_free(store, block), 0);
    assert_int_equal(lu_store_free(store, block), EINVAL);
    assert_int_equal(lu_store_free(store, second), 0); /* merges with the one before */
    assert_int_equal(lu_store_free(store, second), EINVAL);
    assert_int_equal(lu_store_free(store, block), EINVAL);
    assert_null(lu_store_pointer(store, UINT64_MAX));
    assert_null(lu_store_pointer(store, 64 * MIB));
    assert_int_equal(lu_store_handle(store, local), 0);
    assert_non_null(lu_store_malloc(store, 10));
    assert_false(lu_store_walk(store, NULL, store));
    lu_free(plain);
    close_checked(store);
    assert_int_equal(lu_store_close(store), EINVAL);
    assert_int_equal(lu_store_free(store, block), EINVAL);
    assert_null(lu_store_malloc(store, 1));
    assert_int_equal(lu_store_check(store, NULL), EINVAL);
    assert_int_equal(lu_store_root(store), 0);
    assert_int_equal(lu_store_close(NULL), EINVAL);
    assert_int_equal(lu_store_close((lu_store_t *)(void *)local), EINVAL);
    close_checked(other);
}

/* A program that writes where it must not: calls fail, check says where, nothing crashes. */
static void overflow_is_reported(void **state) {
    (void)state;
    lu_store_t *store = fresh("overflow");
    lu_store_fault_t fault;
    assert_non_null(lu_store_malloc(store, 24));
    char *second = lu_store_malloc(store, 24);
    /* What lies before it, and its word; not by a pointer that the compiler knows and warns of. */
    memset(lu_store_pointer(store, lu_store_handle(store, second) - 24), 0x41, 24);
    assert_int_equal(lu_store_free(store, second), EINVAL);
    assert_int_equal(lu_store_check(store, &fault), EUCLEAN);
    assert_int_equal(fault.reason, LU_STORE_DAMAGED);
    assert_int_equal(fault.offset, lu_store_handle(store, second) - 8);
    assert_int_equal(fault.found, 0x4141414141414141u);
    assert_non_null(strstr(fault.text, "word of a block at offset"));
    assert_int_equal(lu_store_close(store), 0);

    store = fresh("freed");
    uint64_t *freed = lu_store_malloc(store, 100);
    assert_non_null(lu_store_malloc(store, 100));
    assert_int_equal(lu_store_free(store, freed), 0);
    freed[0] = 0x1234567; /* the link */
    errno = 0;
    assert_null(lu_store_malloc(store, 100));
    assert_int_equal(errno, EUCLEAN);
    assert_int_equal(lu_store_check(store, &fault), EUCLEAN);
    assert_int_equal(lu_store_close(store), 0);
}

static void two_opens_share(void **state) {
    (void)state;
    lu_store_t *one = fresh("twice");
    lu_store_t *two = lu_heap_open_file(files_path("twice"), &small, NULL);
    assert_non_null(two);
    assert_true(info_of(two).moved);             /* its place is taken by the other */
    char *block = lu_store_malloc(one, 3 * MIB); /* makes the file larger */
    worker_fill(block, 3 * MIB, 9);
    char *same = lu_store_pointer(two, lu_store_handle(one, block));
    assert_ptr_not_equal(same, block);
    assert_true(worker_is_filled(same, 3 * MIB, 9));
    assert_int_equal(lu_store_free(two, same), 0);
    assert_int_equal(lu_store_free(one, block), EINVAL);
    assert_int_equal(lu_store_close(one), 0);
    assert_non_null(lu_store_malloc(two, 5 * MIB));
    close_checked(two);
}

static void addresses(void **state) {
    (void)state;
    lu_store_t *store = fresh("address");
    char *place = info_of(store).address;
    bool moved = info_of(store).moved;
    uint64_t handle = lu_store_handle(store, strcpy(lu_store_malloc(store, 100), "hello"));
    close_checked(store);
    store = lu_heap_open_file(files_path("address"), &small, NULL);
    if (!moved) assert_ptr_equal(info_of(store).address, place);
    assert_string_equal(lu_store_pointer(store, handle), "hello");
    place = info_of(store).address;
    close_checked(store);
    /* Taken by something else: elsewhere, or refused if pointers depend on it. */
    assert_ptr_equal(
        mmap(place, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
        place);
    store = lu_heap_open_file(files_path("address"), &small, NULL);
    assert_ptr_not_equal(info_of(store).address, place);
    assert_true(info_of(store).moved);
    assert_string_equal(lu_store_pointer(store, handle), "hello");
    close_checked(store);
    if (!moved) {
        lu_store_config_t same = small;
        lu_store_fault_t fault;
        same.flags |= LU_STORE_SAME_ADDRESS;
        assert_null(lu_heap_open_file(files_path("address"), &same, &fault));
        assert_int_equal(fault.reason, LU_STORE_ADDRESS);
        assert_int_equal(munmap(place, 4096), 0);
        store = lu_heap_open_file(files_path("address"), &same, &fault);
        assert_non_null(store);
        assert_false(info_of(store).moved);
        close_checked(store);
    }
}

static void larger_than_memory(void **state) {
    (void)state;
    (void)unlink(files_path("large"));
    lu_store_config_t config = {.flags = LU_STORE_CREATE | LU_STORE_SPARSE};
    lu_store_t *store = lu_heap_open_file(files_path("large"), &config, NULL);
    assert_non_null(store);
    size_t size = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) * 2;
    char *block = lu_store_malloc(store, size);
    assert_non_null(block);
    for (size_t at = 0; at < size; at += size / 100) block[at] = (char)(at % 101);
    assert_true(info_of(store).size_bytes > size);
    uint64_t handle = lu_store_handle(store, block);
    close_checked(store);
    store = lu_heap_open_file(files_path("large"), &config, NULL);
    block = lu_store_pointer(store, handle);
    for (size_t at = 0; at < size; at += size / 100) assert_int_equal(block[at], at % 101);
    assert_int_equal(lu_store_sync(store), 0);
    assert_int_equal(lu_store_free(store, block), 0);
    assert_true(lu_store_purge(store) >= size - 65536);
    close_checked(store);
}

static void file_size_limit(void **state) {
    (void)state;
    lu_store_t *store = fresh("rlimit");
    struct rlimit kept, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &kept), 0);
    limit = (struct rlimit){MIB, kept.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    errno = 0;
    void *block = lu_store_malloc(store, 2 * MIB);
    int error = errno;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &kept), 0);
    assert_null(block);
    assert_int_equal(error, EFBIG);
    assert_non_null(lu_store_malloc(store, 2 * MIB));
    close_checked(store);
}

static void *hammer(void *arg) {
    lu_store_t *store = arg;
    uint64_t random = (uint64_t)(uintptr_t)&random | 1;
    char *blocks[20] = {0};
    for (int i = 0; i < 20000; i++) {
        size_t slot = worker_random(&random) % 20;
        if (blocks[slot] != NULL && lu_store_free(store, blocks[slot]) != 0) return arg;
        blocks[slot] = lu_store_malloc(store, worker_random(&random) % 500);
        if (blocks[slot] == NULL) return arg;
        blocks[slot][0] = (char)i;
    }
    for (size_t i = 0; i < 20; i++) {
        if (lu_store_free(store, blocks[i]) != 0) return arg;
    }
    return NULL;
}

static void threads_share(void **state) {
    (void)state;
    lu_store_t *store = lu_heap_open_shared(NULL, NULL);
    assert_non_null(store);
    assert_true(info_of(store).shared);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, hammer, store), 0);
    }
    for (int i = 0; i < 4; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    assert_int_equal(info_of(store).live_blocks, 0);
    assert_int_equal(lu_store_sync(store), 0);
    close_checked(store);
}

static void children_share(void **state) {
    (void)state;
    lu_store_t *store = lu_heap_open_shared(&small, NULL);
    assert_non_null(store);
    uint64_t *words = lu_store_calloc(store, 8, 8);
    pid_t children[8];
    for (uint64_t i = 0; i < 8; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            char *block = lu_store_malloc(store, 200000); /* each makes it larger */
            if (block == NULL || hammer(store) != NULL) _exit(1);
            worker_fill(block, 200000, i);
            words[i] = lu_store_handle(store, block);
            _exit(lu_store_close(store));
        }
    }
    for (uint64_t i = 0; i < 8; i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_int_equal(status, 0);
    }
    for (uint64_t i = 0; i < 8; i++) {
        assert_true(worker_is_filled(lu_store_pointer(store, words[i]), 200000, i));
    }
    assert_int_equal(info_of(store).live_blocks, 9);
    close_checked(store);
}

static void many_stores(void **state) {
    (void)state;
    lu_store_t *stores[65];
    lu_store_config_t config = {.limit_bytes = 1 << 16};
    lu_store_fault_t fault;
    for (int i = 0; i < 64; i++) assert_non_null(stores[i] = lu_heap_open_shared(&config, &fault));
    assert_null(stores[64] = lu_heap_open_shared(&config, &fault));
    assert_int_equal(errno, EMFILE);
    assert_int_equal(fault.reason, LU_STORE_USAGE);
    for (int i = 0; i < 64; i++) close_checked(stores[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_alignment),
        cmocka_unit_test(zeroing_and_overflow),
        cmocka_unit_test(resizing),
        cmocka_unit_test(moving_to_the_neighbour),
        cmocka_unit_test(roots_and_slots),
        cmocka_unit_test(misuse_only_fails),
        cmocka_unit_test(overflow_is_reported),
        cmocka_unit_test(two_opens_share),
        cmocka_unit_test(addresses),
        cmocka_unit_test(larger_than_memory),
        cmocka_unit_test(file_size_limit),
        cmocka_unit_test(threads_share),
        cmocka_unit_test(children_share),
        cmocka_unit_test(many_stores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
