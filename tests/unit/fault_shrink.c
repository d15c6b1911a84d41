/*
 * fault_shrink.c - a block that becomes smaller needs no memory: realloc keeps it where it is when
 * there is none to move to. It then has a size class that its size would not give, and freeing it
 * by size must be no violation.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "lucid/lucid.h"
#include "os_fault.h"

enum { SIZES = 3, BLOCKS = 3000 };

static size_t violations;

static bool on_violation(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    violations++;
    return true;
}

/* Take all blocks of `size` bytes that there are without new memory. */
static size_t exhaust(void **taken, size_t size) {
    size_t count = 0;
    while (count < BLOCKS && (taken[count] = lu_malloc(size)) != NULL) count++;
    return count;
}

static void shrunk_in_place_and_freed_by_size(void **state) {
    (void)state;
    static void *taken[BLOCKS];
    const size_t sizes[SIZES] = {5000, 200000, (size_t)40 << 20};
    for (size_t i = 0; i < SIZES; i++) {
        unsigned char *block = lu_malloc(sizes[i]);
        assert_non_null(block);
        memset(block, 7, 3000);
        os_fault_from(1);
        size_t count = exhaust(taken, 3000);
        assert_true(count < BLOCKS);
        errno = 5;
        unsigned char *same = lu_realloc(block, 3000);
        os_fault_none();
        assert_ptr_equal(same, block);
        assert_int_equal(errno, 5);
        for (size_t k = 0; k < 3000; k++) assert_int_equal(block[k], 7);
        lu_set_violation_handler(on_violation, NULL);
        lu_free_sized(block, 3000);
        assert_int_equal(violations, 0);
        lu_free_sized(taken[0], 500000); /* still one; and it is freed */
        assert_int_equal(violations, 1);
        violations = 0;
        lu_set_violation_handler(NULL, NULL);
        for (size_t k = 1; k < count; k++) lu_free(taken[k]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shrunk_in_place_and_freed_by_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
