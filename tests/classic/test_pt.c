/* test_pt.c - ptmalloc in one thread: what the notes observe of glibc, thresholds, caches, bins. */
#include "test_pt.h"

/* ---------------------------------------------------------------- what the notes observe */

static void the_first_heap(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *block = give(heap, 1);
    assert_ptr_equal(block, heap->area.base + 16);
    assert_int_equal(heap->area.base % LU_OS_PAGE, 0);
    assert_int_equal(heap->area.broken, lu__align_up(128 * LU_KIB + 64, LU_OS_PAGE));
    if (LU_OS_PAGE == 4096) assert_int_equal(heap->area.broken, 132 * LU_KIB);
    assert_int_equal(heap->area.break_moves, 1);
    assert_int_equal(heap->area.mapped, 0);
    assert_int_equal(header_of(block), 32 | 1);
    destroy(heap);
}

static void sizes_and_distances(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    static const size_t usable[] = {24, 40, 56, 72};
    for (size_t bytes = 1; bytes <= 200; bytes++) {
        char *first = give(heap, bytes), *second = give(heap, 1);
        size_t step = bytes <= 24 ? 0 : (bytes - 24 + 15) / 16;
        assert_int_equal(lu__classic_usable_size(heap, first), 24 + 16 * step);
        assert_int_equal(second - first, 32 + 16 * step);
        if (step < LU_COUNT_OF(usable)) {
            assert_int_equal(lu__classic_usable_size(heap, first), usable[step]);
        }
    }
    destroy(heap);
}

static void a_million(size_t bytes, size_t each) {
    enum { COUNT = 1000000 };
    struct lu__classic *heap = heap_create(&lu__policy_pt, NULL, NULL);
    char *before = lu__classic_alloc(heap, bytes);
    size_t far = 0;
    for (size_t i = 1; i < COUNT; i++) {
        char *block = lu__classic_alloc(heap, bytes);
        far += block != before + each;
        before = block;
    }
    assert_int_equal(far, 0);
    assert_in_range(heap->area.broken, COUNT * each, COUNT * each + 136 * LU_KIB);
    lu__classic_destroy(heap);
}

static void small_ones_by_the_million(void **state) {
    (void)state;
    a_million(1, 32);
    a_million(25, 48);
}

static void a_large_block_is_mapped(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    give(heap, 1);
    size_t broken = heap->area.broken;
    char *block = lu__classic_alloc_zeroed(heap, 128 * LU_KIB);
    assert_non_null(block);
    for (size_t i = 0; i < 128 * LU_KIB; i += 64) assert_int_equal(block[i], 0);
    assert_true(is_mapped(heap, block));
    assert_int_equal((uintptr_t)block % LU_OS_PAGE, 16);
    assert_int_equal(heap->area.broken, broken);
    assert_int_equal(heap->area.mapped, lu__align_up(128 * LU_KIB + 16, LU_OS_PAGE));
    assert_int_equal(header_of(block), heap->area.mapped | 2);
    assert_int_equal(lu__classic_usable_size(heap, block), heap->area.mapped - 16);
    heap_check(heap);
    lu__classic_free(heap, block);
    assert_int_equal(heap->area.mapped, 0);
    assert_int_equal(heap->area.unmaps, 1);
    destroy(heap);
}

/* The smallest request that is mapped, found by bisection. */
static size_t threshold_of(struct lu__classic *heap, size_t low, size_t high) {
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        uint64_t maps = heap->area.maps;
        char *block = lu__classic_alloc(heap, middle);
        if (heap->area.maps != maps) {
            high = middle;
        } else {
            low = middle;
        }
        (void)block; /* not freed: that would move the threshold */
    }
    return high;
}

static void the_threshold_moves(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    assert_int_equal(threshold_of(heap, 100 * LU_KIB, 200 * LU_KIB), 128 * LU_KIB - 8 - 15);
    char *block = give(heap, LU_MIB);
    assert_true(is_mapped(heap, block));
    lu__classic_free(heap, block);
    size_t size = lu__align_up(LU_MIB + 16, LU_OS_PAGE);
    assert_int_equal(threshold_of(heap, 200 * LU_KIB, 2 * LU_MIB), size - 8 - 15);
    block = give(heap, LU_MIB);
    assert_false(is_mapped(heap, block));
    /* The trim threshold moved to twice the size: this much stays. */
    size_t broken = heap->area.broken;
    lu__classic_free(heap, block);
    assert_int_equal(heap->area.broken, broken);
    /* What is larger than 32 MiB moves nothing. */
    uint64_t maps = heap->area.maps;
    for (int i = 0; i < 3; i++) lu__classic_free(heap, lu__classic_alloc(heap, 33 * LU_MIB));
    assert_int_equal(heap->area.maps, maps + 3);
    destroy(heap);
}

