/*
 * phase_change.c - fragmentation: each phase fills memory with another mix of sizes, and one block
 * in twenty survives it.
 *
 *     phase 1   48 MB of 16 to 256 bytes        95 % freed at random
 *     phase 2   48 MB of 512 to 4,096 bytes     95 % freed at random
 *     ...
 *
 * What survives pins memory of one size while the next phase wants another. When the clock has
 * stopped there follows half a second of light use, as in a server at night; the final resident
 * memory is measured after it, with the survivors alive (the report's final_rss).
 */
#include "common.h"

enum { PHASE_BYTES = 48 << 20, KEEP_ONE_IN = 20, BLOCKS_MAX = 1500000, ROUNDS = 2 };
static const struct {
    uint32_t least, most;
} phases[] = {{16, 256}, {512, 4096}, {24, 96}, {8192, 49152}, {100, 1200}};
enum { PHASE_COUNT = sizeof(phases) / sizeof(phases[0]) };

static struct bench_block blocks[BLOCKS_MAX];
static size_t survivors; /* blocks[0 .. survivors) */

static void run_phase(size_t phase, uint64_t *random, uint64_t *operations) {
    static struct bench_sizes sizes;
    size_t count = survivors, bytes = 0;
    bench_sizes_log_uniform(&sizes, random, phases[phase].least, phases[phase].most);
    while (bytes < PHASE_BYTES && count < BLOCKS_MAX) {
        uint32_t size = bench_sizes_draw(&sizes, random);
        blocks[count] = bench_allocate(size, (uint32_t)count);
        bytes += size;
        count++;
    }
    *operations += count - survivors;
    for (size_t i = survivors; i < count; i++) {
        if (bench_random_below(random, KEEP_ONE_IN) == 0) {
            blocks[survivors++] = blocks[i];
        } else {
            bench_check_and_free(&blocks[i]);
        }
    }
}

int main(int argc, char **argv) {
    struct bench bench;
    bench_init(&bench, "phase_change", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0), operations = 0;
    uint64_t rounds = bench_scaled(&bench, ROUNDS);

    bench_start(&bench);
    for (uint64_t round = 0; round < rounds; round++)
        for (size_t phase = 0; phase < PHASE_COUNT; phase++) run_phase(phase, &random, &operations);
    for (size_t i = 0; i < survivors; i++) bench_check(&blocks[i]);
    bench_stop(&bench);
    bench_use_lightly(0.5, &random);
    bench_report(&bench, operations);
    for (size_t i = 0; i < survivors; i++) free(blocks[i].at);
    return 0;
}
