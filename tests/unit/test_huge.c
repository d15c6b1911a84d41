/* test_huge.c - blocks with mappings of their own: how runs become such, what is counted, how many
 * there may be, and walks over them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/options.h"
#include "os/os.h"
#include "lucid/lucid.h"
#include "span/huge.h"
#include "span/span.h"

#define SIZE ((size_t)10 * LU_SLICE)
#define GROWN (SIZE * 2 + 5000)

static bool moves; /* else pages are copied: see os_kernel.c */

static size_t huge_blocks(void) {
    return lu__span_figures.huge_blocks;
}

/* A block that cannot grow where it is, as there is another behind it. */
static char *between(lu_heap_t *heap, char **behind) {
    char *block = heap != NULL ? lu_heap_malloc(heap, SIZE) : lu_malloc(SIZE);
    do { /* until what is behind it is in use */
        assert_non_null(*behind = lu_malloc(LU_SLICE));
    } while (*behind < block);
    assert_non_null(block);
    for (size_t i = 0; i < SIZE; i += 1000) block[i] = (char)(i / 1000);
    return block;
}

static void check(const char *block, size_t size) {
    for (size_t i = 0; i < size; i += 1000) assert_int_equal(block[i], (char)(i / 1000));
}

/* The pages of the block were moved, not copied: where they were nothing is, or zeros. */
static void check_moved_out(const char *block) {
    unsigned char there;
    for (size_t i = 0; i < SIZE; i += LU_OS_PAGE) {
        const char *page = block + i - (uintptr_t)block % LU_OS_PAGE;
        if (mincore((void *)(uintptr_t)page, 1, &there) == 0) assert_int_equal(block[i], 0);
    }
}

static void a_run_becomes_a_mapping(void **state) {
    (void)state;
    char *behind, *block = between(NULL, &behind);
    struct span *span = lu__span_of(lu__region_of(block), block);
    size_t run = lu__span_bytes(span), used = lu__span_figures.used, dirty = lu__span_figures.dirty;
    size_t huge = lu__span_figures.huge, blocks = huge_blocks();
    char *grown = lu_realloc(block, GROWN);
    assert_non_null(grown);
    check(grown, SIZE);
    assert_int_equal(lu_usable_size(grown), lu__align_up(GROWN, LU_OS_PAGE));
    if (moves) {
        assert_null(lu__region_of(grown));
        assert_int_equal(lu__span_figures.used, used - run);
        assert_int_equal(lu__span_figures.dirty, dirty);
        assert_int_equal(lu__span_figures.huge, huge + lu__align_up(GROWN, LU_OS_PAGE));
        assert_int_equal(huge_blocks(), blocks + 1);
        assert_int_equal(span->kind, LU_KIND_FREE); /* it may be part of a longer one */
        assert_true(span->zero);
        check_moved_out(block);
        assert_true(lu_owns(grown + GROWN - 1));
        assert_false(lu_owns(grown - 1));
    }
    grown = lu_realloc(grown, SIZE * 9);
    check(grown, SIZE);
    grown = lu_realloc(grown, SIZE);
    check(grown, SIZE);
    if (moves) assert_int_equal(lu__span_figures.huge, huge + SIZE); /* still one */
    grown = lu_realloc(grown, LU_HUGE_MOVE_LEAST - 1);
    check(grown, LU_HUGE_MOVE_LEAST - 1);
    assert_int_equal(lu__span_figures.huge, huge); /* no longer */
    assert_int_equal(huge_blocks(), blocks);
    lu_free(grown);
    lu_free(behind);
}

/* A block that grows has its old bytes once only. */
static void a_limit_counts_what_is_more(void **state) {
    (void)state;
    char *behind, *block = between(NULL, &behind);
    (void)lu_purge();
    size_t run = lu__span_bytes(lu__span_of(lu__region_of(block), block));
    size_t more = lu__align_up(GROWN, LU_OS_PAGE) - run, held = lu__span_held();
    assert_int_equal(lu_set_limit(held + more - LU_OS_PAGE, NULL, NULL), 0);
    assert_null(lu_realloc(block, GROWN));
    check(block, SIZE);
    assert_int_equal(lu_set_limit(held + more, NULL, NULL), 0);
    char *grown = lu_realloc(block, GROWN);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    if (moves) {
        assert_non_null(grown);
        assert_int_equal(lu__span_held(), held + more);
    }
    check(grown != NULL ? grown : block, SIZE);
    lu_free(grown != NULL ? grown : block);
    lu_free(behind);
}

