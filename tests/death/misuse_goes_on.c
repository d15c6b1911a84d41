/*
 * misuse_goes_on.c - violations that go on: the block that was meant is freed where it is known,
 * and what happens again and again at one place does not fill a log.
 *
 * Every call of the library that is wrong has a function of its own around it, so that each is one
 * place, whatever the compiler makes of loops.
 */
#include "misuse.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lucid/lucid.h"

#define PLACE __attribute__((noinline))
#define RETURN_HERE \
    __asm__ volatile("" ::: "memory") /* no jump to the function instead of a call */

typedef void sized_fn(void *block, size_t size);
typedef void aligned_sized_fn(void *block, size_t alignment, size_t size);
typedef void set_handler_fn(lu_violation_fn *handler, void *arg);
typedef void stats_fn(lu_stats_t *out);

extern char __executable_start[], etext[];

static void must(bool fact, const char *what) {
    if (!fact) misuse_cannot(what);
}

static lu_stats_t figures(void) {
    static stats_fn *get;
    lu_stats_t stats;
    if (get == NULL) get = (stats_fn *)misuse_symbol("lu_stats_get");
    get(&stats);
    return stats;
}

static void must_all_be_free(const lu_stats_t *before) {
    lu_stats_t now = figures();
    if (now.live_blocks == before->live_blocks && now.live_bytes == before->live_bytes) return;
    misuse_prints("live: %zu blocks, %zu bytes; before: %zu, %zu", now.live_blocks, now.live_bytes,
                  before->live_blocks, before->live_bytes);
    misuse_cannot("a block that was passed with a wrong size was not freed");
}

/* ------------------------------------------------------------------ places ------------------- */

static sized_fn *free_sized_;

PLACE static void wrong(void *block, size_t size) {
    free_sized_(misuse_hidden(block), size);
    RETURN_HERE;
}
PLACE static void wrong_elsewhere(void *block, size_t size) {
    free_sized_(misuse_hidden(block), size);
    RETURN_HERE;
}
PLACE static void wrong_again_elsewhere(void *block, size_t size) {
    free_sized_(misuse_hidden(block), size);
    RETURN_HERE;
}

/* `times` blocks at one place. */
static void wrongly(unsigned times) {
    for (unsigned i = 0; i < times; i++) wrong(malloc(100), 300);
}

static void prepare(void) {
    free_sized_ = (sized_fn *)misuse_symbol("free_sized");
    free(misuse_block(100)); /* the heap is there */
    (void)figures();
}

/* ------------------------------------------------------------------ what is freed ------------ */

/* Blocks of all kinds, by every function that is told a size: none stays. Hardened, delete[] of
 * what malloc gave is a mistake of its own. */
static void all_sizes(bool arrays) {
    static const size_t sizes[] = {1, 24, 100, 1000, 20000, 60000, 70000, 1000000, 40u << 20};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    static const char *const by_size[] = {"free_sized", "lu_free_sized", "_ZdlPvm", "_ZdaPvm"};
    size_t functions = sizeof by_size / sizeof by_size[0] - (arrays ? 0 : 1);
    prepare();
    lu_stats_t before = figures();
    for (size_t f = 0; f < functions; f++) {
        free_sized_ = (sized_fn *)misuse_symbol(by_size[f]);
        for (size_t i = 0; i < SIZES; i++) {
            wrong(misuse_block(sizes[i]), 3 * sizes[i]);
            wrong(misuse_block(sizes[i]), sizes[SIZES - 1 - i] + 100);
        }
    }
    must_all_be_free(&before);
    wrong(malloc(0), 100);
    must_all_be_free(&before);
}

PLACE static void wrong_aligned(aligned_sized_fn *give, void *block, size_t first, size_t second) {
    give(misuse_hidden(block), first, second);
    RETURN_HERE;
}

static void all_alignments(void) {
    aligned_sized_fn *give = (aligned_sized_fn *)misuse_symbol("free_aligned_sized");
    aligned_sized_fn *end = (aligned_sized_fn *)misuse_symbol("_ZdlPvmSt11align_val_t");
    prepare();
    lu_stats_t before = figures();
    for (size_t alignment = 32; alignment <= 65536; alignment *= 2) {
        wrong_aligned(give, aligned_alloc(alignment, 3000), alignment, 300000);
        wrong_aligned(end, aligned_alloc(alignment, 3000), 300000, alignment);
        char *block = misuse_block(2500);
        size_t more = ((uintptr_t)block & -(uintptr_t)block) * 2;
        wrong_aligned(give, block, more, 2500);
    }
    must_all_be_free(&before);
}

static void sized(void) {
    all_sizes(true);
    all_alignments();
}
static void sized_hard(void) {
    all_sizes(false);
    all_alignments();
}

/* In a thread that did not allocate them, too. */
static void free_wrongly(void *blocks) {
    for (size_t i = 0; i < 100; i++) wrong(((void **)blocks)[i], 5000);
}
static void nothing(void *unused) {
    (void)unused;
}
static void sized_remote(void) {
    static void *blocks[100];
    prepare();
    misuse_in_thread(nothing, NULL); /* libc keeps what it allocates for a thread */
    lu_stats_t before = figures();
    for (size_t i = 0; i < 100; i++) blocks[i] = misuse_block(10 + i * 20);
    misuse_in_thread(free_wrongly, blocks);
    must_all_be_free(&before);
}

typedef lu_heap_t *make_fn(unsigned flags);
typedef void *take_fn(lu_heap_t *heap, size_t size);
typedef void give_fn(lu_heap_t *heap, void *block);
typedef void end_fn(lu_heap_t *heap);

