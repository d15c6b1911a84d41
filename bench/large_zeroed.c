/*
 * large_zeroed.c - buffers of 64 KiB to 4 MiB from calloc, used page by page.
 *
 * A few are live at a time. An allocator gains by knowing that fresh memory is zero already, and by
 * keeping memory instead of mapping it anew each time; it loses resident memory by keeping much.
 */
#include "common.h"

enum { SLOTS = 12, REPLACEMENTS = 2500, LEAST = 64 << 10, MOST = 4 << 20, STEP = 4096 };

/* One word in each page is read, must be zero, and is written. */
static void use_zeroed(unsigned char *block, uint32_t size) {
    for (uint32_t at = 0; at + sizeof(uint64_t) <= size; at += STEP) {
        uint64_t word;
        memcpy(&word, block + at, sizeof(word));
        if (word != 0) bench_fail("memory from calloc is not zero");
        word = at + 1;
        memcpy(block + at, &word, sizeof(word));
    }
    bench_escape(block);
}

static void check_used(const unsigned char *block, uint32_t size) {
    for (uint32_t at = 0; at + sizeof(uint64_t) <= size; at += STEP) {
        uint64_t word;
        memcpy(&word, block + at, sizeof(word));
        if (word != at + 1) bench_fail("a block was overwritten");
    }
}

int main(int argc, char **argv) {
    static unsigned char *slots[SLOTS];
    static uint32_t lengths[SLOTS];
    static struct bench_sizes sizes;
    struct bench bench;
    bench_init(&bench, "large_zeroed", NULL, argc, argv);
    uint64_t random = bench_random_state(&bench, 0);
    uint64_t replacements = bench_scaled(&bench, REPLACEMENTS);
    bench_sizes_log_uniform(&sizes, &random, LEAST, MOST);

    bench_start(&bench);
    for (uint64_t i = 0; i < replacements; i++) {
        size_t slot = bench_random_below(&random, SLOTS);
        if (slots[slot] != NULL) check_used(slots[slot], lengths[slot]);
        free(slots[slot]);
        lengths[slot] = bench_sizes_draw(&sizes, &random);
        slots[slot] = calloc(1, lengths[slot]);
        if (slots[slot] == NULL) bench_fail("no memory");
        use_zeroed(slots[slot], lengths[slot]);
    }
    for (size_t slot = 0; slot < SLOTS; slot++) free(slots[slot]);
    bench_stop(&bench);
    bench_report(&bench, replacements);
    return 0;
}
