/* test_starts.c - where large and huge blocks begin: each at a line of its own, so that the same
 * index of many is not in one cache set; and what must stay right although they do. */
#include "starts.h"

#include <stdio.h>
#include <unistd.h>

static const size_t sizes[] = {65537,  69632,  73728,  100000, 126976, 131072,
                               133120, 196608, 262144, 262148, 1048576};

static void large_blocks_fall_into_all_sets(void **state) {
    (void)state;
    void *blocks[MANY];
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        assert_in_range(crowd(blocks, MANY, 0, sizes[i]), 1, WAYS);
        free_many(blocks, MANY);
        assert_in_range(crowd(blocks, MANY, LINE, sizes[i]), 1, WAYS);
        free_many(blocks, MANY);
    }
}

/* Blocks with room behind them begin in other pages as well, for the larger caches and the TLB. */
static void pages_differ_where_there_is_room(void **state) {
    (void)state;
    void *blocks[MANY];
    unsigned seen = 0;
    (void)crowd(blocks, MANY, 0, 4 * LU_SLICE + 4);
    for (size_t i = 0; i < MANY; i++) seen |= 1u << (offset_of(blocks[i], LU_SLICE) / LU_UNIT);
    free_many(blocks, MANY);
    assert_in_range(__builtin_popcount(seen), LU_OS_PAGE == LU_OS_PAGE_LEAST ? 8 : 4, 16);
}

static void huge_blocks_fall_into_all_sets(void **state) {
    (void)state;
    void *blocks[MANY];
    size_t size = (size_t)lu__option(LU_OPT_MMAP_THRESHOLD);
    assert_int_equal(crowd(blocks, MANY, 0, size), 1);
    free_many(blocks, MANY);
}

static void alignment_is_kept(void **state) {
    (void)state;
    void *blocks[4];
    for (size_t align = 16; align <= ALIGN_MOST; align *= 2) {
        for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
            (void)crowd(blocks, 4, align, sizes[i]);
            for (size_t k = 0; k < 4; k++) {
                assert_int_equal(lu_usable_size(blocks[k]), lu_good_size(sizes[i]));
                memset(blocks[k], 1, lu_usable_size(blocks[k]));
            }
            free_many(blocks, 4);
        }
        (void)crowd(blocks, 2, align, (size_t)40 << 20);
        free_many(blocks, 2);
    }
}

/* A run that is used again touches the pages that it touched before: blocks of one size begin where
 * one did, and smaller ones lie inside. */
static void a_place_has_one_start(void **state) {
    (void)state;
    unsigned seen = 0;
    for (size_t i = 1; i < LU_COUNT_OF(sizes); i++) {
        void *blocks[3];
        (void)crowd(blocks, 3, 0, sizes[i]);
        char *first = blocks[1], *run = first - offset_of(first, LU_SLICE);
        for (size_t less = 0; less < 4000; less += 1000) {
            lu_free(blocks[1]);
            char *again = blocks[1] = lu_malloc(sizes[i] - less);
            if (again - offset_of(again, LU_SLICE) != run) continue; /* there was another gap */
            seen++;
            if (less == 0) assert_ptr_equal(again, first);
            assert_true(again >= first);
            assert_true(again + sizes[i] - less <= first + lu_good_size(sizes[i]) + LU_OS_PAGE);
        }
        free_many(blocks, 3);
    }
    assert_in_range(seen, LU_COUNT_OF(sizes), 4 * LU_COUNT_OF(sizes));
}

static void fill(unsigned char *block, size_t size) {
    for (size_t at = 0; at < size; at += 509) block[at] = (unsigned char)(at / 509);
}
static void check(const unsigned char *block, size_t size) {
    for (size_t at = 0; at < size; at += 509) assert_int_equal(block[at], (at / 509) % 256);
}

/* Within its run it stays; pages that are moved keep the place in them; from a run to a mapping, in
 * it, and back. */
