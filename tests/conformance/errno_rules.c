/*
 * errno_rules.c - every failure sets the errno (or gives the result) that C, POSIX and the glibc
 * manual say, and free never touches errno.
 *
 * Failures are asked for by sizes that no address space can hold and by products that overflow; no
 * memory is exhausted here (limits.c does that). errno is set to odd values before each call, so
 * that a function which forgets to set it, or sets it without need, is found.
 */
#include "check.h"
#include "family.h"

static const int odd_values[] = {0, EINTR, ERANGE, -1, 12345, INT32_MAX};

static const size_t too_large[] = {
    SIZE_MAX,           SIZE_MAX - 1,
    SIZE_MAX - 15,      SIZE_MAX - 16,
    SIZE_MAX - 63,      SIZE_MAX - 4095,
    SIZE_MAX - 4096,    SIZE_MAX - 65536,
    SIZE_MAX / 2 + 2,   (size_t)PTRDIFF_MAX + 1,
    PTRDIFF_MAX,        PTRDIFF_MAX - 15,
    PTRDIFF_MAX - 4096, PTRDIFF_MAX - 65536,
    (size_t)1 << 62,    (size_t)1 << 48, /* more than x86-64's user half */
};

static void impossible_sizes(void) {
    for (size_t i = 0; i < CHECK_COUNT_OF(too_large); i++) {
        for (size_t f = 0; f < FAMILY_COUNT; f++) {
            for (size_t k = 0; k < CHECK_COUNT_OF(odd_values); k++) {
                errno = odd_values[k];
                void *block = check_hidden(family_table[f].alloc(check_size(too_large[i])));
                CHECK_THAT(block == NULL, "%s gave a block of %zu bytes", family_table[f].name,
                           too_large[i]);
                CHECK_THAT(errno == ENOMEM, "%s, n = %zu: NULL with errno %d, not ENOMEM",
                           family_table[f].name, too_large[i], errno);
            }
        }
    }
    check_passed("%zu functions, %zu impossible sizes: NULL and ENOMEM", FAMILY_COUNT,
                 CHECK_COUNT_OF(too_large));
}

static void overflowing_products(void) {
    static const size_t pairs[][2] = {
        {SIZE_MAX, 2},
        {2, SIZE_MAX},
        {SIZE_MAX, SIZE_MAX},
        {SIZE_MAX / 2 + 1, 2},
        {(size_t)1 << 32, (size_t)1 << 32},
        {((size_t)1 << 32) + 1, (size_t)1 << 32},
        {SIZE_MAX / 3 + 1, 3},
        {(size_t)PTRDIFF_MAX / 8 + 1, 8},
        {SIZE_MAX / 4096 + 2, 4096},
    };
    char *block = malloc(100);
    CHECK(block != NULL);
    check_fill(block, 100, 1);
    for (size_t i = 0; i < CHECK_COUNT_OF(pairs); i++) {
        size_t count = check_size(pairs[i][0]), size = check_size(pairs[i][1]);
        errno = 0;
        CHECK_THAT(check_hidden(calloc(count, size)) == NULL, "calloc(%zu, %zu)", count, size);
        CHECK_EQ(errno, ENOMEM);
        errno = 0;
        CHECK_THAT(check_hidden(reallocarray(check_hidden(block), count, size)) == NULL,
                   "reallocarray(p, %zu, %zu)", count, size);
        CHECK_EQ(errno, ENOMEM);
        CHECK_FILLED(block, 100, 1);
    }
    free(block);
    check_passed("calloc and reallocarray: %zu overflowing products", CHECK_COUNT_OF(pairs));
}

static void failing_realloc(void) {
    static const size_t sizes[] = {1, 24, 100, 1000, 5000, 40000, 100000, 1000000, 5000000};
    for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
        void *block = malloc(sizes[i]);
        CHECK(block != NULL);
        check_fill(block, sizes[i], i);
        size_t usable = malloc_usable_size(block);
        for (size_t k = 0; k < CHECK_COUNT_OF(too_large); k++) {
            errno = 0;
            CHECK(check_hidden(realloc(check_hidden(block), check_size(too_large[k]))) == NULL);
            CHECK_EQ(errno, ENOMEM);
        }
        CHECK_EQ(malloc_usable_size(block), usable);
        CHECK_FILLED(block, sizes[i], i);
        free(block);
    }
    check_passed("a realloc that fails leaves the block as it was");
}

static void alignment_rules(void) {
    static const size_t bad[] = {3, 5, 6, 7, 9, 12, 24, 48, 100, 1000, 4095, 4097, SIZE_MAX};
    bool excused = !check_strict;
    for (size_t i = 0; i < CHECK_COUNT_OF(bad); i++) {
        errno = 0;
        void *block = check_hidden(aligned_alloc(check_size(bad[i]), 64));
        if (block == NULL) CHECK_EQ(errno, EINVAL);
        CHECK_THAT(block == NULL || excused, "aligned_alloc(%zu, 64) is no error", bad[i]);
        free(block);
        /* memalign may say EINVAL or take the next power of two, as glibc does. */
        errno = 0;
        block = check_hidden(memalign(check_size(bad[i]), 64));
        if (block == NULL) {
            CHECK_EQ(errno, EINVAL);
        } else {
            CHECK_ALIGNED(block, (size_t)1 << (64 - __builtin_clzl(bad[i])));
            free(block);
        }
    }
    errno = 0;
    void *block = check_hidden(aligned_alloc(check_size(0), 64));
    if (block == NULL) CHECK_EQ(errno, EINVAL);
    CHECK_THAT(block == NULL || excused, "aligned_alloc(0, 64) is no error");
    free(block);
    check_passed("alignments that are no power of two");
}

