/*
 * limits.c - little address space, little data, no large reservations: works, or NULL with ENOMEM.
 *
 * The program starts itself again under a limit, so that the allocator meets it from its first
 * call: RLIMIT_AS or RLIMIT_DATA at what the program needs plus 64 MiB, and a seccomp filter that
 * refuses every mmap above some length, which is what overcommit mode 2 does to large reservations.
 * There it fills memory until NULL, checks every block, frees and fills again. Nothing may be lost,
 * and what was freed must be usable again, also in other sizes and by other threads.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "family.h"

enum { BLOCKS_MAX = 200000, THREADS = 3 };

static size_t room; /* 64 MiB, or less by CHECK_SCALE */

struct fill {
    void **blocks; /* from mmap-like static memory, not from malloc */
    uint32_t *sizes;
    size_t count, bytes, most;
};

static void *main_blocks[BLOCKS_MAX];
static uint32_t main_sizes[BLOCKS_MAX];

/* Allocate blocks until there is no memory, or `bytes_max` are had. */
static void fill_up(struct fill *fill, uint64_t seed, unsigned bits, size_t bytes_max) {
    uint64_t state = seed;
    fill->count = fill->bytes = 0;
    while (fill->bytes < bytes_max && fill->count < fill->most) {
        size_t size = ((size_t)1 << (bits - 1)) + check_random(&state) % ((size_t)1 << (bits - 1));
        const struct family *family = &family_table[fill->count % 2 == 0 ? 0 : 2];
        errno = 0;
        void *block = family->alloc(size);
        if (block == NULL) {
            CHECK_THAT(errno == ENOMEM, "%s gave NULL with errno %d", family->name, errno);
            return;
        }
        if (family->zeroed) CHECK_ZERO(block, size);
        check_fill(block, size, fill->count);
        fill->blocks[fill->count] = block;
        fill->sizes[fill->count++] = (uint32_t)size;
        fill->bytes += size;
    }
}

static void check_all(const struct fill *fill) {
    for (size_t i = 0; i < fill->count; i++) CHECK_FILLED(fill->blocks[i], fill->sizes[i], i);
}

static void free_all(struct fill *fill) {
    check_all(fill);
    for (size_t i = 0; i < fill->count; i++) free(fill->blocks[i]);
    fill->count = 0;
}

/* Full: every function fails cleanly, realloc leaves its block, small frees make room. */
static void at_the_edge(struct fill *fill) {
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        errno = 0;
        void *block = check_hidden(family_table[f].alloc(3 * room));
        CHECK_THAT(block == NULL, "%s gave %zu MiB beyond the limit", family_table[f].name,
                   3 * room / CHECK_MIB);
        CHECK_EQ(errno, ENOMEM);
    }
    for (size_t i = 0; i < fill->count; i += fill->count / 50 + 1) {
        errno = 0;
        CHECK(realloc(check_hidden(fill->blocks[i]), 3 * room) == NULL);
        CHECK_EQ(errno, ENOMEM);
    }
    check_all(fill);
    size_t part = fill->count / 2, again = 0;
    for (size_t i = part; i < fill->count; i++) free(fill->blocks[i]);
    for (size_t i = part; i < fill->count; i++, again++) {
        fill->blocks[i] = malloc(fill->sizes[i]);
        if (fill->blocks[i] == NULL) break;
        check_fill(fill->blocks[i], fill->sizes[i], i);
    }
    CHECK_THAT(again >= (fill->count - part) * 9 / 10,
               "%zu blocks freed at the limit, only %zu of the same sizes to be had after",
               fill->count - part, again);
    fill->count = part + again;
    check_all(fill);
}

static void *thread_body(void *arg) {
    size_t part = BLOCKS_MAX / THREADS, first = (size_t)(uintptr_t)arg * part;
    struct fill fill = {main_blocks + first, main_sizes + first, 0, 0, part};
    for (int round = 0; round < 2; round++) {
        fill_up(&fill, (uint64_t)round, 13, room);
        free_all(&fill);
    }
    return NULL;
}

static size_t threads_at_limit(void) {
    pthread_t threads[THREADS];
    pthread_attr_t attr;
    size_t started = 0;
    CHECK_EQ(pthread_attr_init(&attr), 0);
    CHECK_EQ(pthread_attr_setstacksize(&attr, 128 * CHECK_KIB), 0);
    for (; started < THREADS; started++) {
        if (pthread_create(&threads[started], &attr, thread_body, (void *)started) != 0) break;
    }
    for (size_t i = 0; i < started; i++) CHECK_EQ(pthread_join(threads[i], NULL), 0);
    return started;
}

