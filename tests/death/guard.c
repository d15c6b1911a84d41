/*
 * guard.c - misuses of blocks that LUCID_OPTIONS=guard_sample:1 guards, for guard.py.
 *
 * Every allocation has a page of its own, its end or its start beside an inaccessible one, as
 * drawn: a case that needs one of the two allocates until it has it. What is to be found in the
 * report is announced first: addresses, thread ids, and the bounds of the functions that must be in
 * the stacks (NAME=A NAME_end=B; they are sections of their own, whose bounds the linker gives).
 */
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, SIZE = 96 };

#define FUNCTION(name) __attribute__((noinline, used, section("in_" #name)))
#define BOUNDS(name) extern const char __start_in_##name[], __stop_in_##name[]
BOUNDS(allocate);
BOUNDS(release);
BOUNDS(touch);

static void say(const char *name, unsigned long value) {
    char text[80];
    int length = snprintf(text, sizeof text, "%s=0x%lx\n", name, value);
    if (write(STDOUT_FILENO, text, (size_t)length) != length) _exit(2);
}

static void cannot(const char *why) {
    (void)!write(STDERR_FILENO, why, strlen(why));
    _exit(2);
}

FUNCTION(allocate) static char *allocate(size_t size) {
    char *block = malloc(size);
    __asm__ volatile("" : "+r"(block) : : "memory"); /* no tail call */
    if (block == NULL) cannot("no memory");
    return block;
}

FUNCTION(release) static void release(void *block) {
    free(block);
    __asm__ volatile("" : : : "memory");
}

FUNCTION(touch) static void touch(char *at, int writes) {
    if (writes) {
        *(volatile char *)at = 1;
    } else {
        (void)*(volatile char *)at;
    }
    __asm__ volatile("" : : : "memory");
}

static void announce(char *block, size_t size) {
    say("block", (unsigned long)(uintptr_t)block);
    say("size", size);
    say("thread", (unsigned long)gettid());
    say("allocate", (unsigned long)(uintptr_t)__start_in_allocate);
    say("allocate_end", (unsigned long)(uintptr_t)__stop_in_allocate);
    say("release", (unsigned long)(uintptr_t)__start_in_release);
    say("release_end", (unsigned long)(uintptr_t)__stop_in_release);
    say("touch", (unsigned long)(uintptr_t)__start_in_touch);
    say("touch_end", (unsigned long)(uintptr_t)__stop_in_touch);
}

/* A block whose end (or start) is the page's. */
static char *placed(size_t size, int at_end) {
    for (int tries = 0; tries < 200; tries++) {
        char *block = allocate(size);
        uintptr_t edge = (uintptr_t)block + (at_end ? size : 0);
        if (edge % PAGE == 0 && malloc_usable_size(block) == size) return block;
        release(block);
    }
    cannot("no block is beside a guard page: is guard_sample on?");
    return NULL;
}

/* ------------------------------------------------------------------ the misuses */

static void access_at(int at_end, ptrdiff_t offset, int writes, int freed) {
    char *block = placed(SIZE, at_end);
    announce(block, SIZE);
    if (freed) release(block);
    say("at", (unsigned long)(uintptr_t)(block + offset));
    touch(block + offset, writes);
}

static void freed_read(void) {
    access_at(0, 5, 0, 1);
}
static void freed_write(void) {
    access_at(1, SIZE - 1, 1, 1);
}
static void over_1(void) {
    access_at(1, SIZE, 1, 0);
}
static void over_100(void) {
    access_at(1, SIZE + 99, 0, 0);
}
static void under_1(void) {
    access_at(0, -1, 0, 0);
}
static void under_50(void) {
    access_at(0, -50, 1, 0);
}

static void
slack(void) { /* 91 bytes: some of the 5 that the alignment leaves, up to the page's end */
    char *block;
    do block = allocate(SIZE - 5);
    while (((uintptr_t)block + SIZE) % PAGE != 0);
    announce(block, SIZE - 5);
    say("at", (unsigned long)(uintptr_t)(block + SIZE - 4));
    touch(block + SIZE - 4, 1);
    release(block);
}

static void slack_front(void) {
    char *block = placed(SIZE, 1);
    announce(block, SIZE);
    say("at", (unsigned long)(uintptr_t)(block - 2));
    touch(block - 2, 1);
    release(block);
}

static void double_free(void) {
    char *block = placed(SIZE, 0);
    announce(block, SIZE);
    say("at", (unsigned long)(uintptr_t)block);
    release(block);
    release(block);
}

