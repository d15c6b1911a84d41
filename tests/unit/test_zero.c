/* test_zero.c - engine/zero: how far malloc(0) looks for a name, counted by where it stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "engine/zero.h"
#include "os/lock.h"
#include "lucid/lucid.h"

enum { LOOKS = 4096 };

static size_t words(void) {
    return lu__zero_before(lu__zero.parts);
}

static void set_all(uint64_t value) {
    for (size_t i = 0; i < words(); i++) *lu__zero_word(i) = value;
}

static size_t word_of(const void *name) {
    for (unsigned part = 0; part < lu__zero.parts; part++) {
        size_t word = ((uintptr_t)name - lu__zero.part[part].names) / 16 / 64;
        if (word < lu__zero_words(part)) return lu__zero_before(part) + word;
    }
    return SIZE_MAX;
}

/* Names in order, each once; a full word is passed by. */
/* As alloc.c does, which is inside (os/lock.h). */
static void *take(void) {
    if (!lu__inside_enter()) return NULL;
    void *name = lu__zero_alloc();
    lu__inside_leave();
    return name;
}

static void in_order(void **state) {
    (void)state;
    char *first = take(), *last = first;
    assert_non_null(first);
    for (size_t i = 1; i < 1000; i++) {
        char *name = take();
        assert_ptr_equal(name, last + 16);
        assert_int_equal(lu__zero_find(name), LU_ZERO_LIVE);
        last = name;
    }
    assert_true(lu__zero_free(first));
    assert_false(lu__zero_free(first));
    assert_int_equal(lu__zero_find(first), LU_ZERO_FREE);
    assert_ptr_equal(take(), last + 16); /* not what was freed just now */
    for (char *name = first + 16; name <= last + 16; name += 16) assert_true(lu__zero_free(name));
}

/* There are few names at first, and more where many are live. */
static void parts_follow(void **state) {
    (void)state;
    assert_int_equal(lu__zero.parts, 1);
    size_t names = words() * 64;
    for (size_t i = 0; i < 4 * names; i++) assert_true(lu__zero_free(take()));
    assert_int_equal(lu__zero.parts, 1);
    for (size_t i = 0; i < 6 * names; i++) {
        char *name = take();
        assert_non_null(name);
        assert_int_equal(lu__zero_find(name), LU_ZERO_LIVE);
        assert_int_equal(lu__zero_find(name + 1), LU_ZERO_INTERIOR);
    }
    assert_int_equal(lu__zero.live, 6 * names);
    assert_int_equal(lu__zero.parts, 3);
    for (size_t i = 0; i < words(); i++) {
        uint64_t bits = *lu__zero_word(i);
        unsigned part = lu__zero_part_of(i);
        uintptr_t at = lu__zero.part[part].names + (i - lu__zero_before(part)) * 64 * 16;
        for (unsigned bit = 0; bit < 64; bit++) {
            if ((bits >> bit & 1) != 0) assert_true(lu__zero_free((char *)at + 16 * bit));
        }
    }
    assert_int_equal(lu__zero.live, 0);
}

/* With all 2^26 names live no call looks at more than 4,096 words. */
static void no_name_is_free(void **state) {
    (void)state;
    lu__zero.live = SIZE_MAX / 2;
    while (lu__zero.parts < LU_ZERO_PARTS) { /* to the end of all, again and again */
        set_all(UINT64_MAX);
        lu__zero.next = words() - 1;
        (void)take();
    }
    set_all(UINT64_MAX);
    lu__zero.next = 100;
    for (size_t call = 1; call <= 2 * words() / LOOKS; call++) {
        assert_null(take());
        assert_int_equal(lu__zero.next, (100 + call * LOOKS) % words());
    }
    /* malloc(0) is a block then, as any other. */
    void *block = lu_malloc(0), *other = lu_malloc(0);
    assert_non_null(block);
    assert_ptr_not_equal(block, other);
    assert_int_equal(lu__zero_find(block), LU_ZERO_NOT);
    block = lu_realloc(block, 100);
    assert_non_null(block);
    lu_free(block);
    lu_free_sized(other, 0);
}

/* One that is free is found, at the latest after one round. */
static void the_only_one(void **state) {
    (void)state;
    const size_t numbers[] = {0, 1, LOOKS - 1, LOOKS, 5 * LOOKS + 7, words() - 1};
    for (size_t i = 0; i < LU_COUNT_OF(numbers); i++) {
        set_all(UINT64_MAX);
        lu__zero.next = 0;
        *lu__zero_word(numbers[i]) &= ~((uint64_t)1 << (i * 10));
        void *name = NULL;
        size_t calls = 0;
        while (name == NULL) {
            name = take();
            calls++;
        }
        assert_int_equal(word_of(name), numbers[i]);
        assert_int_equal(calls, numbers[i] / LOOKS + 1);
        assert_int_equal(*lu__zero_word(numbers[i]), UINT64_MAX);
        assert_int_equal(lu__zero.next, (numbers[i] + 1) % words());
    }
    set_all(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),
        cmocka_unit_test(parts_follow),
        cmocka_unit_test(no_name_is_free),
        cmocka_unit_test(the_only_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
