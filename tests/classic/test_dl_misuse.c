/*
 * test_dl_misuse.c - what the policy dl notices: blocks that are no blocks, freed twice, or whose
 * neighbours were written over; and that its check of a whole heap sees every damage.
 */
#include "test_dl.h"

/* ---------------------------------------------------------------- misuse */

static void expect(struct misuse *misuse, const char *what, const void *block) {
    assert_int_equal(misuse->count, 1);
    assert_string_equal(misuse->what, what);
    assert_ptr_equal(misuse->block, block);
    *misuse = (struct misuse){0};
}

static void a_double_free_is_told(void **state) {
    (void)state;
    struct misuse misuse = {0};
    struct lu__classic *heap = create(NULL, &misuse);
    char *a = alloc(heap, 100), *b = alloc(heap, 100), *c = alloc(heap, 100);
    fence(heap);
    release(heap, a);
    lu__classic_free(heap, a);
    expect(&misuse, "double free", a);
    release(heap, b); /* becomes part of a */
    lu__classic_free(heap, b);
    expect(&misuse, "double free", b);
    release(heap, c);
    lu__classic_free(heap, c);
    expect(&misuse, "double free", c);
    assert_null(lu__classic_resize(heap, c, 10));
    assert_int_equal(misuse.count, 1);
    misuse.count = 0;
    char *mapped = alloc(heap, LU_MIB);
    release(heap, mapped);
    lu__classic_free(heap, mapped);
    expect(&misuse, "not a block, or freed before", mapped);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void what_is_no_block_is_told(void **state) {
    (void)state;
    struct misuse misuse = {0};
    struct lu__classic *heap = create(NULL, &misuse);
    struct lu__dl_space *space = lu__dl_space_create(heap, 0);
    char *a = lu__dl_space_alloc(space, 100), *own = alloc(heap, 100), local[64];
    char *mapped = alloc(heap, LU_MIB);
    lu__classic_free(heap, own + 8);
    expect(&misuse, "not a block", own + 8);
    lu__classic_free(heap, mapped + LU_OS_PAGE);
    expect(&misuse, "not a block, or freed before", mapped + LU_OS_PAGE);
    char *aligned = (char *)lu__align_up((uintptr_t)local, 16);
    lu__classic_free(heap, aligned);
    expect(&misuse, "not a block, or freed before", aligned);
    lu__classic_free(heap, a); /* of a space */
    expect(&misuse, "not a block, or freed before", a);
    lu__dl_space_free(space, own);
    expect(&misuse, "not a block, or freed before", own);
    lu__dl_space_free(space, lu__chunk_payload((struct lu__chunk *)space->segments->start));
    assert_string_equal(misuse.what, "not a block");
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void expect_fault(struct lu__classic *heap, const char *what) {
    struct lu__classic_fault fault = {"nothing", 0};
    assert_false(lu__classic_validate(heap, &fault));
    assert_string_equal(fault.what, what);
}

static void an_overflow_is_told(void **state) {
    (void)state;
    struct misuse misuse = {0};
    struct lu__classic *heap = create(NULL, &misuse);
    char *a = alloc(heap, 40), *b = alloc(heap, 40), *c = alloc(heap, 40), saved[48];
    fence(heap);
    memcpy(saved, b - 8, 8);
    memset(b - 8, 0x41, 8); /* beyond a by 8 bytes */
    lu__classic_free(heap, a);
    expect(&misuse, "the header after the block is damaged", a);
    lu__classic_free(heap, b);
    expect(&misuse, "the header of the block is damaged", b);
    expect_fault(heap, "the header of a block is damaged");
    memcpy(b - 8, saved, 8);
    heap_check(heap);

    release(heap, b); /* now its links are there, too */
    memcpy(saved, b - 8, 24);
    memset(b, 0x41, 16);
    expect_fault(heap, "a ring that is broken");
    assert_non_null(lu__classic_alloc(heap, 40)); /* from elsewhere */
    expect(&misuse, "links of a free block are damaged", b - 16);
    lu__classic_free(heap, a);
    expect(&misuse, "links of a free block are damaged", b - 16);
    memcpy(b - 8, saved, 24);
    memset(b + 32, 0, 8); /* its foot */
    lu__classic_free(heap, c);
    expect(&misuse, "the header before the block is damaged", c);
    expect_fault(heap, "the foot of a free block is damaged");
    memcpy(b + 32, &(size_t){48}, 8);
    heap_check(heap);
    lu__classic_destroy(heap);
}

static void damage_to_large_ones_is_told(void **state) {
    (void)state;
    struct misuse misuse = {0};
    struct lu__classic *heap = create(NULL, &misuse);
    char *large = alloc(heap, 2000), *beside, saved[64];
    beside = alloc(heap, 2000);
    fence(heap);
    release(heap, large);
    memcpy(saved, large, sizeof saved);
    for (size_t at = 0; at < 40; at += 8) { /* links, children, link */
        memset(large + at, 0x41, 8);
        struct lu__classic_fault fault;
        assert_false(lu__classic_validate(heap, &fault));
        lu__classic_free(heap, beside); /* would merge with it */
        expect(&misuse, "links of a free block are damaged", large - 16);
        memcpy(large, saved, sizeof saved);
        heap_check(heap);
    }
    memset(large - 8, 0x41, 8);
    assert_non_null(lu__classic_alloc(heap, 1000)); /* told, and taken from top */
    assert_int_equal(misuse.count, 1);
    lu__classic_destroy(heap);
}

static void damage_to_top_is_told(void **state) {
    (void)state;
    struct misuse misuse = {0};
    struct lu__classic *heap = create(NULL, &misuse);
    char *last = alloc(heap, 24);
    memset(last + 24, 0xff, 8);
    lu__classic_free(heap, last);
    expect(&misuse, "the header after the block is damaged", last);
    expect_fault(heap, "the header of a block is damaged");
    assert_non_null(lu__classic_alloc(heap, 100)); /* from a top whose size is noted elsewhere */
    expect(&misuse, "the header of a free block is damaged", last + 16);
    heap_check(heap);
    lu__classic_destroy(heap);
}

/* ---------------------------------------------------------------- validate */

/* Change a word of the heap to something else and back again: validate must see it. */
static void must_see(struct lu__classic *heap, void *word, size_t mask) {
    size_t value;
    struct lu__classic_fault fault = {NULL, 0};
    memcpy(&value, word, sizeof value);
    memcpy(word, &(size_t){value ^ mask}, sizeof value);
    bool sound = lu__classic_validate(heap, &fault);
    memcpy(word, &value, sizeof value);
    assert_false(sound);
    assert_non_null(fault.what);
    heap_check(heap);
}

static void every_word_is_checked(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL, NULL);
    struct lu__dl_space *space = main_of(heap), *other = lu__dl_space_create(heap, 0);
    char *blocks[12], *mapped = alloc(heap, LU_MIB);
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) {
        blocks[i] = alloc(heap, 40 + 300 * (i / 2)); /* free ones in twos of a size */
        fence(heap);
    }
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) release(heap, blocks[i]);
    (void)alloc(heap, 100); /* now there is a victim */
    assert_non_null(space->dv);
    assert_int_not_equal(space->small_map, 0);
    assert_int_not_equal(space->tree_map, 0);

    char *maps = (char *)space + offsetof(struct lu__dl_space, small_map); /* and the trees' */
    for (unsigned bit = 0; bit < 64; bit++) must_see(heap, maps, (size_t)1 << bit);
    must_see(heap, &space->dv_size, 16);
    must_see(heap, &space->top_size, 16);
    must_see(heap, &space->footprint, 4096);
    must_see(heap, &space->of_break.end, 4096);
    for (unsigned bit = 0; bit < 10; bit++) {
        size_t mask = (size_t)1 << bit;
        must_see(heap, &space->dv->head, mask);
        must_see(heap, &space->top->head, mask);
        must_see(heap, &lu__chunk_next(space->dv)->foot_before, mask);
        must_see(heap, &lu__chunk_of(mapped)->head, mask);
        must_see(heap, (void *)(space->of_break.end - 8), mask); /* the fence */
        must_see(heap, &lu__dl_segment_first(other->home)->head, mask);
        must_see(heap, &lu__chunk_of(other->home)->head, mask);
        must_see(heap, &other->home->start, mask);
        must_see(heap, &other->home->end, mask);
    }
    for (size_t i = 0; i < LU_COUNT_OF(blocks); i++) {
        struct lu__dl_node *node = (struct lu__dl_node *)lu__chunk_of(blocks[i]);
        size_t size = lu__chunk_size(&node->chunk);
        if (lu__dl_used(&node->chunk) || &node->chunk == space->dv) continue;
        must_see(heap, &node->chunk.head, 16);
        must_see(heap, &node->chunk.free.next, 16);
        must_see(heap, &node->chunk.free.prev, 4096);
        must_see(heap, blocks[i] + size - 16, 64); /* its foot */
        if (size < LU_DL_LARGE) continue;
        must_see(heap, &node->link, 8);
        if (node->link != NULL) must_see(heap, &node->child[0], 1024);
    }
    lu__dl_space_destroy(other);
    lu__classic_destroy(heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_double_free_is_told), cmocka_unit_test(what_is_no_block_is_told),
        cmocka_unit_test(an_overflow_is_told),   cmocka_unit_test(damage_to_large_ones_is_told),
        cmocka_unit_test(damage_to_top_is_told), cmocka_unit_test(every_word_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
