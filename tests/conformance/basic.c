/*
 * basic.c - malloc, calloc, realloc and free keep what is written in blocks of every size.
 *
 * Blocks are checked one by one, then many at a time with a pattern of its own in each: two blocks
 * that overlap destroy each other's pattern. Sizes go through the whole range of check_next_size,
 * so every border of a size class, of a run of pages and of a mapping is met from both sides.
 */
#include "check.h"
#include "family.h"

/* What C asks: fit for any object of that size. */
static size_t natural_alignment(size_t size) {
    return size >= 16 ? 16 : 8;
}

static void every_size_alone(void) {
    size_t count = 0;
    for (size_t size = 0; size <= CHECK_MIB + 1; size = check_next_size(size), count++) {
        for (size_t f = 0; f < FAMILY_COUNT; f++) {
            void *block = check_hidden(family_table[f].alloc(size));
            CHECK_THAT(block != NULL, "%s gave NULL for %zu", family_table[f].name, size);
            size_t alignment = natural_alignment(size);
            if (family_table[f].alignment > alignment) alignment = family_table[f].alignment;
            CHECK_ALIGNED(block, alignment);
            if (family_table[f].zeroed) CHECK_ZERO(block, size);
            check_fill(block, size, size);
            CHECK_FILLED(block, size, size);
            free(block);
            /* Large blocks cost page faults: the plain functions are enough for them. */
            if (size > 16 * CHECK_KIB && f >= 1) break;
        }
    }
    check_passed("%zu sizes from 0 to 1 MiB alone: aligned, writable, contents kept", count);
}

static void every_size_together(void) {
    enum { ROOM = 6000 };
    static void *blocks[ROOM];
    static size_t sizes[ROOM];
    size_t count = 0;
    for (size_t size = 1; size <= CHECK_MIB && count < ROOM; size = check_next_size(size)) {
        int copies = size <= 1100 ? 4 : size <= 64 * CHECK_KIB ? 2 : 1;
        for (int copy = 0; copy < copies && count < ROOM; copy++, count++) {
            sizes[count] = size;
            blocks[count] = malloc(size);
            CHECK(blocks[count] != NULL);
            check_fill(blocks[count], size, count);
        }
    }
    for (size_t i = 0; i < count; i++) CHECK_FILLED(blocks[i], sizes[i], i);
    for (size_t i = 0; i < count; i += 2) free(blocks[i]);
    for (size_t i = 1; i < count; i += 2) CHECK_FILLED(blocks[i], sizes[i], i);
    for (size_t i = 0; i < count; i += 2) {
        sizes[i] = sizes[count - 1 - i];
        blocks[i] = malloc(sizes[i]);
        CHECK(blocks[i] != NULL);
        check_fill(blocks[i], sizes[i], i + 7);
    }
    for (size_t i = 0; i < count; i++) {
        CHECK_FILLED(blocks[i], sizes[i], i % 2 == 0 ? i + 7 : i);
        free(blocks[i]);
    }
    check_passed("%zu blocks of 1 byte to 1 MiB together, half of them renewed: no overlap", count);
}

static void many_small(void) {
    enum { COUNT = 100000 };
    static uint64_t *blocks[COUNT];
    size_t count = check_amount(COUNT);
    for (size_t step = 8; step <= 64; step *= 2) {
        for (size_t i = 0; i < count; i++) {
            blocks[i] = malloc(step);
            CHECK(blocks[i] != NULL);
            for (size_t k = 0; k < step / 8; k++) blocks[i][k] = i * 8 + k;
        }
        for (size_t i = 0; i < count; i++) {
            for (size_t k = 0; k < step / 8; k++) CHECK_EQ(blocks[i][k], i * 8 + k);
        }
        /* Forwards, backwards, or with a large stride, so that lists get every order. */
        for (size_t i = 0; i < count; i++) {
            size_t at = step == 8 ? i : step == 16 ? count - 1 - i : i * 9973 % count;
            free(blocks[at]);
        }
    }
    check_passed("%zu blocks each of 8, 16, 32 and 64 bytes: no overlap", count);
}

