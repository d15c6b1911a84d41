/* test_pt_threads.c - ptmalloc: arenas, simulated and real threads, fork, limits, random calls. */
#include "test_pt.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static void simulated_threads_have_arenas(void **state) {
    (void)state;
    struct lu__classic_config config = {.arenas = 3};
    struct lu__classic *heap = create(&config);
    char *blocks[5];
    for (unsigned i = 0; i < 5; i++) {
        lu__classic_set_thread(heap, i);
        blocks[i] = give(heap, 1000);
    }
    assert_false(is_mapped(heap, blocks[0]));
    assert_true(is_mapped(heap, blocks[1]));
    assert_true(is_mapped(heap, blocks[2]));
    assert_int_equal(header_of(blocks[1]) & 15, 4 | 1);
    assert_int_equal(heap->area.maps, 2);
    assert_int_equal((uintptr_t)blocks[1] % LU_MIB, 48);
    /* No more arenas: in turn, from the first on. */
    assert_ptr_equal(blocks[3], blocks[0] + 1008);
    assert_ptr_equal(blocks[4], blocks[1] + 1008);
    /* Its cache is the thread's that frees; what leaves the cache goes to its arena. */
    lu__classic_set_thread(heap, 0);
    lu__classic_free(heap, blocks[2]);
    assert_ptr_equal(give(heap, 1000), blocks[2]);
    lu__classic_free(heap, blocks[2]);
    lu__classic_thread_end(heap);
    lu__classic_set_thread(heap, 3);
    assert_ptr_equal(give(heap, 1000), blocks[3] + 1008);
    lu__classic_set_thread(heap, 2);
    assert_ptr_equal(give(heap, 1000), blocks[2]);
    /* A thread that comes when another one went takes its arena. */
    lu__classic_thread_end(heap);
    lu__classic_set_thread(heap, 9);
    assert_ptr_equal(give(heap, 1000), blocks[2] + 1008);
    destroy(heap);
}

static void an_arena_grows_by_heaps(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    give(heap, 1);
    lu__classic_set_thread(heap, 1);
    enum { COUNT = 50 };
    char *blocks[COUNT];
    for (int i = 0; i < COUNT; i++) blocks[i] = give(heap, 100000);
    heap_check(heap);
    assert_int_equal(heap->area.mapped, 5 * LU_MIB);
    for (int i = COUNT - 1; i >= 0; i--) lu__classic_free(heap, blocks[i]);
    heap_check(heap);
    assert_int_equal(heap->area.mapped, LU_MIB);
    /* What no heap has room for, below the threshold: the break. The thread's arena stays. */
    lu__classic_free(heap, give(heap, 4 * LU_MIB));
    assert_false(is_mapped(heap, give(heap, 2 * LU_MIB)));
    assert_ptr_equal(give(heap, 1000), blocks[0]);
    destroy(heap);
}

enum { THREADS = 4, KEPT = 64 };
static char *boxes[KEPT]; /* atomic: blocks that one thread leaves for another */

static void *work(void *arg) {
    struct lu__classic *heap = arg;
    struct random random = {(uintptr_t)&random};
    char *kept[KEPT] = {0};
    for (int i = 0; i < 6000; i++) {
        size_t slot = random_below(&random, KEPT), bytes = 1 + random_below(&random, 3000);
        if (random_below(&random, 100) == 0) bytes += 200000;
        if (kept[slot] != NULL && *kept[slot] != (char)slot) heap_fail("a block changed");
        if (kept[slot] == NULL) {
            kept[slot] = lu__classic_alloc(heap, bytes);
        } else if (random_below(&random, 4) == 0) {
            kept[slot] = lu__classic_resize(heap, kept[slot], bytes);
        } else if (random_below(&random, 4) == 0) {
            char *other = __atomic_exchange_n(&boxes[slot], kept[slot], __ATOMIC_ACQ_REL);
            lu__classic_free(heap, other);
            kept[slot] = NULL;
            continue;
        } else {
            lu__classic_free(heap, kept[slot]);
            kept[slot] = NULL;
            continue;
        }
        if (kept[slot] == NULL) heap_fail("no memory");
        *kept[slot] = (char)slot;
    }
    for (int i = 0; i < KEPT; i++) lu__classic_free(heap, kept[i]);
    lu__classic_thread_end(heap);
    return NULL;
}

