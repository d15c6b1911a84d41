/*
 * test_limit.c - heap/limit: what happens as the memory held comes near the limit, and at it.
 *
 * purge_delay is set so long that nothing goes back for its age: what does go back near the limit
 * goes back for the limit.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "heap/limit.h"
#include "lucid/lucid.h"
#include "span/span.h"

enum { BLOCKS = 60, KEPT = 49 };

/* Slow paths for some milliseconds: ticks in them look at the clock. */
static void pass_time(void) {
    for (int i = 0; i < 40; i++) {
        for (int k = 0; k < 40; k++) lu_free(lu_malloc(70000));
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

/* Hold 60 MiB, free 11 of them, which is no flood (span/decay.h), and work on; what is still
 * held then. */
static size_t held_after_some_is_freed(void) {
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        assert_non_null(blocks[i] = lu_malloc(LU_MIB - 4096));
        memset(blocks[i], 1, LU_MIB - 4096);
    }
    for (size_t i = KEPT; i < BLOCKS; i++) lu_free(blocks[i]);
    pass_time();
    size_t held = lu__span_held();
    for (size_t i = 0; i < KEPT; i++) lu_free(blocks[i]);
    (void)lu_purge();
    return held;
}

static void free_memory_goes_back_near_the_limit(void **state) {
    (void)state;
    assert_int_equal(lu_option_set("purge_delay", "100000"), 0);
    assert_false(lu__limit_is_near());
    assert_true(held_after_some_is_freed() >= BLOCKS * LU_MIB); /* no limit */
    assert_int_equal(lu_set_limit(LU_GIB, NULL, NULL), 0);
    assert_true(held_after_some_is_freed() >= BLOCKS * LU_MIB); /* far away */
    assert_int_equal(lu_set_limit(64 * LU_MIB, NULL, NULL), 0);
    assert_true(held_after_some_is_freed() <= 56 * LU_MIB); /* seven eighths */
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    assert_int_equal(lu_option_set("purge_delay", "500"), 0);
}

static size_t asked, held_then;

static bool note(size_t wanted_bytes, size_t held_bytes, void *arg) {
    (void)wanted_bytes;
    asked++;
    held_then = held_bytes;
    return *(bool *)arg;
}

/* Take all blocks of a span, and free them. */
static void use_a_span(size_t size) {
    static void *blocks[LU_SLICE / 8];
    size_t count = (size <= LU_SLICE / 2 ? LU_SLICE : 2 * LU_SLICE) / lu_good_size(size);
    for (size_t i = 0; i < count; i++) assert_non_null(blocks[i] = lu_malloc(size));
    while (count > 0) lu_free(blocks[--count]);
}

/* Spans with nothing in them, one of each class, are no reason to fail. */
static void empty_spans_go_back_at_the_limit(void **state) {
    (void)state;
    bool again = false;
    void *blocks[BLOCKS];
    size_t count = 0;
    (void)lu_purge();
    size_t limit = lu__span_held() + 16 * LU_MIB;
    asked = 0;
    assert_int_equal(lu_set_limit(limit, note, &again), 0);
    for (size_t size = 8; size <= 65536; size = lu_good_size(size + 1)) use_a_span(size);
    assert_true(lu__span_held() >= limit - 12 * LU_MIB); /* 4 MiB are in such spans */
    while (count < BLOCKS && (blocks[count] = lu_malloc(LU_MIB / 2)) != NULL) count++;
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(asked, 1);
    assert_true(held_then <= limit && held_then > limit - LU_MIB / 2);
    assert_true(count >= 31);
    for (size_t i = 0; i < count; i++) lu_free(blocks[i]);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
}

/* The callback is asked eight times at most, and only for the limit. */
static void the_callback_is_asked(void **state) {
    (void)state;
    bool again = true;
    volatile size_t most = PTRDIFF_MAX;
    asked = 0;
    (void)lu_purge();
    assert_int_equal(lu_set_limit(lu__span_held() + 4 * LU_MIB, note, &again), 0);
    errno = 0;
    assert_null(lu_malloc(8 * LU_MIB));
    assert_int_equal(errno, ENOMEM);
    assert_int_equal(asked, 8);
    again = false;
    assert_null(lu_malloc(100 * LU_MIB));
    assert_int_equal(asked, 9);
    assert_null(lu_malloc(most + 1));
    assert_int_equal(asked, 9);
    void *block = lu_malloc(LU_MIB);
    assert_non_null(block);
    assert_int_equal(asked, 9);
    lu_free(block);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
}

/* ------------------------------------------------------------------ what counts -------------- */

enum { HEAPS = 2000 };
static lu_heap_t *heaps[HEAPS];

/* How many heaps with a block of `size` bytes each can be had under the limit. */
static size_t make_heaps(size_t size) {
    size_t count = 0;
    for (; count < HEAPS; count++) {
        if ((heaps[count] = lu_heap_create(LU_HEAP_SHARED)) == NULL) break;
        void *block = lu_heap_malloc(heaps[count], size);
        if (block == NULL) {
            lu_heap_destroy(heaps[count]);
            break;
        }
        memset(block, 1, size);
    }
    return count;
}

static void end_heaps(size_t count, size_t limit) {
    for (size_t i = 0; i < count; i++) {
        lu_heap_destroy(heaps[i]);
        assert_true(lu__span_held() <= limit); /* a free never makes it more */
    }
}

/* Of a span that is hardly used little can be resident, and no more is counted: also in further
 * lives of the memory, and when the spans have ended. */
static void what_cannot_be_resident_does_not_count(void **state) {
    (void)state;
    (void)lu_purge();
    size_t of_blocks = HEAPS * LU_OS_PAGE; /* and of structures */
    size_t before = lu__span_held();
    for (size_t i = 0; i < 100; i++) { /* without a limit */
        assert_non_null(heaps[i] = lu_heap_create(LU_HEAP_SHARED));
        assert_non_null(lu_heap_malloc(heaps[i], 100));
    }
    assert_in_range(lu__span_held() - before, 100 * 4096, 100 * (LU_OS_PAGE + 6144) + LU_MIB / 4);
    end_heaps(100, SIZE_MAX);
    size_t limit = lu__span_held() + of_blocks + HEAPS * 6144 + LU_MIB;
    assert_int_equal(lu_set_limit(limit, NULL, NULL), 0);
    for (int life = 0; life < 3; life++) {
        assert_int_equal(make_heaps(100), HEAPS); /* a page each */
        assert_true(lu__span_held() <= limit);
        end_heaps(HEAPS, limit);
    }
    size_t count = make_heaps(20000);
    assert_in_range(count, of_blocks / lu__align_up(20480, LU_OS_PAGE) * 9 / 10, HEAPS);
    end_heaps(count, limit);
    void *block = lu_malloc(of_blocks); /* structures stay */
    assert_non_null(block);
    lu_free(block);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
}

/* What the sweep gives back inside of spans is there for others; when it is used again it counts,
 * and at the limit its blocks cannot be had. */
static void pages_given_back_inside_spans_do_not_count(void **state) {
    (void)state;
    enum { SIZE = 1024, COUNT = 32 * 1024 };
    static void *blocks[COUNT];
    const size_t each = 16 * LU_OS_PAGE / SIZE; /* one page in 16 keeps a block */
    (void)lu_purge();
    size_t before = lu__span_held();
    for (size_t i = 0; i < COUNT; i++) {
        assert_non_null(blocks[i] = lu_malloc(SIZE));
        memset(blocks[i], 1, SIZE);
    }
    assert_in_range(lu__span_held() - before, 32 * LU_MIB, 33 * LU_MIB);
    for (size_t i = 0; i < COUNT; i++) {
        if (i % each != 0) lu_free(blocks[i]);
    }
    size_t limit = before + 34 * LU_MIB;
    assert_int_equal(lu_set_limit(limit, NULL, NULL), 0);
    void *large = lu_malloc(24 * LU_MIB); /* what it takes to have that is done at once */
    assert_non_null(large);
    assert_in_range(lu__span_held() - before, 24 * LU_MIB, 34 * LU_MIB);
    size_t again = 0;
    for (size_t i = 0; i < COUNT; i++) {
        if (i % each == 0) continue;
        if ((blocks[i] = lu_malloc(SIZE)) == NULL) break;
        memset(blocks[i], 2, SIZE);
        assert_true(lu__span_held() <= limit);
        again = i;
    }
    assert_in_range(again, 4 * 1024, 12 * 1024);
    lu_free(large);
    for (size_t i = 0; i < COUNT; i++) {
        if (i % each == 0 || i <= again) lu_free(blocks[i]);
    }
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
}

/* ------------------------------------------------------------------ at once ------------------ */

/* All that is free is had for a huge block at the first try: runs, and what is in spans of this
 * thread, of another that has ended, and of heaps. */
static void *fill_and_free(void *arg) {
    enum { COUNT = 160 };
    lu_heap_t *heap = arg;
    void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = 50000 + i % 4 * 4000;
        blocks[i] = heap != NULL ? lu_heap_malloc(heap, size) : lu_malloc(size);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, size);
    }
    for (size_t i = 0; i < COUNT; i++) lu_free(blocks[i]);
    return NULL;
}

