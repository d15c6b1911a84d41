/*
 * os_kernel.c - another kernel than that of this machine: with larger pages, or one that moves
 * pages less well or not at all.
 *
 * Linked with --wrap for the two functions through which the library meets the kernel: what
 * lu__os_page_read learns, and every call that changes mappings. By the environment:
 *
 *   LUCID_TEST_PAGE=16384 or 65536   The page size is that. Mappings begin at multiples of it, and
 *       an address or a size that is not a multiple ends the program with a line that says which
 *       call it was. Sizes are held to more than the kernel asks, which rounds them up: what the
 *       library believes of a mapping's end must be right.
 *   LUCID_TEST_NO_MOVE=1   mremap does not know MREMAP_DONTUNMAP, as before Linux 5.7. User-mode
 *       QEMU takes it, and believes that the old place is unmapped.
 *
 *   LUCID_TEST_OLD_MOVE=1   A move of pages that lie in two mappings fails, as from Linux 5.7 to
 *       6.16, after what MREMAP_FIXED names was unmapped.
 *
 * Without these nothing changes, but that calls for a fixed address end the program (os_fixed.h).
 * The first question may come before libc has an environment, so it is read from /proc. Nothing is
 * allocated; no lock: what was found is found again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/format.h"
#include "os/kernel.h"
#include "os/os.h"
#include "os_fixed.h"

long __real_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f);
size_t __wrap_lu__os_page_read(void);

/* The value of `name` in /proc/self/environ, a decimal number; 0 if it is not there. */
static size_t environment_number(const char *name) {
    static const char path[] = "/proc/self/environ";
    char text[1024];
    size_t matched = 0, length = strlen(name), value = 0;
    bool in_name = true, in_value = false;
    long fd = lu__syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0), got;
    if (fd < 0) return 0;
    while ((got = lu__syscall(SYS_read, fd, (long)text, sizeof text, 0, 0, 0)) > 0) {
        for (long i = 0; i < got; i++) {
            char c = text[i];
            if (in_value && c >= '0' && c <= '9') value = value * 10 + (size_t)(c - '0');
            if (in_name && matched == length && c == '=') in_value = true;
            in_name = in_name && matched < length && c == name[matched];
            matched += in_name;
            if (c != '\0') continue;
            in_name = true;
            in_value = false;
            matched = 0;
        }
    }
    (void)lu__syscall(SYS_close, fd, 0, 0, 0, 0, 0);
    return value;
}

size_t __wrap_lu__os_page_read(void) {
    size_t page = getauxval(AT_PAGESZ), wanted = environment_number("LUCID_TEST_PAGE");
    if (wanted != 0 && (!lu__is_pow2(wanted) || wanted < page || wanted > LU_OS_PAGE_MOST)) {
        lu__print(2, "os_kernel: LUCID_TEST_PAGE=%zu is no page size here\n", wanted);
        abort();
    }
    if (wanted != 0) page = wanted;
    __atomic_store_n(&lu__os_page_bytes, page, __ATOMIC_RELAXED);
    return page;
}

static void require(bool condition, const char *call, long at, long size) {
    if (condition) return;
    lu__print(2, "os_kernel: %s(%p, %zu) is not in pages of %zu bytes\n", call, (void *)at,
              (size_t)size, lu__os_page());
    abort();
}

static bool in_pages(long value) {
    return ((size_t)value & (lu__os_page() - 1)) == 0;
}

/* Fresh memory at a multiple of the page size, wherever the real kernel would have put it. */
static long map_in_pages(long size, long protection, long flags) {
    long page = (long)lu__os_page();
    if (size <= 0 || size > INT64_MAX - page) return -ENOMEM;
    long all = __real_lu__kernel_memory_call(SYS_mmap, 0, size + page, protection, flags, -1, 0);
    if (lu__kernel_failed(all)) return all;
    long at = (long)lu__align_up((size_t)all, (size_t)page), behind = all + page - at;
    if (at > all) (void)__real_lu__kernel_memory_call(SYS_munmap, all, at - all, 0, 0, 0, 0);
    if (behind > 0) (void)__real_lu__kernel_memory_call(SYS_munmap, at + size, behind, 0, 0, 0, 0);
    return at;
}

