/*
 * os_linux.c - os.h for Linux.
 *
 * System calls are made directly, so that errno is never touched and no wrapper of libc runs, which
 * might allocate, or which another library might replace. The only state is the number of random
 * words that were requested.
 */
#include "os/os.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "base/siphash.h"
#include "os/kernel.h"

/* Of the kernel's interface; not every libc brings its headers. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_COLD
#define MADV_COLD 20
#endif
#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef GRND_NONBLOCK
#define GRND_NONBLOCK 1
#endif
#ifndef CLONE_VM
#define CLONE_VM 0x100
#endif
enum { FUTEX_WAIT_HERE = 0 | 128, FUTEX_WAKE_HERE = 1 | 128 }; /* of this process only */

static int map_pages(void *hint, size_t size, int protection, int flags, void **out) {
    long result = lu__kernel_memory_call(SYS_mmap, (long)hint, (long)size, protection,
                                         MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (lu__kernel_failed(result)) return (int)-result;
    *out = (void *)result;
    return 0;
}

int lu__os_unmap(void *at, size_t size) {
    return (int)-lu__kernel_memory_call(SYS_munmap, (long)at, (long)size, 0, 0, 0, 0);
}

/* Map `size` bytes at a multiple of `align`, and give the surplus back. */
static int map_aligned(size_t size, size_t align, int protection, int flags, void **out) {
    int error = map_pages(NULL, size, protection, flags, out);
    if (error != 0 || ((uintptr_t)*out & (align - 1)) == 0) return error;
    if (lu__os_unmap(*out, size) != 0) return ENOMEM; /* too many mappings: leave it reserved */
    size_t padded = size + align;
    if (padded < size) return ENOMEM;
    error = map_pages(NULL, padded, protection, flags, out);
    if (error != 0) return error;
    char *start = *out;
    char *aligned = (char *)lu__align_up((uintptr_t)start, align);
    /* If the margins cannot be given back they stay as unused address space: no harm. */
    if (aligned > start) lu__os_unmap(start, (size_t)(aligned - start));
    size_t behind = padded - size - (size_t)(aligned - start);
    if (behind > 0) lu__os_unmap(aligned + size, behind);
    *out = aligned;
    return 0;
}

int lu__os_reserve(size_t size, size_t align, void **out) {
    return map_aligned(size, align, PROT_NONE, MAP_NORESERVE, out);
}

int lu__os_map(size_t size, size_t align, void **out) {
    return map_aligned(size, align, PROT_READ | PROT_WRITE, 0, out);
}

int lu__os_claim(void *at, size_t size) {
    void *got;
    int error = map_pages(at, size, PROT_READ | PROT_WRITE, MAP_FIXED_NOREPLACE, &got);
    if (error != 0 || got == at) return error;
    lu__os_unmap(got, size); /* a kernel before 4.17 takes the address for a hint */
    return EEXIST;
}

uintptr_t lu__os_place(void) {
    uintptr_t vdso = getauxval(AT_SYSINFO_EHDR); /* the kernel has put it there: no call */
    if (vdso != 0) return vdso;
    void *at;
    if (map_pages(NULL, LU_OS_PAGE, PROT_NONE, MAP_NORESERVE, &at) != 0) return 0;
    lu__os_unmap(at, LU_OS_PAGE); /* else a page of addresses is lost */
    return (uintptr_t)at;
}

int lu__os_map_wiped(void **out) {
    int error = map_pages(NULL, LU_OS_PAGE, PROT_READ | PROT_WRITE, 0, out);
    if (error != 0) return error;
    error = (int)-lu__kernel_memory_call(SYS_madvise, (long)*out, (long)LU_OS_PAGE, MADV_WIPEONFORK,
                                         0, 0, 0);
    if (error != 0) lu__os_unmap(*out, LU_OS_PAGE);
    return error;
}

int lu__os_commit(void *at, size_t size) {
    return (int)-lu__kernel_memory_call(SYS_mprotect, (long)at, (long)size, PROT_READ | PROT_WRITE,
                                        0, 0, 0);
}

int lu__os_protect(void *at, size_t size) {
    return (int)-lu__kernel_memory_call(SYS_mprotect, (long)at, (long)size, PROT_NONE, 0, 0, 0);
}

int lu__os_resident(const void *at, size_t size, unsigned char *there) {
    return (int)-lu__kernel_memory_call(SYS_mincore, (long)at, (long)size, (long)there, 0, 0, 0);
}

int lu__os_purge(void *at, size_t size) {
    return (int)-lu__kernel_memory_call(SYS_madvise, (long)at, (long)size, MADV_DONTNEED, 0, 0, 0);
}

size_t lu__os_purge_many(const struct lu__os_range *ranges, size_t count) {
    /* Not process_madvise: a fifth faster, but sandboxes kill a process for calls they do not
     * know, and they know madvise. */
    for (size_t i = 0; i < count; i++) {
        if (lu__os_purge(ranges[i].at, ranges[i].size) != 0) return i;
    }
    return count;
}

int lu__os_remap(void *at, size_t old_size, size_t new_size, void **out) {
    long result = lu__kernel_memory_call(SYS_mremap, (long)at, (long)old_size, (long)new_size,
                                         MREMAP_MAYMOVE, 0, 0);
    if (lu__kernel_failed(result)) return (int)-result;
    *out = (void *)result;
    return 0;
}

/* True if the memory is locked, or if that cannot be known. */
static bool is_locked(void *at) {
    /* A hint without consequence, which the kernel refuses for locked memory (since 5.4). */
    return lu__kernel_memory_call(SYS_madvise, (long)at, (long)LU_OS_PAGE, MADV_COLD, 0, 0, 0) != 0;
}

int lu__os_move_out(void *from, size_t size, size_t room, void **out) {
    void *wish;
    if (is_locked(from)) return EINVAL;
    /* Where is room for all of it? The answer is only a hint: if another thread maps there
     * meanwhile, the kernel takes another place. */
    int error = map_pages(NULL, room, PROT_NONE, MAP_NORESERVE, &wish);
    if (error != 0) return error;
    if (lu__os_unmap(wish, room) != 0) return ENOMEM; /* too many mappings: leave it reserved */
    long result = lu__kernel_memory_call(SYS_mremap, (long)from, (long)size, (long)size,
                                         MREMAP_MAYMOVE | MREMAP_DONTUNMAP, (long)wish, 0);
    if (lu__kernel_failed(result)) return (int)-result;
    *out = (void *)result;
    return 0;
}

bool lu__os_alone(void) {
    /* A request without effect that the kernel grants only to a process that shares its memory with
     * no other. */
    return lu__syscall(SYS_unshare, CLONE_VM, 0, 0, 0, 0, 0) == 0;
}

uint64_t lu__os_now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* cannot fail: served by the vDSO */
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* Where the auxiliary vector has no random bytes. */
static LU_COLD struct lu__siphash_key ask_for_key(void) {
    struct lu__siphash_key key;
    long got = lu__syscall(SYS_getrandom, (long)&key, sizeof key, GRND_NONBLOCK, 0, 0, 0);
    if (got != sizeof key) { /* a kernel before 3.17, or not started yet: what differs at least */
        key.words[0] = (uintptr_t)&key;
        key.words[1] = lu__os_now_ms();
    }
    return key;
}

/* The kernel leaves 16 random bytes for every process it starts: no system call. libc makes its
 * stack canary and its pointer guard from the same bytes, so nobody who sees some of our numbers
 * may be able to compute those bytes, or our other numbers. */
uint64_t lu__os_random(void) {
    static uint64_t count;
    const void *given = (const void *)getauxval(AT_RANDOM);
    struct lu__siphash_key key;
    if (LU_LIKELY(given != NULL)) {
        __builtin_memcpy(&key, given, sizeof key); /* they need not be aligned */
    } else {
        key = ask_for_key();
    }
    /* The address tells several copies of the library in a process apart. */
    uint64_t which[2] = {(uintptr_t)&count, __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED)};
    return lu__siphash(2, 4, &key, which, LU_COUNT_OF(which));
}

