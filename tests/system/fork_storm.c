/*
 * fork_storm.c - fork from a threaded program at any moment, and from a signal handler.
 *
 *     fork_storm threads   threads allocate and hold stdio locks while others fork
 *     fork_storm handler   one thread allocates; a timer's handler forks in the middle of it
 *     fork_storm handlers  the same with several threads, each of which may be interrupted
 *
 * The child frees the blocks of all of the parent's threads, allocates all sizes, uses stdio, forks
 * and starts a thread of its own. In the handler modes it first returns from the handler, so that
 * the interrupted call of malloc ends in the child. A child that hangs is ended by its alarm, the
 * whole program by its own: a deadlock is a failure, never a hang.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "blocks.h"
#include "check.h"
#include "family.h"

enum { SLOTS = 3000, FORKS = 40, SIGNAL_FORKS = 150, CHILD_SECONDS = 20, ALL_SECONDS = 60 };

static _Atomic(struct block *) slots[SLOTS];
static atomic_bool stop;
static FILE *sink; /* shared by all threads, so that its lock is mostly held */

/* ------------------------------------------------------------------ the child ---------------- */

static void *child_thread(void *arg) {
    uint64_t state = 5;
    for (int i = 0; i < 200; i++) end_block(make_block(&state));
    return arg;
}

static void use_stdio(void) {
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    CHECK(file != NULL);
    for (int i = 0; i < 50; i++) fprintf(file, "%d %s\n", i, "a line");
    CHECK_EQ(fclose(file), 0);
    CHECK_EQ(strlen(text), length);
    free(text);
    file = fopen("/dev/null", "w");
    CHECK(file != NULL);
    fprintf(file, "%f", 1.5);
    CHECK_EQ(fclose(file), 0);
}

static void allocate_all_sizes(void) {
    for (size_t size = 0; size <= 400 * CHECK_KIB; size = size * 2 + 1) {
        for (size_t f = 0; f < FAMILY_COUNT; f++) {
            void *block = family_table[f].alloc(size);
            CHECK(block != NULL);
            CHECK_ALIGNED(block, family_table[f].alignment);
            if (family_table[f].zeroed) CHECK_ZERO(block, size);
            memset(block, 1, size < 5000 ? size : 5000);
            block = realloc(block, size + 100);
            CHECK(block != NULL);
            free(block);
        }
    }
    for (size_t size = CHECK_MIB; size <= check_amount(256 * CHECK_MIB); size *= 4) {
        unsigned char *block = calloc(1, size);
        CHECK(block != NULL && block[0] == 0 && block[size - 1] == 0);
        block[size / 2] = 1;
        free(block);
    }
}

/* What a child does, forked number `number`. */
static __attribute__((noreturn)) void be_child(size_t number) {
    check_alarm(CHILD_SECONDS);
    allocate_all_sizes();
    for (size_t i = 0; i < SLOTS; i++) end_block(atomic_exchange(&slots[i], NULL));
    uint64_t state = number;
    for (int i = 0; i < 500; i++) end_block(make_block(&state));
    use_stdio();
    if (number % 5 == 0) malloc_trim(0);
    if (number % 8 == 0) {
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, child_thread, NULL), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
    }
    if (number % 10 == 0) {
        pid_t grandchild = fork();
        CHECK(grandchild >= 0);
        if (grandchild == 0) {
            check_alarm(CHILD_SECONDS);
            allocate_all_sizes();
            _exit(0);
        }
        int status;
        CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
    }
    _exit(0);
}

static void check_child(pid_t child, int status) {
    CHECK_THAT(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM),
               "child %d hung for %d seconds: deadlock", (int)child, (int)CHILD_SECONDS);
    CHECK_THAT(status == 0, "child %d ended with status 0x%x", (int)child, (unsigned)status);
}

/* ------------------------------------------------------------------ threads ------------------ */

static void *allocating_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&stop)) {
        end_block(atomic_exchange(&slots[check_random(&state) % SLOTS], make_block(&state)));
    }
    return NULL;
}

/* Holds a stream's lock while it allocates: getline and open_memstream grow their buffers. */
static void *printing_body(void *arg) {
    (void)arg;
    while (!atomic_load(&stop)) {
        for (int i = 0; i < 100; i++) fprintf(sink, "%d %s\n", i, "a line of some length");
        use_stdio();
    }
    return NULL;
}

/* Holds the lock of the list of all streams. */
static void *opening_body(void *arg) {
    (void)arg;
    while (!atomic_load(&stop)) {
        FILE *file = fopen("/dev/null", "w");
        CHECK(file != NULL);
        fprintf(file, "x");
        fclose(file);
        fflush(NULL);
    }
    return NULL;
}

