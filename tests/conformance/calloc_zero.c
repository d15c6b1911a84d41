/*
 * calloc_zero.c - calloc gives zeroes, also from memory that was used before.
 *
 * An allocator that knows fresh memory to be zero has many ways to be wrong about it: a block that
 * was freed and carved anew, a run of pages that was split or merged, a mapping kept for reuse, a
 * block that a remap or an aligned allocation cut. Each section dirties memory in one of these ways
 * and asks for zeroes after it. All blocks are written before they are freed.
 */
#include <pthread.h>

#include "check.h"
#include "family.h"

static void *dirty(size_t size) {
    void *block = malloc(size);
    CHECK(block != NULL);
    memset(block, 0xff, size);
    return block;
}

static void *zeroes(size_t size) {
    void *block = check_hidden(size % 3 == 0 ? calloc(size / 3, 3) : calloc(1, size));
    CHECK_THAT(block != NULL, "calloc of %zu bytes gave NULL", size);
    CHECK_ZERO(block, size);
    return block;
}

static void same_size_again(void) {
    enum { COPIES = 24 };
    void *blocks[COPIES];
    for (size_t size = 1; size <= 9 * CHECK_MIB; size = check_next_size(size * 65 / 64)) {
        size_t copies = size <= 70 * CHECK_KIB ? COPIES : 2;
        for (size_t i = 0; i < copies; i++) blocks[i] = dirty(size);
        for (size_t i = 0; i < copies; i++) free(blocks[i]);
        for (size_t i = 0; i < copies; i++) {
            blocks[i] = zeroes(size);
            memset(blocks[i], 0xee, size);
        }
        for (size_t i = 0; i < copies; i++) free(blocks[i]);
    }
    check_passed("blocks freed dirty and taken again in the same size, 1 byte to 9 MiB");
}

/* Random sizes, so that dirty memory of one size is split and merged into other sizes. */
static void mixed_sizes(bool trimming) {
    enum { LIVE = 500, ROUNDS = 30000 };
    static void *blocks[LIVE];
    static size_t sizes[LIVE];
    uint64_t state = trimming;
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t i = check_random(&state) % LIVE;
        free(blocks[i]);
        if (trimming && round % 1000 == 999) malloc_trim(0);
        unsigned bits = round % 200 == 0 ? 22 : round % 20 == 0 ? 18 : 12;
        sizes[i] = check_random_size(&state, bits);
        blocks[i] = round % 2 == 0 ? zeroes(sizes[i]) : malloc(sizes[i]);
        CHECK(blocks[i] != NULL);
        memset(blocks[i], 0xdd, sizes[i]);
    }
    for (size_t i = 0; i < LIVE; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    check_passed("%d random sizes to 4 MiB%s", (int)ROUNDS,
                 trimming ? ", with malloc_trim between" : "");
}

/* A heap that was all dirty, all free and trimmed away is all zero. */
static void after_trim(void) {
    enum { COUNT = 4000 };
    static void *blocks[COUNT];
    for (int round = 0; round < 3; round++) {
        uint64_t state = (uint64_t)round;
        for (size_t i = 0; i < COUNT; i++) blocks[i] = dirty(check_random_size(&state, 14));
        /* In the second round some stay, so that pages are purged in the middle of spans. */
        for (size_t i = 0; i < COUNT; i++) {
            if (round != 1 || i % 50 != 0) {
                free(blocks[i]);
                blocks[i] = NULL;
            }
        }
        malloc_trim(0);
        for (size_t i = 0; i < COUNT; i++) {
            if (blocks[i] != NULL) continue;
            size_t size = check_random_size(&state, 14);
            blocks[i] = zeroes(size);
            memset(blocks[i], 0xcc, size);
        }
        for (size_t i = 0; i < COUNT; i++) free(blocks[i]);
    }
    check_passed("a heap used, freed, trimmed and used again");
}

static void after_resize(void) {
    for (size_t size = 64; size <= 40 * CHECK_MIB; size = size * 5 / 4 + 8) {
        char *block = dirty(size);
        block = realloc(block, size / 4); /* the tail becomes free, dirty */
        CHECK(block != NULL);
        void *tail = zeroes(size / 2);
        memset(tail, 0xbb, size / 2);
        block = realloc(block, size);
        CHECK(block != NULL);
        memset(block, 0xaa, size);
        free(tail);
        free(block);
        free(zeroes(size));
        free(zeroes(size + size / 3));
    }
    check_passed("after blocks shrank, grew and moved");
}

static void after_aligned(void) {
    for (size_t alignment = 32; alignment <= 4 * CHECK_MIB; alignment *= 2) {
        for (int k = 0; k < 3; k++) {
            size_t size = alignment * (size_t)(k + 1) / 2 + 1;
            void *block = aligned_alloc(alignment, size), *next = dirty(size);
            CHECK(block != NULL);
            memset(block, 0x99, size);
            free(block);
            void *zeroed = zeroes(size);
            memset(zeroed, 0x99, size);
            free(next);
            free(zeroed);
            free(zeroes(2 * size));
            free(zeroes(size - 1));
        }
    }
    check_passed("after aligned blocks of 32 bytes to 4 MiB");
}

enum { HANDED = 2000 };
static void *handed[HANDED];

static void *free_all_handed(void *unused) {
    (void)unused;
    for (size_t i = 0; i < HANDED; i++) free(handed[i]);
    return NULL;
}

static void after_remote_free(void) {
    for (size_t size = 8; size <= 40000; size = size * 3 / 2 + 8) {
        size_t count = size > 5000 ? 200 : HANDED;
        memset(handed, 0, sizeof handed);
        for (size_t i = 0; i < count; i++) handed[i] = dirty(size);
        pthread_t thread;
        CHECK_EQ(pthread_create(&thread, NULL, free_all_handed, NULL), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        for (size_t i = 0; i < count; i++) handed[i] = zeroes(size);
        for (size_t i = 0; i < count; i++) free(handed[i]);
    }
    check_passed("after another thread freed the blocks");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    same_size_again();
    mixed_sizes(false);
    mixed_sizes(true);
    after_trim();
    after_resize();
    after_aligned();
    after_remote_free();
    return 0;
}