/* mremap that moves to a multiple of the page size. */
static long remap_in_pages(long at, long old_size, long size, long flags) {
    long result = __real_lu__kernel_memory_call(SYS_mremap, at, old_size, size,
                                                flags & ~MREMAP_MAYMOVE, 0, 0);
    if (!lu__kernel_failed(result) || (flags & MREMAP_MAYMOVE) == 0) return result;
    long to = map_in_pages(size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    if (lu__kernel_failed(to)) return to;
    result = __real_lu__kernel_memory_call(SYS_mremap, at, old_size, size, flags | MREMAP_FIXED, to,
                                           0);
    if (lu__kernel_failed(result)) { /* perhaps it did that already */
        (void)__real_lu__kernel_memory_call(SYS_munmap, to, size, 0, 0, 0, 0);
    }
    return result;
}

/* True if the environment sets the variable; *answer, 0 at first, keeps it. */
static bool is_set(const char *name, int *answer) {
    int known = __atomic_load_n(answer, __ATOMIC_RELAXED);
    if (known == 0) known = environment_number(name) != 0 ? 2 : 1;
    __atomic_store_n(answer, known, __ATOMIC_RELAXED);
    return known == 2;
}

/* True if the kernel lists a mapping that holds all of [at, at + size). */
static bool in_one_mapping(size_t at, size_t size) {
    static const char path[] = "/proc/self/maps";
    char text[1024];
    size_t bounds[2] = {0, 0}, part = 0; /* 2: behind them */
    bool found = false;
    long fd = lu__syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0), got;
    if (fd < 0) return false;
    while ((got = lu__syscall(SYS_read, fd, (long)text, sizeof text, 0, 0, 0)) > 0) {
        for (long i = 0; i < got; i++) {
            char c = text[i];
            if (c == '\n') {
                found = found || (bounds[0] <= at && at + size <= bounds[1]);
                part = bounds[0] = bounds[1] = 0;
            } else if (part < 2 && (c == '-' || c == ' ')) {
                part++;
            } else if (part < 2) {
                bounds[part] = bounds[part] * 16 + (size_t)(c <= '9' ? c - '0' : c - 'a' + 10);
            }
        }
    }
    (void)lu__syscall(SYS_close, fd, 0, 0, 0, 0, 0);
    return found;
}

/* What an older kernel says to moving pages away from a mapping that stays; 0: it does it. */
static long older_move(long at, long old_size, long size, long flags, long to) {
    static int no_move, old_move;
    if ((flags & MREMAP_DONTUNMAP) == 0) return 0;
    if (is_set("LUCID_TEST_NO_MOVE", &no_move)) return -EINVAL;
    if (!is_set("LUCID_TEST_OLD_MOVE", &old_move)) return 0;
    if (in_one_mapping((size_t)at, (size_t)old_size)) return 0;
    if ((flags & MREMAP_FIXED) != 0) {
        (void)__real_lu__kernel_memory_call(SYS_munmap, to, size, 0, 0, 0, 0);
    }
    return -EFAULT;
}

long __wrap_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f) {
    os_fixed_check(number, d);
    long refused = number == SYS_mremap ? older_move(a, b, c, d, e) : 0;
    if (refused != 0) return refused;
    if (lu__os_page() == getauxval(AT_PAGESZ)) {
        return __real_lu__kernel_memory_call(number, a, b, c, d, e, f);
    }
    switch (number) {
    case SYS_mmap:
        require(in_pages(a) && in_pages(b), "mmap", a, b);
        if (e == -1 && (d & MAP_FIXED_NOREPLACE) == 0) return map_in_pages(b, c, d);
        break;
    case SYS_munmap:
        require(in_pages(a) && in_pages(b), "munmap", a, b);
        break;
    case SYS_mprotect:
        require(in_pages(a) && in_pages(b), "mprotect", a, b);
        break;
    case SYS_madvise:
        require(in_pages(a) && in_pages(b), "madvise", a, b);
        break;
    case SYS_mremap:
        require(in_pages(a) && in_pages(b) && in_pages(c), "mremap", a, b);
        return remap_in_pages(a, b, c, d);
    default:
        require(false, "a call that it does not know", number, 0);
    }
    return __real_lu__kernel_memory_call(number, a, b, c, d, e, f);
}
