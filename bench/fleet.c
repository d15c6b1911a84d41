/*
 * fleet.c - a long-running server with the sizes that large fleets have.
 *
 *     google   all sizes after the fleet's servers
 *     meta     requests that look up keys in a cache; what lives long are the cached values
 *
 *     request:   some blocks that end with it ── one request in HAND_OVER_ONE_IN lets another
 *                │   thread free them
 *                └── others are kept, each in the place of an older one ──▶ sessions; one in
 *                    SETTLE_ONE_IN stays for good, scattered between what comes and goes
 *
 *     load:      ▁▄█▆▂█▅▁ of the sessions, a phase each; all threads change phase together
 *
 * When load rises, requests add sessions; when it falls, they end. The clock stops after the last
 * phase; then follows 1.5 s of a few requests at that low load, as at night, and the final resident
 * memory is measured. "live_bytes" in the report is what the program itself holds then.
 *
 * Sources of the figures. google: the ten server profiles in the repository google/fleetbench
 * (fleetbench/tcmalloc/distributions, 2026), whose columns are size, allocation rate and live
 * blocks; here the mean of the rates, each profile counted alike, without the 0.02 % above 128 KiB.
 * There the mean life of a block, live / rate, differs by less than a factor of four between sizes
 * up to 32 KiB, so lifetimes here do not depend on the size. meta: the value sizes of five
 * production caches in the repository facebook/CacheLib (kvcache_reg and graph_cache_* in
 * cachelib/cachebench/test_configs/hit_ratio), the mean of all, without the 0.1 % above 64 KiB;
 * keys as those of the graph caches there, 30 % up to 8 bytes and the rest up to 64. How much of a
 * request outlives it, and the load, are our choice.
 */
#include "common.h"

#include <stdatomic.h>
#include <unistd.h>

enum {
    REQUESTS = 200000, /* of all threads in a phase at full load */
    SESSIONS = 320000, /* blocks of all threads at full load     */
    BLOCKS_LEAST = 4,  /* of a request                           */
    BLOCKS_MORE = 24,
    KEEP_ONE_IN = 8,      /* of its blocks                          */
    SETTLE_ONE_IN = 40,   /* of those kept                          */
    HAND_OVER_ONE_IN = 8, /* of the requests                        */
    SETTLED_PART = 10,    /* of the sessions, the most that settle  */
    PARCELS_MOST = 64,    /* waiting for a thread                   */
    LIGHT_MILLISECONDS = 1500,
};

static const unsigned load_percent[] = {10, 45, 100, 70, 25, 100, 60, 10};
enum { PHASES = sizeof(load_percent) / sizeof(load_percent[0]) };

static const struct bench_share google_sizes[] = {
    {8, 416},    {16, 715},   {32, 2309},  {48, 1857}, {64, 1192},  {96, 952},
    {128, 598},  {192, 460},  {256, 323},  {512, 461}, {1024, 252}, {2048, 124},
    {4096, 190}, {8192, 103}, {16384, 20}, {32768, 9}, {65536, 10}, {131072, 9},
};
static const struct bench_share meta_values[] = {
    {32, 2553}, {64, 979},   {96, 680},   {128, 879}, {192, 1899}, {256, 813},  {384, 918},
    {512, 440}, {1024, 416}, {2048, 170}, {4096, 90}, {8192, 76},  {16384, 42}, {65536, 45},
};
static const struct bench_share meta_keys[] = {{8, 3000}, {64, 7000}};

/* Blocks on their way to the thread that frees them. */
struct parcel {
    struct parcel *next;
    uint32_t count;
    struct bench_block blocks[BLOCKS_LEAST + BLOCKS_MORE];
};

struct fleet {
    pthread_barrier_t barrier; /* of all workers and the main thread, at the end of each phase */
    unsigned threads;
    uint64_t requests; /* of a worker, in a phase at full load */
    struct bench_sizes request_sizes, kept_sizes;
    struct worker *workers;
};

struct worker {
    _Alignas(64) struct fleet *fleet;
    struct bench_block *sessions; /* [0 .. count) are live */
    uint32_t count, sessions_most;
    struct bench_block *settled;
    uint32_t settled_count, settled_most;
    uint64_t random, operations, live_bytes;
    unsigned index;
    _Alignas(
        64) _Atomic(struct parcel *) mail; /* pushed by the neighbour, taken whole by the owner */
    _Atomic uint32_t mail_count;
};

