/* test_area.c - areas: the break, mappings, their limits, a kernel that refuses, the real break. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "classic/area.h"
#include "os/kernel.h"

#define PAGE LU_OS_PAGE

/* ---------------------------------------------------------------- a kernel that refuses */

static long refused[2]; /* numbers of the calls that fail, or 0 */

long __real_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f);

long __wrap_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f) {
    if (number == refused[0] || number == refused[1]) return -ENOMEM;
    return __real_lu__kernel_memory_call(number, a, b, c, d, e, f);
}

static void refuse(long number, long other) {
    refused[0] = number;
    refused[1] = other;
}

static int accept_all(void **state) {
    (void)state;
    refuse(0, 0);
    return 0;
}

/* ---------------------------------------------------------------- simulated */

static struct lu__area area;

static void init(size_t limit) {
    assert_true(lu__area_init(&area, limit, false));
    assert_int_equal(area.base % LU_AREA_ALIGN, 0);
}

static bool is_filled(const char *at, size_t bytes, char value) {
    for (size_t i = 0; i < bytes; i++) {
        if (at[i] != value) return false;
    }
    return true;
}

static void the_break_moves_by_bytes(void **state) {
    (void)state;
    init(16 * PAGE);
    char *base = (char *)area.base;
    assert_ptr_equal(lu__area_sbrk(&area, 0), base);
    assert_ptr_equal(lu__area_sbrk(&area, 100), base);
    assert_ptr_equal(lu__area_sbrk(&area, 3), base + 100);
    assert_ptr_equal(lu__area_sbrk(&area, 0), base + 103);
    assert_true(is_filled(base, 103, 0));
    memset(base, 1, 103);
    assert_ptr_equal(lu__area_sbrk(&area, (ptrdiff_t)(16 * PAGE - 103)), base + 103);
    memset(base, 1, 16 * PAGE);
    assert_null(lu__area_sbrk(&area, 1));
    assert_null(lu__area_sbrk(&area, PTRDIFF_MAX));
    assert_null(lu__area_sbrk(&area, PTRDIFF_MIN));
    assert_null(lu__area_sbrk(&area, -(ptrdiff_t)(16 * PAGE) - 1));
    assert_int_equal(lu__area_held(&area), 16 * PAGE);
    assert_int_equal(area.break_moves, 3);

    /* It sinks into a page: up to that page's end all is as it was, behind it zero. */
    assert_non_null(lu__area_sbrk(&area, -(ptrdiff_t)(15 * PAGE + PAGE / 2)));
    assert_true(lu__area_contains(&area, base + PAGE / 2 - 1));
    assert_false(lu__area_contains(&area, base + PAGE / 2));
    assert_non_null(lu__area_sbrk(&area, (ptrdiff_t)(3 * PAGE)));
    assert_true(is_filled(base, PAGE, 1));
    assert_true(is_filled(base + PAGE, 2 * PAGE, 0));
    assert_int_equal(area.peak, 16 * PAGE);
    assert_non_null(lu__area_sbrk(&area, -(ptrdiff_t)area.broken));
    assert_int_equal(lu__area_held(&area), 0);
    lu__area_fini(&area);
}

static void mappings_go_down_from_the_top(void **state) {
    (void)state;
    init(64 * PAGE);
    char *top = (char *)area.base + 64 * PAGE;
    char *a = lu__area_map(&area, 2 * PAGE, 1), *b = lu__area_map(&area, 1, 1), *c;
    assert_ptr_equal(a, top - 2 * PAGE);
    assert_ptr_equal(b, top - 3 * PAGE);
    memset(a, 1, 2 * PAGE);
    lu__area_unmap(&area, a, 2 * PAGE);
    assert_false(lu__area_contains(&area, a));
    assert_true(lu__area_contains(&area, b));
    c = lu__area_map(&area, 3 * PAGE, 1); /* below: the hole is too small */
    assert_ptr_equal(c, top - 6 * PAGE);
    a = lu__area_map(&area, 2 * PAGE, 1);
    assert_ptr_equal(a, top - 2 * PAGE);
    assert_true(is_filled(a, 2 * PAGE, 0));
    c = lu__area_map(&area, PAGE, 16 * PAGE);
    assert_int_equal((uintptr_t)c % (16 * PAGE), 0);
    assert_int_equal(area.mapped, 7 * PAGE);
    assert_null(lu__area_map(&area, 0, 1));
    assert_null(lu__area_map(&area, SIZE_MAX, 1));
    assert_null(lu__area_map(&area, 60 * PAGE, 1));
    /* The break and the mappings do not reach each other. */
    assert_null(lu__area_sbrk(&area, 57 * (ptrdiff_t)PAGE));
    assert_non_null(lu__area_sbrk(&area, c - (char *)area.base));
    assert_null(lu__area_sbrk(&area, 1));
    lu__area_fini(&area);
}

