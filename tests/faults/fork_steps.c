/*
 * fork_steps.c - fork while another thread stands at each instruction of the library.
 *
 * A thread works with the processor's trap flag set, so that a signal comes after every
 * instruction. At the first visits to each place of the library it waits there, with whatever it
 * has changed by half, while the main thread forks. The child is without that thread: all blocks
 * that were whole must be whole and can be freed, and all memory is used once.
 *
 *     worker   -- place: waits ................... goes on -- next place: waits
 *     main             fork, wait for the child --^
 *
 * What a few stores next to each other leave between them no chance finds: with three busy threads
 * one child of 10,000 was damaged.
 *
 *     fork_steps [VISITS [LOCKED [SEED [fork|clone [EVERY]]]]]
 *
 * VISITS says how often a place is stopped at, and LOCKED how much more often where the lock of all
 * runs is held, since what comes of a place there depends on the neighbours of a run.
 * With `clone` children are made by system calls, after which no handler of fork runs, and what
 * comes first in them goes by turns: the copied thread, another one, or a copy of the copy.
 * Of all places one in EVERY is stopped at, by its address.
 */
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "check.h"
#include "clock.h"
#include "lucid/lucid.h"
#include "span/span.h"
#include "use_heap.h"

enum {
    BLOCKS = 120,
    OBJECTS = 40,
    HEAP_BLOCKS = 40,
    PRESSED = 250,
    BURST = 160,
    BURST_SIZE = 40,
    OBJECT_SIZE = 400,
    ROUNDS = 200,
    THREADS = 2,
    CHILD_SECONDS = 10,
    ALL_SECONDS = 1200
};

/* ---------------------------------------------------------------- blocks */

/* Set when the block is whole, and cleared before it is given back: a child may use what is set. */
struct slot {
    _Atomic(unsigned char *) at;
    size_t size;
};
static struct slot of_worker[BLOCKS], of_main[BLOCKS];

/* Only the ends: each step of a loop would be a signal. */
static void fill(struct slot *slot, unsigned char *at, size_t size) {
    CHECK(at != NULL);
    at[0] = at[size - 1] = (unsigned char)size;
    slot->size = size;
    atomic_store(&slot->at, at);
}

static void check_ends(const unsigned char *at, size_t size) {
    CHECK_EQ(at[0], (unsigned char)size);
    CHECK_EQ(at[size - 1], (unsigned char)size);
}

static unsigned char *take(struct slot *slot) {
    unsigned char *at = atomic_exchange(&slot->at, NULL);
    if (at != NULL) check_ends(at, slot->size);
    return at;
}

static size_t some_size(uint64_t *state) {
    static const unsigned bits[] = {7, 10, 10, 12, 14, 16, 17, 18};
    uint64_t draw = check_random(state) % 80;
    if (draw < 2) return 33 * CHECK_MIB;
    if (draw < 5) return check_random_size(state, 21) + 1;
    return check_random_size(state, bits[check_random(state) % CHECK_COUNT_OF(bits)]) + 1;
}

/* What would be copied or cleared word by word is seldom large: each step of that is a signal. */
static size_t size_for(unsigned kind, uint64_t *state) {
    size_t size = some_size(state);
    bool any = kind > 1 || size > 2 * CHECK_MIB || check_random(state) % 16 == 0;
    return any ? size : size % 4096 + 1;
}

static void use_slot(struct slot *slot, uint64_t *state) {
    unsigned kind = (unsigned)(check_random(state) % 8);
    size_t size = size_for(kind, state);
    unsigned char *at = take(slot);
    switch (kind) {
    case 0:
        return fill(slot, lu_realloc(at, size), size);
    case 1:
        lu_free(at);
        return fill(slot, lu_calloc(1, size), size);
    case 2:
        lu_free(at);
        return fill(slot, lu_aligned_alloc(64, size), size);
    case 3:
    case 4:
        break;
    default:
        lu_free(at);
        return fill(slot, lu_malloc(size), size);
    }
    lu_free(at);
}

/* Objects of a cache, of both threads. */
static lu_cache_t *cache;
static struct slot objects[OBJECTS];

