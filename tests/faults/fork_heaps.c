/*
 * fork_heaps.c - children forked while another thread makes heaps and ends them.
 *
 * The child takes the heaps of threads that are not there for its own new threads. A structure that
 * was just being made, or cleared to be used again, must not be among them: nearly every child of
 * this program would end by a signal.
 */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "lucid/lucid.h"

enum { FORKS = 200, THREADS = 4, BLOCKS = 40 };

static int stop; /* atomic */

static void *make_heaps(void *arg) {
    (void)arg;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) lu_heap_destroy(lu_heap_create(0));
    return NULL;
}

static void *use(void *arg) {
    (void)arg;
    void *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i] = lu_malloc(8 + i * 16);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 1, 8 + i * 16);
    }
    for (size_t i = 0; i < BLOCKS; i++) lu_free(blocks[i]);
    return NULL;
}

static __attribute__((noreturn)) void be_child(void) {
    pthread_t threads[THREADS];
    alarm(60); /* a hang ends the child */
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, use, NULL), 0);
    }
    for (size_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    _exit(0);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    pthread_t maker;
    CHECK_EQ(pthread_create(&maker, NULL, make_heaps, NULL), 0);
    for (int i = 0; i < FORKS; i++) {
        int status = -1;
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) be_child();
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_THAT(status == 0, "child %d: status %#x", i, (unsigned)status);
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    CHECK_EQ(pthread_join(maker, NULL), 0);
    check_passed("%d children of a program that makes heaps", FORKS);
    return 0;
}
