/*
 * os_failure.c - the kernel refuses, and malloc goes on.
 *
 * A seccomp filter makes munmap, madvise, mprotect, mremap or mmap fail, each alone and all
 * together, in a child of its own that holds thousands of blocks. From then on free must keep
 * errno, blocks must keep their contents, and an allocation gives a block or NULL with ENOMEM.
 * That is what a process meets at vm.max_map_count, under a memory cgroup or in a strict sandbox.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "check.h"
#include "family.h"

enum { KEPT = 1500, FREED = 3000, CALLS_MAX = 6 };

struct scenario {
    const char *name;
    int error;
    int calls[CALLS_MAX]; /* system calls that fail; ends with 0, so read(2) cannot be one */
};

static const struct scenario scenarios[] = {
    {"munmap fails with ENOMEM", ENOMEM, {SYS_munmap}},
    {"madvise fails with EINVAL", EINVAL, {SYS_madvise, SYS_process_madvise}},
    {"madvise fails with EAGAIN", EAGAIN, {SYS_madvise, SYS_process_madvise}},
    {"mprotect fails with ENOMEM", ENOMEM, {SYS_mprotect}},
    {"mremap fails with ENOMEM", ENOMEM, {SYS_mremap}},
    {"mmap fails with ENOMEM", ENOMEM, {SYS_mmap}},
    {"mmap and mprotect fail with ENOMEM", ENOMEM, {SYS_mmap, SYS_mprotect}},
    {"munmap, madvise and mprotect fail with EPERM",
     EPERM,
     {SYS_munmap, SYS_madvise, SYS_process_madvise, SYS_mprotect}},
    {"all of them fail with ENOMEM",
     ENOMEM,
     {SYS_munmap, SYS_madvise, SYS_process_madvise, SYS_mprotect, SYS_mremap, SYS_mmap}},
};

static void *kept[KEPT], *freed[FREED];
static size_t kept_bytes[KEPT], freed_bytes[FREED];

static void refuse(const struct scenario *scenario) {
    struct sock_filter code[2 * CALLS_MAX + 2];
    unsigned short used = 0;
    code[used++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CALLS_MAX && scenario->calls[i] != 0; i++) {
        code[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
                                                    (unsigned)scenario->calls[i], 0, 1);
        code[used++] = (struct sock_filter)BPF_STMT(
            BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)scenario->error & SECCOMP_RET_DATA));
    }
    code[used++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {used, code};
    CHECK_THAT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no PR_SET_NO_NEW_PRIVS");
    CHECK_THAT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0,
               "no seccomp filter can be set (errno %d): this test needs it", errno);
}

/* Mostly small, some of pages, a few of megabytes. */
static size_t some_size(uint64_t *state, size_t i) {
    unsigned bits = i % 150 == 0 ? 23 : i % 12 == 0 ? 18 : 11;
    return check_random_size(state, bits);
}

static void fill_heap(uint64_t *state) {
    for (size_t i = 0; i < FREED; i++) {
        freed_bytes[i] = some_size(state, i);
        freed[i] = malloc(freed_bytes[i]);
        CHECK(freed[i] != NULL);
        check_fill(freed[i], freed_bytes[i], i);
        if (i >= KEPT) continue;
        kept_bytes[i] = some_size(state, i);
        kept[i] = malloc(kept_bytes[i]);
        CHECK(kept[i] != NULL);
        check_fill(kept[i], kept_bytes[i], i + FREED);
    }
}

static void free_with_errno(void *block, int value) {
    errno = value;
    free(block);
    CHECK_THAT(errno == value, "free(%p) changed errno from %d to %d", block, value, errno);
}

static void check_kept(void) {
    for (size_t i = 0; i < KEPT; i++) CHECK_FILLED(kept[i], kept_bytes[i], i + FREED);
}

/* Resize every kept block to a random size; a failure leaves it as it is. */
static void resize_kept(uint64_t *state) {
    for (size_t i = 0; i < KEPT; i++) {
        size_t size = some_size(state, i) + 1;
        errno = 0;
        void *block = realloc(check_hidden(kept[i]), size);
        if (block == NULL) {
            CHECK_EQ(errno, ENOMEM);
            CHECK_FILLED(kept[i], kept_bytes[i], i + FREED);
            continue;
        }
        size_t same = size < kept_bytes[i] ? size : kept_bytes[i];
        CHECK_FILLED(block, same / 8 * 8, i + FREED);
        kept[i] = block;
        kept_bytes[i] = size;
        check_fill(block, size, i + FREED);
    }
}

static void allocate_anew(uint64_t *state) {
    size_t got = 0, refused = 0;
    for (size_t i = 0; i < FREED; i++) {
        const struct family *family = &family_table[i % FAMILY_COUNT];
        freed_bytes[i] = some_size(state, i);
        errno = 0;
        freed[i] = family->alloc(freed_bytes[i]);
        if (freed[i] == NULL) {
            CHECK_THAT(errno == ENOMEM, "%s gave NULL with errno %d", family->name, errno);
            refused++;
            continue;
        }
        CHECK_ALIGNED(freed[i], family->alignment);
        if (family->zeroed) CHECK_ZERO(freed[i], freed_bytes[i]);
        check_fill(freed[i], freed_bytes[i], i);
        got++;
    }
    for (size_t i = 0; i < FREED; i++) {
        if (freed[i] == NULL) continue;
        CHECK_FILLED(freed[i], freed_bytes[i], i);
        free_with_errno(freed[i], -7);
    }
    CHECK_THAT(got > FREED / 2, "only %zu of %d blocks, although as many were free", got, FREED);
    check_passed("  afterwards %zu blocks allocated, %zu times NULL with ENOMEM", got, refused);
}

static void run(const struct scenario *scenario) {
    uint64_t state = 99;
    fill_heap(&state);
    refuse(scenario);
    for (size_t k = 0; k < FREED; k++) {
        size_t i = k * 1009 % FREED;
        CHECK_FILLED(freed[i], freed_bytes[i], i);
        free_with_errno(freed[i], (int)(k % 3) * 4711 - 1);
    }
    malloc_trim(0);
    check_kept();
    resize_kept(&state);
    allocate_anew(&state);
    check_kept();
    for (size_t i = 0; i < KEPT; i++) free_with_errno(kept[i], 77);
    malloc_trim(0);
    check_passed("%s: errno kept, contents kept", scenario->name);
}

int main(int argc, char **argv) {
    check_begin(argc, argv);
    for (size_t i = 0; i < CHECK_COUNT_OF(scenarios); i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            run(&scenarios[i]);
            _exit(0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK_THAT(status == 0, "when %s: the child ended with status 0x%x", scenarios[i].name,
                   (unsigned)status);
    }
    return 0;
}