static void use_object(uint64_t *state) {
    struct slot *slot = &objects[check_random(state) % OBJECTS];
    unsigned char *at = take(slot);
    if (at != NULL) return lu_cache_free(cache, at);
    fill(slot, lu_cache_alloc(cache), OBJECT_SIZE);
}

/* Blocks of lu_heaps: of a shared one that both threads use, and of one that is the worker's alone
 * until a child, where the worker is not, goes on with it. */
struct in_heap {
    lu_heap_t *heap;
    struct slot slots[HEAP_BLOCKS];
};
static struct in_heap shared, single;
static size_t last_size; /* that was asked of either */
static const struct in_heap *last_heap;

static void use_in_heap(struct in_heap *in, uint64_t *state) {
    struct slot *slot = &in->slots[check_random(state) % HEAP_BLOCKS];
    unsigned kind = (unsigned)(check_random(state) % 8);
    size_t size = last_size = size_for(kind, state);
    last_heap = in;
    unsigned char *at = take(slot);
    switch (kind) {
    case 0:
        return fill(slot, lu_heap_realloc(in->heap, at, size), size);
    case 1:
        lu_heap_free(in->heap, at);
        return fill(slot, lu_heap_calloc(in->heap, 1, size), size);
    case 2:
        lu_free(at);
        return fill(slot, lu_heap_aligned_alloc(in->heap, 64, size), size);
    case 3:
    case 4:
        break;
    default:
        lu_free(at);
        return fill(slot, lu_heap_malloc(in->heap, size), size);
    }
    lu_free(at);
}

/* More of a size than is kept at hand, so that some goes back to where it was taken from. */
static void burst(const struct in_heap *in) {
    void *blocks[BURST];
    last_size = BURST_SIZE;
    last_heap = in;
    for (size_t i = 0; i < BURST; i++) blocks[i] = lu_heap_malloc(in->heap, BURST_SIZE);
    for (size_t i = 0; i < BURST; i++) lu_free(blocks[i]);
}

/* What is in a slot is whole, and the walk comes to it once. */
struct walk {
    const struct in_heap *in;
    size_t found;
};

static bool find_visited(void *block, size_t bytes, void *arg) {
    struct walk *walk = arg;
    for (size_t i = 0; i < HEAP_BLOCKS; i++) {
        const struct slot *slot = &walk->in->slots[i];
        if (slot->at != block) continue;
        CHECK(bytes >= slot->size);
        walk->found++;
    }
    return true;
}

static void walk_heap(const struct in_heap *in) {
    struct walk walk = {.in = in};
    size_t there = 0;
    for (size_t i = 0; i < HEAP_BLOCKS; i++) {
        if (in->slots[i].at == NULL) continue;
        check_ends(in->slots[i].at, in->slots[i].size);
        there++;
    }
    CHECK(lu_heap_walk(in->heap, find_visited, &walk));
    CHECK_EQ(walk.found, there);
}

/* All that the heap has of a size, so that what it would give twice is given. */
static void press(struct in_heap *in, size_t size) {
    static struct slot pressed[PRESSED];
    size_t count = LU_MAX(LU_MIN(PRESSED, CHECK_MIB / 8 / size), 1);
    for (size_t i = 0; i < count; i++) fill(&pressed[i], lu_heap_malloc(in->heap, size), size);
    walk_heap(in);
    for (size_t i = 0; i < count; i++) lu_free(take(&pressed[i]));
}

/* In a child, which has the heap for itself. */
static void end_heap(struct in_heap *in, uint64_t *state) {
    walk_heap(in);
    if (in == last_heap) press(in, last_size);
    for (size_t i = 0; i < HEAP_BLOCKS; i++) use_in_heap(in, state);
    walk_heap(in);
    for (size_t i = 0; i < HEAP_BLOCKS; i++) {
        if (i % 4 != 0) lu_free(take(&in->slots[i]));
    }
    lu_heap_destroy(in->heap);
}

static void make_heaps(void) {
    shared = (struct in_heap){.heap = lu_heap_create(LU_HEAP_SHARED)};
    single = (struct in_heap){.heap = lu_heap_create(LU_HEAP_SINGLE_THREADED)};
    CHECK(shared.heap != NULL && single.heap != NULL);
}

/* A scope of each thread. */
static lu_scope_t worker_scope, main_scope;

