/* test_scope.c - api/scope: blocks that end together with a C scope. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "lucid/lucid.h"

/* Bytes that the program holds; every block of the scopes is among them. */
static size_t live_bytes(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.live_bytes;
}

static size_t live_blocks(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.live_blocks;
}

/* Fill with a value by number, and look at all blocks later: an overlap shows. */
static void fill(void *block, size_t size, size_t number) {
    memset(block, (int)(number % 251 + 1), size);
}
static void assert_filled(const void *block, size_t size, size_t number) {
    const unsigned char *bytes = block;
    for (size_t i = 0; i < size; i++) assert_int_equal(bytes[i], number % 251 + 1);
}

static void nothing_at_first(void **state) {
    (void)state;
    size_t before = live_blocks();
    {
        LU_SCOPE(scope);
        assert_null(scope.chunks);
        assert_int_equal(live_blocks(), before);
    }
    lu_scope_t scope = LU_SCOPE_INIT;
    lu_scope_end(&scope);
    assert_int_equal(live_blocks(), before);
}

static void freed_at_the_end(void **state) {
    (void)state;
    size_t before = live_bytes();
    {
        LU_SCOPE(scope);
        for (size_t i = 0; i < 1000; i++) assert_non_null(lu_scope_alloc(&scope, 500));
        assert_true(live_bytes() >= before + 500000);
        assert_non_null(lu_scope_alloc(&scope, 10000000));
        assert_true(live_bytes() >= before + 10500000);
    }
    assert_int_equal(live_bytes(), before);
}

/* Small sizes, and every hundredth that gets a chunk of its own. */
static size_t mixed_size(size_t number) {
    return number * 7919 % 700 + (number % 100 == 0 ? 40000 : 0);
}

static void blocks_do_not_overlap(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    static void *blocks[COUNT];
    LU_SCOPE(scope);
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = mixed_size(i);
        blocks[i] = lu_scope_alloc(&scope, size);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        fill(blocks[i], size, i);
    }
    for (size_t i = 0; i < COUNT; i++) assert_filled(blocks[i], mixed_size(i), i);
}

static void size_zero(void **state) {
    (void)state;
    LU_SCOPE(scope);
    void *a = lu_scope_alloc(&scope, 0), *b = lu_scope_alloc(&scope, 0);
    assert_non_null(a);
    assert_non_null(b);
    assert_ptr_not_equal(a, b);
}

/* Chunks grow from 4 KiB to 64 KiB, so that many small blocks take few blocks of the engine. */
static void few_chunks(void **state) {
    (void)state;
    size_t before = live_blocks(), bytes = live_bytes();
    LU_SCOPE(scope);
    assert_non_null(lu_scope_alloc(&scope, 10));
    assert_int_equal(live_blocks() - before, 1);
    assert_true(live_bytes() - bytes <= 4096 + 512);
    for (size_t i = 0; i < 65536; i++) assert_non_null(lu_scope_alloc(&scope, 16));
    assert_in_range(live_blocks() - before, 16, 24); /* 1 MiB: 4+8+16+32 KiB, then 64 KiB each */
}

/* A large block does not make the free part of the first chunk useless. */
static void large_blocks_stand_aside(void **state) {
    (void)state;
    LU_SCOPE(scope);
    char *first = lu_scope_alloc(&scope, 16);
    size_t before = live_blocks();
    void *large = lu_scope_alloc(&scope, 100000);
    assert_non_null(large);
    assert_int_equal(live_blocks(), before + 1);
    char *second = lu_scope_alloc(&scope, 16);
    assert_ptr_equal(second, first + 16);
    assert_int_equal(live_blocks(), before + 1);
    fill(large, 100000, 5);
    fill(first, 16, 6);
    fill(second, 16, 7);
    assert_filled(large, 100000, 5);
    assert_filled(first, 16, 6);
}

static void large_block_first(void **state) {
    (void)state;
    size_t before = live_bytes();
    {
        LU_SCOPE(scope);
        char *large = lu_scope_alloc(&scope, 1000000);
        char *small = lu_scope_alloc(&scope, 100);
        assert_non_null(large);
        assert_non_null(small);
        fill(large, 1000000, 1);
        fill(small, 100, 2);
        assert_filled(large, 1000000, 1);
        assert_true(live_bytes() - before < 1000000 + 200000);
    }
    assert_int_equal(live_bytes(), before);
}

static void alignments(void **state) {
    (void)state;
    LU_SCOPE(scope);
    void *blocks[64];
    size_t count = 0;
    for (int round = 0; round < 3; round++) {
        for (size_t alignment = 1; alignment <= 65536; alignment *= 2) {
            void *block = lu_scope_aligned_alloc(&scope, alignment, 24);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block % alignment, 0);
            fill(block, 24, count);
            blocks[count++] = block;
        }
    }
    for (size_t i = 0; i < count; i++) assert_filled(blocks[i], 24, i);
}

static void errors(void **state) {
    (void)state;
    static const size_t bad[] = {0, 3, 24, 100, SIZE_MAX};
    volatile size_t huge[] = {SIZE_MAX, SIZE_MAX - 15, PTRDIFF_MAX, (size_t)1 << 62};
    LU_SCOPE(scope);
    char *before = lu_scope_alloc(&scope, 8);
    for (size_t i = 0; i < LU_COUNT_OF(bad); i++) {
        errno = 0;
        assert_null(lu_scope_aligned_alloc(&scope, bad[i], 8));
        assert_int_equal(errno, EINVAL);
    }
    for (size_t i = 0; i < LU_COUNT_OF(huge); i++) {
        errno = 0;
        assert_null(lu_scope_alloc(&scope, huge[i]));
        assert_int_equal(errno, ENOMEM);
        errno = 0;
        assert_null(lu_scope_aligned_alloc(&scope, (size_t)1 << 62, huge[i]));
        assert_int_equal(errno, ENOMEM);
    }
    assert_non_null(lu_scope_alloc(&scope, 8)); /* the scope is as it was */
    fill(before, 8, 3);
}

static void used_again(void **state) {
    (void)state;
    size_t before = live_bytes();
    lu_scope_t scope = LU_SCOPE_INIT;
    for (int round = 0; round < 10; round++) {
        for (size_t i = 1; i < 300; i++) {
            char *block = lu_scope_alloc(&scope, i * 10);
            assert_non_null(block);
            fill(block, i * 10, i);
        }
        lu_scope_end(&scope);
        assert_int_equal(live_bytes(), before);
    }
}

static size_t nested(unsigned depth) {
    LU_SCOPE(scope);
    char *block = lu_scope_alloc(&scope, 1000);
    fill(block, 1000, depth);
    size_t sum = depth == 0 ? 0 : 1 + nested(depth - 1);
    assert_filled(block, 1000, depth); /* the inner scopes ended without touching ours */
    return sum;
}

static void scopes_nest(void **state) {
    (void)state;
    size_t before = live_bytes();
    assert_int_equal(nested(100), 100);
    assert_int_equal(live_bytes(), before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_at_first),
        cmocka_unit_test(freed_at_the_end),
        cmocka_unit_test(blocks_do_not_overlap),
        cmocka_unit_test(size_zero),
        cmocka_unit_test(few_chunks),
        cmocka_unit_test(large_blocks_stand_aside),
        cmocka_unit_test(large_block_first),
        cmocka_unit_test(alignments),
        cmocka_unit_test(errors),
        cmocka_unit_test(used_again),
        cmocka_unit_test(scopes_nest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
