/*
 * fork_handler.c - fork in a signal handler, at every place where a call of the library can be
 * interrupted with something in hand.
 *
 * Places are the instant after each lock was taken, and the one in front of each system call for
 * memory. For every call of the API, and the n-th such place in it, n = 1, 2, ..., a "handler" runs
 * there and forks twice:
 *
 *     call ---- place 1 ---- ... ---- place n ---------------------> goes on, unharmed
 *                                        |-- child that stays in the handler: uses everything
 *                                        '-- child whose handler returns: the call ends, then it
 *                                            uses everything
 *
 * A child that waits for a lock of its own thread never ends: the alarm kills it. And at each place
 * the thread must be marked as inside, or a handler would not know what it has interrupted. Nothing
 * here depends on time or on chance.
 *
 *     fork_handler [CALL...]
 */
#include "os_fault.h" /* first: what is taken is told */

#include <pthread.h>
#include <sys/wait.h>

#include "api/surface.h"
#include "check.h"
#include "lucid/lucid.h"
#include "os/lock.h"

enum { CHILD_SECONDS = 20, ALL_SECONDS = 250, PLACES_MOST = 400, COUNT = 40 };
#define HUGE_BYTES (33 * CHECK_MIB)

/* Made anew for each place. */
static struct {
    void *small[COUNT], *large[3], *huge[2], *zero, *remote[COUNT];
    lu_heap_t *heap, *single;
    void *in_heap[COUNT], *large_in_heap, *huge_in_heap, *in_single[2];
    lu_cache_t *cache;
    void *objects[COUNT];
} have;

static bool armed;
static size_t places, wanted;
static const char *call_name;

/* ------------------------------------------------------------------ what there is ------------ */

static int construct(void *object, void *arg) {
    (void)arg;
    memset(object, 7, 40);
    return 0;
}
static void destruct(void *object, void *arg) {
    (void)arg;
    CHECK(((const char *)object)[0] == 7);
}
static bool visit(void *block, size_t bytes, void *arg) {
    (void)block;
    *(size_t *)arg += bytes;
    return true;
}
static bool reached(size_t bytes, size_t held, void *arg) {
    (void)bytes, (void)held, (void)arg;
    return false;
}

static void *take(void *block) {
    CHECK(block != NULL);
    return block;
}

static void *make_remote(void *arg) {
    (void)arg;
    for (size_t i = 0; i < COUNT; i++) have.remote[i] = take(lu_malloc(12000));
    return NULL;
}
static void in_thread(void *(*body)(void *)) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, body, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void set_up(void) {
    for (size_t i = 0; i < COUNT; i++) have.small[i] = take(lu_malloc(20 + 97 * i));
    for (size_t i = 0; i < 3; i++) have.large[i] = take(lu_malloc(100000 + 700000 * i));
    for (size_t i = 0; i < 2; i++) have.huge[i] = take(lu_malloc(HUGE_BYTES));
    have.zero = take(lu_malloc(0));
    in_thread(make_remote);
    have.heap = take(lu_heap_create(LU_HEAP_SHARED));
    have.single = take(lu_heap_create(LU_HEAP_SINGLE_THREADED));
    for (size_t i = 0; i < COUNT; i++) have.in_heap[i] = take(lu_heap_malloc(have.heap, 3000));
    have.large_in_heap = take(lu_heap_malloc(have.heap, 200000));
    have.huge_in_heap = take(lu_heap_malloc(have.heap, HUGE_BYTES));
    for (size_t i = 0; i < 2; i++) have.in_single[i] = take(lu_heap_malloc(have.single, 70000));
    have.cache = take(lu_cache_create("objects", 1000, 8, construct, destruct, NULL));
    for (size_t i = 0; i < COUNT; i++) have.objects[i] = take(lu_cache_alloc(have.cache));
}

