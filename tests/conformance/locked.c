/*
 * locked.c - malloc in a program that locks its memory (mlockall), as real-time programs do.
 *
 * The kernel then answers otherwise than programs are used to: pages cannot be given back
 * (madvise(MADV_DONTNEED): EINVAL), what is mapped or made writable is filled at once, and where
 * RLIMIT_MEMLOCK counts, mappings are refused with EAGAIN. Contents must survive, calloc give
 * zeros, and a refusal be NULL with ENOMEM.
 */
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "check.h"

enum { BLOCKS = 32, ROUNDS = 3, THREADS = 2 };

/* glibc's realloc hands on the EAGAIN of mremap. */
#define CHECK_REFUSED() CHECK(errno == ENOMEM || (!check_strict && errno == EAGAIN))

/* Two buffers that grow in turn. Returns how often there was no memory. */
static unsigned grow_in_turn(size_t start) {
    unsigned char *at[2] = {NULL, NULL};
    size_t sizes[2] = {0, 0};
    unsigned refused = 0;
    for (size_t step = 0; step < 14; step++) {
        size_t which = step % 2, size = sizes[which] + sizes[which] / 4 + start;
        errno = 0;
        unsigned char *moved = realloc(at[which], size);
        if (moved == NULL) {
            CHECK_REFUSED();
            refused++;
            continue;
        }
        at[which] = moved;
        CHECK_FILLED(moved, sizes[which], which);
        check_fill(moved, size, which);
        sizes[which] = size;
    }
    for (size_t which = 0; which < 2; which++) {
        CHECK_FILLED(at[which], sizes[which], which);
        free(at[which]);
    }
    return refused;
}

/* Blocks of all kinds, filled and freed; then calloc where they were. */
static unsigned use_again(uint64_t seed) {
    unsigned char *blocks[BLOCKS];
    uint64_t state = seed;
    unsigned refused = 0;
    for (size_t round = 0; round < ROUNDS; round++) {
        for (size_t i = 0; i < BLOCKS; i++) {
            size_t size = 1 + check_random_size(&state, 19);
            errno = 0;
            blocks[i] = calloc(1, size);
            if (blocks[i] == NULL) {
                CHECK_REFUSED();
                refused++;
                continue;
            }
            for (size_t at = 0; at < size; at++) {
                CHECK_THAT(blocks[i][at] == 0, "calloc(%zu): byte %zu is not 0", size, at);
            }
            memset(blocks[i], 0xa5, size);
        }
        for (size_t i = 0; i < BLOCKS; i++) free(blocks[i]);
        (void)malloc_trim(0);
    }
    return refused;
}

static void *thread_body(void *arg) {
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    unsigned refused = grow_in_turn(600000 + 4096 * seed) + use_again(seed);
    return (void *)(uintptr_t)refused;
}

static unsigned use_memory(void) {
    pthread_t threads[THREADS];
    void *result;
    unsigned refused = grow_in_turn(600000) + grow_in_turn(30000) + use_again(99);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, thread_body, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], &result), 0);
        refused += (unsigned)(uintptr_t)result;
    }
    return refused;
}

/* In a child, since locks are for ever: memory used before and while it is locked, and unlocked. */
static void in_child(const char *name, int flags, bool privileged) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        unsigned before = use_memory();
        CHECK_THAT(mlockall(flags) == 0, "mlockall: errno %d", errno);
        unsigned refused = use_memory();
        CHECK_EQ(munlockall(), 0);
        CHECK_EQ(before + use_memory(), 0);
        CHECK_THAT(!privileged || refused == 0, "refused %u times", refused);
        _exit(0);
    }
    int status;
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK_THAT(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: status 0x%x", name, status);
    check_passed("%s: contents kept, fresh memory is zero", name);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    struct rlimit limit;
    CHECK_EQ(getrlimit(RLIMIT_MEMLOCK, &limit), 0);
    bool privileged = geteuid() == 0 || limit.rlim_cur == RLIM_INFINITY;
    in_child("what will be mapped is locked", MCL_FUTURE, privileged);
    if (privileged) { /* others may lock less than a program has */
        in_child("all is locked", MCL_CURRENT | MCL_FUTURE, privileged);
    }
    return 0;
}