static void ends_of_a_mapping_go_back(void **state) {
    (void)state;
    init(64 * PAGE);
    char *a = lu__area_map(&area, 8 * PAGE, 1);
    lu__area_unmap(&area, a, 2 * PAGE);
    lu__area_unmap(&area, a + 6 * PAGE, 2 * PAGE);
    assert_false(lu__area_contains(&area, a + 2 * PAGE - 1));
    assert_true(lu__area_contains(&area, a + 2 * PAGE));
    assert_true(lu__area_contains(&area, a + 6 * PAGE - 1));
    assert_false(lu__area_contains(&area, a + 6 * PAGE));
    assert_int_equal(area.mapped, 4 * PAGE);
    lu__area_unmap(&area, a + 2 * PAGE, 4 * PAGE);
    assert_int_equal(area.mapping_count, 0);
    assert_int_equal(area.unmaps, 3);
    lu__area_fini(&area);
}

static void a_mapping_changes_its_size(void **state) {
    (void)state;
    init(16 * PAGE);
    char *top = (char *)area.base + 16 * PAGE;
    char *a = lu__area_map(&area, 4 * PAGE, 1), *b = lu__area_map(&area, 4 * PAGE, 1);
    memset(a, 1, 4 * PAGE);
    memset(b, 2, 4 * PAGE);
    assert_ptr_equal(lu__area_remap(&area, a, 4 * PAGE, 2 * PAGE, false), a);
    assert_ptr_equal(lu__area_remap(&area, a, 2 * PAGE, 4 * PAGE, false), a);
    assert_true(is_filled(a, 2 * PAGE, 1) && is_filled(a + 2 * PAGE, 2 * PAGE, 0));
    assert_null(lu__area_remap(&area, b, 4 * PAGE, 5 * PAGE, false));
    /* It moves, and the area has room for what it is now, though not for both. */
    char *c = lu__area_remap(&area, b, 4 * PAGE, 8 * PAGE, true);
    assert_ptr_equal(c, top - 16 * PAGE);
    assert_true(is_filled(c, 4 * PAGE, 2) && is_filled(c + 4 * PAGE, 4 * PAGE, 0));
    assert_int_equal(lu__area_held(&area), 12 * PAGE);
    assert_int_equal(area.peak, 12 * PAGE);
    assert_null(lu__area_remap(&area, c, 8 * PAGE, 13 * PAGE, true));
    assert_null(lu__area_remap(&area, c, 8 * PAGE, SIZE_MAX - 5, true));
    assert_true(is_filled(c, 4 * PAGE, 2));
    assert_int_equal(area.maps, 2);
    assert_int_equal(area.unmaps, 0);
    lu__area_fini(&area);
}

static void many_mappings(void **state) {
    (void)state;
    enum { MANY = 2000 };
    static char *at[MANY];
    init((size_t)MANY * PAGE);
    for (size_t i = 0; i < MANY; i++) {
        at[i] = lu__area_map(&area, PAGE, 1);
        *at[i] = 1;
    }
    assert_null(lu__area_map(&area, PAGE, 1));
    for (size_t i = 0; i < MANY; i += 2) lu__area_unmap(&area, at[i], PAGE);
    assert_null(lu__area_map(&area, 2 * PAGE, 1));
    for (size_t i = 0; i < MANY; i += 2) {
        assert_ptr_equal(lu__area_map(&area, PAGE, 1), at[i]); /* the highest gap */
        assert_int_equal(*at[i], 0);
    }
    assert_int_equal(area.mapped, MANY * PAGE);
    lu__area_fini(&area);
}

static void purged_pages_read_as_zero(void **state) {
    (void)state;
    init(16 * PAGE);
    char *base = lu__area_sbrk(&area, (ptrdiff_t)(4 * PAGE));
    memset(base, 1, 4 * PAGE);
    lu__area_purge(&area, base + 1, 3 * PAGE);
    assert_true(is_filled(base, PAGE, 1));
    assert_true(is_filled(base + PAGE, 2 * PAGE, 0));
    assert_true(is_filled(base + 3 * PAGE, PAGE, 1));
    lu__area_fini(&area);
}

