/*
 * thread_free.c - blocks that one thread allocates and another frees.
 *
 * Contents survive the way between threads, in every direction and for every size; and memory does
 * not grow when one thread only allocates and others only free, when a thread frees that never
 * allocated, or when the roles change. Growth is measured as resident memory after a warm-up.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "family.h"

enum { THREADS = 4, SLOTS = 4096 };

struct block {
    size_t size;
    uint64_t seed;
    unsigned char bytes[];
};

static _Atomic(struct block *) slots[SLOTS];

static struct block *make_block(uint64_t *state, unsigned bits) {
    size_t size = check_random_size(state, bits);
    uint64_t word = check_random(state);
    const struct family *family = &family_table[word % 16 == 0 ? (word >> 8) % FAMILY_COUNT : 0];
    struct block *block = family->alloc(sizeof *block + size);
    CHECK(block != NULL);
    block->size = size;
    block->seed = word;
    check_fill(block->bytes, size, word);
    return block;
}

static void end_block(struct block *block) {
    if (block == NULL) return;
    CHECK_FILLED(block->bytes, block->size, block->seed);
    free(block);
}

static void run_threads(size_t count, void *(*body)(void *)) {
    pthread_t threads[16];
    for (size_t i = 0; i < count; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, body, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < count; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* Every thread puts blocks into random slots and frees what it finds there. */
static void *exchange_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    size_t rounds = check_amount(100000);
    for (size_t round = 0; round < rounds; round++) {
        unsigned bits = round % 1000 == 0 ? 21 : round % 50 == 0 ? 16 : 9;
        struct block *block = make_block(&state, bits);
        if (round % 5 == 0) {
            size_t size = check_random_size(&state, bits);
            size_t same = size < block->size ? size : block->size;
            block = realloc(block, sizeof *block + size);
            CHECK(block != NULL);
            CHECK_FILLED(block->bytes, same / 8 * 8, block->seed);
            block->size = size;
            check_fill(block->bytes, size, block->seed);
        }
        end_block(atomic_exchange(&slots[check_random(&state) % SLOTS], block));
    }
    return NULL;
}

static void exchange(void) {
    run_threads(THREADS, exchange_body);
    for (size_t i = 0; i < SLOTS; i++) end_block(atomic_exchange(&slots[i], NULL));
    check_passed("%d threads exchange %zu blocks through %d slots", (int)THREADS,
                 THREADS * check_amount(100000), (int)SLOTS);
}

/* ------------------------------------------------------------------ one way ------------------ */

enum { QUEUE = 1024 };

static _Atomic(struct block *) queue[QUEUE];
static atomic_size_t queue_tail;
static size_t blocks_per_round;
static unsigned bits_of_round;

static void *producer_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    for (size_t i = 0; i < blocks_per_round; i++) {
        struct block *block = make_block(&state, bits_of_round);
        while (atomic_load(&queue[i % QUEUE]) != NULL) sched_yield();
        atomic_store(&queue[i % QUEUE], block);
    }
    return NULL;
}

static void *consumer_body(void *arg) {
    (void)arg;
    for (;;) {
        size_t i = atomic_fetch_add(&queue_tail, 1);
        if (i >= blocks_per_round) return NULL;
        struct block *block;
        while ((block = atomic_exchange(&queue[i % QUEUE], NULL)) == NULL) sched_yield();
        end_block(block);
    }
}

/* One round: a producer and consumers, none of which allocates but the first. */
static void one_way_round(size_t consumers) {
    pthread_t threads[8];
    atomic_store(&queue_tail, 0);
    CHECK_EQ(pthread_create(&threads[0], NULL, producer_body, (void *)7), 0);
    for (size_t i = 1; i <= consumers; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, consumer_body, NULL), 0);
    }
    for (size_t i = 0; i <= consumers; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

static void one_way(void) {
    static const unsigned bits[] = {7, 12, 17};
    for (size_t k = 0; k < CHECK_COUNT_OF(bits); k++) {
        bits_of_round = bits[k];
        blocks_per_round = check_amount(bits[k] > 15 ? 3000 : 20000);
        for (int i = 0; i < 3; i++) one_way_round(2);
        size_t before = check_rss_bytes(), highest = 0;
        for (int i = 0; i < 12; i++) {
            one_way_round((size_t)(i % 3) + 1);
            size_t now = check_rss_bytes();
            if (now > highest) highest = now;
        }
        /* At most the queue and what is under way is live: 1,024 blocks of 2^bits bytes. */
        size_t slack = 6 * CHECK_MIB + ((size_t)QUEUE << bits[k]) / 4;
        CHECK_THAT(highest <= before + slack, "blocks below 2^%u bytes: %zu KiB before, %zu later",
                   bits[k], before / 1024, highest / 1024);
        check_passed("producer and consumers, blocks below 2^%u bytes: resident %zu to %zu KiB",
                     bits[k], before / 1024, highest / 1024);
    }
}

/* ------------------------------------------------------------------ freeing only ------------- */

enum { HANDED = 20000 };
static struct block *handed[HANDED];
static size_t handed_count; /* that are used */
static pthread_barrier_t barrier;
static atomic_bool stop;

/* A thread that lives on and never allocates: it frees all that it is handed. */
static void *free_only_body(void *arg) {
    (void)arg;
    for (;;) {
        pthread_barrier_wait(&barrier);
        if (atomic_load(&stop)) return NULL;
        for (size_t i = 0; i < handed_count; i++) end_block(handed[i]);
        pthread_barrier_wait(&barrier);
    }
}

static void free_only(void) {
    pthread_t thread;
    uint64_t state = 11;
    size_t before = 0, after = 0;
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, 2), 0);
    CHECK_EQ(pthread_create(&thread, NULL, free_only_body, NULL), 0);
    for (int round = 0; round < 24; round++) {
        for (size_t i = 0; i < handed_count; i++) handed[i] = make_block(&state, 10);
        if (round == 4) before = check_rss_bytes();
        after = check_rss_bytes();
        pthread_barrier_wait(&barrier); /* the other thread frees */
        pthread_barrier_wait(&barrier);
    }
    atomic_store(&stop, true);
    pthread_barrier_wait(&barrier);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_THAT(after <= before + 6 * CHECK_MIB, "resident %zu KiB after 5 rounds, %zu after 24",
               before / 1024, after / 1024);
    check_passed("a thread that only frees: resident %zu to %zu KiB", before / 1024, after / 1024);
}

/* Blocks of threads that have ended are as good as others. */
static void *leave_blocks_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    size_t first = ((size_t)(uintptr_t)arg - 1) * (handed_count / THREADS);
    for (size_t i = first; i < first + handed_count / THREADS; i++) {
        handed[i] = make_block(&state, i % 100 == 0 ? 18 : 10);
    }
    return NULL;
}

static void orphans(void) {
    size_t before = 0, after = 0;
    for (int round = 0; round < 10; round++) {
        run_threads(THREADS, leave_blocks_body);
        after = check_rss_bytes();
        if (round == 3) before = after;
        for (size_t k = 0; k < handed_count; k++) {
            size_t i = k * 7919 % handed_count;
            end_block(handed[i]);
        }
    }
    CHECK_THAT(after <= before + 10 * CHECK_MIB, "resident %zu KiB after 4 rounds, %zu after 10",
               before / 1024, after / 1024);
    check_passed("blocks of finished threads: resident %zu to %zu KiB", before / 1024,
                 after / 1024);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_small_pages();
    handed_count = check_amount(HANDED);
    exchange();
    one_way();
    free_only();
    orphans();
    return 0;
}
