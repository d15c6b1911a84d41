/*
 * thread_exit.c - threads that come and go, and what they still do with malloc while they go.
 *
 * A thread's own state in the allocator must outlive all that runs at its end: thread-local
 * destructors, several rounds of pthread key destructors (also of keys that are newer than the
 * allocator's own), each allocating and freeing. Ten thousand short threads must not cost memory.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "family.h"

static void run_one(void *(*body)(void *), void *arg) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, body, arg), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Allocate, write, check and free blocks of all sizes. */
static void use_malloc(uint64_t seed) {
    void *blocks[40];
    size_t sizes[40];
    uint64_t state = seed;
    for (size_t i = 0; i < 40; i++) {
        sizes[i] = check_random_size(&state, i == 0 ? 20 : 12);
        blocks[i] = i % 4 == 0 ? calloc(1, sizes[i]) : malloc(sizes[i]);
        CHECK(blocks[i] != NULL);
        if (i % 4 == 0) CHECK_ZERO(blocks[i], sizes[i]);
        check_fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < 40; i++) {
        CHECK_FILLED(blocks[i], sizes[i], i);
        free(blocks[i]);
    }
}

/* ------------------------------------------------------------------ churn -------------------- */

enum { CHURN = 10000, KEPT = 64 };
static void *kept[KEPT];

static void *short_thread(void *arg) {
    size_t i = (size_t)(uintptr_t)arg;
    use_malloc(i);
    /* One block survives its thread and is freed by a later one. */
    free(kept[i % KEPT]);
    kept[i % KEPT] = malloc(i * 37 % 3000);
    CHECK(kept[i % KEPT] != NULL);
    return NULL;
}

static void churn(void) {
    size_t before = 0;
    size_t threads = check_amount(CHURN);
    for (size_t i = 0; i < threads; i++) {
        if (i == threads / 10) before = check_rss_bytes();
        run_one(short_thread, (void *)i);
    }
    size_t after = check_rss_bytes();
    CHECK_THAT(after <= before + 4 * CHECK_MIB,
               "resident %zu KiB after a tenth of %zu threads, %zu after all", before / 1024,
               threads, after / 1024);
    check_passed("%zu short threads: resident %zu KiB after a tenth, %zu after all", threads,
                 before / 1024, after / 1024);
}

/* Many threads at a time, again and again; all of a wave hold their blocks at the same moment. That
   is when memory is looked at: how much of it is still there after a wave is a matter of time. What
   memory a thread gets that others have left, and how well it fits, is chance; what is lost in each
   wave would be five times as much in the end. */
enum { WAVE = 100 };
static pthread_barrier_t all_hold; /* passed twice: when they hold, and when that was measured */

static void *wave_body(void *arg) {
    void *held[200];
    uint64_t state = (uint64_t)(uintptr_t)arg;
    for (size_t i = 0; i < 200; i++) {
        size_t size = check_random_size(&state, 12);
        held[i] = malloc(size);
        CHECK(held[i] != NULL);
        memset(held[i], 1, size);
    }
    pthread_barrier_wait(&all_hold);
    pthread_barrier_wait(&all_hold);
    for (size_t i = 0; i < 200; i++) free(held[i]);
    return NULL;
}

