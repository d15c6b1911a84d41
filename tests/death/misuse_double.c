/*
 * misuse_double.c - blocks that are freed twice: at once, later, by another thread, by realloc.
 *
 * Later means that a thousand other blocks of the size were freed in between, or that the first
 * free was another thread's, still on its way to the owner or long arrived.
 */
#include "misuse.h"

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

enum { OTHERS = 1000 };

static void free_it(void *block) {
    free(block);
}

/* ------------------------------------------------------------------ one thread --------------- */

static void at_once(size_t size) {
    void *guard = misuse_block(size), *block = misuse_block(size), *other = misuse_block(size);
    misuse_says_of(block, block);
    free(block);
    free(misuse_hidden(block));
    free(guard);
    free(other);
}

static void double_8(void) {
    at_once(8);
}
static void double_24(void) {
    at_once(24);
}
static void double_100(void) {
    at_once(100);
}
static void double_1000(void) {
    at_once(1000);
}
static void double_10000(void) {
    at_once(10000);
}
static void double_60000(void) {
    at_once(60000);
}
static void double_large(void) {
    at_once(200000);
}
static void double_huge(void) {
    at_once((size_t)256 << 20);
}

/* The only block of its size: its span may be empty, and gone, after the first free. */
static void double_alone(void) {
    void *block = misuse_block(3000);
    misuse_says_of(block, block);
    free(block);
    free(misuse_hidden(block));
}

/* Frees every `step`-th of the others; with 1 all, so that no span of the size may be left. */
static void delayed(size_t size, size_t step) {
    static void *others[OTHERS];
    void *block = misuse_block(size);
    misuse_says_of(block, block);
    for (size_t i = 0; i < OTHERS; i++) others[i] = misuse_block(size);
    free(block);
    for (size_t i = 0; i < OTHERS; i += step) free(others[i]);
    free(misuse_hidden(block));
}

static void delayed_8(void) {
    delayed(8, 2);
}
static void delayed_100(void) {
    delayed(100, 2);
}
static void delayed_5000(void) {
    delayed(5000, 2);
}
static void delayed_all_free(void) {
    delayed(100, 1);
}

/* Other sizes come and go before the second free. */
static void delayed_by_traffic(void) {
    void *neighbour = misuse_block(48), *block = misuse_block(48);
    misuse_says_of(block, block);
    free(block);
    for (size_t i = 0; i < 100000; i++) free(misuse_block(64 + i % 3000));
    free(misuse_hidden(block));
    free(neighbour);
}

/* The block was the tail of the list, so that its word says "end". */
static void double_last_of_list(void) {
    void *blocks[40];
    for (size_t i = 0; i < 40; i++) blocks[i] = misuse_block(4000);
    misuse_says_of(blocks[0], blocks[0]);
    for (size_t i = 0; i < 40; i++) free(blocks[i]);
    free(misuse_hidden(blocks[0]));
}

static void double_aligned(void) {
    void *guard = aligned_alloc(4096, 4096), *block = aligned_alloc(4096, 4096);
    if (guard == NULL || block == NULL) misuse_cannot("no memory");
    misuse_says_of(block, block);
    free(block);
    free(misuse_hidden(block));
    free(guard);
}

static void realloc_after_free(void) {
    void *guard = misuse_block(100), *block = misuse_block(100);
    misuse_says_of(block, block);
    free(block);
    misuse_hidden(realloc(misuse_hidden(block), 300));
    free(guard);
}

static void usable_after_free(void) {
    void *guard = misuse_block(100), *block = misuse_block(100);
    misuse_says_of(block, block);
    free(block);
    (void)malloc_usable_size(misuse_hidden(block));
    free(guard);
}

/* realloc moved the block; the old address is stale. */
static void free_after_move(void) {
    void *guard = misuse_block(100), *block = misuse_block(100);
    misuse_says_of(block, block);
    if (realloc(misuse_hidden(block), 5000) == block) misuse_cannot("the block did not move");
    free(misuse_hidden(block));
    free(guard);
}

static void realloc_zero_then_free(void) {
    void *guard = misuse_block(100), *block = misuse_block(100);
    misuse_says_of(block, block);
    misuse_hidden(realloc(misuse_hidden(block), 0));
    free(misuse_hidden(block));
    free(guard);
}

/* ------------------------------------------------------------------ two threads -------------- */

/* Many blocks of the size live on: the block's span stays, whoever frees. */
static void *among_others(size_t size) {
    void *block = NULL;
    for (size_t i = 0; i < 100; i++) {
        void *next = misuse_block(size);
        if (i == 50) block = next;
    }
    misuse_says_of(block, block);
    return block;
}

/* The other thread runs before the first free: its start must not take the memory anew. */
static pthread_barrier_t barrier;

static void *wait_and_free(void *block) {
    free(misuse_block(10));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    free(misuse_hidden(block));
    return NULL;
}

