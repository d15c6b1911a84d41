/*
 * alignment.c - aligned_alloc, posix_memalign, memalign, valloc and pvalloc give what they promise.
 *
 * Every power of two from 1 to 64 MiB, with sizes around multiples of the alignment and with
 * several blocks alive at a time, because the first block of a fresh span is aligned by luck. The
 * blocks are ordinary ones afterwards: usable_size, realloc and free take them.
 */
#include "check.h"
#include "family.h"

enum { ALIVE = 5 };

struct aligner {
    const char *name;
    void *(*alloc)(size_t alignment, size_t size);
    size_t least; /* smallest alignment that it takes */
};

static void *by_aligned_alloc(size_t alignment, size_t size) {
    return aligned_alloc(alignment, size);
}
static void *by_memalign(size_t alignment, size_t size) {
    return memalign(alignment, size);
}
static void *by_posix_memalign(size_t alignment, size_t size) {
    void *block = NULL;
    CHECK_EQ(posix_memalign(&block, alignment, size), 0);
    return block;
}

static const struct aligner aligners[] = {
    {"aligned_alloc", by_aligned_alloc, 1},
    {"memalign", by_memalign, 1},
    {"posix_memalign", by_posix_memalign, sizeof(void *)},
};

/* Write a block: all of it if small, else its first and last page. */
static void fill_ends(unsigned char *block, size_t size, uint64_t seed) {
    size_t part = size < 64 * CHECK_KIB ? size : 4096;
    check_fill(block, part, seed);
    if (part < size) check_fill(block + size - part, part, seed + 1);
}

static void check_ends(unsigned char *block, size_t size, uint64_t seed) {
    size_t part = size < 64 * CHECK_KIB ? size : 4096;
    CHECK_FILLED(block, part, seed);
    if (part < size) CHECK_FILLED(block + size - part, part, seed + 1);
}

static void one_pair(const struct aligner *aligner, size_t alignment, size_t size) {
    void *blocks[ALIVE];
    int alive = alignment > CHECK_MIB || size > CHECK_MIB ? 2 : ALIVE;
    for (int i = 0; i < alive; i++) {
        blocks[i] = check_hidden(aligner->alloc(alignment, size));
        CHECK_THAT(blocks[i] != NULL, "%s(%zu, %zu) gave NULL", aligner->name, alignment, size);
        CHECK_THAT(((uintptr_t)blocks[i] & (alignment - 1)) == 0, "%s(%zu, %zu) gave %p",
                   aligner->name, alignment, size, blocks[i]);
        CHECK(malloc_usable_size(blocks[i]) >= size);
        fill_ends(blocks[i], size, (uint64_t)i);
    }
    for (int i = 0; i < alive; i++) check_ends(blocks[i], size, (uint64_t)i);
    for (int i = 0; i < alive; i++) free(blocks[i]);
}

static void every_power_of_two(void) {
    size_t pairs = 0;
    for (size_t a = 0; a < CHECK_COUNT_OF(aligners); a++) {
        for (size_t alignment = aligners[a].least; alignment <= 64 * CHECK_MIB; alignment *= 2) {
            size_t half = alignment / 2;
            size_t sizes[] = {0,
                              1,
                              8,
                              17,
                              half,
                              alignment - 1,
                              alignment,
                              alignment + 1,
                              alignment + half,
                              2 * alignment,
                              3 * alignment + 1};
            for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++, pairs++) {
                one_pair(&aligners[a], alignment, sizes[i]);
            }
        }
    }
    check_passed("%zu pairs of alignment (1 to 64 MiB) and size", pairs);
}

static void common_alignments_every_size(void) {
    for (size_t alignment = 16; alignment <= 8192; alignment *= 2) {
        for (size_t size = 0; size <= 300 * CHECK_KIB; size = check_next_size(size)) {
            void *block = check_hidden(aligned_alloc(alignment, size));
            CHECK_THAT(block != NULL, "aligned_alloc(%zu, %zu) gave NULL", alignment, size);
            CHECK_ALIGNED(block, alignment);
            CHECK(malloc_usable_size(block) >= size);
            if (size > 0) memset(block, 0x5a, size < 9000 ? size : 9000);
            free(block);
        }
    }
    check_passed("alignments 16 to 8192 with every size to 300 KiB");
}

static void page_functions(void) {
    void *blocks[64];
    size_t count = 0;
    static const size_t sizes[] = {0, 1, 100, 4095, 4096, 4097, 10000, 65536, 65537, 1000000};
    for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
        for (int twice = 0; twice < 2; twice++) {
            void *block = check_hidden(valloc(sizes[i]));
            CHECK_THAT(block != NULL, "valloc(%zu) gave NULL", sizes[i]);
            CHECK_ALIGNED(block, 4096);
            CHECK(malloc_usable_size(block) >= sizes[i]);
            blocks[count++] = block;
            block = check_hidden(pvalloc(sizes[i]));
            CHECK_THAT(block != NULL, "pvalloc(%zu) gave NULL", sizes[i]);
            CHECK_ALIGNED(block, 4096);
            size_t whole = (sizes[i] + 4095) / 4096 * 4096;
            CHECK_THAT(malloc_usable_size(block) >= whole, "pvalloc(%zu) has %zu usable bytes",
                       sizes[i], malloc_usable_size(block));
            memset(block, 1, whole);
            blocks[count++] = block;
        }
    }
    for (size_t i = 0; i < count; i++) free(blocks[i]);
    check_passed("valloc and pvalloc: whole pages on a page's border");
}

static void together(void) {
    enum { LIVE = 2000, ROUNDS = 60000 };
    static void *blocks[LIVE];
    static size_t sizes[LIVE];
    uint64_t state = 7;
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t i = check_random(&state) % LIVE;
        if (blocks[i] != NULL) CHECK_FILLED(blocks[i], sizes[i], i);
        size_t size = check_random_size(&state, 13);
        if (blocks[i] != NULL && round % 3 == 0) {
            size_t kept = size < sizes[i] ? size : sizes[i];
            blocks[i] = realloc(blocks[i], size + 1);
            CHECK(blocks[i] != NULL);
            CHECK_FILLED(blocks[i], kept / 8 * 8, i);
            size++;
        } else {
            size_t alignment = (size_t)1 << (check_random(&state) % 14);
            free(blocks[i]);
            blocks[i] = aligned_alloc(alignment, size);
            CHECK(blocks[i] != NULL);
            CHECK_ALIGNED(blocks[i], alignment);
        }
        sizes[i] = size;
        check_fill(blocks[i], size, i);
    }
    for (size_t i = 0; i < LIVE; i++) {
        if (blocks[i] != NULL) CHECK_FILLED(blocks[i], sizes[i], i);
        free(blocks[i]);
    }
    check_passed("%d aligned blocks of random alignment together: no overlap", (int)LIVE);
}

/* Alignments that no system needs: a block that has it, or NULL with ENOMEM or EINVAL. */
static void giant_alignments(void) {
    for (size_t alignment = 128 * CHECK_MIB; alignment != 0; alignment *= 2) {
        errno = 0;
        void *block = check_hidden(memalign(alignment, check_size(100)));
        if (block == NULL) {
            CHECK_THAT(errno == ENOMEM || errno == EINVAL, "memalign(%zu, 100): NULL, errno %d",
                       alignment, errno);
        } else {
            CHECK_ALIGNED(block, alignment);
            memset(block, 1, 100);
            free(block);
        }
    }
    check_passed("alignments from 128 MiB to 2^63: right, or NULL with errno");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    every_power_of_two();
    common_alignments_every_size();
    page_functions();
    together();
    giant_alignments();
    return 0;
}
