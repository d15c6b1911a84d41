/* syscall_aarch64.h - how a thread of aarch64 enters the kernel, and how it waits. For kernel.h. */
#ifndef LU_SYSCALL_AARCH64_H
#define LU_SYSCALL_AARCH64_H

#include "base/base.h"

/* The system call; its result, or a negated errno value. The kernel keeps all registers but x0. */
LU_INLINE long lu__syscall(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}

/* In a loop that waits for another thread. `yield` is a no-op on most cores; a barrier of
 * instructions takes about as long as x86's pause. */
LU_INLINE void lu__cpu_pause(void) {
    __asm__ volatile("isb" : : : "memory");
}

#endif
