/*
 * kill.c - a process is killed at a random moment, again and again, and what it left is judged.
 *
 *     kill file [ROUNDS [SEED]]      one file; in each round a child opens it, works and is killed
 *     kill shared [ROUNDS [SEED]]    one shared heap; of three children at work one is killed, the
 *                                    others must go on; then they are killed too
 *
 * A child may be killed while it opens, recovers, allocates or makes the file longer. The judge
 * (worker.c) accepts for the one operation in doubt that it happened or that it did not.
 */
#include "files.h"
#include "worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN = 3, LARGEST = 60000 };

static uint64_t seed;
static size_t round_number;

static void fail(const char *what) {
    fprintf(stderr, "kill: %s (round %zu, seed %llu, errno %d)\n", what, round_number,
            (unsigned long long)seed, errno);
    exit(1);
}

static void nap(uint64_t microseconds) {
    struct timespec time = {(time_t)(microseconds / 1000000),
                            (long)(microseconds % 1000000) * 1000};
    while (nanosleep(&time, &time) != 0) continue;
}

static lu_store_t *open_file(const char *path) {
    lu_store_fault_t fault;
    lu_store_config_t config = {.limit_bytes = (size_t)1 << 30, .flags = LU_STORE_CREATE};
    lu_store_t *store = lu_heap_open_file(path, &config, &fault);
    if (store == NULL) {
        fprintf(stderr, "kill: %s\n", fault.text);
        fail("a killed process left a file that does not open");
    }
    return store;
}

static pid_t start(struct worker *worker, const char *path, lu_store_t *store) {
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child > 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(3);
    if (path != NULL) store = open_file(path);
    for (;;) worker_step(worker, store);
}

/* It must have been at work until then: an exit of its own is a failure that it found. */
static void finish(pid_t child) {
    int status;
    kill(child, SIGKILL);
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) fail("a worker failed");
}

static uint64_t completed(const struct worker *worker) {
    return *(const volatile uint64_t *)&worker->completed;
}

static void of_file(size_t rounds) {
    const char *path = files_path("killed");
    struct worker *worker = files_share(sizeof *worker);
    lu_store_info_t info;
    lu_store_t *store = open_file(path);
    worker_init(worker, store, seed, LARGEST);
    if (lu_store_close(store) != 0) fail("close");
    uint64_t random = seed + 99, idle = 0;
    for (round_number = 0; round_number < rounds; round_number++) {
        uint64_t before = worker->completed;
        pid_t child = start(worker, path, NULL);
        nap(worker_random(&random) % 1500);
        finish(child);
        idle += worker->completed == before;
        if (round_number % 16 == 5) worker->random += 2; /* not the same operation again */
        store = open_file(path);
        if (lu_store_info(store, &info) != 0) fail("info");
        if (!worker_judge(worker, 1, store, 0)) fail("the file is not as it must be");
        if (lu_store_close(store) != 0) fail("close");
    }
    printf("%zu rounds, %llu operations, %zu undone, %llu rounds without one, %zu KiB\n", rounds,
           (unsigned long long)worker->completed, info.recoveries, (unsigned long long)idle,
           info.size_bytes >> 10);
    if (info.recoveries == 0 && rounds >= 1000) fail("no kill ever hit an operation");
    if (worker->completed < rounds) fail("too few operations to say anything");
}

static void of_shared(size_t rounds) {
    struct worker *workers = files_share(CHILDREN * sizeof *workers);
    lu_store_config_t config = {.limit_bytes = (size_t)64 << 20};
    lu_store_t *store = lu_heap_open_shared(&config, NULL);
    if (store == NULL) fail("open");
    lu_store_info_t info;
    for (size_t i = 0; i < CHILDREN; i++) worker_init(&workers[i], store, seed + i, 4000);
    uint64_t random = seed + 7, operations = 0;
    for (round_number = 0; round_number < rounds; round_number++) {
        pid_t children[CHILDREN];
        for (size_t i = 0; i < CHILDREN; i++) children[i] = start(&workers[i], NULL, store);
        nap(worker_random(&random) % 2000);
        size_t first = worker_random(&random) % CHILDREN;
        finish(children[first]);
        /* The others must get on, though the dead one may have held the lock. */
        for (size_t i = 0; i < CHILDREN; i++) {
            uint64_t from = completed(&workers[i]);
            for (int tries = 0; i != first && completed(&workers[i]) < from + 2; tries++) {
                if (tries == 100000) fail("a child does not get on after the death of another");
                nap(100);
            }
        }
        for (size_t i = 0; i < CHILDREN; i++) {
            if (i != first) finish(children[i]);
        }
        if (!worker_judge(workers, CHILDREN, store, 0)) fail("the heap is not as it must be");
    }
    if (lu_store_info(store, &info) != 0) fail("info");
    for (size_t i = 0; i < CHILDREN; i++) operations += workers[i].completed;
    printf("%zu rounds, %llu operations, %zu undone, %zu KiB\n", rounds,
           (unsigned long long)operations, info.recoveries, info.size_bytes >> 10);
    if (info.recoveries == 0 && rounds >= 300) fail("no kill ever hit an operation");
    if (lu_store_close(store) != 0) fail("close");
}

int main(int argc, char **argv) {
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 2000;
    seed = argc > 3 ? strtoul(argv[3], NULL, 10) : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    if (argc > 1 && strcmp(argv[1], "file") == 0) {
        of_file(rounds);
    } else if (argc > 1 && strcmp(argv[1], "shared") == 0) {
        of_shared(rounds);
    } else {
        fprintf(stderr, "usage: kill file|shared [ROUNDS [SEED]]\n");
        return 2;
    }
    return 0;
}
