/*
 * realloc_family.c - realloc and reallocarray keep what they must keep, whatever way they resize.
 *
 * In place, by copy, by mremap, across the borders of size classes and from aligned blocks: the
 * prefix min(old, new) survives. NULL and 0 are treated as glibc treats them: realloc(NULL, n) is
 * malloc(n), and realloc(p, 0) frees and returns NULL.
 */
#include "check.h"
#include "family.h"

static void null_and_zero(void) {
    void *block = realloc(check_hidden(NULL), 100);
    CHECK(block != NULL);
    free(block);
    block = reallocarray(check_hidden(NULL), 10, 10);
    CHECK(block != NULL);
    free(block);
    block = realloc(check_hidden(NULL), check_size(0));
    CHECK_THAT(block != NULL, "realloc(NULL, 0) is malloc(0) and gives a block");
    free(block);
    if (!check_quirk("realloc-zero")) {
        for (size_t size = 0; size <= 4 * CHECK_MIB; size = size * 2 + 1) {
            /* If it did not free, this would leak 64 times. */
            for (int i = 0; i < 64; i++) {
                block = check_hidden(malloc(size));
                CHECK(block != NULL);
                CHECK_THAT(realloc(block, check_size(0)) == NULL, "realloc(p, 0) gave a block");
                block = check_hidden(malloc(size));
                CHECK(reallocarray(block, check_size(0), 16) == NULL);
            }
        }
    }
    check_passed("realloc(NULL, n) allocates, realloc(p, 0) frees and gives NULL");
}

/* From every size to sizes above and below it. */
static void every_pair(void) {
    static const size_t targets[] = {1,     8,      9,      24,     100,    500,
                                     1024,  1025,   4096,   10000,  32768,  65536,
                                     65537, 100000, 131072, 300000, 2000000};
    size_t pairs = 0;
    for (size_t from = 1; from <= 400 * CHECK_KIB; from = check_next_size(from * 17 / 16)) {
        for (size_t t = 0; t < CHECK_COUNT_OF(targets); t++, pairs++) {
            size_t to = targets[t], same = from < to ? from : to;
            char *block = malloc(from);
            CHECK(block != NULL);
            check_fill(block, from, pairs);
            block = realloc(block, to);
            CHECK(block != NULL);
            CHECK_FILLED(block, same / 8 * 8, pairs);
            block[to - 1] = 1;
            if (to >= 16) CHECK_ALIGNED(block, 16);
            free(block);
        }
    }
    check_passed("%zu pairs of old and new size", pairs);
}

/* The usual ways in which buffers grow, each with a check of all that was written. */
static void growth(void) {
    static unsigned char *block;
    size_t size = 0;
    for (size_t n = 1; n <= 70000; n++) {
        block = realloc(block, n);
        CHECK(block != NULL);
        block[n - 1] = (unsigned char)(n * 31);
        if (n % 1009 != 0) continue;
        for (size_t i = 0; i < n; i++) CHECK_EQ(block[i], (unsigned char)((i + 1) * 31));
    }
    free(block);
    block = NULL;
    for (size_t n = 16; n <= 48 * CHECK_MIB; n += n / 2) {
        block = realloc(block, n);
        CHECK(block != NULL);
        CHECK_FILLED(block, size / 8 * 8, 5);
        check_fill(block, n, 5);
        size = n;
    }
    for (size_t n = size; n > 16; n -= n / 3) {
        block = realloc(block, n);
        CHECK(block != NULL);
        CHECK_FILLED(block, n / 8 * 8, 5);
    }
    free(block);
    check_passed("growth by one byte to 70,000, by halves to 48 MiB and back");
}

