/* os_fault.h - a kernel that refuses on demand; see os_fault.c. */
#ifndef LU_OS_FAULT_H
#define LU_OS_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os_sites.h"

/* Plans. Each replaces the one before; the calls that are counted are system calls that change
 * memory, from 1, all kinds together. */

/* All calls succeed again, of all kinds. */
void os_fault_none(void);
/* Calls from the `n`-th on fail; only the `n`-th fails. */
void os_fault_from(size_t n);
void os_fault_once(size_t n);
/* One call in `n` fails, at random with the seed. */
void os_fault_one_in(size_t n, uint64_t seed);
/* As under vm.overcommit_memory=2: at most `bytes` are writable at a time, and no reservation of
 * more than `reserve_most` bytes is given. To be called before the library has mapped anything. */
void os_fault_budget(size_t bytes, size_t reserve_most);
/* At every place where the library wants to claim addresses somebody is already; or not, again. */
void os_fault_occupied(bool occupied);
/* Only calls for functions of these kinds fail (bits 1 << call); all by default. */
void os_fault_only(unsigned calls);
/* Calls since the last change of the plan; failures so far of one kind. */
size_t os_fault_seen(void);
size_t os_fault_failed(enum os_fault_call call);

/* Called in front of each system call with its number since the last change of the plan, the kind
 * of function that it is made for, and whether this process is at that place of the library for the
 * first time; in the middle of the library, as a signal handler would be. May change the plan.
 * NULL: nothing is called. */
typedef void os_fault_hook_fn(size_t number, enum os_fault_call call, bool first);
void os_fault_hook(os_fault_hook_fn *hook);

/* Called after every lock of the library that was taken. NULL: nothing is called. */
typedef void os_fault_lock_fn(void);
void os_fault_lock_hook(os_fault_lock_fn *hook);

/* Count failures for forked children, too, and for programs that they become. To be called once,
 * first. */
void os_fault_share(void);
/* Print every call site with how often it was reached and failed. Returns how many have never
 * failed. */
size_t os_fault_report(void);
/* True if this function of os.h gets its call sites listed. */
bool os_fault_knows(const char *name, size_t length);

#endif
