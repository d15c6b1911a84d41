/*
 * kernel.c - what the system layer knows of the kernel: the size of its pages, and the number of
 * system calls for memory.
 *
 * The page size is read when it is first needed, from the auxiliary vector that the kernel gives
 * every process. That takes no system call, allocates nothing, and works at any moment, also before
 * the constructors. The size never changes, so threads that read it at the same time write the same
 * number.
 *
 * No lock.
 */
#include "os/kernel.h"

#include <sys/auxv.h>

#include "os/os.h"

size_t lu__os_page_bytes;
static size_t call_count;

size_t lu__os_page_read(void) {
    size_t page = getauxval(AT_PAGESZ);
    /* The vector does not have it: multiples of the largest size are multiples of all. */
    if (!lu__is_pow2(page) || page < LU_OS_PAGE_LEAST) page = LU_OS_PAGE_MOST;
    __atomic_store_n(&lu__os_page_bytes, page, __ATOMIC_RELAXED);
    return page;
}

long lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f) {
    __atomic_fetch_add(&call_count, 1, __ATOMIC_RELAXED);
    return lu__syscall(number, a, b, c, d, e, f);
}

size_t lu__os_call_count(void) {
    return __atomic_load_n(&call_count, __ATOMIC_RELAXED);
}
