/*
 * clone_storm.c - children of a threaded program that are made by the system call, so that no
 * handler of fork runs in them: container runtimes and init systems make such.
 *
 *     clone_storm copy    SYS_clone: the child has a copy of the memory, and one thread; or a child
 *                         of that child
 *     clone_storm share   vfork, or clone with the flags of vfork: the child shares the memory, and
 *                         the threads go on beside it
 *
 * Threads allocate all the time, so that some hold locks at each moment. A child of `copy` begins
 * with an allocation, or with freeing a block of another thread, or by starting a thread; of
 * `share` it only allocates. It may not use stdio: its locks may be held for ever in a copy, in any
 * malloc. A child that hangs is ended by its alarm.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "blocks.h"
#include "check.h"
#include "family.h"

enum { SLOTS = 2000, CHILDREN = 300, CHILD_SECONDS = 60, ALL_SECONDS = 280 };

static _Atomic(struct block *) slots[SLOTS], own_slots[SLOTS]; /* the second: of children only */
static atomic_bool stop;

static void churn(_Atomic(struct block *) *in, uint64_t *state) {
    end_block(atomic_exchange(&in[check_random(state) % SLOTS], make_block(state)));
}

static void *allocating_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&stop)) {
        churn(slots, &state);
        free(malloc(70000 + check_random(&state) % 300000));
    }
    return NULL;
}

static void *child_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < 200; i++) churn(own_slots, &state);
    return NULL;
}

static pid_t copy_process(void) {
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static __attribute__((noreturn)) void be_copy(size_t number) {
    uint64_t state = number;
    check_alarm(CHILD_SECONDS);
    if (number % 3 == 1) end_block(atomic_exchange(&slots[number % SLOTS], NULL));
    pthread_t thread;
    if (number % 4 == 2) CHECK_EQ(pthread_create(&thread, NULL, child_body, (void *)number), 0);
    for (int i = 0; i < 300; i++) churn(own_slots, &state);
    for (size_t size = 1; size <= CHECK_MIB; size *= 3) {
        void *block = realloc(calloc(1, size), size * 2);
        CHECK(block != NULL);
        free(block);
    }
    if (number % 4 == 2) CHECK_EQ(pthread_join(thread, NULL), 0);
    for (size_t i = 0; i < SLOTS; i++) end_block(atomic_exchange(&own_slots[i], NULL));
    if (number % 8 == 0) malloc_trim(0);
    _exit(0);
}

static void check_child(size_t number, pid_t child) {
    int status = 0;
    CHECK_THAT(child > 0, "no child %zu: %s", number, strerror(errno));
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_THAT(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM), "child %zu hung", number);
    CHECK_THAT(status == 0, "child %zu ended with status 0x%x", number, (unsigned)status);
}

/* Before it has used the library. */
static __attribute__((noreturn)) void be_copy_of_copy(size_t number) {
    pid_t child = copy_process();
    if (child == 0) be_copy(number);
    check_child(number, child);
    _exit(0);
}

static void make_copies(size_t count) {
    for (size_t i = 0; i < count; i++) {
        pid_t child = copy_process();
        if (child == 0 && i % 5 == 4) be_copy_of_copy(i);
        if (child == 0) be_copy(i);
        check_child(i, child);
    }
    check_passed("%zu children by the system call", count);
}

static int share_body(void *state) {
    for (int i = 0; i < 300; i++) churn(slots, state);
    return 0;
}

static pid_t be_share(size_t number, uint64_t *state) {
    static char stack[256 * CHECK_KIB] __attribute__((aligned(64)));
    if (number % 2 == 1)
        return clone(share_body, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, state);
    pid_t child = vfork();
    if (child != 0) return child;
    _exit(share_body(state));
}

static void make_shares(size_t count) {
    uint64_t state = 1;
    for (size_t i = 0; i < count; i++) check_child(i, be_share(i, &state));
    check_passed("%zu children that share the memory", count);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK_THAT(argc >= 2, "usage: clone_storm copy|share [COUNT]");
    check_alarm(ALL_SECONDS);
    pthread_t threads[3];
    for (size_t i = 0; i < CHECK_COUNT_OF(threads); i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, allocating_body, (void *)(i + 1)), 0);
    }
    bool copy = strcmp(argv[1], "copy") == 0;
    size_t count = argc > 2 ? strtoul(argv[2], NULL, 10) : check_amount(CHILDREN);
    (copy ? make_copies : make_shares)(count);
    atomic_store(&stop, true);
    for (size_t i = 0; i < CHECK_COUNT_OF(threads); i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    for (size_t i = 0; i < SLOTS; i++) end_block(atomic_exchange(&slots[i], NULL));
    return 0;
}
