/* test_class.c - the class tables against the rule they were made from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "span/class.h"

/* The rule, written again: 8; every 16 to 256; then eight steps per doubling to 64 KiB. */
static size_t expected_size(unsigned c) {
    if (c == 0) return 8;
    if (c <= 16) return (size_t)c * 16;
    size_t low = (size_t)256 << ((c - 17) / 8);
    return low + low / 8 * ((c - 17) % 8 + 1);
}

static void sizes_follow_the_rule(void **state) {
    (void)state;
    for (unsigned c = 0; c < LU_CLASSES; c++) assert_int_equal(lu__class_size[c], expected_size(c));
    assert_int_equal(lu__class_size[LU_CLASSES - 1], LU_CLASS_BYTES_MAX);
}

static void every_size_gets_the_smallest_class_that_holds_it(void **state) {
    (void)state;
    unsigned c = 0;
    for (size_t size = 0; size <= LU_CLASS_BYTES_MAX; size++) {
        while (expected_size(c) < size) c++;
        assert_int_equal(lu__class_of(size), c);
    }
}

static void aligned_classes_are_multiples(void **state) {
    (void)state;
    for (size_t align = 1; align <= LU_CLASS_BYTES_MAX; align *= 2) {
        for (size_t size = 0; size <= LU_CLASS_BYTES_MAX; size += 37) {
            unsigned c = lu__class_of_aligned(align, size);
            assert_true(c < LU_CLASSES);
            assert_true(lu__class_size[c] >= size);
            assert_int_equal(lu__class_size[c] % align, 0);
        }
    }
    assert_int_equal(lu__class_of_aligned(LU_CLASS_BYTES_MAX * 2, 1), LU_CLASSES);
    assert_int_equal(lu__class_of_aligned(16, LU_CLASS_BYTES_MAX + 1), LU_CLASSES);
}

/* For every class, every number of carved blocks of some, and every offset in a slice: the one
 * comparison of free says exactly "start of a carved block". */
static void one_comparison_tells_carved_starts(void **state) {
    (void)state;
    for (unsigned c = 0; c < LU_CLASSES; c++) {
        uint32_t size = lu__class_size[c], inverse = lu__class_inverse[c];
        uint32_t most = (lu__class_slices(c) << 16) / size;
        const uint32_t tried[] = {1, most / 3 + 1, most};
        for (size_t t = 0; t < LU_COUNT_OF(tried); t++) {
            uint32_t carved = tried[t], error = inverse * size;
            uint32_t bound = LU_MIN(carved * error, inverse);
            for (uint32_t offset = 0; offset < 65536; offset++) {
                int says = offset * inverse < bound;
                int is = offset % size == 0 && offset / size < carved;
                if (says != is) fail_msg("class %u offset %u carved %u", size, offset, carved);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_follow_the_rule),
        cmocka_unit_test(every_size_gets_the_smallest_class_that_holds_it),
        cmocka_unit_test(aligned_classes_are_multiples),
        cmocka_unit_test(one_comparison_tells_carved_starts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
