/* test_heap.c - lu_heap_t, purging inside spans, remote frees, statistics: through lucid.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lucid/lucid.h"
#include "os/os.h"
#include "span/span.h"

#define COUNT 20000

static size_t live_bytes(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.live_bytes;
}

struct tally {
    size_t blocks, bytes;
};

static bool tally_visit(void *block, size_t bytes, void *arg) {
    struct tally *tally = arg;
    assert_int_equal(*(unsigned char *)block, 0x77);
    tally->blocks++;
    tally->bytes += bytes;
    return true;
}

static bool stop_visit(void *block, size_t bytes, void *arg) {
    (void)block;
    (void)bytes;
    return ++*(int *)arg < 3;
}

static void heap_is_walked_and_destroyed(void **state) {
    const unsigned flags = (unsigned)(uintptr_t)*state;
    size_t before = live_bytes();
    lu_heap_t *heap = lu_heap_create(flags);
    assert_non_null(heap);
    size_t kept = 0, bytes = 0;
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = 1 + i * 7 % 900 + (i % 1000 == 0 ? 200000 : 0);
        if (i % 5000 == 0) size += (size_t)40 << 20; /* a mapping of its own */
        unsigned char *block = lu_heap_malloc(heap, size);
        assert_non_null(block);
        *block = 0x77;
        if (i % 3 == 0) {
            lu_free(block);
        } else {
            kept++;
            bytes += lu_usable_size(block);
        }
    }
    struct tally tally = {0, 0};
    assert_true(lu_heap_walk(heap, tally_visit, &tally));
    assert_int_equal(tally.blocks, kept);
    assert_int_equal(tally.bytes, bytes);
    int visits = 0;
    assert_false(lu_heap_walk(heap, stop_visit, &visits));
    assert_int_equal(visits, 3);
    assert_int_equal(live_bytes(), before + bytes);
    lu_heap_destroy(heap);
    assert_int_equal(live_bytes(), before);
}

static void heap_blocks_stay_in_their_heap(void **state) {
    (void)state;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    unsigned char *block = lu_heap_calloc(heap, 10, 10);
    for (int i = 0; i < 100; i++) assert_int_equal(block[i], 0);
    memset(block, 0x77, 100);
    block = lu_realloc(block, 5000); /* by the plain name, too */
    for (int i = 0; i < 100; i++) assert_int_equal(block[i], 0x77);
    struct tally tally = {0, 0};
    assert_true(lu_heap_walk(heap, tally_visit, &tally));
    assert_int_equal(tally.blocks, 1);
    block = lu_heap_realloc(heap, block, 3000000);
    block = lu_heap_realloc(heap, block, 30);
    for (int i = 0; i < 30; i++) assert_int_equal(block[i], 0x77);
    void *aligned = lu_heap_aligned_alloc(heap, 4096, 100);
    assert_int_equal((uintptr_t)aligned % 4096, 0);
    assert_null(lu_heap_realloc(heap, block, 0));
    lu_heap_free(heap, aligned);
    lu_heap_destroy(heap);
    lu_heap_destroy(NULL);
    assert_null(lu_heap_create(77));
}

/* Free most of many blocks, purge, check that the rest is intact and the memory usable again. */
static void purged_spans_are_used_again(void **state) {
    (void)state;
    static unsigned char *blocks[COUNT];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            size_t size = 16 + i * 13 % 20000 / (1 + i % 20);
            blocks[i] = lu_malloc(size);
            assert_non_null(blocks[i]);
            memset(blocks[i], (int)(i % 251), size);
        }
        for (size_t i = 0; i < COUNT; i++) {
            if (i % 16 != 0) {
                lu_free(blocks[i]);
                blocks[i] = NULL;
            }
        }
        size_t least = LU_OS_PAGE < LU_SLICE ? 10 : 2; /* else slices with live blocks stay whole */
        assert_true(lu_purge() > least << 20);
        for (size_t i = 0; i < COUNT; i++) {
            size_t size = 16 + i * 13 % 20000 / (1 + i % 20);
            if (blocks[i] != NULL) {
                for (size_t k = 0; k < size; k++) assert_int_equal(blocks[i][k], i % 251);
            } else {
                blocks[i] = lu_calloc(1, size);
                for (size_t k = 0; k < size; k++) assert_int_equal(blocks[i][k], 0);
                memset(blocks[i], (int)(i % 251), size);
            }
        }
        for (size_t i = 0; i < COUNT; i++) {
            size_t size = 16 + i * 13 % 20000 / (1 + i % 20);
            for (size_t k = 0; k < size; k += 7) assert_int_equal(blocks[i][k], i % 251);
            lu_free(blocks[i]);
        }
    }
}

