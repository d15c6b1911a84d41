/* test_fit.c - the sequential fits and the tree: which hole they take, tags, merging, damage. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "heap.h"

static const struct lu__policy *const fits[] = {
    &lu__policy_first, &lu__policy_next, &lu__policy_best, &lu__policy_best_tree, &lu__policy_worst,
};
#define FITS LU_COUNT_OF(fits)

static struct misuse misuse;

static struct lu__classic *make(const struct lu__policy *policy, size_t step) {
    struct lu__classic_config config = {.step_bytes = step, .tracked = true};
    misuse = (struct misuse){0};
    return heap_create(policy, &config, &misuse);
}

/* Holes of these bytes between used blocks of 32; the used ones stay. */
static struct lu__classic *holes(const struct lu__policy *policy, const size_t *bytes, size_t count,
                                 void **payloads) {
    struct lu__classic *heap = make(policy, 16);
    for (size_t i = 0; i < count; i++) {
        payloads[i] = lu__classic_alloc(heap, bytes[i] - 8);
        assert_non_null(lu__classic_alloc(heap, 24));
    }
    for (size_t i = 0; i < count; i++) lu__classic_free(heap, payloads[i]);
    heap_check(heap);
    return heap;
}

static void the_last_bytes_are_used(void **state) {
    (void)state;
    for (size_t i = 0; i < FITS; i++) {
        struct lu__classic_config config = {.limit_bytes = 128 * LU_KIB, .step_bytes = 96 * LU_KIB};
        struct lu__classic *heap = heap_create(fits[i], &config, NULL);
        assert_non_null(lu__classic_alloc(heap, 90 * LU_KIB));
        assert_int_equal(heap->area.broken, 96 * LU_KIB);
        assert_non_null(lu__classic_alloc(heap, 38 * LU_KIB - 40)); /* with what is left below */
        assert_int_equal(heap->area.broken, 128 * LU_KIB);
        assert_null(lu__classic_alloc(heap, 1));
        assert_string_equal(heap_picture(heap, LU_KIB), "m1 u91 u38 m1");
        heap_check(heap);
        lu__classic_destroy(heap);
    }
}

static void each_takes_its_hole(void **state) {
    (void)state;
    static const size_t bytes[] = {64, 512, 128, 1024, 128, 96};
    static const struct {
        const char *policy;
        size_t hole[3]; /* for three calls of 128 bytes */
    } want[] = {{"first", {1, 1, 1}},
                {"next", {1, 1, 1}},
                {"best", {2, 4, 1}},
                {"best_tree", {2, 4, 1}},
                {"worst", {3, 3, 3}}};
    for (size_t i = 0; i < FITS; i++) {
        void *payloads[LU_COUNT_OF(bytes)];
        struct lu__classic *heap = holes(fits[i], bytes, LU_COUNT_OF(bytes), payloads);
        assert_string_equal(want[i].policy, fits[i]->name);
        for (size_t call = 0; call < 3; call++) {
            size_t hole = want[i].hole[call];
            char *start = payloads[hole], *got = lu__classic_alloc(heap, 120);
            assert_true(got >= start && got < start + bytes[hole]);
        }
        heap_check(heap);
        lu__classic_destroy(heap);
    }
}

static void next_fit_goes_on(void **state) {
    (void)state;
    static const size_t bytes[] = {128, 128, 128, 128};
    void *payloads[LU_COUNT_OF(bytes)];
    struct lu__classic *heap = holes(&lu__policy_next, bytes, LU_COUNT_OF(bytes), payloads);
    for (size_t i = 0; i < LU_COUNT_OF(bytes); i++) {
        assert_ptr_equal(lu__classic_alloc(heap, 120), payloads[i]);
        if (i == 0) lu__classic_free(heap, payloads[0]);
    }
    assert_ptr_equal(lu__classic_alloc(heap, 120), payloads[0]); /* round */
    lu__classic_destroy(heap);
}

static void sizes_are_those_of_boundary_tags(void **state) {
    (void)state;
    for (size_t i = 0; i < FITS; i++) {
        struct lu__classic *heap = make(fits[i], 0);
        for (size_t bytes = 1; bytes <= 1000; bytes++) {
            char *block = lu__classic_alloc(heap, bytes);
            size_t want = bytes <= 24 ? 24 : (bytes + 8 + 15) / 16 * 16 - 8;
            size_t usable = lu__classic_usable_size(heap, block);
            /* At the end of a step a rest of 16 bytes stays with the block. */
            if (usable != want) assert_int_equal(usable, want + 16);
            memset(block, 0xff, usable);
        }
        heap_check(heap);
        assert_int_equal(heap->area.broken % (64 * LU_KIB), 0);
        lu__classic_destroy(heap);
    }
}

