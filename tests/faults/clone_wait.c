/*
 * clone_wait.c - a copy of the process is made in a signal handler, above a thread that waits for a
 * lock; and by a thread that has never taken one. Its holder is not in the copy.
 *
 *     holder   takes the lock of runs: stopped .................... goes on
 *     main     wants it: sleeps  <- signal: handler makes a copy  ..... gets it
 *     copy                              returns into the wait, gets it, ends
 *
 *     holder   (the first that ever uses the library) ............. goes on
 *     main     (has never used it)  makes a copy
 *     copy                          uses it, ends
 *
 * The kernel starts a wait again that a handler interrupted (SA_RESTART), and the lock's word has
 * not changed: so it must end by itself.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "lucid/lucid.h"
#include "os_fault.h"
#include "span/span.h"

enum { ROUNDS = 20, CHILD_SECONDS = 30, ALL_SECONDS = 200 };

static __thread bool is_holder;
static atomic_bool wanted, stopped, end;
static pthread_t main_thread;
static pid_t copy;

static void stop(void) {
    if (!is_holder || !lu__lock_is_mine(&lu__span_lock)) return;
    if (!atomic_exchange(&wanted, false)) return;
    atomic_store(&stopped, true);
    while (atomic_load(&stopped)) usleep(20);
}

static void *hold(void *arg) {
    is_holder = true;
    while (!atomic_load(&end)) lu_free(lu_malloc(400000));
    return arg;
}

/* Until somebody says that it may go on. */
static void stop_holder(void) {
    atomic_store(&wanted, true);
    while (!atomic_load(&stopped)) usleep(20);
}

static void make_copy(void) {
    copy = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    CHECK(copy >= 0);
    if (copy == 0) check_alarm(CHILD_SECONDS);
}

static void handler(int number) {
    (void)number;
    make_copy();
}

static void use_library(void) {
    for (size_t i = 0; i < 30; i++) lu_free(lu_malloc(200000 + i * 10000));
}

static void end_of_copy(const char *what) {
    int status = 0;
    CHECK(waitpid(copy, &status, 0) == copy);
    CHECK_THAT(status == 0, "%s: status 0x%x", what, (unsigned)status);
}

/* Signals main when it sleeps for the lock, and lets the holder go on once there is a copy. */
static void *disturb(void *arg) {
    uint32_t held = 0;
    do { /* the lowest bit: somebody may be asleep */
        held = __atomic_load_n(&lu__span_lock.word, __ATOMIC_RELAXED);
        usleep(100);
    } while ((held & 1) == 0);
    CHECK_EQ(pthread_kill(main_thread, SIGUSR1), 0);
    while (__atomic_load_n(&copy, __ATOMIC_RELAXED) == 0) usleep(100);
    atomic_store(&stopped, false);
    return arg;
}

static void in_a_handler(void) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    for (size_t i = 0; i < ROUNDS; i++) {
        pthread_t thread;
        pid_t self = getpid();
        stop_holder();
        copy = 0;
        CHECK_EQ(pthread_create(&thread, NULL, disturb, NULL), 0);
        use_library();
        if (getpid() != self) _exit(0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        end_of_copy("copied while it waited for a lock");
    }
    check_passed("copies made in a handler above a wait for a lock");
}

static void by_the_second_thread(void) {
    stop_holder();
    make_copy();
    if (copy == 0) {
        use_library();
        _exit(0);
    }
    end_of_copy("copied by a thread that had taken no lock");
    atomic_store(&stopped, false);
    use_library(); /* it has a heap now, and wants no lock but that of runs */
    check_passed("a copy made by a thread that had taken no lock");
}

int main(int argc, char **argv) {
    pthread_t holder;
    check_begin(argc, argv);
    check_alarm(ALL_SECONDS);
    main_thread = pthread_self();
    os_fault_lock_hook(stop);
    CHECK_EQ(pthread_create(&holder, NULL, hold, NULL), 0);
    by_the_second_thread();
    in_a_handler();
    atomic_store(&end, true);
    CHECK_EQ(pthread_join(holder, NULL), 0);
    return 0;
}
