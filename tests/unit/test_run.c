/* test_run.c - runs of slices: tiling, merging, alignment, purging, growing, rebuilding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/options.h"
#include "inside.h"
#include "os/os.h"
#include "span/run_parts.h"

#define LIVE 64

/* Walk head to head: the region must be tiled, figures must add up, no two free runs of a kind
 * may be neighbours. */
static void check_regions(void) {
    size_t used = 0, dirty = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        int before = -1;
        for (size_t slice = 0; slice < region->top;) {
            const struct span *run = lu__region_desc(region, slice);
            assert_true(run->slices > 0);
            assert_true(slice + run->slices <= region->top);
            int now = -1;
            if (run->kind == LU_KIND_FREE) {
                now = run->zero;
                assert_int_not_equal(now, before);
                if (!run->zero) dirty += lu__span_bytes(run);
                if (run->slices > 1) assert_int_equal(run[run->slices - 1].kind, LU_KIND_TAIL);
            } else {
                assert_true(run->kind == LU_KIND_LARGE || run->kind == LU_KIND_META ||
                            run->kind == LU_KIND_SMALL);
                used += lu__span_bytes(run);
            }
            for (uint32_t k = 1; k + 1 < run->slices; k++) {
                if (run->kind != LU_KIND_SMALL) assert_int_equal(run[k].kind, LU_KIND_NONE);
            }
            before = now;
            slice += run->slices;
        }
        assert_true(region->top <= region->ready);
    }
    assert_int_equal(used, lu__span_figures.used);
    assert_int_equal(dirty, lu__span_figures.dirty);
}

static struct span *alloc_run(size_t slices, size_t align) {
    bool zero;
    struct span *run = lu__run_alloc(slices, align, LU_KIND_LARGE, &zero);
    assert_non_null(run);
    assert_int_equal(((uintptr_t)lu__span_start(run) >> LU_SLICE_SHIFT) % align, 0);
    const char *bytes = lu__span_start(run);
    if (zero) {
        for (size_t i = 0; i < lu__span_bytes(run); i += 4096) assert_int_equal(bytes[i], 0);
    }
    memset(lu__span_start(run), 0x5a, lu__span_bytes(run));
    return run;
}

static void random_runs_tile_the_region(void **state) {
    (void)state;
    struct span *live[LIVE] = {0};
    uint64_t random = 42;
    for (int step = 0; step < 4000; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t i = (random >> 33) % LIVE, what = (random >> 50) % 8;
        size_t slices = 1 + (random >> 40) % 24;
        if (live[i] == NULL) {
            live[i] = alloc_run(slices, (size_t)1 << (random >> 20) % 4);
        } else if (what == 0 && live[i]->slices > 1) {
            lu__run_shrink(live[i], 1 + live[i]->slices / 2 - 1 + (live[i]->slices == 1));
        } else if (what == 1) {
            size_t more = live[i]->slices + slices;
            if (lu__run_grow(live[i], more)) assert_int_equal(live[i]->slices, more);
        } else if (what == 2) {
            (void)lu__run_purge(8 * LU_SLICE);
        } else {
            lu__run_free(live[i]);
            live[i] = NULL;
        }
        if (step % 16 == 0) check_regions();
    }
    for (size_t i = 0; i < LIVE; i++) {
        if (live[i] != NULL) lu__run_free(live[i]);
    }
    check_regions();
    lu__run_rebuild();
    check_regions();
    (void)lu__run_purge(SIZE_MAX);
    check_regions();
    assert_int_equal(lu__span_figures.dirty, 0);
    assert_int_equal(lu__span_figures.used, 0);
}

static void young_runs_are_not_purged(void **state) {
    (void)state;
    uint64_t now = lu__os_now_ms();
    struct span *run = alloc_run(4, 1);
    lu__run_free(run);
    assert_int_equal(lu__run_purge_due(now + 1, false, SIZE_MAX), 0);
    assert_int_equal(lu__run_purge_due(now + 60000, false, LU_SLICE), LU_SLICE); /* in pieces */
    assert_int_equal(lu__run_purge_due(now + 60000, false, SIZE_MAX), 3 * LU_SLICE);
}

static void addresses_lead_to_their_runs(void **state) {
    (void)state;
    struct span *run = alloc_run(5, 1);
    char *start = lu__span_start(run);
    const struct region *region = lu__region_of(start);
    assert_non_null(region);
    for (size_t i = 0; i < lu__span_bytes(run); i += 1000) {
        assert_ptr_equal(lu__span_of(region, start + i), run);
    }
    int on_stack;
    assert_null(lu__region_of(&on_stack));
    assert_null(lu__region_of(NULL));
    assert_ptr_equal(lu__region_of_desc(run), region);
    assert_null(lu__region_of_desc((const struct span *)(const void *)start));
    assert_null(lu__region_of(run));
    assert_true(lu__region_is_table(run));
    lu__run_free(run);
}

