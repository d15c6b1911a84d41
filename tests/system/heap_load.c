/*
 * heap_load.c - fills a heap, empties it, and says how much memory stays resident.
 *
 *     heap_load sparse MIB trim|wait   free 95 % at random; then malloc_trim(0), or light use
 *                                      (3,000 times a millisecond of sleep, and a malloc and free;
 *                                      more while memory goes back)
 *     heap_load all MIB trim|wait      the same with everything freed
 *
 * Blocks have 16 to 1,016 bytes, each length as likely, and are written. The last line of output
 * is "start=N full=N after=N" in KiB. The program's own table comes from mmap and is subtracted.
 */
#include <malloc.h>
#include <sys/mman.h>
#include <time.h>

#include "check.h"

enum { LEAST = 16, MOST = 1016 };

static unsigned char **table;
static size_t table_bytes, count;

static void fill(size_t bytes_wanted, uint64_t *state) {
    size_t bytes = 0;
    while (bytes < bytes_wanted) {
        size_t size = LEAST + check_random(state) % (MOST - LEAST + 1);
        CHECK(count * sizeof *table < table_bytes);
        table[count] = malloc(size);
        CHECK(table[count] != NULL);
        memset(table[count], (int)(count % 251), size);
        count++;
        bytes += size;
    }
}

/* Free all blocks but `kept`, in random order. */
static void empty(size_t kept, uint64_t *state) {
    while (count > kept) {
        size_t i = check_random(state) % count;
        free(table[i]);
        table[i] = table[--count];
    }
}

static void call(int times) {
    struct timespec millisecond = {0, 1000000};
    for (int i = 0; i < times; i++) {
        void *block = check_hidden(malloc(100));
        CHECK(block != NULL);
        free(block);
        nanosleep(&millisecond, NULL);
    }
}

/* So many calls and not so much time: on a busy machine a thread may hardly run. And while memory
 * still goes back. */
static void use_lightly(void) {
    size_t before, after = SIZE_MAX;
    call(2000);
    do {
        before = after;
        call(500);
        after = check_rss_bytes();
    } while (after < before - before / 100);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    check_small_pages();
    CHECK_THAT(argc >= 4, "usage: heap_load sparse|all MIB trim|wait");
    bool all = strcmp(argv[1], "all") == 0, trim = strcmp(argv[3], "trim") == 0;
    CHECK(all || strcmp(argv[1], "sparse") == 0);
    CHECK(trim || strcmp(argv[3], "wait") == 0);
    size_t bytes = strtoul(argv[2], NULL, 10) * CHECK_MIB;
    table_bytes = bytes / 400 * sizeof *table + 4096;
    table = mmap(NULL, table_bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK(table != MAP_FAILED);
    uint64_t state = 2024;
    free(malloc(1));
    size_t start = check_rss_bytes() - table_bytes;
    fill(bytes, &state);
    size_t full = check_rss_bytes() - table_bytes;
    empty(all ? 0 : count / 20, &state);
    if (trim) {
        malloc_trim(0);
    } else {
        use_lightly();
    }
    size_t after = check_rss_bytes() - table_bytes;
    for (size_t i = 0; i < count; i++) CHECK(table[i][0] == table[i][LEAST - 1]);
    char line[100];
    int length = snprintf(line, sizeof line, "start=%zu full=%zu after=%zu\n", start / 1024,
                          full / 1024, after / 1024);
    check_write(STDOUT_FILENO, line, (size_t)length);
    return 0;
}
