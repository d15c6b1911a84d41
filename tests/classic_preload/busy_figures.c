/*
 * busy_figures.c - mallinfo2, malloc_info and malloc_trim while other threads allocate and end.
 *
 * The figures of a heap in motion need not be exact, but they are never less than what one block
 * that stays takes, add up, and asking for them damages nothing.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"

enum { THREADS = 4, BLOCKS = 200, QUESTIONS = 300, STAYS = 1000000 };

static atomic_bool stop;

static void *busy_body(void *arg) {
    void *blocks[BLOCKS] = {NULL};
    size_t sizes[BLOCKS] = {0};
    uint64_t state = (uint64_t)(uintptr_t)arg;
    for (size_t round = 0; round < 2000 && !atomic_load(&stop); round++) {
        size_t i = check_random(&state) % BLOCKS;
        if (blocks[i] != NULL) CHECK_FILLED(blocks[i], sizes[i], i);
        free(blocks[i]);
        sizes[i] = check_random_size(&state, 11);
        blocks[i] = malloc(sizes[i]);
        CHECK(blocks[i] != NULL);
        check_fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < BLOCKS; i++) free(blocks[i]);
    return NULL;
}

/* Threads come and go all the time. */
static void *starting_body(void *arg) {
    while (!atomic_load(&stop)) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, busy_body, arg), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    return NULL;
}

static void ask(FILE *sink, size_t number) {
    struct mallinfo2 info = mallinfo2();
    CHECK(info.arena + info.hblkhd >= STAYS && info.uordblks + info.hblkhd >= STAYS);
    CHECK_EQ(info.uordblks + info.fordblks, info.arena);
    if (number % 10 == 0) CHECK_EQ(malloc_info(0, sink), 0);
    if (number % 10 == 5) malloc_trim(0);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    pthread_t threads[THREADS];
    void *stays = check_hidden(malloc(STAYS));
    FILE *sink = fopen("/dev/null", "w");
    CHECK(stays != NULL && sink != NULL);
    check_fill(stays, STAYS, 1);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, i % 2 == 0 ? busy_body : starting_body,
                                (void *)(i + 1)),
                 0);
    }
    for (size_t i = 0; i < QUESTIONS; i++) ask(sink, i);
    atomic_store(&stop, true);
    for (size_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    ask(sink, 0);
    CHECK_FILLED(stays, STAYS, 1);
    check_passed("%d questions while threads allocate: figures add up, nothing damaged",
                 (int)QUESTIONS);
    return 0;
}
