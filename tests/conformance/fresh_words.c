/*
 * fresh_words.c - memory that was never written tells nothing that leads a free list astray.
 *
 * A program that prints uninitialised memory is common, and so is one that writes to a block that
 * it has freed. Together they must not be enough to make malloc return a block of the writer's
 * choice: what the words of fresh blocks show of links may not hold for any list in use. Here fresh
 * blocks of all sizes are read after lists of all sizes were left in their memory; then links are
 * read where they are, in blocks just freed, and compared. Nor do the words show where the library
 * is. Only malloc's that encode links can be held to it (--strict).
 */
#include <dlfcn.h>

#include "check.h"
#include "leave_links.h"

enum { WORDS = 100000, LOW_BITS = 19 }; /* of a link, those that differences change */

static uint64_t words[WORDS];
static uintptr_t places[WORDS]; /* where they were */
static size_t count;

/* Note what fresh blocks hold; they stay, so that all are different memory. */
static void harvest(size_t size, size_t blocks) {
    for (size_t i = 0; i < blocks; i++) {
        uint64_t *block = check_hidden(malloc(size));
        CHECK(block != NULL);
        for (size_t k = 0; k < size / 8 && count < WORDS; k++) {
            if (block[k] >> 63 == 0) continue;
            words[count] = block[k];
            places[count++] = (uintptr_t)&block[k];
        }
        check_hidden(block);
    }
}

/* The key that two blocks of a list show to who reads them after they were freed. */
static uint64_t key_of(size_t size) {
    char *first = check_hidden(malloc(size)), *second = check_hidden(malloc(size));
    CHECK(first != NULL && second != NULL);
    uintptr_t difference = (uintptr_t)first ^ (uintptr_t)second;
    free(first);
    free(second);
    uint64_t link = *(volatile uint64_t *)(uintptr_t)check_hidden(second);
    return difference >> LOW_BITS == 0 ? link ^ difference : 0;
}

static void links_are_not_foretold(void) {
    size_t keys = 0;
    for (size_t size = 8; size <= 4096; size += size < 256 ? 16 : size / 8) {
        uint64_t key = key_of(size);
        if (key == 0) continue; /* of two spans */
        keys++;
        for (size_t i = 0; i < count; i++) {
            CHECK_THAT((words[i] ^ key) >> LOW_BITS != 0,
                       "word %#lx of a fresh block has the key of %zu bytes",
                       (unsigned long)words[i], size);
        }
    }
    CHECK(keys > 10);
    check_passed("%zu keys, of which %zu words tell nothing", keys, count);
}

/* Two words of one list, one of them its last. */
static void the_library_is_not_found(void) {
    Dl_info info;
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info) != 0);
    uintptr_t start = (uintptr_t)info.dli_fbase, blur = (uintptr_t)1 << LOW_BITS;
    size_t tried = 0;
    for (size_t i = 0; i < count; i++) {
        for (size_t k = i + 1; k < count && k < i + 600; k++, tried++) {
            uintptr_t place = words[i] ^ words[k] ^ places[i];
            uintptr_t other = words[i] ^ words[k] ^ places[k];
            bool found = place - (start - blur) < 4 * blur || other - (start - blur) < 4 * blur;
            CHECK_THAT(!found, "words %#lx and %#lx of fresh blocks lead to %#lx",
                       (unsigned long)words[i], (unsigned long)words[k], (unsigned long)start);
        }
    }
    check_passed("%zu pairs of words do not tell where the library is", tried);
}

int main(int argc, char **argv) {
    static const size_t large[] = {48, 200, 1000, 2048, 5000, 30000, 65536, 100000, 500000};
    check_begin(argc, argv);
    for (size_t size = 8; size <= 1024; size *= 2) {
        for (size_t l = 0; l < CHECK_COUNT_OF(large); l++) {
            leave_links(size, 1 + 6 * l);
            harvest(large[l], 100000 / large[l] + 1);
        }
    }
    if (!check_strict) {
        check_passed("%zu words read", count);
        return 0;
    }
    CHECK(count > 1000);
    links_are_not_foretold();
    the_library_is_not_found();
    return 0;
}
