/*
 * test_hard_pace.c - the sweep of a hardened heap looks at a bounded number of spans at a time, and
 * at all of them in the end.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/options.h"
#include "harden/harden.h"
#include "heap/heap.h"
#include "lucid/lucid.h"

enum { SPANS = 500, BIG = 15000, PER_SPAN = 4, UNITS = 50 };

static void *blocks[SPANS * PER_SPAN];

static size_t spans_of(const struct heap *heap) {
    size_t count = 0;
    for (const struct span *span = heap->all; span != NULL; span = span->all_next) count++;
    return count;
}

/* One pass; how many steps it took. */
static size_t sweep_in_steps(struct heap *mine) {
    size_t steps = 0;
    assert_true(lu__thread_enter() == mine);
    lu__hard_sweep_begin(mine, true);
    for (; mine->sweep_at != NULL; steps++) {
        size_t before = spans_of(mine);
        (void)lu__hard_sweep_some(mine, UNITS);
        assert_true(before - spans_of(mine) <= 1); /* which is dear */
        if (steps % 50 == 0) { /* what the pass is about to look at may end meanwhile */
            lu__thread_leave(mine);
            lu_free(lu_malloc(BIG));
            assert_true(lu__thread_enter() == mine);
        }
    }
    lu__thread_leave(mine);
    return steps;
}

static void a_pass_is_paced(void **state) {
    (void)state;
    struct heap *mine = lu__thread_heap();
    for (size_t i = 0; i < SPANS * PER_SPAN; i++) assert_non_null(blocks[i] = lu_malloc(BIG));
    size_t there = spans_of(mine), passes = 0;
    assert_true(there >= SPANS);
    for (size_t i = 0; i < SPANS * PER_SPAN; i++) lu_free(blocks[i]);
    assert_true(sweep_in_steps(mine) >= there / UNITS);
    while (spans_of(mine) >= there / 10) {
        (void)sweep_in_steps(mine);
        assert_true(++passes < 20);
    }
}

static void a_purge_does_all_at_once(void **state) {
    (void)state;
    for (size_t i = 0; i < SPANS * PER_SPAN; i++) assert_non_null(blocks[i] = lu_malloc(BIG));
    size_t there = spans_of(lu__thread_heap());
    for (size_t i = 0; i < SPANS * PER_SPAN; i++) lu_free(blocks[i]);
    (void)lu_purge();
    assert_true(spans_of(lu__thread_heap()) < there / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pass_is_paced),
        cmocka_unit_test(a_purge_does_all_at_once),
    };
    lu__options_read("harden:1"); /* before the first heap */
    lu_free(lu_malloc(1));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
