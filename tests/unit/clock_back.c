/*
 * clock_back.c - what is free inside spans, in heaps of ended threads and behind many small runs
 * does go back. The clock is the test's (tests/support/clock.h).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/options.h"
#include "clock.h"
#include "lucid/lucid.h"
#include "os/os.h"
#include "span/run_parts.h"

/* Of the pages that lie wholly in the range. */
static size_t resident_bytes(const void *start, size_t bytes) {
    unsigned char there[LU_SLICE / 4096];
    size_t page = (size_t)sysconf(
        _SC_PAGESIZE); /* the kernel's own, also where LU_OS_PAGE is not */
    uintptr_t at = lu__align_up((uintptr_t)start, LU_OS_PAGE);
    uintptr_t end = lu__align_down((uintptr_t)start + bytes, LU_OS_PAGE);
    if (end <= at) return 0;
    size_t count = 0;
    assert_true((end - at) / page <= sizeof there);
    assert_int_equal(mincore((void *)at, end - at, there), 0);
    for (size_t i = 0; i < (end - at) / page; i++) count += there[i] & 1;
    return count * page;
}

/* ---------------------------------------------------------------- inside spans */

/* Blocks of a span are freed one at a time, so that each time a block more reaches into pages that
 * have gone back already. One stays: so does its page, or its two. */
static void a_span_that_is_nibbled_at(void **state) {
    (void)state;
    static const size_t sizes[] = {640, 1536, 3072, 5120, 6144};
    if (LU_OS_PAGE != 4096) return; /* of larger pages few are free */
    for (size_t k = 0; k < LU_COUNT_OF(sizes); k++) {
        enum { MOST = 110 };
        void *blocks[MOST], *more[MOST];
        size_t in_span = LU_SLICE / sizes[k];
        assert_true(in_span < MOST);
        for (size_t i = 0; i < in_span; i++) {
            assert_non_null(blocks[i] = lu_malloc(sizes[k]));
            memset(blocks[i], 1, sizes[k]);
        }
        for (size_t i = 0; i < in_span; i++) { /* so that the first span is no longer current */
            assert_non_null(more[i] = lu_malloc(sizes[k]));
        }
        char *slice = (char *)lu__align_down((uintptr_t)blocks[0], LU_SLICE);
        for (size_t i = 1; i < in_span; i++) {
            lu_free(blocks[i]);
            (void)lu_purge();
        }
        assert_true(resident_bytes(slice, LU_SLICE) <= 4096 + lu__align_up(sizes[k], 4096));
        lu_free(blocks[0]);
        for (size_t i = 0; i < in_span; i++) lu_free(more[i]);
    }
}

/* Pages inside the free blocks of a span of several slices, that a pass has looked at while it was
 * the current one. */
static void large_classes_that_a_pass_has_seen(void **state) {
    (void)state;
    static const size_t sizes[] = {36000, 45000, 57000};
    void *kept[LU_COUNT_OF(sizes)], *freed[LU_COUNT_OF(sizes)];
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        kept[i] = lu_malloc(sizes[i]);
        freed[i] = lu_malloc(sizes[i]);
        memset(freed[i], 1, sizes[i]);
        lu_free(freed[i]);
    }
    for (int i = 0; i < 20; i++) { /* one pass */
        clock_advance(10);
        void *some[40];
        for (size_t k = 0; k < 40; k++) some[k] = lu_malloc(10);
        for (size_t k = 0; k < 40; k++) lu_free(some[k]);
    }
    (void)lu_purge();
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        assert_true(resident_bytes(freed[i], sizes[i]) <= LU_OS_PAGE); /* that of the link */
        lu_free(kept[i]);
    }
}

/* ---------------------------------------------------------------- of ended threads */

enum { LEFT = 200000, LEFT_SIZE = 200 };
static void *left[LEFT];

static void *leave_blocks(void *arg) {
    for (size_t i = 0; i < LEFT; i++) left[i] = lu_malloc(LEFT_SIZE);
    return arg;
}

/* Who frees them makes no other call, before or after. */
static void blocks_of_a_thread_that_has_ended(void **state) {
    (void)state;
    pthread_t thread;
    (void)lu_purge();
    size_t before = lu__span_held();
    assert_int_equal(pthread_create(&thread, NULL, leave_blocks, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    size_t most = lu__span_held() - before;
    assert_true(most >= (size_t)LEFT * LEFT_SIZE);
    for (size_t i = 0; i < LEFT; i++) lu_free(left[i]);
    /* What the policy keeps, what is collected, and a few spans that wait. */
    assert_true(lu__span_held() - before <= most / 8 + LU_DECAY_KEEP + 4 * LU_MIB);
    (void)lu_purge();
}

/* ---------------------------------------------------------------- floods over small runs */

/* The oldest runs are of one slice, so that each call of the kernel gives little back. */
static void a_flood_whose_oldest_runs_are_small(void **state) {
    (void)state;
    enum { SMALL = 4000, BIG = 25, BIG_SLICES = 400 };
    static struct span *small[SMALL], *big[BIG];
    bool zero;
    assert_true(lu__inside_enter());
    (void)lu__run_purge(SIZE_MAX);
    for (size_t i = 0; i < SMALL; i++) small[i] = lu__run_alloc(1, 1, LU_KIND_LARGE, &zero);
    for (size_t i = 0; i < BIG; i++) big[i] = lu__run_alloc(BIG_SLICES, 1, LU_KIND_LARGE, &zero);
    size_t peak = lu__span_figures.used;
    for (size_t i = 0; i < SMALL; i += 2) lu__run_free(small[i]);
    for (size_t i = 0; i < BIG; i++) lu__run_free(big[i]);
    assert_true(lu__span_figures.dirty <= peak / 8 + LU_DECAY_KEEP + LU_DECAY_STEP);
    for (size_t i = 1; i < SMALL; i += 2) lu__run_free(small[i]);
    (void)lu__run_purge(SIZE_MAX);
    lu__inside_leave();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_span_that_is_nibbled_at),
        cmocka_unit_test(large_classes_that_a_pass_has_seen),
        cmocka_unit_test(blocks_of_a_thread_that_has_ended),
        cmocka_unit_test(a_flood_whose_oldest_runs_are_small),
    };
    clock_set(1000);
    lu__options_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