static void limit_is_obeyed(void **state) {
    (void)state;
    bool zero;
    (void)lu__run_purge(SIZE_MAX);
    lu__span_figures.limit = lu__span_held() + 8 * LU_SLICE;
    struct span *run = alloc_run(8, 1);
    assert_null(lu__run_alloc(1, 1, LU_KIND_LARGE, &zero));
    lu__run_free(run); /* dirty memory counts, but makes way */
    run = alloc_run(6, 1);
    lu__run_free(run);
    lu__span_figures.limit = 0;
}

/* Of more than 64 runs in one bin only the one that came first has room: a search that looks at the
 * first 16 does not see it, the one for when nothing else is left does. */
static void a_search_of_all_finds_the_one_run_that_fits(void **state) {
    (void)state;
    enum { RUNS = 150 };
    struct span *runs[RUNS];
    (void)lu__run_purge(SIZE_MAX);
    lu__option_set_number(LU_OPT_PURGE_DELAY, -1, "test"); /* nor does a flood take a piece of it */
    for (size_t i = 0; i < RUNS; i++) runs[i] = alloc_run(i == 0 ? 23 : i % 2 == 0 ? 22 : 1, 1);
    for (size_t i = 0; i < RUNS; i += 2) lu__run_free(runs[i]);
    struct lu__bins_search search = {.slices = 23, .align_slices = 1};
    struct span *found = NULL;
    size_t rounds = 0;
    for (; found == NULL && !search.done; rounds++) found = lu__bins_search(&search);
    assert_ptr_equal(found, runs[0]);
    assert_true(rounds > 1); /* with the lock free in between */
    search = (struct lu__bins_search){.slices = 24, .align_slices = 1};
    for (found = NULL; found == NULL && !search.done;) {
        found = lu__bins_search(&search);
        if (found != NULL) assert_true(found->slices >= 24);
    }
    for (size_t i = 1; i < RUNS; i += 2) lu__run_free(runs[i]);
    lu__option_set_number(LU_OPT_PURGE_DELAY, 500, "test");
    check_regions();
    (void)lu__run_purge(SIZE_MAX);
}

/* | before | hole or clean | dirty | hole or clean | behind |, each of 16 slices, at the top. */
struct pieces {
    struct span *before, *first, *middle, *last, *behind;
};

static struct pieces make_pieces(void) {
    (void)lu__run_purge(SIZE_MAX);
    (void)lu__run_unmap_clean();
    struct pieces p = {0};
    struct span **runs[] = {&p.before, &p.first, &p.middle, &p.last, &p.behind};
    for (size_t i = 0; i < 5; i++) *runs[i] = alloc_run(16, 1);
    for (size_t i = 1; i < 5; i++) assert_ptr_equal(*runs[i], *runs[i - 1] + 16);
    lu__run_free(p.first);
    lu__run_free(p.last);
    assert_int_equal(lu__run_purge(SIZE_MAX), 32 * LU_SLICE);
    lu__run_free(p.middle);
    check_regions();
    return p;
}

static void end_pieces(const struct pieces *p, struct span *run) {
    lu__run_free(run);
    lu__run_free(p->before);
    lu__run_free(p->behind);
    check_regions();
    lu__run_rebuild();
    check_regions();
}

static uint32_t top_of(const struct span *run) {
    return lu__region_of_desc(run)->top;
}

static void dirty_memory_is_used_with_what_lies_beside_it(void **state) {
    (void)state;
    lu__option_set_number(LU_OPT_PURGE_DELAY, -1, "test");
    struct pieces p = make_pieces();
    uint32_t top = top_of(p.before);
    size_t holes = lu__bins_holes(), mapped = lu__span_figures.mapped;
    struct span *run = alloc_run(40, 1); /* all of what lies behind, half of what is in front */
    assert_ptr_equal(run, p.first + 8);
    assert_int_equal(top_of(run), top);
    assert_true(lu__span_figures.mapped <= mapped + 24 * LU_SLICE);
    assert_true(lu__bins_holes() <= holes);
    check_regions();
    end_pieces(&p, run);

    p = make_pieces();
    run = alloc_run(48, 1);
    assert_ptr_equal(run, p.first);
    end_pieces(&p, run);

    p = make_pieces();
    run = alloc_run(49, 1); /* there is not so much in one piece */
    assert_true(run >= p.behind + 16 || run + 49 <= p.before);
    end_pieces(&p, run);
    lu__option_set_number(LU_OPT_PURGE_DELAY, 500, "test");
    (void)lu__run_purge(SIZE_MAX);
}

/* What becomes dirty is held from then on. */
static void gathering_obeys_the_limit(void **state) {
    (void)state;
    bool zero;
    lu__option_set_number(LU_OPT_PURGE_DELAY, -1, "test");
    struct pieces p = make_pieces();
    lu__span_figures.limit = lu__span_held() + 23 * LU_SLICE;
    assert_null(lu__run_alloc(40, 1, LU_KIND_LARGE, &zero));
    check_regions();
    assert_true(lu__span_held() <= lu__span_figures.limit);
    struct span *run = alloc_run(39, 1);
    lu__span_figures.limit = 0;
    end_pieces(&p, run);
    lu__option_set_number(LU_OPT_PURGE_DELAY, 500, "test");
    (void)lu__run_purge(SIZE_MAX);
}