/* Sizes and alignments that are possible each, but not together. */
static void alignment_overflow(void) {
    for (size_t alignment = 16; alignment != 0; alignment *= 2) {
        for (size_t less = 0; less <= 4 * alignment && less < SIZE_MAX / 2; less += alignment) {
            errno = 0;
            void *block = check_hidden(memalign(alignment, check_size(SIZE_MAX - less)));
            CHECK_THAT(block == NULL, "memalign(%zu, %zu) gave %p", alignment, SIZE_MAX - less,
                       block);
            CHECK_THAT(errno == ENOMEM || (alignment > SIZE_MAX / 4 && errno == EINVAL),
                       "memalign(%zu, %zu): errno %d", alignment, SIZE_MAX - less, errno);
            if (alignment > SIZE_MAX / 8) break;
        }
        errno = 0;
        CHECK(check_hidden(aligned_alloc(alignment, check_size(PTRDIFF_MAX))) == NULL);
        CHECK(errno == ENOMEM || (alignment > SIZE_MAX / 4 && errno == EINVAL));
    }
    check_passed("alignment + size that overflows: NULL and ENOMEM, for every alignment");
}

static void posix_memalign_rules(void) {
    static const size_t bad[] = {0, 1, 2, 3, 4, 7, 9, 12, 24, 40, 100, 4095, SIZE_MAX};
    char marker;
    for (size_t k = 0; k < CHECK_COUNT_OF(odd_values); k++) {
        for (size_t i = 0; i < CHECK_COUNT_OF(bad); i++) {
            void *out = &marker;
            errno = odd_values[k];
            CHECK_EQ(posix_memalign(&out, check_size(bad[i]), 64), EINVAL);
            CHECK_EQ(errno, odd_values[k]);
            CHECK_THAT(out == &marker, "posix_memalign(%zu) failed and wrote its result", bad[i]);
        }
        for (size_t i = 0; i < CHECK_COUNT_OF(too_large); i++) {
            void *out = &marker;
            errno = odd_values[k];
            CHECK_EQ(posix_memalign(&out, 64, check_size(too_large[i])), ENOMEM);
            if (check_strict) CHECK_EQ(errno, odd_values[k]);
            CHECK(out == &marker);
        }
        void *out = &marker;
        errno = odd_values[k];
        CHECK_EQ(posix_memalign(&out, 64, 100), 0);
        CHECK_EQ(errno, odd_values[k]);
        CHECK(out != &marker && out != NULL);
        free(out);
    }
    check_passed("posix_memalign: EINVAL and ENOMEM as result, the pointer left alone%s",
                 check_strict ? ", errno too" : "");
}

static void free_keeps_errno(void) {
    static const size_t sizes[] = {0,     1,      16,      100,     1000,     10000,
                                   60000, 100000, 1000000, 8000000, 40000000, 200000000};
    for (size_t k = 0; k < CHECK_COUNT_OF(odd_values); k++) {
        for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
            for (size_t f = 0; f < FAMILY_COUNT; f++) {
                void *block = family_table[f].alloc(sizes[i]);
                CHECK_THAT(block != NULL, "%s gave NULL for %zu", family_table[f].name, sizes[i]);
                errno = odd_values[k];
                free(block);
                CHECK_EQ(errno, odd_values[k]);
            }
        }
        errno = odd_values[k];
        free(check_hidden(NULL));
        CHECK_EQ(errno, odd_values[k]);
    }
    check_passed("free keeps errno, from 0 bytes to 200 MB");
}

/* A library that clears errno and looks at it afterwards is not surprised by a malloc between. */
static void success_keeps_errno(void) {
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        for (size_t size = 0; size <= 4 * CHECK_MIB; size = size * 3 + 1) {
            errno = 12345;
            void *block = family_table[f].alloc(size);
            CHECK(block != NULL);
            if (check_strict) {
                CHECK_THAT(errno == 12345, "%s, n = %zu: errno became %d", family_table[f].name,
                           size, errno);
            }
            errno = 12345;
            block = realloc(block, size * 2 + 1);
            CHECK(block != NULL);
            if (check_strict) CHECK_EQ(errno, 12345);
            free(block);
        }
    }
    if (check_strict) check_passed("success keeps errno");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    impossible_sizes();
    overflowing_products();
    failing_realloc();
    alignment_rules();
    alignment_overflow();
    posix_memalign_rules();
    free_keeps_errno();
    success_keeps_errno();
    return 0;
}
