/*
 * steps.c - death after every single store: what random kills would find only by luck.
 *
 * The layer is compiled into this program with LU_STORE_STEPS, so that lu__store_step is called
 * before each change that another process can see, the system calls that change the file included.
 * A script of operations is run in a child that is killed at step N, for every N; the judge
 * (worker.c) looks at what it left. For every eleventh N the recovery is killed as well, at each of
 * its steps, before the judge comes.
 *
 *     steps [OPERATIONS [STRIDE [SEED]]]     STRIDE > 1 tries every STRIDE-th N only
 */
#include "files.h"
#include "worker.h"

#include "store/store.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LARGEST = 90000, DEAD = 1, LIVED = 0 };

static size_t steps, last_step; /* 0: no end */
static unsigned most_entries;

void lu__store_step(void) {
    if (++steps == last_step) kill(getpid(), SIGKILL);
}

static void fail(const char *what, size_t at) {
    fprintf(stderr, "steps: %s (step %zu, errno %d)\n", what, at, errno);
    exit(1);
}

static lu_store_t *open_file(const char *path) {
    lu_store_fault_t fault;
    lu_store_config_t config = {.limit_bytes = (size_t)1 << 28, .flags = LU_STORE_CREATE};
    lu_store_t *store = lu_heap_open_file(path, &config, &fault);
    if (store == NULL) {
        fprintf(stderr, "steps: %s\n", fault.text);
        fail("the file does not open", steps);
    }
    return store;
}

/* Run in a child up to a step: DEAD if it was reached, LIVED if the work was done before. */
static int run(const char *path, struct worker *worker, size_t operations, size_t upto) {
    pid_t child = fork();
    if (child < 0) fail("fork", upto);
    if (child == 0) {
        steps = 0;
        last_step = upto;
        lu_store_t *store = open_file(path);
        while (worker->completed < operations) {
            worker_step(worker, store);
            most_entries = LU_MAX(most_entries, store->entries);
        }
        worker->table = worker->table | (uint64_t)most_entries << 48; /* for the parent */
        _exit(0);
    }
    int status;
    if (waitpid(child, &status, 0) != child) fail("waitpid", upto);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return DEAD;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("a worker failed", upto);
    most_entries = LU_MAX(most_entries, (unsigned)(worker->table >> 48));
    worker->table &= ((uint64_t)1 << 48) - 1;
    return LIVED;
}

/* A new file with the worker's table in it, and the file's bytes. */
static unsigned char *prepare(const char *path, struct worker *worker, uint64_t seed,
                              size_t *size) {
    lu_store_t *store = open_file(path);
    worker_init(worker, store, seed, LARGEST);
    if (lu_store_close(store) != 0) fail("close", 0);
    return files_read(path, size);
}

static void judge(const char *path, struct worker *worker, size_t at) {
    lu_store_t *store = open_file(path);
    if (!worker_judge(worker, 1, store, 0)) fail("the file is not as it must be", at);
    if (lu_store_close(store) != 0) fail("close", at);
}

/* Kill the recovery too, at each of its steps: each begins where the last one was killed. */
static size_t kill_recovery(const char *path, struct worker *worker) {
    size_t upto = 1;
    while (run(path, worker, 0, upto) == DEAD) upto++;
    return upto - 1;
}

int main(int argc, char **argv) {
    size_t operations = argc > 1 ? strtoul(argv[1], NULL, 10) : 40;
    size_t stride = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    uint64_t seed = argc > 3 ? strtoul(argv[3], NULL, 10) : 20;
    struct worker *worker = files_share(sizeof *worker), fresh;
    char path[512];
    snprintf(path, sizeof path, "%s", files_path("stepped"));
    size_t size, deaths = 0, twice = 0, at = 1;
    unsigned char *bytes = prepare(path, worker, seed, &size);
    fresh = *worker;
    for (;; at += stride) {
        files_write(path, bytes, size);
        *worker = fresh;
        if (run(path, worker, operations, at) == LIVED) break;
        deaths++;
        if (deaths % 11 == 0) twice += kill_recovery(path, worker);
        judge(path, worker, at);
    }
    judge(path, worker, at);
    size_t end_size;
    free(files_read(path, &end_size));
    free(bytes);
    printf("%zu deaths in %zu operations, %zu deaths in recoveries, %u journal entries at most\n",
           deaths, operations, twice, most_entries);
    if (end_size == size) fail("the script did not make the file larger", at);
    if (deaths < 5 * operations / stride || twice == 0) fail("too few steps to say anything", at);
    return 0;
}