static void a_threshold_that_was_set_stays(void **state) {
    (void)state;
    struct lu__classic_config config = {.mmap_threshold = 64 * LU_KIB};
    struct lu__classic *heap = create(&config);
    for (int i = 0; i < 3; i++) lu__classic_free(heap, give(heap, 100 * LU_KIB));
    assert_int_equal(heap->area.maps, 3);
    assert_int_equal(heap->area.mapped, 0);
    destroy(heap);
}

static void the_top_goes_back_unless_pinned(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *blocks[10];
    for (int i = 0; i < 10; i++) blocks[i] = give(heap, 100000);
    char *last = give(heap, 24);
    size_t broken = heap->area.broken;
    for (int i = 0; i < 9; i++) lu__classic_free(heap, blocks[i]);
    assert_int_equal(heap->area.broken, broken); /* pinned by the last block */
    struct lu__classic_stats stats;
    lu__classic_stats(heap, &stats);
    assert_int_equal(stats.free_blocks, 2);
    assert_int_equal(stats.largest_free, 9 * 100016);
    for (int i = 0; i < TCACHE; i++) blocks[i] = give(heap, 24);
    for (int i = 0; i < TCACHE; i++) lu__classic_free(heap, blocks[i]);
    lu__classic_free(heap, last); /* into a fast bin: it still looks used */
    assert_int_equal(heap->area.broken, broken);
    lu__classic_free(heap, blocks[9]); /* makes a large free chunk, so all merge */
    assert_int_equal(heap->area.broken, lu__align_up(128 * LU_KIB + 64, LU_OS_PAGE));
    lu__classic_thread_end(heap);
    lu__classic_trim(heap);
    assert_int_equal(heap->area.broken, LU_OS_PAGE);
    destroy(heap);
}

/* ---------------------------------------------------------------- tcache, fast bins */

static void the_cache_is_a_stack_of_seven(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *blocks[9];
    for (int i = 0; i < 9; i++) blocks[i] = give(heap, 200);
    give(heap, 24);
    for (int i = 0; i < 9; i++) lu__classic_free(heap, blocks[i]);
    heap_check(heap);
    assert_string_equal(heap_picture(heap, 208), "c1 c1 c1 c1 c1 c1 c1 f2 u1 t641");
    for (int i = TCACHE - 1; i >= 0; i--) assert_ptr_equal(give(heap, 200), blocks[i]);
    assert_ptr_equal(give(heap, 200), blocks[7]); /* cut from the merged two */
    destroy(heap);
}

static void a_cached_link_is_not_a_pointer(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *first = give(heap, 40), *second = give(heap, 40);
    lu__classic_free(heap, first);
    lu__classic_free(heap, second);
    uintptr_t stored = *(uintptr_t *)second;
    assert_int_not_equal(stored, (uintptr_t)first);
    assert_int_equal(stored ^ (uintptr_t)second >> 12, (uintptr_t)first);
    /* The end of a list is not a zero either. */
    assert_int_equal(*(uintptr_t *)first, (uintptr_t)first >> 12);
    destroy(heap);
}

static void fast_bins_merge_late(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    fill_cache(heap, 100);
    char *blocks[3];
    for (int i = 0; i < TCACHE; i++) give(heap, 100);
    for (int i = 0; i < 3; i++) blocks[i] = give(heap, 100);
    char *others[TCACHE];
    for (int i = 0; i < TCACHE; i++) others[i] = give(heap, 100);
    for (int i = 0; i < TCACHE; i++) lu__classic_free(heap, others[i]);
    for (int i = 0; i < 3; i++) lu__classic_free(heap, blocks[i]);
    struct lu__classic_stats before, after;
    lu__classic_stats(heap, &before);
    assert_int_equal(before.cached_bytes, (TCACHE + 3) * 112);
    assert_int_equal(before.counters.merges, 0);
    /* Last in, first out; but the thread's cache comes before. */
    for (int i = 0; i < TCACHE; i++) others[i] = give(heap, 100);
    assert_ptr_equal(give(heap, 100), blocks[2]);
    /* The other two went to the cache. */
    assert_ptr_equal(give(heap, 100), blocks[0]);
    assert_ptr_equal(give(heap, 100), blocks[1]);
    for (int i = 0; i < TCACHE; i++) lu__classic_free(heap, others[i]);
    for (int i = 0; i < 3; i++) lu__classic_free(heap, blocks[i]);
    /* A large request merges the three. */
    char *large = give(heap, 50000);
    lu__classic_stats(heap, &after);
    assert_int_equal(after.cached_bytes, TCACHE * 112);
    assert_int_equal(after.counters.merges - before.counters.merges, 2);
    assert_ptr_equal(give(heap, 320), blocks[0]);
    lu__classic_free(heap, large);
    destroy(heap);
}

/* ---------------------------------------------------------------- bins */

