/*
 * fuzz_api.c - the harness `api`: bytes become calls of everything that lucid.h offers, on two
 * threads, under options, limits and failing system calls, against a shadow of every block.
 *
 * The threads take turns (the helper works only while this one waits), and the clock and the random
 * numbers of the library are ours, so an input does the same every time. After each operation no
 * violation may have been reported that was not asked for, and memory held may not pass the limit;
 * at the end of an input everything is freed, the helper ends, and the statistics must say that not
 * one block is left.
 */
#include "fuzz.h"

#include <pthread.h>
#include <semaphore.h>

#include "clock.h"
#include "heap/heap.h"
#include "held.h"
#include "os_fault.h"

struct fuzz fuzz;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ------------------------------------------------------------------ the input ---------------- */

uint8_t fuzz_byte(void) {
    return fuzz.at < fuzz.end ? *fuzz.at++ : 0;
}

uint16_t fuzz_word(void) {
    uint8_t low = fuzz_byte();
    return (uint16_t)(low | fuzz_byte() << 8);
}

size_t fuzz_size(void) {
    uint8_t kind = fuzz_byte();
    size_t word = fuzz_word();
    if (fuzz.filling) return word;
    switch (kind % 8) {
    case 5:
        return word;
    case 6:
        return word * 16;
    case 7:
        return kind < 128 ? word * 640 : word * 64;
    default:
        return word % 1100;
    }
}

struct slot *fuzz_slot(void) {
    return &fuzz.slots[fuzz_byte() % FUZZ_SLOTS];
}

/* ------------------------------------------------------------------ clock and chance --------- */

static uint64_t chance = 1;

uint64_t __wrap_lu__os_random(void);

uint64_t __wrap_lu__os_random(void) {
    return check_random(&chance);
}

static void op_clock(void) {
    clock_advance(fuzz_byte() * 8);
}

/* ------------------------------------------------------------------ faults and limits -------- */

static void op_faults(void) {
    uint8_t how = fuzz_byte();
    unsigned only = fuzz_word();
    os_fault_only(how & 128 ? only : ~0u);
    if (how & 64) {
        os_fault_one_in(1 + how % 64, only);
    } else {
        os_fault_from(1 + how % 64);
    }
    fuzz.faults = true;
}

static void no_faults(void) {
    os_fault_none();
    fuzz.faults = false;
}

static bool on_limit(size_t wanted_bytes, size_t held_bytes, void *arg) {
    (void)wanted_bytes, (void)held_bytes, (void)arg;
    int saved = errno;
    for (size_t i = 0; i < FUZZ_SLOTS; i++) {
        struct slot *slot = &fuzz.slots[i];
        if (slot->block == NULL || slot == fuzz.busy) continue;
        fuzz_free(slot, 0);
        errno = saved;
        return true;
    }
    return false;
}

static void set_limit(size_t bytes) {
    size_t held = lu__span_held();
    CHECK_EQ(lu_set_limit(bytes, on_limit, NULL), 0);
    fuzz.limit = bytes == 0 ? 0 : LU_MAX(bytes, held);
}

static void op_limit(void) {
    uint8_t how = fuzz_byte();
    set_limit(how == 0 ? 0 : lu__span_held() + (how & 127) * LU_SLICE);
}

static void check_limit(void) {
    if (fuzz.limit == 0) return;
    /* What is freed counts as a whole where its pages cannot be given back. */
    if (fuzz.faults) fuzz.limit = LU_MAX(fuzz.limit, lu__span_held());
    CHECK_THAT(lu__span_held() <= fuzz.limit, "%zu bytes held, the limit is %zu", lu__span_held(),
               fuzz.limit);
}

/* ------------------------------------------------------------------ options ------------------ */

static const struct option {
    const char *key, *values[6];
} options[] = {
    {"purge_delay", {"500", "0", "-1", "1", "50", "3000"}},
    {"mmap_threshold", {"32M", "128K", "1M", "0", "65537", "4K"}},
    {"trim_threshold", {"64M", "0", "-1", "1M", "128K", "1"}},
    {"top_pad", {"0", "1M", "4K", "64M", "1", "100000"}},
    {"arena_max", {"0", "1", "2", "0", "100", "1"}},
    {"perturb", {"0", "1", "255", "165", "0", "0"}},
};

static void set_option(const struct option *option, unsigned value) {
    CHECK_EQ(lu_option_set(option->key, option->values[value]), 0);
    if (strcmp(option->key, "perturb") == 0) fuzz.filling = strcmp(option->values[value], "0") != 0;
}

static void op_option(void) {
    uint8_t how = fuzz_byte();
    set_option(&options[how % CHECK_COUNT_OF(options)], how / 32 % 6);
}

/* ------------------------------------------------------------------ purge and figures -------- */

static void op_purge(void) {
    errno = FUZZ_ERRNO;
    (void)lu_purge();
    CHECK_EQ(errno, FUZZ_ERRNO);
}

