/*
 * calls.c - a program that makes known calls of the allocator, to be recorded.
 *
 *     calls all                one call of each kind, in a second thread and in the first
 *     calls threads T N        T threads, N rounds each, that pass every block to another thread
 *     calls forever FILE       calls without end; writes the number of events so far to FILE, in
 *                              place, after each hundred
 *     calls fork               a child that makes the same calls as its parent
 *     calls exec PROGRAM...    becomes another program
 *
 * Sizes are odd numbers above 7000 that nothing else asks for, so that a test finds these calls
 * among those of libc.
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(x)                                            \
    do {                                                    \
        if (!(x)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #x); \
            _exit(99);                                      \
        }                                                   \
    } while (0)

/* The compiler may not leave out calls whose result is not used. */
static void *keep(void *block) {
    __asm__ volatile("" : "+r"(block) : : "memory");
    return block;
}

static void *all_kinds(void *unused) {
    void *block;
    free(keep(malloc(7001)));
    free(keep(calloc(7, 1003)));
    block = keep(realloc(NULL, 7003));
    block = keep(realloc(block, 70005));
    block = keep(reallocarray(block, 7, 1001));
    free(block);
    free(keep(aligned_alloc(64, 7040)));
    CHECK(posix_memalign(&block, 128, 7011) == 0);
    free(keep(block));
    free(keep(memalign(256, 7013)));
    free(keep(valloc(7015)));
    free(keep(pvalloc(7017)));
    free(NULL);
    block = keep(malloc(7019));
    CHECK(keep(realloc(block, 0)) == NULL);
    CHECK(keep(malloc(SIZE_MAX / 2 - 7)) == NULL);
    return unused;
}

/* ------------------------------------------------------------------ threads ------------------ */

enum { PLACES = 64, THREADS_MOST = 64 };
static void *places[PLACES];
static long rounds;

/* Put a block into a place and free what another thread had put there. Sizes are few, so addresses
 * are used again at once. */
static void *pass_blocks(void *number) {
    unsigned long random = (unsigned long)(uintptr_t)number * 2654435761u + 1;
    for (long i = 0; i < rounds; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        void *block = malloc(24 + (random >> 33) % 4 * 16);
        CHECK(block != NULL);
        free(__atomic_exchange_n(&places[random >> 40 & (PLACES - 1)], block, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static void threads(long count) {
    pthread_t all[THREADS_MOST];
    CHECK(count <= THREADS_MOST);
    for (long i = 0; i < count; i++)
        CHECK(pthread_create(&all[i], NULL, pass_blocks, (void *)(uintptr_t)i) == 0);
    for (long i = 0; i < count; i++) CHECK(pthread_join(all[i], NULL) == 0);
    for (size_t i = 0; i < PLACES; i++) free(places[i]);
}

/* ------------------------------------------------------------------ others ------------------- */

static void forever(const char *path) {
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
    volatile uint64_t *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(count != MAP_FAILED);
    for (;;) {
        for (int i = 0; i < 50; i++) free(keep(malloc(7001)));
        *count += 100;
    }
}

static void with_child(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    all_kinds(NULL);
    if (child == 0) exit(0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv) {
    pthread_t thread;
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "all") == 0) {
        CHECK(pthread_create(&thread, NULL, all_kinds, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
        all_kinds(NULL);
    } else if (strcmp(what, "threads") == 0 && argc == 4) {
        rounds = atol(argv[3]);
        threads(atol(argv[2]));
    } else if (strcmp(what, "forever") == 0 && argc == 3) {
        forever(argv[2]);
    } else if (strcmp(what, "fork") == 0) {
        with_child();
    } else if (strcmp(what, "exec") == 0 && argc > 2) {
        free(keep(malloc(9001)));
        execv(argv[2], argv + 2);
        CHECK(0); /* execv failed */
    } else {
        fprintf(stderr, "usage: see calls.c\n");
        return 2;
    }
    return 0;
}
