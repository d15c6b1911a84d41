/*
 * explore.c - the scheduler of the coroutines, the search over its choices, and a small kernel.
 *
 *     explore [--must-fail] [SCRIPT...]
 *
 * A run is a row of choices, one for each access at which more than one thread may go on; choice 0
 * lets the running one go on. The next run repeats the row up to the last choice that has
 * alternatives left and takes the next of them. Between two runs the process is put back to what it
 * was after `prepare`: the program's .data and .bss, its thread-local variables, and the arena,
 * from which the wrapped calls of the os layer give the library its memory. What the search itself
 * knows lies outside of all this, in *x. Waiting on a futex is blocking until the wake.
 *
 * --must-fail turns the exit status around: for variants of the library that are broken on purpose.
 */
#include "explore.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/options.h"
#include "engine/engine.h"
#include "os/lock.h"
#include "os/os.h"
#include "span/span.h"

enum {
    STACK_BYTES = 256 << 10,
    ARENA_BYTES = 16 << 20,
    PAGE = 4096,
    CHOICES = 4000,
    POINTS = 20000, /* in a run: more means that it does not end */
    SECONDS = 240,  /* of one script                             */
    TRACE = 6000,
};

struct thread {
    ucontext_t context;
    void (*body)(void);
    const uint32_t *waits; /* asleep on this word */
    bool finished;
    char *stack, *tls;
};

struct explore {
    struct thread threads[EXPLORE_THREADS + 1]; /* the last: the frame itself */
    ucontext_t frame;
    unsigned current, count;
    bool exploring, must_fail;
    const struct script *script;

    struct choice {
        uint8_t taken, options;
    } choices[CHOICES];
    size_t depth, recorded;
    unsigned preempted, points;
    uint8_t trace[TRACE]; /* thread of each point */
    unsigned long runs;

    char *data, *tls; /* as after prepare; tls: one after the other */
    char *pristine;   /* .data and .bss at the start               */
    char *pages;      /* contents of the arena's pages, as after prepare */
    uint32_t touched[ARENA_BYTES / PAGE], touched_count;
    bool is_touched[ARENA_BYTES / PAGE];
};
static struct explore *x;
static char *arena;
static size_t arena_used;
static void (*exit_function)(void *);

extern char __data_start[], _end[];

/* ------------------------------------------------------------------ reports ------------------ */

static void print_order(void) {
    size_t points = x->points < TRACE ? x->points : TRACE;
    printf("  order of threads:");
    for (size_t i = 0, length; i < points; i += length) {
        for (length = 1; i + length < points && x->trace[i + length] == x->trace[i];) length++;
        printf(" %ux%zu", (unsigned)x->trace[i], length);
    }
    printf("\n");
}

void explore_fail(const char *format, ...) {
    va_list args;
    printf("%s: ", x->must_fail ? "found" : "FAIL");
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf("\n  script '%s', run %lu\n", x->script->name, x->runs);
    print_order();
    fflush(stdout);
    _exit(x->must_fail ? 0 : 1);
}

/* Pages of the arena have no access until they are touched, so that it is known which are. */
static bool touch(uintptr_t at) {
    uint32_t page = (uint32_t)(at / PAGE);
    if (at >= ARENA_BYTES || x->is_touched[page]) return false;
    x->is_touched[page] = true;
    x->touched[x->touched_count++] = page;
    return mprotect(arena + (size_t)page * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)context;
    if (number == SIGSEGV && touch((uintptr_t)info->si_addr - (uintptr_t)arena)) return;
    if (number == SIGALRM) explore_fail("no end after %d s", SECONDS);
    explore_fail("signal %d", number);
}

static void catch_signals(void) {
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGABRT, SIGALRM, SIGFPE};
    stack_t stack = {.ss_sp = malloc(STACK_BYTES), .ss_size = STACK_BYTES};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_ONSTACK | SA_SIGINFO};
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaction(numbers[i], &action, NULL);
    }
}

/* ------------------------------------------------------------------ thread-local variables --- */

static char *tls_at;
static size_t tls_bytes;

static int find_tls(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size, (void)arg;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_TLS) continue;
        tls_at = info->dlpi_tls_data;
        tls_bytes = info->dlpi_phdr[i].p_memsz;
    }
    return 1; /* the program itself comes first, and that is all */
}

