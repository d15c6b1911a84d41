/*
 * unload.c - a module that contains lucid comes and goes, and the program goes on.
 *
 *     unload rounds MODULE.so    more often than there are keys of threads' data (1024): used by
 *                                the main thread, by one that ends after the module is gone, and
 *                                by one that lives through all rounds
 *     unload elsewhere MODULE.so the call of dlclose is on a stack that tells nothing of who called
 *     unload handlers MODULE.so  with guard_sample: the handler of SIGSEGV, which the program keeps
 *
 * Nothing of the module may be called once it is gone, blocks that the program still has can be
 * read, and neither mappings nor memory grow.
 */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/wait.h>
#include <ucontext.h>

#include "check.h"

enum { ROUNDS = 1100, EARLY = 50, ALL_SECONDS = 250 };

static const char *path;

struct module {
    void *handle;
    void *(*make)(size_t size);
    void (*end)(void *block);
    void (*work)(unsigned seed);
};

static struct module load(void) {
    struct module module = {.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL)};
    CHECK_THAT(module.handle != NULL, "%s", dlerror());
    module.make = (void *(*)(size_t))check_symbol(module.handle, "module_make");
    module.end = (void (*)(void *))check_symbol(module.handle, "module_end");
    module.work = (void (*)(unsigned))check_symbol(module.handle, "module_work");
    return module;
}

static bool is_loaded(void) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (handle != NULL) (void)dlclose(handle);
    return handle != NULL;
}

/* ------------------------------------------------------------------ threads ------------------ */

/* Works when told to, any number of times, and ends when told to. */
struct worker {
    pthread_t thread;
    sem_t go, done;
    const struct module *module; /* NULL: end */
    void *block;                 /* of another thread, to be freed */
    unsigned round;
};

static void wait_for(sem_t *semaphore) {
    while (sem_wait(semaphore) != 0) CHECK_EQ(errno, EINTR);
}

static void *worker_body(void *arg) {
    struct worker *worker = arg;
    for (;;) {
        wait_for(&worker->go);
        if (worker->module == NULL) return NULL;
        worker->module->end(worker->block);
        worker->module->work(worker->round);
        CHECK_EQ(sem_post(&worker->done), 0);
    }
}

static void worker_begin(struct worker *worker) {
    CHECK_EQ(sem_init(&worker->go, 0, 0), 0);
    CHECK_EQ(sem_init(&worker->done, 0, 0), 0);
    CHECK_EQ(pthread_create(&worker->thread, NULL, worker_body, worker), 0);
}

static void worker_use(struct worker *worker, const struct module *module, unsigned round) {
    worker->module = module;
    worker->round = round;
    worker->block = module->make(round % 3000);
    CHECK_EQ(sem_post(&worker->go), 0);
    wait_for(&worker->done);
}

static void worker_end(struct worker *worker) {
    worker->module = NULL;
    CHECK_EQ(sem_post(&worker->go), 0);
    CHECK_EQ(pthread_join(worker->thread, NULL), 0);
}

/* ------------------------------------------------------------------ rounds ------------------- */

/* What the process has: lines of /proc/self/maps, and bytes of address space. */
struct size {
    size_t mappings, bytes;
};

static struct size measure(void) {
    struct size size = {0, 0};
    char line[600];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx", &from, &to) != 2) continue;
        size.mappings++;
        size.bytes += to - from;
    }
    CHECK_EQ(fclose(maps), 0);
    return size;
}

static void there_and_back(unsigned round, struct worker *lasting) {
    struct worker brief;
    struct module module = load();
    module.work(round);
    worker_begin(&brief);
    worker_use(&brief, &module, round);
    worker_use(lasting, &module, round);
    CHECK_EQ(dlclose(module.handle), 0);
    worker_end(&brief);
}

