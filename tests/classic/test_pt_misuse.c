/* test_pt_misuse.c - ptmalloc: double frees, overflows, writes after free: what is noticed. */
#include "test_pt.h"

static void an_overwritten_link_is_noticed(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *first = give(heap, 40), *second = give(heap, 40);
    lu__classic_free(heap, first);
    lu__classic_free(heap, second);
    *(uintptr_t *)second ^= 8;
    struct lu__classic_fault fault;
    assert_false(lu__classic_validate(heap, &fault));
    assert_ptr_equal(lu__classic_alloc(heap, 40), second);
    assert_int_equal(misuse.count, 1);
    assert_string_equal(misuse.what, "unaligned tcache chunk");
    misuse.count = 0;
    lu__classic_destroy(heap);
}

static void double_frees(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *block = give(heap, 40), *large = with_fence(heap, 5000);
    lu__classic_free(heap, block);
    lu__classic_free(heap, block);
    expect_misuse(heap, "double free detected in tcache", block);

    char *fast = with_fence(heap, 100);
    fill_cache(heap, 100);
    lu__classic_free(heap, fast);
    lu__classic_free(heap, fast);
    expect_misuse(heap, "double free or corruption (fasttop)", fast);

    lu__classic_free(heap, large);
    lu__classic_free(heap, large);
    expect_misuse(heap, "double free or corruption (!prev)", large);

    char *last = give(heap, 6000);
    lu__classic_free(heap, last);
    lu__classic_free(heap, last);
    expect_misuse(heap, "double free or corruption (top)", last);

    char *mapped = give(heap, LU_MIB);
    lu__classic_free(heap, mapped);
    lu__classic_free(heap, mapped);
    expect_misuse(heap, "free(): invalid pointer", mapped);
    lu__classic_free(heap, block + 8);
    expect_misuse(heap, "free(): invalid pointer", block + 8);
    destroy(heap);
}

/* Let the block's owner write over the size of the next chunk. */
static void overflows_are_noticed(void **state) {
    (void)state;
    struct lu__classic_fault fault;
    struct lu__classic *heap = create(NULL);
    char *large = give(heap, 2000), *next = with_fence(heap, 3000);
    memset(large + 2000, 'A', 16);
    assert_false(lu__classic_validate(heap, &fault));
    assert_string_equal(fault.what, "a chunk size that cannot be");
    assert_int_equal(fault.where, (uintptr_t)next - 16);
    lu__classic_free(heap, large);
    assert_int_equal(misuse.count, 1);
    assert_string_equal(misuse.what, "free(): invalid next size");
    lu__classic_destroy(heap);

    heap = create(NULL);
    large = give(heap, 2008), next = with_fence(heap, 3000);
    lu__classic_free(heap, next);
    memset(large + 2008, 'A', 8);
    assert_false(lu__classic_validate(heap, &fault));
    assert_null(lu__classic_alloc(heap, 2500));
    assert_int_equal(misuse.count, 1);
    assert_string_equal(misuse.what, "invalid size (unsorted)");
    lu__classic_destroy(heap);

    heap = create(NULL);
    next = with_fence(heap, 3000);
    lu__classic_free(heap, next);
    memset(next, 'A', 8); /* its link, by a use after free */
    assert_false(lu__classic_validate(heap, &fault));
    assert_string_equal(fault.what, "a link of a bin that leads nowhere");
    lu__classic_destroy(heap);
}

/* Whatever is written behind a block: validate tells, or nothing changed that matters; it does not
 * follow a damaged word. */
static void no_overflow_ends_the_check(void **state) {
    (void)state;
    static const size_t sizes[] = {24, 100, 500, 3000, 200000};
    struct random random = {1};
    for (int round = 0; round < 300; round++) {
        struct lu__classic *heap = create(NULL);
        char *blocks[40];
        for (int i = 0; i < 40; i++) {
            lu__classic_set_thread(heap, (unsigned)random_below(&random, 3));
            blocks[i] = give(heap, sizes[random_below(&random, LU_COUNT_OF(sizes))]);
        }
        char *victim = blocks[0];
        for (int i = 1; i < 40; i++) {
            if (random_below(&random, 2) == 0) lu__classic_free(heap, blocks[i]);
        }
        size_t usable = lu__classic_usable_size(heap, victim);
        size_t past = is_mapped(heap, victim) ? 0 : 1 + random_below(&random, 64);
        for (size_t i = 0; i < past; i++) victim[usable + i] = (char)random_below(&random, 256);
        struct lu__classic_fault fault;
        bool sound = lu__classic_validate(heap, &fault);
        if (past == 0) assert_true(sound);
        lu__classic_destroy(heap);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_overwritten_link_is_noticed),
        cmocka_unit_test(double_frees),
        cmocka_unit_test(overflows_are_noticed),
        cmocka_unit_test(no_overflow_ends_the_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
