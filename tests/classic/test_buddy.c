/* test_buddy.c - the binary buddy system: textbook splits and merges, the break, waste, misuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "heap.h"

#define TAG 16u /* bytes before a payload */

static struct misuse misuse;

static struct lu__classic *make(size_t step, size_t limit) {
    struct lu__classic_config config = {.step_bytes = step, .limit_bytes = limit, .tracked = true};
    misuse = (struct misuse){0};
    return heap_create(&lu__policy_buddy, &config, &misuse);
}

static size_t at(const struct lu__classic *heap, const void *payload) {
    return (uintptr_t)payload - TAG - heap->area.base;
}

/* Blocks A (128), B (256), C (128), D (512) in 1 KiB, as in every textbook. */
static void textbook(void **state) {
    (void)state;
    struct lu__classic *heap = make(1024, 1024 * 1024);
    void *a = lu__classic_alloc(heap, 100);
    assert_int_equal(at(heap, a), 0);
    assert_int_equal(heap->counters.splits, 3);
    assert_string_equal(heap_picture(heap, 1), "u128 f128 f256 f512");
    void *b = lu__classic_alloc(heap, 240);
    assert_int_equal(at(heap, b), 256);
    void *c = lu__classic_alloc(heap, 64);
    assert_int_equal(at(heap, c), 128);
    void *d = lu__classic_alloc(heap, 256); /* with its tag above 256 */
    assert_int_equal(at(heap, d), 512);
    assert_int_equal(heap->counters.splits, 3);
    assert_string_equal(heap_picture(heap, 1), "u128 u128 u256 u512");
    assert_int_equal(heap->area.break_moves, 1);
    heap_check(heap);
    lu__classic_free(heap, b);
    assert_int_equal(heap->counters.merges, 0); /* its buddy is A and C */
    lu__classic_free(heap, a);
    assert_int_equal(heap->counters.merges, 0);
    assert_string_equal(heap_picture(heap, 1), "f128 u128 f256 u512");
    lu__classic_free(heap, c); /* with A, then with B; not with D */
    assert_int_equal(heap->counters.merges, 2);
    assert_string_equal(heap_picture(heap, 1), "f512 u512");
    lu__classic_free(heap, d);
    assert_int_equal(heap->counters.merges, 3);
    assert_string_equal(heap_picture(heap, 1), "f1024");
    heap_check(heap);
    lu__classic_destroy(heap);
}

