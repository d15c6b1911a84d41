/* test_fast.c - the fast paths: which class they choose, and what they refuse to do themselves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/fast.h"
#include "lucid/lucid.h"

/* The heap of this thread, which has one once it has allocated. */
static struct heap *heap_here(void) {
    lu_free(lu_malloc(1));
    return lu__heap;
}

static void classes_are_those_of_the_slow_path(void **state) {
    (void)state;
    const struct heap *heap = heap_here();
    for (size_t size = 1; size <= LU_CLASS_BYTES_MAX; size++) {
        assert_int_equal(lu__fast_class(heap, size), lu__class_of(size));
    }
    assert_int_equal(lu__fast_class(heap, LU_CLASS_BYTES_MAX + 1), LU_CLASSES);
    assert_int_equal(lu__fast_class(heap, SIZE_MAX), LU_CLASSES);
    assert_int_equal(lu__fast_class(heap, 0), LU_CLASSES); /* a list that is always empty */
}

static void aligned_classes_are_those_of_the_slow_path(void **state) {
    (void)state;
    const struct heap *heap = heap_here();
    for (size_t align = 1; align <= 2 * LU_CLASS_BYTES_MAX; align *= 2) {
        assert_int_equal(lu__fast_class_aligned(heap, align, 0), LU_CLASSES);
        for (size_t size = 1; size <= LU_CLASS_BYTES_MAX + 1; size++) {
            unsigned c = lu__fast_class_aligned(heap, align, size);
            unsigned slow = lu__class_of_aligned(align, size);
            if (c != slow) fail_msg("align %zu size %zu: class %u, not %u", align, size, c, slow);
        }
    }
}

/* No sum of a size and an alignment may wrap to something small. */
static void what_is_too_large_is_not_taken(void **state) {
    (void)state;
    (void)heap_here();
    const size_t large[] = {LU_CLASS_BYTES_MAX + 1, PTRDIFF_MAX, SIZE_MAX - 4095, SIZE_MAX};
    for (size_t i = 0; i < LU_COUNT_OF(large); i++) {
        assert_null(lu__fast_take(large[i]));
        for (size_t align = 1; align != 0; align *= 2) {
            assert_null(lu__fast_take_aligned(align, large[i]));
        }
    }
    for (size_t align = 2 * LU_CLASS_BYTES_MAX; align != 0; align *= 2) {
        assert_null(lu__fast_take_aligned(align, 1));
    }
    assert_null(lu__fast_take_aligned(64, 0));
}

/* Dirty blocks of the class are there for calloc, between live ones that it must not touch. */
static void zeroed_blocks_are_zero_and_no_more(void **state) {
    (void)state;
    enum { BLOCKS = 9, MOST = 300 };
    for (size_t size = 1; size <= MOST; size++) {
        size_t usable = lu_good_size(size);
        unsigned char *blocks[BLOCKS];
        for (size_t i = 0; i < BLOCKS; i++) {
            blocks[i] = lu_malloc(size);
            assert_non_null(blocks[i]);
            memset(blocks[i], 0xee, usable);
        }
        for (size_t i = 0; i < BLOCKS; i += 2) lu_free(blocks[i]);
        for (size_t i = 0; i < BLOCKS; i += 2) {
            blocks[i] = lu_calloc(1, size);
            assert_non_null(blocks[i]);
            for (size_t at = 0; at < size; at++) assert_int_equal(blocks[i][at], 0);
        }
        for (size_t i = 1; i < BLOCKS; i += 2) {
            for (size_t at = 0; at < usable; at++) assert_int_equal(blocks[i][at], 0xee);
        }
        for (size_t i = 0; i < BLOCKS; i++) lu_free(blocks[i]);
    }
}

/* ------------------------------------------------------------------ of others ---------------- */

#define REMOTE 200

struct remote {
    const struct heap *owner;
    void *blocks[REMOTE];
};

static void resize_remotely(const struct heap *owner, unsigned char *block, size_t size,
                            unsigned char fill) {
    uintptr_t list = owner->list[lu__class_of(size)];
    unsigned char *moved = lu_realloc(block, size * 3);
    assert_non_null(moved);
    for (size_t at = 0; at < size; at++) assert_int_equal(moved[at], fill);
    assert_int_equal(owner->list[lu__class_of(size)], list); /* which only the owner may change */
    lu_free_sized(moved, size * 3);
}

static void *give_remotely(void *arg) {
    struct remote *remote = arg;
    for (size_t i = 0; i < REMOTE; i++) {
        size_t size = 1 + i * 11;
        assert_int_equal(lu_usable_size(remote->blocks[i]), lu_good_size(size));
        if (i % 3 == 0) {
            lu_free_sized(remote->blocks[i], size);
        } else {
            resize_remotely(remote->owner, remote->blocks[i], size, (unsigned char)i);
        }
    }
    return NULL;
}

static size_t live_bytes(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.live_bytes;
}

static void blocks_of_other_threads_go_back_to_them(void **state) {
    (void)state;
    struct remote remote = {.owner = heap_here()};
    size_t before = live_bytes();
    for (size_t i = 0; i < REMOTE; i++) {
        remote.blocks[i] = lu_malloc(1 + i * 11);
        assert_non_null(remote.blocks[i]);
        memset(remote.blocks[i], (int)i, 1 + i * 11);
    }
    assert_true(live_bytes() > before);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, give_remotely, &remote), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(live_bytes(), before);
}

