/*
 * consumer.c - a C program that was built against the installed package: every malloc name that it
 * and its C library use must be lucid's, also in a second thread and after fork. Ends with 0, or
 * with a line on stderr and 1.
 */
#include <lucid/lucid.h>

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void need_owned(const char *what, void *block) {
    if (block == NULL || !lu_owns(block)) {
        fprintf(stderr, "%s: block %p is not of lucid\n", what, block);
        exit(1);
    }
    free(block);
}

static void *allocate(void *unused) {
    (void)unused;
    void *aligned = NULL;
    need_owned("malloc", malloc(1));
    need_owned("calloc", calloc(3, 100));
    need_owned("realloc", realloc(malloc(10), 100000));
    need_owned("posix_memalign", posix_memalign(&aligned, 64, 100) == 0 ? aligned : NULL);
    need_owned("aligned_alloc", aligned_alloc(4096, 4096));
    need_owned("memalign", memalign(32, 100));
    need_owned("strdup", strdup("from inside the C library"));
    need_owned("lu_malloc", lu_malloc(100));
    return malloc(1000);
}

int main(int argc, char **argv) {
    pthread_t thread;
    void *from_thread = NULL;

    need_owned("first thread", allocate(NULL));
    if (pthread_create(&thread, NULL, allocate, NULL) != 0 ||
        pthread_join(thread, &from_thread) != 0) {
        fprintf(stderr, "no second thread\n");
        return 1;
    }
    need_owned("second thread", from_thread);

    pid_t child = fork();
    if (child == 0) {
        need_owned("after fork", allocate(NULL));
        _exit(0);
    }
    int status = -1;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "child: status %d\n", status);
        return 1;
    }
    if (argc > 1 && strcmp(argv[1], lu_version()) != 0) {
        fprintf(stderr, "lu_version() is %s, not %s\n", lu_version(), argv[1]);
        return 1;
    }
    return 0;
}
