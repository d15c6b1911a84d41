/*
 * test_held_parts.c - the parts of what is held add up to it, and each byte is in the right one.
 *
 * Run with LUCID_OPTIONS=harden:1 as well, where free blocks are held back and live ones
 * have canaries.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "held.h"
#include "lucid/lucid.h"
#include "os/lock.h"
#include "stats/snapshot.h"

#define COUNT 3000
#define SIZE 1000
#define IDLE_US 1100000 /* a thread is silent after a second */

static bool is_hardened(void) {
    char level[32];
    return lu_option_get("harden", level, sizeof level) == 0 && strcmp(level, "0") != 0;
}

/* What holds of every snapshot, also while other threads allocate. */
static void must_add_up(const lu_stats_t *stats) {
    assert_int_equal(held_sum(&stats->held), stats->held_bytes);
    const lu_held_t *held = &stats->held;
    assert_int_equal(held->live_small + held->live_large + held->live_huge + stats->guarded_bytes,
                     stats->live_bytes);
    assert_int_equal(held->live_large, stats->large_bytes);
    assert_int_equal(held->live_huge, stats->huge_bytes);
    assert_true(stats->held_bytes <= stats->peak_held_bytes);
}

/* And what does if they are silent. */
static lu_stats_t look(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    must_add_up(&stats);
    assert_int_equal(stats.held.transit, 0);
    assert_int_equal(stats.held.free_runs, stats.dirty_bytes);
    assert_int_equal(stats.held_bytes + stats.metadata_bytes + stats.unbacked_bytes,
                     stats.committed_bytes);
    return stats;
}

static void *allocate(size_t size) {
    void *block = lu_malloc(size);
    assert_non_null(block);
    memset(block, 1, size);
    return block;
}

static void live_blocks_are_told_by_size(void **state) {
    (void)state;
    static void *small[COUNT];
    lu_stats_t before = look();
    size_t usable = 0;
    for (size_t i = 0; i < COUNT; i++) usable += lu_usable_size(small[i] = allocate(SIZE));
    void *large = allocate(300000), *huge = allocate((size_t)70 << 20);
    lu_stats_t with = look();
    assert_int_equal(with.held.live_small + with.guarded_bytes - before.held.live_small -
                         before.guarded_bytes,
                     usable);
    size_t above = lu_usable_size(large) + lu_usable_size(huge);
    assert_int_equal(with.held.live_large + with.held.live_huge - before.held.live_large -
                         before.held.live_huge,
                     above);
    if (!is_hardened()) {
        assert_int_equal(with.held.live_huge - before.held.live_huge, lu_usable_size(huge));
    } else { /* a canary each, at least */
        assert_true(with.held.padding - before.held.padding >= (size_t)COUNT * 8);
    }
    for (size_t i = 0; i < COUNT; i++) lu_free(small[i]);
    lu_free(large);
    lu_free(huge);
    lu_stats_t after = look();
    assert_int_equal(after.live_bytes, before.live_bytes);
    assert_int_equal(after.held.padding, before.held.padding);
}

/* Of COUNT blocks all but every eighth are free, so that no span goes back. */
static void leave_gaps(void **blocks) {
    for (size_t i = 0; i < COUNT; i++) {
        if (i % 8 != 0) lu_free(blocks[i]);
    }
}

#define FREED ((size_t)COUNT / 8 * 7 * SIZE)

static void free_blocks_of_the_caller_are_a_busy_threads(void **state) {
    (void)state;
    static void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) blocks[i] = allocate(SIZE);
    lu_stats_t before = look();
    leave_gaps(blocks);
    lu_stats_t with = look();
    size_t became_free = with.held.free_active + with.held.quarantine - before.held.free_active -
                         before.held.quarantine;
    assert_in_range(became_free, FREED - FREED / 8, FREED + FREED / 8);
    if (is_hardened()) assert_true(with.held.quarantine > before.held.quarantine);
    if (!is_hardened()) assert_int_equal(with.held.quarantine, 0);
    for (size_t i = 0; i < COUNT; i += 8) lu_free(blocks[i]);
}

struct worker {
    void *blocks[COUNT];
    pthread_t thread;
    pthread_barrier_t barrier;
    bool leaves_gaps;
};

static void *work(void *arg) {
    struct worker *worker = arg;
    for (size_t i = 0; i < COUNT; i++) worker->blocks[i] = allocate(SIZE);
    if (worker->leaves_gaps) leave_gaps(worker->blocks);
    pthread_barrier_wait(&worker->barrier); /* done */
    pthread_barrier_wait(&worker->barrier); /* may end */
    return NULL;
}

static void start(struct worker *worker, bool leaves_gaps) {
    worker->leaves_gaps = leaves_gaps;
    assert_int_equal(pthread_barrier_init(&worker->barrier, NULL, 2), 0);
    assert_int_equal(pthread_create(&worker->thread, NULL, work, worker), 0);
    pthread_barrier_wait(&worker->barrier);
}

static void end(struct worker *worker) {
    pthread_barrier_wait(&worker->barrier);
    assert_int_equal(pthread_join(worker->thread, NULL), 0);
    assert_int_equal(pthread_barrier_destroy(&worker->barrier), 0);
}

