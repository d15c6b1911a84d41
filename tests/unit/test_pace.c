/*
 * test_pace.c - no call does work that grows with the number of heaps, spans or threads: what one
 * step does is counted, and that the steps together do all of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "heap/heap.h"
#include "lucid/lucid.h"
#include "os/os.h"

enum { HEAPS = 100, SPANS = 600, BIG = 12000, PER_SPAN = 5, SOME = 8, DRAINED = 64 };

/* ---------------------------------------------------------------- the pool */

static pthread_barrier_t all_there;

static void *have_heap(void *arg) {
    lu_free(lu_malloc(100));
    if (arg != NULL) (void)pthread_barrier_wait(arg);
    return NULL;
}

/* As many threads at once, so that each has a heap of its own. */
static void fill_pool(void) {
    pthread_t threads[HEAPS];
    assert_int_equal(pthread_barrier_init(&all_there, NULL, HEAPS), 0);
    for (size_t i = 0; i < HEAPS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, have_heap, &all_there), 0);
    }
    for (size_t i = 0; i < HEAPS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
}

struct visits {
    struct heap *heaps[4 * HEAPS];
    size_t count;
};

static bool note(struct heap *heap, void *arg) {
    struct visits *visits = arg;
    assert_true(heap->busy);
    assert_true(visits->count < sizeof visits->heaps / sizeof *visits->heaps);
    visits->heaps[visits->count++] = heap;
    return true;
}

static size_t pooled(void) {
    size_t active, count;
    lu__pool_counts(&active, &count);
    return count;
}

static void a_sweep_of_the_pool_visits_a_few_in_turn(void **state) {
    (void)state;
    static struct visits visits;
    fill_pool();
    size_t there = pooled();
    assert_true(there >= HEAPS && there < 2 * HEAPS);
    visits.count = 0;
    assert_true(lu__thread_mark());
    for (size_t before = 0; visits.count < there; before = visits.count) {
        lu__pool_some(note, &visits);
        assert_true(visits.count > before && visits.count - before <= SOME);
    }
    lu__inside_leave();
    assert_int_equal(visits.count, there); /* a round ends where it began */
    for (size_t i = 0; i < there; i++) {
        for (size_t k = 0; k < i; k++) assert_ptr_not_equal(visits.heaps[i], visits.heaps[k]);
    }
    assert_int_equal(pooled(), there);
}

static void count_heap(struct heap *heap, void *arg) {
    (void)heap;
    ++*(size_t *)arg;
}

/* While one heap is visited a thread comes and goes, which has to find another one in the pool. */
static void come_and_go(struct heap *heap, void *arg) {
    pthread_t thread;
    (void)note(heap, arg);
    assert_int_equal(pthread_create(&thread, NULL, have_heap, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void purging_the_pool_ends_while_threads_come_and_go(void **state) {
    (void)state;
    static struct visits visits;
    size_t there = pooled(), heaps = 0, heaps_after = 0;
    lu__heap_each(count_heap, &heaps);
    visits.count = 0;
    assert_true(lu__thread_mark());
    lu__pool_each(come_and_go, &visits);
    lu__inside_leave();
    lu__heap_each(count_heap, &heaps_after);
    assert_true(visits.count <= there && visits.count >= there - 1);
    assert_int_equal(heaps_after, heaps);
}

/* ---------------------------------------------------------------- what others posted */

static void *blocks[SPANS * PER_SPAN];

static void *free_all(void *arg) {
    (void)arg;
    for (size_t i = 0; i < SPANS * PER_SPAN; i++) lu_free(blocks[i]);
    return NULL;
}

static size_t waiting(const struct heap *heap) {
    size_t count = 0;
    for (const struct span *span = heap->pending; span != NULL; span = span->pending_next) count++;
    for (const struct span *span = heap->taken; span != NULL; span = span->pending_next) count++;
    return count;
}

static void a_drain_takes_in_a_bounded_number_of_spans(void **state) {
    (void)state;
    pthread_t thread;
    struct heap *mine = lu__thread_heap();
    for (size_t i = 0; i < SPANS * PER_SPAN; i++) assert_non_null(blocks[i] = lu_malloc(BIG));
    assert_int_equal(pthread_create(&thread, NULL, free_all, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    size_t left = waiting(mine);
    assert_true(left >= SPANS);
    while (left > 0) {
        assert_true(lu__thread_enter() == mine);
        lu__remote_drain(mine);
        lu__thread_leave(mine);
        size_t now = waiting(mine);
        assert_true(now < left && left - now <= DRAINED);
        left = now;
    }
}

/* ---------------------------------------------------------------- a purge that others ask for */

/* Every span half free, so that each is a system call or more to purge. */
static void make_partial(void) {
    for (size_t i = 0; i < SPANS * PER_SPAN; i++) {
        assert_non_null(blocks[i] = lu_malloc(BIG));
        memset(blocks[i], 1, BIG);
    }
    for (size_t i = 0; i < SPANS * PER_SPAN; i++) {
        if (i % PER_SPAN != 0) lu_free(blocks[i]);
    }
}

static void a_purge_that_was_asked_for_is_paced(void **state) {
    (void)state;
    struct heap *mine = lu__thread_heap();
    size_t calls = 0, ticks = 0;
    (void)lu_purge();
    make_partial();
    size_t before = lu__os_call_count();
    __atomic_fetch_add(&lu__purge_request, 1, __ATOMIC_RELAXED);
    do {
        size_t call = lu__os_call_count();
        assert_true(lu__thread_enter() == mine);
        mine->ticked_ms = (uint32_t)lu__os_now_ms() - 1; /* a millisecond has passed */
        lu__tick_slow(mine);
        lu__thread_leave(mine);
        /* The clock may have gone on meanwhile; at most 20 ms count, of 4,000 units of work, of
         * which a purge takes 250. */
        assert_true(lu__os_call_count() - call <= SPANS * 3 / 4);
        assert_true(++ticks < 10 * SPANS);
    } while (mine->urgent != LU_URGENT_NO);
    calls = lu__os_call_count() - before;
    assert_true(LU_OS_PAGE > LU_UNIT || calls >= SPANS / 2); /* at the first visit, all of them */
    for (size_t i = 0; i < SPANS * PER_SPAN; i += PER_SPAN) lu_free(blocks[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sweep_of_the_pool_visits_a_few_in_turn),
        cmocka_unit_test(purging_the_pool_ends_while_threads_come_and_go),
        cmocka_unit_test(a_drain_takes_in_a_bounded_number_of_spans),
        cmocka_unit_test(a_purge_that_was_asked_for_is_paced),
    };
    (void)have_heap(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
