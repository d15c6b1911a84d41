/* syscall_x86_64.h - how a thread of x86-64 enters the kernel, and how it waits. For kernel.h. */
#ifndef LU_SYSCALL_X86_64_H
#define LU_SYSCALL_X86_64_H

#include "base/base.h"

/* The system call; its result, or a negated errno value. */
LU_INLINE long lu__syscall(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* In a loop that waits for another thread. */
LU_INLINE void lu__cpu_pause(void) {
    __builtin_ia32_pause();
}

#endif
