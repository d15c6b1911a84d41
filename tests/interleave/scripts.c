/*
 * scripts.c - what a few threads do to each other: remote frees, the heap pool, adoption of a
 * finished thread's heap, shared heaps, locks, emergency memory.
 *
 * Blocks of 12,000 bytes are posted one by one, five to a span; those of 64 are collected first.
 * Each script ends with state_check, and where that says nothing of what threads may see, checks in
 * the threads themselves: a block is written by the thread that got it, and must stay as written.
 */
#include <string.h>

#include "engine/emergency.h"
#include "explore.h"
#include "engine/engine.h"
#include "heap/heap.h"
#include "heap/track.h"
#include "lucid/lucid.h"
#include "scripts_cache.h"
#include "state.h"

enum { BIG = 12000, SMALL = 64, BLOCKS = 8 };

static void *blocks[BLOCKS];
static size_t live;

static void *take(size_t size) {
    unsigned char *block = lu_malloc(size);
    EXPLORE_CHECK(block != NULL);
    memset(block, (int)explore_self() + 1, 32);
    return block;
}

static void check_mine(const void *block) {
    const unsigned char *at = block;
    for (size_t i = 0; i < 32; i++) EXPLORE_CHECK(at[i] == explore_self() + 1);
}

static void flush(void) {
    struct heap *mine = lu__thread_enter();
    lu__remote_flush(mine);
    lu__thread_leave(mine);
}
static void drain(void) {
    struct heap *mine = lu__thread_enter();
    lu__remote_drain(mine);
    lu__thread_leave(mine);
}

static void take_big(void) {
    for (size_t i = 0; i < BLOCKS; i++) blocks[i] = take(BIG);
}
static void take_small(void) {
    for (size_t i = 0; i < BLOCKS; i++) blocks[i] = take(SMALL);
}
/* A heap of its own, which a thread would else make in the middle of the script. */
static void have_heap(void) {
    lu_free(lu_malloc(SMALL));
}

static void free_from(size_t first, size_t count) {
    for (size_t i = first; i < first + count; i++) lu_free(blocks[i]);
}

/* ------------------------------------------------------------------ remote frees ------------- */

static void prepare_big(void) {
    explore_as(0, take_big);
    explore_as(1, have_heap);
    explore_as(2, have_heap);
}
static void prepare_small(void) {
    explore_as(0, take_small);
    explore_as(1, have_heap);
    explore_as(2, have_heap);
}

static void free_0_1(void) {
    free_from(0, 2);
}
static void free_2_3(void) {
    free_from(2, 2);
}
static void free_0_2_flush(void) {
    free_from(0, 3);
    flush();
}
static void free_3_4_flush(void) {
    free_from(3, 2);
    flush();
}
static void drain_twice(void) {
    drain();
    drain();
}
static void free_and_take(void) {
    free_from(7, 1);
    blocks[7] = take(BIG);
    drain();
    blocks[5] = take(BIG);
}

static void check_four_left(void) {
    state_check(4);
    explore_as(0, drain);
    state_check(4);
}
static void check_three_left(void) {
    explore_as(0, drain);
    state_check(3);
}
static void check_seven_left(void) {
    explore_as(0, drain);
    state_check(7);
}

/* ------------------------------------------------------------------ exit and adoption -------- */

static void end(void) {
    explore_thread_end();
}
static void take_new(void) { /* the heap is the pool's or a new one */
    void *block = take(BIG), *other = take(SMALL);
    check_mine(block);
    lu_free(block);
    check_mine(other);
    live++;
}
static void check_adoption(void) {
    state_check(6 + live);
}

static void prepare_pool(void) { /* a thread that is none of those to come */
    explore_as(EXPLORE_THREADS, have_heap);
    explore_as(EXPLORE_THREADS, end);
    live = 0;
}
static void come_and_go(void) {
    void *block = take(SMALL), *other = take(SMALL);
    struct heap *mine = lu__thread_heap();
    EXPLORE_CHECK(mine->state == LU_HEAP_ACTIVE);
    check_mine(block);
    lu_free(block);
    check_mine(other);
    lu_free(other);
    end();
}
static void check_pool(void) {
    size_t active, pooled;
    lu__pool_counts(&active, &pooled);
    EXPLORE_CHECK(active == 0);
    EXPLORE_CHECK(pooled >= 1 && pooled <= 3);
    state_check(0);
}