static void use_scope(lu_scope_t *scope, uint64_t *state) {
    for (int i = 0; i < 3; i++) {
        size_t size = check_random_size(state, 14) + 1;
        unsigned char *at = lu_scope_alloc(scope, size);
        CHECK(at != NULL);
        at[0] = at[size - 1] = (unsigned char)size;
    }
    if (check_random(state) % 4 == 0) lu_scope_end(scope);
}

static void free_all(struct slot *slots) {
    for (size_t i = 0; i < BLOCKS; i++) lu_free(take(&slots[i]));
}

/* ---------------------------------------------------------------- the worker */

enum request { FORK, USE, END };
static enum request request;
static sem_t to_main, to_worker;
static __thread bool is_asking; /* and is not to be stopped */
static unsigned visits_most = 1, locked_factor = 12, every = 1;
extern char __executable_start[], etext[];
static uint8_t *visits;
static uintptr_t stopped_at; /* for addr2line */

static void ask(enum request what) {
    is_asking = true;
    request = what;
    CHECK_EQ(sem_post(&to_main), 0);
    while (sem_wait(&to_worker) != 0) continue;
    is_asking = false;
}

static void at_step(int signal, siginfo_t *info, void *context) {
    const ucontext_t *at = context;
    uintptr_t place = (uintptr_t)at->uc_mcontext.gregs[REG_RIP] - (uintptr_t)__executable_start;
    (void)signal, (void)info;
    if (is_asking || place >= (uintptr_t)(etext - __executable_start)) return;
    if ((uint32_t)(place * 2654435761u) >> 16 & (every - 1)) return;
    bool locked = __atomic_load_n(&lu__span_lock.word, __ATOMIC_RELAXED) != 0;
    if (visits[place] >= visits_most * (locked ? locked_factor : 1)) return;
    visits[place]++;
    stopped_at = place;
    ask(FORK);
}

static void set_trap_flag(bool on) {
    if (on) {
        __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
    } else {
        __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
    }
}

static pthread_key_t last_key;
static void at_thread_end(void *unused) {
    (void)unused;
    set_trap_flag(false); /* the C library ends the thread with all signals blocked */
}

static void *worker_body(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    CHECK_EQ(pthread_setspecific(last_key, &last_key), 0);
    set_trap_flag(true);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t draw = check_random(&state);
        clock_advance(draw % 8);
        size_t i = draw / 64 % BLOCKS;
        if (draw % 64 == 0) {
            ask(USE);
        } else if (draw % 8 == 0) {
            lu_free(take(&of_main[i]));
        } else if (draw % 8 == 1) {
            use_object(&state);
        } else if (draw % 8 <= 3) {
            use_in_heap(&shared, &state);
        } else if (draw % 8 == 4) {
            use_in_heap(&single, &state);
        } else if (draw % 16 == 5) {
            use_scope(&worker_scope, &state);
        } else {
            use_slot(&of_worker[i], &state);
        }
        if (round % 200 == 10) burst(&shared);
        if (round % 200 == 110) burst(&single);
        if (round % 300 == 40) use_heap(100000);
        if (round % 300 == 180) (void)lu_purge();
    }
    return NULL;
}

/* ---------------------------------------------------------------- the main thread */

/* Blocks of its own, and some of the worker's go. */
static void use(uint64_t *state, size_t rounds) {
    for (size_t i = 0; i < rounds; i++) {
        use_slot(&of_main[check_random(state) % BLOCKS], state);
        if (i % 2 == 0) lu_free(take(&of_worker[check_random(state) % BLOCKS]));
        if (i % 2 == 1) use_object(state);
        if (i % 4 == 1) use_in_heap(&shared, state);
        if (i % 16 == 1) use_scope(&main_scope, state);
    }
}

static void *use_in_child(void *arg) {
    uint64_t state = (uint64_t)(uintptr_t)arg;
    for (size_t i = 0; i < 3 * BLOCKS; i++) use_slot(&of_worker[i % BLOCKS], &state);
    return NULL;
}

static bool is_raw;