static void freed_chunks_are_sorted_and_fit_best(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    static const size_t sizes[] = {5000, 3000, 9000, 3016, 2000, 3016};
    char *blocks[LU_COUNT_OF(sizes)];
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) blocks[i] = with_fence(heap, sizes[i]);
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) lu__classic_free(heap, blocks[i]);
    heap_check(heap);
    /* Nothing fits exactly: all are sorted, and the smallest that is enough is cut. */
    char *cut = give(heap, 2500);
    assert_ptr_equal(cut, blocks[1]);
    heap_check(heap);
    /* Of two alike, the second: the list of sizes need not change. */
    assert_ptr_equal(give(heap, 3016), blocks[5]);
    heap_check(heap);
    assert_ptr_equal(give(heap, 3016), blocks[3]);
    assert_ptr_equal(give(heap, 8000), blocks[2]);
    assert_ptr_equal(give(heap, 2000), blocks[4]);
    destroy(heap);
}

static void small_bins_are_first_in_first_out(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    enum { COUNT = 3 };
    char *blocks[COUNT], *cached[TCACHE];
    for (int i = 0; i < COUNT; i++) blocks[i] = with_fence(heap, 500);
    for (int i = 0; i < TCACHE; i++) cached[i] = with_fence(heap, 500);
    for (int i = 0; i < TCACHE; i++) lu__classic_free(heap, cached[i]);
    for (int i = 0; i < COUNT; i++) lu__classic_free(heap, blocks[i]);
    give(heap, 2000); /* sorts */
    heap_check(heap);
    for (int i = 0; i < TCACHE; i++) cached[i] = give(heap, 500);
    assert_ptr_equal(give(heap, 500), blocks[0]); /* the oldest; the others move to the cache */
    assert_ptr_equal(give(heap, 500), blocks[2]);
    assert_ptr_equal(give(heap, 500), blocks[1]);
    destroy(heap);
}

static void a_remainder_is_used_next(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *large = with_fence(heap, 5000);
    lu__classic_free(heap, large);
    char *first = give(heap, 200), *second = give(heap, 400), *third = give(heap, 200);
    assert_ptr_equal(first, large);
    assert_ptr_equal(second, first + 208);
    assert_ptr_equal(third, second + 416);
    destroy(heap);
}

static void resizing_in_place(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *block = give(heap, 2000);
    assert_ptr_equal(lu__classic_resize(heap, block, 6000), block); /* into the top */
    heap_check(heap);
    char *next = with_fence(heap, 3000);
    lu__classic_free(heap, next);
    assert_ptr_equal(lu__classic_resize(heap, block, 8000), block); /* into the free chunk */
    heap_check(heap);
    assert_ptr_equal(lu__classic_resize(heap, block, 100), block); /* the rest is free again */
    assert_int_equal(lu__classic_usable_size(heap, block), 104);
    heap_check(heap);
    char *moved = lu__classic_resize(heap, block, 50000);
    assert_ptr_not_equal(moved, block);
    for (int i = 0; i < 100; i++) assert_int_equal(moved[i], 0x5a);
    char *mapped = give(heap, 300000);
    size_t had = heap->area.mapped;
    mapped = lu__classic_resize(heap, mapped, 500000);
    assert_true(is_mapped(heap, mapped));
    assert_int_equal(heap->area.mapped - had, lu__align_up(500016, LU_OS_PAGE) - had);
    for (int i = 0; i < 300000; i += 100) assert_int_equal(mapped[i], 0x5a);
    destroy(heap);
}

static void aligned_blocks(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    for (size_t align = 32; align <= 4 * LU_MIB; align *= 2) {
        for (size_t bytes = 1; bytes < 300000; bytes = bytes * 7 + 1) {
            char *block = lu__classic_alloc_aligned(heap, align, bytes);
            assert_non_null(block);
            assert_int_equal((uintptr_t)block % align, 0);
            memset(block, 1, bytes);
            heap_check(heap);
            if (bytes % 2 == 0) lu__classic_free(heap, block);
        }
    }
    destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_heap),
        cmocka_unit_test(sizes_and_distances),
        cmocka_unit_test(small_ones_by_the_million),
        cmocka_unit_test(a_large_block_is_mapped),
        cmocka_unit_test(the_threshold_moves),
        cmocka_unit_test(a_threshold_that_was_set_stays),
        cmocka_unit_test(the_top_goes_back_unless_pinned),
        cmocka_unit_test(the_cache_is_a_stack_of_seven),
        cmocka_unit_test(a_cached_link_is_not_a_pointer),
        cmocka_unit_test(fast_bins_merge_late),
        cmocka_unit_test(freed_chunks_are_sorted_and_fit_best),
        cmocka_unit_test(small_bins_are_first_in_first_out),
        cmocka_unit_test(a_remainder_is_used_next),
        cmocka_unit_test(resizing_in_place),
        cmocka_unit_test(aligned_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
