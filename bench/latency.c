/*
 * latency.c - how long each single call takes: 8 threads, a server's sizes, for some seconds.
 *
 *     busy      every thread all the time: random replacement in rows of small and of large
 *               blocks; one block in REMOTE_ONE_IN is swapped with one of another thread before it
 *               is freed
 *     purging   again and again, all threads together:
 *
 *                   grow, to 400 MB │ free 19 of 20, half of them │ a few calls every millisecond,
 *                                   │ another thread's            │ so that memory can go back
 *
 * Other benchmarks say how much an allocator gets done. This one asks how long one call may make a
 * thread wait: percentiles and the longest, and how many calls took a millisecond or more, which
 * is never the work of one malloc. There are more threads than most machines have processors, as
 * in servers; what is the scheduler's is told apart (watch.h, timed.h).
 *
 * The duration is DURATION times the scale, or that of --duration. The main thread sleeps, and
 * looks at resident memory now and then. Large blocks are touched page by page outside the timed
 * calls, as a program that asks for them would.
 */
#include "timed.h"

#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

enum {
    THREADS = 8,
    SMALL_SLOTS = 20000, /* of a thread */
    LARGE_SLOTS = 12,
    HUGE_SLOTS = 1,
    CELLS = 1024,
    BATCH = 128, /* operations in a window           */
    LARGE_ONE_IN = 500,
    HUGE_ONE_IN = 50000,
    REMOTE_ONE_IN = 4,
    CALLOC_ONE_IN = 8,
    REALLOC_ONE_IN = 16,
    LARGE_LEAST = 64 << 10,
    LARGE_MOST = 2 << 20,
    HUGE_MOST = 32 << 20,
    PAGE = 4096,
    ROW_BYTES = 50 << 20, /* purging: of each thread          */
    ROW_MOST = 1 << 20,
    KEEP_ONE_IN = 20,
    LIGHT_MILLISECONDS = 800,
    LIGHT_OPERATIONS = 10, /* in a millisecond                 */
    SAMPLE_MICROSECONDS = 10000,
};
#define DURATION 4.0

static const struct bench_share small_sizes[] = {
    {16, 900},  {32, 2000},  {64, 2400},  {128, 1800},  {256, 1200},
    {512, 700}, {1024, 400}, {4096, 400}, {16384, 150}, {65536, 50},
};

/* The one that set `busy` may use the block; who finds it set goes on without. */
struct cell {
    atomic_flag busy;
    struct bench_block block;
};

struct team {
    struct cell cells[CELLS];
    struct bench_sizes small, large, huge;
    struct watch_clock clock;
    pthread_barrier_t barrier;
    atomic_bool over;
    bool last; /* purging: no more phases; between barriers, by the first thread */
    bool list;
    unsigned threads;
    struct worker *workers;
};

struct worker {
    struct timed timed;
    struct team *team;
    unsigned index;
    uint64_t random;
    struct bench_block *small, *large, *huge; /* busy: slots, and purging: in `small` its row */
    uint32_t count;                           /* of the row */
    uint64_t bytes;
};

/* ------------------------------------------------------------------ one block ---------------- */

static bool one_in(struct worker *worker, uint32_t n) {
    return bench_random_below(&worker->random, n) == 0;
}

/* Write to the pages of a large block; that takes longer than a call, so a window begins. */
static void touch(struct worker *worker, const struct bench_block *block) {
    if (block->size < LARGE_LEAST) return;
    for (uint32_t at = PAGE; at < block->size - 1; at += PAGE) block->at[at] = 1;
    timed_window(&worker->timed);
}

static void make(struct worker *worker, struct bench_block *block, uint32_t size) {
    uint32_t tag = (uint32_t)worker->random;
    if (one_in(worker, CALLOC_ONE_IN)) {
        unsigned char *at = timed_calloc(&worker->timed, size);
        bench_escape(at);
        if (at != NULL && (at[0] != 0 || at[size / 2] != 0 || at[size - 1] != 0))
            bench_fail("calloc returned memory that is not zero");
        *block = bench_mark(at, size, tag);
    } else {
        *block = bench_mark(timed_malloc(&worker->timed, size), size, tag);
    }
    touch(worker, block);
}

static void give_up(struct worker *worker, struct bench_block *block) {
    if (block->at == NULL) return;
    bench_check(block);
    timed_free(&worker->timed, block->at, block->size);
    block->at = NULL;
}