static void waves(void) {
    pthread_t threads[WAVE];
    size_t before = 0, after = 0;
    CHECK_EQ(pthread_barrier_init(&all_hold, NULL, WAVE + 1), 0);
    for (int round = 0; round < 12; round++) {
        for (size_t i = 0; i < WAVE; i++) {
            CHECK_EQ(pthread_create(&threads[i], NULL, wave_body, (void *)i), 0);
        }
        pthread_barrier_wait(&all_hold);
        after = check_rss_bytes();
        pthread_barrier_wait(&all_hold);
        for (size_t i = 0; i < WAVE; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
        if (round == 3) before = after;
    }
    CHECK_THAT(after <= 2 * before, "resident %zu KiB after 4 waves, %zu after 12", before / 1024,
               after / 1024);
    check_passed("12 waves of %d threads: resident %zu to %zu KiB", (int)WAVE, before / 1024,
                 after / 1024);
}

/* ------------------------------------------------------------------ the end of a thread ------ */

enum { KEYS = 8, ROUNDS = 4 }; /* PTHREAD_DESTRUCTOR_ITERATIONS is 4 */

static pthread_key_t keys[KEYS];
static atomic_int key_calls, local_calls;

struct payload {
    size_t key, round, size;
    unsigned char *bytes;
};

static struct payload *make_payload(size_t key, size_t round) {
    struct payload *payload = malloc(sizeof *payload);
    CHECK(payload != NULL);
    *payload = (struct payload){key, round, 10 + key * 1000 + round, NULL};
    payload->bytes = malloc(payload->size);
    CHECK(payload->bytes != NULL);
    check_fill(payload->bytes, payload->size, key + round);
    return payload;
}

/* Frees its value, and sets a new one until the last round. */
static void key_destructor(void *value) {
    struct payload *payload = value;
    CHECK_FILLED(payload->bytes, payload->size, payload->key + payload->round);
    atomic_fetch_add(&key_calls, 1);
    use_malloc(payload->key);
    if (payload->round + 1 < ROUNDS) {
        CHECK_EQ(
            pthread_setspecific(keys[payload->key], make_payload(payload->key, payload->round + 1)),
            0);
    }
    free(payload->bytes);
    free(payload);
}

extern int __cxa_thread_atexit_impl(void (*destroy)(void *), void *object, void *module);
extern void *__dso_handle;

static void local_destructor(void *object) {
    struct payload *payload = object;
    CHECK_FILLED(payload->bytes, payload->size, payload->key + payload->round);
    atomic_fetch_add(&local_calls, 1);
    use_malloc(3);
    free(payload->bytes);
    free(payload);
}

/* What a C++ thread_local object with a destructor does. */
static void register_local(size_t key) {
    CHECK_EQ(__cxa_thread_atexit_impl(local_destructor, make_payload(key, 0), &__dso_handle), 0);
}

static void *ending_body(void *arg) {
    bool touched = arg != NULL;
    if (touched) use_malloc(1);
    for (size_t i = 0; i < KEYS; i++) {
        CHECK_EQ(pthread_setspecific(keys[i], make_payload(i, 0)), 0);
    }
    for (size_t i = 0; i < 4; i++) register_local(i);
    return NULL;
}

static void destructors(void) {
    enum { THREADS = 300 };
    for (size_t i = 0; i < KEYS; i++) CHECK_EQ(pthread_key_create(&keys[i], key_destructor), 0);
    size_t before = 0, after = 0;
    for (size_t i = 0; i < THREADS; i++) {
        run_one(ending_body, (void *)(i % 2));
        after = check_rss_bytes();
        if (i == THREADS / 10) before = after;
    }
    CHECK_EQ(atomic_load(&key_calls), THREADS * KEYS * ROUNDS);
    CHECK_EQ(atomic_load(&local_calls), THREADS * 4);
    CHECK_THAT(after <= before + 4 * CHECK_MIB, "resident %zu KiB, later %zu", before / 1024,
               after / 1024);
    for (size_t i = 0; i < KEYS; i++) CHECK_EQ(pthread_key_delete(keys[i]), 0);
    check_passed("%d rounds of key destructors and thread-local destructors allocate and free",
                 (int)ROUNDS);
}

/* A thread whose only use of malloc is a free in a destructor. */
static void free_destructor(void *value) {
    atomic_fetch_add(&key_calls, 1);
    free(value);
}

static void *only_free_at_end(void *arg) {
    CHECK_EQ(pthread_setspecific(keys[0], arg), 0);
    return NULL;
}

static void first_use_in_destructor(void) {
    CHECK_EQ(pthread_key_create(&keys[0], free_destructor), 0);
    atomic_store(&key_calls, 0);
    for (size_t i = 0; i < 500; i++) {
        void *block = malloc(i * i + 1);
        CHECK(block != NULL);
        run_one(only_free_at_end, block);
    }
    CHECK_EQ(atomic_load(&key_calls), 500);
    check_passed("threads whose first use of malloc is a free at their end");
}

/* Threads that detach and are still ending when the process ends. */
static void *detached_body(void *arg) {
    (void)arg;
    for (;;) use_malloc(5);
    return NULL;
}

static void end_while_threads_run(void) {
    pthread_attr_t attr;
    CHECK_EQ(pthread_attr_init(&attr), 0);
    CHECK_EQ(pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED), 0);
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, &attr, detached_body, NULL), 0);
    }
    check_passed("the process ends while threads allocate");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_small_pages();
    churn();
    waves();
    destructors();
    first_use_in_destructor();
    end_while_threads_run();
    return 0;
}
