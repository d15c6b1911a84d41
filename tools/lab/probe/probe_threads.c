/*
 * probe_threads.c - throughput and memory of many threads.
 *
 * Each thread keeps a table of blocks and replaces one chosen by chance. With `cross`, what it
 * takes out goes to the next thread, which frees it; while the mailbox is full it waits.
 *
 *     thread 0: slots ──▶ mailbox 1 ──▶ thread 1: slots ──▶ mailbox 2 ──▶ …
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "probe/probe_list.h"

enum { SLOTS = 1000, THREADS_MOST = 64, MAILBOX = 1024, MILLISECONDS = 100 };

struct mailbox { /* one writer, one reader */
    _Alignas(64) atomic_size_t in, out;
    void *blocks[MAILBOX];
};

struct worker {
    pthread_t thread;
    struct mailbox mailbox; /* of what the one before passes on */
    struct worker *next;    /* or NULL: frees by itself         */
    uint64_t random;
    size_t pairs, passed; /* blocks replaced; of these, given to the next thread */
    void *slots[SLOTS];
};

static struct worker workers[THREADS_MOST];
static atomic_bool go, stop;

static uint64_t next_random(struct worker *worker) {
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return worker->random;
}

static void empty(struct mailbox *mailbox) {
    size_t out = atomic_load_explicit(&mailbox->out, memory_order_relaxed);
    size_t in = atomic_load_explicit(&mailbox->in, memory_order_acquire);
    for (; out != in; out++) free(mailbox->blocks[out % MAILBOX]);
    atomic_store_explicit(&mailbox->out, out, memory_order_release);
}

static bool put(struct mailbox *mailbox, void *block) {
    size_t in = atomic_load_explicit(&mailbox->in, memory_order_relaxed);
    size_t out = atomic_load_explicit(&mailbox->out, memory_order_acquire);
    if (in - out == MAILBOX) return false;
    mailbox->blocks[in % MAILBOX] = block;
    atomic_store_explicit(&mailbox->in, in + 1, memory_order_release);
    return true;
}

static bool is_over(void) {
    return atomic_load_explicit(&stop, memory_order_relaxed);
}

/* Who waits for the next one looks after its own mailbox, so that no circle of waiting arises. */
static void pass_on(struct worker *worker, void *block) {
    if (worker->next == NULL || block == NULL) {
        free(block);
        return;
    }
    while (!put(&worker->next->mailbox, block)) {
        if (is_over()) {
            free(block);
            return;
        }
        empty(&worker->mailbox);
        sched_yield();
    }
    worker->passed++;
}

static void *body(void *arg) {
    struct worker *worker = arg;
    while (!atomic_load(&go)) sched_yield();
    for (size_t i = 0; !is_over(); i++) {
        uint64_t random = next_random(worker);
        void **slot = &worker->slots[random % SLOTS];
        pass_on(worker, *slot);
        *slot = malloc(16 + (random >> 32) % 500);
        if (*slot == NULL) probe_die("no memory");
        *(volatile char *)*slot = 1;
        worker->pairs++;
        if (i % 64 == 0) empty(&worker->mailbox);
    }
    return NULL;
}

/* How often threads of this process waited for something: a lock, a page, the time. */
static size_t waits(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (size_t)used.ru_nvcsw;
}

static void start_workers(size_t count, bool cross) {
    for (size_t i = 0; i < count; i++) {
        workers[i].random = 88172645463325252u + i * 7919;
        workers[i].next = cross && count > 1 ? &workers[(i + 1) % count] : NULL;
        if (pthread_create(&workers[i].thread, NULL, body, &workers[i]) != 0) {
            probe_die("no thread");
        }
    }
}

/* So many threads (argument), for a moment; each block freed by the next thread if the second
 * argument is 1. */
int probe_threads(int argc, char **argv) {
    size_t count = probe_argument(argc, argv, 1), pairs = 0, passed = 0;
    bool cross = probe_argument(argc, argv, 2) != 0;
    struct timespec moment = {0, MILLISECONDS * 1000000L};
    if (count == 0 || count > THREADS_MOST) probe_die("1 to %d threads", THREADS_MOST);
    start_workers(count, cross);
    size_t waited = waits();
    uint64_t start = probe_now_ns(), worked = probe_worked_ns();
    atomic_store(&go, true);
    nanosleep(&moment, NULL);
    probe_number("resident", (double)probe_anonymous());
    waited = waits() - waited;
    atomic_store(&stop, true);
    for (size_t i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        pairs += workers[i].pairs;
        passed += workers[i].passed;
    }
    worked = probe_worked_ns() - worked;
    probe_number("pairs", (double)pairs);
    probe_number("passed", (double)passed);
    probe_number("waits", (double)waited);
    probe_number("pairs_per_second", 1e9 * (double)pairs / (double)(probe_now_ns() - start));
    probe_number("pairs_per_worked_second", 1e9 * (double)pairs / (double)worked);
    return 0;
}
