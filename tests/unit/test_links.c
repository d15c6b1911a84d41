/*
 * test_links.c - what blocks tell of the free lists: an observer reads all that is handed out.
 *
 * A program prints memory that it never wrote, and who reads it may know everything about the
 * library but its secrets. A word gives a span away if it has the upper bits of the key of a span
 * in use: from it follow links that malloc takes for its own. And where the key of an earlier life
 * is known, as from two neighbours, the last link of a list tells where lists end; so that may be
 * no place in the program or the library.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdbool.h>
#include <string.h>

#include "heap/heap.h"
#include "lucid/lucid.h"

enum { SLOTS = 4000, STEPS = 60000, KEYS = 4096 };

static uintptr_t keys[KEYS]; /* of the spans in use */
static size_t key_count;
static size_t words_read, old_links;
static uint64_t random_state = 1;

static size_t below(size_t bound) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % bound;
}

static void collect_keys(void) {
    key_count = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        for (size_t slice = 0; slice < region->top;) {
            const struct span *run = lu__region_desc(region, slice);
            if (run->kind == LU_KIND_SMALL && run->owner != NULL) {
                assert_true(key_count < KEYS);
                keys[key_count++] = run->key;
            }
            slice += run->slices;
        }
    }
}

extern const char __executable_start[], _end[];

/* With the link `known` of the same life, `word` at `at` would lead to this place if it is a last
 * link: the lower bits are those of the distance that `known` spans. */
static bool tells_end(uint64_t word, uintptr_t at, uint64_t known) {
    uint64_t place = word ^ known ^ at, blur = (uint64_t)1 << LU_WINDOW_SHIFT;
    return place > (uintptr_t)__executable_start - blur && place < (uintptr_t)_end + blur;
}

static void observe(const void *block) {
    size_t count = lu_usable_size(block) / sizeof(uint64_t);
    const volatile uint64_t *words = block;
    uint64_t known = 0;
    if (block == NULL) return;
    for (size_t i = 0; i < count; i++) {
        uint64_t word = words[i];
        if (word >> 63 == 0) continue;
        words_read++;
        for (size_t k = 0; k < key_count; k++) {
            assert_false((word ^ keys[k]) >> LU_WINDOW_SHIFT == 0);
        }
        if (known != 0) {
            old_links += (word ^ known) >> LU_WINDOW_SHIFT == 0;
            assert_false(tells_end(word, (uintptr_t)&words[i], known));
        }
        known = word;
    }
}

static size_t some_size(void) {
    switch (below(12)) {
    case 0:
        return 1 + below(2000000);
    case 1:
        return 1 + below(70000);
    case 2:
    case 3:
        return 1 + below(5000);
    default:
        return 1 + below(500);
    }
}

static void *allocate(void) {
    switch (below(4)) {
    case 0:
        return lu_aligned_alloc((size_t)1 << below(14), some_size());
    default:
        return lu_malloc(some_size());
    }
}

/* What lists of small blocks leave, seen in large ones, and in blocks that a list gives. */
static void the_memory_of_lists_is_observed(void **state) {
    (void)state;
    enum { BLOCKS = 3000 };
    static void *blocks[BLOCKS];
    assert_int_equal(lu_option_set("purge_delay", "-1"), 0); /* what is left stays readable */
    for (size_t size = 8; size <= 1024; size *= 2) {
        for (size_t i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = lu_malloc(size));
        for (size_t i = 0; i < BLOCKS; i++) lu_free(blocks[i * 7 % BLOCKS]);
        for (size_t i = 0; i < 40; i++) {
            assert_non_null(blocks[i] = lu_malloc(i < 20 ? 70000 : 50 * i));
            collect_keys();
            observe(blocks[i]);
        }
        for (size_t i = 0; i < 40; i++) lu_free(blocks[i]);
    }
    print_message("%zu words, %zu links of earlier lives\n", words_read, old_links);
    assert_true(old_links > 1000); /* else nothing was observed */
}

/* Few bytes of each block are written, so that memory stays as the lists have left it. */
static void a_run_is_observed(void **state) {
    (void)state;
    static void *slots[SLOTS];
    size_t in_use = SLOTS;
    for (size_t step = 0; step < STEPS; step++) {
        if (step % 6000 == 0) { /* the load changes, so slices change their class */
            for (size_t i = in_use = 50 + below(SLOTS - 50); i < SLOTS; i++) {
                lu_free(slots[i]);
                slots[i] = NULL;
            }
        }
        size_t i = below(in_use);
        if (slots[i] == NULL) {
            assert_non_null(slots[i] = allocate());
        } else if (below(4) == 0) {
            size_t size = lu_usable_size(slots[i]);
            void *moved = lu_realloc(slots[i], below(2) ? size + size / 2 + 1 : size / 2 + 1);
            assert_non_null(slots[i] = moved);
        } else {
            lu_free(slots[i]);
            slots[i] = NULL;
            continue;
        }
        collect_keys();
        observe(slots[i]);
    }
    for (size_t i = 0; i < SLOTS; i++) lu_free(slots[i]);
    print_message("%zu words, %zu links of earlier lives\n", words_read, old_links);
}

/* Two lives of a span have nothing in common that is seen, and no key looks like data. */
static void keys_look_like_nothing_else(void **state) {
    (void)state;
    static struct span span;
    for (int i = 0; i < 10000; i++) {
        uintptr_t old = span.key;
        span.key = lu__link_new_key(&span);
        assert_true((span.key ^ old) >> LU_WINDOW_SHIFT != 0);
        assert_int_equal(span.key >> 61, 4);
        assert_int_equal(span.key >> 55 & 1, 1);
    }
}

static void lists_end_in_the_region_at_a_zero(void **state) {
    (void)state;
    const struct region *region = &lu__regions[0];
    static const struct span zero;
    lu_free(lu_malloc(1));
    assert_true(LU_LIST_END == (uintptr_t)(region->table - 1));
    assert_memory_equal((const void *)LU_LIST_END, &zero, sizeof zero);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_memory_of_lists_is_observed),
        cmocka_unit_test(a_run_is_observed),
        cmocka_unit_test(keys_look_like_nothing_else),
        cmocka_unit_test(lists_end_in_the_region_at_a_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
