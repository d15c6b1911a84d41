/*
 * big_heap.c - a heap of 20 GiB, of which few pages are touched; and very many small blocks.
 *
 *     big_heap bytes GIB      blocks of 100 KiB to 64 MiB, GIB together. Only their first and last
 *                             words are written, so that some 100 MiB become resident
 *     big_heap blocks COUNT   COUNT live blocks of 8 to 56 bytes, each with a word of its own
 *
 * Both then free at random, allocate again, check and free all; the memory must go back.
 */
#include <malloc.h>
#include <sys/mman.h>

#include "check.h"

static void **table; /* not on the heap under test */
static uint32_t *sizes;

static void *static_memory(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(at != MAP_FAILED);
    return at;
}

static uint64_t *last_word(void *block, size_t size) {
    return (uint64_t *)block + size / 8 - 1;
}

static void mark(size_t i) {
    *(uint64_t *)table[i] = i;
    *last_word(table[i], sizes[i]) = i;
}

static void check_marks(size_t i) {
    CHECK_THAT(*(uint64_t *)table[i] == i && *last_word(table[i], sizes[i]) == i,
               "block %zu of %u bytes at %p changed", i, sizes[i], table[i]);
}

/* ------------------------------------------------------------------ bytes -------------------- */

static uint32_t large_size(uint64_t *state) {
    uint64_t draw = check_random(state);
    size_t top = draw % 64 == 0 ? 64 * CHECK_MIB : draw % 4 == 0 ? 16 * CHECK_MIB : 2 * CHECK_MIB;
    return (uint32_t)(100 * CHECK_KIB + (draw >> 8) % top) & ~7u;
}

static size_t fill(size_t first, size_t bytes, size_t most, uint64_t *state) {
    size_t count = first;
    for (size_t had = 0; had < bytes; count++) {
        CHECK(count < most);
        sizes[count] = large_size(state);
        table[count] = count % 8 == 0 ? calloc(1, sizes[count]) : malloc(sizes[count]);
        CHECK_THAT(table[count] != NULL, "NULL for %u bytes after %zu MiB (errno %d)", sizes[count],
                   had / CHECK_MIB, errno);
        if (count % 8 == 0) {
            CHECK_EQ(*(uint64_t *)table[count], 0);
            CHECK_EQ(*last_word(table[count], sizes[count]), 0);
        }
        mark(count);
        had += sizes[count];
    }
    return count;
}

static void big_bytes(size_t gib) {
    const size_t most = 1 << 17;
    size_t bytes = gib << 30;
    uint64_t state = 3;
    table = static_memory(most * sizeof *table);
    sizes = static_memory(most * sizeof *sizes);
    free(malloc(1));
    size_t before = check_rss_bytes();
    size_t count = fill(0, bytes, most, &state);
    size_t full = check_rss_bytes();
    check_passed("%zu blocks of %zu GiB together: resident %zu MiB", count, gib,
                 (full - before) / CHECK_MIB);
    CHECK_THAT(full - before < 400 * CHECK_MIB, "%zu MiB of pages that nobody touched",
               (full - before) / CHECK_MIB);
    size_t kept = 0, freed = 0;
    for (size_t i = 0; i < count; i++) {
        check_marks(i);
        if (check_random(&state) % 2 == 0) {
            freed += sizes[i];
            free(table[i]);
        } else {
            table[kept] = table[i];
            sizes[kept] = sizes[i];
            mark(kept++);
        }
    }
    count = fill(kept, freed, most, &state);
    for (size_t i = 0; i < count; i++) {
        check_marks(i);
        free(table[i]);
    }
    malloc_trim(0);
    size_t after = check_rss_bytes();
    CHECK_THAT(after < before + 64 * CHECK_MIB, "%zu MiB stay", (after - before) / CHECK_MIB);
    check_passed("half freed, filled again, all freed: %zu MiB stay",
                 after > before ? (after - before) / CHECK_MIB : 0);
}

/* ------------------------------------------------------------------ blocks ------------------- */

static size_t small_size(size_t i) {
    return 8 + check_mix(i) % 49;
}

static void make(size_t i) {
    table[i] = malloc(small_size(i));
    CHECK_THAT(table[i] != NULL, "NULL for block %zu (errno %d)", i, errno);
    *(uint64_t *)table[i] = check_mix(i);
}

static void end(size_t i) {
    CHECK_THAT(*(uint64_t *)table[i] == check_mix(i), "block %zu at %p changed", i, table[i]);
    free(table[i]);
}

static void many_blocks(size_t count) {
    table = static_memory(count * sizeof *table);
    for (size_t i = 0; i < count; i++) make(i);
    check_passed("%zu live blocks: resident %zu MiB with a table of %zu", count,
                 check_rss_bytes() / CHECK_MIB, count * sizeof *table / CHECK_MIB);
    for (size_t i = 0; i < count; i++) {
        if (check_mix(i ^ 0x55) % 2 != 0) continue;
        end(i);
        table[i] = NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (table[i] == NULL) make(i);
    }
    for (size_t i = 0; i < count; i++) end(i);
    CHECK_EQ(munmap(table, count * sizeof *table), 0);
    malloc_trim(0);
    size_t left = check_rss_bytes();
    CHECK_THAT(left < 64 * CHECK_MIB, "%zu MiB stay resident", left / CHECK_MIB);
    check_passed("half of them renewed, all freed: resident %zu MiB", left / CHECK_MIB);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_small_pages();
    CHECK_THAT(argc >= 3, "usage: big_heap bytes GIB | big_heap blocks COUNT");
    size_t number = strtoul(argv[2], NULL, 10);
    if (strcmp(argv[1], "bytes") == 0) {
        big_bytes(number);
    } else {
        CHECK(strcmp(argv[1], "blocks") == 0);
        many_blocks(number);
    }
    return 0;
}