static void interior(void) {
    char *block = placed(SIZE, 0);
    announce(block, SIZE);
    say("at", (unsigned long)(uintptr_t)(block + 8));
    release(block + 8);
}

static void *release_in_thread(void *block) {
    say("other", (unsigned long)gettid());
    release(block);
    return NULL;
}

static void freed_elsewhere(void) {
    pthread_t thread;
    char *block = placed(SIZE, 0);
    announce(block, SIZE);
    if (pthread_create(&thread, NULL, release_in_thread, block) != 0) cannot("no thread");
    if (pthread_join(thread, NULL) != 0) cannot("no join");
    say("at", (unsigned long)(uintptr_t)block);
    touch(block, 0);
}

/* ------------------------------------------------------------------ the program's own handler */

static sigjmp_buf away;
static volatile int handled;

static void leave(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (signal != SIGSEGV) cannot("another signal");
    say("handler", (unsigned long)(uintptr_t)info->si_addr);
    handled++;
    siglongjmp(away, 1);
}

static struct sigaction before;

static void pass_on(int signal, siginfo_t *info, void *context) {
    say("handler", (unsigned long)(uintptr_t)info->si_addr);
    if ((before.sa_flags & SA_SIGINFO) != 0) before.sa_sigaction(signal, info, context);
}

/* Sampled allocations enough for ours to look whether it is still in front. */
static void let_it_look(void) {
    for (int i = 0; i < 20; i++) release(allocate(SIZE));
}

static void handle_with(void (*handler)(int, siginfo_t *, void *)) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    let_it_look();
    if (sigaction(SIGSEGV, &action, &before) != 0) cannot("sigaction");
    let_it_look();
}

/* A handler of the program that was installed after ours is called, for our faults and others, and
 * may leave by siglongjmp, again and again. */
static void chained(void) {
    handle_with(leave);
    for (int round = 0; round < 3; round++) {
        if (sigsetjmp(away, 1) == 0) access_at(0, 5, 0, 1);
        if (sigsetjmp(away, 1) == 0) touch((char *)16, 1);
    }
    if (handled == 6) say("survived", 6);
    _exit(0);
}

/* One that hands on to what was there before, ours: they do not call each other for ever. */
static void chained_back(void) {
    handle_with(pass_on);
    access_at(0, 5, 0, 1);
}

static void ignored(void) {
    signal(SIGSEGV, SIG_IGN); /* which the kernel does not heed for a fault, and nor do we */
    access_at(0, 5, 0, 1);
}

/* With abort:0 the access goes through. */
static void goes_on(void) {
    access_at(0, 5, 1, 1);
    access_at(1, SIZE, 0, 0);
    say("survived", 2);
    _exit(0);
}

static void other_fault(void) {
    release(allocate(SIZE));
    touch((char *)16, 1);
}

static void sent(void) {
    release(allocate(SIZE));
    raise(SIGSEGV);
}

static void forked(void) {
    char *block = placed(SIZE, 0);
    pid_t child = fork();
    if (child < 0) cannot("fork");
    if (child == 0) {
        for (int i = 0; i < 3000; i++) release(placed(SIZE, i % 2));
        announce(block, SIZE);
        release(block);
        say("at", (unsigned long)(uintptr_t)block);
        touch(block, 0);
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child) cannot("waitpid");
    touch(block, 1); /* is the parent's still */
    release(block);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV) raise(SIGSEGV);
}

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"freed-read", freed_read},
    {"freed-write", freed_write},
    {"over-1", over_1},
    {"over-100", over_100},
    {"under-1", under_1},
    {"under-50", under_50},
    {"slack", slack},
    {"slack-front", slack_front},
    {"double-free", double_free},
    {"interior", interior},
    {"freed-elsewhere", freed_elsewhere},
    {"chained", chained},
    {"chained-back", chained_back},
    {"ignored", ignored},
    {"goes-on", goes_on},
    {"other-fault", other_fault},
    {"sent", sent},
    {"forked", forked},
};

int main(int argc, char **argv) {
    struct rlimit none = {0, 0};
    if (argc != 2 || setrlimit(RLIMIT_CORE, &none) != 0) cannot("usage: guard CASE | --list\n");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (strcmp(argv[1], "--list") == 0) {
            puts(cases[i].name);
        } else if (strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            say("survived", 1);
            return 0;
        }
    }
    return 0;
}
