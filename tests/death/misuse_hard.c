/*
 * misuse_hard.c - what LUCID_OPTIONS=harden finds: each case runs with the options that run.py
 * gives it, and ends with a line of the allocator or with a fault of the processor.
 */
#include "misuse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OTHERS = 1000, CHURN = 200000, LARGE = 300000 };

static volatile unsigned char sink;

/* So many pairs of malloc and free, until whatever is free was handed out again. */
static void churn(size_t size) {
    for (int i = 0; i < CHURN; i++) {
        void *block = misuse_hidden(malloc(size));
        if (block == NULL) misuse_cannot("no memory");
        free(block);
    }
}

static void write_byte(void *block, size_t at) {
    ((volatile unsigned char *)misuse_hidden(block))[at] ^= 0x55;
}

static void read_byte(void *block, size_t at) {
    sink = ((volatile unsigned char *)misuse_hidden(block))[at];
}

/* With harden:2 the first blocks of a process are sampled ones. */
static void pass_the_first(void) {
    for (int i = 0; i < OTHERS; i++) free(misuse_block(24));
}

/* ------------------------------------------------------------------ double frees ------------- */

static void double_after(size_t size, int others) {
    void *block = misuse_block(size);
    misuse_says(block, block, 0);
    free(block);
    for (int i = 0; i < others; i++) free(misuse_hidden(malloc(size)));
    free(misuse_hidden(block));
}

static void double_at_once(void) {
    double_after(24, 0);
}
static void double_at_once_medium(void) {
    double_after(5000, 0);
}
static void double_at_once_large(void) {
    double_after(LARGE, 0);
}
/* Others of another size push it out of the quarantine, and it waits to be used again. */
static void others_than_large(void) {
    for (int i = 0; i < 6; i++) free(misuse_hidden(malloc(5 * LARGE)));
}
static void double_waited_large(void) {
    void *block = misuse_block(LARGE);
    misuse_says(block, block, 0);
    free(block);
    others_than_large();
    free(misuse_hidden(block));
}
static void double_delayed(void) {
    double_after(24, OTHERS);
}

/* The size is asked for again in between, and the block is not given yet. */
static void double_reused(void) {
    void *block = misuse_block(40);
    misuse_says(block, block, 0);
    free(block);
    void *next = misuse_block(40);
    if (next == block) misuse_cannot("given again at once");
    free(misuse_hidden(block));
    free(next);
}

static void free_in_thread(void *block) {
    free(block);
}

static void double_remote(void) {
    void *block = misuse_block(100);
    misuse_says(block, block, 0);
    misuse_in_thread(free_in_thread, block);
    free(misuse_hidden(block));
}

/* ------------------------------------------------------------------ use after free ----------- */

static void write_after_free(size_t size, size_t at) {
    void *block = misuse_block(size);
    misuse_says(block, block, 0);
    free(block);
    write_byte(block, at);
    churn(size);
}

static void write_freed_small(void) {
    write_after_free(24, 20);
}
static void write_freed_first_byte(void) {
    write_after_free(64, 0);
}
static void write_freed_medium(void) {
    write_after_free(5000, 4990);
}
static void write_freed_large(void) {
    write_after_free(LARGE, 1000);
}
static void read_freed_large(void) {
    void *block = misuse_block(LARGE);
    misuse_says(block, block, 0);
    free(block);
    read_byte(block, 0);
}

/* A free neighbour of a block that is freed is looked at with harden:2. */
static void write_freed_neighbour(void) {
    pass_the_first();
    char *block = misuse_block(8);
    misuse_says(block, block, 0);
    write_byte(block, 33); /* two blocks of 16 bytes further on */
    free(block);
}

/* ------------------------------------------------------------------ overflows ---------------- */

static void overflow(size_t size, size_t at) {
    char *block = misuse_block(size);
    misuse_says(block, block, 0);
    write_byte(block, at);
    free(block);
}

static void overflow_word(void) {
    overflow(24, 24);
}
static void overflow_odd(void) {
    pass_the_first();
    overflow(21, 21);
}
static void overflow_24(void) {
    pass_the_first();
    overflow(24, 24);
}
static void overflow_medium(void) {
    pass_the_first(); /* where it fits a page */
    overflow(5000, 5000);
}
static void underflow(void) {
    overflow(24, (size_t)-1);
}

static void overflow_to_guard(void) {
    char *block = misuse_block(1000);
    misuse_says(block, block, 0);
    memset(misuse_hidden(block), 0x55, 70000);
}

static void read_behind_large(void) {
    char *block = misuse_block(LARGE);
    misuse_says(block, block, 0);
    read_byte(block, LARGE + 15); /* the block ends on a multiple of 16 */
}
static void write_before_large(void) {
    char *block = misuse_block(65536 * 4);
    misuse_says(block, block, 0);
    write_byte(block, (size_t)-1);
}
static void use_nothing(void) {
    char *block = misuse_hidden(malloc(0));
    misuse_says(block, block, 0);
    read_byte(block, 0);
}

static void double_delayed_later(void) {
    pass_the_first();
    double_after(24, OTHERS);
}

/* A read right behind one of the first blocks faults at once. */
static void overflow_first(void) {
    char *block = misuse_block(16);
    misuse_says(block, block, 0);
    read_byte(block, 16);
}

