/* test_emergency.c - engine/emergency: memory for signal handlers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/emergency.h"
#include "heap/heap.h"

/* Requests that cannot be met do not count, or two of them would bring the account of what is used
 * round to blocks that are live. */
static void never_comes_round(void **state) {
    (void)state;
    enum { SIZE = 64, ALIGN = 16 };
    char *first = lu__emergency_alloc(ALIGN, SIZE), *second = lu__emergency_alloc(ALIGN, SIZE);
    assert_non_null(first);
    assert_non_null(second);
    memset(second, 's', SIZE);
    size_t need = (size_t)(second - first), header = need - SIZE - ALIGN;
    size_t vast_align = (size_t)1 << 62, vast = ((size_t)1 << 63) - 32;
    size_t rest = 0 - need - (vast + header + vast_align) - header - ALIGN;
    assert_null(lu__emergency_alloc(vast_align, vast));
    assert_null(lu__emergency_alloc(ALIGN, rest));
    for (int i = 0; i < 3; i++) {
        char *next = lu__emergency_alloc(ALIGN, SIZE);
        assert_non_null(next);
        assert_true(next >= second + SIZE || next + SIZE <= first);
        memset(next, 'n', SIZE);
    }
    for (size_t i = 0; i < SIZE; i++) assert_int_equal(second[i], 's');
    assert_int_equal(lu__emergency_usable(second), SIZE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_comes_round),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
