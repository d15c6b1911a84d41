/* test_slab_set.c - api/slab_set: the slabs of a cache by number, with the work that each step
 * takes. The set never looks into a slab, so any address will do for one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "api/slabs.h"
#include "lucid/lucid.h"

static struct lu__slab *fake(uint64_t number) {
    return (struct lu__slab *)(void *)(uintptr_t)(number * 16 + 16);
}

/* Put it in; how many nodes that took. */
static unsigned insert(struct lu__slab_set *set, uint64_t number) {
    struct lu__slab_node *spare = NULL;
    unsigned nodes = 0;
    while (!lu__slab_set_insert(set, fake(number), number, &spare)) {
        assert_null(spare);
        spare = lu_calloc(1, sizeof *spare);
        nodes++;
    }
    assert_null(spare);
    return nodes;
}

/* Levels that a search goes through. */
static unsigned height(const struct lu__slab_set *set) {
    return set->root == NULL ? 0 : set->root->shift / LU_SLAB_FAN_SHIFT + 1;
}

static void empty(void **state) {
    (void)state;
    struct lu__slab_set set = {NULL};
    uint64_t number = 0;
    assert_null(lu__slab_set_find(&set, 0));
    assert_null(lu__slab_set_find(&set, UINT64_MAX));
    assert_null(lu__slab_set_next(&set, &number, UINT32_MAX));
    assert_int_equal(number, UINT64_MAX);
    lu__slab_set_clear(&set);
}

/* 10^3, 10^5 and 10^6 slabs side by side: what a step takes does not grow with them. */
static void work_is_bounded(void **state) {
    (void)state;
    static const struct {
        size_t slabs;
        unsigned levels;
    } cases[] = {{1, 1}, {1000, 2}, {100000, 3}, {1000000, 4}};
    for (size_t c = 0; c < LU_COUNT_OF(cases); c++) {
        struct lu__slab_set set = {NULL};
        uint64_t base = (uint64_t)0x7f0000000000 >> 14, nodes = 0;
        for (size_t i = 0; i < cases[c].slabs; i++) {
            unsigned added = insert(&set, base + i);
            assert_true(added <= height(&set)); /* at most a path, or one root after the other */
            nodes += added;
        }
        assert_int_equal(height(&set), cases[c].levels);
        assert_true(nodes <= cases[c].slabs / 60 + 2 * cases[c].levels);
        for (size_t i = 0; i < cases[c].slabs; i++)
            assert_ptr_equal(lu__slab_set_find(&set, base + i), fake(base + i));
        assert_null(lu__slab_set_find(&set, base - 1));
        assert_null(lu__slab_set_find(&set, base + cases[c].slabs));
        lu__slab_set_clear(&set);
    }
}

/* Numbers at both ends of what there can be make the highest tree, in any order. */
static void far_apart(void **state) {
    (void)state;
    static const uint64_t numbers[] = {
        0, 1, ((uint64_t)1 << 50) - 1, 63, 64, (uint64_t)1 << 49, (uint64_t)1 << 33};
    enum { COUNT = LU_COUNT_OF(numbers) };
    for (size_t first = 0; first < COUNT; first++) {
        struct lu__slab_set set = {NULL};
        for (size_t i = 0; i < COUNT; i++)
            assert_true(insert(&set, numbers[(first + i) % COUNT]) <= 2 * LU_SLAB_LEVELS);
        assert_int_equal(height(&set), LU_SLAB_LEVELS);
        for (size_t i = 0; i < COUNT; i++)
            assert_ptr_equal(lu__slab_set_find(&set, numbers[i]), fake(numbers[i]));
        assert_null(lu__slab_set_find(&set, 2));
        assert_null(lu__slab_set_find(&set, UINT64_MAX));
        assert_null(lu__slab_set_find(&set, (uint64_t)1 << 63));
        lu__slab_set_clear(&set);
    }
}

/* Against an array, with slabs that come and go; walks find all, in their order and in parts. */
static void as_an_array(void **state) {
    (void)state;
    enum { SPAN = 20000, STEPS = 60000 };
    static bool there[SPAN];
    struct lu__slab_set set = {NULL};
    uint64_t base = 123456789, seed = 1;
    size_t count = 0;
    for (size_t step = 0; step < STEPS; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t i = (size_t)(seed >> 33) % SPAN;
        if (there[i]) {
            lu__slab_set_remove(&set, base + i);
        } else {
            (void)insert(&set, base + i);
        }
        there[i] = !there[i];
        count += there[i] ? 1 : SIZE_MAX;
    }
    for (size_t i = 0; i < SPAN; i++)
        assert_ptr_equal(lu__slab_set_find(&set, base + i), there[i] ? fake(base + i) : NULL);
    for (unsigned steps = 1; steps < 100; steps += 49) {
        uint64_t number = 0, before = 0;
        size_t found = 0, looks = 0;
        while (number != UINT64_MAX) {
            const struct lu__slab *slab = lu__slab_set_next(&set, &number, steps);
            looks++;
            if (slab == NULL) continue;
            assert_true(number > before && there[number - 1 - base]);
            assert_ptr_equal(slab, fake(number - 1));
            before = number;
            found++;
        }
        assert_int_equal(found, count);
        assert_true(looks <= SPAN + 2 * LU_SLAB_LEVELS * LU_SLAB_FAN);
    }
    lu__slab_set_clear(&set);
    assert_null(set.root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(far_apart),
        cmocka_unit_test(as_an_array),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
