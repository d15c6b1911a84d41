/*
 * test_structures.c - memory of the structures of heaps that have ended.
 *
 * It goes back, in resident memory and in the figures, or is used again, by whatever kind of heap.
 */
#include "heap/heap.h"
#include "lucid/lucid.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

enum { HEAPS = 2000, APART = 20, THREADS = 40 };
#define BYTES ((size_t)HEAPS * sizeof(struct heap)) /* of all structures */
#define SPARE (2 * LU_MIB)

static lu_heap_t *heaps[HEAPS];

/* In runs of the library's own structures. */
static size_t resident_bytes(void) {
    const struct region *region = &lu__regions[0];
    size_t pages = 0,
           page = (size_t)getpagesize(); /* the kernel's, whatever the library takes it for */
    for (size_t slice = 0; slice < region->top;) {
        const struct span *run = lu__region_desc(region, slice);
        size_t bytes = lu__span_bytes(run);
        unsigned char there[LU_SLICE / LU_OS_PAGE_LEAST];
        for (size_t at = 0; run->kind == LU_KIND_META && at < bytes; at += LU_SLICE) {
            assert_int_equal(mincore(lu__span_start(run) + at, LU_SLICE, there), 0);
            for (size_t i = 0; i < LU_SLICE / page; i++) pages += there[i] & 1;
        }
        slice += run->slices;
    }
    return pages * page;
}

static size_t metadata(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.metadata_bytes;
}

static size_t held(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.held_bytes;
}

static void make(size_t step) {
    for (size_t i = 0; i < HEAPS; i += step) {
        if (heaps[i] == NULL) heaps[i] = lu_heap_create(i % 2);
        assert_non_null(heaps[i]);
    }
}

static void end(size_t step) {
    for (size_t i = 0; i < HEAPS; i++) {
        if (i % step == 0) continue;
        lu_heap_destroy(heaps[i]);
        heaps[i] = NULL;
    }
}

static void end_all(void) {
    end(HEAPS + 1);
    lu_heap_destroy(heaps[0]);
    heaps[0] = NULL;
}

static void pages_of_ended_heaps_go_back(void **state) {
    (void)state;
    end_all();
    size_t resident = resident_bytes(), meta = metadata(), was_held = held();
    for (int round = 0; round < 3; round++) {
        make(1);
        assert_true(metadata() >= meta + BYTES);
        assert_true(resident_bytes() >= resident + BYTES / 2);
        end_all();
        assert_true(metadata() <= meta + SPARE);
        assert_true(held() <= was_held + SPARE);
        assert_true(resident_bytes() <= resident + SPARE);
    }
}

static void purge_gives_back_what_lies_between_heaps(void **state) {
    (void)state;
    end_all();
    size_t resident = resident_bytes(), meta = metadata();
    size_t each = LU_MIN(2 * LU_OS_PAGE + sizeof(struct heap), LU_SLICE); /* of those left */
    make(1);
    end(APART);
    (void)lu_purge();
    assert_true(resident_bytes() <= resident + HEAPS / APART * each + SPARE);
    assert_true(metadata() <= meta + HEAPS / APART * each + SPARE);
    for (size_t i = 0; i < HEAPS; i += APART) {
        unsigned char *block = lu_heap_calloc(heaps[i], 1, 100);
        assert_non_null(block);
        assert_int_equal(block[99], 0);
    }
    make(1);
    assert_true(metadata() >= meta + BYTES / 2);
    for (size_t i = 0; i < HEAPS; i++) assert_non_null(lu_heap_malloc(heaps[i], 10));
    end_all();
}

/* That is misuse: nothing is had, and nothing more happens, where pages went back and where not. */
static void ended_heaps_give_nothing(void **state) {
    (void)state;
    static lu_heap_t *ended[HEAPS];
    end_all();
    make(1);
    for (size_t i = 0; i < HEAPS; i++) ended[i] = heaps[i];
    end(APART);
    for (int purged = 0; purged < 2; purged++) {
        for (size_t i = 0; i < HEAPS; i++) {
            if (i % APART == 0) continue;
            for (size_t size = 10; size <= 10u << 20; size *= 100) {
                assert_null(lu_heap_malloc(ended[i], size));
                assert_null(lu_heap_calloc(ended[i], 1, size));
                assert_null(lu_heap_aligned_alloc(ended[i], 64, size));
                assert_null(lu_heap_realloc(ended[i], NULL, size));
            }
        }
        (void)lu_purge();
    }
    end_all();
}

static pthread_barrier_t all_there;

static void *be_there(void *unused) {
    lu_free(lu_malloc(100));
    (void)pthread_barrier_wait(&all_there);
    return unused;
}

static void threads_use_structures_of_programs_heaps(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    make(1);
    size_t meta = metadata();
    end_all();
    (void)pthread_barrier_init(&all_there, NULL, THREADS);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, be_there, NULL), 0);
    }
    for (size_t i = 0; i < THREADS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    make(1);
    assert_true(metadata() <= meta + THREADS * sizeof(struct heap) + SPARE / 4);
    end_all();
}

static void a_limit_holds_for_structures_that_come_back(void **state) {
    (void)state;
    lu_stats_t stats;
    end_all();
    (void)lu_purge();
    lu_stats_get(&stats);
    assert_int_equal(lu_set_limit(stats.held_bytes + stats.metadata_bytes + BYTES / 2, NULL, NULL),
                     0);
    size_t made = 0;
    while (made < HEAPS && (heaps[made] = lu_heap_create(0)) != NULL) made++;
    assert_in_range(made, HEAPS / 4, HEAPS - 1);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    end_all();
    make(1);
    end_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_of_ended_heaps_go_back),
        cmocka_unit_test(purge_gives_back_what_lies_between_heaps),
        cmocka_unit_test(ended_heaps_give_nothing),
        cmocka_unit_test(threads_use_structures_of_programs_heaps),
        cmocka_unit_test(a_limit_holds_for_structures_that_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