/* Thread `to` is the running one from here on. */
static void become(unsigned to) {
    memcpy(x->threads[x->current].tls, tls_at, tls_bytes);
    memcpy(tls_at, x->threads[to].tls, tls_bytes);
    x->current = to;
}

/* ------------------------------------------------------------------ the scheduler ------------ */

static bool can_run(unsigned i) {
    return !x->threads[i].finished && x->threads[i].waits == NULL;
}

/* The thread to go on, as the row of choices says. */
static unsigned choose(void) {
    uint8_t options[EXPLORE_THREADS];
    unsigned count = 0;
    bool stays = can_run(x->current);
    if (stays) options[count++] = (uint8_t)x->current;
    for (unsigned i = 0; i < x->count; i++) {
        bool may = !stays || x->preempted < x->script->preemptions;
        if (i != x->current && can_run(i) && may) options[count++] = (uint8_t)i;
    }
    if (count == 0) explore_fail("every thread waits");
    unsigned taken = 0;
    if (count > 1) {
        struct choice *choice = &x->choices[x->depth++];
        if (x->depth == CHOICES) explore_fail("too many choices");
        if (x->depth > x->recorded) {
            *choice = (struct choice){0, (uint8_t)count};
            x->recorded = x->depth;
        }
        if (choice->options != count) explore_fail("the same order did not do the same again");
        taken = choice->taken;
    }
    if (stays && taken != 0) x->preempted++;
    return options[taken];
}

static void switch_to(unsigned to) {
    unsigned from = x->current;
    if (to == from) return;
    become(to);
    swapcontext(&x->threads[from].context, &x->threads[to].context);
}

/* Figures and options are read and written everywhere, and nothing depends on the order. */
static bool is_noise(const volatile void *address) {
    uintptr_t at = (uintptr_t)address;
    return at - (uintptr_t)lu__option_changes < sizeof lu__option_changes ||
           at - (uintptr_t)&lu__span_figures < sizeof lu__span_figures ||
           at == (uintptr_t)&lu__os_page_bytes || at == (uintptr_t)&lu__lock_names ||
           at == (uintptr_t)lu__lock_thread.process;
}

void interleave_point(const volatile void *address);
void interleave_point(const volatile void *address) {
    if (x == NULL || !x->exploring || is_noise(address)) return; /* constructors run before main */
    if (x->points < TRACE) x->trace[x->points] = (uint8_t)x->current;
    if (++x->points == POINTS) explore_fail("no end after %d accesses", POINTS);
    switch_to(choose());
}

static bool all_finished(void) {
    for (unsigned i = 0; i < x->count; i++) {
        if (!x->threads[i].finished) return false;
    }
    return true;
}

static void thread_main(void) {
    struct thread *thread = &x->threads[x->current];
    thread->body();
    thread->finished = true;
    if (all_finished()) {
        become(EXPLORE_THREADS);
        setcontext(&x->frame);
    }
    switch_to(choose());
}

unsigned explore_self(void) {
    return x->current;
}

void explore_as(unsigned thread, void (*function)(void)) {
    unsigned before = x->current;
    become(thread);
    function();
    become(before);
}

void explore_fork(void) {
    interleave_point(NULL); /* the others may have come to any place */
    for (unsigned i = 0; i < x->count; i++) {
        if (i == x->current) continue;
        x->threads[i].finished = true;
        x->threads[i].waits = NULL;
    }
    lu__engine_fork_child(true);
}

/* ------------------------------------------------------------------ one run ------------------ */

static char *page_of(char *memory, uint32_t i) {
    return memory + (size_t)x->touched[i] * PAGE;
}

static void save_state(void) {
    for (uint32_t i = 0; i < x->touched_count; i++) {
        memcpy(page_of(x->pages, i), page_of(arena, i), PAGE);
    }
    memcpy(x->data, __data_start, (size_t)(_end - __data_start));
    for (unsigned i = 0; i <= EXPLORE_THREADS; i++) {
        memcpy(x->tls + i * tls_bytes, x->threads[i].tls, tls_bytes);
    }
}