static void open_mail(struct worker *worker) {
    struct parcel *parcel = atomic_exchange_explicit(&worker->mail, NULL, memory_order_acquire);
    while (parcel != NULL) {
        struct parcel *next = parcel->next;
        for (uint32_t i = 0; i < parcel->count; i++) bench_check_and_free(&parcel->blocks[i]);
        free(parcel);
        atomic_fetch_sub_explicit(&worker->mail_count, 1, memory_order_relaxed);
        parcel = next;
    }
}

/* False if the neighbour has too many already. */
static bool hand_over(struct worker *worker, const struct bench_block *blocks, uint32_t count) {
    unsigned next = (worker->index + 1) % worker->fleet->threads;
    struct worker *to = &worker->fleet->workers[next];
    if (atomic_load_explicit(&to->mail_count, memory_order_relaxed) >= PARCELS_MOST) return false;
    struct parcel *parcel = malloc(sizeof(*parcel));
    if (parcel == NULL) bench_fail("no memory");
    parcel->count = count;
    memcpy(parcel->blocks, blocks, count * sizeof(*blocks));
    atomic_fetch_add_explicit(&to->mail_count, 1, memory_order_relaxed);
    parcel->next = atomic_load_explicit(&to->mail, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(&to->mail, &parcel->next, parcel,
                                                  memory_order_release, memory_order_relaxed)) {
    }
    return true;
}

static void end_session(struct worker *worker, uint32_t index) {
    bench_check_and_free(&worker->sessions[index]);
    worker->sessions[index] = worker->sessions[--worker->count];
}

/* Allocate a block that outlives the request. */
static void keep_block(struct worker *worker, uint32_t target) {
    uint32_t size = bench_sizes_draw(&worker->fleet->kept_sizes, &worker->random);
    struct bench_block block = bench_allocate(size, (uint32_t)worker->operations++);
    if (bench_random_below(&worker->random, SETTLE_ONE_IN) == 0 &&
        worker->settled_count < worker->settled_most)
        worker->settled[worker->settled_count++] = block;
    else if (worker->count < target)
        worker->sessions[worker->count++] = block;
    else {
        struct bench_block *old =
            &worker->sessions[bench_random_below(&worker->random, worker->count)];
        bench_check_and_free(old);
        *old = block;
    }
}

/* `target` is the number of blocks in sessions at this load. */
static void serve(struct worker *worker, uint32_t target) {
    struct bench_block blocks[BLOCKS_LEAST + BLOCKS_MORE];
    uint32_t count = BLOCKS_LEAST + (uint32_t)bench_random_below(&worker->random, BLOCKS_MORE);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t size = bench_sizes_draw(&worker->fleet->request_sizes, &worker->random);
        blocks[i] = bench_allocate(size, i);
        if (bench_random_below(&worker->random, KEEP_ONE_IN) == 0) keep_block(worker, target);
    }
    worker->operations += count;
    for (uint32_t i = 0; i < count / 4 && worker->count > target; i++)
        end_session(worker, (uint32_t)bench_random_below(&worker->random, worker->count));
    open_mail(worker);
    if (bench_random_below(&worker->random, HAND_OVER_ONE_IN) == 0 &&
        hand_over(worker, blocks, count))
        return;
    while (count > 0) bench_check_and_free(&blocks[--count]);
}

static uint32_t target_of(const struct worker *worker, unsigned percent) {
    return 1 + (uint32_t)((uint64_t)(worker->sessions_most - 1) * percent / 100);
}

static void serve_lightly(struct worker *worker) {
    uint32_t target = target_of(worker, load_percent[PHASES - 1]);
    uint64_t end = proc_now() + LIGHT_MILLISECONDS * 1000000ull;
    while (proc_now() < end) {
        serve(worker, target);
        usleep(1000);
    }
}

