/*
 * phased_threads.c - threads that work in step, each phase with another size.
 *
 *     phase p:   thread t fills its row with blocks of the phase's size,
 *                then frees the row that its neighbour filled in phase p - 1
 *
 * All memory changes hands and its size changes with the phase: what a thread frees is of no use
 * to it, and what it needs lies free with another thread or in another size class.
 */
#include "common.h"

enum { PHASES = 220, ROW_BYTES = 4 << 20, ROW_MAX = 60000 };
static const uint32_t phase_sizes[] = {64, 1000, 16, 4000, 200, 24000, 32, 600};
enum { SIZE_COUNT = sizeof(phase_sizes) / sizeof(phase_sizes[0]) };

struct row {
    struct bench_block blocks[ROW_MAX];
    uint32_t count;
};

struct team {
    pthread_barrier_t barrier;
    unsigned threads;
    uint64_t phases;
    struct row *rows; /* [2][threads]: of even and of odd phases */
};

struct member {
    struct team *team;
    unsigned index;
    uint64_t operations;
};

static void fill_row(struct row *row, uint64_t phase) {
    uint32_t size = phase_sizes[phase % SIZE_COUNT];
    row->count = ROW_BYTES / size < ROW_MAX ? ROW_BYTES / size : ROW_MAX;
    for (uint32_t i = 0; i < row->count; i++) row->blocks[i] = bench_allocate(size, i);
}

static void free_row(struct row *row) {
    for (uint32_t i = 0; i < row->count; i++) bench_check_and_free(&row->blocks[i]);
    row->count = 0;
}

static void *work(void *arg) {
    struct member *member = arg;
    struct team *team = member->team;
    unsigned neighbour = (member->index + 1) % team->threads;
    for (uint64_t phase = 0; phase < team->phases; phase++) {
        struct row *now = &team->rows[(phase % 2) * team->threads];
        struct row *before = &team->rows[((phase + 1) % 2) * team->threads];
        fill_row(&now[member->index], phase);
        member->operations += now[member->index].count;
        free_row(&before[neighbour]);
        pthread_barrier_wait(&team->barrier);
    }
    return NULL;
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "phased_threads", NULL, argc, argv);
    struct team team = {.threads = bench.threads, .phases = bench_scaled(&bench, PHASES)};
    struct member *members = calloc(bench.threads, sizeof(*members));
    team.rows = calloc(2 * (size_t)bench.threads, sizeof(*team.rows));
    if (members == NULL || team.rows == NULL) bench_fail("no memory");
    pthread_barrier_init(&team.barrier, NULL, bench.threads);

    bench_start(&bench);
    for (unsigned t = 0; t < bench.threads; t++) members[t] = (struct member){&team, t, 0};
    bench_run_threads(bench.threads, work, members, sizeof(*members));
    uint64_t operations = 0;
    for (unsigned t = 0; t < bench.threads; t++) operations += members[t].operations;
    for (unsigned t = 0; t < 2 * bench.threads; t++) free_row(&team.rows[t]);
    bench_stop(&bench);
    free(team.rows);
    free(members);
    bench_report(&bench, operations);
    return 0;
}