/* The pool's heap has blocks out, all of a full span that sleeps. */
static void prepare_sleeper(void) {
    explore_as(EXPLORE_THREADS, take_big);
    explore_as(1, have_heap);
    explore_as(2, have_heap);
    explore_as(EXPLORE_THREADS, end);
    live = 0;
}
static void free_all(void) {
    free_from(0, BLOCKS);
}
static void purge(void) {
    (void)lu_purge();
}
static void check_active(void) {
    EXPLORE_CHECK(lu__thread_heap()->state == LU_HEAP_ACTIVE);
}
static void check_sleeper(void) {
    size_t active, pooled;
    lu__pool_counts(&active, &pooled);
    for (unsigned i = 0; i < active; i++) explore_as(i, check_active); /* threads 0 to 2 */
    state_check(live);
}

/* Calls after the destructor borrow a heap for their time. */
static void end_then_borrow(void) {
    have_heap();
    end();
    void *block = take(SMALL);
    check_mine(block);
    lu_free(block);
}
static void check_borrowed(void) {
    explore_as(1, purge);
    state_check(0);
}

/* ------------------------------------------------------------------ fork -------------------- */

/* The child has the owner of the blocks; the thread that frees some of them is gone. */
static void fork_then_drain(void) {
    explore_fork();
    drain();
}
static void check_forked(void) {
    size_t count =
        state_count_forked(); /* a post that is half done is live, or is free: never lost */
    EXPLORE_CHECK(count >= BLOCKS - 4 && count <= BLOCKS);
}
/* The child has a thread that comes, while another came or went. */
static void fork_then_come(void) {
    explore_fork();
    come_and_go();
    (void)lu_purge();
}

/* ------------------------------------------------------------------ shared heaps ------------- */

static lu_heap_t *heap;

static void make_heap(void) {
    heap = lu_heap_create(LU_HEAP_SHARED);
    for (size_t i = 0; i < BLOCKS; i++) blocks[i] = lu_heap_malloc(heap, BIG);
}
static void *large;
static void make_large(void) {
    large = lu_heap_malloc(heap, 100000);
}
static void prepare_heap(void) {
    explore_as(0, make_heap);
    explore_as(1, have_heap);
}
static void use_heap(void) {
    size_t mine = explore_self() * 2;
    lu_free(blocks[mine]);
    unsigned char *block = lu_heap_malloc(heap, BIG);
    EXPLORE_CHECK(block != NULL);
    memset(block, (int)explore_self() + 1, 32);
    lu_heap_free(heap, blocks[mine + 1]);
    check_mine(block);
}
static void check_heap_blocks(void) {
    state_check(BLOCKS - 2);
}

/* Blocks go back to the list of a class, while the other thread takes from it, and carves more
 * where it finds none. */
static void use_one_list(void) {
    size_t mine = BLOCKS - 1 - explore_self() * 2;
    unsigned char *block = lu_heap_calloc(heap, 1, BIG);
    EXPLORE_CHECK(block != NULL && block[0] == 0);
    memset(block, (int)explore_self() + 1, 32);
    lu_free_sized(blocks[mine], BIG);
    blocks[mine - 1] = lu_heap_realloc(heap, blocks[mine - 1], SMALL);
    EXPLORE_CHECK(blocks[mine - 1] != NULL);
    lu_free(blocks[mine - 1]);
    check_mine(block);
}

/* The child goes on with a heap in which another thread was. */
static void fork_then_use_heap(void) {
    explore_fork();
    use_heap();
    for (size_t i = 4; i < BLOCKS; i++) {
        unsigned char *block = lu_heap_malloc(heap, BIG);
        EXPLORE_CHECK(block != NULL);
        for (size_t k = 4; k < BLOCKS; k++) EXPLORE_CHECK(block != blocks[k]);
        lu_free(blocks[i]);
        blocks[i] = block;
    }
}
static void check_heap_forked(void) {
    size_t count = state_count_forked(); /* of two that were freed, and one that was taken */
    EXPLORE_CHECK(count >= BLOCKS - 3 && count <= BLOCKS);
}

