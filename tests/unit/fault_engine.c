/*
 * fault_engine.c - the engine on a system that refuses: every call failing from the N-th on, and
 * at random. No block may be lost or overlap, NULL must come with ENOMEM, calloc must stay zeroed,
 * and all must work again when the system gives again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lucid/lucid.h"
#include "os_fault.h"
#include "span/span.h"
#include "visits.h"

#define SLOTS 400

struct slot {
    unsigned char *block;
    size_t size;
    unsigned char fill;
};
static struct slot slots[SLOTS];
static uint64_t random_state = 7;

static size_t random_below(size_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % n;
}

static size_t random_size(void) {
    switch (random_below(16)) {
    case 0:
        return random_below(3000000);
    case 1:
        return ((size_t)33 << 20) + random_below(100000);
    case 2:
    case 3:
        return random_below(100000);
    default:
        return random_below(1200);
    }
}

/* Check and fill only the ends of huge blocks, to be quick. */
static size_t step_of(size_t size) {
    return size > 1000000 ? 262144 : size > 100000 ? 8192 : 1;
}

static void check_slot(const struct slot *slot) {
    for (size_t i = 0; i < slot->size; i += step_of(slot->size)) {
        assert_int_equal(slot->block[i], slot->fill);
    }
}

static void fill_slot(struct slot *slot) {
    slot->fill = (unsigned char)random_below(255);
    for (size_t i = 0; i < slot->size; i += step_of(slot->size)) slot->block[i] = slot->fill;
}

static void free_slot(struct slot *slot) {
    check_slot(slot);
    errno = 1234;
    lu_free(slot->block);
    assert_int_equal(errno, 1234);
    slot->block = NULL;
}

/* Takes the result of an allocation; NULL must mean ENOMEM, and errno be untouched otherwise. */
static void take(struct slot *slot, void *block, size_t size) {
    assert_int_equal(errno, block == NULL ? ENOMEM : 0);
    if (block == NULL) return;
    slot->block = block;
    slot->size = size;
    fill_slot(slot);
}

static void one_step(void) {
    struct slot *slot = &slots[random_below(SLOTS)];
    size_t size = random_size();
    errno = 0;
    if (slot->block == NULL) {
        if (random_below(3) == 0) {
            unsigned char *block = lu_calloc(1, size);
            for (size_t i = 0; block != NULL && i < size; i += step_of(size)) {
                assert_int_equal(block[i], 0);
            }
            take(slot, block, size);
        } else if (random_below(8) == 0) {
            size_t align = (size_t)8 << random_below(18);
            void *block = lu_memalign(align, size);
            assert_int_equal((uintptr_t)block % align, 0);
            take(slot, block, size);
        } else {
            take(slot, lu_malloc(size), size);
        }
    } else if (random_below(4) == 0 && size > 0) {
        check_slot(slot);
        unsigned char *block = lu_realloc(slot->block, size);
        assert_int_equal(errno, block == NULL ? ENOMEM : 0);
        if (block != NULL) {
            size_t both = size < slot->size ? size : slot->size;
            for (size_t i = 0; i < both; i += step_of(slot->size)) {
                assert_int_equal(block[i], slot->fill);
            }
            slot->block = block;
            slot->size = size;
            fill_slot(slot);
        }
    } else if (random_below(500) == 0) {
        (void)lu_purge();
    } else {
        free_slot(slot);
    }
}

static void free_all(void) {
    for (size_t i = 0; i < SLOTS; i++) {
        if (slots[i].block != NULL) free_slot(&slots[i]);
    }
}

static void failing_from_any_call_on(void **state) {
    (void)state;
    for (size_t from = 1; from <= 80; from++) {
        os_fault_from(from);
        for (int step = 0; step < 200; step++) one_step();
        free_all();
        void *block = lu_malloc(40); /* out of what was just freed */
        if (from > 20) assert_non_null(block);
        lu_free(block);
        os_fault_none();
        (void)lu_purge();
        for (int step = 0; step < 50; step++) one_step();
        block = lu_malloc(50000000); /* the system gives again */
        assert_non_null(block);
        lu_free(block);
    }
    free_all();
}

static void failing_at_random(void **state) {
    (void)state;
    const size_t rates[] = {100, 10, 2};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        os_fault_one_in(rates[i], 11 + i);
        for (int step = 0; step < 15000; step++) one_step();
    }
    os_fault_none();
    free_all();
}

static void refused_giving_back_loses_nothing(void **state) {
    (void)state;
    os_fault_only(1u << OS_FAULT_PURGE | 1u << OS_FAULT_PURGE_MANY | 1u << OS_FAULT_UNMAP);
    os_fault_from(1);
    for (int step = 0; step < 15000; step++) one_step();
    os_fault_none();
    free_all();
}

enum { NEIGHBOURS = 128 }; /* more than there are gaps, which are filled first */

/* Of NEIGHBOURS blocks, the number of one that has another right behind it; mappings have none, and
 * cannot grow in place while their move is refused. */
static size_t one_with_a_neighbour(unsigned char *const *blocks) {
    for (size_t i = 0; i < NEIGHBOURS; i++) {
        const struct region *region = lu__region_of(blocks[i]);
        if (region == NULL) continue;
        const struct span *run = lu__span_of(region, blocks[i]);
        for (size_t k = 0; k < NEIGHBOURS; k++) {
            if (lu__span_of(region, blocks[k]) == run + run->slices) return i;
        }
    }
    return NEIGHBOURS;
}