static void *work(void *arg) {
    struct worker *worker = arg;
    struct fleet *fleet = worker->fleet;
    for (size_t phase = 0; phase < PHASES; phase++) {
        unsigned percent = load_percent[phase];
        uint32_t target = target_of(worker, percent);
        uint64_t requests = fleet->requests * percent / 100;
        for (uint64_t i = 0; i < requests; i++) serve(worker, target);
        while (worker->count > target)
            end_session(worker, (uint32_t)bench_random_below(&worker->random, worker->count));
        pthread_barrier_wait(&fleet->barrier);
    }
    pthread_barrier_wait(&fleet->barrier); /* the clock has stopped */
    serve_lightly(worker);
    pthread_barrier_wait(&fleet->barrier);
    open_mail(worker);
    for (uint32_t i = 0; i < worker->count; i++) worker->live_bytes += worker->sessions[i].size;
    for (uint32_t i = 0; i < worker->settled_count; i++)
        worker->live_bytes += worker->settled[i].size;
    pthread_barrier_wait(&fleet->barrier);
    pthread_barrier_wait(&fleet->barrier); /* memory has been measured */
    while (worker->count > 0) end_session(worker, worker->count - 1);
    for (uint32_t i = 0; i < worker->settled_count; i++) bench_check_and_free(&worker->settled[i]);
    return NULL;
}

static void make_sizes(struct fleet *fleet, bool google, uint64_t *random) {
    const size_t values = sizeof(meta_values) / sizeof(meta_values[0]);
    const size_t keys = sizeof(meta_keys) / sizeof(meta_keys[0]);
    const size_t all = sizeof(google_sizes) / sizeof(google_sizes[0]);
    if (google) {
        bench_sizes_shares(&fleet->request_sizes, random, google_sizes, all);
        fleet->kept_sizes = fleet->request_sizes;
        return;
    }
    /* Every lookup makes a key and a copy of the value. */
    bench_sizes_shares(&fleet->request_sizes, random, meta_keys, keys);
    bench_sizes_shares(&fleet->kept_sizes, random, meta_values, values);
    for (size_t i = 0; i < BENCH_SIZES; i += 2)
        fleet->request_sizes.at[i] = fleet->kept_sizes.at[i];
}

static void make_workers(struct fleet *fleet, const struct bench *bench) {
    const uint32_t sessions = (uint32_t)bench_scaled(bench, SESSIONS) / fleet->threads + 1;
    fleet->workers = bench_map(fleet->threads * sizeof(*fleet->workers));
    for (unsigned t = 0; t < fleet->threads; t++) {
        struct worker *worker = &fleet->workers[t];
        worker->fleet = fleet;
        worker->index = t;
        worker->sessions_most = sessions;
        worker->settled_most = sessions / SETTLED_PART;
        worker->sessions = bench_map(sessions * sizeof(*worker->sessions));
        worker->settled = bench_map(sessions * sizeof(*worker->settled));
        worker->random = bench_random_state(bench, t);
    }
}

int main(int argc, char **argv) {
    static struct fleet fleet;
    struct bench_threads threads;
    struct bench bench;
    uint64_t operations = 0, live_bytes = 0;
    bench_init(&bench, "fleet", "google meta", argc, argv);
    uint64_t random = bench_random_state(&bench, bench.threads);
    fleet.threads = bench.threads;
    fleet.requests = bench_scaled(&bench, REQUESTS) / bench.threads;
    make_sizes(&fleet, strcmp(bench.mode, "google") == 0, &random);
    make_workers(&fleet, &bench);
    pthread_barrier_init(&fleet.barrier, NULL, fleet.threads + 1);

    bench_start(&bench);
    bench_start_threads(&threads, fleet.threads, work, fleet.workers, sizeof(*fleet.workers));
    for (size_t phase = 0; phase < PHASES; phase++) pthread_barrier_wait(&fleet.barrier);
    bench_stop(&bench);
    for (unsigned t = 0; t < fleet.threads; t++) operations += fleet.workers[t].operations;
    /* The clock has stopped; the light use has ended; live blocks have been counted. */
    for (int i = 0; i < 3; i++) pthread_barrier_wait(&fleet.barrier);
    for (unsigned t = 0; t < fleet.threads; t++) live_bytes += fleet.workers[t].live_bytes;
    bench_add_figure(&bench, "live_bytes", (double)live_bytes);
    bench_report(&bench, operations);
    pthread_barrier_wait(&fleet.barrier);
    bench_join_threads(&threads);
    return 0;
}
