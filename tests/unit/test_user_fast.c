/*
 * test_user_fast.c - the fast paths of lu_heaps: that they are taken, what they refuse, and that
 * nothing of a heap is lost or told wrongly because of them.
 *
 * A thread that is marked as inside gets nothing from a slow path but emergency memory, and what it
 * frees there is lost. So what it takes from a heap, and gives back to its list, went the fast way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "engine/emergency.h"
#include "engine/fast.h"
#include "heap/user.h"
#include "lucid/lucid.h"
#include "visits.h"

enum { BLOCKS = 300 };
static const size_t sizes[] = {1, 8, 24, 100, 1000, 2000, 10000, 30000};

static size_t violations;
static lu_violation_kind_t kind;
static char call[32];

static bool on_violation(const lu_violation_t *violation, void *arg) {
    (void)arg;
    violations++;
    kind = violation->kind;
    strncpy(call, violation->call, sizeof call - 1);
    return true;
}

static struct heap *engine_heap(lu_heap_t *heap) {
    return (struct heap *)(void *)heap;
}

static lu_heap_t *make(unsigned flags) {
    lu_free(lu_malloc(1)); /* this thread has a heap */
    lu_heap_t *heap = lu_heap_create(flags);
    assert_non_null(heap);
    return heap;
}

static struct heap *owner_of(const void *block) {
    return lu__span_of(lu__region_of(block), block)->owner;
}

static size_t live_in(lu_heap_t *heap) {
    size_t count = 0;
    assert_true(lu_heap_walk(heap, count_visit, &count));
    return count;
}

/* Blocks of the size are on the list of its class, more than a few. */
static void stock(lu_heap_t *heap, size_t size) {
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) assert_non_null(blocks[i] = lu_heap_malloc(heap, size));
    for (size_t i = BLOCKS; i-- > 0;) lu_free(blocks[i]);
    blocks[0] = lu_heap_malloc(heap, size); /* refills the list if its span has just ended */
    lu_heap_free(heap, blocks[0]);
}

/* What `step` does goes by the list of the class of `size` alone. */
static void without_slow_path(lu_heap_t *heap, size_t size, void step(lu_heap_t *, size_t)) {
    struct heap *inner = engine_heap(heap);
    unsigned c = lu__class_of(size);
    uintptr_t first = inner->list[c];
    lu__inside_set(1);
    for (unsigned i = 0; i < 20; i++) step(heap, size);
    lu__inside_set(0);
    assert_true(first == inner->list[c]);
    assert_true(first != LU_LIST_END);
}

static void pair(lu_heap_t *heap, size_t size) {
    void *block = lu_heap_malloc(heap, size);
    assert_ptr_equal(owner_of(block), heap);
    lu_free(block);
}

static void pair_of_heap(lu_heap_t *heap, size_t size) {
    void *block = lu_heap_malloc(heap, size);
    assert_ptr_equal(owner_of(block), heap);
    lu_heap_free(heap, block);
}

static void pair_sized(lu_heap_t *heap, size_t size) {
    void *block = lu_heap_malloc(heap, size);
    assert_ptr_equal(owner_of(block), heap);
    lu_free_sized(block, size);
}

static void pair_zeroed(lu_heap_t *heap, size_t size) {
    unsigned char *block = lu_heap_calloc(heap, 1, size);
    assert_ptr_equal(owner_of(block), heap);
    for (size_t i = 0; i < size; i++) assert_int_equal(block[i], 0);
    memset(block, 0xff, size);
    lu_free(block);
}

static void pair_aligned(lu_heap_t *heap, size_t size) {
    void *block = lu_heap_aligned_alloc(heap, 8, size);
    assert_ptr_equal(owner_of(block), heap);
    lu_free_aligned_sized(block, 8, size);
}

static void pair_resized(lu_heap_t *heap, size_t size) {
    void *block = lu_heap_realloc(heap, NULL, size);
    assert_ptr_equal(owner_of(block), heap);
    assert_ptr_equal(lu_heap_realloc(heap, block, size), block);
    assert_ptr_equal(lu_realloc(block, size), block);
    assert_int_equal(lu_usable_size(block), lu_good_size(size));
    lu_free(block);
}

static void single_threaded_heaps_take_no_slow_path(void **state) {
    (void)state;
    lu_heap_t *heap = make(LU_HEAP_SINGLE_THREADED);
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        stock(heap, sizes[i]);
        without_slow_path(heap, sizes[i], pair);
        without_slow_path(heap, sizes[i], pair_of_heap);
        without_slow_path(heap, sizes[i], pair_sized);
        without_slow_path(heap, sizes[i], pair_zeroed);
        without_slow_path(heap, sizes[i], pair_aligned);
        without_slow_path(heap, sizes[i], pair_resized);
    }
    assert_int_equal(live_in(heap), 0);
    lu_heap_destroy(heap);
}