static size_t limit_of(int resource) {
    struct rlimit limit;
    if (lu__syscall(SYS_prlimit64, 0, resource, 0, (long)&limit, 0, 0) != 0) return SIZE_MAX;
    return limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : (size_t)limit.rlim_cur;
}

size_t lu__os_address_space_limit(void) {
    return LU_MIN(limit_of(RLIMIT_AS), limit_of(RLIMIT_DATA));
}

bool lu__os_wait(const uint32_t *word, uint32_t value) {
    const struct timespec timeout = {.tv_nsec = LU_OS_WAIT_MS * 1000000};
    return lu__syscall(SYS_futex, (long)word, FUTEX_WAIT_HERE, (long)value, (long)&timeout, 0, 0) ==
           -ETIMEDOUT;
}

void lu__os_wake(const uint32_t *word, bool all) {
    (void)lu__syscall(SYS_futex, (long)word, FUTEX_WAKE_HERE, all ? INT32_MAX : 1, 0, 0, 0);
}

void lu__os_write(int fd, const char *text, size_t length) {
    while (length > 0) {
        long done = lu__syscall(SYS_write, fd, (long)text, (long)length, 0, 0, 0);
        if (done == -EINTR) continue;
        if (done <= 0) return;
        text += done;
        length -= (size_t)done;
    }
}
