/* test_damage.c - bytes of a sound file are changed at random. Opening or checking reports it, or
 * it was in a place that means nothing to the store; and whatever was changed, no call crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "files.h"
#include "store/store.h"
#include "worker.h"

#ifndef ROUNDS
#define ROUNDS 2000
#endif

static const char *path;
static unsigned char *bytes, *meaning; /* meaning[i]: byte i is one of the bookkeeping */
static size_t size;
static uint64_t random_state;
static const lu_store_config_t config = {.limit_bytes = (size_t)16 << 20};

static void mark(size_t from, size_t count) {
    memset(meaning + from, 1, count);
}

/* Blocks' words, and links and sizes of free blocks; the header without its mutex, what it counts
 * for the curious, and the unused entries of the journal. */
static void find_meaning(void) {
    meaning = calloc(1, size);
    mark(0, offsetof(struct store_header, growing));
    mark(offsetof(struct store_header, journal_state), 8);
    mark(offsetof(struct store_header, bitmap),
         sizeof(struct store_header) - offsetof(struct store_header, bitmap));
    uint64_t word;
    for (size_t at = LU_STORE_FIRST; at < size; at += word & 0xffffffffff0) {
        memcpy(&word, bytes + at, 8);
        mark(at, 8);
        if ((word & 1) != 0) {
            if ((word & 0xffffffffff0) == 0) return;
            continue;
        }
        mark(at + 8, 16);
        mark(at + (word & 0xffffffffff0) - 8, 8);
    }
}

static int prepare(void **state) {
    (void)state;
    static struct worker worker;
    random_state = (uint64_t)time(NULL) | 1;
    printf("seed %llu\n", (unsigned long long)random_state);
    path = strdup(files_path("damaged"));
    lu_store_t *store = lu_heap_open_file(path, NULL, NULL);
    if (store == NULL) return -1;
    worker_init(&worker, store, random_state, 3000);
    for (int i = 0; i < 400; i++) worker_step(&worker, store);
    if (lu_store_set_root(store, worker.table) != 0 || lu_store_close(store) != 0) return -1;
    bytes = files_read(path, &size);
    find_meaning();
    return 0;
}

static size_t pick(void) {
    uint64_t random = worker_random(&random_state) >> 8;
    if (random % 4 == 0) return random / 4 % size;
    size_t at = random / 4 % size; /* mostly where it matters */
    while (!meaning[at]) at = (at + 1) % size;
    return at;
}

static bool remember(void *block, size_t usable, void *arg) {
    void **last = arg;
    (void)usable;
    if (worker_random(&random_state) % 3 == 0) *last = block;
    return true;
}

/* Whatever the calls say, they must come back. */
static void use(lu_store_t *store) {
    void *some = NULL;
    (void)lu_store_walk(store, remember, &some);
    for (int i = 0; i < 12; i++) {
        void *block = lu_store_malloc(store, worker_random(&random_state) % 2000);
        if (block != NULL) memset(block, i, lu_store_usable_size(store, block));
        if (i % 3 == 0) (void)lu_store_free(store, block);
        if (i % 4 == 1) some = lu_store_realloc(store, some, worker_random(&random_state) % 9000);
    }
    (void)lu_store_free(store, some);
    (void)lu_store_alloc_to(store, NULL, 100);
    (void)lu_store_free_from(store, NULL);
    (void)lu_store_purge(store);
    (void)lu_store_check(store, NULL);
}

/* Change `count` bytes, open, check, use. */
static void damage(size_t count, size_t *refused, size_t *reported, size_t *unseen) {
    static unsigned char copy[1 << 20];
    lu_store_fault_t fault;
    assert_true(size <= sizeof copy);
    memcpy(copy, bytes, size);
    size_t changed[32], matters = 0; /* a byte that the store must see */
    assert_true(count <= 32);
    for (size_t i = 0; i < count; i++) {
        size_t at = changed[i] = pick();
        unsigned char before = copy[at];
        copy[at] ^= (unsigned char)(1 + worker_random(&random_state) % 255);
        if (count == 1 && worker_random(&random_state) % 2 == 0) {
            copy[at] = before ^ (unsigned char)(1u << worker_random(&random_state) % 8);
        }
    }
    for (size_t i = 0; i < count; i++) { /* a second change may have undone the first */
        if (meaning[changed[i]] && copy[changed[i]] != bytes[changed[i]]) matters = changed[i] + 1;
    }
    files_write(path, copy, size);
    lu_store_t *store = lu_heap_open_file(path, &config, &fault);
    if (store == NULL) {
        ++*refused;
        assert_int_not_equal(fault.reason, LU_STORE_FINE);
        size_t now_bytes;
        unsigned char *now = files_read(path, &now_bytes);
        assert_int_equal(now_bytes, size);
        assert_memory_equal(now, copy, size); /* a file that is refused stays as it was */
        free(now);
        return;
    }
    int error = lu_store_check(store, &fault);
    if (error != 0) {
        ++*reported;
        assert_int_equal(error, EUCLEAN);
        assert_int_equal(fault.reason, LU_STORE_DAMAGED);
    } else {
        ++*unseen;
        if (matters != 0) {
            fail_msg("byte %zu was changed from %u to %u and nobody saw it", matters - 1,
                     bytes[matters - 1], copy[matters - 1]);
        }
    }
    use(store);
    assert_int_equal(lu_store_close(store), 0);
}

static void random_bytes(void **state) {
    (void)state;
    size_t refused = 0, reported = 0, unseen = 0, rounds = ROUNDS;
    for (size_t i = 0; i < rounds; i++) damage(1, &refused, &reported, &unseen);
    for (size_t i = 0; i < rounds; i++) damage(1 + i % 20, &refused, &reported, &unseen);
    printf("%zu refused, %zu reported by check, %zu not seen\n", refused, reported, unseen);
    assert_true(refused > 0 && reported > 0 && unseen > 0);
}

/* A journal with entries that count, damaged: it must not be carried out. */
static void damaged_journal(void **state) {
    (void)state;
    unsigned char *copy = malloc(size);
    struct store_header *header = (struct store_header *)(void *)copy;
    lu_store_fault_t fault;
    for (unsigned entries = 1; entries <= 200; entries += 9) {
        memcpy(copy, bytes, size);
        header->journal_state = entries; /* without a check that fits */
        files_write(path, copy, size);
        assert_null(lu_heap_open_file(path, &config, &fault));
        assert_int_equal(fault.reason, LU_STORE_DAMAGED);
        assert_int_equal(fault.offset, offsetof(struct store_header, journal_state));
        if (entries > LU_STORE_JOURNAL) continue;
        /* The state is right, but not all entries are what it counts. */
        header->journal_state = (lu__store_mix(header->key + entries) << 16) | entries;
        header->journal[entries - 1].where = 4096;
        files_write(path, copy, size);
        assert_null(lu_heap_open_file(path, &config, &fault));
        assert_non_null(strstr(fault.text, "journal entry at offset"));
        size_t after_size;
        unsigned char *after = files_read(path, &after_size);
        assert_memory_equal(after + LU_STORE_HEADER, copy + LU_STORE_HEADER,
                            size - LU_STORE_HEADER);
        free(after);
    }
    free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_bytes),
        cmocka_unit_test(damaged_journal),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
