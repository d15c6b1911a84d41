/* os_fault.h - a system layer that fails on demand; see os_fault.c. */
#ifndef LU_OS_FAULT_H
#define LU_OS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum os_fault_call {
    OS_FAULT_RESERVE,
    OS_FAULT_COMMIT,
    OS_FAULT_PURGE,
    OS_FAULT_PURGE_MANY,
    OS_FAULT_RENEW,
    OS_FAULT_MAP,
    OS_FAULT_UNMAP,
    OS_FAULT_REMAP,
    OS_FAULT_MOVE_PAGES,
    OS_FAULT_CALLS
};

/* All calls succeed again. */
void os_fault_none(void);
/* Calls from the `n`-th on (from 1, all kinds counted together) fail. */
void os_fault_from(size_t n);
/* One call in `n` fails, at random with the seed. */
void os_fault_one_in(size_t n, uint64_t seed);
/* Only calls of these kinds fail (bits 1 << call); all by default. */
void os_fault_only(unsigned calls);
/* Calls seen since the last change of the plan, and failures so far of one kind. */
size_t os_fault_seen(void);
size_t os_fault_failed(enum os_fault_call call);

#endif
