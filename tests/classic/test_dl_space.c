/*
 * test_dl_space.c - the policy dl and the system's memory: break, mappings, segments, what is given
 * back, and spaces beside the main one.
 */
#include "test_dl.h"

/* ---------------------------------------------------------------- the system's memory */

static void the_break_sinks(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *blocks[64];
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) blocks[i] = alloc(heap, 30000);
    size_t most = heap->area.broken;
    assert_in_range(most, 64 * 30016, 64 * 30016 + 128 * LU_KIB + 30016 + 2 * LU_OS_PAGE);
    for (size_t i = LU_COUNT_OF(blocks); i-- > 1;) release(heap, blocks[i]);
    /* Not below the threshold, and not above it by a step of 64 KiB. */
    assert_in_range(heap->area.broken, 128 * LU_KIB, 192 * LU_KIB + 30016 + LU_OS_PAGE);
    lu__classic_trim(heap);
    heap_check(heap);
    assert_int_equal(heap->area.broken, pages(30016 + 32 + 16));
    lu__classic_destroy(heap);
}

static void one_block_pins_the_break(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *large = alloc(heap, 200000), *last;
    char *more = alloc(heap, 200000);
    last = alloc(heap, 1);
    size_t held = heap->area.broken;
    release(heap, large);
    release(heap, more);
    lu__classic_trim(heap);
    assert_true(heap->area.broken > 400000 && heap->area.broken <= held);
    release(heap, last);
    lu__classic_trim(heap);
    heap_check(heap);
    assert_int_equal(heap->area.broken, LU_OS_PAGE);
    lu__classic_destroy(heap);
}

static void config_moves_pad_and_thresholds(void **state) {
    (void)state;
    struct lu__classic_config config = {
        .top_pad = LU_MIB, .trim_threshold = 2 * LU_MIB, .mmap_threshold = 8 * LU_MIB};
    struct lu__classic *heap = create(&config, NULL);
    (void)alloc(heap, 1);
    assert_int_equal(heap->area.broken, pages(LU_MIB + 32 + 32 + 16));
    char *large = alloc(heap, 8 * LU_MIB - 1);
    assert_int_equal(heap->area.mapping_count, 0);
    release(heap, large);
    assert_in_range(heap->area.broken, 2 * LU_MIB, 2 * LU_MIB + 64 * LU_KIB + LU_OS_PAGE);
    lu__classic_destroy(heap);
}

static void mapped_at_the_threshold(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    (void)alloc(heap, 1);
    char *below = alloc(heap, 256 * LU_KIB - 1);
    assert_int_equal(heap->area.mapping_count, 0);
    char *mapped = lu__classic_alloc_zeroed(heap, 256 * LU_KIB);
    assert_int_equal(heap->area.mapping_count, 1);
    assert_int_equal((uintptr_t)mapped % LU_OS_PAGE, 16);
    assert_int_equal(lu__classic_usable_size(heap, mapped), pages(256 * LU_KIB + 16) - 16);
    for (size_t i = 0; i < 256 * LU_KIB; i++) assert_int_equal(mapped[i], 0);
    heap_check(heap);
    release(heap, mapped);
    assert_int_equal(heap->area.mapping_count, 0);
    /* What the heap has free is used first. */
    release(heap, below);
    char *large = alloc(heap, 200 * LU_KIB);
    fence(heap);
    char *larger = alloc(heap, 255 * LU_KIB), *merged = alloc(heap, 100 * LU_KIB);
    fence(heap);
    release(heap, larger);
    release(heap, merged);
    assert_ptr_equal(alloc(heap, 300 * LU_KIB), larger);
    assert_int_equal(heap->area.mapping_count, 0);
    release(heap, large);
    lu__classic_destroy(heap);
}

static void mapped_grow_by_moving_pages(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    char *block = alloc(heap, LU_MIB);
    char *in_the_way = alloc(heap, LU_MIB); /* below it; both may grow upwards or not */
    for (size_t mib = 2; mib <= 16; mib++) {
        memset(block, (int)mib, (mib - 1) * LU_MIB);
        block = lu__classic_resize(heap, block, mib * LU_MIB);
        assert_non_null(block);
        assert_int_equal(block[0], mib);
        assert_int_equal(block[(mib - 1) * LU_MIB - 1], mib);
        heap_check(heap);
    }
    assert_int_equal(heap->area.mapping_count, 2);
    assert_int_equal(heap->area.maps, 2); /* nothing was copied into a fresh one */
    block = lu__classic_resize(heap, block, LU_MIB);
    assert_int_equal(heap->area.mapped, 2 * pages(LU_MIB + 16));
    block = lu__classic_resize(heap, block, 100); /* small: not worth a mapping */
    assert_int_equal(heap->area.mapping_count, 1);
    assert_int_equal(block[99], 16);
    heap_check(heap);
    release(heap, in_the_way);
    release(heap, block);
    lu__classic_destroy(heap);
}

/* A mapping keeps the break from rising, and one that was freed leaves room above. */
static struct lu__classic *create_blocked(char **in_the_way) {
    struct lu__classic_config config = {
        .limit_bytes = 16 * LU_MIB, .top_pad = 1, .mmap_threshold = 2 * LU_MIB};
    struct lu__classic *heap = create(&config, NULL);
    char *above = alloc(heap, 10 * LU_MIB);
    *in_the_way = alloc(heap, 6 * LU_MIB - 4 * LU_OS_PAGE);
    (void)alloc(heap, 1);
    release(heap, above);
    return heap;
}