/* Runs under the limit. `limited`: memory must end, at about `room`. */
static void under_limit(bool limited) {
    struct fill fill = {main_blocks, main_sizes, 0, 0, BLOCKS_MAX};
    size_t most = limited ? 4 * room : room / 2;
    fill_up(&fill, 1, 12, most);
    size_t first = fill.bytes;
    CHECK_THAT(first >= room / 4, "only %zu KiB of %zu", first / 1024, room / 1024);
    CHECK_THAT(!limited || first < 2 * room, "%zu MiB: the limit does not hold", first / CHECK_MIB);
    if (limited) at_the_edge(&fill);
    free_all(&fill);
    malloc_trim(0);
    fill_up(&fill, 2, 12, most);
    size_t second = fill.bytes;
    free_all(&fill);
    CHECK_THAT(second >= first / 10 * 9, "%zu KiB at first, %zu when all was freed", first / 1024,
               second / 1024);
    malloc_trim(0);
    fill_up(&fill, 3, 19, most);
    size_t large = fill.bytes;
    free_all(&fill);
    CHECK_THAT(large >= first / 2, "%zu KiB in small blocks, then %zu in large ones", first / 1024,
               large / 1024);
    malloc_trim(0);
    size_t threads = threads_at_limit();
    malloc_trim(0);
    fill_up(&fill, 4, 12, most);
    size_t last = fill.bytes;
    free_all(&fill);
    /* glibc keeps what they came to have in the arenas of finished threads, as data that counts. */
    CHECK_THAT(!check_strict || last >= first / 2, "%zu KiB at first, %zu after %zu threads",
               first / 1024, last / 1024, threads);
    check_passed("  %zu MiB in small blocks, again %zu, in large %zu, after %zu threads %zu",
                 first / CHECK_MIB, second / CHECK_MIB, large / CHECK_MIB, threads,
                 last / CHECK_MIB);
}

/* ------------------------------------------------------------------ the parent --------------- */

/* What this program needs without a heap: files, stack and static data; or only what of it is
   private and writable, as RLIMIT_DATA counts. */
static size_t needed_bytes(bool data_only) {
    size_t total = 2 * CHECK_MIB; /* the loader's own, thread stacks of threads_at_limit */
    char line[600];
    FILE *maps = fopen("/proc/self/maps", "r");
    CHECK(maps != NULL);
    while (fgets(line, sizeof line, maps) != NULL) {
        unsigned long from, to;
        char access[8], path[400] = "";
        CHECK(sscanf(line, "%lx-%lx %7s %*s %*s %*s %399s", &from, &to, access, path) >= 3);
        bool own_heap = path[0] == '\0' || strcmp(path, "[heap]") == 0;
        bool writable = access[1] == 'w' && access[3] == 'p';
        if (!own_heap && (!data_only || writable)) total += to - from;
    }
    fclose(maps);
    /* Static data of this program beyond its file, which has no path in the list. */
    return total + sizeof main_blocks + sizeof main_sizes;
}

/* Refuse mmap of `bytes_max` bytes and more, and mremap to as many. */
static void refuse_large_maps(unsigned bytes_max) {
    enum {
        NR = offsetof(struct seccomp_data, nr),
        LENGTH = offsetof(struct seccomp_data, args[1]),
        NEW_LENGTH = offsetof(struct seccomp_data, args[2])
    };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NR),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LENGTH + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 7),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LENGTH),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, bytes_max, 5, 6),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NEW_LENGTH + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NEW_LENGTH),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, bytes_max, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {CHECK_COUNT_OF(code), code};
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_THAT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0,
               "no seccomp filter can be set (errno %d): this test needs it", errno);
}

struct trial {
    const char *name;
    int resource;       /* RLIMIT_AS, RLIMIT_DATA, or -1 */
    unsigned bytes_max; /* of one mmap, with -1          */
};

static const struct trial trials[] = {
    {"RLIMIT_AS at need + 64 MiB", RLIMIT_AS, 0}, {"RLIMIT_DATA at need + 64 MiB", RLIMIT_DATA, 0},
    {"no mmap of 1 GiB", -1, 1u << 30},           {"no mmap of 100 MiB", -1, 100u << 20},
    {"no mmap of 8 MiB", -1, 8u << 20},
};

static void run_trial(const struct trial *trial, char **argv) {
    bool limited = trial->resource >= 0;
    size_t limit = limited ? needed_bytes(trial->resource == RLIMIT_DATA) + room : 0;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (limited) {
            struct rlimit bound = {limit, limit};
            CHECK_EQ(setrlimit((__rlimit_resource_t)trial->resource, &bound), 0);
        } else {
            refuse_large_maps(trial->bytes_max);
        }
        char limited_word[] = "--limited", refused_word[] = "--refused", strict_word[] = "--strict";
        char *arguments[] = {argv[0], limited ? limited_word : refused_word,
                             check_strict ? strict_word : NULL, NULL};
        execv("/proc/self/exe", arguments);
        check_failed(__FILE__, __LINE__, "execv: errno %d", errno);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK_THAT(status == 0, "with %s: status 0x%x", trial->name, (unsigned)status);
    check_passed("%s", trial->name);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    room = check_amount(64 * CHECK_MIB);
    if (room < 16 * CHECK_MIB) room = 16 * CHECK_MIB;
    if (argc >= 2 && strcmp(argv[1], "--limited") == 0) {
        under_limit(true);
        return 0;
    }
    if (argc >= 2 && strcmp(argv[1], "--refused") == 0) {
        under_limit(false);
        return 0;
    }
    for (size_t i = 0; i < CHECK_COUNT_OF(trials); i++) run_trial(&trials[i], argv);
    return 0;
}