/* Another size for a live block, of which the beginning must stay. */
static void change(struct worker *worker, struct bench_block *block, uint32_t size) {
    uint32_t found = block->tag;
    bench_check(block);
    unsigned char *at = timed_realloc(&worker->timed, block->at, size);
    bench_escape(at);
    if (at != NULL && size >= sizeof(found) && block->size > sizeof(found))
        memcpy(&found, at, sizeof(found));
    if (found != block->tag) bench_fail("realloc lost what was in a block");
    *block = bench_mark(at, size, block->tag);
    touch(worker, block);
}

static void swap_block(struct worker *worker, struct bench_block *block) {
    struct cell *cell = &worker->team->cells[bench_random_below(&worker->random, CELLS)];
    if (atomic_flag_test_and_set_explicit(&cell->busy, memory_order_acquire)) return;
    struct bench_block taken = cell->block;
    cell->block = *block;
    atomic_flag_clear_explicit(&cell->busy, memory_order_release);
    *block = taken;
}

/* ------------------------------------------------------------------ busy --------------------- */

static void replace(struct worker *worker) {
    const struct team *team = worker->team;
    struct bench_block *slots = worker->small;
    const struct bench_sizes *sizes = &team->small;
    uint32_t count = SMALL_SLOTS;
    if (one_in(worker, HUGE_ONE_IN)) {
        slots = worker->huge, sizes = &team->huge, count = HUGE_SLOTS;
    } else if (one_in(worker, LARGE_ONE_IN)) {
        slots = worker->large, sizes = &team->large, count = LARGE_SLOTS;
    }
    struct bench_block *block = &slots[bench_random_below(&worker->random, count)];
    uint32_t size = bench_sizes_draw(sizes, &worker->random);
    if (block->at != NULL && one_in(worker, REALLOC_ONE_IN)) {
        change(worker, block, size);
        return;
    }
    /* Huge ones stay with their thread, so that there are never many. */
    if (slots != worker->huge && one_in(worker, REMOTE_ONE_IN)) swap_block(worker, block);
    give_up(worker, block);
    make(worker, block, size);
}

static void *work_busy(void *arg) {
    struct worker *worker = *(struct worker **)arg;
    timed_init(&worker->timed, &worker->team->clock, worker->team->list);
    while (!atomic_load_explicit(&worker->team->over, memory_order_relaxed)) {
        for (int i = 0; i < BATCH; i++) replace(worker);
        timed_window(&worker->timed);
    }
    for (uint32_t i = 0; i < SMALL_SLOTS; i++) free(worker->small[i].at);
    for (uint32_t i = 0; i < LARGE_SLOTS; i++) free(worker->large[i].at);
    for (uint32_t i = 0; i < HUGE_SLOTS; i++) free(worker->huge[i].at);
    return NULL;
}

/* ------------------------------------------------------------------ purging ------------------ */

static void window_after(struct worker *worker, uint32_t operation) {
    if (operation % BATCH == 0) timed_window(&worker->timed);
}

static void grow(struct worker *worker) {
    const struct team *team = worker->team;
    while (worker->bytes < ROW_BYTES && worker->count < ROW_MOST &&
           !atomic_load_explicit(&team->over, memory_order_relaxed)) {
        bool large = one_in(worker, LARGE_ONE_IN);
        uint32_t size = bench_sizes_draw(large ? &team->large : &team->small, &worker->random);
        make(worker, &worker->small[worker->count++], size);
        worker->bytes += size;
        window_after(worker, worker->count);
    }
}

/* Of a row the blocks with even or with odd numbers, in a random order. */
static void free_most(struct worker *worker, const struct worker *of, uint32_t odd) {
    uint32_t half = (of->count + 1 - odd) / 2;
    uint32_t at = half > 0 ? (uint32_t)bench_random_below(&worker->random, half) : 0;
    for (uint32_t i = 0; i < half; i++) {
        at = (uint32_t)(((uint64_t)at + 1000003) % half); /* a prime above every row's half */
        if (!one_in(worker, KEEP_ONE_IN)) give_up(worker, &of->small[2 * at + odd]);
        window_after(worker, i);
    }
}

static void gather(struct worker *worker) {
    uint32_t kept = 0;
    worker->bytes = 0;
    for (uint32_t i = 0; i < worker->count; i++)
        if (worker->small[i].at != NULL) {
            worker->small[kept++] = worker->small[i];
            worker->bytes += worker->small[i].size;
        }
    worker->count = kept;
}