/* Between classes with blocks on their lists, realloc moves without a slow path as well. */
static void resize_moves_within_the_heap(void **state) {
    (void)state;
    for (unsigned flags = 0; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = make(flags);
        stock(heap, 100);
        stock(heap, 1000);
        unsigned char *block = lu_heap_malloc(heap, 100);
        memset(block, 7, 100);
        bool alone = flags == LU_HEAP_SINGLE_THREADED;
        lu__inside_set(alone);
        block = lu_heap_realloc(heap, block, 1000);
        lu__inside_set(0);
        assert_ptr_equal(owner_of(block), heap);
        for (size_t i = 0; i < 100; i++) assert_int_equal(block[i], 7);
        lu__inside_set(alone);
        block = lu_heap_realloc(heap, block, 99);
        lu__inside_set(0);
        assert_int_equal(block[98], 7);
        block = lu_realloc(block, 500); /* stays the heap's */
        assert_ptr_equal(owner_of(block), heap);
        assert_int_equal(live_in(heap), 1);
        assert_null(lu_heap_realloc(heap, block, 0));
        assert_int_equal(live_in(heap), 0);
        lu_heap_destroy(heap);
    }
}

/* A class whose span gives one block at a time does not come to the slow path every time. */
static void a_list_of_one_block_is_refilled_early(void **state) {
    (void)state;
    for (size_t size = 6000; size <= 30000; size *= 2) {
        lu_heap_t *heap = make(LU_HEAP_SINGLE_THREADED);
        for (unsigned i = 0; i < 4; i++) pair(heap, size);
        without_slow_path(heap, size, pair);
        lu_heap_destroy(heap);
    }
}

/* As in a handler above a slow path of its thread. */
static void shared_heaps_are_left_alone_inside(void **state) {
    (void)state;
    lu_heap_t *heap = make(LU_HEAP_SHARED);
    stock(heap, 100);
    struct heap *inner = engine_heap(heap);
    uintptr_t first = inner->list[lu__class_of(100)];
    void *block = lu_heap_malloc(heap, 100), *kept = lu_heap_malloc(heap, 100);
    lu_free(kept);
    lu_free(block);
    lu__inside_set(1);
    block = lu_heap_malloc(heap, 100);
    lu__inside_set(0);
    assert_true(lu__emergency_usable(block) >= 100);
    assert_int_equal(inner->lock.word, 0);
    assert_true(inner->list[lu__class_of(100)] == first);
    kept = lu_heap_malloc(heap, 100);
    lu__inside_set(1);
    lu_free(kept);
    lu_heap_free(heap, kept);
    lu__inside_set(0);
    assert_int_equal(live_in(heap), 1);
    lu_free(kept);
    lu_heap_destroy(heap);
}

/* ------------------------------------------------------------------ locks -------------------- */

static uint32_t holder_of(lu_heap_t *heap) {
    return __atomic_load_n(&engine_heap(heap)->lock.word, __ATOMIC_RELAXED);
}

struct shared {
    lu_heap_t *heap;
    void **blocks; /* of the other thread: NULL until there is one */
    size_t size;
    unsigned rounds;
};

/* Both threads take from the heap, and each frees what the other took. */
static void *exchange(void *arg) {
    struct shared *shared = arg;
    for (unsigned i = 0; i < shared->rounds; i++) {
        size_t size = shared->size + i % 64;
        unsigned char *block = lu_heap_malloc(shared->heap, size);
        assert_non_null(block);
        memset(block, (int)i, size);
        void *other = __atomic_exchange_n(&shared->blocks[i % 16], block, __ATOMIC_ACQ_REL);
        if (other == NULL) continue;
        if (i % 3 == 0) other = lu_heap_realloc(shared->heap, other, size * 2);
        assert_non_null(other);
        if (i % 2 == 0) {
            lu_heap_free(shared->heap, other);
        } else {
            lu_free(other);
        }
    }
    return NULL;
}

static void threads_share_a_heap(void **state) {
    (void)state;
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        void *blocks[16] = {NULL};
        struct shared shared = {make(LU_HEAP_SHARED), blocks, sizes[i], 3000};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, exchange, &shared), 0);
        (void)exchange(&shared);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(live_in(shared.heap), 16);
        for (size_t b = 0; b < 16; b++) lu_free(blocks[b]);
        assert_int_equal(live_in(shared.heap), 0);
        lu_heap_destroy(shared.heap);
    }
}

