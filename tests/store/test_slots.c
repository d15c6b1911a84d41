/* test_slots.c - lu_store_alloc_to and lu_store_free_from take slots inside live blocks and no
 * others; and what is to read as zero does, to the last usable byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "files.h"
#include "worker.h"

static lu_store_t *store;

static int set_up(void **state) {
    (void)state;
    (void)unlink(files_path("slots"));
    lu_store_config_t config = {.flags = LU_STORE_CREATE, .limit_bytes = (size_t)64 << 20};
    store = lu_heap_open_file(files_path("slots"), &config, NULL);
    return store == NULL ? -1 : 0;
}

static int tear_down(void **state) {
    (void)state;
    return lu_store_check(store, NULL) == 0 ? lu_store_close(store) : -1;
}

static void *at(uint64_t handle) {
    return lu_store_pointer(store, handle);
}

static void refused(uint64_t handle) {
    lu_store_info_t before, after;
    assert_int_equal(lu_store_info(store, &before), 0);
    errno = 0;
    assert_int_equal(lu_store_alloc_to(store, at(handle), 100), EINVAL);
    assert_int_equal(lu_store_free_from(store, at(handle)), EINVAL);
    assert_int_equal(lu_store_alloc_to(store, at(handle), (size_t)1 << 20), EINVAL);
    assert_int_equal(errno, 0);
    assert_int_equal(lu_store_info(store, &after), 0);
    assert_int_equal(after.live_blocks, before.live_blocks);
    assert_int_equal(after.size_bytes, before.size_bytes);
    assert_int_equal(lu_store_check(store, NULL), 0);
}

/* Every word of the store: those inside live blocks are slots, and no others. */
static void every_word(void **state) {
    (void)state;
    enum { COUNT = 24 };
    char *blocks[COUNT];
    lu_store_info_t info;
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = lu_store_calloc(store, 1, 24 + 16 * (i % 5));
        assert_non_null(blocks[i]);
        memset(blocks[i], 0, lu_store_usable_size(store, blocks[i]));
    }
    uint64_t first = lu_store_handle(store, blocks[0]);
    uint64_t last = lu_store_handle(store, blocks[COUNT - 1]);
    for (size_t i = 1; i < COUNT; i += 3) assert_int_equal(lu_store_free(store, blocks[i]), 0);
    for (size_t i = 2; i < COUNT; i += 6) assert_int_equal(lu_store_free(store, blocks[i]), 0);
    assert_int_equal(lu_store_info(store, &info), 0);
    size_t good = 0, live = info.live_blocks;
    for (uint64_t word = first; word < last; word += 8) {
        bool inside = false;
        for (size_t i = 0; i < COUNT; i++) {
            size_t usable = lu_store_usable_size(store, blocks[i]);
            inside |= word - lu_store_handle(store, blocks[i]) < usable;
        }
        if (!inside) {
            refused(word);
            continue;
        }
        good++;
        assert_int_equal(lu_store_alloc_to(store, at(word), 5000), 0);
        assert_int_equal(lu_store_free_from(store, at(word)), 0);
        assert_int_equal(lu_store_free_from(store, at(word)), 0); /* 0 */
    }
    assert_true(good > 40);
    assert_int_equal(lu_store_info(store, &info), 0);
    assert_int_equal(info.live_blocks, live);
    for (uint64_t word = info.size_bytes - 64; word < info.size_bytes; word += 8) refused(word);
    refused(8200 + 1);
    assert_int_equal(lu_store_alloc_to(store, (uint64_t *)info.address, 10), EINVAL);
    uint64_t *length = (uint64_t *)(void *)((char *)info.address + 64);
    assert_int_equal(lu_store_alloc_to(store, length, 10), EINVAL); /* the store's own */
}

/* A table of many pages: also when it was freed, given to others, and made anew. */
static void in_a_large_table(void **state) {
    (void)state;
    enum { WORDS = 100000 };
    uint64_t random = 5;
    for (int round = 0; round < 3; round++) {
        char *front = lu_store_malloc(store, 1000 + (size_t)round * 5000);
        uint64_t *table = lu_store_calloc(store, WORDS, 8);
        assert_non_null(table);
        for (int i = 0; i < 500; i++) {
            uint64_t *slot = &table[worker_random(&random) % WORDS];
            assert_int_equal(lu_store_free_from(store, slot), 0);
            assert_int_equal(lu_store_alloc_to(store, slot, 64), 0);
        }
        uint64_t handle = lu_store_handle(store, table);
        assert_int_equal(lu_store_free(store, table), 0);
        for (int i = 0; i < 50; i++) refused(handle + worker_random(&random) % WORDS * 8);
        char *cover = lu_store_malloc(store, 300000); /* in its place, in part */
        if (lu_store_handle(store, cover) < handle + 200000) {
            memset(cover, 0, lu_store_usable_size(store, cover));
            uint64_t *slot = (uint64_t *)(void *)(cover + 40000);
            assert_int_equal(lu_store_alloc_to(store, slot, 64), 0);
        }
        assert_int_equal(lu_store_free(store, cover), 0);
        assert_int_equal(lu_store_free(store, front), 0);
    }
}

/* A hole of a size that leaves 16 bytes too few for a block: they go to who takes it. */
static void *taken_whole(size_t size, void *(*allocate)(size_t)) {
    void *before = lu_store_malloc(store, 24), *hole = lu_store_malloc(store, size + 16);
    void *behind = lu_store_malloc(store, 24);
    assert_true(before != NULL && hole != NULL && behind != NULL);
    memset(hole, 0xff, lu_store_usable_size(store, hole));
    assert_int_equal(lu_store_free(store, hole), 0);
    unsigned char *block = allocate(size);
    assert_ptr_equal(block, hole);
    assert_int_equal(lu_store_usable_size(store, block), size + 16);
    for (size_t i = 0; i < size + 16; i++) assert_int_equal(block[i], 0);
    return block;
}

static void *by_calloc(size_t size) {
    return lu_store_calloc(store, 1, size);
}

static void *by_alloc_to(size_t size) {
    assert_int_equal(lu_store_alloc_to(store, NULL, size), 0);
    return at(lu_store_root(store));
}

static void all_of_it_is_zero(void **state) {
    (void)state;
    for (size_t size = 1016; size < 1100; size += 16) {
        (void)taken_whole(size, by_calloc);
        (void)taken_whole(size, by_alloc_to);
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {CASE(every_word), CASE(in_a_large_table),
                                       CASE(all_of_it_is_zero)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
