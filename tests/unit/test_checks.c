/*
 * test_checks.c - checks that no other test reaches, and a heap in a forked child.
 *
 * What is asked for here cannot be given: the call must say so with errno, and change nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lucid/lucid.h"
#include "stats/snapshot.h"

/* The compiler must not know what is asked for. */
static size_t hidden(size_t size) {
    __asm__ volatile("" : "+r"(size));
    return size;
}

static void refused(const void *block, int error) {
    assert_null(block);
    assert_int_equal(errno, error);
    errno = 0;
}

static void a_heap_refuses_impossible_sizes(void **state) {
    (void)state;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    assert_non_null(heap);
    const size_t half = hidden((size_t)1 << 63), most = hidden((size_t)PTRDIFF_MAX);
    errno = 0;
    refused(lu_heap_calloc(heap, half, 2), ENOMEM); /* 0, if nobody looks */
    refused(lu_heap_calloc(heap, half + 8, 2), ENOMEM);
    refused(lu_heap_calloc(heap, most, 2), ENOMEM);
    refused(lu_heap_malloc(heap, most + 1), ENOMEM);
    refused(lu_heap_aligned_alloc(heap, 64, most), ENOMEM);
    refused(lu_heap_aligned_alloc(heap, hidden(48), 48), EINVAL);
    char *block = lu_heap_malloc(heap, 100);
    assert_non_null(block);
    memset(block, 7, 100);
    refused(lu_heap_realloc(heap, block, most + 1), ENOMEM);
    for (int i = 0; i < 100; i++) assert_int_equal(block[i], 7);
    lu_heap_destroy(heap);
}

/* Memory that was used before is cleared. */
static void a_heap_clears_what_was_used(void **state) {
    (void)state;
    enum { BLOCKS = 300 };
    static unsigned char *blocks[BLOCKS];
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SINGLE_THREADED);
    assert_non_null(heap);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            size_t size = 1 + i * 7 % 900 + (i % 100 == 0 ? 100000 : 0);
            assert_non_null(blocks[i] = lu_heap_calloc(heap, size, 1));
            for (size_t k = 0; k < size; k++) assert_int_equal(blocks[i][k], 0);
            memset(blocks[i], 0xff, size);
        }
        for (size_t i = 0; i < BLOCKS; i++) lu_heap_free(heap, blocks[i]);
    }
    lu_heap_destroy(heap);
}

static void a_child_goes_on_with_a_heap(void **state) {
    (void)state;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    void *block = lu_heap_malloc(heap, 300);
    assert_non_null(block);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        void *other = lu_heap_malloc(heap, 300000);
        lu_heap_free(heap, block);
        lu_free(other);
        lu_heap_destroy(heap);
        _exit(other != NULL ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    lu_heap_destroy(heap);
}

/* Slabs leave the cache's table from its middle, and the others must be found afterwards. */
static void slabs_leave_a_cache_in_any_order(void **state) {
    (void)state;
    enum { OBJECTS = 900, STEP = 7 };
    static void *objects[OBJECTS];
    lu_cache_t *cache = lu_cache_create("checks", 20000, 0, NULL, NULL, NULL);
    assert_non_null(cache);
    for (size_t i = 0; i < OBJECTS; i++) {
        objects[i] = lu_cache_alloc(cache);
        assert_non_null(objects[i]);
    }
    for (size_t first = 0; first < STEP; first++) {
        for (size_t i = first; i < OBJECTS; i += STEP) lu_cache_free(cache, objects[i]);
        (void)lu_cache_reap(cache, first);
    }
    lu_cache_destroy(cache);
}

static lu_violation_kind_t kinds[8];
static const void *pointers[8];
static size_t violations;

static bool on_violation(const lu_violation_t *violation, void *arg) {
    (void)arg;
    if (violations < 8) {
        kinds[violations] = violation->kind;
        pointers[violations] = violation->pointer;
    }
    violations++;
    return true;
}

static void *free_by_size_wrongly(void *arg) {
    char *block = arg;
    lu_free(lu_malloc(64)); /* a heap, for the fast path */
    lu_free_sized(block + 16, 64);
    lu_free_sized(block, 500); /* goes on, and frees it */
    lu_free_sized(block, 64);
    return NULL;
}

/* What free_sized checks of its own thread's blocks it checks of others'. */
static void frees_by_size_of_others_are_checked(void **state) {
    (void)state;
    pthread_t thread;
    char *block = lu_malloc(64);
    assert_non_null(block);
    lu_set_violation_handler(on_violation, NULL);
    assert_int_equal(pthread_create(&thread, NULL, free_by_size_wrongly, block), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    lu_set_violation_handler(NULL, NULL);
    assert_int_equal(violations, 3);
    assert_int_equal(kinds[0], LU_INTERIOR_POINTER);
    assert_int_equal(kinds[1], LU_SIZE_MISMATCH);
    assert_int_equal(kinds[2], LU_DOUBLE_FREE);
}

/* Of a block whose page was given back nothing is left that looks free: only the mark of the page,
 * and that says it. */
static void free_in_purged_pages(size_t again_count) {
    enum { BLOCKS = 2000, KEPT_EACH = 500, AGAIN_MOST = 600 };
    static char *blocks[BLOCKS], *again[AGAIN_MOST];
    for (size_t i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = lu_malloc(112));
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % KEPT_EACH != 0) lu_free(blocks[i]);
    }
    assert_true(lu_purge() > 0);
    for (size_t k = 0; k < again_count; k++) assert_non_null(again[k] = lu_malloc(112));
    lu_set_violation_handler(on_violation, NULL);
    for (size_t i = 0; i < BLOCKS; i++) {
        bool in_use = i % KEPT_EACH == 0;
        for (size_t k = 0; k < again_count; k++) in_use = in_use || again[k] == blocks[i];
        if (in_use) continue;
        violations = 0;
        lu_free(blocks[i]);
        assert_int_equal(violations, 1);
        assert_int_equal(kinds[0], LU_DOUBLE_FREE);
    }
    lu_set_violation_handler(NULL, NULL);
    for (size_t i = 0; i < BLOCKS; i += KEPT_EACH) lu_free(blocks[i]);
    for (size_t k = 0; k < again_count; k++) lu_free(again[k]);
}

