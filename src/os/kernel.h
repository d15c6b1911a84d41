/*
 * kernel.h - the way into the kernel, for the files of this layer and classic/area.c.
 *
 * What differs between processors is in one header each: lu__syscall and lu__cpu_pause. To port
 * lucid, write another (docs/PORTABILITY.md has the list of what else there is).
 */
#ifndef LU_KERNEL_H
#define LU_KERNEL_H

#include "base/base.h"

#if defined(__x86_64__) && defined(__LP64__)
#include "os/syscall_x86_64.h"
#elif defined(__aarch64__) && defined(__LP64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#include "os/syscall_aarch64.h"
#else
#error "lucid runs on 64-bit x86-64 and little-endian aarch64 only: see docs/PORTABILITY.md"
#endif

/* A system call that changes memory: counted. Its result, or a negated errno value. The library
 * changes mappings only through this function, so that tests can intercept the calls. */
long lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f);

LU_INLINE bool lu__kernel_failed(long result) {
    return result < 0 && result > -4096; /* errno values end below 4096, whatever a page is */
}

#endif
