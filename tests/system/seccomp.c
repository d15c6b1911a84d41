/*
 * seccomp.c - a program that may make a few system calls only.
 *
 *     seccomp kill|EPERM|ENOSYS|count CALL,CALL... WORK [FILE]
 *
 * From the first line of main on all other calls than those named (and exit_group, by which it
 * ends) kill it with SIGSYS, or fail. Then it does WORK with whatever malloc is preloaded. Nothing
 * can be printed: it ends with 0, or with 3 and more where a result was wrong. seccomp.py knows
 * what each work needs. With `count` they fail with EPERM, and there may not be very many.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "lucid/lucid.h"

#define WEAK __attribute__((weak))
#define MUST(fact) ((fact) ? (void)0 : _exit(3 + __LINE__ % 250))
#define CALLS_MOST 64

static const struct {
    const char *name;
    unsigned number;
} names[] = {
#define CALL(name) \
    { #name, SYS_##name }
    CALL(mmap),         CALL(munmap),      CALL(mprotect),      CALL(madvise),
    CALL(mremap),       CALL(mincore),     CALL(futex),         CALL(write),
    CALL(unshare),      CALL(read),        CALL(openat),        CALL(close),
    CALL(getpid),       CALL(gettid),      CALL(tgkill),        CALL(prlimit64),
    CALL(rt_sigaction), CALL(sched_yield), CALL(clock_gettime), CALL(rt_sigprocmask),
    CALL(getrandom),    CALL(pread64),     CALL(fcntl),         CALL(ftruncate),
    CALL(fallocate),    CALL(linkat),      CALL(unlinkat),      CALL(newfstatat),
    CALL(msync),        CALL(clone),       CALL(clone3),        CALL(set_robust_list),
    CALL(rseq),         CALL(exit),        CALL(exit_group),    CALL(rt_sigreturn),
#undef CALL
};

/* ------------------------------------------------------------------ the filter --------------- */

static struct sock_filter code[2 * CALLS_MOST + 8];
static unsigned short used;

static void emit(uint16_t op, uint32_t k, uint8_t jump_true, uint8_t jump_false) {
    code[used++] = (struct sock_filter){op, jump_true, jump_false, k};
}

static void allow(const char *name) {
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i].name, name) != 0) continue;
        emit(BPF_JMP | BPF_JEQ | BPF_K, names[i].number, 0, 1);
        emit(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0);
        return;
    }
    fprintf(stderr, "seccomp: no call '%s' is known\n", name);
    exit(2);
}

static void build_filter(char *calls, uint32_t otherwise) {
    emit(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0, 0);
    allow("exit_group");
    for (char *name = strtok(calls, ","); name != NULL; name = strtok(NULL, ",")) allow(name);
    emit(BPF_RET | BPF_K, otherwise, 0, 0);
}

static void close_door(void) {
    struct sock_fprog program = {used, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0) {
        return;
    }
    fprintf(stderr, "seccomp: no filter can be set (errno %d): this test needs it\n", errno);
    exit(2);
}

/* ------------------------------------------------------------------ refused calls counted ---- */

enum { REFUSALS_MOST = 150000 };
static unsigned long refusals;

static void refuse(int signal, siginfo_t *info, void *context) {
    ucontext_t *at = context;
    (void)signal, (void)info;
    refusals++;
#ifdef __x86_64__
    at->uc_mcontext.gregs[REG_RAX] = -EPERM;
#else
    at->uc_mcontext.regs[0] = (unsigned long)-EPERM;
#endif
}

static void count_refusals(void) {
    struct sigaction action = {.sa_sigaction = refuse, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSYS, &action, NULL) != 0) exit(2);
}

/* ------------------------------------------------------------------ works -------------------- */

static void *hidden(void *pointer) {
    __asm__ volatile("" : "+r"(pointer) : : "memory");
    return pointer;
}

static void *filled(size_t size, int byte) {
    void *block = hidden(malloc(size));
    MUST(block != NULL);
    return memset(block, byte, size);
}

static bool is_filled(const unsigned char *block, size_t size, int byte) {
    return block[0] == byte && block[size / 2] == byte && block[size - 1] == byte;
}

/* Every function of malloc(3) on small and large blocks: some 20 MB, which grows more than once. */
static void churn(void) {
    enum { BLOCKS = 6000 };
    static __thread unsigned char *blocks[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i % 500 == 0 ? 200000 : 1 + i * 7 % 6000;
        blocks[i] = i % 3 == 0 ? hidden(calloc(1, size)) : filled(size, (int)(i % 250));
        if (i % 3 == 0) MUST(is_filled(blocks[i], size, 0));
    }
    for (size_t i = 1; i < BLOCKS; i += 3) {
        size_t size = i % 500 == 0 ? 200000 : 1 + i * 7 % 6000;
        MUST(is_filled(blocks[i], size, (int)(i % 250)));
        blocks[i] = hidden(realloc(blocks[i], size + size / 2));
        MUST(blocks[i] != NULL && is_filled(blocks[i], size, (int)(i % 250)));
    }
    for (size_t i = 0; i < BLOCKS; i += 2) free(blocks[i]);
    for (size_t i = 0; i < BLOCKS; i += 2) blocks[i] = filled(1 + i % 900, 7);
    for (size_t i = 0; i < BLOCKS; i++) free(blocks[i]);
    void *aligned = hidden(aligned_alloc(4096, 8192));
    MUST(((uintptr_t)aligned & 4095) == 0);
    free(aligned);
}

static void small(void) {
    churn();
    for (int i = 0; i < 3; i++) free(filled((size_t)40 << 20, 5)); /* each a mapping */
    free(hidden(malloc(0)));
    churn();
}

