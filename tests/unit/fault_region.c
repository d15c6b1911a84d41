/*
 * fault_region.c - regions that claim addresses instead of reserving them: what is mapped at all,
 * that it comes back, and what happens when somebody else is in the way or the kernel refuses.
 *
 * The file makes runs directly, on a kernel that refuses on demand, or where the hook has put a
 * mapping of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/options.h"
#include "inside.h"
#include "lucid/lucid.h"
#include "os/os.h"
#include "os_fault.h"
#include "span/huge.h"
#include "span/run_parts.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

static struct span *alloc_run(size_t slices) {
    bool zero;
    struct span *run = lu__run_alloc(slices, 1, LU_KIND_LARGE, &zero);
    if (run == NULL) return NULL;
    const char *bytes = lu__span_start(run);
    for (size_t i = 0; zero && i < lu__span_bytes(run); i += 4096) assert_int_equal(bytes[i], 0);
    memset(lu__span_start(run), 0x5a, lu__span_bytes(run));
    return run;
}

/* Is the page at `at` mapped? Asked in a way that is not the library's. */
static bool is_mapped(const void *at) {
    unsigned char there;
    return mincore((void *)((uintptr_t)at & ~(uintptr_t)4095), 1, &there) == 0;
}

/* Heads tile the regions, what is no hole is mapped, holes are not, and the figures agree. */
static void check_regions(void) {
    size_t mapped = 0;
    for (uint32_t i = 0; i < lu__region_count; i++) {
        const struct region *region = &lu__regions[i];
        mapped += region->table_bytes + ((size_t)region->ready << LU_SLICE_SHIFT);
        for (size_t slice = 0; slice < region->top;) {
            const struct span *run = lu__region_desc(region, slice);
            bool hole = run->kind == LU_KIND_FREE && run->zero == LU_FREE_HOLE;
            for (size_t k = 0; k < run->slices; k++) {
                assert_int_equal(is_mapped(region->base + ((slice + k) << LU_SLICE_SHIFT)), !hole);
            }
            if (hole) mapped -= lu__span_bytes(run);
            slice += run->slices;
            assert_true(!hole || slice < region->top); /* else the top would have come down */
        }
        assert_true(region->top <= region->ready && region->ready <= region->limit);
    }
    assert_int_equal(mapped, lu__span_figures.mapped);
}

/* A small heap is a few mappings of a few MiB, whatever it may become. */
static void little_is_mapped(void **state) {
    (void)state;
    struct span *run = alloc_run(1);
    assert_non_null(run);
    assert_true(lu__span_figures.mapped <= 4 * LU_MIB);
    assert_int_equal(lu__region_count, 1);
    assert_true(((size_t)lu__regions[0].limit << LU_SLICE_SHIFT) >= (size_t)1 << 34);
    check_regions();
    lu__run_free(run);
}

/* What is free at the top goes back with its addresses, and so does what is free between. */
static void addresses_come_back(void **state) {
    (void)state;
    enum { RUNS = 64 };
    struct span *runs[RUNS];
    struct region *region = &lu__regions[0];
    size_t before = lu__span_figures.mapped;
    for (size_t i = 0; i < RUNS; i++) assert_non_null(runs[i] = alloc_run(16));
    assert_true(lu__span_figures.mapped >= before + RUNS * LU_MIB - 2 * LU_MIB);
    uint32_t top = region->top;
    for (size_t i = RUNS / 2; i < RUNS; i++) lu__run_free(runs[i]);
    (void)lu__run_purge(SIZE_MAX);
    assert_true(region->top <= top - RUNS / 2 * 16);
    assert_true(region->ready <= region->top + 16);
    check_regions();
    for (size_t i = 0; i < RUNS / 2; i += 2) lu__run_free(runs[i]);
    (void)lu__run_purge(SIZE_MAX);
    assert_true(lu__bins_holes() >= RUNS / 4 - 1);
    assert_true(lu__span_figures.mapped <= before + RUNS / 4 * LU_MIB + 3 * LU_MIB);
    check_regions();
    for (size_t i = 0; i < RUNS / 2; i += 2) assert_non_null(runs[i] = alloc_run(15));
    assert_true(region->top <= top - RUNS / 2 * 16); /* in the holes */
    check_regions();
    for (size_t i = 0; i < RUNS / 2; i++) lu__run_free(runs[i]);
    (void)lu__run_purge(SIZE_MAX);
    assert_true(lu__span_figures.mapped <= before + 2 * LU_MIB);
    check_regions();
}