static void *forking_body(void *arg) {
    size_t first = (size_t)(uintptr_t)arg, forks = check_amount(FORKS);
    for (size_t i = 0; i < forks; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) be_child(first + i);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        check_child(child, status);
    }
    return NULL;
}

static void storm(void) {
    static void *(*const bodies[])(void *) = {allocating_body, allocating_body, printing_body,
                                              printing_body, opening_body};
    pthread_t workers[CHECK_COUNT_OF(bodies)], forkers[2];
    for (size_t i = 0; i < CHECK_COUNT_OF(bodies); i++) {
        CHECK_EQ(pthread_create(&workers[i], NULL, bodies[i], (void *)i), 0);
    }
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&forkers[i], NULL, forking_body, (void *)(i * 1000)), 0);
    }
    for (size_t i = 0; i < 2; i++) CHECK_EQ(pthread_join(forkers[i], NULL), 0);
    atomic_store(&stop, true);
    for (size_t i = 0; i < CHECK_COUNT_OF(bodies); i++) CHECK_EQ(pthread_join(workers[i], NULL), 0);
    check_passed("%d forks while threads allocate and hold stdio's locks",
                 2 * (int)check_amount(FORKS));
}

/* ------------------------------------------------------------------ from a handler ----------- */

static volatile sig_atomic_t is_child;
static atomic_int forked, running;

static void forking_handler(int signal_number) {
    (void)signal_number;
    int saved = errno;
    if (!is_child && atomic_load(&forked) < SIGNAL_FORKS && atomic_load(&running) < 3) {
        atomic_fetch_add(&running, 1);
        pid_t child = fork();
        if (child == 0) {
            is_child = 1;
            check_alarm(CHILD_SECONDS);
        } else if (child > 0) {
            atomic_fetch_add(&forked, 1);
        } else {
            atomic_fetch_sub(&running, 1);
        }
    }
    errno = saved;
}

static void reap(int options) {
    int status = 0;
    pid_t child;
    while ((child = waitpid(-1, &status, options)) > 0) {
        check_child(child, status);
        atomic_fetch_sub(&running, 1);
    }
}

/* Allocates, and where it finds itself to be the child, ends as one. */
static void *interrupted_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    size_t round = 0;
    while (!atomic_load(&stop)) {
        struct block *block = make_block(&state);
        if (is_child) be_child(1 + state % 100);
        block = atomic_exchange(&slots[check_random(&state) % SLOTS], block);
        if (is_child) {
            end_block(block);
            be_child(1 + state % 100);
        }
        end_block(block);
        if (is_child) be_child(1 + state % 100);
        if (arg == NULL && ++round % 64 == 0) reap(WNOHANG);
        if (arg == NULL && atomic_load(&forked) >= SIGNAL_FORKS) atomic_store(&stop, true);
    }
    return NULL;
}

static void *signalling_body(void *arg) {
    pthread_t *threads = arg;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    for (size_t i = 0; !atomic_load(&stop); i++) {
        pthread_kill(threads[i % 4], SIGUSR1);
        usleep(700);
    }
    return NULL;
}

static void fork_in_handlers(bool threaded) {
    struct sigaction action = {.sa_handler = forking_handler, .sa_flags = SA_RESTART};
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQ(sigaction(SIGVTALRM, &action, NULL), 0);
    pthread_t threads[5] = {pthread_self()};
    if (threaded) {
        for (size_t i = 1; i < 4; i++) {
            CHECK_EQ(pthread_create(&threads[i], NULL, interrupted_body, (void *)i), 0);
        }
        CHECK_EQ(pthread_create(&threads[4], NULL, signalling_body, threads), 0);
    } else {
        struct itimerval timer = {{0, 500}, {0, 500}};
        CHECK_EQ(setitimer(ITIMER_VIRTUAL, &timer, NULL), 0);
    }
    interrupted_body(NULL);
    if (threaded) {
        for (size_t i = 4; i >= 1; i--) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    } else {
        struct itimerval none = {{0, 0}, {0, 0}};
        CHECK_EQ(setitimer(ITIMER_VIRTUAL, &none, NULL), 0);
    }
    if (is_child) be_child(1);
    reap(0);
    check_passed("%d forks by signal handlers in the middle of malloc%s", atomic_load(&forked),
                 threaded ? ", in several threads" : "");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK_THAT(argc >= 2, "usage: fork_storm threads|handler|handlers");
    check_alarm(ALL_SECONDS);
    sink = fopen("/dev/null", "w");
    CHECK(sink != NULL);
    if (strcmp(argv[1], "threads") == 0) {
        storm();
    } else if (strcmp(argv[1], "handler") == 0) {
        fork_in_handlers(false);
    } else {
        CHECK(strcmp(argv[1], "handlers") == 0);
        fork_in_handlers(true);
    }
    for (size_t i = 0; i < SLOTS; i++) end_block(atomic_exchange(&slots[i], NULL));
    return 0;
}