/* A block is used while its heap is being destroyed: wrong, and told or not, but no more. */
static unsigned told;
static bool go_on(const lu_violation_t *violation, void *arg) {
    (void)violation, (void)arg;
    told++;
    return true;
}
static void prepare_end(void) {
    lu_set_violation_handler(go_on, NULL);
    prepare_heap();
    for (unsigned i = 0; i < 2; i++) explore_as(i, have_heap);
    explore_as(0, make_large);
}
/* One block freed by two threads: one of them is told. */
static void free_same(void) {
    lu_free(blocks[0]);
}
static void free_same_large(void) {
    lu_free(large);
}
static void check_freed_once(void) {
    lu_set_violation_handler(NULL, NULL);
    EXPLORE_CHECK(told == 1);
    state_check(BLOCKS); /* and `large`, without the one */
}
static void end_heap(void) {
    lu_heap_destroy(heap);
}
static void end_heap_and_reuse(void) {
    lu_heap_destroy(heap);
    heap = lu_heap_create(LU_HEAP_SHARED);
    blocks[0] = lu_heap_malloc(heap, BIG);
    lu_heap_destroy(heap);
}
static void free_late(void) {
    lu_free(blocks[1]);
}
static void free_large_late(void) {
    lu_free(large);
}
static void ask_late(void) {
    (void)lu_usable_size(blocks[1]);
    lu_free_sized(blocks[2], BIG);
}
static void resize_late(void) {
    (void)lu_realloc(blocks[1], BIG / 2);
}
static void check_ended(void) {
    lu_set_violation_handler(NULL, NULL);
    state_check(0);
}

static void check_ended_resized(void) { /* it may have moved to the thread's heap before */
    lu_set_violation_handler(NULL, NULL);
    EXPLORE_CHECK(state_count_forked() <= 1);
}

/* The blocks of a heap are visited while another thread ends runs of it and begins others. The
 * three that stay are visited once. */
static unsigned seen[BLOCKS];

static void make_runs(void) {
    heap = lu_heap_create(LU_HEAP_SHARED);
    for (size_t i = 0; i < 5; i++) blocks[i] = lu_heap_malloc(heap, i == 2 ? BIG : 100000);
}
static void prepare_runs_of_heap(void) {
    memset(seen, 0, sizeof seen);
    explore_as(0, make_runs);
    explore_as(1, have_heap);
}
static bool see(void *block, size_t usable_bytes, void *arg) {
    (void)arg;
    EXPLORE_CHECK(usable_bytes >= BIG);
    for (size_t i = 0; i < 5; i++) seen[i] += block == blocks[i];
    return true;
}
static void walk_heap(void) {
    EXPLORE_CHECK(lu_heap_walk(heap, see, NULL));
}
static void change_runs(void) {
    lu_free(blocks[3]);
    lu_heap_free(heap, blocks[1]);
    EXPLORE_CHECK(lu_heap_malloc(heap, 100000) != NULL);
}
static void check_seen(void) {
    EXPLORE_CHECK(seen[0] == 1 && seen[2] == 1 && seen[4] == 1);
    EXPLORE_CHECK(((struct heap *)(void *)heap)->run_count == 4);
    state_check(4);
}

static void check_seen_twice(void) {
    for (size_t i = 0; i < 5; i++) EXPLORE_CHECK(seen[i] == 2);
    state_check(5);
}

/* A walk of all heaps, by one thread, while another uses the structure of an ended one again. */
static void count_heap(struct heap *visited, void *arg) {
    (void)visited;
    ++*(unsigned *)arg;
}
static void make_and_end(void) {
    lu_heap_t *one = lu_heap_create(LU_HEAP_SHARED), *other = lu_heap_create(LU_HEAP_SHARED);
    lu_heap_destroy(one);
    lu_heap_destroy(other);
}
static void prepare_ended(void) {
    explore_as(1, have_heap);
    explore_as(0, make_and_end);
}
static void make_again(void) {
    EXPLORE_CHECK(lu_heap_create(LU_HEAP_SHARED) != NULL);
}
static void walk_heaps(void) {
    unsigned count = 0;
    lu__heap_each(count_heap, &count);
    EXPLORE_CHECK(count == 4); /* of two threads, and two that have ended */
}

