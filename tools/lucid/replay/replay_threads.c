/*
 * replay_threads.c - threads that take turns.
 *
 *     coordinator   call(3, work) ─ go ─▶ ...waits...            ◀─ done ─ goes on
 *     thread 3      waits for go          work(arg)                        waits for go
 *
 * An allocator may keep something for each thread, so what a thread of the trace did must be done
 * by a thread of its own; and the order of the trace must be kept, so only one of them ever runs.
 * Thread 0 is the coordinator itself. The tables are mapped, not allocated; that the C library
 * allocates a little for a thread that it starts cannot be helped.
 */
#include "replay/replay_parts.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>

#define STACK_BYTES (256u * 1024)

struct worker {
    pthread_t id;
    sem_t go, done;
    bool exists;
    void (*work)(void *); /* NULL: end */
    void *arg;
};

struct replay_threads {
    uint32_t count;
    struct worker workers[];
};

static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0 && errno == EINTR) continue;
}

static void *live(void *arg) {
    struct worker *worker = arg;
    for (;;) {
        wait_for(&worker->go);
        if (worker->work == NULL) return NULL;
        worker->work(worker->arg);
        sem_post(&worker->done);
    }
}

struct replay_threads *replay_threads_make(uint32_t count) {
    size_t bytes = sizeof(struct replay_threads) + (size_t)count * sizeof(struct worker);
    struct replay_threads *threads = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (threads == MAP_FAILED) return NULL;
    threads->count = count;
    return threads;
}

static bool start(struct worker *worker) {
    pthread_attr_t attributes;
    sem_init(&worker->go, 0, 0);
    sem_init(&worker->done, 0, 0);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    worker->exists = pthread_create(&worker->id, &attributes, live, worker) == 0;
    pthread_attr_destroy(&attributes);
    return worker->exists;
}

bool replay_threads_call(struct replay_threads *threads, uint32_t number, void (*work)(void *),
                         void *arg) {
    if (number == 0) {
        work(arg);
        return true;
    }
    struct worker *worker = &threads->workers[number];
    if (!worker->exists && !start(worker)) return false;
    worker->work = work;
    worker->arg = arg;
    sem_post(&worker->go);
    wait_for(&worker->done);
    return true;
}

void replay_threads_end(struct replay_threads *threads, uint32_t number) {
    struct worker *worker = &threads->workers[number];
    if (number == 0 || !worker->exists) return;
    worker->work = NULL;
    sem_post(&worker->go);
    pthread_join(worker->id, NULL);
    sem_destroy(&worker->go);
    sem_destroy(&worker->done);
    worker->exists = false;
}
