/* test_kr.c - Kernighan & Ritchie's allocator: where it cuts, merges, looks, and what it tells. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "heap.h"

#define UNIT 16

static struct misuse misuse;

static struct lu__classic *small_steps(void) {
    struct lu__classic_config config = {.step_bytes = 4 * UNIT, .tracked = true};
    misuse = (struct misuse){0};
    return heap_create(&lu__policy_kr, &config, &misuse);
}

static void expect(struct lu__classic *heap, const char *blocks) {
    heap_check(heap);
    assert_string_equal(heap_picture(heap, UNIT), blocks);
    assert_int_equal(misuse.count, 0);
}

/* A heap of one free block of seven units. */
static struct lu__classic *seven_units(void) {
    struct lu__classic *heap = small_steps();
    lu__classic_free(heap, lu__classic_alloc(heap, 6 * UNIT));
    expect(heap, "f7");
    return heap;
}

static void the_walk_through(void **state) {
    (void)state;
    struct lu__classic *heap = seven_units();
    char *p1 = lu__classic_alloc(heap, UNIT);
    expect(heap, "f5 u2");
    assert_ptr_equal(p1, (char *)heap->area.base + 6 * UNIT);
    char *p2 = lu__classic_alloc(heap, 2 * UNIT);
    expect(heap, "f2 u3 u2");
    lu__classic_free(heap, p1);
    expect(heap, "f2 u3 f2");
    /* Enough is free, but not in one piece: the break rises, and what is new merges. */
    char *p3 = lu__classic_alloc(heap, 2 * UNIT);
    expect(heap, "f2 u3 f3 u3");
    assert_int_equal(heap->area.broken, 11 * UNIT);
    assert_int_equal(heap->area.break_moves, 2);
    lu__classic_free(heap, p3);
    expect(heap, "f2 u3 f6");
    lu__classic_free(heap, p2);
    expect(heap, "f11");
    assert_int_equal(heap->area.broken, 11 * UNIT); /* it never sinks */
    lu__classic_destroy(heap);
}

static void an_overflow_is_found(void **state) {
    (void)state;
    static const unsigned char values[] = {0x00, 0x41, 0xff};
    for (size_t i = 0; i < sizeof values; i++) {
        for (size_t bytes = 1; bytes <= 4 * UNIT; bytes++) {
            for (int neighbour_free = 0; neighbour_free < 2; neighbour_free++) {
                struct lu__classic *heap = seven_units();
                struct lu__classic_fault fault = {0};
                char *right = lu__classic_alloc(heap, UNIT);
                char *left = lu__classic_alloc(heap, 2 * UNIT);
                if (neighbour_free) lu__classic_free(heap, right);
                unsigned char was[4 * UNIT];
                memcpy(was, left + 2 * UNIT, UNIT);
                memset(left + 2 * UNIT, values[i], LU_MIN(bytes, (size_t)2 * UNIT));
                bool changed = memcmp(was, left + 2 * UNIT, UNIT) != 0;
                assert_int_equal(lu__classic_validate(heap, &fault), !changed);
                lu__classic_destroy(heap);
            }
        }
    }
}

static void a_destroyed_link_is_told(void **state) {
    (void)state;
    struct lu__classic *heap = seven_units();
    char *right = lu__classic_alloc(heap, UNIT), *left = lu__classic_alloc(heap, UNIT);
    lu__classic_free(heap, right);
    memset(left + UNIT, 0x41, UNIT);
    assert_null(lu__classic_alloc(heap, 4 * UNIT));
    assert_int_equal(misuse.count, 1);
    lu__classic_free(heap, left);
    assert_int_equal(misuse.count, 2);
    lu__classic_destroy(heap);
}

static void a_second_free_is_told(void **state) {
    (void)state;
    struct lu__classic *heap = seven_units();
    char *a = lu__classic_alloc(heap, UNIT), *b = lu__classic_alloc(heap, UNIT);
    lu__classic_free(heap, a);
    lu__classic_free(heap, a);
    assert_int_equal(misuse.count, 1);
    assert_ptr_equal(misuse.block, a);
    lu__classic_free(heap, b); /* merges with both neighbours */
    lu__classic_free(heap, b);
    lu__classic_free(heap, a);
    lu__classic_free(heap, a + 8);
    lu__classic_free(heap, &heap);
    assert_int_equal(misuse.count, 5);
    assert_null(lu__classic_resize(heap, a, 100));
    assert_int_equal(misuse.count, 6);
    assert_int_equal(lu__classic_usable_size(heap, a), 0);
    misuse.count = 0;
    expect(heap, "f7");
    lu__classic_destroy(heap);
}