/* ------------------------------------------------------------------ bitmaps ------------------ */

enum { ROW = 40 }; /* more than a refill takes from a bitmap */

static struct span *first, *second;

static struct span *span_of(void *block) {
    return lu__span_of(lu__region_of(block), block);
}
/* A live block that looks free, by a number that in the second span is a free block's. */
static void take_row(void) {
    void *row[ROW];
    for (size_t i = 0; i < ROW; i++) row[i] = take(SMALL);
    blocks[0] = row[ROW - 1];
    first = span_of(blocks[0]);
    for (size_t i = 0; i < ROW - 1; i++) lu_free(row[i]);
    *(uintptr_t *)blocks[0] = (LU_LIST_END ^ (uintptr_t)blocks[0]) ^ first->key;
    EXPLORE_CHECK(lu__inside_enter());
    EXPLORE_CHECK(lu__track_refill(lu__thread_heap(), first));
    lu__inside_leave();
    void *other = take(SMALL - 16);
    second = span_of(other);
    lu_free(other);
}
static void prepare_bitmap(void) {
    explore_as(0, take_row);
    explore_as(1, have_heap);
}
/* The bitmap of one span becomes that of another. */
static void pass_bitmap_on(void) {
    EXPLORE_CHECK(lu__inside_enter());
    lu__track_end(first);
    EXPLORE_CHECK(lu__track_refill(lu__thread_heap(), second));
    EXPLORE_CHECK(lu__track_count(second) > 0);
    lu__inside_leave();
}
static void ask(void) {
    EXPLORE_CHECK(!lu__link_is_free(first, (uintptr_t)blocks[0]));
}
static void ask_and_free(void) {
    lu_free(blocks[0]);
    flush();
}
static void check_one_left(void) {
    state_check(1);
}
static void check_none_left(void) {
    explore_as(0, drain);
    state_check(0);
}

/* ------------------------------------------------------------------ runs --------------------- */

static void prepare_runs(void) {
    explore_as(0, have_heap);
    explore_as(1, have_heap);
    lu_free(lu_malloc(300000));
}
static void use_run(void) {
    void *block = take(100000);
    check_mine(block);
    lu_free(block);
}
static void check_runs(void) {
    state_check(0);
    EXPLORE_CHECK(lu__span_figures.used <= 16 * LU_SLICE);
    EXPLORE_CHECK(lu__span_figures.dirty <= 16 * LU_SLICE);
}

/* ------------------------------------------------------------------ the lock, emergency ------ */

static struct lu__lock lock = LU_LOCK_INIT(LU_RANK_LEAF);
static unsigned inside, entered;

static void lock_twice(void) {
    for (int i = 0; i < 2; i++) {
        EXPLORE_CHECK(lu__inside_enter());
        lu__lock_acquire(&lock);
        EXPLORE_CHECK(__atomic_fetch_add(&inside, 1, __ATOMIC_RELAXED) == 0);
        entered++;
        __atomic_store_n(&inside, 0, __ATOMIC_RELAXED);
        lu__lock_release(&lock);
        lu__inside_leave();
    }
}
static void check_lock(void) {
    EXPLORE_CHECK(lock.word == 0);
}

static void take_emergency(void) {
    unsigned char *mine[2];
    for (int i = 0; i < 2; i++) {
        mine[i] = lu__emergency_alloc(16, 40);
        EXPLORE_CHECK(mine[i] != NULL);
        memset(mine[i], (int)explore_self() + 1, 40);
    }
    for (int i = 0; i < 2; i++) {
        EXPLORE_CHECK(lu__emergency_usable(mine[i]) == 48);
        check_mine(mine[i]);
    }
}

/* ------------------------------------------------------------------ the table ---------------- */

