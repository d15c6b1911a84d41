/*
 * asked.c - a program that is asked for its statistics from outside while it runs (asked.py).
 *
 * usage: asked poll | threads | inside | signals
 *
 * It keeps KEPT bytes, says "ready" when it runs as told, and goes on until there is something to
 * read on its standard input:
 *
 *     poll       its one thread waits in poll
 *     threads    the same, while four others allocate and free
 *     inside     its one thread is in malloc or free nearly always, with system calls in them
 *     signals    it waits in poll, and another process sends it SIGUSR1 all the time
 *
 * At the end what it kept must be as it was.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEPT = 3000000, THREADS = 4 };
static bool ending; /* relaxed atomic */

static void fail(const char *what) {
    fprintf(stderr, "asked: %s\n", what);
    exit(1);
}

/* Allocate, fill and free blocks of all kinds. */
static void *allocate(void *arg) {
    static const size_t sizes[] = {24, 1000, 20000, 100000, 1 << 20, 40 << 20};
    while (!__atomic_load_n(&ending, __ATOMIC_RELAXED)) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            char *block = malloc(sizes[i]);
            if (block == NULL) fail("no memory");
            memset(block, 'b', sizes[i] < 100000 ? sizes[i] : 100000);
            free(block);
        }
    }
    return arg;
}

/* Every block is mapped and unmapped. */
static void allocate_until_told(void) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (poll(&input, 1, 0) == 0) {
        for (int i = 0; i < 100; i++) {
            char *volatile block = malloc(40 << 20);
            if (block == NULL) fail("no memory");
            block[0] = 'b';
            free(block);
        }
    }
}

/* poll must neither end early nor fail: whoever asks is not to be noticed. */
static void wait_until_told(bool signals) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    int got;
    do {
        got = poll(&input, 1, -1);
    } while (signals && got < 0 && errno == EINTR);
    if (got != 1) fail("poll was disturbed");
}

static void on_signal(int number) {
    (void)number;
}

static pid_t send_signals(void) {
    struct sigaction action = {.sa_handler = on_signal};
    pid_t here = getpid();
    if (sigaction(SIGUSR1, &action, NULL) != 0) fail("sigaction");
    pid_t child = fork();
    if (child < 0) fail("fork");
    while (child == 0) {
        if (getppid() != here || kill(here, SIGUSR1) != 0) _exit(0);
        usleep(200);
    }
    return child;
}

int main(int argc, char **argv) {
    const char *mode = argc == 2 ? argv[1] : "";
    pthread_t threads[THREADS];
    int count = strcmp(mode, "threads") == 0 ? THREADS : 0;
    bool signals = strcmp(mode, "signals") == 0;
    char *kept = malloc(KEPT);
    if (kept == NULL) fail("no memory");
    memset(kept, 'k', KEPT);
    for (int i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, allocate, NULL) != 0) fail("no thread");
    pid_t sender = signals ? send_signals() : 0;
    if (write(STDOUT_FILENO, "ready\n", 6) != 6) fail("write");
    if (strcmp(mode, "inside") == 0)
        allocate_until_told();
    else
        wait_until_told(signals);
    if (signals) kill(sender, SIGKILL);
    __atomic_store_n(&ending, true, __ATOMIC_RELAXED);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    for (size_t i = 0; i < KEPT; i++)
        if (kept[i] != 'k') fail("what was kept is damaged");
    free(kept);
    return 0;
}