/* Free neighbours that are not buddies stay apart. */
static void neighbours_are_not_buddies(void **state) {
    (void)state;
    struct lu__classic *heap = make(128, 1024 * 1024);
    void *block[4];
    for (size_t i = 0; i < 4; i++) block[i] = lu__classic_alloc(heap, 16);
    lu__classic_free(heap, block[1]);
    lu__classic_free(heap, block[2]);
    assert_int_equal(heap->counters.merges, 0);
    assert_string_equal(heap_picture(heap, 1), "u32 f32 f32 u32");
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void the_break_rises_to_the_next_place(void **state) {
    (void)state;
    struct lu__classic *heap = make(1, 1024 * 1024);
    void *small = lu__classic_alloc(heap, 16);
    assert_int_equal(heap->area.broken, 32);
    void *large = lu__classic_alloc(heap, 1024 - TAG);
    assert_int_equal(at(heap, large), 1024);
    assert_string_equal(heap_picture(heap, 1), "u32 f32 f64 f128 f256 f512 u1024");
    assert_int_equal(heap->area.break_moves, 2);
    assert_int_equal(heap->counters.merges, 0);
    heap_check(heap);
    /* Of the place that the break lies in, all is free below the break: it will do. */
    lu__classic_free(heap, small);
    assert_string_equal(heap_picture(heap, 1), "f1024 u1024");
    lu__classic_free(heap, large);
    void *larger = lu__classic_alloc(heap, 4096 - TAG);
    assert_int_equal(at(heap, larger), 0);
    assert_int_equal(heap->area.broken, 4096);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void trim_lowers_the_break(void **state) {
    (void)state;
    struct lu__classic *heap = make(1, 1024 * 1024);
    void *low = lu__classic_alloc(heap, 16), *high = lu__classic_alloc(heap, 8000);
    lu__classic_free(heap, high);
    assert_int_equal(heap->area.broken, 16384); /* free alone does not */
    lu__classic_trim(heap);
    assert_int_equal(heap->area.broken, 32);
    heap_check(heap);
    high = lu__classic_alloc(heap, 8000); /* what was there is not taken for blocks */
    assert_non_null(high);
    heap_check(heap);
    lu__classic_free(heap, low);
    lu__classic_trim(heap); /* pinned by the block at the top */
    assert_int_equal(heap->area.broken, 16384);
    lu__classic_free(heap, high);
    lu__classic_trim(heap);
    assert_int_equal(heap->area.broken, 0);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void sizes_and_waste(void **state) {
    (void)state;
    struct lu__classic *heap = make(0, 0);
    for (size_t k = 5; k < 20; k++) {
        void *exact = lu__classic_alloc(heap, ((size_t)1 << k) - TAG);
        void *power = lu__classic_alloc(heap, (size_t)1 << k);
        assert_int_equal(lu__classic_usable_size(heap, exact), ((size_t)1 << k) - TAG);
        assert_int_equal(lu__classic_usable_size(heap, power), ((size_t)2 << k) - TAG);
    }
    heap_check(heap);
    lu__classic_destroy(heap);
    /* The worst request: one byte more than fits. Nearly a half is lost. */
    heap = make(0, 0);
    for (size_t i = 0; i < 1000; i++) {
        assert_non_null(lu__classic_alloc(heap, 4096 - TAG + 1));
    }
    struct lu__classic_stats stats;
    lu__classic_stats(heap, &stats);
    assert_true(stats.internal > 0.49 && stats.internal < 0.51);
    lu__classic_destroy(heap);
}

/* One small block in every 4 KiB leaves a heap nearly empty, and nothing above 2 KiB in it. */
static void litter_hurts(void **state) {
    (void)state;
    enum { BLOCKS = 128, EACH = 128 };
    static void *small[BLOCKS * EACH];
    struct lu__classic *heap = make(4096 * BLOCKS, 0);
    for (size_t i = 0; i < LU_COUNT_OF(small); i++) small[i] = lu__classic_alloc(heap, 16);
    assert_int_equal(heap->area.broken, 4096 * BLOCKS);
    for (size_t i = 0; i < LU_COUNT_OF(small); i++) {
        if (i % EACH != 0) lu__classic_free(heap, small[i]);
    }
    struct lu__classic_stats stats;
    lu__classic_stats(heap, &stats);
    assert_int_equal(stats.largest_free, 2048);
    assert_true(stats.external > 0.99);
    assert_true(stats.free_bytes > stats.held - stats.held / 100);
    assert_non_null(lu__classic_alloc(heap, 2048)); /* needs 4 KiB: the break must rise */
    assert_true(heap->area.broken > 4096 * BLOCKS);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void aligned(void **state) {
    (void)state;
    struct lu__classic *heap = make(0, 0);
    void *payload[64];
    size_t n = 0;
    for (size_t align = 32; align <= 1 << 20; align *= 2) {
        for (size_t bytes = 1; bytes <= 3000; bytes += 1499) {
            payload[n] = lu__classic_alloc_aligned(heap, align, bytes);
            assert_int_equal((uintptr_t)payload[n] % align, 0);
            memset(payload[n], 0xa5, lu__classic_usable_size(heap, payload[n]));
            n++;
        }
    }
    heap_check(heap);
    /* An aligned payload grows and shrinks and is freed like any other. */
    payload[0] = lu__classic_resize(heap, payload[0], 100000);
    payload[1] = lu__classic_resize(heap, payload[1], 1);
    heap_check(heap);
    for (size_t i = 0; i < n; i++) lu__classic_free(heap, payload[i]);
    heap_check(heap);
    lu__classic_trim(heap);
    assert_int_equal(heap->area.broken, 0);
    assert_int_equal(misuse.count, 0);
    lu__classic_destroy(heap);
}

static void resize_in_place(void **state) {
    (void)state;
    struct lu__classic *heap = make(1024, 0);
    char *a = lu__classic_alloc(heap, 100);
    memset(a, 0x11, 100);
    assert_ptr_equal(lu__classic_resize(heap, a, 112), a); /* the same block */
    assert_ptr_equal(lu__classic_resize(heap, a, 500), a); /* with two free buddies */
    assert_string_equal(heap_picture(heap, 1), "u1024");
    assert_int_equal(heap->counters.merges, 3);
    heap_check(heap);
    assert_ptr_equal(lu__classic_resize(heap, a, 100), a);
    assert_string_equal(heap_picture(heap, 1), "u128 f128 f256 f512");
    heap_check(heap);
    char *right = lu__classic_alloc(heap, 100);
    char *moved = lu__classic_resize(heap, a, 200); /* its buddy is taken */
    assert_ptr_not_equal(moved, a);
    for (size_t i = 0; i < 100; i++) assert_int_equal(moved[i], 0x11);
    /* A right buddy cannot take the left one in without moving. */
    assert_ptr_not_equal(lu__classic_resize(heap, right, 200), right);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void exhaustion(void **state) {
    (void)state;
    struct lu__classic *heap = make(0, 1024 * 1024);
    assert_null(lu__classic_alloc(heap, 1024 * 1024)); /* its tag does not fit */
    assert_null(lu__classic_alloc(heap, (size_t)1 << 46));
    assert_null(lu__classic_alloc(heap, (size_t)1 << 62));
    assert_null(lu__classic_alloc_aligned(heap, (size_t)1 << 60, 1));
    assert_int_equal(heap->area.broken, 0);
    void *all = lu__classic_alloc(heap, 1024 * 1024 - TAG);
    assert_non_null(all);
    assert_null(lu__classic_alloc(heap, 1));
    lu__classic_free(heap, all);
    size_t count = 0;
    while (lu__classic_alloc(heap, 16) != NULL) count++;
    assert_int_equal(count, 1024 * 1024 / 32);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void misuse_is_told(void **state) {
    (void)state;
    struct lu__classic *heap = make(1024, 0);
    char *a = lu__classic_alloc(heap, 100), *b = lu__classic_alloc(heap, 100);
    struct lu__classic_fault fault;
    lu__classic_free(heap, a);
    lu__classic_free(heap, a);
    assert_int_equal(misuse.count, 1);
    assert_string_equal(misuse.what, "freed a second time");
    lu__classic_free(heap, b + 16);
    lu__classic_free(heap, &fault);
    assert_int_equal(misuse.count, 3);
    heap_check(heap);
    a = lu__classic_alloc(heap, 100);
    memset(a, 0x41, 112 + 8); /* over the tag of b, its buddy */
    assert_false(lu__classic_validate(heap, &fault));
    assert_int_equal(fault.where, (uintptr_t)b - TAG);
    lu__classic_free(heap, a);
    assert_int_equal(misuse.count, 4);
    assert_string_equal(misuse.what, "a header was overwritten");
    lu__classic_free(heap, b);
    assert_int_equal(misuse.count, 5);
    lu__classic_destroy(heap);
}

static void damaged_free_block(void **state) {
    (void)state;
    struct lu__classic *heap = make(1024, 0);
    struct lu__classic_fault fault;
    char *a = lu__classic_alloc(heap, 100);
    memset(a, 0xff, 112 + 32); /* over tag and links of a free block */
    assert_false(lu__classic_validate(heap, &fault));
    assert_non_null(lu__classic_alloc(heap, 100)); /* told, then served from elsewhere */
    assert_int_equal(misuse.count, 1);
    lu__classic_destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(textbook),
        cmocka_unit_test(neighbours_are_not_buddies),
        cmocka_unit_test(the_break_rises_to_the_next_place),
        cmocka_unit_test(trim_lowers_the_break),
        cmocka_unit_test(sizes_and_waste),
        cmocka_unit_test(litter_hurts),
        cmocka_unit_test(aligned),
        cmocka_unit_test(resize_in_place),
        cmocka_unit_test(exhaustion),
        cmocka_unit_test(misuse_is_told),
        cmocka_unit_test(damaged_free_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
