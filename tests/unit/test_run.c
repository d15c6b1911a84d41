/* test_run.c - runs of slices: tiling, merging, alignment, purging, growing, rebuilding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/options.h"
#include "os/os.h"
#include "span/span.h"

#define LIVE 64

/* Walk head to head: the region must be tiled, figures must add up, no two free runs of a kind
 * may be neighbours. */
static void check_regions(void) {
    size_t used = 0, dirty = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        int before = -1;
        for (size_t slice = region->first; slice < region->top;) {
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
            (void)lu__run_purge((uint32_t)lu__os_now_ms() + 1, 8 * LU_SLICE);
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
    (void)lu__run_purge((uint32_t)lu__os_now_ms() + 1, SIZE_MAX);
    check_regions();
    assert_int_equal(lu__span_figures.dirty, 0);
    assert_int_equal(lu__span_figures.used, 0);
}

static void young_runs_are_not_purged(void **state) {
    (void)state;
    struct span *run = alloc_run(4, 1);
    lu__run_free(run);
    assert_int_equal(lu__run_purge((uint32_t)lu__os_now_ms() - 60000, SIZE_MAX), 0);
    assert_int_equal(lu__run_purge((uint32_t)lu__os_now_ms() + 1, SIZE_MAX), 4 * LU_SLICE);
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
    assert_null(lu__span_of(region, region->base));
    lu__run_free(run);
}

static void limit_is_obeyed(void **state) {
    (void)state;
    bool zero;
    (void)lu__run_purge((uint32_t)lu__os_now_ms() + 1, SIZE_MAX);
    lu__span_figures.limit = lu__span_held() + 8 * LU_SLICE;
    struct span *run = alloc_run(8, 1);
    assert_null(lu__run_alloc(1, 1, LU_KIND_LARGE, &zero));
    lu__run_free(run); /* dirty memory counts, but makes way */
    run = alloc_run(6, 1);
    lu__run_free(run);
    lu__span_figures.limit = 0;
}

static int set_up(void **state) {
    (void)state;
    lu__options_init();
    return lu__inside_enter() ? 0 : 1; /* as everybody who calls these functions */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_runs_tile_the_region),
        cmocka_unit_test(young_runs_are_not_purged),
        cmocka_unit_test(addresses_lead_to_their_runs),
        cmocka_unit_test(limit_is_obeyed),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