static void use_lightly(struct worker *worker) {
    const struct team *team = worker->team;
    for (uint32_t ms = 0; ms < LIGHT_MILLISECONDS; ms++) {
        if (atomic_load_explicit(&team->over, memory_order_relaxed)) return;
        usleep(1000);
        timed_window(&worker->timed);
        for (uint32_t i = 0; i < LIGHT_OPERATIONS && worker->count > 0; i++) {
            uint32_t at = (uint32_t)bench_random_below(&worker->random, worker->count);
            struct bench_block *block = &worker->small[at];
            uint32_t size = bench_sizes_draw(i > 0 ? &team->small : &team->large, &worker->random);
            if (i > 0) {
                give_up(worker, block);
                make(worker, block, size);
            } else {
                struct bench_block buffer;
                make(worker, &buffer, size);
                give_up(worker, &buffer);
            }
        }
    }
}

static void *work_purging(void *arg) {
    struct worker *worker = *(struct worker **)arg;
    struct team *team = worker->team;
    const struct worker *next = &team->workers[(worker->index + 1) % team->threads];
    timed_init(&worker->timed, &team->clock, team->list);
    do {
        grow(worker);
        pthread_barrier_wait(&team->barrier);
        timed_window(&worker->timed);
        free_most(worker, worker, 0);
        free_most(worker, next, 1);
        pthread_barrier_wait(&team->barrier);
        gather(worker);
        use_lightly(worker);
        pthread_barrier_wait(&team->barrier);
        timed_window(&worker->timed);
        if (worker->index == 0) team->last = atomic_load(&team->over);
        pthread_barrier_wait(&team->barrier);
    } while (!team->last);
    for (uint32_t i = 0; i < worker->count; i++) free(worker->small[i].at);
    return NULL;
}

/* ------------------------------------------------------------------ main --------------------- */

static void prepare(struct team *team, const struct bench *bench, struct worker **workers) {
    uint64_t random = bench_random_state(bench, BENCH_THREADS_MAX);
    bench_sizes_shares(&team->small, &random, small_sizes,
                       sizeof(small_sizes) / sizeof(small_sizes[0]));
    bench_sizes_log_uniform(&team->large, &random, LARGE_LEAST + 1, LARGE_MOST);
    bench_sizes_log_uniform(&team->huge, &random, LARGE_MOST, HUGE_MOST);
    team->threads = bench->threads_asked != 0 ? bench->threads_asked : THREADS;
    team->clock = watch_calibrate();
    team->list = bench->list;
    team->workers = bench_map(team->threads * sizeof(*team->workers));
    pthread_barrier_init(&team->barrier, NULL, team->threads);
    for (unsigned t = 0; t < team->threads; t++) {
        struct worker *worker = workers[t] = &team->workers[t];
        worker->team = team;
        worker->index = t;
        worker->random = bench_random_state(bench, t);
        worker->small = bench_map(ROW_MOST * sizeof(*worker->small));
        worker->large = bench_map(LARGE_SLOTS * sizeof(*worker->large));
        worker->huge = bench_map(HUGE_SLOTS * sizeof(*worker->huge));
    }
}

/* Sleep for the duration, and find the mean of resident memory. */
static uint64_t watch_memory(double seconds) {
    struct proc_mean mean = {0};
    uint64_t end = proc_now() + (uint64_t)(seconds * 1e9);
    for (uint64_t now; (now = proc_now()) < end; usleep(SAMPLE_MICROSECONDS))
        proc_mean_add(&mean, now, bench_rss());
    return proc_mean_value(&mean);
}

int main(int argc, char **argv) {
    static struct team team;
    static struct worker *workers[BENCH_THREADS_MAX];
    static struct timed_record records[TIMED_CALLS];
    struct bench_threads threads;
    struct bench bench;
    struct proc_memory memory;
    bench_init(&bench, "latency", "busy purging", argc, argv);
    prepare(&team, &bench, workers);
    bool busy = strcmp(bench.mode, "busy") == 0;

    uint64_t began = proc_now();
    bench_start_threads(&threads, team.threads, busy ? work_busy : work_purging, workers,
                        sizeof(*workers));
    uint64_t mean = watch_memory(bench.duration > 0 ? bench.duration : DURATION * bench.scale);
    if (!proc_measure_self(&memory)) bench_fail("cannot read /proc/self");
    atomic_store(&team.over, true);
    bench_join_threads(&threads);
    bench.seconds = (double)(proc_now() - began) / 1e9;

    memory.mean_rss = mean;
    for (unsigned t = 0; t < team.threads; t++)
        for (size_t i = 0; i < TIMED_CALLS; i++)
            timed_merge(&records[i], &workers[t]->timed.records[i]);
    uint64_t calls = timed_report(&bench, records, &team.clock);
    bench_add_figure(&bench, "threads", team.threads);
    bench_report_memory(&bench, calls, &memory);
    return 0;
}
