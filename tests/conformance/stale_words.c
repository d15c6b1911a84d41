/*
 * stale_words.c - a live block may hold any words, also ones that the allocator once wrote.
 *
 * Memory of a freed block still holds the links of free lists. When it becomes part of another
 * block, the program may copy these words, uninitialised as they are: by realloc, or by copying a
 * structure. An allocator that tells free blocks from live ones by looking for a link in them must
 * not take such a block for free. Here stale words are harvested from fresh blocks of all sizes and
 * put at the start of live blocks, which are then asked about, resized and freed.
 */
#include <pthread.h>

#include "check.h"
#include "family.h"
#include "leave_links.h"

enum { WORDS = 200000 };

static uint64_t words[WORDS];
static size_t word_count;

static void *leave_links_body(void *arg) {
    leave_links((size_t)(uintptr_t)arg, 7);
    return NULL;
}

/* Note the words that fresh, unwritten blocks of the size hold. */
static void harvest(size_t size, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint64_t *block = check_hidden(malloc(size));
        CHECK(block != NULL);
        for (size_t k = 0; k < size / 8 && word_count < WORDS; k++) {
            if (block[k] != 0) words[word_count++] = block[k];
        }
        free(block);
    }
}

/* Live blocks that begin with these words are ordinary blocks. */
static void live_with(size_t size, size_t first_word, size_t step) {
    static uint64_t *blocks[BLOCKS];
    size_t used = 0;
    for (size_t w = first_word; w < word_count && used < BLOCKS; w += step, used++) {
        blocks[used] = malloc(size);
        CHECK(blocks[used] != NULL);
        for (size_t k = 0; k < size / 8; k++) blocks[used][k] = words[w];
    }
    for (size_t i = 0; i < used; i++) {
        CHECK(malloc_usable_size(blocks[i]) >= size);
        if (i % 5 == 0) {
            blocks[i] = realloc(blocks[i], size * 2);
            CHECK(blocks[i] != NULL);
        }
    }
    for (size_t i = 0, w = first_word; i < used; i++, w += step) {
        CHECK_EQ(blocks[i][0], words[w]);
        free(blocks[i]);
    }
}

static void copied_words(void) {
    static const size_t small[] = {8, 16, 24, 32, 48, 64, 96, 112, 256, 1000, 4000};
    static const size_t large[] = {64, 200, 1000, 5000, 30000, 65536, 100000, 500000};
    size_t tried = 0;
    for (size_t s = 0; s < CHECK_COUNT_OF(small); s++) {
        word_count = 0;
        for (size_t l = 0; l < CHECK_COUNT_OF(large); l++) {
            leave_links(small[s], 1 + 6 * l);
            harvest(large[l], 2000000 / large[l] / 8 + 1);
        }
        size_t step = word_count / BLOCKS + 1;
        for (size_t shift = 0; shift < 4 && shift < step; shift++) {
            live_with(small[s], shift, step);
            live_with(48, shift, step);
            tried += word_count / step * 2;
        }
    }
    check_passed("%zu live blocks that begin with words found in fresh memory", tried);
}

/* Links that another thread left. */
static void words_of_other_threads(void) {
    for (size_t size = 16; size <= 1024; size *= 2) {
        pthread_t thread;
        word_count = 0;
        CHECK_EQ(pthread_create(&thread, NULL, leave_links_body, (void *)size), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        harvest(70000, 10);
        harvest(3000, 50);
        live_with(size, 0, word_count / BLOCKS + 1);
        live_with(size * 2, 0, word_count / BLOCKS + 1);
    }
    check_passed("the same with what finished threads left");
}

/* Blocks that are never written, resized down: realloc copies what was there. */
static void unwritten_realloc(void) {
    static void *blocks[BLOCKS];
    size_t resized = 0;
    for (size_t round = 0; round < 12; round++) {
        size_t small = (size_t)16 << round % 5;
        leave_links(small, 11);
        for (size_t size = 100; size <= 300000; size = size * 3 / 2) {
            size_t count = size < 2000 ? 200 : 4;
            for (size_t i = 0; i < count; i++) {
                size_t alignment = (size_t)1 << (3 + (i + round) % 14);
                blocks[i] = i % 2 == 0 ? malloc(size) : aligned_alloc(alignment, 0);
                CHECK(blocks[i] != NULL);
            }
            for (size_t i = 0; i < count; i++, resized++) {
                blocks[i] = realloc(blocks[i], small);
                CHECK(blocks[i] != NULL);
                CHECK(malloc_usable_size(blocks[i]) >= small);
            }
            for (size_t i = 0; i < count; i++) free(blocks[i]);
        }
    }
    check_passed("%zu unwritten blocks resized and freed", resized);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    copied_words();
    words_of_other_threads();
    unwritten_realloc();
    return 0;
}