static void all_that_is_free_is_had_at_once(void **state) {
    (void)state;
    enum { TIMES = 20 };
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    (void)lu_purge();
    size_t limit = lu__span_held() + 40 * LU_MIB;
    assert_int_equal(lu_set_limit(limit, NULL, NULL), 0);
    for (int i = 0; i < TIMES; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, fill_and_free, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        (void)fill_and_free(NULL);
        (void)fill_and_free(heap);
        void *block = lu_malloc(40 * LU_MIB - 8 * LU_SLICE);
        assert_non_null(block);
        lu_free(block);
    }
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    lu_heap_destroy(heap);
}

/* ------------------------------------------------------------------ the callback -------------- */

static size_t depth, deepest, refused_inside;

/* It allocates to free: what it asks for at the limit is NULL, and does not ask it again. */
static bool allocate_in_callback(size_t wanted_bytes, size_t held_bytes, void *arg) {
    (void)held_bytes;
    depth++;
    asked++;
    if (depth > deepest) deepest = depth;
    void *block = lu_malloc(wanted_bytes);
    refused_inside += block == NULL && errno == ENOMEM;
    lu_free(block);
    block = lu_heap_malloc(arg, wanted_bytes);
    refused_inside += block == NULL;
    lu_free(block);
    void *small = lu_malloc(100); /* what fits works */
    assert_non_null(small);
    lu_free(small);
    depth--;
    return true;
}

