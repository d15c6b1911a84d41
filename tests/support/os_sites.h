/*
 * os_sites.h - names for the places from which the library asks the kernel for something.
 *
 * Included by force in front of every file of the library that is built for fault tests; the
 * product is built without. Each call of a function of os.h that can fail becomes the same call
 * between two notes, and leaves a record in the section `os_sites`, so that the list of all call
 * sites is made by the compiler. Inside the os layer (OS_SITES_KERNEL) the same is done with each
 * system call that changes memory, in the section `os_kernel_sites`.
 */
#ifndef OS_SITES_H
#define OS_SITES_H

#include "os/os.h"

/* The functions of os.h that can fail, and those that nobody checks. */
enum os_fault_call {
    OS_FAULT_RESERVE,
    OS_FAULT_CLAIM,
    OS_FAULT_COMMIT,
    OS_FAULT_PURGE,
    OS_FAULT_PURGE_MANY,
    OS_FAULT_MAP,
    OS_FAULT_UNMAP,
    OS_FAULT_REMAP,
    OS_FAULT_MOVE_OUT,
    OS_FAULT_PROTECT,
    OS_FAULT_RESIDENT,
    OS_FAULT_MAP_WIPED,
    OS_FAULT_CALLS
};

struct os_site {
    const char *file, *function;
    int line;
    enum os_fault_call call; /* of a site in the os layer: no meaning */
};

/* The thread is at a site; returns where it was before, for os_site_leave. */
struct os_site *const *os_site_enter(struct os_site *const *site);
void os_site_leave(struct os_site *const *before);
void os_site_kernel(struct os_site *const *site);

/* A lock was just taken (os/lock.h): as a system call, a place to interrupt the library. */
void os_fault_lock_taken(void);
#ifndef LU_LOCK_TAKEN /* in a test, os/lock.h may come first */
#define LU_LOCK_TAKEN(lock) os_fault_lock_taken()
#endif

/* Pointers, because the linker may leave gaps between larger objects of a section. */
#define OS_SITE_DEFINE(section_name, kind)                                     \
    static struct os_site os_site_here = {__FILE__, __func__, __LINE__, kind}; \
    static struct os_site *const os_site_ref                                   \
        __attribute__((section(section_name), used)) = &os_site_here

#ifndef OS_SITES_KERNEL

#define OS_SITE_AT(kind, called)                                             \
    ({                                                                       \
        OS_SITE_DEFINE("os_sites", kind);                                    \
        struct os_site *const *os_site_before = os_site_enter(&os_site_ref); \
        __typeof__(called) os_site_result = (called);                        \
        os_site_leave(os_site_before);                                       \
        os_site_result;                                                      \
    })

#define lu__os_reserve(...) OS_SITE_AT(OS_FAULT_RESERVE, lu__os_reserve(__VA_ARGS__))
#define lu__os_claim(...) OS_SITE_AT(OS_FAULT_CLAIM, lu__os_claim(__VA_ARGS__))
#define lu__os_commit(...) OS_SITE_AT(OS_FAULT_COMMIT, lu__os_commit(__VA_ARGS__))
#define lu__os_purge(...) OS_SITE_AT(OS_FAULT_PURGE, lu__os_purge(__VA_ARGS__))
#define lu__os_purge_many(...) OS_SITE_AT(OS_FAULT_PURGE_MANY, lu__os_purge_many(__VA_ARGS__))
#define lu__os_map(...) OS_SITE_AT(OS_FAULT_MAP, lu__os_map(__VA_ARGS__))
#define lu__os_unmap(...) OS_SITE_AT(OS_FAULT_UNMAP, lu__os_unmap(__VA_ARGS__))
#define lu__os_remap(...) OS_SITE_AT(OS_FAULT_REMAP, lu__os_remap(__VA_ARGS__))
#define lu__os_move_out(...) OS_SITE_AT(OS_FAULT_MOVE_OUT, lu__os_move_out(__VA_ARGS__))
#define lu__os_protect(...) OS_SITE_AT(OS_FAULT_PROTECT, lu__os_protect(__VA_ARGS__))
#define lu__os_map_wiped(...) OS_SITE_AT(OS_FAULT_MAP_WIPED, lu__os_map_wiped(__VA_ARGS__))
#define lu__os_resident(...) OS_SITE_AT(OS_FAULT_RESIDENT, lu__os_resident(__VA_ARGS__))

#else

#include "os/kernel.h"

#define lu__kernel_memory_call(...)                        \
    ({                                                     \
        OS_SITE_DEFINE("os_kernel_sites", OS_FAULT_CALLS); \
        os_site_kernel(&os_site_ref);                      \
        lu__kernel_memory_call(__VA_ARGS__);               \
    })

#endif
#endif