#if LU_DEBUG >= 1
/* Every second of `count` runs of one slice is free, as nothing merges: half of them old. */
static void make_free_runs(struct span **runs, size_t count) {
    for (size_t i = 0; i < count; i++) runs[i] = alloc_run(1, 1);
    for (size_t i = 0; i < count; i += 2) lu__run_free(runs[i]);
}

static void end_free_runs(struct span **runs, size_t count) {
    for (size_t i = 1; i < count; i += 2) lu__run_free(runs[i]);
    (void)lu__run_purge(SIZE_MAX);
}

/* Most rounds of any loop in a free, a purge and an allocation beside `count` runs. */
static size_t most_steps(size_t count) {
    static struct span *runs[20000];
    size_t most = 0;
    make_free_runs(runs, count);
    for (size_t i = 1; i + 1 < count; i += 4) {
        size_t before = lu__steps;
        lu__run_free(runs[i]); /* merges with both neighbours */
        most = LU_MAX(most, lu__steps - before);
        before = lu__steps;
        runs[i] = alloc_run(2, 1);
        most = LU_MAX(most, lu__steps - before);
        before = lu__steps;
        (void)lu__run_purge(LU_SLICE);
        most = LU_MAX(most, lu__steps - before);
    }
    end_free_runs(runs, count);
    check_regions();
    return most;
}

static void no_call_takes_more_steps_for_more_runs(void **state) {
    (void)state;
    size_t few = most_steps(200), many = most_steps(20000);
    assert_true(few > 0);
    assert_true(many <= few + 128); /* a flood goes back in up to 64 pieces of a slice */
}
#endif

/* ---------------------------------------------------------------- walks */

struct walked {
    size_t large, other, holds, steps_most;
    struct span **runs; /* which come and go between two holds of the lock */
    size_t count, at;
};

static unsigned walk_visit(const struct span *run, void *arg) {
    struct walked *walked = arg;
    assert_true(run->slices > 0);
    if (run->kind == LU_KIND_LARGE) {
        walked->large++;
    } else {
        walked->other++;
    }
    return 1;
}

/* Free and allocate around the place where the walk is. */
static void walk_between(void *arg) {
    struct walked *walked = arg;
    walked->holds++;
    for (int i = 0; i < 20; i++) {
        size_t k = walked->at++ * 7919 % walked->count;
        if (walked->runs[k] != NULL) lu__run_free(walked->runs[k]);
        walked->runs[k] = walked->at % 3 == 0 ? NULL : alloc_run(1 + walked->at % 4, 1);
    }
}

static void nothing_between(void *arg) {
    ((struct walked *)arg)->holds++;
}

static void a_walk_sees_all_runs_and_stops_nobody(void **state) {
    (void)state;
    enum { RUNS = 3000 };
    static struct span *runs[RUNS];
    (void)lu__run_purge(SIZE_MAX);
    for (size_t i = 0; i < RUNS; i++) runs[i] = alloc_run(1 + i % 3, 1);
    struct walked still = {.runs = runs, .count = RUNS};
    lu__run_walk(walk_visit, nothing_between, &still);
    assert_int_equal(still.large, RUNS);
    assert_true(still.holds >= RUNS / 64); /* the lock is let go every few runs */
    for (size_t i = 0; i < RUNS; i += 3) {
        lu__run_free(runs[i]);
        runs[i] = NULL;
    }
    for (int round = 0; round < 20; round++) {
        struct walked moving = {.runs = runs, .count = RUNS, .at = (size_t)round};
        lu__run_walk(walk_visit, walk_between, &moving);
        assert_true(moving.large > RUNS / 3);
        assert_true(moving.large < 2 * RUNS);
        assert_null(lu__walk_at);
        check_regions();
    }
    for (size_t i = 0; i < RUNS; i++) {
        if (runs[i] != NULL) lu__run_free(runs[i]);
    }
    check_regions();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_runs_tile_the_region),
        cmocka_unit_test(young_runs_are_not_purged),
        cmocka_unit_test(addresses_lead_to_their_runs),
        cmocka_unit_test(limit_is_obeyed),
        cmocka_unit_test(dirty_memory_is_used_with_what_lies_beside_it),
        cmocka_unit_test(gathering_obeys_the_limit),
        cmocka_unit_test(a_walk_sees_all_runs_and_stops_nobody),
#if LU_DEBUG >= 1
        cmocka_unit_test(no_call_takes_more_steps_for_more_runs),
#endif
        cmocka_unit_test(a_search_of_all_finds_the_one_run_that_fits),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