/* A lu_heap has a lock, and keeps what it resizes. */
static void blocks_of_a_lu_heap_stay_in_it(void **state) {
    (void)state;
    lu_heap_t *heap = lu_heap_create(LU_HEAP_SHARED);
    assert_non_null(heap);
    void *block = lu_heap_malloc(heap, 100), *other = lu_heap_malloc(heap, 100);
    assert_non_null(block);
    assert_non_null(other);
    assert_int_equal(lu_usable_size(block), 112);
    assert_ptr_equal(lu_realloc(block, 112), block);
    block = lu_realloc(block, 1000);
    assert_non_null(block);
    lu_heap_free(heap, block); /* or it would be reported as another's */
    lu_free_sized(other, 100);
    lu_heap_destroy(heap);
}

static void without_memory_blocks_keep_their_place(void **state) {
    (void)state;
    unsigned char *block = lu_malloc(60000);
    assert_non_null(block);
    memset(block, 0xee, 60000);
    (void)lu_purge();
    assert_int_equal(lu_set_limit(1, NULL, NULL), 0);
    errno = 0;
    assert_null(lu_realloc(block, 65000));
    assert_int_equal(errno, ENOMEM);
    assert_ptr_equal(lu_realloc(block, 40000), block);
    for (size_t at = 0; at < 40000; at++) assert_int_equal(block[at], 0xee);
    assert_int_equal(lu_set_limit(0, NULL, NULL), 0);
    lu_free(block);
}

/* ------------------------------------------------------------------ misuse ------------------- */

static lu_violation_kind_t seen;
static unsigned violations;

static bool note(const lu_violation_t *violation, void *arg) {
    (void)arg;
    seen = violation->kind;
    violations++;
    return true;
}

/* The call before this one was reported, once. */
static void reported(lu_violation_kind_t kind) {
    assert_int_equal(violations, 1);
    assert_int_equal(seen, kind);
    violations = 0;
}

static void wrong_sizes_are_reported(void **state) {
    (void)state;
    const size_t wrong[] = {0, 96, 113, 2000, 1000000, ((size_t)1 << 32) + 100, SIZE_MAX};
    lu_set_violation_handler(note, NULL);
    lu_stats_t before, after;
    lu_stats_get(&before);
    for (size_t i = 0; i < LU_COUNT_OF(wrong); i++) {
        void *block = lu_malloc(100);
        assert_non_null(block);
        lu_free_sized(block, wrong[i]);
        reported(LU_SIZE_MISMATCH);
    }
    for (size_t size = 0; size <= 64; size += 64) {
        void *aligned = lu_aligned_alloc(64, 100);
        assert_non_null(aligned);
        lu_free_aligned_sized(aligned, 64, size);
        reported(LU_SIZE_MISMATCH);
    }
    lu_stats_get(&after); /* all were freed */
    assert_int_equal(after.live_blocks, before.live_blocks);
    assert_int_equal(violations, 0);
    lu_set_violation_handler(NULL, NULL);
}

/* 48 is none, though there are blocks of 48 bytes whose address and 47 have no bit in common. */
static void wrong_alignments_are_reported(void **state) {
    (void)state;
    enum { BLOCKS = 8 };
    void *blocks[BLOCKS], *fitting = NULL;
    lu_set_violation_handler(note, NULL);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = lu_malloc(48);
        assert_non_null(blocks[i]);
        if (((uintptr_t)blocks[i] & 47) == 0) fitting = blocks[i];
    }
    assert_non_null(fitting);
    lu_free_aligned_sized(fitting, 48, 48);
    reported(LU_SIZE_MISMATCH);
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i] != fitting) lu_free_aligned_sized(blocks[i], 16, 48); /* that went on */
    }
    assert_int_equal(violations, 0);
    lu_set_violation_handler(NULL, NULL);
}

static void what_is_no_live_block_is_reported(void **state) {
    (void)state;
    lu_set_violation_handler(note, NULL);
    char *block = lu_malloc(100), *guard = lu_malloc(100);
    lu_free_sized(block + 16, 100);
    reported(LU_INTERIOR_POINTER);
    lu_free_aligned_sized(block + 16, 16, 100);
    reported(LU_INTERIOR_POINTER);
    assert_null(lu_realloc(block + 16, 100));
    reported(LU_INTERIOR_POINTER);
    assert_int_equal(lu_usable_size(block + 1), 0);
    reported(LU_INTERIOR_POINTER);
    lu_free_sized(&seen, sizeof seen);
    reported(LU_FOREIGN_POINTER);
    lu_free_sized(block, 100);
    assert_int_equal(violations, 0);
    lu_free_sized(block, 100);
    reported(LU_DOUBLE_FREE);
    lu_free_aligned_sized(block, 16, 100);
    reported(LU_DOUBLE_FREE);
    assert_null(lu_realloc(block, 101)); /* in place */
    reported(LU_DOUBLE_FREE);
    assert_null(lu_realloc(block, 500)); /* or not */
    reported(LU_DOUBLE_FREE);
    assert_int_equal(lu_usable_size(block), 0);
    reported(LU_DOUBLE_FREE);
    lu_free(guard);
    lu_set_violation_handler(NULL, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_are_those_of_the_slow_path),
        cmocka_unit_test(aligned_classes_are_those_of_the_slow_path),
        cmocka_unit_test(what_is_too_large_is_not_taken),
        cmocka_unit_test(zeroed_blocks_are_zero_and_no_more),
        cmocka_unit_test(blocks_of_other_threads_go_back_to_them),
        cmocka_unit_test(blocks_of_a_lu_heap_stay_in_it),
        cmocka_unit_test(wrong_sizes_are_reported),
        cmocka_unit_test(wrong_alignments_are_reported),
        cmocka_unit_test(what_is_no_live_block_is_reported),
        /* Last: from then on a smaller size than the block's is no mismatch. */
        cmocka_unit_test(without_memory_blocks_keep_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