/* However fragmented memory is, holes do not eat up the mappings that a process may have. */
static void holes_are_bounded(void **state) {
    (void)state;
    enum { RUNS = 6000 };
    static struct span *runs[RUNS];
    for (size_t i = 0; i < RUNS; i++) assert_non_null(runs[i] = alloc_run(4));
    for (size_t i = 0; i < RUNS; i += 2) lu__run_free(runs[i]);
    (void)lu__run_purge(SIZE_MAX);
    assert_true(lu__bins_holes() > 0 && lu__bins_holes() <= 1100);
    assert_int_equal(lu__span_figures.dirty, 0);
    check_regions();
    for (size_t i = 1; i < RUNS; i += 2) lu__run_free(runs[i]);
    (void)lu__run_purge(SIZE_MAX);
    check_regions();
    assert_true(lu__bins_holes() <= 1100);
}

/* Put a page at `at`, if nothing is there. */
static void *put_in_the_way(char *at) {
    void *got = mmap(at, 4096, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    assert_ptr_equal(got, at);
    memset(got, 0x77, 4096);
    return got;
}

/* Somebody maps where the region would grow: it ends there, his page stays, another one follows. */
static void growth_goes_elsewhere(void **state) {
    (void)state;
    struct region *region = &lu__regions[0];
    uint32_t count = lu__region_count;
    char *obstacle = put_in_the_way(region->base + ((size_t)region->ready + 40) * LU_SLICE);
    enum { RUNS = 100 };
    struct span *runs[RUNS];
    for (size_t i = 0; i < RUNS; i++) assert_non_null(runs[i] = alloc_run(16));
    assert_true(lu__region_count > count);
    assert_true(region->base + ((size_t)region->limit << LU_SLICE_SHIFT) <= obstacle);
    for (size_t i = 0; i < 4096; i++) assert_int_equal(obstacle[i], 0x77);
    assert_null(lu__region_of(obstacle));
    for (size_t i = 0; i < RUNS; i++) {
        assert_ptr_equal(lu__span_of(lu__region_of(lu__span_start(runs[i])),
                                     lu__span_start(runs[i]) + LU_MIB - 1),
                         runs[i]);
    }
    check_regions();
    for (size_t i = 0; i < RUNS; i++) lu__run_free(runs[i]);
    (void)lu__run_purge(SIZE_MAX);
    check_regions();
    assert_int_equal(munmap(obstacle, 4096), 0);
}

/* Somebody maps in a hole: his page stays, and what was to be there is found elsewhere. */
static void holes_may_be_taken(void **state) {
    (void)state;
    struct span *hole = alloc_run(16), *behind = alloc_run(16);
    char *start = lu__span_start(hole);
    lu__run_free(hole);
    (void)lu__run_purge(SIZE_MAX);
    assert_true(hole->zero == LU_FREE_HOLE && hole->kind == LU_KIND_FREE);
    char *taken = put_in_the_way(start + 3 * LU_SLICE);
    assert_false(lu_owns(taken));
    assert_true(lu_owns(lu__span_start(behind)));
    size_t used = lu__span_figures.used;
    struct span *run = alloc_run(16), *other = alloc_run(16);
    assert_non_null(run);
    assert_non_null(other);
    assert_true(run != hole && other != hole);
    for (size_t i = 0; i < 4096; i++) assert_int_equal(taken[i], 0x77);
    lu__run_free(run);
    lu__run_free(other);
    lu__run_free(behind);
    (void)lu__run_purge(SIZE_MAX);
    assert_int_equal(lu__span_figures.used, used - LU_MIB + LU_MIB); /* lost, and counted */
    for (size_t i = 0; i < 4096; i++) assert_int_equal(taken[i], 0x77);
    assert_int_equal(munmap(taken, 4096), 0);
}

/* What an alignment passes over takes no addresses, at the top and in holes, and eats up no
 * mappings either. */
static void alignment_takes_little(void **state) {
    (void)state;
    enum { LARGE = 8, MANY = 3000 };
    struct span *large[LARGE];
    static struct span *many[MANY];
    bool zero;
    size_t before = lu__span_figures.mapped;
    for (size_t i = 0; i < LARGE; i++) {
        assert_non_null(large[i] = lu__run_alloc(2, 1024, LU_KIND_LARGE, &zero));
        assert_int_equal((uintptr_t)lu__span_start(large[i]) % (1024 * LU_SLICE), 0);
    }
    size_t table = LARGE * 1024 * sizeof(struct span);
    assert_true(lu__span_figures.mapped <= before + LARGE * 2 * LU_MIB + table);
    check_regions();
    size_t holes = lu__bins_holes();
    for (size_t i = 0; i < MANY; i++) {
        assert_non_null(many[i] = lu__run_alloc(1, 2, LU_KIND_LARGE, &zero));
        assert_int_equal((uintptr_t)lu__span_start(many[i]) % (2 * LU_SLICE), 0);
        assert_true(zero);
    }
    assert_true(lu__bins_holes() <= holes + 1);
    check_regions();
    for (size_t i = 0; i < MANY; i++) lu__run_free(many[i]);
    for (size_t i = 0; i < LARGE; i++) lu__run_free(large[i]);
    (void)lu__run_purge(SIZE_MAX);
    assert_true(lu__span_figures.mapped <= before + table + 2 * LU_MIB);
    check_regions();
}

/* Runs too short for holes of their own become one when they have joined. */
static void short_runs_become_holes(void **state) {
    (void)state;
    enum { RUNS = 2000 };
    static struct span *runs[RUNS];
    size_t before = lu__span_figures.mapped;
    for (size_t i = 0; i < RUNS; i++) assert_non_null(runs[i] = alloc_run(1));
    struct span *last = alloc_run(1);
    for (size_t i = 0; i < RUNS; i++) { /* 7 and 2000 have no common factor */
        lu__run_free(runs[(i * 7) % RUNS]);
        (void)lu__run_purge(SIZE_MAX);
    }
    assert_true(lu__span_figures.mapped <= before + 3 * LU_MIB);
    check_regions();
    lu__run_free(last);
    (void)lu__run_purge(SIZE_MAX);
}

/* What stayed mapped because somebody looked is unmapped later; what was moved out of a run at
 * once, however long it is. */
static void clean_runs_become_holes(void **state) {
    (void)state;
    size_t before = lu__span_figures.mapped;
    struct span *first = alloc_run(100), *second = alloc_run(1000), *last = alloc_run(1);
    assert_true(first != NULL && second != NULL && last != NULL);
    lu__look_begin();
    lu__run_free(first);
    lu__run_free(second);
    (void)lu__run_purge(SIZE_MAX);
    assert_int_equal(lu__span_figures.dirty, 0);
    assert_true(lu__span_figures.mapped >= before + 1000 * LU_SLICE);
    lu__look_end();
    assert_true(lu__run_give_addresses(LU_MIB));
    assert_true(lu__span_figures.mapped <= before + 2 * LU_MIB);
    check_regions();
    assert_non_null(second = alloc_run(1000));
    assert_int_equal(lu__os_purge(lu__span_start(second), lu__span_bytes(second)), 0);
    lu__run_free_clean(second, 1000 * LU_SLICE);
    lu__span_uncharge(1000 * LU_SLICE); /* as the mapping would */
    assert_true(lu__span_figures.mapped <= before + 2 * LU_MIB);
    check_regions();
    lu__run_free(last);
}

/* Memory that cannot be purged, as it is locked, does not keep other memory from being unmapped. */
static void what_is_refused_stops_nothing(void **state) {
    (void)state;
    enum { SMALL = 6 };
    struct span *small[SMALL], *between[SMALL], *large, *last;
    (void)lu__run_purge(SIZE_MAX);
    for (size_t i = 0; i < SMALL; i++) {
        assert_non_null(small[i] = alloc_run(1));
        assert_non_null(between[i] = alloc_run(1));
    }
    assert_non_null(large = alloc_run(64));
    assert_non_null(last = alloc_run(1));
    for (size_t i = 0; i < SMALL; i++) lu__run_free(small[i]);
    lu__run_free(large);
    os_fault_only(1u << OS_FAULT_PURGE);
    os_fault_from(1);
    assert_int_equal(lu__run_purge(SIZE_MAX), 64 * LU_SLICE);
    os_fault_none();
    assert_int_equal(lu__span_figures.dirty, SMALL * LU_SLICE);
    for (size_t i = 0; i < SMALL; i++) lu__run_free(between[i]);
    lu__run_free(last);
    (void)lu__run_purge(SIZE_MAX);
    check_regions();
}

/* The system refuses a mapping: what is free goes back, and it is asked again. */
static void huge_blocks_get_what_is_free(void **state) {
    (void)state;
    assert_true(lu__huge_free(lu__huge_alloc(64 * LU_MIB, 0, NULL))); /* now there are nodes */
    struct span *run = alloc_run(64);
    lu__run_free(run);
    assert_true(lu__span_figures.dirty > 0);
    os_fault_only(1u << OS_FAULT_MAP);
    os_fault_once(1);
    void *block = lu__huge_alloc(64 * LU_MIB, 0, NULL);
    assert_non_null(block);
    assert_int_equal(lu__span_figures.dirty, 0);
    lu__run_free(alloc_run(64));
    os_fault_only(1u << OS_FAULT_REMAP);
    os_fault_once(1);
    assert_non_null(block = lu__huge_resize(block, 80 * LU_MIB));
    assert_int_equal(lu__span_figures.dirty, 0);
    /* But not where that cannot help. */
    assert_non_null(run = alloc_run(64));
    lu__run_free(run);
    size_t dirty = lu__span_figures.dirty;
    os_fault_only(1u << OS_FAULT_MAP);
    os_fault_from(1);
    assert_null(lu__huge_alloc((size_t)1 << 46, 0, NULL));
    os_fault_none();
    assert_int_equal(lu__span_figures.dirty, dirty);
    assert_true(lu__huge_free(block));
    (void)lu__run_purge(SIZE_MAX);
}

/* Whichever calls are refused: no run is half there, and all is well again afterwards. */
static void refusals_leave_all_whole(void **state) {
    (void)state;
    enum { RUNS = 40 };
    for (size_t round = 0; round < 60; round++) {
        struct span *runs[RUNS];
        os_fault_only(1u << OS_FAULT_CLAIM | 1u << OS_FAULT_UNMAP | 1u << OS_FAULT_RESERVE |
                      1u << OS_FAULT_MAP | (unsigned)(round % 2) << OS_FAULT_PURGE);
        os_fault_one_in(2 + round % 7, round + 1);
        for (size_t i = 0; i < RUNS; i++) runs[i] = alloc_run(1 + (i * 7 + round) % 23);
        for (size_t i = 0; i < RUNS; i += 1 + round % 3) {
            if (runs[i] != NULL) lu__run_free(runs[i]);
            runs[i] = NULL;
        }
        (void)lu__run_purge(SIZE_MAX);
        os_fault_none();
        for (size_t i = 0; i < RUNS; i++) {
            if (runs[i] != NULL) lu__run_free(runs[i]);
        }
        struct span *run = alloc_run(16);
        assert_non_null(run);
        lu__run_free(run);
        (void)lu__run_purge(SIZE_MAX);
    }
}

/* Free places cannot be had at all: small plain mappings serve as regions. */
static void without_a_place(void **state) {
    (void)state;
    enum { RUNS = 200 };
    struct span *runs[RUNS];
    const char *starts[RUNS];
    size_t plain = 0;
    os_fault_occupied(true);
    for (size_t i = 0; i < RUNS; i++) assert_non_null(runs[i] = alloc_run(3));
    os_fault_occupied(false);
    for (size_t i = 0; i < RUNS; i++) {
        starts[i] = lu__span_start(runs[i]);
        lu__run_free(runs[i]);
    }
    (void)lu__run_purge(SIZE_MAX);
    for (size_t i = 0; i < RUNS; i++) {
        const struct region *region = lu__region_of(starts[i]);
        if (region == NULL || !region->plain) continue;
        assert_true(is_mapped(starts[i])); /* else the kernel would put others' mappings there */
        plain++;
    }
    assert_true(plain > 0);
}

/* There, and where others get in the way again and again, regions do not run out: they grow. */
static void regions_do_not_run_out(void **state) {
    (void)state;
    enum { RUNS = 2000 };
    static struct span *runs[RUNS];
    bool zero;
    uint32_t count = lu__region_count;
    os_fault_occupied(true);
    for (size_t i = 0; i < RUNS; i++) {
        runs[i] = lu__run_alloc(16 * 8, 1, LU_KIND_LARGE, &zero);
        assert_non_null(runs[i]);
    }
    os_fault_occupied(false);
    assert_true(lu__region_count - count <= 40); /* 16 GB: of 64 MiB each it would be all */
    for (size_t i = 0; i < RUNS; i++) lu__run_free(runs[i]);
    (void)lu__run_purge(SIZE_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(little_is_mapped),
        cmocka_unit_test(addresses_come_back),
        cmocka_unit_test(holes_are_bounded),
        cmocka_unit_test(growth_goes_elsewhere),
        cmocka_unit_test(alignment_takes_little),
        cmocka_unit_test(short_runs_become_holes),
        cmocka_unit_test(clean_runs_become_holes),
        cmocka_unit_test(what_is_refused_stops_nothing),
        cmocka_unit_test(huge_blocks_get_what_is_free),
        cmocka_unit_test(holes_may_be_taken),
        cmocka_unit_test(refusals_leave_all_whole),
        cmocka_unit_test(without_a_place),
        cmocka_unit_test(regions_do_not_run_out),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