static void a_callback_that_allocates_is_not_asked_again(void **state) {
    (void)state;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    asked = 0;
    assert_int_equal(lu_set_limit(lu__span_held() + 4 * LU_MIB, allocate_in_callback, heap), 0);
    assert_null(lu_malloc(8 * LU_MIB));
    assert_int_equal(asked, 8);
    assert_int_equal(deepest, 1);
    assert_int_equal(refused_inside, 16);
    assert_null(lu_heap_malloc(heap, 100 * LU_MIB)); /* and in the next call it is asked */
    assert_int_equal(asked, 16);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    lu_heap_destroy(heap);
}

static jmp_buf out;

static bool jump_out(size_t wanted_bytes, size_t held_bytes, void *arg) {
    (void)wanted_bytes, (void)held_bytes, (void)arg;
    asked++;
    longjmp(out, 1);
}

/* Left by a jump, it is asked again by the next allocation. */
static void a_callback_may_be_left_by_a_jump(void **state) {
    (void)state;
    asked = 0;
    assert_int_equal(lu_set_limit(lu__span_held() + 4 * LU_MIB, jump_out, NULL), 0);
    for (volatile size_t i = 1; i <= 3; i++) {
        if (setjmp(out) == 0) {
            void *block = lu_malloc(8 * LU_MIB);
            lu_free(block);
            fail();
        }
        assert_int_equal(asked, i);
    }
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(free_memory_goes_back_near_the_limit),
        cmocka_unit_test(empty_spans_go_back_at_the_limit),
        cmocka_unit_test(the_callback_is_asked),
        cmocka_unit_test(what_cannot_be_resident_does_not_count),
        cmocka_unit_test(pages_given_back_inside_spans_do_not_count),
        cmocka_unit_test(all_that_is_free_is_had_at_once),
        cmocka_unit_test(a_callback_that_allocates_is_not_asked_again),
        cmocka_unit_test(a_callback_may_be_left_by_a_jump),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