static void neighbours_merge(void **state) {
    (void)state;
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                    {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (size_t i = 0; i < FITS; i++) {
        for (size_t o = 0; o < LU_COUNT_OF(orders); o++) {
            struct lu__classic *heap = make(fits[i], 16);
            void *blocks[3];
            for (int k = 0; k < 3; k++) blocks[k] = lu__classic_alloc(heap, 24);
            void *last = lu__classic_alloc(heap, 24);
            assert_string_equal(heap_picture(heap, 32), "m1 u1 u1 u1 u1 m1");
            for (int k = 0; k < 3; k++) {
                lu__classic_free(heap, blocks[orders[o][k]]);
                heap_check(heap);
            }
            assert_string_equal(heap_picture(heap, 32), "m1 f3 u1 m1");
            lu__classic_free(heap, last);
            heap_check(heap);
            assert_string_equal(heap_picture(heap, 32), "m1 f4 m1");
            /* The break rises by what is missing. */
            assert_non_null(lu__classic_alloc(heap, 5 * 32 - 8));
            assert_string_equal(heap_picture(heap, 32), "m1 u5 m1");
            assert_int_equal(heap->area.broken, 5 * 32 + 16);
            lu__classic_destroy(heap);
        }
    }
}

static void the_tree_chooses_as_the_list(void **state) {
    (void)state;
    struct lu__classic *list = make(&lu__policy_best, 0), *tree = make(&lu__policy_best_tree, 0);
    struct random random = {5};
    static char *in_list[3000], *in_tree[3000];
    for (int step = 0; step < 60000; step++) {
        size_t i = random_below(&random, LU_COUNT_OF(in_list));
        if (in_list[i] == NULL) {
            size_t bytes = 1 + random_below(&random, (size_t)1 << random_below(&random, 14));
            in_list[i] = lu__classic_alloc(list, bytes);
            in_tree[i] = lu__classic_alloc(tree, bytes);
            assert_int_equal((uintptr_t)in_list[i] - list->area.base,
                             (uintptr_t)in_tree[i] - tree->area.base);
        } else {
            lu__classic_free(list, in_list[i]);
            lu__classic_free(tree, in_tree[i]);
            in_list[i] = in_tree[i] = NULL;
        }
        if (step % 10000 == 0) heap_check(tree);
    }
    struct lu__classic_stats stats;
    lu__classic_stats(tree, &stats);
    assert_true(stats.free_blocks > 150);
    assert_true(stats.free_blocks > 150);
    assert_int_equal(stats.counters.splits, list->counters.splits);
    assert_int_equal(stats.counters.merges, list->counters.merges);
    /* The depth is logarithmic: some ten to the list's hundred. */
    assert_true(tree->counters.searches < 15 * tree->counters.allocs);
    assert_true(list->counters.searches > 5 * tree->counters.searches);
    lu__classic_destroy(list);
    lu__classic_destroy(tree);
}

/* The block between free ones that is freed last: two searches, from the bottom and from itself. */
static void free_walks_to_its_place(void **state) {
    (void)state;
    for (size_t i = 0; i < FITS; i++) {
        struct lu__classic *heap = make(fits[i], 16);
        char *holes[8], *walls[8];
        for (int k = 0; k < 8; k++) {
            holes[k] = lu__classic_alloc(heap, (size_t)(40 + 16 * k));
            walls[k] = lu__classic_alloc(heap, 24);
        }
        for (int k = 0; k < 8; k++)
            if (k != 3) lu__classic_free(heap, holes[k]);
        uint64_t before = heap->counters.free_steps;
        lu__classic_free(heap, holes[3]);
        uint64_t steps = heap->counters.free_steps - before;
        if (fits[i] == &lu__policy_best_tree) {
            assert_in_range(steps, 1, 7);
        } else {
            assert_int_equal(steps, 2); /* past its wall, and one from the bottom */
        }
        before = heap->counters.free_steps;
        lu__classic_free(heap, walls[3]); /* its neighbours say where */
        if (fits[i] != &lu__policy_best_tree) assert_int_equal(heap->counters.free_steps, before);
        lu__classic_destroy(heap);
    }
}

static void resize_uses_its_neighbour(void **state) {
    (void)state;
    for (size_t i = 0; i < FITS; i++) {
        struct lu__classic *heap = make(fits[i], 16);
        char *block = lu__classic_alloc(heap, 24), *next = lu__classic_alloc(heap, 5 * 32 - 8);
        void *last = lu__classic_alloc(heap, 24);
        memset(block, 7, 24);
        lu__classic_free(heap, next);
        assert_string_equal(heap_picture(heap, 32), "m1 u1 f5 u1 m1");
        assert_ptr_equal(lu__classic_resize(heap, block, 3 * 32 - 8), block);
        assert_string_equal(heap_picture(heap, 32), "m1 u3 f3 u1 m1");
        heap_check(heap);
        assert_ptr_equal(lu__classic_resize(heap, block, 6 * 32 - 8), block);
        assert_string_equal(heap_picture(heap, 32), "m1 u6 u1 m1");
        heap_check(heap);
        assert_ptr_equal(lu__classic_resize(heap, block, 2 * 32 - 8), block);
        assert_string_equal(heap_picture(heap, 32), "m1 u2 f4 u1 m1");
        lu__classic_free(heap, last);
        assert_ptr_equal(lu__classic_resize(heap, block, 24), block);
        assert_string_equal(heap_picture(heap, 32), "m1 u1 f6 m1");
        heap_check(heap);
        char *moved = lu__classic_resize(heap, block, 1000);
        assert_ptr_not_equal(moved, block);
        for (int k = 0; k < 24; k++) assert_int_equal(moved[k], 7);
        heap_check(heap);
        lu__classic_destroy(heap);
    }
}

static void aligned_blocks_are_cut_free(void **state) {
    (void)state;
    for (size_t i = 0; i < FITS; i++) {
        struct lu__classic *heap = make(fits[i], 0);
        for (size_t align = 32; align <= LU_MIB; align *= 2) {
            void *shift = lu__classic_alloc(heap, align % 96), *block;
            block = lu__classic_alloc_aligned(heap, align, 40);
            assert_int_equal((uintptr_t)block % align, 0);
            assert_int_equal(lu__classic_usable_size(heap, block), 40);
            heap_check(heap);
            lu__classic_free(heap, block);
            lu__classic_free(heap, shift);
            heap_check(heap);
        }
        struct lu__classic_stats stats;
        lu__classic_stats(heap, &stats);
        assert_int_equal(stats.free_blocks, 1);
        lu__classic_destroy(heap);
    }
}

static void misuse_is_told(void **state) {
    (void)state;
    for (size_t i = 0; i < FITS; i++) {
        struct lu__classic *heap = make(fits[i], 0);
        char *a = lu__classic_alloc(heap, 24), *b = lu__classic_alloc(heap, 24);
        assert_non_null(lu__classic_alloc(heap, 24));
        lu__classic_free(heap, a);
        lu__classic_free(heap, a);
        assert_int_equal(misuse.count, 1);
        assert_ptr_equal(misuse.block, a);
        lu__classic_free(heap, b);
        lu__classic_free(heap, b);
        assert_int_equal(misuse.count, 2);
        lu__classic_free(heap, b + 4);
        lu__classic_free(heap, &heap);
        assert_int_equal(misuse.count, 4);
        assert_null(lu__classic_resize(heap, b, 100));
        assert_int_equal(misuse.count, 5);
        heap_check(heap);
        lu__classic_destroy(heap);
    }
}

static void an_overflow_is_found(void **state) {
    (void)state;
    static const unsigned char values[] = {0x00, 0x41, 0xff};
    for (size_t i = 0; i < FITS * sizeof values * 2; i++) {
        unsigned char value = values[i / FITS % sizeof values];
        bool neighbour_free = i / FITS / sizeof values != 0;
        for (size_t bytes = 1; bytes <= 40; bytes++) {
            struct lu__classic *heap = make(fits[i % FITS], 16);
            struct lu__classic_fault fault = {0};
            char *left = lu__classic_alloc(heap, 24), *right = lu__classic_alloc(heap, 24);
            assert_non_null(lu__classic_alloc(heap, 24));
            if (neighbour_free) lu__classic_free(heap, right);
            size_t tag;
            memcpy(&tag, left + 24, sizeof tag);
            memset(left + 24, value, bytes);
            bool changed = memcmp(&tag, left + 24, sizeof tag) != 0;
            assert_int_equal(lu__classic_validate(heap, &fault), !changed);
            lu__classic_destroy(heap);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_bytes_are_used),
        cmocka_unit_test(each_takes_its_hole),
        cmocka_unit_test(next_fit_goes_on),
        cmocka_unit_test(sizes_are_those_of_boundary_tags),
        cmocka_unit_test(neighbours_merge),
        cmocka_unit_test(the_tree_chooses_as_the_list),
        cmocka_unit_test(free_walks_to_its_place),
        cmocka_unit_test(resize_uses_its_neighbour),
        cmocka_unit_test(aligned_blocks_are_cut_free),
        cmocka_unit_test(misuse_is_told),
        cmocka_unit_test(an_overflow_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
