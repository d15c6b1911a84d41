/*
 * scaling.c - the same work done by 1, 2, 4, ... 64 threads, on however many processors.
 *
 *     windows    64, each of SLOTS blocks of small sizes with random lifetimes; thread t of n works
 *                in turns on windows t, t + n, t + 2n, ...
 *     exchange   cells shared by all: after each turn some blocks of the window are swapped with
 *                those there, and will be freed by whichever thread gets them
 *
 * The point for each number of threads has the operations per second and the peak of resident
 * memory. All points have the same number of live blocks and, due to the windows, the same
 * locality, so neither figure should become much worse: a thread that is interrupted at a bad
 * moment must not hold up the others. The number given by --threads is not used.
 */
#include "slots.h"

#include <stdatomic.h>

enum {
    WINDOWS = 64, /* and the most threads */
    SLOTS = 1000, /* of a window */
    CELLS = 1024,
    TURNS = 8, /* of each window */
    REPLACEMENTS = 4000000,
    SWAP_ONE_IN = 16,
    LEAST = 16,
    MOST = 1024,
};

/* The one that set `busy` may use the block; who finds it set goes on without. */
struct cell {
    atomic_flag busy;
    struct bench_block block;
};

struct team {
    struct bench_block windows[WINDOWS][SLOTS];
    struct cell cells[CELLS];
    struct bench_sizes sizes;
    uint64_t turn; /* replacements in one */
    unsigned threads;
};

struct worker {
    _Alignas(64) struct team *team;
    unsigned index;
    uint64_t random;
};

static void swap_blocks(struct worker *worker, const struct bench_slots *slots) {
    for (uint64_t i = 0; i < worker->team->turn / SWAP_ONE_IN; i++) {
        struct bench_block *slot = &slots->at[bench_random_below(&worker->random, SLOTS)];
        struct cell *cell = &worker->team->cells[bench_random_below(&worker->random, CELLS)];
        if (atomic_flag_test_and_set_explicit(&cell->busy, memory_order_acquire)) continue;
        struct bench_block taken = cell->block;
        cell->block = *slot;
        atomic_flag_clear_explicit(&cell->busy, memory_order_release);
        *slot = taken;
    }
}

static void take_turn(struct worker *worker, const struct bench_slots *slots, unsigned turn) {
    if (turn == 0) bench_slots_fill(slots, &worker->random, bench_make_plain);
    bench_slots_replace(slots, &worker->random, worker->team->turn, bench_make_plain);
    swap_blocks(worker, slots);
    if (turn == TURNS - 1) bench_slots_free(slots);
}

static void *work(void *arg) {
    struct worker *worker = arg;
    struct team *team = worker->team;
    for (unsigned turn = 0; turn < TURNS; turn++)
        for (unsigned w = worker->index; w < WINDOWS; w += team->threads) {
            const struct bench_slots slots = {team->windows[w], SLOTS, &team->sizes};
            take_turn(worker, &slots, turn);
        }
    return NULL;
}

static void run(struct team *team, const struct bench *bench, unsigned threads) {
    static struct worker workers[WINDOWS];
    team->threads = threads;
    for (uint32_t c = 0; c < CELLS; c++) {
        atomic_flag_clear(&team->cells[c].busy);
        team->cells[c].block = bench_allocate(LEAST, c);
    }
    for (unsigned t = 0; t < threads; t++)
        workers[t] = (struct worker){team, t, bench_random_state(bench, t)};
    bench_run_threads(threads, work, workers, sizeof(*workers));
    for (uint32_t c = 0; c < CELLS; c++) bench_check_and_free(&team->cells[c].block);
}

int main(int argc, char **argv) {
    static struct team team;
    struct bench bench;
    bench_init(&bench, "scaling", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, WINDOWS), operations = 0;
    team.turn = bench_scaled(&bench, REPLACEMENTS) / (WINDOWS * TURNS) + 1;
    bench_sizes_log_uniform(&team.sizes, &random, LEAST, MOST);

    bench_start(&bench);
    for (unsigned threads = 1; threads <= WINDOWS; threads *= 2) {
        const uint64_t done = CELLS + WINDOWS * (SLOTS + TURNS * team.turn);
        bench_reset_peak_rss();
        uint64_t began = proc_now();
        run(&team, &bench, threads);
        double seconds = (double)(proc_now() - began) / 1e9;
        operations += done;
        bench_add_point(&bench, "\"threads\": %u, \"ops_per_second\": %.0f, \"peak_rss\": %lu",
                        threads, (double)done / seconds, bench_peak_rss());
    }
    bench_stop(&bench);
    bench_report(&bench, operations);
    return 0;
}
