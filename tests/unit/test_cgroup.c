/*
 * test_cgroup.c - base/cgroup: the limit that follows from a control group.
 *
 * The texts are what kernels give; the files stand in a directory of the test's own, below which
 * the same paths are looked for as below the root of a system.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cgroup.h"

/* ------------------------------------------------------------------ /proc/self/cgroup -------- */

static void assert_group(const char *text, const char *expected, bool expected_v1) {
    const char *path = NULL;
    size_t path_bytes = 0;
    bool v1 = !expected_v1;
    assert_true(lu__cgroup_find(text, strlen(text), &path, &path_bytes, &v1));
    assert_int_equal(path_bytes, strlen(expected));
    assert_memory_equal(path, expected, path_bytes);
    assert_int_equal(v1, expected_v1);
}

static void assert_no_group(const char *text) {
    const char *path;
    size_t path_bytes;
    bool v1;
    assert_false(lu__cgroup_find(text, strlen(text), &path, &path_bytes, &v1));
}

static void groups(void **state) {
    (void)state;
    assert_group("0::/\n", "/", false);
    assert_group("0::/user.slice/a b:c.service\n", "/user.slice/a b:c.service", false);
    assert_group("0::/no/newline", "/no/newline", false);
    assert_group("9:name=systemd:/x\n4:memory:/jobs/1\n0::/unified\n", "/jobs/1", true);
    assert_group("0::/unified\n4:cpu,memory,hugetlb:/jobs/1\n", "/jobs/1", true);
    assert_group("3:memory_recursiveprot:/no\n2:name=memory:/no\n0::/yes\n", "/yes", false);
    assert_group("10::/not/version/2\n0::/yes\n", "/yes", false);
    assert_group("garbage\n\n:\n::\n4:memory\n5:memory:relative\n0::/yes\n", "/yes", false);
    assert_no_group("");
    assert_no_group("\n");
    assert_no_group("0:");
    assert_no_group("0::");
    assert_no_group("3:cpu:/a\n2:pids:/b\n");
}

static size_t number(const char *text) {
    return lu__cgroup_number(text, strlen(text));
}

static void numbers(void **state) {
    (void)state;
    assert_int_equal(number("536870912\n"), 536870912);
    assert_int_equal(number("0\n"), 0);
    assert_int_equal(number("17"), 17);
    assert_true(number("max\n") == LU_CGROUP_NONE);
    assert_true(number("9223372036854771712\n") == LU_CGROUP_NONE); /* none, in version 1 */
    assert_true(number("99999999999999999999999\n") == LU_CGROUP_NONE);
    assert_true(number("") == LU_CGROUP_NONE);
    assert_true(number("\n") == LU_CGROUP_NONE);
    assert_true(number("12x\n") == LU_CGROUP_NONE);
    assert_true(number("-1\n") == LU_CGROUP_NONE);
}

/* ------------------------------------------------------------------ the rule ----------------- */

static size_t limit_of(size_t max, size_t high) {
    return lu__cgroup_limit(&(struct lu__cgroup_memory){max, high});
}

static void rule(void **state) {
    (void)state;
    assert_int_equal(limit_of(LU_CGROUP_NONE, LU_CGROUP_NONE), 0);
    assert_int_equal(limit_of(LU_GIB, LU_CGROUP_NONE), LU_GIB / 16 * 15);
    assert_int_equal(limit_of(64 * LU_MIB, LU_CGROUP_NONE), 56 * LU_MIB);
    assert_int_equal(limit_of(64 * LU_GIB, LU_CGROUP_NONE), 64 * LU_GIB - 256 * LU_MIB);
    assert_int_equal(limit_of(10 * LU_MIB, LU_CGROUP_NONE), 5 * LU_MIB);
    assert_int_equal(limit_of(LU_CGROUP_NONE, 300 * LU_MIB), 300 * LU_MIB);
    assert_int_equal(limit_of(LU_GIB, 300 * LU_MIB), 300 * LU_MIB);
    assert_int_equal(limit_of(LU_GIB, LU_GIB), LU_GIB / 16 * 15); /* the lower of the two */
    assert_int_equal(limit_of(0, LU_CGROUP_NONE), LU_MIB);        /* 0 would be no limit */
    assert_int_equal(limit_of(LU_CGROUP_NONE, 0), LU_MIB);
}

/* ------------------------------------------------------------------ files -------------------- */

static char root[] = "/tmp/lucid-cgroup-XXXXXX";