static void tear_down(void) {
    for (size_t i = 0; i < COUNT; i++) {
        lu_free(have.small[i]);
        lu_free(have.remote[i]);
        if (have.cache != NULL) lu_cache_free(have.cache, have.objects[i]);
    }
    for (size_t i = 0; i < 3; i++) lu_free(have.large[i]);
    for (size_t i = 0; i < 2; i++) lu_free(have.huge[i]);
    lu_free(have.zero);
    lu_heap_destroy(have.heap);
    lu_heap_destroy(have.single);
    lu_cache_destroy(have.cache);
    memset(&have, 0, sizeof have);
}

/* Free what is in *place, once. */
static void end(void *place) {
    void *block;
    memcpy(&block, place, sizeof block);
    memset(place, 0, sizeof block);
    lu_free(block);
}

/* ------------------------------------------------------------------ the calls ---------------- */

static void call_malloc(void) {
    void *blocks[COUNT];
    for (size_t i = 0; i < COUNT; i++) blocks[i] = take(lu_malloc((size_t)24 << (i % 11)));
    for (size_t i = 0; i < COUNT; i++) lu_free(blocks[i]);
}
static void call_calloc(void) {
    lu_free(take(lu_calloc(3, 30000)));
    lu_free(take(lu_calloc(1, 300000)));
}
static void call_memalign(void) {
    lu_free(take(lu_memalign(1 << 20, 100)));
}
static void call_zero(void) {
    lu_free(take(lu_malloc(0)));
}
static void call_huge(void) {
    lu_free(take(lu_malloc(HUGE_BYTES)));
}
static void call_free_small(void) {
    for (size_t i = 0; i < COUNT / 2; i++) end(&have.small[i]);
}
static void call_free_large(void) {
    end(&have.large[0]);
}
static void call_free_huge(void) {
    end(&have.huge[0]);
}
static void call_free_remote(void) {
    for (size_t i = 0; i < COUNT / 2; i++) end(&have.remote[i]);
}
static void call_realloc(void) {
    have.small[0] = take(lu_realloc(have.small[0], 90000));
    have.large[0] = take(lu_realloc(have.large[0], 2500000));
    have.large[0] = take(lu_realloc(have.large[0], 80000));
}
static void call_realloc_huge(void) {
    have.huge[0] = take(lu_realloc(have.huge[0], 2 * HUGE_BYTES));
}
static void call_usable(void) {
    CHECK(lu_usable_size(have.huge[1]) >= HUGE_BYTES && lu_owns(have.huge[1]));
}
static void call_purge(void) {
    end(&have.large[1]);
    (void)lu_purge();
}
static void call_limit(void) {
    CHECK_EQ(lu_set_limit((size_t)1 << 40, reached, NULL), 0);
    CHECK_EQ(lu_set_limit(1, reached, NULL), 0);
    CHECK(lu_malloc(1000 * CHECK_MIB) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK_EQ(lu_set_limit(0, NULL, NULL), 0);
}
static void call_stats(void) {
    lu_stats_t stats;
    lu_stats_get(&stats);
    CHECK(stats.live_blocks > 0 && stats.thread_heaps > 0);
}
#ifdef __GLIBC__
static void call_mallinfo(void) {
    CHECK(lu__mallinfo2().uordblks > 0);
}
static void call_malloc_info(void) {
    char text[20000];
    FILE *stream = fmemopen(text, sizeof text, "w");
    CHECK(stream != NULL && lu__malloc_info(0, stream) == 0);
    fclose(stream);
}
static void call_malloc_stats(void) {
    int saved = dup(2), none = open("/dev/null", O_WRONLY);
    dup2(none, 2);
    lu__malloc_stats();
    dup2(saved, 2);
    close(saved);
    close(none);
}
#endif
static void call_heap_create(void) {
    lu_heap_t *heap = take(lu_heap_create(LU_HEAP_SHARED));
    lu_free(take(lu_heap_malloc(heap, 100)));
    lu_heap_destroy(heap);
}
static void call_heap_destroy(void) {
    lu_heap_t *heap = have.heap;
    have.heap = NULL;
    lu_heap_destroy(heap);
}
static void call_heap_malloc(void) {
    for (size_t i = 0; i < COUNT; i++) (void)take(lu_heap_malloc(have.heap, 5000));
    (void)take(lu_heap_calloc(have.heap, 1, 150000));
    (void)take(lu_heap_malloc(have.heap, HUGE_BYTES));
    (void)take(lu_heap_malloc(have.single, 5000));
}
static void call_heap_free(void) {
    for (size_t i = 0; i < COUNT; i++) lu_free(have.in_heap[i]);
    lu_heap_free(have.heap, have.large_in_heap);
    lu_heap_free(have.heap, have.huge_in_heap);
    lu_heap_free(have.single, have.in_single[0]);
}
static void call_heap_realloc(void) {
    have.in_heap[0] = take(lu_heap_realloc(have.heap, have.in_heap[0], 40000));
    have.large_in_heap = take(lu_heap_realloc(have.heap, have.large_in_heap, 900000));
}
static void call_heap_walk(void) {
    size_t bytes = 0;
    CHECK(lu_heap_walk(have.heap, visit, &bytes) && bytes > HUGE_BYTES);
}
static void call_cache_create(void) {
    lu_cache_t *cache = take(lu_cache_create("more", 100, 8, construct, destruct, NULL));
    lu_cache_free(cache, take(lu_cache_alloc(cache)));
    lu_cache_destroy(cache);
}
static void call_cache_alloc(void) {
    void *objects[COUNT];
    for (size_t i = 0; i < COUNT; i++) objects[i] = take(lu_cache_alloc(have.cache));
    for (size_t i = 0; i < COUNT; i++) lu_cache_free(have.cache, objects[i]);
    (void)lu_cache_reap(have.cache, 0);
}
static void call_fork(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    CHECK(waitpid(child, NULL, 0) == child);
}
static void *short_thread(void *arg) {
    (void)arg;
    void *block = take(lu_malloc(100)), *large = take(lu_malloc(100000));
    for (size_t i = COUNT / 2; i < COUNT; i++) end(&have.remote[i]);
    lu_free(large);
    lu_free(block);
    return NULL;
}
static void call_thread(void) {
    in_thread(short_thread);
}

static const struct call {
    const char *name;
    void (*make)(void);
} calls[] = {
#define CALL(name) \
    { #name, call_##name }
    CALL(malloc),       CALL(calloc),       CALL(memalign),     CALL(zero),
    CALL(huge),         CALL(free_small),   CALL(free_large),   CALL(free_huge),
    CALL(free_remote),  CALL(realloc),      CALL(realloc_huge), CALL(usable),
    CALL(purge),        CALL(limit),        CALL(stats),
#ifdef __GLIBC__
    CALL(mallinfo),     CALL(malloc_info),  CALL(malloc_stats),
#endif
    CALL(heap_create),  CALL(heap_destroy), CALL(heap_malloc),  CALL(heap_free),
    CALL(heap_realloc), CALL(heap_walk),    CALL(cache_create), CALL(cache_alloc),
    CALL(fork),         CALL(thread),
#undef CALL
};

/* ------------------------------------------------------------------ the handler -------------- */

/* A result that may be NULL: in a handler above a slow path, where there is no other way. */
static void use(void *block, size_t size) {
    if (block != NULL) memset(block, 5, size < 4096 ? size : 4096);
}

/* All that a child may want, none of which may wait. What the call may have in hand is left alone:
 * the upper half of the blocks. */
static void use_everything(void) {
    void *mine[60];
    lu_stats_t stats;
    size_t bytes = 0;
    for (size_t i = 0; i < 60; i++) {
        size_t size = (size_t)16 << (i % 15);
        mine[i] = i % 2 == 0 ? lu_malloc(size) : lu_calloc(1, size);
        CHECK(mine[i] != NULL);
        if (i % 2 != 0) CHECK_ZERO(mine[i], size);
        use(mine[i], size);
    }
    for (size_t i = 0; i < 60; i++) mine[i] = take(lu_realloc(mine[i], (size_t)40 << (i % 13)));
    for (size_t i = 0; i < 60; i++) lu_free(mine[i]);
    lu_free(take(lu_malloc(HUGE_BYTES)));
    for (size_t i = COUNT - 5; i < COUNT; i++) lu_free(have.small[i]);
    lu_free(have.large[2]);
    (void)lu_usable_size(have.huge[1]);
    lu_free(have.huge[1]);
    lu_free(have.zero);
    if (have.heap != NULL) {
        use(lu_heap_malloc(have.heap, 900), 900);
        use(lu_heap_malloc(have.heap, 200000), 200000);
    }
    use(lu_heap_malloc(have.single, 900), 900);
    lu_free(have.in_single[1]);
    use(lu_cache_alloc(have.cache), 1);
    lu_cache_free(have.cache, have.objects[COUNT - 1]);
    (void)lu_cache_reap(have.cache, 0);
    lu_cache_t *cache = lu_cache_create("in the child", 16, 8, NULL, NULL, NULL);
    if (cache != NULL) lu_cache_destroy(cache);
    lu_heap_destroy(lu_heap_create(LU_HEAP_SHARED));
    lu_stats_get(&stats);
    if (have.heap != NULL) (void)lu_heap_walk(have.heap, visit, &bytes);
    (void)lu_set_limit(0, NULL, NULL);
    (void)lu_purge();
}

static void wait_for(pid_t child, const char *what) {
    int status = 0;
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    CHECK_THAT(status == 0, "%s: forked at place %zu, child that %s: status 0x%x", call_name,
               wanted, what, (unsigned)status);
}

static void at_place(void) {
    if (!armed) return;
    CHECK_THAT(lu__is_inside(), "%s: at place %zu the thread is not marked", call_name, places + 1);
    if (++places != wanted) return;
    armed = false;
    int saved = errno;
    pid_t child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        use_everything();
        _exit(0);
    }
    wait_for(child, "stays");
    child = fork();
    if (child == 0) {
        alarm(CHILD_SECONDS);
        errno = saved;
        return; /* main_body goes on, and ends it */
    }
    wait_for(child, "returns");
    errno = saved;
}

static void before_system_call(size_t order, enum os_fault_call call, bool first) {
    (void)order, (void)call, (void)first;
    at_place();
}

/* Returns the number of places in the call. */
static size_t try_call(const struct call *call) {
    pid_t self = getpid();
    call_name = call->name;
    for (wanted = 1; wanted < PLACES_MOST; wanted++) {
        set_up();
        places = 0;
        errno = 0;
        armed = true;
        call->make();
        bool was_reached = !armed;
        armed = false;
        if (getpid() != self) {
            use_everything();
            _exit(0);
        }
        tear_down();
        if (!was_reached) break;
    }
    CHECK(wanted < PLACES_MOST);
    return wanted - 1;
}

static bool is_wanted(const char *name, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) return true;
    }
    return argc == 1;
}

int main(int argc, char **argv) {
    size_t all = 0;
    check_begin(1, argv);
    alarm(ALL_SECONDS);
    os_fault_hook(before_system_call);
    os_fault_lock_hook(at_place);
    for (size_t i = 0; i < CHECK_COUNT_OF(calls); i++) {
        if (!is_wanted(calls[i].name, argc, argv)) continue;
        size_t count = try_call(&calls[i]);
        printf("%s: %zu places\n", calls[i].name, count);
        fflush(stdout);
        all += count;
    }
    check_passed("%zu places, two forks at each", all);
    return 0;
}
