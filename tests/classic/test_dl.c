/*
 * test_dl.c - the policy dl: where its chunks come from and go to; its tries against a search by
 * hand.
 *
 * Pictures count in 16 bytes: "u3" is a used chunk of 48.
 */
#include "test_dl.h"

/* ---------------------------------------------------------------- chunks */

static void sizes_of_chunks(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    static const struct {
        size_t asked, usable;
    } sizes[] = {{1, 24}, {24, 24}, {25, 40}, {40, 40}, {41, 56}, {1000, 1000}, {1001, 1016}};
    char *before = NULL;
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        char *now = alloc(heap, sizes[i].asked);
        assert_int_equal(lu__classic_usable_size(heap, now), sizes[i].usable);
        if (before == NULL) assert_int_equal((uintptr_t)now, heap->area.base + 16);
        if (before != NULL) assert_ptr_equal(now, before + sizes[i - 1].usable + 8);
        before = now;
    }
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void neighbours_merge(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *a = alloc(heap, 40), *b = alloc(heap, 56), *c = alloc(heap, 72);
    fence(heap);
    release(heap, a);
    release(heap, c);
    assert_memory_equal(heap_picture(heap, 16), "f3 u4 f5 u2 t", 13);
    assert_int_equal(heap->counters.merges, 0);
    release(heap, b); /* with both */
    assert_memory_equal(heap_picture(heap, 16), "f12 u2 t", 8);
    assert_int_equal(heap->counters.merges, 2);
    lu__classic_destroy(heap);
}

