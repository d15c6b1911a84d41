/*
 * idle_threads.c - what a thousand threads hold back that once had work and now wait.
 *
 * Each thread allocates and frees some rounds of blocks, up to BURST_BYTES live, keeps a few of
 * them and waits. Then the main thread goes on for a second with next to nothing to do. The figure
 *
 *     bytes_per_thread = (resident now - resident before - kept blocks) / threads - a bare thread
 *
 * is what the allocator has not given back. A bare thread is measured in a child process, with
 * threads that use as much of their stack and allocate nothing. Stacks have no guard page, so that
 * they are one mapping and the number in the report tells of the allocator.
 */
#include "common.h"

#include <sys/wait.h>
#include <unistd.h>

enum {
    THREADS = 1000,
    ROUNDS = 24,
    BURST_BYTES = 256 << 10,
    BLOCKS_MAX = 1024,
    KEEP = 4,
    LEAST = 16,
    MOST = 8192,
    STACK_BYTES = 256 << 10,
    STACK_USED = 32 << 10,
};
#define LIGHT_USE_SECONDS 1.0

struct team {
    pthread_barrier_t resting, leaving; /* of all threads and the main one */
    const struct bench_sizes *sizes;
    unsigned rounds; /* 0: allocate nothing */
};

struct member {
    struct team *team;
    uint64_t random;
    struct bench_block kept[KEEP];
    uint64_t operations;
};

static void burst(struct member *member) {
    struct bench_block blocks[BLOCKS_MAX];
    uint32_t count = 0, bytes = 0;
    while (bytes < BURST_BYTES && count < BLOCKS_MAX) {
        uint32_t size = bench_sizes_draw(member->team->sizes, &member->random);
        blocks[count] = bench_allocate(size, count);
        bytes += size;
        count++;
    }
    member->operations += count;
    for (uint32_t i = 0; i < KEEP; i++) {
        if (member->kept[i].at != NULL) bench_check_and_free(&member->kept[i]);
        member->kept[i] = blocks[i * (count / KEEP)];
        blocks[i * (count / KEEP)].at = NULL;
    }
    for (uint32_t i = 0; i < count; i++)
        if (blocks[i].at != NULL) bench_check_and_free(&blocks[i]);
}

/* Make resident what the deepest call of either kind of thread needs. */
static __attribute__((noinline)) void use_stack(void) {
    volatile unsigned char bytes[STACK_USED];
    for (size_t i = 0; i < sizeof(bytes); i += 1024) bytes[i] = 1;
}

static void *work(void *arg) {
    struct member *member = arg;
    use_stack();
    for (unsigned round = 0; round < member->team->rounds; round++) burst(member);
    pthread_barrier_wait(&member->team->resting);
    pthread_barrier_wait(&member->team->leaving);
    for (uint32_t i = 0; i < KEEP; i++)
        if (member->kept[i].at != NULL) bench_check_and_free(&member->kept[i]);
    return NULL;
}

/* Returns when all threads rest. */
static void start_threads(struct team *team, struct member *members, pthread_t *threads) {
    pthread_attr_t attributes;
    pthread_barrier_init(&team->resting, NULL, THREADS + 1);
    pthread_barrier_init(&team->leaving, NULL, THREADS + 1);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_attr_setguardsize(&attributes, 0);
    for (unsigned t = 0; t < THREADS; t++) {
        members[t].team = team;
        if (pthread_create(&threads[t], &attributes, work, &members[t]) != 0)
            bench_fail("no thread");
    }
    pthread_attr_destroy(&attributes);
    pthread_barrier_wait(&team->resting);
}

static void join_threads(struct team *team, pthread_t *threads) {
    pthread_barrier_wait(&team->leaving);
    for (unsigned t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
}

/* Resident bytes of a thread that allocates nothing, measured in a child process. */
static double measure_bare_thread(struct member *members, pthread_t *threads) {
    uint64_t growth = 0;
    int ends[2], status;
    if (pipe(ends) != 0) bench_fail("no pipe");
    pid_t child = fork();
    if (child == 0) {
        struct team team = {.rounds = 0};
        uint64_t before = bench_rss();
        start_threads(&team, members, threads);
        growth = bench_rss() - before;
        join_threads(&team, threads);
        _exit(write(ends[1], &growth, sizeof(growth)) == sizeof(growth) ? 0 : 1);
    }
    if (child < 0 || read(ends[0], &growth, sizeof(growth)) != sizeof(growth) ||
        waitpid(child, &status, 0) != child || status != 0)
        bench_fail("the child that measures bare threads failed");
    close(ends[0]);
    close(ends[1]);
    return (double)growth / THREADS;
}

int main(int argc, char **argv) {
    static struct bench_sizes sizes;
    static struct member members[THREADS];
    static pthread_t threads[THREADS];
    struct bench bench;
    bench_init(&bench, "idle_threads", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, THREADS), operations = 0, kept = 0;
    struct team team = {.sizes = &sizes, .rounds = (unsigned)bench_scaled(&bench, ROUNDS)};
    bench_sizes_log_uniform(&sizes, &random, LEAST, MOST);
    for (unsigned t = 0; t < THREADS; t++) members[t].random = bench_random_state(&bench, t);
    double bare = measure_bare_thread(members, threads);
    uint64_t before = bench_rss();

    bench_start(&bench);
    start_threads(&team, members, threads);
    bench_stop(&bench);
    bench_use_lightly(LIGHT_USE_SECONDS, &random);
    for (unsigned t = 0; t < THREADS; t++) {
        operations += members[t].operations;
        for (uint32_t i = 0; i < KEEP; i++) kept += members[t].kept[i].size;
    }
    double all = (double)bench_rss() - (double)before - (double)kept;
    bench_add_figure(&bench, "bytes_per_thread", all / THREADS - bare);
    bench_add_figure(&bench, "bytes_per_bare_thread", bare);
    bench_report(&bench, operations);
    join_threads(&team, threads);
    return 0;
}
