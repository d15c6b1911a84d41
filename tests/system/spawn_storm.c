/*
 * spawn_storm.c - the other ways in which a threaded program gets children, while it allocates.
 *
 *     spawn_storm atfork    fork with handlers that allocate, and that fork again in the child: the
 *                           child of a child is made while the first fork has not returned
 *     spawn_storm spawn     posix_spawn and vfork with exec, from threads, with large environments
 *     spawn_storm exec      a thread of a threaded child calls exec while the others allocate
 *     spawn_storm daemon    two forks, setsid, all descriptors closed; then the daemon works on
 *
 * Threads allocate, resize and free all the time; the children check blocks of the parent's and use
 * malloc themselves where that is allowed. Who hangs is ended by an alarm: that is a failure.
 */
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "blocks.h"
#include "check.h"

enum { THREADS = 3, SLOTS = 600, CHILD_SECONDS = 20, ALL_SECONDS = 90, EXPECTED = 42 };

static _Atomic(struct block *) slots[SLOTS];
static atomic_bool stop;
extern char **environ;

static void *allocating_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    while (!atomic_load(&stop)) {
        struct block *block = make_block(&state);
        if (block->size % 8 == 0) {
            block = realloc(block, sizeof *block + block->size * 2 + 1);
            CHECK(block != NULL);
        }
        end_block(atomic_exchange(&slots[check_random(&state) % SLOTS], block));
    }
    return NULL;
}

static pthread_t workers[THREADS];

static void start_workers(void) {
    for (size_t i = 0; i < THREADS; i++) {
        CHECK_EQ(pthread_create(&workers[i], NULL, allocating_body, (void *)(i + 1)), 0);
    }
}

static void end_workers(void) {
    atomic_store(&stop, true);
    for (size_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_join(workers[i], NULL), 0);
    for (size_t i = 0; i < SLOTS; i++) end_block(atomic_exchange(&slots[i], NULL));
}

/* What a forked child does with the heap that it has inherited. */
static void use_heap(uint64_t seed) {
    uint64_t state = seed;
    for (size_t i = 0; i < SLOTS; i++) end_block(atomic_exchange(&slots[i], NULL));
    for (int i = 0; i < 300; i++) end_block(make_block(&state));
    free(calloc(1, 5 * CHECK_MIB));
    free(malloc(64 * CHECK_MIB));
}

static void wait_for(pid_t child, int expected, const char *what) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_THAT(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM), "%s: the child hung", what);
    CHECK_THAT(WIFEXITED(status) && WEXITSTATUS(status) == expected, "%s: status 0x%x", what,
               (unsigned)status);
}

/* ------------------------------------------------------------------ fork in fork's handlers -- */

static __thread int depth; /* of forks that have not returned */
static atomic_int grandchildren;

static void prepare(void) {
    uint64_t state = 1;
    for (int i = 0; i < 20; i++) end_block(make_block(&state));
}

static void in_parent(void) {
    prepare();
}

static void in_child(void) {
    check_alarm(CHILD_SECONDS);
    prepare();
    if (depth > 0) return;
    depth++;
    pid_t grandchild = fork();
    CHECK(grandchild >= 0);
    if (grandchild == 0) {
        use_heap(3);
        _exit(EXPECTED);
    }
    prepare();
    wait_for(grandchild, EXPECTED, "the child of a handler");
    depth--;
    atomic_fetch_add(&grandchildren, 1);
}

static void fork_in_handlers(void) {
    enum { FORKS = 50 };
    CHECK_EQ(pthread_atfork(prepare, in_parent, in_child), 0);
    CHECK_EQ(pthread_atfork(prepare, in_parent, prepare), 0);
    start_workers();
    for (uint64_t i = 0; i < FORKS; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            CHECK_EQ(atomic_load(&grandchildren), 1);
            use_heap(i);
            _exit(EXPECTED);
        }
        wait_for(child, EXPECTED, "the child");
    }
    end_workers();
    check_passed("%d forks, each with handlers that allocate and fork", (int)FORKS);
}

