/*
 * walks_runs.c - rows of bench_walks about many runs and mappings: blocks too large for the size
 * classes of any allocator here.
 *
 * Their memory is not touched by the program: what an allocator looks at is its own.
 */
#include "walks.h"

#include <malloc.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RUN_BYTES = 65537,
    OLD_MICROSECONDS = 700000, /* longer than freed memory is kept */
    FILL_BYTES = 1 << 20,
    WANTED_BYTES = FILL_BYTES + (64 << 10),
    HEAPS = 1000,
    HUGE_BYTES = 256 << 10,
    HUGE_THRESHOLD = 128 << 10,
    FORKS = 20,
};

/* Four blocks for two free runs: the live ones between them stay. */
void walk_free_young(struct walk *walk) {
    const uint64_t count = 2 * walk->count;
    void **blocks = walk_table(count);
    for (uint64_t i = 0; i < count; i++) blocks[i] = walk_malloc(RUN_BYTES, false);
    for (uint64_t i = 0; i < count; i += 4) free(blocks[i]);
    usleep(OLD_MICROSECONDS);
    for (uint64_t i = 2; i < count && walk_goes_on(walk); i += 4) {
        walk_begin(walk);
        free(blocks[i]);
        walk_end(walk);
    }
}

/* In lucid the runs are in the same bin as the one that is wanted, and all are too small. */
void walk_large_malloc(struct walk *walk) {
    void **blocks = walk_table(walk->count);
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    for (uint64_t i = 0; i < walk->count; i++) {
        blocks[i] = walk_malloc(FILL_BYTES, false);
        (void)walk_malloc(RUN_BYTES, false);
    }
    for (uint64_t i = 0; i < walk->count; i++) free(blocks[i]);
    while (walk_goes_on(walk)) {
        walk_pair(walk, WANTED_BYTES);
    }
}

/* ------------------------------------------------------------------ mappings ----------------- */

static void **make_huge(struct walk *walk, bool timed) {
    void **blocks = walk_table(walk->count);
    mallopt(M_MMAP_THRESHOLD, HUGE_THRESHOLD);
    for (uint64_t i = 0; i < walk->count; i++) {
        if (timed) walk_begin(walk);
        blocks[i] = walk_malloc(HUGE_BYTES, false);
        if (timed) walk_end(walk);
    }
    return blocks;
}

void walk_huge_malloc(struct walk *walk) {
    (void)make_huge(walk, true);
}

void walk_huge_free(struct walk *walk) {
    void **blocks = make_huge(walk, false);
    for (uint64_t i = 0; i < walk->count && walk_goes_on(walk); i++) {
        walk_begin(walk);
        free(blocks[i]);
        walk_end(walk);
    }
}

void walk_heap_destroy(struct walk *walk) {
    void *(*create)(unsigned) = (void *(*)(unsigned))walk_find("lu_heap_create");
    void (*destroy)(void *) = (void (*)(void *))walk_find("lu_heap_destroy");
    void *(*allocate)(void *, size_t) = (void *(*)(void *, size_t))walk_find("lu_heap_malloc");
    (void)make_huge(walk, false);
    for (int i = 0; i < HEAPS && walk_goes_on(walk); i++) {
        void *heap = create(0);
        if (heap == NULL || allocate(heap, 100) == NULL) bench_fail("no heap");
        walk_begin(walk);
        destroy(heap);
        walk_end(walk);
    }
}

/* ------------------------------------------------------------------ fork --------------------- */

static atomic_bool over;

static void *use_runs(void *unused) {
    (void)unused;
    while (!atomic_load_explicit(&over, memory_order_relaxed)) free(walk_malloc(RUN_BYTES, false));
    return NULL;
}

/* The processor time of a child, from its birth until it has allocated: what it puts in order for
 * that, and what the kernel copies. */
static uint64_t measure_child(void) {
    uint64_t cpu = 0;
    int ends[2], status;
    if (pipe(ends) != 0) bench_fail("no pipe");
    pid_t child = fork();
    if (child == 0) {
        free(walk_malloc(100, true));
        free(walk_malloc(RUN_BYTES, false));
        cpu = walk_cpu();
        _exit(write(ends[1], &cpu, sizeof(cpu)) == sizeof(cpu) ? 0 : 1);
    }
    if (child < 0 || read(ends[0], &cpu, sizeof(cpu)) != sizeof(cpu) ||
        waitpid(child, &status, 0) != child || status != 0)
        bench_fail("a forked child failed");
    close(ends[0]);
    close(ends[1]);
    return cpu;
}

/* Another thread is likely to be in the midst of a change when fork comes. */
void walk_fork(struct walk *walk) {
    struct bench_threads threads;
    void **blocks = walk_table(walk->count);
    for (uint64_t i = 0; i < walk->count; i++) blocks[i] = walk_malloc(RUN_BYTES, false);
    for (uint64_t i = 0; i < walk->count; i += 2) free(blocks[i]);
    bench_start_threads(&threads, 1, use_runs, NULL, 0);
    for (int i = 0; i < FORKS && walk_goes_on(walk); i++) walk_add(walk, measure_child());
    atomic_store(&over, true);
    bench_join_threads(&threads);
}