static void real_threads(void **state) {
    (void)state;
    static const unsigned arenas[] = {1, 2, 16};
    for (size_t i = 0; i < LU_COUNT_OF(arenas); i++) {
        struct lu__classic_config config = {.arenas = arenas[i]};
        struct lu__classic *heap = heap_create(&lu__policy_pt, &config, NULL);
        pthread_t threads[THREADS];
        for (int t = 0; t < THREADS; t++) {
            assert_int_equal(pthread_create(&threads[t], NULL, work, heap), 0);
        }
        for (int t = 0; t < THREADS; t++) assert_int_equal(pthread_join(threads[t], NULL), 0);
        heap_check(heap);
        for (int b = 0; b < KEPT; b++) {
            lu__classic_free(heap, boxes[b]);
            boxes[b] = NULL;
        }
        lu__classic_thread_end(heap);
        struct lu__classic_stats stats;
        lu__classic_stats(heap, &stats);
        assert_int_equal(stats.used_blocks, 0);
        heap_check(heap);
        lu__classic_destroy(heap);
    }
}

static void the_child_of_fork_goes_on(void **state) {
    (void)state;
    struct lu__classic *heap = create(NULL);
    char *block = give(heap, 100);
    lu__classic_set_thread(heap, 1);
    give(heap, 100);
    lu__classic_fork_prepare(heap);
    pid_t child = fork();
    assert_int_not_equal(child, -1);
    if (child == 0) {
        lu__classic_fork_child(heap);
        for (unsigned i = 0; i < 3; i++) {
            lu__classic_set_thread(heap, i);
            give(heap, 50000);
        }
        lu__classic_free(heap, block);
        heap_check(heap);
        _exit(0);
    }
    lu__classic_fork_parent(heap);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    give(heap, 50000);
    destroy(heap);
}

/* ---------------------------------------------------------------- limits, and anything at all */

static size_t take_all(struct lu__classic *heap, size_t bytes, void ***last) {
    size_t count = 0;
    for (void **block; (block = lu__classic_alloc(heap, bytes)) != NULL; count++) {
        *block = *last;
        *last = block;
    }
    return count;
}

static void exhaustion(void **state) {
    (void)state;
    static const size_t sizes[] = {24, 1000, 50000, 150000};
    for (size_t i = 0; i < LU_COUNT_OF(sizes); i++) {
        struct lu__classic_config config = {.limit_bytes = 3 * LU_MIB, .arenas = 4};
        struct lu__classic *heap = create(&config);
        void **blocks = NULL;
        size_t count = take_all(heap, sizes[i], &blocks);
        assert_in_range(count, 2 * LU_MIB / (sizes[i] + 64), 3 * LU_MIB / sizes[i]);
        heap_check(heap);
        assert_null(lu__classic_alloc(heap, 4 * LU_MIB));
        for (void **next; blocks != NULL; blocks = next) {
            next = *blocks;
            lu__classic_free(heap, blocks);
        }
        heap_check(heap);
        size_t again = take_all(heap, sizes[i], &blocks);
        assert_in_range(again, count - count / 4, count + count / 4);
        destroy(heap);
    }
}

struct item {
    unsigned char *block;
    size_t bytes;
    unsigned char fill;
};

static void verify(const struct item *item) {
    size_t wrong = 0;
    for (size_t i = 0; i < item->bytes; i++) wrong += item->block[i] != item->fill;
    assert_int_equal(wrong, 0);
}

static void step(struct lu__classic *heap, struct random *random, struct item *item) {
    static const size_t ranges[] = {200, 200, 2000, 2000, 20000, 300000};
    size_t bytes = random_below(random, ranges[random_below(random, LU_COUNT_OF(ranges))]);
    size_t kind = random_below(random, 8);
    verify(item);
    if (item->block == NULL) {
        size_t align = (size_t)16 << (kind < 2 ? random_below(random, 12) : 0);
        item->block = lu__classic_alloc_aligned(heap, align, bytes);
    } else if (kind < 3) {
        item->block = lu__classic_resize(heap, item->block, bytes);
        item->bytes = LU_MIN(item->bytes, bytes);
        verify(item);
    } else {
        lu__classic_free(heap, item->block);
        *item = (struct item){0};
        if (kind == 7 && random_below(random, 20) == 0) lu__classic_thread_end(heap);
        return;
    }
    assert_non_null(item->block);
    item->bytes = bytes;
    item->fill++;
    memset(item->block, item->fill, bytes);
}

static void anything_at_all(void **state) {
    (void)state;
    struct random random = {42};
    for (int round = 0; round < 3; round++) {
        struct lu__classic *heap = create(NULL);
        struct item items[100] = {0};
        for (int i = 0; i < 1000; i++) {
            lu__classic_set_thread(heap, (unsigned)random_below(&random, 5));
            step(heap, &random, &items[random_below(&random, LU_COUNT_OF(items))]);
            if (random_below(&random, 500) == 0) lu__classic_trim(heap);
            heap_check(heap);
        }
        destroy(heap);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(simulated_threads_have_arenas),
        cmocka_unit_test(an_arena_grows_by_heaps),
        cmocka_unit_test(real_threads),
        cmocka_unit_test(the_child_of_fork_goes_on),
        cmocka_unit_test(exhaustion),
        cmocka_unit_test(anything_at_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