static void local_then_remote(size_t size) {
    void *block = among_others(size);
    pthread_t thread;
    if (pthread_barrier_init(&barrier, NULL, 2) != 0) misuse_cannot("no barrier");
    if (pthread_create(&thread, NULL, wait_and_free, block) != 0) misuse_cannot("no thread");
    pthread_barrier_wait(&barrier);
    free(block);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}
static void remote_then_local(size_t size) {
    void *block = among_others(size);
    misuse_in_thread(free_it, block);
    free(misuse_hidden(block));
}
static void local_then_remote_8(void) {
    local_then_remote(8);
}
static void local_then_remote_100(void) {
    local_then_remote(100);
}
static void local_then_remote_5000(void) {
    local_then_remote(5000);
}
static void local_then_remote_large(void) {
    local_then_remote(200000);
}
static void remote_then_local_8(void) {
    remote_then_local(8);
}
static void remote_then_local_100(void) {
    remote_then_local(100);
}
static void remote_then_local_5000(void) {
    remote_then_local(5000);
}
static void remote_then_local_large(void) {
    remote_then_local(200000);
}

static void remote_then_remote(void) {
    void *block = among_others(100);
    misuse_in_thread(free_it, block);
    misuse_in_thread(free_it, misuse_hidden(block));
}

static void free_twice(void *block) {
    free(block);
    free(misuse_hidden(block));
}
static void remote_twice_at_once(void) {
    misuse_in_thread(free_twice, among_others(100));
}

/* The first free is by a thread that lives on and has not yet handed the block back. */
static void *free_and_wait(void *block) {
    free(block);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void remote_alive_then_local(void) {
    void *block = among_others(100);
    pthread_t thread;
    if (pthread_barrier_init(&barrier, NULL, 2) != 0) misuse_cannot("no barrier");
    if (pthread_create(&thread, NULL, free_and_wait, block) != 0) misuse_cannot("no thread");
    pthread_barrier_wait(&barrier);
    free(misuse_hidden(block));
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

/* The owner has ended; the block belongs to nobody's thread when it is freed twice. */
static void *orphan;

static void make_orphan(void *unused) {
    (void)unused;
    orphan = among_others(100);
}
static void orphan_twice(void) {
    misuse_in_thread(make_orphan, NULL);
    free(orphan);
    free(misuse_hidden(orphan));
}

enum { ARRIVED = 1000, TAKEN = 100 };

/* Every second: the others keep the spans in use. */
static void free_every_second(void *blocks) {
    for (size_t i = 0; i < 2 * ARRIVED; i += 2) free(((void **)blocks)[i]);
}

/* Freed by a thread, taken in by the owner, who reuses some others of these blocks; freed again. */
static void remote_arrived_then_local(void) {
    static void *blocks[2 * ARRIVED], *taken[TAKEN];
    for (size_t i = 0; i < 2 * ARRIVED; i++) blocks[i] = misuse_block(200);
    misuse_in_thread(free_every_second, blocks);
    for (size_t i = 0; i < TAKEN; i++) taken[i] = misuse_block(200);
    for (size_t i = 0; i < 2 * ARRIVED; i += 2) {
        size_t k = 0;
        while (k < TAKEN && taken[k] != blocks[i]) k++;
        if (k < TAKEN) continue;
        misuse_says(blocks[i], blocks[i], malloc_usable_size(taken[0]));
        free(misuse_hidden(blocks[i]));
        return;
    }
}

const struct misuse misuse_double_table[] = {
    {"double-8", double_8},
    {"double-24", double_24},
    {"double-100", double_100},
    {"double-1000", double_1000},
    {"double-10000", double_10000},
    {"double-60000", double_60000},
    {"double-large", double_large},
    {"double-huge", double_huge},
    {"double-alone", double_alone},
    {"double-delayed-8", delayed_8},
    {"double-delayed-100", delayed_100},
    {"double-delayed-5000", delayed_5000},
    {"double-delayed-all-free", delayed_all_free},
    {"double-delayed-by-traffic", delayed_by_traffic},
    {"double-last-of-list", double_last_of_list},
    {"double-aligned", double_aligned},
    {"realloc-after-free", realloc_after_free},
    {"usable-after-free", usable_after_free},
    {"free-after-move", free_after_move},
    {"realloc-zero-then-free", realloc_zero_then_free},
    {"double-local-then-remote-8", local_then_remote_8},
    {"double-local-then-remote-100", local_then_remote_100},
    {"double-local-then-remote-5000", local_then_remote_5000},
    {"double-local-then-remote-large", local_then_remote_large},
    {"double-remote-then-local-8", remote_then_local_8},
    {"double-remote-then-local-100", remote_then_local_100},
    {"double-remote-then-local-5000", remote_then_local_5000},
    {"double-remote-then-local-large", remote_then_local_large},
    {"double-remote-then-remote", remote_then_remote},
    {"double-remote-twice-at-once", remote_twice_at_once},
    {"double-remote-alive-then-local", remote_alive_then_local},
    {"double-remote-arrived-then-local", remote_arrived_then_local},
    {"double-orphan", orphan_twice},
    {NULL, NULL},
};
