/*
 * memory_calls.c - a program that makes a known number of system calls for memory, so that what
 * `lucid run --syscalls` counts can be compared exactly.
 *
 *     memory_calls N      N of each counted call in the main thread, in a second thread and in a
 *                         forked child, 3 N in all, beside those of the loader and the C library
 *
 * The number of the latter is the same for every N, so the difference between two runs is exact.
 * The calls go past the C library, because only their number matters here.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static long repeats;

static void expect(int condition, const char *what) {
    if (!condition) {
        perror(what);
        _exit(1);
    }
}

static void make_calls(void) {
    const size_t size = 4096;
    const int access = PROT_READ | PROT_WRITE;
    for (long i = 0; i < repeats; i++) {
        long at = syscall(SYS_mmap, NULL, size, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0L);
        expect(at != -1, "mmap");
        at = syscall(SYS_mremap, at, size, 2 * size, MREMAP_MAYMOVE);
        expect(at != -1, "mremap");
        expect(syscall(SYS_mprotect, at, size, PROT_READ) == 0, "mprotect");
        expect(syscall(SYS_madvise, at, size, MADV_DONTNEED) == 0, "madvise");
        expect(syscall(SYS_munmap, at, 2 * size) == 0, "munmap");
        expect(syscall(SYS_brk, 0L) > 0, "brk");
        /* Only counted: no descriptor of a process is open, so it fails. */
        expect(syscall(SYS_process_madvise, -1, NULL, 0L, 0, 0) < 0, "process_madvise");
    }
}

static void *second_thread(void *unused) {
    make_calls();
    return unused;
}

int main(int argc, char **argv) {
    pthread_t thread;
    int status;
    repeats = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
    make_calls();
    expect(pthread_create(&thread, NULL, second_thread, NULL) == 0, "pthread_create");
    expect(pthread_join(thread, NULL) == 0, "pthread_join");
    pid_t child = fork();
    expect(child >= 0, "fork");
    if (child == 0) {
        make_calls();
        _exit(0);
    }
    expect(waitpid(child, &status, 0) == child && status == 0, "child");
    return 0;
}
