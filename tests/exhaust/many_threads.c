/*
 * many_threads.c - very many threads, at once and one after the other.
 *
 *     many_threads alive N       N threads live at the same time; each allocates, hands its blocks
 *                                to its neighbour, checks and frees those of the other neighbour
 *     many_threads lifetimes N   N threads live one after the other, a few at a time; each leaves a
 *                                block to a later one. Resident memory may grow by 16 MiB at most
 */
#include <malloc.h>
#include <pthread.h>

#include "blocks.h"

enum { BLOCKS = 24, THREADS_MOST = 4096, AT_A_TIME = 4, GROWTH_MIB = 16 };

static struct block *make_small(uint64_t *state) {
    return make_block_of(state, 50, 11, 17);
}

static void start(pthread_t *thread, void *(*body)(void *), size_t number) {
    static pthread_attr_t attr;
    static bool ready;
    if (!ready) {
        CHECK_EQ(pthread_attr_init(&attr), 0);
        size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN), most = 64 * CHECK_KIB;
        CHECK_EQ(pthread_attr_setstacksize(&attr, least > most ? least : most), 0);
        ready = true;
    }
    int error = pthread_create(thread, &attr, body, (void *)number);
    CHECK_THAT(error == 0, "thread %zu cannot be created: errno %d", number, error);
}

/* ------------------------------------------------------------------ at once ------------------ */

static struct block *handed[THREADS_MOST][BLOCKS];
static pthread_barrier_t barrier;
static size_t thread_count;

static void *alive_body(void *arg) {
    size_t number = (size_t)(uintptr_t)arg, next = (number + 1) % thread_count;
    uint64_t state = number;
    for (size_t i = 0; i < BLOCKS; i++) handed[next][i] = make_small(&state);
    pthread_barrier_wait(&barrier); /* all are alive, and all blocks are handed over */
    for (size_t i = 0; i < BLOCKS; i++) {
        end_block(handed[number][i]);
        end_block(make_small(&state));
    }
    pthread_barrier_wait(&barrier); /* all blocks are freed, and all threads still there */
    for (size_t i = 0; i < BLOCKS; i++) end_block(make_small(&state));
    return NULL;
}

static void alive(size_t count) {
    static pthread_t threads[THREADS_MOST];
    CHECK(count <= THREADS_MOST);
    thread_count = count;
    CHECK_EQ(pthread_barrier_init(&barrier, NULL, (unsigned)count), 0);
    size_t before = check_rss_bytes();
    for (size_t i = 0; i < count; i++) start(&threads[i], alive_body, i);
    for (size_t i = 0; i < count; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    malloc_trim(0);
    size_t after = check_rss_bytes();
    check_passed("%zu threads at once; resident %zu MiB before, %zu after", count,
                 before / CHECK_MIB, after / CHECK_MIB);
    /* And again, with what they left behind. */
    for (size_t i = 0; i < count; i++) start(&threads[i], alive_body, i);
    for (size_t i = 0; i < count; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    malloc_trim(0);
    size_t again = check_rss_bytes();
    CHECK_THAT(again <= after + GROWTH_MIB * CHECK_MIB,
               "%zu MiB after the first %zu threads, %zu after as many more", after / CHECK_MIB,
               count, again / CHECK_MIB);
    check_passed("as many again: resident %zu MiB", again / CHECK_MIB);
}

/* ------------------------------------------------------------------ one after the other ------ */

static struct block *kept[97];
static pthread_mutex_t kept_mutex = PTHREAD_MUTEX_INITIALIZER;

static void *short_body(void *arg) {
    size_t number = (size_t)(uintptr_t)arg;
    uint64_t state = number;
    struct block *mine[3];
    for (size_t i = 0; i < 3; i++) mine[i] = make_small(&state);
    pthread_mutex_lock(&kept_mutex);
    struct block *other = kept[number % 97];
    kept[number % 97] = mine[0];
    pthread_mutex_unlock(&kept_mutex);
    end_block(other);
    end_block(mine[1]);
    end_block(mine[2]);
    return NULL;
}

static void lifetimes(size_t count) {
    pthread_t threads[AT_A_TIME];
    size_t early = 0;
    for (size_t i = 0; i < count; i += AT_A_TIME) {
        if (early == 0 && i >= count / 50) early = check_rss_bytes();
        for (size_t k = 0; k < AT_A_TIME; k++) start(&threads[k], short_body, i + k);
        for (size_t k = 0; k < AT_A_TIME; k++) CHECK_EQ(pthread_join(threads[k], NULL), 0);
    }
    size_t late = check_rss_bytes();
    for (size_t i = 0; i < 97; i++) end_block(kept[i]);
    CHECK_THAT(late < early + GROWTH_MIB * CHECK_MIB,
               "resident %zu KiB after %zu threads, %zu after %zu", early / 1024, count / 50,
               late / 1024, count);
    check_passed("%zu threads one after the other: resident %zu KiB early, %zu late", count,
                 early / 1024, late / 1024);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_small_pages();
    CHECK_THAT(argc >= 3, "usage: many_threads alive|lifetimes N");
    size_t count = strtoul(argv[2], NULL, 10);
    if (strcmp(argv[1], "alive") == 0) {
        alive(count);
    } else {
        CHECK(strcmp(argv[1], "lifetimes") == 0);
        lifetimes(count);
    }
    return 0;
}