static void resizing_keeps_the_contents(void **state) {
    (void)state;
    static const size_t steps[] = {70000,   100000,   131072,   90000,    65537,   600000, 1500000,
                                   4000000, 50000000, 80000000, 33000000, 2000000, 300000, 66000};
    void *between[LU_COUNT_OF(steps)];
    for (int round = 0; round < 40; round++) {
        size_t had = steps[0];
        unsigned char *block = lu_malloc(had);
        fill(block, had);
        for (size_t i = 1; i < LU_COUNT_OF(steps); i++) {
            between[i] = lu_malloc(70000);
            size_t place = offset_of(block, LU_OS_PAGE);
            bool mapped = lu__region_of(block) == NULL;
            assert_non_null(block = lu_realloc(block, steps[i]));
            assert_int_equal(lu_usable_size(block), lu_good_size(steps[i]));
            if (mapped && lu__region_of(block) == NULL) {
                assert_int_equal(offset_of(block, LU_OS_PAGE), place);
            }
            check(block, LU_MIN(had, steps[i]));
            had = steps[i];
            fill(block, had);
        }
        lu_free(block);
        for (size_t i = 1; i < LU_COUNT_OF(steps); i++) lu_free(between[i]);
    }
}

static void a_shorter_block_stays(void **state) {
    (void)state;
    for (size_t i = 1; i < LU_COUNT_OF(sizes); i++) {
        char *block = lu_malloc(10 * sizes[i]);
        assert_ptr_equal(lu_realloc(block, sizes[i]), block);
        assert_ptr_equal(lu_realloc(block, sizes[i] - 1), block);
        assert_ptr_equal(lu_realloc(block, sizes[i]), block);
        lu_free(block);
    }
}

static void zeroed_memory_is_zero(void **state) {
    (void)state;
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
            unsigned char *blocks[8];
            for (size_t k = 0; k < 8; k++) {
                blocks[k] = lu_calloc(1, sizes[i]);
                size_t sum = 0;
                for (size_t at = 0; at < sizes[i]; at++) sum += blocks[k][at];
                assert_int_equal(sum, 0);
                memset(blocks[k], 0xff, lu_usable_size(blocks[k]));
            }
            for (size_t k = 0; k < 8; k++) lu_free(blocks[k]);
        }
    }
}

/* What is not the block's first byte is not taken for it: not the run's, the page's, or the line's,
 * before it or behind. */
static void other_pointers_are_reported(void **state) {
    (void)state;
    lu_set_violation_handler(note, NULL);
    for (size_t i = 0; i < MANY; i++) {
        char *block = lu_malloc(73728), *start = block - offset_of(block, LU_SLICE);
        if (start != block) expect(LU_INTERIOR_POINTER, start, block);
        if (block - LINE >= start) expect(LU_INTERIOR_POINTER, block - LINE, block);
        expect(LU_INTERIOR_POINTER, block + 1, block);
        expect(LU_INTERIOR_POINTER, block + LINE, block);
        expect(LU_INTERIOR_POINTER, block + 73727, block);
        assert_true(lu_owns(block));
        lu_free(block);
        expect(LU_DOUBLE_FREE, block, NULL);
    }
    char *huge[2];
    for (size_t i = 0; i < 2; i++) assert_non_null(huge[i] = lu_malloc((size_t)40 << 20));
    for (size_t i = 0; i < 2; i++) {
        size_t before = offset_of(huge[i], LU_OS_PAGE);
        expect(LU_INTERIOR_POINTER, huge[i] + LINE, huge[i]);
        expect(LU_INTERIOR_POINTER, huge[i] + ((size_t)40 << 20) - 1, huge[i]);
        if (before != 0) expect(LU_FOREIGN_POINTER, huge[i] - before, NULL);
        lu_free(huge[i]);
    }
    lu_set_violation_handler(NULL, NULL);
}

struct walk {
    void *const *blocks;
    size_t found;
};