/* ------------------------------------------------------------------ what goes on ------------- */

static void expect_zero(const unsigned char *block, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (block[i] != 0) misuse_cannot("a freed block shows what was in it");
    }
}

static void read_waited_large(void) {
    char *block = misuse_block(LARGE);
    misuse_says(block, block, 0);
    free(block);
    others_than_large();
    read_byte(block, 0);
}

/* Eight zeros behind a block make its canary that of a free one, but not the block. */
static void overflow_zeros(void) {
    char *block = misuse_block(24);
    misuse_says(block, block, 24);
    memset(block, 'x', 24);
    memset(misuse_hidden(block + 24), 0, 8);
    free(block);
}

/* Large blocks are used again, by smaller and larger ones, and are zero then: whether they were
 * written to everywhere, here and there, or in many places. */
static void large_again(void) {
    static unsigned char *blocks[8];
    static size_t sizes[8];
    size_t random = 1;
    for (int round = 0; round < 400; round++) {
        size_t i = (size_t)round % 8, step = round % 3 == 0 ? 1 : round % 3 == 1 ? 9000 : 300000;
        random = random * 6364136223846793005u + 1442695040888963407u;
        free(blocks[i]);
        sizes[i] = 70000 + (random >> 40) % (round % 5 == 0 ? 6000000 : 700000);
        blocks[i] = misuse_hidden(malloc(sizes[i]));
        if (blocks[i] == NULL) misuse_cannot("no memory");
        expect_zero(blocks[i], sizes[i]);
        for (size_t at = 0; at < sizes[i]; at += step) blocks[i][at] = 0xee;
        blocks[i][sizes[i] - 1] = 0xee;
    }
    misuse_prints("large blocks again");
}

static void stale(void) {
    static const size_t sizes[] = {8, 24, 100, 1000, 4096, 30000, 65000};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *block = misuse_block(sizes[i]);
        free(block);
        expect_zero(misuse_hidden(block), sizes[i]);
    }
    misuse_prints("nothing stale");
}

/* Empty blocks among the smallest ones, neither harmed by the other. */
static void empty_blocks(void) {
    static void *blocks[OTHERS];
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < OTHERS; i++) {
            blocks[i] = misuse_hidden(malloc(i % 3 == 0 ? 8 : 0));
            if (blocks[i] == NULL) misuse_cannot("no memory");
        }
        for (size_t i = 0; i < OTHERS; i++) free(blocks[i * 7 % OTHERS]);
    }
    misuse_prints("empty blocks are blocks");
}

/* Told to go on after each kind, the heap works as before. */
static void goes_on(void) {
    char *twice = misuse_block(24), *over = misuse_block(24), *after = misuse_block(200);
    misuse_says(twice, twice, 0);
    free(twice);
    free(misuse_hidden(twice));
    misuse_says(over, over, 0);
    write_byte(over, 24);
    free(over);
    misuse_says(after, after, 0);
    free(after);
    write_byte(after, 100); /* too far from its neighbours to be seen when they are freed */
    churn(200);
    for (size_t size = 1; size < 3000; size += 7) free(misuse_block(size));
    misuse_prints("went on");
}

/* Blocks come in no order that could be foretold. */
static void random_order(void) {
    uintptr_t before = 0;
    int rises = 0;
    for (int i = 0; i < OTHERS; i++) {
        uintptr_t block = (uintptr_t)misuse_block(48);
        rises += block == before + 64;
        before = block;
    }
    misuse_prints(rises < OTHERS / 10 ? "in random order" : "in order");
}

const struct misuse misuse_hard_table[] = {
    {"hard1-double-at-once", double_at_once},
    {"hard1-double-at-once-medium", double_at_once_medium},
    {"hard1-double-at-once-large", double_at_once_large},
    {"hard1-double-waited-large", double_waited_large},
    {"hard1-double-delayed", double_delayed},
    {"hard1-double-reused", double_reused},
    {"hard1-double-remote", double_remote},
    {"hard1-write-freed-small", write_freed_small},
    {"hard1-write-freed-first-byte", write_freed_first_byte},
    {"hard1-write-freed-medium", write_freed_medium},
    {"hard1-write-freed-large", write_freed_large},
    {"hard1-read-freed-large", read_freed_large},
    {"hard1-read-waited-large", read_waited_large},
    {"hard1-overflow-word", overflow_word},
    {"hard1-overflow-zeros", overflow_zeros},
    {"hard1-overflow-guard", overflow_to_guard},
    {"hard1-underflow", underflow},
    {"hard1-read-behind-large", read_behind_large},
    {"hard1-write-before-large", write_before_large},
    {"hard1-use-nothing", use_nothing},
    {"hard1-stale", stale},
    {"hard1-large-again", large_again},
    {"hard1-empty", empty_blocks},
    {"hard1-goes-on", goes_on},
    {"hard1-random-order", random_order},
    {"hard2-overflow-odd", overflow_odd},
    {"hard2-overflow-24", overflow_24},
    {"hard2-overflow-medium", overflow_medium},
    {"hard2-write-freed-neighbour", write_freed_neighbour},
    {"hard2-double-delayed", double_delayed_later},
    {"hard2-first", overflow_first},
    {NULL, NULL},
};