/* Write a file below the root, with the directories above it. */
static void put(const char *name, const char *text) {
    char path[512];
    int length = snprintf(path, sizeof path, "%s%s", root, name);
    assert_true(length > 0 && (size_t)length < sizeof path);
    for (char *slash = path + sizeof root; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        assert_true(mkdir(path, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void begin_tree(void) {
    memcpy(root + sizeof root - 7, "XXXXXX", 6);
    assert_non_null(mkdtemp(root));
}

static void end_tree(void) {
    char command[64];
    snprintf(command, sizeof command, "rm -r '%s'", root);
    assert_int_equal(system(command), 0);
}

static struct lu__cgroup_memory read_tree(void) {
    struct lu__cgroup_memory memory;
    errno = 77;
    assert_true(lu__cgroup_read(root, &memory));
    assert_int_equal(errno, 77);
    return memory;
}

/* Each limit is the lowest on the way up, wherever it is set; a group beside does not count. */
static void version_2(void **state) {
    (void)state;
    begin_tree();
    put("/proc/self/cgroup", "0::/a/b/c\n");
    put("/sys/fs/cgroup/a/b/c/memory.max", "max\n");
    put("/sys/fs/cgroup/a/b/c/memory.high", "max\n");
    struct lu__cgroup_memory memory = read_tree();
    assert_true(memory.max == LU_CGROUP_NONE && memory.high == LU_CGROUP_NONE);
    put("/sys/fs/cgroup/a/b/memory.max", "700000000\n");
    put("/sys/fs/cgroup/a/memory.max", "800000000\n");
    put("/sys/fs/cgroup/a/memory.high", "500000000\n");
    put("/sys/fs/cgroup/a/x/memory.max", "1000\n");
    put("/sys/fs/cgroup/a/b/c/d/memory.max", "1000\n");
    memory = read_tree();
    assert_int_equal(memory.max, 700000000);
    assert_int_equal(memory.high, 500000000);
    put("/sys/fs/cgroup/a/b/c/memory.max", "600000000\n");
    put("/sys/fs/cgroup/memory.high", "400000000\n"); /* a root that is another's group */
    memory = read_tree();
    assert_int_equal(memory.max, 600000000);
    assert_int_equal(memory.high, 400000000);
    end_tree();
}

static void version_1(void **state) {
    (void)state;
    begin_tree();
    put("/proc/self/cgroup", "7:pids:/\n4:memory:/jobs/1\n0::/other\n");
    put("/sys/fs/cgroup/memory/jobs/1/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "268435456\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/other/memory.max", "1000\n");
    put("/sys/fs/cgroup/memory/jobs/1/memory.high", "1000\n");
    struct lu__cgroup_memory memory = read_tree();
    assert_int_equal(memory.max, 268435456);
    assert_true(memory.high == LU_CGROUP_NONE);
    end_tree();
}

/* A container's mount begins at its own group, whose path on the host is not there. */
static void container(void **state) {
    (void)state;
    begin_tree();
    put("/proc/self/cgroup", "0::/docker/0123456789abcdef\n");
    put("/sys/fs/cgroup/memory.max", "100000000\n");
    assert_int_equal(read_tree().max, 100000000);
    put("/proc/self/cgroup", "0::/../../elsewhere\n"); /* must not lead out of the mount */
    put("/sys/fs/elsewhere/memory.max", "1000\n");
    put("/sys/elsewhere/memory.max", "1000\n");
    assert_int_equal(read_tree().max, 100000000);
    put("/proc/self/cgroup", "0::/gone (deleted)\n");
    assert_int_equal(read_tree().max, 100000000);
    end_tree();
}

static void refused(void **state) {
    (void)state;
    struct lu__cgroup_memory memory;
    char text[4300] = "0::/";
    begin_tree();
    assert_false(lu__cgroup_read(root, &memory)); /* no such file */
    put("/proc/self/cgroup", "");
    assert_false(lu__cgroup_read(root, &memory));
    memset(text + 4, 'x', 700);
    put("/proc/self/cgroup", text); /* a path too long to be walked: better none than a wrong one */
    assert_false(lu__cgroup_read(root, &memory));
    text[400] = '\0';
    put("/proc/self/cgroup", text);
    assert_true(lu__cgroup_read(root, &memory));
    memset(text + 400, 'x', sizeof text - 401);
    put("/proc/self/cgroup", text); /* more than is read */
    assert_false(lu__cgroup_read(root, &memory));
    end_tree();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(groups),    cmocka_unit_test(numbers),   cmocka_unit_test(rule),
        cmocka_unit_test(version_2), cmocka_unit_test(version_1), cmocka_unit_test(container),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