/* ------------------------------------------------------------------ vfork and posix_spawn ---- */

/* After vfork the child runs on the parent's memory and may not allocate; exec at once. */
static pid_t vfork_self(char *const *arguments) {
    pid_t child = vfork();
    if (child == 0) {
        execv("/proc/self/exe", arguments);
        _exit(127);
    }
    return child;
}

static void *spawning_body(void *arg) {
    enum { CHILDREN = 40 };
    char name[] = "spawn_storm", word[] = "worker";
    char *arguments[] = {name, word, NULL};
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child;
        if ((i + (int)(uintptr_t)arg) % 2 == 0) {
            CHECK_EQ(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ), 0);
        } else {
            child = vfork_self(arguments);
        }
        CHECK(child > 0);
        wait_for(child, EXPECTED, "the new program");
    }
    return NULL;
}

static void spawn(void) {
    pthread_t spawners[2];
    start_workers();
    for (size_t i = 0; i < 2; i++) {
        CHECK_EQ(pthread_create(&spawners[i], NULL, spawning_body, (void *)i), 0);
    }
    for (size_t i = 0; i < 2; i++) CHECK_EQ(pthread_join(spawners[i], NULL), 0);
    end_workers();
    check_passed("posix_spawn and vfork while threads allocate");
}

/* ------------------------------------------------------------------ exec --------------------- */

static void *executing_body(void *arg) {
    (void)arg;
    char name[] = "spawn_storm", word[] = "worker";
    char *arguments[] = {name, word, NULL};
    usleep(2000);
    execv("/proc/self/exe", arguments);
    return NULL;
}

static void exec_from_thread(void) {
    enum { CHILDREN = 40 };
    for (int i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            check_alarm(CHILD_SECONDS);
            pthread_t thread;
            start_workers();
            CHECK_EQ(pthread_create(&thread, NULL, executing_body, NULL), 0);
            (void)allocating_body((void *)7); /* until exec ends this thread, too */
            _exit(1);
        }
        wait_for(child, EXPECTED, "the program of exec");
    }
    check_passed("%d times exec from a thread while the others allocate", (int)CHILDREN);
}

/* ------------------------------------------------------------------ daemon ------------------- */

static __attribute__((noreturn)) void be_daemon(void) {
    check_alarm(CHILD_SECONDS);
    if (setsid() < 0) _exit(2);
    pid_t child = fork();
    if (child < 0) _exit(3);
    if (child > 0) _exit(0);
    check_alarm(CHILD_SECONDS);
    for (int fd = 0; fd < 1024; fd++) close(fd);
    if (chdir("/") != 0) _exit(4);
    use_heap(11);
    start_workers();
    usleep(20000);
    end_workers();
    use_heap(12);
    exit(EXPECTED); /* with atexit handlers and destructors, and no descriptors */
}

static void daemons(void) {
    enum { DAEMONS = 20 };
    CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), 0); /* so that we see how they end */
    start_workers();
    for (int i = 0; i < DAEMONS; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) be_daemon();
        wait_for(child, 0, "the parent of the daemon");
        int status = 0;
        CHECK(waitpid(-1, &status, 0) > 0);
        CHECK_THAT(WIFEXITED(status) && WEXITSTATUS(status) == EXPECTED,
                   "the daemon ended with status 0x%x", (unsigned)status);
    }
    end_workers();
    check_passed("%d daemons that go on with the heap of a threaded parent", (int)DAEMONS);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK_THAT(argc >= 2, "usage: spawn_storm atfork|spawn|exec|daemon");
    check_alarm(ALL_SECONDS);
    if (strcmp(argv[1], "worker") == 0) {
        use_heap(5);
        return EXPECTED;
    }
    if (strcmp(argv[1], "atfork") == 0) {
        fork_in_handlers();
    } else if (strcmp(argv[1], "spawn") == 0) {
        spawn();
    } else if (strcmp(argv[1], "exec") == 0) {
        exec_from_thread();
    } else {
        CHECK(strcmp(argv[1], "daemon") == 0);
        daemons();
    }
    return 0;
}