static void a_kernel_that_refuses(void **state) {
    (void)state;
    init(64 * PAGE);
    char *base = lu__area_sbrk(&area, (ptrdiff_t)(4 * PAGE)), *a = lu__area_map(&area, PAGE, 1);
    memset(base, 1, 4 * PAGE);
    memset(a, 1, PAGE);
    refuse(SYS_mprotect, 0);
    assert_null(lu__area_sbrk(&area, (ptrdiff_t)PAGE));
    assert_null(lu__area_map(&area, PAGE, 1));
    assert_null(lu__area_remap(&area, a, PAGE, 2 * PAGE, true));
    assert_int_equal(lu__area_held(&area), 5 * PAGE);
    /* What sinks reads as zero; whether a part of it was closed is not known, so it is opened again
     * before it is used. */
    assert_non_null(lu__area_sbrk(&area, -2 * (ptrdiff_t)PAGE));
    assert_int_equal(area.broken, 2 * PAGE);
    assert_null(lu__area_sbrk(&area, (ptrdiff_t)(2 * PAGE)));
    refuse(0, 0);
    assert_int_equal(mprotect(base + 2 * PAGE, PAGE, PROT_NONE), 0); /* as if half done */
    assert_non_null(lu__area_sbrk(&area, (ptrdiff_t)(2 * PAGE)));
    assert_true(is_filled(base, 2 * PAGE, 1) && is_filled(base + 2 * PAGE, 2 * PAGE, 0));
    refuse(SYS_mprotect, 0);
    assert_non_null(lu__area_sbrk(&area, -2 * (ptrdiff_t)PAGE));
    refuse(0, 0);
    char *open = lu__area_map(&area, 61 * PAGE, 1);
    assert_ptr_equal(open, base + 2 * PAGE);
    assert_true(is_filled(open, 2 * PAGE, 0));
    lu__area_unmap(&area, open, 61 * PAGE);
    assert_non_null(lu__area_sbrk(&area, (ptrdiff_t)(2 * PAGE)));
    memset(base, 1, 4 * PAGE);
    refuse(SYS_madvise, 0);
    assert_non_null(lu__area_sbrk(&area, -2 * (ptrdiff_t)PAGE));
    assert_non_null(lu__area_sbrk(&area, (ptrdiff_t)(2 * PAGE)));
    assert_true(is_filled(base, 2 * PAGE, 1) && is_filled(base + 2 * PAGE, 2 * PAGE, 0));
    lu__area_unmap(&area, a, PAGE);
    assert_int_equal(area.mapped, 0);
    refuse(0, 0);
    assert_ptr_equal(lu__area_map(&area, PAGE, 1), a);
    assert_true(is_filled(a, PAGE, 0));
    lu__area_fini(&area);
    refuse(SYS_mmap, 0);
    assert_false(lu__area_init(&area, PAGE, false));
}

/* ---------------------------------------------------------------- the process's own */

#define REQUIRE(x)                           \
    do {                                     \
        if (!(x)) _exit(__LINE__ % 250 + 1); \
    } while (0)

/* In a child that calls nothing that might move the break. */
static void use_the_real_break(void) {
    REQUIRE(lu__area_init(&area, LU_GIB, true));
    REQUIRE(area.base % PAGE == 0);
    char *a = lu__area_sbrk(&area, 100);
    REQUIRE(a == (char *)area.base && sbrk(0) != NULL);
    REQUIRE(lu__area_sbrk(&area, (ptrdiff_t)(3 * PAGE)) == a + 100);
    memset(a, 1, 100 + 3 * PAGE);
    REQUIRE((char *)syscall(SYS_brk, 0) == a + 100 + 3 * PAGE);
    REQUIRE(lu__area_sbrk(&area, -(ptrdiff_t)(3 * PAGE)) == a + 100 + 3 * PAGE);
    REQUIRE((char *)syscall(SYS_brk, 0) == a + 100);
    REQUIRE(a[99] == 1);

    char *m = lu__area_map(&area, 2 * PAGE, 64 * PAGE);
    REQUIRE(m != NULL && (uintptr_t)m % (64 * PAGE) == 0 && lu__area_contains(&area, m));
    memset(m, 2, 2 * PAGE);
    REQUIRE(lu__area_remap(&area, m, 2 * PAGE, 1000 * PAGE, false) == NULL);
    char *n = lu__area_remap(&area, m, 2 * PAGE, 1000 * PAGE, true);
    REQUIRE(n != NULL && is_filled(n, 2 * PAGE, 2) && n[1000 * PAGE - 1] == 0);
    REQUIRE(lu__area_remap(&area, n, 1000 * PAGE, PAGE, false) == n && area.mapped == PAGE);
    REQUIRE(msync(n + PAGE, PAGE, MS_ASYNC) != 0);
    refuse(SYS_munmap, 0);
    lu__area_unmap(&area, n, PAGE); /* its pages go back at least */
    REQUIRE(area.mapped == 0 && n[0] == 0);
    refuse(0, 0);

    /* Somebody else moves the break: from now on the area cannot. */
    REQUIRE(syscall(SYS_brk, a + 5 * PAGE) == (long)(a + 5 * PAGE));
    REQUIRE(lu__area_sbrk(&area, 1) == NULL && lu__area_sbrk(&area, -1) == NULL);
    REQUIRE(lu__area_sbrk(&area, 0) == a + 100);
    lu__area_fini(&area);
    REQUIRE(a[0] == 1);
    _exit(0);
}

static void the_break_of_the_process(void **state) {
    (void)state;
    int status;
    pid_t child = fork();
    if (child == 0) use_the_real_break();
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_break_moves_by_bytes),
        cmocka_unit_test(mappings_go_down_from_the_top),
        cmocka_unit_test(ends_of_a_mapping_go_back),
        cmocka_unit_test(a_mapping_changes_its_size),
        cmocka_unit_test(many_mappings),
        cmocka_unit_test(purged_pages_read_as_zero),
        cmocka_unit_test_teardown(a_kernel_that_refuses, accept_all),
    };
    /* In an emulator the break is that of another process, and it is not always free to rise. */
    const struct CMUnitTest real[] = {cmocka_unit_test(the_break_of_the_process)};
    int failed = getenv("LUCID_TEST_EMULATOR") == NULL ? cmocka_run_group_tests(real, NULL, NULL)
                                                       : 0;
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