static void empty_blocks(void) {
    void *blocks[64];
    for (size_t i = 0; i < 64; i++) {
        size_t zero = check_size(0);
        blocks[i] = i % 4 == 0   ? malloc(zero)
                    : i % 4 == 1 ? calloc(zero, 5)
                    : i % 4 == 2 ? calloc(5, zero)
                                 : realloc(NULL, zero);
        CHECK_THAT(blocks[i] != NULL, "an empty block is NULL");
        for (size_t k = 0; k < i; k++) CHECK(blocks[k] != blocks[i]);
    }
    for (size_t i = 0; i < 64; i++) free(blocks[i]);
    free(check_hidden(NULL));
    check_passed("empty blocks are not NULL and differ; free(NULL) does nothing");
}

static void random_life(void) {
    enum { LIVE = 5000, ROUNDS = 400000 };
    static void *blocks[LIVE];
    static size_t sizes[LIVE];
    uint64_t state = 42;
    size_t rounds = check_amount(ROUNDS);
    for (size_t round = 0; round < rounds; round++) {
        size_t i = check_random(&state) % LIVE;
        if (blocks[i] != NULL) {
            CHECK_FILLED(blocks[i], sizes[i], i);
            free(blocks[i]);
        }
        sizes[i] = check_random_size(&state, round % 64 == 0 ? 17 : 10);
        blocks[i] = malloc(sizes[i]);
        CHECK(blocks[i] != NULL);
        check_fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < LIVE; i++) {
        if (blocks[i] != NULL) CHECK_FILLED(blocks[i], sizes[i], i);
        free(blocks[i]);
    }
    check_passed("%zu random lives of %d blocks: contents kept", rounds, (int)LIVE);
}

static void very_large(void) {
    static const size_t sizes[] = {4 * CHECK_MIB, 64 * CHECK_MIB + 1, 1024 * CHECK_MIB,
                                   5120 * CHECK_MIB};
    for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
        for (int zeroed = 0; zeroed < 2; zeroed++) {
            /* Zeroes can be work. */
            size_t size = zeroed ? check_amount(sizes[i]) : sizes[i];
            unsigned char *block = zeroed ? calloc(1, size) : malloc(size);
            CHECK_THAT(block != NULL, "no block of %zu bytes", size);
            size_t points[] = {0, size / 3, size / 2, size - 1};
            for (size_t k = 0; k < CHECK_COUNT_OF(points); k++) {
                if (zeroed) CHECK_EQ(block[points[k]], 0);
                block[points[k]] = (unsigned char)(k + 1);
            }
            for (size_t k = 0; k < CHECK_COUNT_OF(points); k++) CHECK_EQ(block[points[k]], k + 1);
            free(block);
        }
    }
    check_passed("blocks of 4 MiB, 64 MiB, 1 GiB and 5 GiB can be had and freed");
}

typedef void free_sized_fn(void *block, size_t size);
typedef void free_aligned_sized_fn(void *block, size_t alignment, size_t size);

/* C23's sized frees; the C library need not have them, lucid does. */
static void sized_frees(void) {
    free_sized_fn *free_sized = (free_sized_fn *)dlsym(RTLD_DEFAULT, "free_sized");
    free_aligned_sized_fn *free_aligned_sized = (free_aligned_sized_fn *)dlsym(
        RTLD_DEFAULT, "free_aligned_sized");
    if (free_sized == NULL || free_aligned_sized == NULL) {
        CHECK_THAT(!check_strict, "free_sized or free_aligned_sized is missing");
        check_passed("(free_sized and free_aligned_sized: not offered by this malloc)");
        return;
    }
    free_sized(NULL, 0);
    free_sized(NULL, 100);
    free_aligned_sized(NULL, 0, 0);
    free_aligned_sized(NULL, 64, 64);
    for (size_t size = 0; size <= CHECK_MIB; size = check_next_size(size)) {
        void *blocks[] = {malloc(size), calloc(1, size), realloc(malloc(1), size + 1)};
        for (size_t i = 0; i < 3; i++) CHECK(blocks[i] != NULL);
        free_sized(blocks[0], size);
        free_sized(blocks[1], size);
        free_sized(blocks[2], size + 1);
        size_t alignment = (size_t)1 << (size % 14);
        void *aligned = aligned_alloc(alignment, size);
        CHECK(aligned != NULL);
        free_aligned_sized(aligned, alignment, size);
    }
    check_passed("free_sized and free_aligned_sized with the right size, and of NULL");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    every_size_alone();
    every_size_together();
    many_small();
    empty_blocks();
    random_life();
    very_large();
    sized_frees();
    return 0;
}