static bool visit(void *block, size_t bytes, void *arg) {
    struct walk *walk = arg;
    for (size_t i = 0; i < MANY; i++) {
        if (walk->blocks[i] == block) walk->found++;
    }
    assert_int_equal(bytes, lu_usable_size(block));
    return true;
}

static void walks_tell_the_start(void **state) {
    (void)state;
    void *blocks[MANY];
    lu_heap_t *heap = lu_heap_create(0);
    for (size_t i = 0; i < MANY; i++) {
        size_t size = i == 7 || i == 11 ? (size_t)40 << 20 : sizes[i % LU_COUNT_OF(sizes)];
        if (i % 3 != 0) size = upper[i / 16];
        assert_non_null(blocks[i] = lu_heap_malloc(heap, size));
    }
    blocks[3] = lu_heap_realloc(heap, blocks[3], 3000000);
    struct walk walk = {blocks, 0};
    assert_true(lu_heap_walk(heap, visit, &walk));
    assert_int_equal(walk.found, MANY);
    lu_heap_destroy(heap);
}

/* The lines take nothing of what a limit allows, and are no reason to fail. */
static void a_limit_pays_for_no_lines(void **state) {
    (void)state;
    void *blocks[MANY + 1];
    size_t count = 0;
    (void)lu_purge();
    assert_int_equal(lu_set_limit(lu__span_held() + MANY * 2 * LU_SLICE, NULL, NULL), 0);
    while (count < MANY + 1 && (blocks[count] = lu_malloc(2 * LU_SLICE)) != NULL) count++;
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    free_many(blocks, count);
    assert_int_equal(count, MANY);
}

/* Print where blocks of all kinds begin in their slices, and huge ones in their pages. */
static int print_starts(void) {
    static const size_t huge = (size_t)40 << 20;
    for (size_t i = 0; i < MANY; i++) {
        void *large = lu_malloc(sizes[i % LU_COUNT_OF(sizes)]);
        void *small = lu_malloc(upper[i % 4 * 4 + 1]);
        printf("%zx %zx ", offset_of(large, LU_SLICE), offset_of(small, LU_SLICE));
    }
    for (size_t i = 0; i < 4; i++) printf("%zx ", offset_of(lu_malloc(huge), LU_OS_PAGE));
    return 0;
}

#ifndef RUNS_ONCE
/* Whatever the addresses are, which differ from run to run. */
static void a_program_that_runs_again_has_the_same_starts(void **state) {
    (void)state;
    static char seen_starts[3][4096];
    char path[1024], command[1100];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    assert_in_range(length, 1, sizeof path - 1);
    path[length] = 0;
    snprintf(command, sizeof command, "'%s' print", path);
    for (size_t i = 0; i < 3; i++) {
        FILE *output = popen(command, "r"); /* NOLINT: our own name */
        assert_non_null(output);
        size_t got = fread(seen_starts[i], 1, sizeof seen_starts[i] - 1, output);
        assert_int_equal(pclose(output), 0);
        assert_in_range(got, MANY * 4, sizeof seen_starts[i] - 2);
        assert_string_equal(seen_starts[i], seen_starts[0]);
    }
}
#endif

int main(int argc, char **argv) {
    (void)argv;
    if (argc > 1) return print_starts();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_blocks_fall_into_all_sets),
        cmocka_unit_test(pages_differ_where_there_is_room),
        cmocka_unit_test(huge_blocks_fall_into_all_sets),
        cmocka_unit_test(alignment_is_kept),
        cmocka_unit_test(a_place_has_one_start),
#ifndef RUNS_ONCE
        cmocka_unit_test(a_program_that_runs_again_has_the_same_starts),
#endif
        cmocka_unit_test(resizing_keeps_the_contents),
        cmocka_unit_test(a_shorter_block_stays),
        cmocka_unit_test(zeroed_memory_is_zero),
        cmocka_unit_test(other_pointers_are_reported),
        cmocka_unit_test(walks_tell_the_start),
        cmocka_unit_test(a_limit_pays_for_no_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