/* Who uses nothing but the heap knows the region after the first slow path. */
static void *use_only_the_heap(void *arg) {
    lu_heap_t *heap = arg;
    struct span *span;
    void *block = lu_heap_malloc(heap, 100);
    assert_non_null(block);
    lu_free(block); /* slow, if malloc was fast */
    block = lu_heap_malloc(heap, 100);
    assert_true(lu__fast_find(lu__heap, block, &span));
    assert_ptr_equal(span->owner, heap);
    lu_free(block);
    return NULL;
}

static void threads_without_a_heap_get_one(void **state) {
    (void)state;
    for (unsigned flags = 0; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = make(flags);
        stock(heap, 100);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, use_only_the_heap, heap), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(live_in(heap), 0);
        lu_heap_destroy(heap);
    }
}

/* The region grows by what a lu_heap takes: its blocks are found by the fast path then. */
static void new_parts_of_the_region_are_seen(void **state) {
    (void)state;
    enum { MANY = 3000 };
    static void *blocks[MANY];
    lu_heap_t *heap = make(LU_HEAP_SINGLE_THREADED);
    for (size_t i = 0; i < MANY; i++) {
        struct span *span;
        assert_non_null(blocks[i] = lu_heap_malloc(heap, 30000));
        assert_true(lu__fast_find(lu__heap, blocks[i], &span));
    }
    lu_heap_destroy(heap);
}

/* ------------------------------------------------------------------ misuse ------------------- */

static void *hidden(void *block) {
    __asm__ volatile("" : "+r"(block));
    return block;
}

static void expect(size_t count, lu_violation_kind_t expected, const char *name) {
    assert_int_equal(violations, count);
    assert_int_equal(kind, expected);
    assert_string_equal(call, name);
}

static void misuse_is_told_as_ever(void **state) {
    (void)state;
    lu_set_violation_handler(on_violation, NULL);
    for (unsigned flags = 0; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = make(flags), *other = make(flags);
        violations = 0;
        char *block = lu_heap_malloc(heap, 100), *kept = lu_heap_malloc(heap, 100);
        memset(block, 1, 100);
        lu_free(hidden(block + 16));
        expect(1, LU_INTERIOR_POINTER, "free");
        lu_heap_free(heap, hidden(block + 16));
        expect(2, LU_INTERIOR_POINTER, "lu_heap_free");
        lu_free_sized(hidden(block), 300); /* which frees it */
        expect(3, LU_SIZE_MISMATCH, "free_sized");
        lu_free(hidden(block));
        expect(4, LU_DOUBLE_FREE, "free");
        lu_heap_free(heap, hidden(block));
        expect(5, LU_DOUBLE_FREE, "lu_heap_free");
        assert_null(lu_heap_realloc(heap, hidden(block), 100));
        expect(6, LU_DOUBLE_FREE, "lu_heap_realloc");
        lu_free_sized(hidden(block), 100);
        expect(7, LU_DOUBLE_FREE, "free_sized");
        assert_null(lu_heap_realloc(other, hidden(kept), 2000));
        expect(8, LU_WRONG_HEAP, "lu_heap_realloc");
        assert_null(lu_heap_realloc(other, hidden(kept), 100)); /* where it would stay as well */
        expect(9, LU_WRONG_HEAP, "lu_heap_realloc");
        assert_ptr_equal(owner_of(kept), heap);
        assert_int_equal(live_in(heap), 1);
        lu_heap_destroy(heap);
        lu_free(hidden(kept));
        assert_int_equal(violations, 10);
        lu_heap_free(other, hidden(kept));
        assert_int_equal(violations, 11);
        assert_int_equal(live_in(other), 0);
        assert_int_equal(holder_of(other), 0);
        lu_heap_destroy(other);
    }
    lu_set_violation_handler(NULL, NULL);
}

/* What a heap that ends had on its lists is not there for who still uses it. */
static void ended_heaps_have_no_blocks(void **state) {
    (void)state;
    for (unsigned flags = 0; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = make(flags);
        for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) stock(heap, sizes[i]);
        lu__inside_set(1);
        lu__user_clear(engine_heap(heap));
        for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
            void *block = lu_heap_malloc(heap, sizes[i]);
            lu__inside_set(0);
            assert_true(lu__emergency_usable(block) != 0);
            lu__inside_set(1);
        }
        lu__inside_set(0);
        lu_heap_destroy(heap);
    }
}

