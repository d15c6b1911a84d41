/*
 * usable_size.c - malloc_usable_size tells the truth: all of it may be written, none of it belongs
 * to another block, and realloc carries it over.
 *
 * With --strict also what lucid promises: lu_good_size foretells it, a resize within it stays in
 * place, and a size class wastes no more than an eighth of the request.
 */
#include "check.h"
#include "family.h"

static void neighbours(void) {
    enum { COPIES = 32 };
    void *blocks[COPIES];
    size_t usable[COPIES], count = 0;
    CHECK_EQ(malloc_usable_size(check_hidden(NULL)), 0);
    for (size_t size = 0; size <= CHECK_MIB; size = check_next_size(size), count++) {
        size_t copies = size <= 2000 ? COPIES : size <= 70 * CHECK_KIB ? 4 : 2;
        for (size_t i = 0; i < copies; i++) {
            blocks[i] = family_table[i % FAMILY_COUNT].alloc(size);
            CHECK(blocks[i] != NULL);
            usable[i] = malloc_usable_size(blocks[i]);
            CHECK_THAT(usable[i] >= size, "%zu usable bytes in a block of %zu", usable[i], size);
            check_fill(blocks[i], usable[i], i);
        }
        for (size_t i = 0; i < copies; i++) {
            CHECK_FILLED(blocks[i], usable[i], i);
            CHECK_EQ(malloc_usable_size(blocks[i]), usable[i]);
            free(blocks[i]);
        }
    }
    check_passed("%zu sizes: the usable bytes are writable to the last and no neighbour's", count);
}

static void kept_by_realloc(void) {
    for (size_t size = 1; size <= 2 * CHECK_MIB; size = check_next_size(size * 33 / 32)) {
        void *block = malloc(size);
        CHECK(block != NULL);
        size_t usable = malloc_usable_size(block);
        check_fill(block, usable, size);
        void *same = realloc(check_hidden(block), usable);
        CHECK(same != NULL);
        if (check_strict) CHECK_THAT(same == block, "realloc(p, usable) moved %zu bytes", usable);
        CHECK_FILLED(same, usable, size);
        block = realloc(same, usable + 1);
        CHECK(block != NULL);
        CHECK(malloc_usable_size(block) >= usable + 1);
        CHECK_FILLED(block, usable / 8 * 8, size);
        block = realloc(block, 2 * usable + 4096);
        CHECK(block != NULL);
        CHECK_FILLED(block, usable / 8 * 8, size);
        free(block);
    }
    check_passed("realloc keeps all usable bytes");
}

static void huge(void) {
    for (size_t size = 8 * CHECK_MIB; size <= 2048 * CHECK_MIB; size *= 4) {
        unsigned char *block = malloc(size + 1);
        CHECK(block != NULL);
        size_t usable = malloc_usable_size(block);
        CHECK(usable >= size + 1);
        block[0] = 1;
        block[usable - 1] = 2;
        CHECK(block[0] == 1 && block[usable - 1] == 2);
        free(block);
    }
    check_passed("huge blocks can be written to their last usable byte");
}

/* Waste by rounding, as usable bytes show it; page granularity is allowed above 64 KiB. */
static void waste(void) {
    for (size_t size = 1; size <= 16 * CHECK_MIB; size = check_next_size(size)) {
        void *block = malloc(size);
        CHECK(block != NULL);
        size_t usable = malloc_usable_size(block);
        size_t bound = size + size / 8 + (size <= 64 * CHECK_KIB ? 16 : 64 * CHECK_KIB);
        CHECK_THAT(usable <= bound, "a block of %zu bytes has %zu usable bytes", size, usable);
        free(block);
    }
    check_passed("a block has at most an eighth more than was asked for (and granularity)");
}

typedef size_t good_size_fn(size_t size);

static void good_size(void) {
    good_size_fn *lu_good_size = (good_size_fn *)dlsym(RTLD_DEFAULT, "lu_good_size");
    CHECK_THAT(lu_good_size != NULL, "lu_good_size is missing");
    for (size_t size = 0; size <= 16 * CHECK_MIB; size = check_next_size(size)) {
        void *block = malloc(size);
        CHECK(block != NULL);
        CHECK_THAT(lu_good_size(size) == malloc_usable_size(block),
                   "lu_good_size(%zu) says %zu, the block has %zu", size, lu_good_size(size),
                   malloc_usable_size(block));
        free(block);
        CHECK_EQ(lu_good_size(lu_good_size(size)), lu_good_size(size));
    }
    CHECK_EQ(lu_good_size(SIZE_MAX), 0);
    CHECK_EQ(lu_good_size((size_t)PTRDIFF_MAX + 1), 0);
    check_passed("lu_good_size foretells the usable size");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    neighbours();
    kept_by_realloc();
    huge();
    if (check_strict) {
        waste();
        good_size();
    }
    return 0;
}