static void the_search_goes_round(void **state) {
    (void)state;
    struct lu__classic *heap = seven_units();
    char *blocks[3];
    for (int i = 0; i < 3; i++) blocks[i] = lu__classic_alloc(heap, UNIT);
    expect(heap, "f1 u2 u2 u2"); /* a header alone */
    lu__classic_free(heap, blocks[1]);
    expect(heap, "f1 u2 f2 u2");
    uint64_t searches = heap->counters.searches;
    assert_ptr_equal(lu__classic_alloc(heap, UNIT), blocks[1]);
    assert_int_equal(heap->counters.searches - searches, 1); /* the rover was before it */
    expect(heap, "f1 u2 u2 u2");
    searches = heap->counters.searches;
    assert_non_null(lu__classic_alloc(heap, UNIT));
    expect(heap, "f1 u2 u2 u2 f2 u2");
    assert_int_equal(heap->counters.searches - searches, 2); /* in vain, then what is new */
    lu__classic_destroy(heap);
}

static uint64_t steps_of_free(struct lu__classic *heap, void *block) {
    uint64_t before = heap->counters.free_steps;
    lu__classic_free(heap, block);
    return heap->counters.free_steps - before;
}

static void free_walks_to_its_place(void **state) {
    (void)state;
    struct lu__classic *heap = small_steps();
    void *holes[6];
    for (int i = 0; i < 6; i++) {
        holes[i] = lu__classic_alloc(heap, 3 * UNIT); /* a whole rise each: nothing is free */
        assert_non_null(lu__classic_alloc(heap, 3 * UNIT));
    }
    assert_int_equal(steps_of_free(heap, holes[0]), 0); /* nothing but the base */
    for (int i = 2; i < 6; i++) assert_int_equal(steps_of_free(heap, holes[i]), 1);
    /* The rover is before the last: past that, the base, and the first. */
    assert_int_equal(steps_of_free(heap, holes[1]), 3);
    lu__classic_destroy(heap);
}

static void the_search_begins_where_the_last_ended(void **state) {
    (void)state;
    struct lu__classic *heap = small_steps();
    void *holes[5];
    for (int i = 0; i < 5; i++) {
        holes[i] = lu__classic_alloc(heap, i < 4 ? UNIT : 19 * UNIT);
        assert_non_null(lu__classic_alloc(heap, UNIT));
    }
    for (int i = 4; i >= 0; i--) lu__classic_free(heap, holes[i]); /* the rover is at the bottom */
    for (int i = 0; i < 3; i++) {
        uint64_t searches = heap->counters.searches;
        assert_non_null(lu__classic_alloc(heap, 3 * UNIT));
        searches = heap->counters.searches - searches;
        assert_int_equal(searches, i == 0 ? 4 : 1);
    }
    lu__classic_destroy(heap);
}

static void resize_uses_its_neighbour(void **state) {
    (void)state;
    struct lu__classic *heap = seven_units();
    char *right = lu__classic_alloc(heap, 3 * UNIT), *left = lu__classic_alloc(heap, UNIT);
    memset(left, 7, UNIT);
    expect(heap, "f1 u2 u4");
    lu__classic_free(heap, right);
    assert_ptr_equal(lu__classic_resize(heap, left, 3 * UNIT), left);
    expect(heap, "f1 u4 f2");
    assert_ptr_equal(lu__classic_resize(heap, left, 5 * UNIT), left);
    expect(heap, "f1 u6");
    assert_ptr_equal(lu__classic_resize(heap, left, UNIT), left);
    expect(heap, "f1 u2 f4");
    char *moved = lu__classic_resize(heap, left, 100 * UNIT);
    assert_ptr_not_equal(moved, left);
    for (int i = 0; i < UNIT; i++) assert_int_equal(moved[i], 7);
    expect(heap, "f7 u101");
    lu__classic_destroy(heap);
}

static void aligned_blocks_are_cut_free(void **state) {
    (void)state;
    struct lu__classic *heap = small_steps();
    for (size_t align = 32; align <= LU_MIB; align *= 2) {
        char *block = lu__classic_alloc_aligned(heap, align, 40);
        assert_int_equal((uintptr_t)block % align, 0);
        assert_int_equal(lu__classic_usable_size(heap, block), 48);
        heap_check(heap);
        lu__classic_free(heap, block);
        heap_check(heap);
    }
    const char *picture = heap_picture(heap, UNIT);
    assert_true(picture[0] == 'f' && strchr(picture, ' ') == NULL); /* all merged */
    lu__classic_destroy(heap);
}

static void steps_of_the_break(void **state) {
    (void)state;
    struct lu__classic *heap = heap_create(&lu__policy_kr, NULL, NULL);
    assert_non_null(lu__classic_alloc(heap, 1));
    assert_int_equal(heap->area.broken, 1024 * UNIT);
    assert_non_null(lu__classic_alloc(heap, 5000 * UNIT));
    assert_int_equal(heap->area.broken, (1024 + 5001) * UNIT);
    lu__classic_destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_walk_through),
        cmocka_unit_test(an_overflow_is_found),
        cmocka_unit_test(a_destroyed_link_is_told),
        cmocka_unit_test(a_second_free_is_told),
        cmocka_unit_test(the_search_goes_round),
        cmocka_unit_test(free_walks_to_its_place),
        cmocka_unit_test(the_search_begins_where_the_last_ended),
        cmocka_unit_test(resize_uses_its_neighbour),
        cmocka_unit_test(aligned_blocks_are_cut_free),
        cmocka_unit_test(steps_of_the_break),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