static void a_double_free_in_a_purged_page_is_seen(void **state) {
    (void)state;
    free_in_purged_pages(0);
    free_in_purged_pages(600); /* some pages of some spans are in use again, others are not */
}

/* Links are differences of blocks, so multiples of 8: one bit is enough to give a damage away. */
static void a_link_to_no_block_is_seen(void **state) {
    (void)state;
    char *first = lu_malloc(176), *second = lu_malloc(176);
    assert_true(first != NULL && second != NULL);
    lu_free(first);
    lu_free(second);
    *(volatile char *)second ^= 1;
    violations = 0;
    lu_set_violation_handler(on_violation, NULL);
    for (int i = 0; i < 3; i++) assert_non_null(lu_malloc(176));
    lu_set_violation_handler(NULL, NULL);
    assert_int_equal(violations, 1);
    assert_int_equal(kinds[0], LU_CORRUPT_LINK);
    assert_ptr_equal(pointers[0], second); /* before it is followed */
}

/* stats:1 prints text at exit: lines that all say whose they are, and what is live. */
static void statistics_are_printed_as_text(void **state) {
    (void)state;
    static char text[60000];
    int out[2], kept = dup(STDERR_FILENO);
    void *block = lu_malloc(1000);
    assert_int_equal(pipe(out), 0);
    assert_true(dup2(out[1], STDERR_FILENO) >= 0);
    assert_int_equal(lu_option_set("stats", "1"), 0);
    lu__stats_at_exit();
    assert_int_equal(lu_option_set("stats", "0"), 0);
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(out[1]);
    ssize_t length = read(out[0], text, sizeof text - 1);
    assert_true(length > 200);
    close(out[0]);
    close(kept);
    lu_free(block);
    assert_non_null(strstr(text, "statistics at exit"));
    assert_non_null(strstr(text, "live_bytes"));
    unsigned long held = 0, part, parts = 0;
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        assert_int_equal(strncmp(line, "lucid", 5), 0);
        (void)sscanf(line, "lucid:   held_bytes %lu", &held);
        if (sscanf(line, "lucid:     held: %*[a-z_] %lu", &part) == 1) parts += part;
    }
    assert_true(held != 0);
    assert_int_equal(parts, held);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_heap_refuses_impossible_sizes),
        cmocka_unit_test(a_heap_clears_what_was_used),
        cmocka_unit_test(a_child_goes_on_with_a_heap),
        cmocka_unit_test(slabs_leave_a_cache_in_any_order),
        cmocka_unit_test(frees_by_size_of_others_are_checked),
        cmocka_unit_test(a_double_free_in_a_purged_page_is_seen),
        cmocka_unit_test(a_link_to_no_block_is_seen),
        cmocka_unit_test(statistics_are_printed_as_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