static void *free_all(void *arg) {
    void **blocks = arg;
    for (size_t i = 0; i < COUNT; i++) lu_free(blocks[i]);
    return NULL;
}

static void remote_frees_come_back(void **state) {
    (void)state;
    static void *blocks[COUNT];
    lu_stats_t stats;
    size_t held_after_first = 0;
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < COUNT; i++) blocks[i] = lu_malloc(8 + i % 300 * (i % 30));
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, free_all, blocks), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        lu_stats_get(&stats);
        if (round == 1) held_after_first = stats.held_bytes;
    }
    assert_true(stats.held_bytes <= held_after_first + ((size_t)4 << 20));
}

static void a_child_frees_and_allocates(void **state) {
    (void)state;
    static void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) blocks[i] = lu_malloc(1 + i % 2000);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        free_all(blocks);
        for (size_t i = 0; i < COUNT; i++) blocks[i] = lu_malloc(1 + i % 2000);
        free_all(blocks);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    free_all(blocks);
}

static void good_size_and_owns(void **state) {
    (void)state;
    for (size_t size = 0; size < 300000; size += 331) {
        void *block = lu_malloc(size);
        assert_int_equal(lu_usable_size(block), lu_good_size(size));
        assert_true(lu_owns(block));
        lu_free(block);
    }
    assert_int_equal(lu_good_size(SIZE_MAX), 0);
    int on_stack;
    assert_false(lu_owns(&on_stack));
    assert_false(lu_owns(NULL));
}

static size_t calls;
static bool on_limit(size_t wanted, size_t held, void *arg) {
    (void)wanted;
    (void)held;
    calls++;
    void **spare = arg;
    if (*spare == NULL) return false;
    lu_free(*spare);
    *spare = NULL;
    return true;
}

static void limit_calls_back(void **state) {
    (void)state;
    lu_stats_t stats;
    void *spare = lu_malloc((size_t)20 << 20);
    (void)lu_purge();
    lu_stats_get(&stats);
    assert_int_equal(
        lu_set_limit(stats.held_bytes + stats.metadata_bytes + (8u << 20), on_limit, &spare), 0);
    calls = 0;
    void *first = lu_malloc((size_t)16 << 20); /* only once the spare block is gone */
    assert_non_null(first);
    assert_int_equal(calls, 1);
    assert_null(lu_malloc((size_t)64 << 20));
    assert_int_equal(calls, 2);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    void *second = lu_malloc((size_t)64 << 20);
    assert_non_null(second);
    lu_free(first);
    lu_free(second);
}

static void json_is_complete(void **state) {
    (void)state;
    static char text[32768];
    size_t length = lu_stats_json(NULL, 0);
    assert_true(length > 1000);
    assert_true(lu_stats_json(text, sizeof text) < sizeof text);
    assert_non_null(strstr(text, "\"schema\":\"lucid-stats-1\""));
    assert_int_equal(text[strlen(text) - 1], '}');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(heap_is_walked_and_destroyed, (void *)LU_HEAP_SHARED),
        cmocka_unit_test_prestate(heap_is_walked_and_destroyed, (void *)LU_HEAP_SINGLE_THREADED),
        cmocka_unit_test(heap_blocks_stay_in_their_heap),
        cmocka_unit_test(purged_spans_are_used_again),
        cmocka_unit_test(remote_frees_come_back),
        cmocka_unit_test(a_child_frees_and_allocates),
        cmocka_unit_test(good_size_and_owns),
        cmocka_unit_test(limit_calls_back),
        cmocka_unit_test(json_is_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