/* Many buffers grow at the same time, so that none can grow in place for long. */
static void interleaved(void) {
    enum { BUFFERS = 300, ROUNDS = 120000 };
    static void *blocks[BUFFERS];
    static size_t sizes[BUFFERS];
    uint64_t state = 3;
    size_t rounds = check_amount(ROUNDS);
    for (size_t round = 0; round < rounds; round++) {
        size_t i = check_random(&state) % BUFFERS;
        unsigned bits = round % 500 == 0 ? 20 : round % 20 == 0 ? 16 : 10;
        size_t size = check_random_size(&state, bits) + 1;
        size_t same = size < sizes[i] ? size : sizes[i];
        void *block = round % 2 == 0 ? realloc(blocks[i], size) : reallocarray(blocks[i], 1, size);
        CHECK(block != NULL);
        CHECK_FILLED(block, same / 8 * 8, i);
        check_fill(block, size, i);
        blocks[i] = block;
        sizes[i] = size;
    }
    for (size_t i = 0; i < BUFFERS; i++) free(blocks[i]);
    check_passed("%zu random resizes of %d buffers", rounds, (int)BUFFERS);
}

static void aligned_blocks(void) {
    for (size_t alignment = 16; alignment <= 4 * CHECK_MIB; alignment *= 4) {
        static const size_t sizes[] = {1, 100, 5000, 70000, 1000000};
        for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
            for (size_t k = 0; k < CHECK_COUNT_OF(sizes); k++) {
                void *block = aligned_alloc(alignment, sizes[i]);
                CHECK(block != NULL);
                check_fill(block, sizes[i], i);
                block = realloc(block, sizes[k]);
                CHECK(block != NULL);
                size_t same = sizes[i] < sizes[k] ? sizes[i] : sizes[k];
                CHECK_FILLED(block, same / 8 * 8, i);
                check_fill(block, sizes[k], k);
                block = realloc(block, sizes[k] * 2);
                CHECK(block != NULL);
                CHECK_FILLED(block, sizes[k] / 8 * 8, k);
                free(block);
            }
        }
    }
    check_passed("blocks of aligned_alloc can be resized");
}

/* Huge blocks move by mremap: a few words per page are enough to see pages lost or swapped. */
static void huge_blocks(void) {
    size_t size = 8 * CHECK_MIB, stride = 4096 / sizeof(uint64_t);
    uint64_t *block = malloc(size), *other = malloc(8 * CHECK_MIB);
    CHECK(block != NULL && other != NULL);
    check_fill(other, 8 * CHECK_MIB, 8);
    static const size_t steps[] = {9, 16, 64, 65, 256, 100, 64, 17, 3, 1, 40};
    size_t pages = size / 4096;
    for (size_t i = 0; i < pages; i++) block[i * stride] = i * 3 + 1;
    for (size_t k = 0; k < CHECK_COUNT_OF(steps); k++) {
        size = steps[k] * CHECK_MIB;
        block = realloc(block, size);
        CHECK(block != NULL);
        if (size / 4096 < pages) pages = size / 4096;
        for (size_t i = 0; i < pages; i++) CHECK_EQ(block[i * stride], i * 3 + 1);
        if (steps[k] > 64) continue;
        pages = size / 4096;
        for (size_t i = 0; i < pages; i++) block[i * stride] = i * 3 + 1;
    }
    CHECK_FILLED(other, 8 * CHECK_MIB, 8);
    free(block);
    free(other);
    check_passed("huge blocks resized between 1 and 256 MiB");
}

/* A block that becomes small gives its memory back. */
static void shrink_returns_memory(void) {
    size_t size = 128 * CHECK_MIB;
    char *block = malloc(size);
    CHECK(block != NULL);
    memset(block, 1, size);
    size_t full = check_rss_bytes();
    CHECK(full >= size);
    check_fill(block, 4096, 2);
    block = realloc(block, 4096);
    CHECK(block != NULL);
    CHECK_FILLED(block, 4096, 2);
    size_t after = check_rss_bytes();
    if (!check_quirk("memory-kept")) {
        CHECK_THAT(after <= full - size / 8 * 7, "resident %zu KiB, after realloc %zu KiB",
                   full / 1024, after / 1024);
    }
    free(block);
    check_passed("128 MiB shrunk to 4 KiB: resident memory falls");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_small_pages();
    null_and_zero();
    every_pair();
    growth();
    interleaved();
    aligned_blocks();
    huge_blocks();
    shrink_returns_memory();
    return 0;
}