static void crossing_the_threshold_moves(void **state) {
    (void)state;
    size_t threshold = (size_t)lu__option(LU_OPT_MMAP_THRESHOLD);
    char *block = lu_malloc(SIZE);
    assert_non_null(block);
    memset(block, 1, SIZE);
    char *grown = lu_realloc(block, threshold);
    assert_non_null(grown);
    assert_null(lu__region_of(grown));
    if (moves) check_moved_out(block);
    for (size_t i = 0; i < SIZE; i++) assert_int_equal(grown[i], 1);
    lu_free(grown);
}

/* As many blocks as are allowed, and 10 more. */
static void there_are_not_too_many(void **state) {
    (void)state;
    enum { MANY = LU_HUGE_BELOW_MOST + 10 };
    static char *grown[MANY], *behind[MANY];
    size_t before = huge_blocks();
    for (size_t i = 0; i < MANY; i++) {
        grown[i] = lu_malloc(SIZE);
        behind[i] = lu_malloc(LU_SLICE);
        assert_non_null(grown[i] = lu_realloc(grown[i], GROWN));
        grown[i][0] = (char)i;
    }
    if (moves) assert_int_equal(huge_blocks() - before, LU_HUGE_BELOW_MOST);
    /* One above the threshold is always allowed; smaller, it is one too many, and is copied. */
    size_t threshold = (size_t)lu__option(LU_OPT_MMAP_THRESHOLD);
    char *large = lu_malloc(threshold);
    assert_non_null(large);
    large[7] = 7;
    assert_non_null(large = lu_realloc(large, threshold / 4));
    assert_int_equal(large[7], 7);
    if (moves) assert_non_null(lu__region_of(large));
    lu_free(large);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(grown[i][0], (char)i);
        lu_free(grown[i]);
        lu_free(behind[i]);
    }
    assert_int_equal(huge_blocks(), before);
    /* And there is room again, for one that cannot grow in the free memory behind it. */
    static char *block[200], *next[200];
    for (size_t i = 0; i < LU_COUNT_OF(block); i++) {
        block[i] = between(NULL, &next[i]);
        assert_non_null(block[i] = lu_realloc(block[i], GROWN));
    }
    if (moves) assert_true(huge_blocks() > before);
    for (size_t i = 0; i < LU_COUNT_OF(block); i++) {
        lu_free(block[i]);
        lu_free(next[i]);
    }
}

struct walk {
    size_t count, bytes;
    void *others[8];
};

static bool visit(void *block, size_t bytes, void *arg) {
    struct walk *walk = arg;
    (void)block;
    walk->bytes += bytes;
    /* Not of the heap that is walked: a mapping of its own, and one given back. */
    assert_non_null(walk->others[walk->count % 8] = lu_malloc((size_t)64 << 20));
    if (walk->count % 2 == 1) {
        lu_free(walk->others[walk->count % 8]);
        walk->others[walk->count % 8] = NULL;
    }
    return ++walk->count < 8;
}

static void a_heap_keeps_what_it_owns(void **state) {
    (void)state;
    const size_t huge = (size_t)33 << 20;
    size_t before = huge_blocks();
    void *others[300];
    for (size_t i = 0; i < LU_COUNT_OF(others); i++) assert_non_null(others[i] = lu_malloc(huge));
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    char *behind, *block = between(heap, &behind);
    block = lu_heap_realloc(heap, block, GROWN);
    check(block, SIZE);
    assert_non_null(lu_heap_malloc(heap, huge));
    assert_non_null(lu_heap_malloc(heap, 100));
    struct walk walk = {0, 0, {NULL}};
    assert_true(lu_heap_walk(heap, visit, &walk));
    assert_int_equal(walk.count, 3);
    size_t small = lu_good_size(100);
    assert_int_equal(walk.bytes, lu__align_up(GROWN, LU_OS_PAGE) + huge + small);
    for (size_t i = 0; i < 8; i++) lu_free(walk.others[i]);
    lu_heap_destroy(heap);
    assert_int_equal(huge_blocks(), before + LU_COUNT_OF(others));
    uintptr_t from = 0;
    struct lu__huge found;
    size_t count = 0;
    for (; lu__huge_next(NULL, &from, &found); count++) assert_true(found.bytes >= SIZE);
    assert_int_equal(count, before + LU_COUNT_OF(others));
    for (size_t i = 0; i < LU_COUNT_OF(others); i++) lu_free(others[i]);
    lu_free(behind);
    from = 0;
    while (lu__huge_next(NULL, &from, &found)) count--;
    assert_int_equal(count, LU_COUNT_OF(others));
}

int main(void) {
    moves = getenv("LUCID_TEST_NO_MOVE") == NULL;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_becomes_a_mapping),
        cmocka_unit_test(a_limit_counts_what_is_more),
        cmocka_unit_test(crossing_the_threshold_moves),
        cmocka_unit_test(there_are_not_too_many),
        cmocka_unit_test(a_heap_keeps_what_it_owns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