static void restore_state(void) {
    for (uint32_t i = 0; i < x->touched_count; i++) {
        memcpy(page_of(arena, i), page_of(x->pages, i), PAGE);
    }
    memcpy(__data_start, x->data, (size_t)(_end - __data_start));
    for (unsigned i = 0; i <= EXPLORE_THREADS; i++) {
        memcpy(x->threads[i].tls, x->tls + i * tls_bytes, tls_bytes);
    }
}

static void start_threads(void) {
    for (unsigned i = 0; i < x->count; i++) {
        struct thread *thread = &x->threads[i];
        thread->finished = false;
        thread->waits = NULL;
        thread->body = x->script->threads[i];
        getcontext(&thread->context);
        thread->context.uc_stack.ss_sp = thread->stack;
        thread->context.uc_stack.ss_size = STACK_BYTES;
        makecontext(&thread->context, thread_main, 0);
    }
}

static void run_once(void) {
    restore_state();
    start_threads();
    x->depth = x->preempted = x->points = 0;
    x->runs++;
    x->exploring = true;
    x->threads[EXPLORE_THREADS].finished = true; /* so it is no choice */
    unsigned first = choose();
    become(first);
    swapcontext(&x->frame, &x->threads[first].context);
    x->exploring = false;
    if (x->script->check != NULL) x->script->check();
}

/* The next row of choices; false after the last. */
static bool advance(void) {
    x->recorded = x->depth;
    while (x->recorded > 0) {
        struct choice *last = &x->choices[x->recorded - 1];
        if (++last->taken < last->options) return true;
        x->recorded--;
    }
    return false;
}

static void explore(const struct script *script) {
    x->script = script;
    for (x->count = 0; x->count < EXPLORE_THREADS && script->threads[x->count] != NULL;) x->count++;
    memcpy(__data_start, x->pristine, (size_t)(_end - __data_start));
    for (uint32_t i = 0; i < x->touched_count; i++) {
        memset(page_of(arena, i), 0, PAGE);
        memset(page_of(x->pages, i), 0, PAGE);
    }
    for (unsigned i = 0; i <= EXPLORE_THREADS; i++) memcpy(x->threads[i].tls, x->tls, tls_bytes);
    memcpy(tls_at, x->tls, tls_bytes);
    alarm(SECONDS);
    x->runs = x->recorded = x->points = 0;
    x->current = EXPLORE_THREADS;
    if (script->prepare != NULL) script->prepare();
    char *first = malloc(tls_bytes);
    memcpy(first, x->tls, tls_bytes);
    save_state();
    do {
        run_once();
    } while (advance());
    memcpy(x->tls, first, tls_bytes); /* thread-local variables as at the start, for the next */
    free(first);
    printf("%s: %lu orders, %u threads, at most %u preemptions\n", script->name, x->runs, x->count,
           script->preemptions);
    fflush(stdout);
}

/* ------------------------------------------------------------------ the kernel --------------- */

int __wrap_lu__os_reserve(size_t size, size_t align, void **out);
int __wrap_lu__os_map(size_t size, size_t align, void **out);
int __wrap_lu__os_unmap(void *at, size_t size);
int __wrap_lu__os_claim(void *at, size_t size);
int __wrap_lu__os_map_wiped(void **out);
int __wrap_lu__os_commit(void *at, size_t size);
int __wrap_lu__os_purge(void *at, size_t size);
size_t __wrap_lu__os_purge_many(const struct lu__os_range *ranges, size_t count);
bool __wrap_lu__os_wait(const uint32_t *word, uint32_t value);
void __wrap_lu__os_wake(const uint32_t *word, bool all);
uint64_t __wrap_lu__os_now_ms(void);
uint64_t __wrap_lu__os_random(void);
int __wrap_pthread_key_create(pthread_key_t *key, void (*function)(void *));
int __wrap_pthread_setspecific(pthread_key_t key, const void *value);