/* More than was there before. */
static void large(void) {
    static unsigned char *blocks[100];
    for (int i = 0; i < 100; i++) blocks[i] = filled(1000000, i);
    churn();
    for (int i = 0; i < 100; i++) {
        MUST(is_filled(blocks[i], 1000000, i));
        free(blocks[i]);
    }
}

/* All that the system gives, twice. */
static void full(void) {
    enum { MOST = 2000 };
    static void *blocks[MOST];
    for (int round = 0; round < 2; round++) {
        size_t count = 0;
        while (count < MOST && (blocks[count] = hidden(malloc(1000000))) != NULL) count++;
        MUST(count > 300 && count < MOST);
        while (count > 0) free(blocks[--count]);
    }
}

static void *in_thread(void *block) {
    free(block);
    churn();
    return filled(100, 9);
}

static void threads(void) {
    enum { THREADS = 4, ROUNDS = 2 };
    pthread_t thread[THREADS];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < THREADS; i++) {
            MUST(pthread_create(&thread[i], NULL, in_thread, filled(100, 1)) == 0);
        }
        for (int i = 0; i < THREADS; i++) {
            void *block;
            MUST(pthread_join(thread[i], &block) == 0);
            free(block);
        }
    }
}

static void purge(void) {
    small();
    (void)malloc_trim(0);
    small();
}

static void resize(void) {
    for (int i = 0; i < 3; i++) {
        unsigned char *block = filled(600000, 3), *behind = filled(600000, 4);
        size_t size = 600000;
        for (; size < (size_t)100 << 20; size += size / 2) {
            block = hidden(realloc(block, size + size / 2));
            MUST(block != NULL && is_filled(block, size, 3));
            memset(block, 3, size + size / 2);
        }
        for (; size > 1000; size /= 3) {
            block = hidden(realloc(block, size / 3));
            MUST(block != NULL && is_filled(block, size / 3, 3));
        }
        free(block);
        free(behind);
    }
}

static void misuse(void) {
    char *block = filled(100, 1), *other = filled(100, 2);
    free(block);
    free(hidden(block));
    free(hidden(other + 16));
    free(other);
}

static bool go_on(const lu_violation_t *violation, void *arg) {
    (void)violation;
    ++*(int *)arg;
    return true;
}

extern void lu_set_violation_handler(lu_violation_fn *handler, void *arg) WEAK;
extern lu_store_t *lu_heap_open_file(const char *path, const lu_store_config_t *config,
                                     lu_store_fault_t *fault) WEAK;
extern lu_store_t *lu_heap_open_shared(const lu_store_config_t *config,
                                       lu_store_fault_t *fault) WEAK;
extern int lu_store_alloc_to(lu_store_t *store, uint64_t *slot, size_t size) WEAK;
extern void *lu_store_malloc(lu_store_t *store, size_t size) WEAK;
extern int lu_store_free(lu_store_t *store, void *block) WEAK;
extern size_t lu_store_purge(lu_store_t *store) WEAK;
extern int lu_store_sync(lu_store_t *store) WEAK;
extern int lu_store_close(lu_store_t *store) WEAK;

static void handler(void) {
    int calls = 0;
    lu_set_violation_handler(go_on, &calls);
    misuse();
    MUST(calls == 2);
}

static const char *file;

static void use_store(lu_store_t *store) {
    MUST(store != NULL);
    void *block = lu_store_malloc(store, 5 << 20);
    MUST(block != NULL);
    MUST(lu_store_alloc_to(store, NULL, 1000) == 0);
    MUST(lu_store_free(store, block) == 0);
    (void)lu_store_purge(store);
    MUST(lu_store_sync(store) == 0);
    MUST(lu_store_close(store) == 0);
}

static void store(void) {
    for (int i = 0; i < 2; i++) use_store(lu_heap_open_file(file, NULL, NULL));
    use_store(lu_heap_open_shared(NULL, NULL));
}

static void nothing(void) {
    free(filled(100, 1));
}

static const struct {
    const char *name;
    void (*run)(void);
    void (*before)(void); /* done while all calls may be made */
} works[] = {
    {"nothing", nothing, NULL}, {"small", small, NULL},     {"late", large, churn},
    {"threads", threads, NULL}, {"purge", purge, NULL},     {"resize", resize, NULL},
    {"misuse", misuse, NULL},   {"handler", handler, NULL}, {"store", store, NULL},
    {"full", full, NULL},
};

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr,
                "usage: seccomp kill|EPERM|ENOSYS|count CALLS WORK [FILE | ulimit:BYTES]\n");
        return 2;
    }
    bool kills = strcmp(argv[1], "kill") == 0, counts = strcmp(argv[1], "count") == 0;
    uint32_t error = strcmp(argv[1], "ENOSYS") == 0 ? ENOSYS : EPERM;
    if (counts) count_refusals();
    build_filter(argv[2], kills    ? SECCOMP_RET_KILL_PROCESS
                          : counts ? SECCOMP_RET_TRAP
                                   : SECCOMP_RET_ERRNO | error);
    file = argc > 4 ? argv[4] : NULL;
    if (file != NULL && strncmp(file, "ulimit:", 7) == 0) {
        struct rlimit limit = {strtoul(file + 7, NULL, 10), RLIM_INFINITY};
        if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
    }
    struct rlimit none = {0, 0}; /* no core file of who is killed */
    if (setrlimit(RLIMIT_CORE, &none) != 0) return 2;
    for (size_t i = 0; i < sizeof works / sizeof works[0]; i++) {
        if (strcmp(works[i].name, argv[3]) != 0) continue;
        if (works[i].before != NULL) works[i].before();
        close_door();
        works[i].run();
        MUST(refusals <= REFUSALS_MOST);
        return 0;
    }
    fprintf(stderr, "seccomp: no work '%s'\n", argv[3]);
    return 2;
}