const struct script scripts[] = {
    {"posts of two threads", prepare_big, {free_0_1, free_2_3}, check_four_left, 6},
    {"posts and drain", prepare_big, {drain_twice, free_0_1, free_2_3}, check_four_left, 3},
    {"batches and drain",
     prepare_small,
     {drain, free_0_2_flush, free_3_4_flush},
     check_three_left,
     3},
    {"post, free and refill", prepare_big, {free_and_take, free_0_1}, check_seven_left, 3},
    {"exit and post", prepare_big, {end, free_0_1}, check_adoption, 4},
    {"exit, post and adoption", prepare_big, {end, free_0_1, take_new}, check_adoption, 2},
    {"pool", prepare_pool, {come_and_go, come_and_go}, check_pool, 2},
    {"pool of three", prepare_pool, {come_and_go, come_and_go, come_and_go}, check_pool, 1},
    {"adoption of a sleeping span", prepare_sleeper, {take_new, free_all}, check_sleeper, 2},
    {"purge of the pool", prepare_sleeper, {take_new, free_all, purge}, check_sleeper, 2},
    {"borrowed heap", prepare_pool, {end_then_borrow, come_and_go}, check_borrowed, 2},
    {"shared heap", prepare_heap, {use_heap, use_heap}, check_heap_blocks, 3},
    {"list of a shared heap", prepare_heap, {use_one_list, use_one_list}, check_heap_blocks, 2},
    {"fork and shared heap", prepare_heap, {fork_then_use_heap, use_heap}, check_heap_forked, 2},
    {"two frees of a block", prepare_end, {free_same, free_same}, check_freed_once, 3},
    {"two frees of a large block",
     prepare_end,
     {free_same_large, free_same_large},
     check_freed_once,
     3},
    {"end of a heap and a free", prepare_end, {end_heap_and_reuse, free_late}, check_ended, 3},
    {"end of a heap and a free of a large block",
     prepare_end,
     {end_heap, free_large_late},
     check_ended,
     3},
    {"end of a heap and questions", prepare_end, {end_heap, ask_late}, check_ended, 3},
    {"end of a heap and realloc", prepare_end, {end_heap, resize_late}, check_ended_resized, 3},
    {"fork and post", prepare_big, {fork_then_drain, free_0_1, free_2_3}, check_forked, 3},
    {"fork and batches", prepare_small, {fork_then_drain, free_0_2_flush}, check_forked, 3},
    {"fork and pool", prepare_pool, {fork_then_come, come_and_go}, NULL, 2},
    {"fork and end", prepare_big, {fork_then_come, end, free_0_1}, NULL, 2},
    {"walk of a heap", prepare_runs_of_heap, {walk_heap, change_runs}, check_seen, 2},
    {"walks of a heap", prepare_runs_of_heap, {walk_heap, walk_heap}, check_seen_twice, 1},
    {"walk of all heaps", prepare_ended, {make_again, walk_heaps}, NULL, 3},
    {"bitmap of two spans", prepare_bitmap, {pass_bitmap_on, ask}, check_one_left, 2},
    {"bitmap and a free", prepare_bitmap, {pass_bitmap_on, ask_and_free}, check_none_left, 2},
    {"runs", prepare_runs, {use_run, use_run, purge}, check_runs, 2},
    {"lock", NULL, {lock_twice, lock_twice, lock_twice}, check_lock, 2},
    {"lock of two", NULL, {lock_twice, lock_twice}, check_lock, 3},
    {"cache", caches_prepare, {caches_use, caches_use}, caches_check, 3},
    {"cache and reap", caches_prepare, {caches_use, caches_use, caches_reap}, caches_check, 2},
    {"cache and end", caches_prepare, {caches_reap, caches_use_and_end}, caches_check, 2},
    {"fork and cache", caches_prepare, {caches_fork_then_use, caches_use_many}, NULL, 2},
    {"double free in a cache",
     caches_prepare,
     {caches_free_same, caches_free_same},
     caches_check_same,
     4},
    {"emergency memory", NULL, {take_emergency, take_emergency}, NULL, 6},
    {.name = NULL},
};
