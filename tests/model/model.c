/*
 * model.c - millions of random operations on a heap, each checked against a shadow of it.
 *
 *     model [--seed N] [--ops N] [--threads N]
 *
 * Every thread runs its share of the operations in epochs; between them all threads end and new
 * ones go on with the same tables, so blocks outlive their threads. With one thread a seed gives
 * the same run again; with more, the same decisions in another order. At the end every block is
 * checked and freed. The first difference ends the program with FILE:LINE; the seed is in the first
 * line of output.
 *
 * With MODEL_FAULTS the kernel refuses in the first epochs: one call in a hundred, one in five,
 * all, and again one in a hundred. Then allocations may give NULL with ENOMEM; in the last epoch
 * none may.
 */
#include <argp.h>
#include <pthread.h>
#include <time.h>

#include "model.h"

enum { EPOCHS = 5 };

static struct arguments {
    uint64_t seed, ops;
    size_t threads;
} arguments = {.seed = 0, .ops = 6000000, .threads = 4};

static struct thread threads[MODEL_THREADS]; /* not on the heap under test */

#ifdef MODEL_FAULTS

#include "os_fault.h"

static bool refusing;

bool model_refused(const void *block) {
    return block == NULL && refusing && errno == ENOMEM;
}

static void plan_epoch(int epoch) {
    static const size_t rates[EPOCHS] = {100, 5, 1, 100, 0};
    refusing = rates[epoch] != 0;
    if (refusing) {
        os_fault_one_in(rates[epoch], arguments.seed);
    } else {
        os_fault_none();
    }
}

static void report_faults(void) {
    size_t failed = 0;
    for (int call = 0; call < OS_FAULT_CALLS; call++) {
        failed += os_fault_failed((enum os_fault_call)call);
    }
    CHECK_THAT(failed >= 100, "only %zu calls were refused", failed);
    check_passed("%zu system calls were refused", failed);
}

#else

bool model_refused(const void *block) {
    (void)block;
    return false;
}
static void plan_epoch(int epoch) {
    (void)epoch;
}
static void report_faults(void) {
}

#endif

static uint64_t number(const char *text, struct argp_state *state) {
    char *end;
    uint64_t value = strtoull(text, &end, 0);
    if (end == text || *end != '\0') argp_error(state, "not a number: %s", text);
    return value;
}

static error_t parse(int key, char *text, struct argp_state *state) {
    switch (key) {
    case 's':
        arguments.seed = number(text, state);
        return 0;
    case 'o':
        arguments.ops = number(text, state);
        return 0;
    case 't':
        arguments.threads = number(text, state);
        if (arguments.threads < 1 || arguments.threads > MODEL_THREADS) {
            argp_error(state, "from 1 to %d threads", MODEL_THREADS);
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static void read_arguments(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"seed", 's', "N", 0, "begin of the random numbers (default: another one each time)", 0},
        {"ops", 'o', "N", 0, "operations of all threads together (default 6000000)", 0},
        {"threads", 't', "N", 0, "threads at a time (default 4)", 0},
        {0},
    };
    static const struct argp argp = {options, parse, NULL, "Check a heap against a shadow of it.",
                                     NULL,    NULL,  NULL};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    arguments.seed = (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec + (uint64_t)getpid();
    if (argp_parse(&argp, argc, argv, 0, NULL, NULL) != 0) exit(1);
}

static void *thread_body(void *arg) {
    struct thread *thread = arg;
    for (uint64_t i = 0; i < thread->ops; i++) model_step(thread);
    return NULL;
}

static void run_epoch(void) {
    pthread_t handles[MODEL_THREADS];
    for (size_t i = 0; i < arguments.threads; i++) {
        CHECK_EQ(pthread_create(&handles[i], NULL, thread_body, &threads[i]), 0);
    }
    for (size_t i = 0; i < arguments.threads; i++) CHECK_EQ(pthread_join(handles[i], NULL), 0);
}

static void end_thread(struct thread *thread) {
    for (size_t i = 0; i < MODEL_SLOTS; i++) {
        struct slot *slot = &thread->slots[i];
        if (slot->block != NULL && (slot->heap == 0 || slot->heap > MODEL_OWN_HEAPS)) {
            model_free_slot(thread, slot);
        }
    }
    model_own_thread_fini(thread);
    CHECK_EQ(thread->live, 0);
}

int main(int argc, char **argv) {
    read_arguments(argc, argv);
    check_begin(1, argv);
    check_passed("seed %llu, %llu operations, %zu threads", (unsigned long long)arguments.seed,
                 (unsigned long long)arguments.ops, arguments.threads);
    model_own_init();
    for (size_t i = 0; i < arguments.threads; i++) {
        threads[i].random = arguments.seed * 1000 + i;
        threads[i].ops = arguments.ops / arguments.threads / EPOCHS;
        model_own_thread_init(&threads[i]);
    }
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        plan_epoch(epoch);
        run_epoch();
        model_own_check();
        check_passed("epoch %d: resident %zu MiB", epoch + 1, check_rss_bytes() / CHECK_MIB);
    }
    for (size_t i = 0; i < arguments.threads; i++) end_thread(&threads[i]);
    model_empty_cells();
    model_own_fini();
    report_faults();
    check_passed("every block was where and what it had to be");
    return 0;
}
