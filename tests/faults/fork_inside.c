/*
 * fork_inside.c - fork while another thread stands in the middle of the library, at each call.
 *
 *     fork_inside          by fork, whose handlers the child runs
 *     fork_inside clone    by the system call, after which nobody tells the child that it is one
 *     fork_inside first    by fork, while the other thread is the first that ever uses the library
 *
 * A thread works; in front of its n-th system call for memory, or with the lock that it just took,
 * it is stopped, with whatever it holds there and whatever it has changed by half. Then the other
 * thread forks, and the child must be able to do everything: it has only the forking thread, and
 * nobody will release a lock for it.
 *
 *     worker   ----- place n: stopped ............ goes on ----- place n + 1: stopped ...
 *     main             fork, wait for the child --^
 *
 * Fork waits for who holds the lock of an object cache, so those are not used here. Blocks that the
 * worker holds at that moment are not touched in the child.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "lucid/lucid.h"
#include "os_fault.h"
#include "use_heap.h"

enum { CALLS = 600, BLOCKS = 60, CHILD_SECONDS = 10, ALL_SECONDS = 100 };

static __thread bool is_worker;
static atomic_bool stopped, end;
static _Atomic size_t stops;

static void stop(void) {
    if (!is_worker || atomic_load(&end)) return;
    atomic_fetch_add(&stops, 1);
    atomic_store(&stopped, true);
    while (atomic_load(&stopped)) usleep(20);
}

static void stop_before_call(size_t order, enum os_fault_call call, bool first) {
    (void)order, (void)call, (void)first;
    stop();
}

static size_t some_size(uint64_t *state) {
    static const unsigned bits[] = {10, 10, 14, 17, 21, 21, 23};
    uint64_t draw = check_random(state);
    if (draw % 12 == 0) return 33 * CHECK_MIB;
    return check_random_size(state, bits[draw % CHECK_COUNT_OF(bits)]) + 1;
}

static void use_library(uint64_t seed, int rounds) {
    struct {
        unsigned char *at;
        size_t size;
    } blocks[BLOCKS] = {{NULL, 0}};
    uint64_t state = seed;
    for (int round = 0; round < rounds; round++) {
        size_t i = check_random(&state) % BLOCKS, size = some_size(&state);
        if (round % 50 == 49) (void)lu_purge();
        if (round % 40 == 39) use_heap(1000000);
        if (blocks[i].at != NULL && round % 3 != 0) {
            CHECK(blocks[i].at[0] == i && blocks[i].at[blocks[i].size - 1] == i);
            lu_free(blocks[i].at);
            blocks[i].at = NULL;
            continue;
        }
        unsigned char *at = lu_realloc(blocks[i].at, size);
        CHECK(at != NULL);
        at[0] = at[size - 1] = (unsigned char)i;
        blocks[i].at = at;
        blocks[i].size = size;
    }
    for (size_t i = 0; i < BLOCKS; i++) lu_free(blocks[i].at);
}

static void *worker_body(void *arg) {
    (void)arg;
    is_worker = true;
    for (uint64_t seed = 1; !atomic_load(&end); seed++) use_library(seed, 400);
    return NULL;
}

static pid_t make_child(bool raw) {
    return raw ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : fork();
}

int main(int argc, char **argv) {
    pthread_t worker;
    check_begin(argc, argv);
    bool raw = argc > 1 && strcmp(argv[1], "clone") == 0;
    check_alarm(ALL_SECONDS);
    if (argc < 2 || strcmp(argv[1], "first") != 0) use_library(99, 200);
    os_fault_hook(stop_before_call);
    os_fault_lock_hook(stop);
    CHECK_EQ(pthread_create(&worker, NULL, worker_body, NULL), 0);
    for (size_t n = 1; n <= CALLS; n++) {
        while (!atomic_load(&stopped)) usleep(20);
        pid_t child = make_child(raw);
        CHECK(child >= 0);
        if (child == 0) {
            check_alarm(CHILD_SECONDS);
            use_library(n, 120);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK_THAT(status == 0, "forked while a thread was at place %zu: status 0x%x", n,
                   (unsigned)status);
        if (n == CALLS) atomic_store(&end, true);
        atomic_store(&stopped, false);
    }
    CHECK_EQ(pthread_join(worker, NULL), 0);
    check_passed("%zu forks, each while a thread stood in the middle of the library",
                 (size_t)atomic_load(&stops));
    return 0;
}