static void fork_once(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) _exit(0);
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void rounds(void) {
    struct worker lasting;
    struct size early = {0, 0}, late;
    size_t early_rss = 0, count = check_amount(ROUNDS);
    worker_begin(&lasting);
    for (unsigned i = 0; i < count; i++) {
        there_and_back(i, &lasting);
        if (i % 100 == 0) fork_once();
        if (i == EARLY) early = measure(), early_rss = check_rss_bytes();
    }
    CHECK_THAT(!is_loaded(), "%s is still there", path);
    late = measure();
    size_t late_rss = check_rss_bytes();
    worker_end(&lasting);
    CHECK_THAT(late.mappings <= early.mappings + 8, "%zu mappings, later %zu", early.mappings,
               late.mappings);
    CHECK_THAT(late.bytes <= early.bytes + 64 * CHECK_MIB, "%zu MiB of addresses, later %zu",
               early.bytes / CHECK_MIB, late.bytes / CHECK_MIB);
    CHECK_THAT(late_rss <= early_rss + 4 * CHECK_MIB, "%zu KiB resident, later %zu",
               early_rss / 1024, late_rss / 1024);
    check_passed("%zu times there and back: %zu mappings, %zu MiB of addresses, %zu KiB resident",
                 count, late.mappings, late.bytes / CHECK_MIB, late_rss / 1024);
}

static void keep_blocks(void) {
    static const size_t sizes[] = {1, 24, 500, 30000, 50000, 300000, (size_t)40 << 20};
    unsigned char *blocks[CHECK_COUNT_OF(sizes)];
    struct module module = load();
    module.work(1);
    for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
        blocks[i] = module.make(sizes[i]);
        CHECK(blocks[i] != NULL);
    }
    CHECK_EQ(dlclose(module.handle), 0);
    for (size_t i = 0; i < CHECK_COUNT_OF(sizes); i++) {
        for (size_t k = 0; k < sizes[i]; k++) CHECK(blocks[i][k] == 0x5a);
        blocks[i][sizes[i] / 2] = 1;
    }
    check_passed("blocks that were not freed outlive the module");
}

/* ------------------------------------------------------------------ elsewhere ---------------- */

static ucontext_t here, there;
static void *to_close;

static void close_there(void) {
    CHECK_EQ(dlclose(to_close), 0);
}

/* On a coroutine's stack. Only the memory may stay. */
static void elsewhere(void) {
    static char stack[1 << 18];
    static unsigned i; /* what a context switch cannot disturb */
    for (i = 0; i < 20; i++) {
        struct worker worker;
        struct module module = load();
        worker_begin(&worker);
        worker_use(&worker, &module, i);
        module.work(i);
        CHECK_EQ(getcontext(&there), 0);
        there.uc_stack.ss_sp = stack + 16 * i;
        there.uc_stack.ss_size = sizeof stack - 1024;
        there.uc_link = &here;
        makecontext(&there, close_there, 0);
        to_close = module.handle;
        CHECK_EQ(swapcontext(&here, &there), 0);
        worker_end(&worker); /* after the module's code is gone */
    }
    CHECK_THAT(!is_loaded(), "%s is still there", path);
    fork_once();
    check_passed("unloaded from a stack that tells nothing");
}

/* ------------------------------------------------------------------ handlers ----------------- */

static sigjmp_buf back;
static struct sigaction before;

static void first_handler(int signal_number) {
    siglongjmp(back, signal_number);
}

/* Calls what it found, as handlers of crash reporters do. */
static void second_handler(int signal_number, siginfo_t *info, void *context) {
    if ((before.sa_flags & SA_SIGINFO) != 0) {
        before.sa_sigaction(signal_number, info, context);
    } else {
        before.sa_handler(signal_number);
    }
}

static void fault(void) {
    if (sigsetjmp(back, 1) != 0) return;
    *(volatile char *)check_hidden((void *)16) = 1;
    CHECK_THAT(false, "no fault");
}

static void handlers(void) {
    struct sigaction action = {.sa_handler = first_handler};
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
    for (unsigned i = 0; i < 3; i++) {
        struct module module = load();
        module.work(i);
        fault();
        CHECK_EQ(dlclose(module.handle), 0);
        fault();
    }
    struct module module = load();
    module.work(1);
    action.sa_sigaction = second_handler;
    action.sa_flags = SA_SIGINFO;
    CHECK_EQ(sigaction(SIGSEGV, &action, &before), 0);
    CHECK_THAT((before.sa_flags & SA_SIGINFO) != 0, "no block was guarded");
    CHECK_EQ(dlclose(module.handle), 0);
    fault();
    check_passed("handlers of SIGSEGV in front of and behind the module's");
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    CHECK_THAT(argc >= 3, "usage: unload rounds|elsewhere|handlers MODULE.so");
    check_alarm(ALL_SECONDS);
    path = argv[2];
    if (strcmp(argv[1], "rounds") == 0) {
        rounds();
        keep_blocks();
    } else if (strcmp(argv[1], "elsewhere") == 0) {
        elsewhere();
    } else {
        handlers();
    }
    return 0;
}