static void free_blocks_of_silent_and_ended_threads(void **state) {
    (void)state;
    static struct worker worker;
    lu_stats_t before = look();
    start(&worker, true);
    usleep(IDLE_US);
    lu_stats_t silent = look();
    size_t became_free = silent.held.free_idle + silent.held.quarantine - before.held.free_idle -
                         before.held.quarantine;
    assert_in_range(became_free, FREED - FREED / 8, FREED + FREED / 8);
    end(&worker);
    lu_stats_t ended = look();
    assert_in_range(ended.held.free_ended - before.held.free_ended, FREED / 2, FREED + FREED / 8);
    assert_in_range(ended.held.free_idle, 0, FREED / 8);
    for (size_t i = 0; i < COUNT; i += 8) lu_free(worker.blocks[i]);
}

/* Of hardened heaps what others free is held back by those, so it waits nowhere. */
static void what_others_free_waits_for_the_owner(void **state) {
    (void)state;
    static struct worker worker;
    start(&worker, false);
    lu_stats_t before = look();
    leave_gaps(worker.blocks);
    lu_stats_t with = look();
    if (!is_hardened()) {
        size_t waits = with.held.waiting - before.held.waiting;
        assert_in_range(waits, FREED / 2, FREED + FREED / 8); /* some is collected, not posted */
    }
    assert_true(with.live_bytes <= before.live_bytes - FREED / 2);
    end(&worker);
    assert_int_equal(look().held.waiting, 0);
    for (size_t i = 0; i < COUNT; i += 8) lu_free(worker.blocks[i]);
}

static void free_blocks_of_heaps_are_theirs(void **state) {
    (void)state;
    static void *blocks[COUNT];
    lu_stats_t before = look();
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    assert_non_null(heap);
    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = lu_heap_malloc(heap, SIZE);
        assert_non_null(blocks[i]);
        memset(blocks[i], 1, SIZE);
    }
    leave_gaps(blocks);
    lu_stats_t with = look();
    size_t became_free = with.held.free_user + with.held.quarantine - before.held.free_user -
                         before.held.quarantine;
    assert_in_range(became_free, FREED - FREED / 8, FREED + FREED / 8);
    lu_heap_destroy(heap);
    assert_int_equal(look().held.free_user, before.held.free_user);
}

/* ---------------------------------------------------------------- while others allocate */

static atomic_bool stop;

static void *churn(void *arg) {
    static _Atomic(void *) shared[64]; /* so that blocks are freed by others, too */
    uint64_t random = (uintptr_t)arg + 1;
    while (!atomic_load(&stop)) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t size = random >> 60 == 0 ? 1 + random % 400000 : 1 + (random >> 33) % 3000;
        void *block = lu_malloc(size);
        if (block != NULL) memset(block, 1, size);
        lu_free(atomic_exchange(&shared[random >> 58], block));
    }
    if (arg == NULL) {
        for (size_t i = 0; i < 64; i++) lu_free(atomic_exchange(&shared[i], NULL));
    }
    return NULL;
}

static void parts_add_up_at_every_moment(void **state) {
    (void)state;
    pthread_t threads[3];
    atomic_store(&stop, false);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, churn, (void *)i), 0);
    }
    for (int i = 0; i < 300; i++) {
        lu_stats_t stats;
        lu_stats_get(&stats);
        must_add_up(&stats);
    }
    atomic_store(&stop, true);
    for (size_t i = 3; i-- > 0;) assert_int_equal(pthread_join(threads[i], NULL), 0);
    (void)look();
}

/* ---------------------------------------------------------------- the balance itself */

static void what_is_too_much_is_taken_from_free_parts(void **state) {
    (void)state;
    lu_stats_t stats = {.held_bytes = 100};
    stats.held = (lu_held_t){.live_small = 60, .free_active = 30, .free_idle = 20, .padding = 5};
    lu__held_balance(&stats);
    assert_int_equal(stats.held_bytes, 100);
    assert_int_equal(stats.held.free_active, 15);
    assert_int_equal(stats.held.free_idle, 20);
    assert_int_equal(stats.held.transit, 0);
    stats.held_bytes = 110;
    lu__held_balance(&stats);
    assert_int_equal(stats.held.transit, 10);
    stats.held_bytes = 50; /* less than is live: it was more */
    lu__held_balance(&stats);
    assert_int_equal(stats.held_bytes, 60);
    assert_int_equal(held_sum(&stats.held), 60);
    assert_true(stats.peak_held_bytes >= 60);
}

static void inside_there_are_no_figures(void **state) {
    (void)state;
    lu_stats_t stats;
    lu_stats_get(&stats);
    assert_true(lu__stats_has_memory(&stats));
    assert_true(lu__inside_enter()); /* as if a signal had interrupted malloc */
    lu_stats_get(&stats);
    lu__inside_leave();
    assert_false(lu__stats_has_memory(&stats));
    assert_int_equal(stats.held_bytes, 0);
    assert_int_equal(held_sum(&stats.held), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(live_blocks_are_told_by_size),
        cmocka_unit_test(free_blocks_of_the_caller_are_a_busy_threads),
        cmocka_unit_test(free_blocks_of_silent_and_ended_threads),
        cmocka_unit_test(what_others_free_waits_for_the_owner),
        cmocka_unit_test(free_blocks_of_heaps_are_theirs),
        cmocka_unit_test(parts_add_up_at_every_moment),
        cmocka_unit_test(what_is_too_much_is_taken_from_free_parts),
        cmocka_unit_test(inside_there_are_no_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