static pid_t copy(size_t number) {
    if (!is_raw) return fork();
    if (number % 2 == 1) return (pid_t)syscall(SYS_fork);
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void use_by_another(size_t number) {
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, use_in_child, (void *)(number + 1)), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* Go on in a copy of this process, which has not used the library yet. */
static void go_on_in_copy(size_t number) {
    int status = 0;
    pid_t child = copy(number);
    CHECK(child >= 0);
    if (child == 0) {
        check_alarm(CHILD_SECONDS);
        return;
    }
    CHECK(waitpid(child, &status, 0) == child);
    _exit(status == 0 ? 0 : 1);
}

static __attribute__((noreturn)) void be_child(size_t number) {
    uint64_t state = number;
    check_alarm(CHILD_SECONDS);
    if (is_raw && number % 3 == 1) use_by_another(number);
    if (is_raw && number % 3 == 2) go_on_in_copy(number);
    if (number % 2 == 0) free_all(of_worker);
    use(&state, BLOCKS);
    use_by_another(number);
    free_all(of_worker);
    free_all(of_main);
    for (size_t i = 0; i < OBJECTS; i++) lu_cache_free(cache, take(&objects[i]));
    (void)lu_cache_reap(cache, SIZE_MAX);
    lu_scope_end(&worker_scope);
    struct in_heap *last = last_heap == &single ? &single : &shared;
    end_heap(last, &state);
    end_heap(last == &single ? &shared : &single, &state);
    (void)lu_purge();
    make_heaps();
    use(&state, BLOCKS);
    _exit(0);
}

static void make_child(size_t number) {
    int status = 0;
    pid_t child = copy(number);
    CHECK(child >= 0);
    if (child == 0) be_child(number);
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_THAT(status == 0, "child %zu, forked before the instruction at %#zx: status 0x%x", number,
               stopped_at, (unsigned)status);
}

static void *worker_and_end(void *arg) {
    pthread_t worker;
    uintptr_t seed = (uintptr_t)arg;
    for (uintptr_t i = 1; i <= THREADS * visits_most; i++) {
        CHECK_EQ(pthread_create(&worker, NULL, worker_body, (void *)(seed + i)), 0);
        CHECK_EQ(pthread_join(worker, NULL), 0);
    }
    ask(END);
    return NULL;
}

int main(int argc, char **argv) {
    uint64_t state = 1;
    uintptr_t seed = 0;
    size_t children = 0;
    pthread_t starter;
    check_begin(argc, argv);
    check_alarm(ALL_SECONDS);
    if (argc > 1) visits_most = (unsigned)strtoul(argv[1], NULL, 10);
    if (argc > 2) locked_factor = (unsigned)strtoul(argv[2], NULL, 10);
    if (argc > 3) seed = strtoul(argv[3], NULL, 10) * 1000;
    is_raw = argc > 4 && strcmp(argv[4], "clone") == 0;
    if (argc > 5) every = (unsigned)strtoul(argv[5], NULL, 10);
    CHECK(visits_most * locked_factor <= UINT8_MAX && every != 0 && (every & (every - 1)) == 0);
    lu_free(lu_malloc(1)); /* its key comes before ours */
    CHECK_EQ(pthread_key_create(&last_key, at_thread_end), 0);
    cache = lu_cache_create("objects", OBJECT_SIZE, 0, NULL, NULL, NULL);
    CHECK(cache != NULL);
    make_heaps();
    visits = calloc(1, (size_t)(etext - __executable_start));
    CHECK(visits != NULL);
    CHECK(sem_init(&to_main, 0, 0) == 0 && sem_init(&to_worker, 0, 0) == 0);
    struct sigaction action = {.sa_sigaction = at_step, .sa_flags = SA_SIGINFO};
    CHECK_EQ(sigaction(SIGTRAP, &action, NULL), 0);
    use(&state, BLOCKS);
    CHECK_EQ(pthread_create(&starter, NULL, worker_and_end, (void *)seed), 0);
    for (;;) {
        while (sem_wait(&to_main) != 0) continue;
        if (request == END) break;
        if (request == FORK) make_child(children++);
        if (request == USE) use(&state, BLOCKS / 4);
        CHECK_EQ(sem_post(&to_worker), 0);
    }
    check_passed("%zu children, each forked while a thread stood at an instruction", children);
    _exit(0);
}