static void top_takes_in_what_lies_below(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *a = alloc(heap, 40), *b = alloc(heap, 40);
    release(heap, a);
    release(heap, b);
    assert_memory_equal(heap_picture(heap, 16), "t", 1);
    assert_ptr_equal(alloc(heap, 500), a);
    heap_check(heap);
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- bins */

static void small_bins_are_exact(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *of_size[LU_DL_BINS];
    for (size_t i = 2; i < LU_DL_BINS; i++) {
        of_size[i] = alloc(heap, 16 * i - 8);
        fence(heap);
    }
    for (size_t i = 2; i < LU_DL_BINS; i++) release(heap, of_size[i]);
    assert_int_equal(main_of(heap)->small_map, ~3u);
    assert_int_equal(main_of(heap)->tree_map, 0);
    for (size_t i = 2; i < LU_DL_BINS; i++) {
        uint64_t searches = heap->counters.searches;
        assert_ptr_equal(alloc(heap, 16 * i - 8), of_size[i]);
        assert_int_equal(heap->counters.searches - searches, 1);
        heap_check(heap);
    }
    assert_int_equal(main_of(heap)->small_map, 0);
    lu__classic_destroy(heap);
}

static void a_bin_of_16_more_is_taken_whole(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *a = alloc(heap, 88);
    fence(heap);
    release(heap, a);
    assert_ptr_equal(alloc(heap, 72), a);
    assert_int_equal(lu__classic_usable_size(heap, a), 88);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void what_was_freed_last_is_used_first(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *a = alloc(heap, 40);
    fence(heap);
    char *b = alloc(heap, 40);
    fence(heap);
    release(heap, a);
    release(heap, b);
    assert_ptr_equal(alloc(heap, 40), b);
    assert_ptr_equal(alloc(heap, 40), a);
    lu__classic_destroy(heap);
}

static void the_rest_of_a_split_is_the_victim(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    struct lu__dl_space *space = main_of(heap);
    char *a = alloc(heap, 472), *other = alloc(heap, 1000);
    fence(heap);
    release(heap, a);
    assert_null(space->dv);
    assert_ptr_equal(alloc(heap, 24), a); /* splits it */
    assert_ptr_equal(lu__chunk_payload(space->dv), a + 32);
    heap_check(heap);
    /* A better fit of another bin comes first, but only of just the size. */
    assert_ptr_equal(alloc(heap, 40), a + 32);
    assert_ptr_equal(alloc(heap, 24), a + 80);
    assert_int_equal(space->dv_size, 480 - 112);
    heap_check(heap);
    /* What is freed beside the victim becomes part of it. */
    release(heap, a + 80);
    assert_ptr_equal(lu__chunk_payload(space->dv), a + 80);
    assert_int_equal(space->dv_size, 480 - 80);
    release(heap, other);
    assert_int_equal(space->dv_size, 480 - 80 + 1008);
    /* All of it, with a rest that is too small for a chunk. */
    assert_ptr_equal(alloc(heap, 1384 - 8), a + 80);
    assert_null(space->dv);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void the_victim_comes_before_larger_bins(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    struct lu__dl_space *space = main_of(heap);
    char *small = alloc(heap, 104), *large, *close;
    fence(heap);
    large = alloc(heap, 2000);
    fence(heap);
    close = alloc(heap, 1000);
    fence(heap);
    release(heap, large);
    assert_ptr_equal(alloc(heap, 24), large);
    release(heap, small);
    release(heap, close);
    assert_int_equal(space->dv_size, 2016 - 32);
    assert_ptr_equal(alloc(heap, 40), large + 32); /* not the bin of 112 bytes */
    assert_ptr_equal(alloc(heap, 980), close);     /* of large ones what fits better */
    assert_int_equal(space->dv_size, 2016 - 32 - 48);
    release(heap, close);
    assert_ptr_equal(alloc(heap, 1100), large + 80);
    assert_int_equal(space->dv_size, 2016 - 32 - 48 - 1120);
    assert_ptr_equal(alloc(heap, 780), large + 80 + 1120); /* the victim, of 816 */
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void a_new_victim_sends_the_old_one_to_its_bin(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    struct lu__dl_space *space = main_of(heap);
    char *a = alloc(heap, 88), *large;
    fence(heap);
    large = alloc(heap, 2000);
    fence(heap);
    release(heap, a);
    release(heap, large);
    (void)alloc(heap, 24);
    assert_int_equal(space->dv_size, 64);
    assert_ptr_equal(alloc(heap, 72), large); /* too large for the victim */
    assert_int_equal(space->small_map, 1u << 4);
    assert_int_equal(space->dv_size, 2016 - 80);
    heap_check(heap);
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- tries */

struct least {
    size_t wanted, best;
};

static bool look_for_least(void *arg, const struct lu__block *block) {
    struct least *least = arg;
    if (block->state == LU_BLOCK_FREE && block->bytes >= least->wanted) {
        least->best = LU_MIN(least->best, block->bytes);
    }
    return true;
}

/* What the tries give for a size must be what a search of all blocks gives. */
static void compare_best(struct lu__classic *heap, size_t wanted) {
    struct least least = {wanted, SIZE_MAX};
    lu__classic_walk(heap, look_for_least, &least);
    const struct lu__chunk *chunk = lu__dl_tree_best(main_of(heap), wanted);
    assert_int_equal(chunk != NULL ? lu__chunk_size(chunk) : SIZE_MAX, least.best);
}

enum { CHUNKS = 400 };

/* Sizes from 512 bytes to 64 KiB, small ones more often, many of them twice. */
static size_t some_size(struct random *random) {
    size_t size = (size_t)512 << random_below(random, 7);
    return size + 16 * random_below(random, random_below(random, 2) != 0 ? 8 : size / 16);
}

static void tries_give_the_best_fit(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    struct random random = {1};
    char *large[CHUNKS];
    for (size_t i = 0; i < CHUNKS; i++) {
        large[i] = alloc(heap, some_size(&random) - 8);
        fence(heap);
    }
    for (size_t i = 0; i < CHUNKS; i++) {
        lu__classic_free(heap, large[i]);
        compare_best(heap, some_size(&random));
    }
    heap_check(heap);
    /* And while they are taken out in an order of no kind. */
    for (size_t i = 0; i < 10 * CHUNKS; i++) {
        size_t wanted = some_size(&random);
        compare_best(heap, wanted);
        void *payload = lu__classic_alloc(heap, wanted - 8);
        assert_non_null(payload);
        if (i % 8 == 0) heap_check(heap);
        if (random_below(&random, 3) != 0) lu__classic_free(heap, payload);
    }
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void trees_have_their_sizes(void **state) {
    (void)state;
    static const struct {
        size_t size;
        unsigned index;
    } sizes[] = {{512, 0},
                 {752, 0},
                 {768, 1},
                 {1008, 1},
                 {1024, 2},
                 {1536, 3},
                 {LU_MIB, 22},
                 {24 * LU_MIB - 16, 30},
                 {24 * LU_MIB, 31},
                 {LU_GIB, 31},
                 {(size_t)1 << 46, 31}};
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        assert_int_equal(lu__dl_tree_index(sizes[i].size), sizes[i].index);
    }
}

static void a_long_ring_costs_one_look(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *same[100];
    for (size_t i = 0; i < LU_COUNT_OF(same); i++) {
        same[i] = alloc(heap, 4000);
        fence(heap);
    }
    for (size_t i = 0; i < LU_COUNT_OF(same); i++) release(heap, same[i]);
    uint64_t searches = heap->counters.searches;
    (void)alloc(heap, 4000);
    assert_int_equal(heap->counters.searches - searches, 1);
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- resize, aligned */

static void resize_in_place(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *a = alloc(heap, 1000), *b = alloc(heap, 1000);
    fence(heap);
    release(heap, b);
    assert_ptr_equal(lu__classic_resize(heap, a, 1500), a); /* part of the next */
    assert_memory_equal(heap_picture(heap, 16), "u95 f31 u2 t", 12);
    heap_check(heap);
    assert_ptr_equal(lu__classic_resize(heap, a, 2000), a); /* all of it */
    assert_memory_equal(heap_picture(heap, 16), "u126 u2 t", 9);
    heap_check(heap);
    assert_ptr_equal(lu__classic_resize(heap, a, 100), a); /* cut back */
    assert_memory_equal(heap_picture(heap, 16), "u7 f119 u2 t", 12);
    heap_check(heap);
    assert_ptr_equal(alloc(heap, 24), a + 112); /* the rest is the victim */
    lu__classic_free(heap, a + 112);
    assert_non_null(main_of(heap)->dv);
    assert_ptr_equal(lu__classic_resize(heap, a, 500), a); /* into the victim */
    assert_int_equal(main_of(heap)->dv_size, (126 - 32) * 16);
    heap_check(heap);
    char *last = alloc(heap, 50000);
    assert_ptr_equal(lu__classic_resize(heap, last, 80000), last); /* into top */
    assert_ptr_equal(lu__classic_resize(heap, last, 1600), last);
    heap_check(heap);
    assert_ptr_not_equal(lu__classic_resize(heap, a, 3000), a); /* nothing beside it */
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void aligned_blocks_leave_no_litter(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    for (size_t align = 32; align <= 8 * LU_MIB; align *= 2) {
        for (size_t bytes = 1; bytes <= 400000; bytes = 3 * bytes + 7) {
            char *first = lu__classic_alloc_aligned(heap, align, bytes);
            assert_non_null(first);
            assert_int_equal((uintptr_t)first % align, 0);
            memset(first, 1, bytes);
            assert_true(lu__classic_usable_size(heap, first) < bytes + 64 || bytes > 100000 ||
                        align > 100000); /* but for a mapping */
            char *second = lu__classic_alloc_aligned(heap, align, bytes);
            assert_int_equal((uintptr_t)second % align, 0);
            heap_check(heap);
            first = lu__classic_resize(heap, first, 2 * bytes);
            assert_int_equal(first[bytes - 1], 1);
            release(heap, first);
            release(heap, second);
        }
    }
    assert_memory_equal(heap_picture(heap, 16), "t", 1);
    assert_int_equal(heap->area.mapping_count, 0);
    lu__classic_destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_chunks),
        cmocka_unit_test(neighbours_merge),
        cmocka_unit_test(top_takes_in_what_lies_below),
        cmocka_unit_test(small_bins_are_exact),
        cmocka_unit_test(a_bin_of_16_more_is_taken_whole),
        cmocka_unit_test(what_was_freed_last_is_used_first),
        cmocka_unit_test(the_rest_of_a_split_is_the_victim),
        cmocka_unit_test(the_victim_comes_before_larger_bins),
        cmocka_unit_test(a_new_victim_sends_the_old_one_to_its_bin),
        cmocka_unit_test(tries_give_the_best_fit),
        cmocka_unit_test(trees_have_their_sizes),
        cmocka_unit_test(a_long_ring_costs_one_look),
        cmocka_unit_test(resize_in_place),
        cmocka_unit_test(aligned_blocks_leave_no_litter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