static void op_stats(void) {
    static lu_stats_t stats;
    static char text[32768];
    lu_stats_get(&stats);
    CHECK(lu_stats_json(text, sizeof text) < sizeof text);
    CHECK_THAT(stats.dirty_bytes <= stats.held_bytes, "%zu bytes dirty, %zu held",
               stats.dirty_bytes, stats.held_bytes);
    CHECK_THAT(held_sum(&stats.held) == stats.held_bytes, "the parts are %zu bytes, held %zu",
               held_sum(&stats.held), stats.held_bytes);
}

static void flush(void) {
    if (lu__thread_heap() != NULL) lu__remote_flush(lu__thread_heap());
}

/* ------------------------------------------------------------------ the helper --------------- */

typedef void op_fn(void);

static struct helper {
    pthread_t thread;
    sem_t go, done;
    op_fn *work; /* NULL: end */
    bool running;
} helper;

static void *helper_body(void *arg) {
    (void)arg;
    for (;;) {
        while (sem_wait(&helper.go) != 0) continue;
        op_fn *work = helper.work;
        if (work == NULL) return NULL;
        work();
        sem_post(&helper.done);
    }
}

static void on_helper(op_fn *work) {
    if (!helper.running) {
        CHECK_EQ(pthread_create(&helper.thread, NULL, helper_body, NULL), 0);
        helper.running = true;
    }
    helper.work = work;
    sem_post(&helper.go);
    while (sem_wait(&helper.done) != 0) continue;
}

static void end_helper(void) {
    if (!helper.running) return;
    helper.work = NULL;
    sem_post(&helper.go);
    CHECK_EQ(pthread_join(helper.thread, NULL), 0);
    helper.running = false;
}

/* Every block that the library counts is in a slot, and every byte that may be used. */
static void op_count(void) {
    static lu_stats_t stats;
    if (fuzz.owned != 0) return;
    size_t expected = 0, empty = 0, bytes = 0;
    for (size_t i = 0; i < FUZZ_SLOTS; i++) {
        if (fuzz.slots[i].block == NULL) continue;
        if (fuzz.odd[i]) return; /* emergency blocks are not counted */
        /* Nor are those of malloc(0); hardened, others may have no byte as well. */
        size_t usable = lu_usable_size(fuzz.slots[i].block);
        expected += usable != 0;
        bytes += usable;
        empty += usable == 0;
    }
    flush();
    if (helper.running) on_helper(flush);
    lu_stats_get(&stats);
    CHECK_THAT(stats.live_blocks >= expected && stats.live_blocks <= expected + empty,
               "%zu blocks live, not %zu, and %zu without a byte", stats.live_blocks, expected,
               empty);
    CHECK_EQ(stats.live_bytes, bytes);
}

/* ------------------------------------------------------------------ the frame ---------------- */

/* New operations go to the end: the corpus knows the old ones by number. */
static op_fn *const ops[] = {
    fuzz_op_malloc,
    fuzz_op_calloc,
    fuzz_op_aligned,
    fuzz_op_realloc,
    fuzz_op_free,
    fuzz_op_verify,
    fuzz_op_many,
    fuzz_op_free_many,
    fuzz_op_impossible,
    fuzz_op_questions,
    fuzz_op_misuse,
    fuzz_op_heap_toggle,
    fuzz_op_heap_alloc,
    fuzz_op_heap_walk,
    fuzz_op_scope_alloc,
    fuzz_op_scope_end,
    fuzz_op_cache_toggle,
    fuzz_op_cache_alloc,
    fuzz_op_cache_free,
    fuzz_op_cache_reap,
    op_clock,
    op_faults,
    no_faults,
    op_limit,
    op_option,
    op_purge,
    op_stats,
    op_count,
    end_helper,
    fuzz_op_grow,
};

static bool only_here(op_fn *op) {
    return op == end_helper || op == op_count;
}

static void begin(const uint8_t *data, size_t size) {
    static bool ready;
    if (!ready) {
        CHECK_EQ(sem_init(&helper.go, 0, 0) | sem_init(&helper.done, 0, 0), 0);
        fuzz_misuse_init();
        ready = true;
    }
    fuzz.at = data;
    fuzz.end = data + size;
    clock_advance(100000); /* what an input before this one did was long ago */
    chance = 1;
}

static void end(void) {
    no_faults();
    set_limit(0);
    for (size_t i = 0; i < CHECK_COUNT_OF(options); i++) set_option(&options[i], 0);
    fuzz_own_fini();
    for (size_t i = 0; i < FUZZ_SLOTS; i++) fuzz_free(&fuzz.slots[i], 0);
    CHECK_EQ(fuzz.live, 0);
    end_helper();
    op_purge();
    op_count();
    CHECK_EQ(fuzz.violations, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    begin(data, size);
    while (fuzz.at < fuzz.end) {
        uint8_t byte = fuzz_byte();
        op_fn *op = ops[(byte & 127) % CHECK_COUNT_OF(ops)];
        if (byte & 128 && !only_here(op)) {
            on_helper(op);
        } else {
            op();
        }
        fuzz.busy = NULL;
        CHECK_THAT(fuzz.violations == 0, "a violation of kind %d", (int)fuzz.kind);
        check_limit();
    }
    end();
    return 0;
}