/* A block that cannot grow in place, nor by moving its pages, is copied or stays as it is. */
static void refused_moves_keep_the_contents(void **state) {
    (void)state;
    const size_t sizes[] = {(size_t)1 << 20, (size_t)40 << 20};
    for (size_t i = 0; i < 2; i++) {
        size_t size = sizes[i];
        unsigned char *blocks[NEIGHBOURS];
        (void)lu_purge(); /* so that free runs merge */
        for (size_t k = 0; k < NEIGHBOURS; k++) assert_non_null(blocks[k] = lu_malloc(size));
        size_t chosen = i == 0 ? one_with_a_neighbour(blocks) : 0;
        assert_true(chosen < NEIGHBOURS);
        unsigned char *block = blocks[chosen];
        for (size_t at = 0; at < size; at += 4096) block[at] = (unsigned char)(at >> 12);
        os_fault_only(1u << OS_FAULT_MOVE_OUT | 1u << OS_FAULT_REMAP);
        os_fault_from(1);
        unsigned char *grown = lu_realloc(block, size * 5);
        os_fault_none();
        if (grown != NULL) blocks[chosen] = block = grown;
        for (size_t at = 0; at < size; at += 4096) {
            assert_int_equal(block[at], (unsigned char)(at >> 12));
        }
        for (size_t k = 0; k < NEIGHBOURS; k++) lu_free(blocks[k]);
    }
}

/* What was written to before and could not be purged is cleared by calloc itself: with all purges
 * refused, every other one, and none. */
static void calloc_is_zero_after_refused_purges(void **state) {
    (void)state;
    static const size_t sizes[] = {24, 300, 2000, 9000, 40000, 100000, 700000};
    enum { BLOCKS = 400 };
    static unsigned char *blocks[BLOCKS];
    for (size_t round = 0; round < 3 * LU_COUNT_OF(sizes); round++) {
        size_t size = sizes[round / 3], count = LU_MIN(BLOCKS, LU_MAX(5 * LU_MIB / size, 32));
        for (size_t i = 0; i < count; i++) {
            assert_non_null(blocks[i] = lu_malloc(size));
            memset(blocks[i], 0xa5, size);
        }
        os_fault_only(1u << OS_FAULT_PURGE | 1u << OS_FAULT_PURGE_MANY | 1u << OS_FAULT_UNMAP);
        if (round % 3 == 0) os_fault_from(1);
        if (round % 3 == 1) os_fault_one_in(2, round);
        for (size_t i = 0; i < count; i++) {
            if (i % 16 != 0) lu_free(blocks[i]);
        }
        (void)lu_purge();
        for (size_t i = 0; i < count; i++) {
            if (i % 16 == 0) continue;
            assert_non_null(blocks[i] = lu_calloc(1, size));
            unsigned char any = 0;
            for (size_t k = 0; k < size; k++) any |= blocks[i][k];
            assert_int_equal(any, 0);
        }
        os_fault_none();
        for (size_t i = 0; i < count; i++) lu_free(blocks[i]);
    }
}

/* No place for the names of malloc(0). */
static void refused_names_are_blocks(void **state) {
    enum { NAMES = 200000 };
    (void)state;
    void **names = malloc(NAMES * sizeof *names);
    assert_non_null(names);
    os_fault_only(1u << OS_FAULT_RESERVE);
    os_fault_from(1);
    for (size_t i = 0; i < NAMES; i++) assert_non_null(names[i] = lu_malloc(0));
    os_fault_none();
    for (size_t i = 0; i < NAMES; i++) lu_free(names[i]);
    free(names);
}

/* Every kind of call was refused that the library makes. */
static void every_kind_has_failed(void **state) {
    (void)state;
    for (int call = 0; call < OS_FAULT_PROTECT; call++) {
        if (call == OS_FAULT_COMMIT) continue; /* of hardened heaps */
        printf("%d failed %zu times\n", call, os_fault_failed((enum os_fault_call)call));
        assert_true(os_fault_failed((enum os_fault_call)call) > 0);
    }
}

/* The list of a heap's runs is a mapping where there are more than a few. */
static void walks_without_memory_say_so(void **state) {
    (void)state;
    for (size_t runs = 20; runs <= 200; runs += 180) {
        lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
        for (size_t i = 0; i < runs; i++) assert_non_null(lu_heap_malloc(heap, 70000));
        size_t count = 0;
        os_fault_from(1);
        errno = 0;
        assert_true(lu_heap_walk(heap, count_visit, &count) == (runs == 20));
        assert_int_equal(errno, runs == 20 ? 0 : ENOMEM);
        assert_int_equal(count, runs == 20 ? 20 : 0);
        os_fault_none();
        count = 0;
        assert_true(lu_heap_walk(heap, count_visit, &count));
        assert_int_equal(count, runs);
        lu_heap_destroy(heap);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_names_are_blocks), /* first: while there are none */
        cmocka_unit_test(failing_from_any_call_on),
        cmocka_unit_test(failing_at_random),
        cmocka_unit_test(refused_giving_back_loses_nothing),
        cmocka_unit_test(refused_moves_keep_the_contents),
        cmocka_unit_test(calloc_is_zero_after_refused_purges),
        cmocka_unit_test(walks_without_memory_say_so),
        cmocka_unit_test(every_kind_has_failed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
