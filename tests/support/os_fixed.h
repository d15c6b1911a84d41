/* os_fixed.h - no call of the library may unmap or replace what is not its own; for os_fault.c and
 * os_kernel.c, which stand between it and the kernel. */
#ifndef OS_FIXED_H
#define OS_FIXED_H

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "base/format.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* Ends the program if the call, whose fourth argument is `flags`, asks for a fixed address: the
 * kernel then unmaps what is there, and may refuse the rest. */
static inline void os_fixed_check(long number, long flags) {
    const char *call = number == SYS_mmap && (flags & MAP_FIXED) != 0 ? "mmap(MAP_FIXED)"
                       : number == SYS_mremap && (flags & MREMAP_FIXED) != 0
                           ? "mremap(MREMAP_FIXED)"
                           : NULL;
    if (call == NULL) return;
    lu__print(2, "os: the library calls %s\n", call);
    abort();
}

#endif
