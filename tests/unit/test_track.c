/*
 * test_track.c - live blocks that look free: told apart exactly, and without long searches.
 *
 * A block looks free when its first word is a link of its span: here a word that is copied from a
 * free block. What a search costs is counted in steps (lu__link_steps), not timed. Then what is
 * free stands in a bitmap, and every call must go on as if it were on a list.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "heap/heap.h"
#include "heap/track.h"
#include "lucid/lucid.h"

enum { MOST = 20000, ALARMS = 100000 };

static char *blocks[MOST];
static size_t violations;
static lu_violation_kind_t kind;
static const void *reported;

static bool on_violation(const lu_violation_t *violation, void *arg) {
    (void)arg;
    violations++;
    kind = violation->kind;
    reported = violation->block;
    return true;
}

static struct span *span_of(const void *block) {
    return lu__span_of(lu__region_of(block), block);
}

/* A word that looks like a link in a block of the span, and leads to the end. */
static void look_free(void *block) {
    *(volatile uintptr_t *)block = (LU_LIST_END ^ (uintptr_t)block) ^ span_of(block)->key;
}

/* Fill whole spans, and free all but every `keep`-th block. */
static void make_lists(size_t size, size_t keep) {
    for (size_t i = 0; i < MOST; i++) assert_non_null(blocks[i] = lu_malloc(size));
    for (size_t i = 0; i < MOST; i++) {
        if (i % keep == 0) continue;
        lu_free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void free_all(void) {
    for (size_t i = 0; i < MOST; i++) {
        lu_free(blocks[i]);
        blocks[i] = NULL;
    }
}

static uint64_t steps(void) {
    return __atomic_load_n(&lu__link_steps, __ATOMIC_RELAXED);
}

static void expect_double_free(void *block) {
    size_t before = violations;
    lu_free(block);
    assert_int_equal(violations, before + 1);
    assert_int_equal(kind, LU_DOUBLE_FREE);
    assert_ptr_equal(reported, block);
}

/* ------------------------------------------------------------------ what it costs ------------ */

/* On average: a look at what was freed since, and at what a refill brought. */
enum { STEPS_MOST = 130 };

static void expect_steps(const char *what, size_t size, uint64_t since, size_t most) {
    uint64_t average = (steps() - since) / ALARMS;
    print_message("%s of %zu bytes: %u steps\n", what, size, (unsigned)average);
    assert_in_range(average, 0, most);
}

static void taken_and_freed(size_t size) {
    make_lists(size, 4000);
    uint64_t before = steps();
    for (size_t i = 0; i < ALARMS; i++) {
        void *block = lu_malloc(size);
        assert_non_null(block);
        look_free(block);
        lu_free(block);
    }
    expect_steps("malloc and free", size, before, STEPS_MOST);
    free_all();
}

static void freed_in_rows(size_t size, size_t row) {
    make_lists(size, MOST + 1);
    uint64_t before = steps();
    for (size_t done = 0; done < ALARMS; done += row) {
        for (size_t i = 0; i < row; i++) assert_non_null(blocks[i] = lu_malloc(size));
        for (size_t i = 0; i < row; i++) {
            look_free(blocks[i]);
            lu_free(blocks[i]);
            blocks[i] = NULL;
        }
    }
    expect_steps("rows", size, before, STEPS_MOST);
}

static void resized_in_place(size_t size) {
    make_lists(size, 4000);
    uint64_t before = steps();
    char *block = lu_malloc(size);
    for (size_t i = 0; i < ALARMS; i++) {
        look_free(block);
        assert_ptr_equal(lu_realloc(block, size), block);
        assert_int_equal(lu_usable_size(block), lu_good_size(size));
    }
    expect_steps("realloc and usable size", size, before, 2 * STEPS_MOST);
    lu_free(block);
    free_all();
}

static void false_alarms_are_cheap(void **state) {
    (void)state;
    static const size_t sizes[] = {8, 32, 112, 400};
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        taken_and_freed(sizes[i]);
        freed_in_rows(sizes[i], 7);
        freed_in_rows(sizes[i], 1000);
        freed_in_rows(sizes[i], MOST);
        resized_in_place(sizes[i]);
    }
}

static void false_alarms_of_a_heap_are_cheap(void **state) {
    (void)state;
    static const unsigned flags[] = {LU_HEAP_SHARED, LU_HEAP_SINGLE_THREADED};
    for (size_t f = 0; f < LU_COUNT_OF(flags); f++) {
        lu_heap_t *heap = lu_heap_create(flags[f]);
        assert_non_null(heap);
        for (size_t i = 0; i < MOST; i++) blocks[i] = lu_heap_malloc(heap, 16);
        for (size_t i = 1; i < MOST; i++) lu_heap_free(heap, blocks[i]);
        uint64_t before = steps();
        for (size_t i = 0; i < ALARMS; i++) {
            void *block = lu_heap_malloc(heap, 16);
            look_free(block);
            lu_heap_free(heap, block); /* two searches: which heap, and the free itself */
        }
        expect_steps("lu_heap_free", 16, before, 2 * STEPS_MOST);
        lu_heap_destroy(heap);
        memset(blocks, 0, sizeof blocks);
    }
}

static void *take_and_give(void *arg) {
    enum { ROW = 100 };
    char **row = arg;
    for (size_t i = 0; i < ROW; i++) {
        look_free(row[i]);
        lu_free(row[i]);
    }
    return NULL;
}

/* Another thread's list: it is shortened when that thread refills it. */
static void false_alarms_of_other_threads_are_few_steps(void **state) {
    enum { ROW = 100, ROUNDS = 300 };
    static char *row[ROW];
    (void)state;
    make_lists(16, 1000);
    uint64_t before = 0;
    for (size_t round = 0; round < ROUNDS; round++) {
        pthread_t thread;
        for (size_t i = 0; i < ROW; i++) assert_non_null(row[i] = lu_malloc(16));
        assert_int_equal(pthread_create(&thread, NULL, take_and_give, row), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        if (round == ROUNDS / 2) before = steps();
    }
    uint64_t average = (steps() - before) / (ROUNDS / 2 * ROW);
    print_message("another thread: %u steps\n", (unsigned)average);
    assert_in_range(average, 0, 2 * STEPS_MOST);
    free_all();
}

/* ------------------------------------------------------------------ what is told ------------- */

/* Of a span with blocks live, on the list and in the bitmap: the live ones in blocks[], the others
 * in gone[]. */
enum { CROWD = 4000, LIVE_EACH = 5 };
static char *gone[CROWD];
static size_t gone_count;

static struct span *crowd(size_t size) {
    gone_count = 0;
    for (size_t i = 0; i < CROWD; i++) assert_non_null(blocks[i] = lu_malloc(size));
    struct span *span = span_of(blocks[CROWD / 2]);
    for (size_t i = 0; i < CROWD; i++) {
        if (i % LIVE_EACH == 0) continue;
        if (span_of(blocks[i]) == span) gone[gone_count++] = blocks[i];
        lu_free(blocks[i]);
        blocks[i] = NULL;
    }
    for (size_t i = 0; i < CROWD; i += LIVE_EACH) {
        if (span_of(blocks[i]) != span) continue;
        look_free(blocks[i]);
        assert_int_equal(lu_usable_size(blocks[i]), size);
    }
    assert_true(lu__track_count(span) > 100);
    return span;
}

static bool in_use_again(const void *block, char **again, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (again[i] == block) return true;
    }
    return false;
}

static void what_is_free_is_told_from_what_is_not(void **state) {
    (void)state;
    enum { AGAIN = 300 };
    static char *again[AGAIN];
    lu_set_violation_handler(on_violation, NULL);
    struct span *span = crowd(16);
    for (size_t i = 0; i < gone_count; i++) expect_double_free(gone[i]);
    for (size_t i = 0; i < gone_count; i += 10) {
        size_t before = violations;
        assert_null(lu_realloc(gone[i], 16));
        assert_int_equal(lu_usable_size(gone[i]), 0);
        assert_int_equal(violations, before + 2);
    }
    for (size_t i = 0; i < AGAIN; i++) assert_non_null(again[i] = lu_malloc(16));
    for (size_t i = 0; i < gone_count; i++) {
        if (!in_use_again(gone[i], again, AGAIN)) expect_double_free(gone[i]);
    }
    size_t before = violations;
    for (size_t i = 0; i < AGAIN; i++) {
        look_free(again[i]);
        lu_free(again[i]);
    }
    for (size_t i = 0; i < AGAIN; i++) {
        if (span_of(again[i]) == span) expect_double_free(again[i]);
    }
    assert_true(violations > before);
    before = violations;
    free_all();
    assert_int_equal(violations, before);
    lu_set_violation_handler(NULL, NULL);
}

static size_t live_blocks(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.live_blocks;
}

static void figures_count_blocks_of_the_bitmap_as_free(void **state) {
    (void)state;
    size_t before = live_blocks();
    (void)crowd(16);
    assert_int_equal(live_blocks() - before, CROWD / LIVE_EACH);
    (void)lu_purge(); /* ends the bitmap */
    assert_int_equal(live_blocks() - before, CROWD / LIVE_EACH);
    free_all();
    assert_int_equal(live_blocks(), before);
}

/* After a purge the blocks are on lists and purged pages again, and all of them come back. */
static void a_purge_ends_the_bitmap(void **state) {
    (void)state;
    lu_set_violation_handler(on_violation, NULL);
    struct span *span = crowd(48);
    size_t before = violations;
    (void)lu_purge();
    assert_int_equal(lu__track_count(span), 0);
    for (size_t i = 0; i < gone_count; i++) expect_double_free(gone[i]);
    before = violations;
    for (size_t i = 0; i < CROWD; i++) {
        if (blocks[i] == NULL) assert_non_null(blocks[i] = lu_malloc(48));
        memset(blocks[i], (int)i, 48);
    }
    for (size_t i = 0; i < CROWD; i++) {
        for (size_t k = 0; k < 48; k++) assert_int_equal((unsigned char)blocks[i][k], i % 256);
    }
    free_all();
    assert_int_equal(violations, before);
    lu_set_violation_handler(NULL, NULL);
}

/* No block is given twice, whatever is in between. */
static void blocks_come_back_once(void **state) {
    (void)state;
    for (size_t round = 0; round < 50; round++) {
        (void)crowd(32);
        for (size_t i = 0; i < CROWD; i++) {
            if (blocks[i] == NULL) assert_non_null(blocks[i] = lu_malloc(32));
            memset(blocks[i], 0, 32);
            memcpy(blocks[i], &i, sizeof i);
            if (i % 97 == 0) { /* a false alarm that puts the list aside */
                look_free(blocks[i]);
                assert_int_equal(lu_usable_size(blocks[i]), 32);
                memcpy(blocks[i], &i, sizeof i);
            }
        }
        for (size_t i = 0; i < CROWD; i++) assert_memory_equal(blocks[i], &i, sizeof i);
        free_all();
    }
}

/* Written to while in the bitmap: reported when it comes back, as on a list. */
static void damage_is_found_when_a_block_comes_back(void **state) {
    (void)state;
    struct span *span = crowd(16);
    char *damaged = NULL;
    for (size_t i = 0; i < gone_count && damaged == NULL; i++) {
        if (lu__track_has(span, (uintptr_t)gone[i])) damaged = gone[i];
    }
    assert_non_null(damaged);
    *(volatile uint64_t *)damaged = 77;
    lu_set_violation_handler(on_violation, NULL);
    violations = 0;
    for (size_t i = 0; i < CROWD; i++) {
        if (blocks[i] == NULL) assert_non_null(blocks[i] = lu_malloc(16));
    }
    assert_int_equal(violations, 1);
    assert_int_equal(kind, LU_CORRUPT_LINK);
    assert_ptr_equal(reported, damaged);
    lu_set_violation_handler(NULL, NULL);
    free_all();
}

/* A link to a place outside its span, but in the window of links. */
static void a_link_out_of_the_span_is_seen(void **state) {
    (void)state;
    struct span *span = crowd(16);
    uintptr_t forged = *span->list;
    assert_true(forged != LU_LIST_END);
    lu_set_violation_handler(on_violation, NULL);
    violations = 0;
    *(volatile uintptr_t *)forged = span->key ^ (LU_SLICE + 16); /* of a neighbour */
    (void)lu__track_refill(lu__thread_heap(), span);
    assert_int_equal(violations, 1);
    assert_int_equal(kind, LU_CORRUPT_LINK);
    assert_ptr_equal(reported, forged);
    lu_set_violation_handler(NULL, NULL);
    free_all();
}

/* Freed again with another word in it, so that it does not look free: found when the list is put
 * into the bitmap. */
static void a_block_of_list_and_bitmap_is_found(void **state) {
    (void)state;
    struct span *span = crowd(16);
    char *twice = NULL;
    for (size_t i = 0; i < gone_count; i++) {
        if (lu__track_has(span, (uintptr_t)gone[i])) twice = gone[i];
    }
    assert_non_null(twice);
    lu_set_violation_handler(on_violation, NULL);
    violations = 0;
    *(volatile uint64_t *)twice = 77;
    lu_free(twice);
    (void)lu__track_refill(lu__thread_heap(), span);
    assert_int_equal(violations, 1);
    assert_int_equal(kind, LU_DOUBLE_FREE);
    assert_ptr_equal(reported, twice);
    for (size_t i = 0; i < CROWD; i++) {
        if (blocks[i] == NULL) assert_non_null(blocks[i] = lu_malloc(16));
    }
    free_all();
    assert_int_equal(violations, 1);
    lu_set_violation_handler(NULL, NULL);
}

/* ------------------------------------------------------------------ threads and heaps -------- */

static void *free_given(void *arg) {
    char **given = arg;
    for (size_t i = 0; i < gone_count; i += 50) expect_double_free(gone[i]);
    for (size_t i = 0; i < CROWD; i += LIVE_EACH) {
        look_free(given[i]);
        lu_free(given[i]);
        if (i % 100 == 0) expect_double_free(given[i]); /* collected, or posted */
        given[i] = NULL;
    }
    return NULL;
}

static void other_threads_tell_them_apart(void **state) {
    (void)state;
    pthread_t thread;
    size_t before = live_blocks();
    (void)crowd(16);
    lu_set_violation_handler(on_violation, NULL);
    assert_int_equal(pthread_create(&thread, NULL, free_given, blocks), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    lu_set_violation_handler(NULL, NULL);
    (void)lu_purge();
    assert_int_equal(live_blocks(), before);
}

static pthread_barrier_t barrier;

static void *free_and_wait(void *block) {
    lu_free(block);
    pthread_barrier_wait(&barrier); /* it is collected, and nobody has posted it */
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void *free_again(void *block) {
    lu_free(lu_malloc(1));
    expect_double_free(block);
    return NULL;
}

/* What one thread collects is found by the owner, and by a third thread. */
static void a_block_that_another_thread_collects_is_found(void **state) {
    (void)state;
    pthread_t thread, third;
    char *block = lu_malloc(208);
    assert_non_null(block);
    lu_set_violation_handler(on_violation, NULL);
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&thread, NULL, free_and_wait, block), 0);
    pthread_barrier_wait(&barrier);
    assert_int_equal(span_of(block)->rings, 1);
    expect_double_free(block);
    assert_int_equal(pthread_create(&third, NULL, free_again, block), 0);
    assert_int_equal(pthread_join(third, NULL), 0);
    pthread_barrier_wait(&barrier);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(span_of(block)->rings, 0);
    expect_double_free(block); /* posted */
    lu_set_violation_handler(NULL, NULL);
}

static void *leave_a_crowd(void *arg) {
    *(struct span **)arg = crowd(16);
    return NULL;
}

/* The heap of a thread that ended, and the next thread to use it. */
static void *take_over(void *arg) {
    struct span *span = *(struct span **)arg;
    for (size_t i = 0; i < gone_count; i += 7) {
        if (lu__track_has(span, (uintptr_t)gone[i])) expect_double_free(gone[i]);
    }
    for (size_t i = 0; i < CROWD; i++) {
        if (blocks[i] == NULL) assert_non_null(blocks[i] = lu_malloc(16));
        memset(blocks[i], (int)i, 16);
    }
    for (size_t i = 0; i < CROWD; i++) {
        for (size_t k = 0; k < 16; k++) assert_int_equal((unsigned char)blocks[i][k], i % 256);
    }
    free_all();
    return NULL;
}

static void a_bitmap_outlives_its_thread(void **state) {
    (void)state;
    pthread_t thread;
    struct span *span;
    size_t before = live_blocks();
    lu_set_violation_handler(on_violation, NULL);
    assert_int_equal(pthread_create(&thread, NULL, leave_a_crowd, &span), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(lu__track_count(span) > 100);
    assert_int_equal(live_blocks() - before, CROWD / LIVE_EACH);
    assert_int_equal(pthread_create(&thread, NULL, take_over, &span), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    lu_set_violation_handler(NULL, NULL);
    assert_int_equal(live_blocks(), before);
}

static size_t visited;
static bool visit(void *block, size_t bytes, void *arg) {
    (void)bytes;
    look_free(block); /* a search, and an alarm, under the lock */
    assert_int_equal(lu_usable_size(block), *(size_t *)arg);
    visited++;
    return true;
}

static void a_heap_is_walked_and_ends(void **state) {
    (void)state;
    size_t size = 16, kept = 0;
    for (size_t round = 0; round < 20; round++) {
        lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
        assert_non_null(heap);
        kept = 0;
        for (size_t i = 0; i < CROWD; i++) assert_non_null(blocks[i] = lu_heap_malloc(heap, size));
        for (size_t i = 0; i < CROWD; i++) {
            if (i % 3 != 0) lu_heap_free(heap, blocks[i]);
        }
        for (size_t i = 0; i < CROWD; i += 3, kept++) {
            look_free(blocks[i]);
            assert_int_equal(lu_usable_size(blocks[i]), size);
        }
        assert_true(lu__track_count(span_of(blocks[0])) > 100);
        visited = 0;
        assert_true(lu_heap_walk(heap, visit, &size));
        assert_int_equal(visited, kept);
        lu_heap_destroy(heap);
    }
    memset(blocks, 0, sizeof blocks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(false_alarms_are_cheap),
        cmocka_unit_test(false_alarms_of_a_heap_are_cheap),
        cmocka_unit_test(false_alarms_of_other_threads_are_few_steps),
        cmocka_unit_test(what_is_free_is_told_from_what_is_not),
        cmocka_unit_test(figures_count_blocks_of_the_bitmap_as_free),
        cmocka_unit_test(a_purge_ends_the_bitmap),
        cmocka_unit_test(blocks_come_back_once),
        cmocka_unit_test(damage_is_found_when_a_block_comes_back),
        cmocka_unit_test(a_link_out_of_the_span_is_seen),
        cmocka_unit_test(a_block_of_list_and_bitmap_is_found),
        cmocka_unit_test(other_threads_tell_them_apart),
        cmocka_unit_test(a_block_that_another_thread_collects_is_found),
        cmocka_unit_test(a_bitmap_outlives_its_thread),
        cmocka_unit_test(a_heap_is_walked_and_ends),
    };
    lu_option_set("purge_delay", "-1"); /* bitmaps end when a test says so, not by the clock */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