PLACE static void give_to(give_fn *give, lu_heap_t *heap, void *block) {
    give(heap, misuse_hidden(block));
    RETURN_HERE;
}

static size_t live_in(lu_heap_t *heap, lu_visit_fn *visit) {
    size_t count = 0;
    ((bool (*)(lu_heap_t *, lu_visit_fn *, void *))misuse_symbol("lu_heap_walk"))(heap, visit,
                                                                                  &count);
    return count;
}
static bool counts(void *block, size_t bytes, void *arg) {
    (void)block, (void)bytes;
    ++*(size_t *)arg;
    return true;
}

/* lu_heap_free of what is not the heap's; only another thread may be in a heap without lock. */
static void heaps(void) {
    make_fn *make = (make_fn *)misuse_symbol("lu_heap_create");
    take_fn *take = (take_fn *)misuse_symbol("lu_heap_malloc");
    give_fn *give = (give_fn *)misuse_symbol("lu_heap_free");
    prepare();
    lu_heap_t *one = make(LU_HEAP_SHARED), *other = make(LU_HEAP_SHARED);
    lu_heap_t *single = make(LU_HEAP_SINGLE_THREADED);
    for (size_t size = 100; size <= 40u << 20; size *= 20) {
        lu_stats_t before = figures();
        give_to(give, one, misuse_block(size));
        must_all_be_free(&before);
        give_to(give, one, take(other, size));
        must(live_in(other, counts) == 0, "a shared heap's block was not freed");
    }
    void *kept = take(single, 100);
    give_to(give, one, kept);
    must(live_in(single, counts) == 1, "a single-threaded heap's block was freed");
    give_to(give, single, kept);
    must(live_in(single, counts) == 0, "a block was not freed by its own heap");
    for (size_t i = 0; i < 3; i++) {
        ((end_fn *)misuse_symbol("lu_heap_destroy"))((lu_heap_t *[]){one, other, single}[i]);
    }
}

/* ------------------------------------------------------------------ what is told ------------- */

static void counted(void) {
    prepare();
    wrongly(12345);
}

static void places(void) {
    prepare();
    for (int i = 0; i < 5; i++) {
        wrong(malloc(100), 300);
        wrong_elsewhere(malloc(100), 300);
        wrong_again_elsewhere(malloc(100), 300);
    }
}

/* Of each kind at one place. */
static void kinds(void) {
    static long words[8];
    prepare();
    for (int i = 0; i < 3; i++) {
        char *block = misuse_block(100);
        wrong(block, 300);
        wrong(block, 100);
        wrong(words, 100);
        wrong((block = misuse_block(100)) + 16, 100);
        free(block);
    }
}

static void *in_thread(void *arg) {
    (void)arg;
    wrongly(2500);
    return NULL;
}
static void threads(void) {
    enum { THREADS = 4 };
    pthread_t thread[THREADS];
    prepare();
    for (int i = 0; i < THREADS; i++) {
        must(pthread_create(&thread[i], NULL, in_thread, NULL) == 0, "no thread");
    }
    for (int i = 0; i < THREADS; i++) must(pthread_join(thread[i], NULL) == 0, "no join");
}

/* The child counts on, and so does the parent. */
static void forked(void) {
    prepare();
    wrongly(5);
    pid_t child = fork();
    must(child >= 0, "no child");
    wrongly(child == 0 ? 5 : 4);
    if (child == 0) _exit(0);
    int status;
    must(waitpid(child, &status, 0) == child && status == 0, "the child failed");
}

/* ------------------------------------------------------------------ the handler -------------- */

static size_t told, least, most;
static const void *told_at;

static bool handler(const lu_violation_t *violation, void *arg) {
    told++;
    if (least == 0) least = violation->times;
    most = violation->times;
    told_at = violation->place;
    bool more = strstr(violation->message, " times at 0x") != NULL;
    must(more == (violation->times > 1), "the message does not say how often");
    if (arg != NULL && violation->kind == LU_SIZE_MISMATCH) free(*(void **)arg);
    return true;
}

static void set(lu_violation_fn *fn, void *arg) {
    ((set_handler_fn *)misuse_symbol("lu_set_violation_handler"))(fn, arg);
}

/* Told of each, with a count and a place to limit what it does with them. */
static void handler_is_told(void) {
    prepare();
    set(handler, NULL);
    wrongly(1000);
    must(told == 1000 && least == 1 && most == 1000, "the handler was not told of each");
    const void *here = told_at;
    must((const char *)here > __executable_start && (const char *)here < etext,
         "the place is not in the program");
    least = 0;
    wrong_elsewhere(malloc(100), 300);
    must(least == 1 && told_at != here, "two places are one");
}

/* One that frees the block itself makes a double free of the call, no damage. */
static void handler_frees(void) {
    static void *block;
    prepare();
    set(handler, &block);
    lu_stats_t before = figures();
    for (int i = 0; i < 100; i++) {
        least = 0;
        block = misuse_block(100);
        void *passed = block;
        wrong(passed, 300);
    }
    must(told >= 200, "freed twice, and not noticed");
    set(NULL, NULL);
    must_all_be_free(&before);
}

const struct misuse misuse_goes_on_table[] = {
    {"goes-on-sized", sized},
    {"goes-on-sized-remote", sized_remote},
    {"goes-on-sized-hard", sized_hard},
    {"goes-on-heaps", heaps},
    {"goes-on-counted", counted},
    {"goes-on-stats", counted},
    {"goes-on-places", places},
    {"goes-on-kinds", kinds},
    {"goes-on-threads", threads},
    {"goes-on-forked", forked},
    {"goes-on-handler-told", handler_is_told},
    {"goes-on-handler-frees", handler_frees},
    {NULL, NULL},
};
