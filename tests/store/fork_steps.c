/*
 * fork_steps.c - a fork at every single store, of a child that goes on with the same call.
 *
 * That is what a signal handler does that forks above a call of a store and returns. The child has
 * not got the lock, so nothing that it does may be seen by the parent: it runs the rest of the
 * script while the parent waits in the middle of the call. The layer is compiled into this program
 * with LU_STORE_STEPS, as in steps.c.
 *
 * Three times: with a file; with shared memory; and with a call of another store in between, above
 * which the fork is.
 *
 *     fork_steps [STRIDE]     STRIDE > 1 forks at every STRIDE-th step only
 */
#include "api/surface.h"
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

/* The engine's archive registers the handler of fork with it. */
__attribute__((used)) static void (*const at_load)(void) = lu__at_load;

enum { BLOCKS = 12, SECONDS = 60 };

static size_t steps, fork_at;
static pid_t parent;
static bool in_script;
static lu_store_t *other; /* or NULL: a call of it is above that of the script, and forks */

static void fail(const char *what) {
    fprintf(stderr, "fork_steps: %s (step %zu, errno %d)\n", what, fork_at, errno);
    exit(1);
}

static bool is_child(void) {
    return getpid() != parent;
}

static void fork_here(void) {
    pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
        alarm(SECONDS);
        return;
    }
    int status;
    if (waitpid(child, &status, 0) != child) fail("waitpid");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) fail("the child failed");
}

void lu__store_step(void) {
    static bool above;
    if (above) {
        above = false;
        fork_here();
    } else if (in_script && ++steps == fork_at && other != NULL) {
        above = true;
        void *block = lu_store_malloc(other, 100);
        if (is_child() != (block == NULL)) fail("a call above another");
    } else if (in_script && steps == fork_at) {
        fork_here();
    }
}

static bool all_is_refused(lu_store_t *store) {
    errno = 0;
    return lu_store_malloc(store, 10) == NULL && errno == EINVAL &&
           lu_store_check(store, NULL) == EINVAL && lu_store_root(store) == 0 &&
           lu_store_close(store) == EINVAL && lu_store_sync(store) == EINVAL;
}

/* In the child, the call that fork interrupted has failed, and so do all others. */
static void leave_child(lu_store_t *store, bool failed) {
    if (!is_child()) return;
    if (!failed) fail("the interrupted call did not fail");
    if (!all_is_refused(store) || (other != NULL && !all_is_refused(other)))
        fail("a store that was given up is used");
    _exit(0);
}

static void script(lu_store_t *store) {
    char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i == 3 ? 100000 : 40 + i * 30;
        bool zero = i % 3 == 0;
        blocks[i] = zero ? lu_store_calloc(store, 1, size) : lu_store_malloc(store, size);
        leave_child(store, blocks[i] == NULL);
        if (blocks[i] == NULL) fail("no block");
        worker_fill(blocks[i], size, i);
    }
    for (size_t i = 1; i < BLOCKS; i += 4) {
        int error = lu_store_free(store, blocks[i]);
        leave_child(store, error == EINVAL);
        if (error != 0) fail("free");
    }
    char *larger = lu_store_realloc(store, blocks[2], 70000);
    leave_child(store, larger == NULL);
    if (larger == NULL || !worker_is_filled(larger, 100, 2)) fail("realloc");
    uint64_t *slot = (uint64_t *)(void *)larger;
    int error = lu_store_alloc_to(store, slot, 5000);
    leave_child(store, error == EINVAL);
    if (error != 0 || *slot == 0) fail("alloc_to");
    error = lu_store_free_from(store, slot);
    leave_child(store, error == EINVAL);
    if (error != 0 || *slot != 0) fail("free_from");
    error = lu_store_set_root(store, lu_store_handle(store, larger));
    leave_child(store, error == EINVAL);
    if (error != 0) fail("set_root");
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % 4 == 1 || i == 2) continue;
        if (!worker_is_filled(blocks[i], 40, i)) fail("a block has changed");
    }
}

static void run(lu_store_t *store) {
    lu_store_fault_t fault;
    if (store == NULL) fail("open");
    steps = 0;
    in_script = true;
    script(store);
    in_script = false;
    if (lu_store_check(store, &fault) != 0) fail(fault.text);
    lu_store_info_t info;
    if (lu_store_info(store, &info) != 0 || info.recoveries != 0) fail("info");
    if (info.live_blocks != BLOCKS - 3) fail("number of blocks");
    if (lu_store_close(store) != 0) fail("close");
}

int main(int argc, char **argv) {
    size_t stride = argc > 1 ? strtoul(argv[1], NULL, 10) : 1, forks = 0;
    lu_store_config_t config = {.flags = LU_STORE_CREATE, .limit_bytes = (size_t)1 << 28};
    parent = getpid();
    for (int kind = 0; kind < 3; kind++) {
        if (kind == 2) other = lu_heap_open_shared(&config, NULL);
        for (fork_at = 1;; fork_at += stride, forks++) {
            (void)unlink(files_path("forked"));
            run(kind > 0 ? lu_heap_open_shared(&config, NULL)
                         : lu_heap_open_file(files_path("forked"), &config, NULL));
            if (steps < fork_at) break;
        }
    }
    printf("%zu forks\n", forks);
    if (lu_store_check(other, NULL) != 0) fail("the other store");
    if (forks < 900 / stride) fail("too few steps to say anything");
    return 0;
}