static void without_break_there_are_segments(void **state) {
    (void)state;
    char *in_the_way, *blocks[80];
    struct lu__classic *heap = create_blocked(&in_the_way);
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) {
        blocks[i] = alloc(heap, 100000);
        heap_check(heap);
    }
    assert_true(heap->area.broken <= 4 * LU_OS_PAGE);
    assert_in_range(heap->area.mapping_count, 8, 60); /* they get larger */
    /* The way is free: the break has the top again. */
    release(heap, in_the_way);
    char *low = alloc(heap, LU_MIB);
    assert_true((uintptr_t)low < heap->area.base + heap->area.broken);
    heap_check(heap);
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) release(heap, blocks[i]);
    assert_int_equal(heap->area.mapping_count, 0); /* each was given back when it was free */
    lu__classic_destroy(heap);
}

static void exhaustion_loses_nothing(void **state) {
    (void)state;
    struct lu__classic_config config = {.limit_bytes = 2 * LU_MIB, .tracked = true};
    struct lu__classic *heap = create(&config, NULL);
    static char *blocks[4096];
    size_t counts[2];
    for (int round = 0; round < 2; round++) {
        size_t count = 0;
        while ((blocks[count] = lu__classic_alloc(heap, 1500)) != NULL) count++;
        assert_null(lu__classic_alloc(heap, 100000));
        assert_null(lu__classic_alloc(heap, 4 * LU_MIB));
        assert_null(lu__classic_alloc(heap, SIZE_MAX));
        assert_null(lu__classic_resize(heap, blocks[0], 4 * LU_MIB));
        assert_null(lu__classic_alloc_aligned(heap, LU_MIB, LU_MIB));
        heap_check(heap);
        assert_true(count * 1520 > 2 * LU_MIB - 4 * LU_OS_PAGE);
        counts[round] = count;
        for (size_t i = 0; i < count; i += 2) lu__classic_free(heap, blocks[i]);
        heap_check(heap);
        for (size_t i = 1; i < count; i += 2) lu__classic_free(heap, blocks[i]);
        heap_check(heap);
    }
    assert_int_equal(counts[0], counts[1]);
    assert_non_null(lu__classic_alloc(heap, 2 * LU_MIB - 4 * LU_OS_PAGE));
    heap_check(heap);
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- spaces */

static bool add_used(void *arg, const struct lu__block *block) {
    size_t *bytes = arg;
    if (block->state == LU_BLOCK_USED) *bytes += block->bytes;
    return true;
}

static void spaces_are_independent(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    struct lu__dl_space *spaces[3];
    char *own = alloc(heap, 1000);
    for (size_t i = 0; i < 3; i++) {
        spaces[i] = lu__dl_space_create(heap, i * LU_MIB);
        assert_non_null(spaces[i]);
        heap_check(heap);
    }
    assert_int_equal(heap->area.mapping_count, 3);
    char *blocks[300];
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) {
        blocks[i] = lu__dl_space_alloc(spaces[i % 3], 20000);
        assert_non_null(blocks[i]);
        memset(blocks[i], (int)i, 20000);
    }
    heap_check(heap);
    for (size_t i = 0; i < 3; i++) {
        size_t used = 0;
        lu__dl_space_walk(spaces[i], add_used, &used);
        assert_int_equal(used, 100 * 20016);
    }
    struct lu__classic_stats stats;
    lu__classic_stats(heap, &stats);
    assert_int_equal(stats.used_blocks, 301);
    lu__dl_space_destroy(spaces[1]); /* with all that is in it */
    heap_check(heap);
    lu__classic_stats(heap, &stats);
    assert_int_equal(stats.used_blocks, 201);
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) {
        if (i % 3 == 1) continue;
        assert_int_equal((unsigned char)blocks[i][19999], i % 256);
        lu__dl_space_free(spaces[i % 3], blocks[i]);
        heap_check(heap);
    }
    /* What is free goes back but for the first mapping of each, and the one with the top. */
    assert_in_range(heap->area.mapping_count, 2, 4);
    lu__dl_space_destroy(spaces[0]);
    lu__dl_space_destroy(spaces[2]);
    assert_int_equal(heap->area.mapping_count, 0);
    release(heap, own);
    lu__classic_destroy(heap);
}

static void a_large_block_of_a_space_is_its_own(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    struct lu__dl_space *space = lu__dl_space_create(heap, 0);
    char *large = lu__dl_space_alloc(space, 4 * LU_MIB);
    size_t used = 0;
    assert_non_null(large);
    lu__dl_space_walk(space, add_used, &used);
    assert_int_equal(used, 4 * LU_MIB + 16);
    lu__dl_space_destroy(space);
    heap_check(heap);
    assert_int_equal(heap->area.mapped, 0);
    lu__classic_destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_break_sinks),
        cmocka_unit_test(one_block_pins_the_break),
        cmocka_unit_test(config_moves_pad_and_thresholds),
        cmocka_unit_test(mapped_at_the_threshold),
        cmocka_unit_test(mapped_grow_by_moving_pages),
        cmocka_unit_test(without_break_there_are_segments),
        cmocka_unit_test(exhaustion_loses_nothing),
        cmocka_unit_test(spaces_are_independent),
        cmocka_unit_test(a_large_block_of_a_space_is_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