int __wrap_lu__os_reserve(size_t size, size_t align, void **out) {
    size_t at = lu__align_up((uintptr_t)arena + arena_used, align) - (uintptr_t)arena;
    if (size > ARENA_BYTES || at > ARENA_BYTES - size) return ENOMEM;
    arena_used = at + size;
    *out = arena + at;
    return 0;
}
int __wrap_lu__os_map(size_t size, size_t align, void **out) {
    return __wrap_lu__os_reserve(size, align, out);
}
int __wrap_lu__os_claim(void *at, size_t size) {
    size_t first = (size_t)((char *)at - arena); /* outside there is no memory that is saved */
    return first < ARENA_BYTES && size <= ARENA_BYTES - first ? 0 : EEXIST;
}
int __wrap_lu__os_map_wiped(void **out) {
    (void)out; /* its kernel is not one that copies processes */
    return ENOSYS;
}
int __wrap_lu__os_commit(void *at, size_t size) {
    (void)at, (void)size;
    return 0;
}
int __wrap_lu__os_purge(void *at, size_t size) {
    uintptr_t first = (uintptr_t)((char *)at - arena);
    for (uint32_t i = 0; i < x->touched_count; i++) {
        if ((size_t)x->touched[i] * PAGE - first < size) memset(page_of(arena, i), 0, PAGE);
    }
    return 0;
}
size_t __wrap_lu__os_purge_many(const struct lu__os_range *ranges, size_t count) {
    for (size_t i = 0; i < count; i++) (void)__wrap_lu__os_purge(ranges[i].at, ranges[i].size);
    return count;
}
int __wrap_lu__os_unmap(void *at, size_t size) {
    return __wrap_lu__os_purge(at, size);
}
bool __wrap_lu__os_wait(const uint32_t *word, uint32_t value) {
    interleave_point(word);
    if (*word != value) return false;
    if (!x->exploring) explore_fail("a lock is held where no thread runs");
    x->threads[x->current].waits = word;
    switch_to(choose());
    return false;
}
void __wrap_lu__os_wake(const uint32_t *word, bool all) {
    interleave_point(word);
    for (unsigned i = 0; i < x->count; i++) {
        if (x->threads[i].waits != word) continue;
        x->threads[i].waits = NULL;
        if (!all) return;
    }
}
uint64_t __wrap_lu__os_now_ms(void) {
    return 1000;
}
uint64_t __wrap_lu__os_random(void) {
    return 0x123456789abcdef0u;
}
int __wrap_pthread_key_create(pthread_key_t *key, void (*function)(void *)) {
    *key = 1;
    exit_function = function;
    return 0;
}
int __wrap_pthread_setspecific(pthread_key_t key, const void *value) {
    (void)key, (void)value;
    return 0;
}

void explore_thread_end(void) {
    exit_function(NULL);
}

/* ------------------------------------------------------------------ main --------------------- */

static void init(bool must_fail) {
    size_t data_bytes = (size_t)(_end - __data_start);
    dl_iterate_phdr(find_tls, NULL);
    x = calloc(1, sizeof *x);
    arena = mmap(NULL, ARENA_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (x == NULL || arena == MAP_FAILED || tls_at == NULL) exit(1);
    x->must_fail = must_fail;
    x->data = malloc(data_bytes);
    x->pristine = malloc(data_bytes);
    x->pages = calloc(1, ARENA_BYTES);
    x->tls = malloc((EXPLORE_THREADS + 1) * tls_bytes);
    for (unsigned i = 0; i <= EXPLORE_THREADS; i++) {
        x->threads[i].stack = malloc(STACK_BYTES);
        x->threads[i].tls = malloc(tls_bytes);
    }
    catch_signals();
    memcpy(x->tls, tls_at, tls_bytes);
    memcpy(x->pristine, __data_start, data_bytes);
}

static bool is_wanted(const char *name, int argc, char **argv) {
    bool any = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], name) == 0) return true;
        any |= argv[i][0] != '-';
    }
    return !any;
}

int main(int argc, char **argv) {
    init(argc > 1 && strcmp(argv[1], "--must-fail") == 0);
    unsigned long explored = 0;
    for (const struct script *script = scripts; script->name != NULL; script++) {
        if (!is_wanted(script->name, argc, argv)) continue;
        explore(script);
        explored++;
    }
    if (explored == 0) {
        printf("no such script\n");
        return 1;
    }
    if (x->must_fail) printf("FAIL: nothing was found, and something is broken on purpose\n");
    return x->must_fail ? 1 : 0;
}