/* A live block whose first word is that of a free one goes back like any other. */
static void blocks_that_look_free_are_freed(void **state) {
    (void)state;
    for (unsigned flags = 0; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = make(flags);
        stock(heap, 100);
        for (unsigned way = 0; way < 3; way++) {
            uintptr_t *block = lu_heap_malloc(heap, 100);
            *block = LU_LIST_END ^ (uintptr_t)block ^ lu__span_of(lu__region_of(block), block)->key;
            __asm__ volatile("" ::: "memory");
            if (way == 0) lu_free(block);
            if (way == 1) lu_heap_free(heap, block);
            if (way == 2) lu_free_sized(block, 100);
            assert_int_equal(live_in(heap), 0);
        }
        lu_heap_destroy(heap);
    }
}

/* Large, huge, and in the second slice of a span: the fast paths leave them to the others. */
static void other_blocks_of_a_heap_are_freed(void **state) {
    (void)state;
    static const size_t others[] = {40000, 65536, 65537, 200000, 40u << 20};
    for (unsigned flags = 0; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = make(flags);
        void *blocks[8];
        for (size_t i = 0; i < LU_COUNT_OF(others); i++) {
            for (size_t b = 0; b < 8; b++) {
                assert_non_null(blocks[b] = lu_heap_malloc(heap, others[i]));
                memset(blocks[b], 1, 100);
            }
            assert_int_equal(live_in(heap), 8);
            for (size_t b = 0; b < 8; b++) {
                if (b % 2 == 0) lu_free(blocks[b]);
                if (b % 2 == 1) lu_heap_free(heap, blocks[b]);
            }
            assert_int_equal(live_in(heap), 0);
        }
        lu_heap_destroy(heap);
    }
}

/* A large block of `heap` in whose descriptor stands what a span left there in an earlier life. */
static void *make_stale(lu_heap_t *heap) {
    void *block = lu_heap_malloc(heap, 200000);
    assert_non_null(block);
    memset(block, 1, 100);
    struct span *span = lu__span_of(lu__region_of(block), block);
    span->class_id = (uint8_t)lu__class_of(100);
    span->inverse = 0;
    span->bound = 1;
    span->head = LU_LIST_END;
    span->list = &span->head;
    span->needed = 100;
    return block;
}

static void descriptors_of_other_runs_are_not_believed(void **state) {
    (void)state;
    lu_set_violation_handler(on_violation, NULL);
    for (unsigned flags = 0; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = make(flags);
        lu_free(make_stale(heap));
        assert_int_equal(live_in(heap), 0);
        lu_heap_free(heap, make_stale(heap));
        assert_int_equal(live_in(heap), 0);
        violations = 0;
        lu_free_sized(hidden(make_stale(heap)), 100); /* which frees it */
        expect(1, LU_SIZE_MISMATCH, "free_sized");
        assert_int_equal(live_in(heap), 0);
        lu_heap_destroy(heap);
    }
    lu_set_violation_handler(NULL, NULL);
}

static size_t live_blocks(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    return stats.live_blocks;
}

/* Statistics and errno, over many frees: the spans wake, end and are looked at on the way. */
static void everything_is_counted(void **state) {
    (void)state;
    enum { MANY = 20000 };
    static void *blocks[MANY];
    for (unsigned flags = 0; flags <= LU_HEAP_SINGLE_THREADED; flags++) {
        lu_heap_t *heap = make(flags);
        size_t before = live_blocks();
        errno = 77;
        for (size_t i = 0; i < MANY; i++) {
            assert_non_null(blocks[i] = lu_heap_malloc(heap, 1 + i % 600));
        }
        assert_int_equal(live_blocks(), before + MANY);
        assert_int_equal(live_in(heap), MANY);
        for (size_t i = 0; i < MANY; i += 2) lu_free(blocks[i]);
        assert_int_equal(live_blocks(), before + MANY / 2);
        assert_int_equal(live_in(heap), MANY / 2);
        for (size_t i = 1; i < MANY; i += 2) lu_heap_free(heap, blocks[i]);
        assert_int_equal(live_blocks(), before);
        assert_int_equal(live_in(heap), 0);
        assert_int_equal(errno, 77);
        lu_heap_destroy(heap);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_threaded_heaps_take_no_slow_path),
        cmocka_unit_test(resize_moves_within_the_heap),
        cmocka_unit_test(a_list_of_one_block_is_refilled_early),
        cmocka_unit_test(shared_heaps_are_left_alone_inside),
        cmocka_unit_test(threads_share_a_heap),
        cmocka_unit_test(threads_without_a_heap_get_one),
        cmocka_unit_test(new_parts_of_the_region_are_seen),
        cmocka_unit_test(misuse_is_told_as_ever),
        cmocka_unit_test(ended_heaps_have_no_blocks),
        cmocka_unit_test(blocks_that_look_free_are_freed),
        cmocka_unit_test(other_blocks_of_a_heap_are_freed),
        cmocka_unit_test(descriptors_of_other_runs_are_not_believed),
        cmocka_unit_test(everything_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
