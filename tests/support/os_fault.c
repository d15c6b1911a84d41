/*
 * os_fault.c - a kernel that refuses on demand.
 *
 *     heap, span   lu__os_commit(...)        a site of os_sites.h: who asks, and for what
 *     os           lu__kernel_memory_call    --wrap: arrives here, fails by plan or goes on
 *     kernel
 *
 * Failing means ENOMEM, with what a kernel may have done by then: mprotect has changed a front part
 * of its range, madvise has dropped one, a call for a fixed address has unmapped what was there.
 * The library must live with the first two; it makes no call of the last kind, which ends the
 * program. A call for a place where nothing is fails with EEXIST every other time, or always. What
 * is decided is one system call, so that also a function of os.h that makes several can fail in its
 * middle. A failure counts for the site in the library and for the site in the os layer that it
 * came from. Thread safe, but for changes of the plan.
 */
#include "os_fault.h"
#include "os_fixed.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum plan { PLAN_NONE, PLAN_FROM, PLAN_ONCE, PLAN_ONE_IN, PLAN_BUDGET };
enum { SITES_MOST = 256 };

struct counts {
    size_t reached, failed;
};
struct table {
    struct counts sites[SITES_MOST], kernel_sites[SITES_MOST];
    size_t failed[OS_FAULT_CALLS];
};

extern struct os_site *const __start_os_sites[], *const __stop_os_sites[];
extern struct os_site *const __start_os_kernel_sites[], *const __stop_os_kernel_sites[];

static const char *const names[OS_FAULT_CALLS] = {
    "lu__os_reserve",    "lu__os_claim",   "lu__os_commit",   "lu__os_purge",
    "lu__os_purge_many", "lu__os_map",     "lu__os_unmap",    "lu__os_remap",
    "lu__os_move_out",   "lu__os_protect", "lu__os_resident", "lu__os_map_wiped"};

static struct table own_table, *table = &own_table;
static enum plan plan;
static size_t parameter, seen, budget, reserve_most;
static unsigned only = ~0u;
static uint64_t random_state;
static bool occupied;
static os_fault_hook_fn *hook;
static os_fault_lock_fn *lock_hook;

static bool been_here[SITES_MOST]; /* not shared: of this process */

static __thread struct os_site *const *site;
static __thread struct os_site *const *kernel_site;

/* ------------------------------------------------------------------ sites -------------------- */

struct os_site *const *os_site_enter(struct os_site *const *entered) {
    struct os_site *const *before = site;
    site = entered;
    return before;
}

void os_site_leave(struct os_site *const *before) {
    site = before;
}

void os_site_kernel(struct os_site *const *entered) {
    kernel_site = entered;
}

static enum os_fault_call kind_here(void) {
    return site != NULL ? (*site)->call : OS_FAULT_CALLS;
}

static void count(bool failed) {
    if (site != NULL) {
        struct counts *counts = &table->sites[site - __start_os_sites];
        __atomic_fetch_add(failed ? &counts->failed : &counts->reached, 1, __ATOMIC_RELAXED);
        if (failed) __atomic_fetch_add(&table->failed[(*site)->call], 1, __ATOMIC_RELAXED);
    }
    if (kernel_site != NULL) {
        struct counts *counts = &table->kernel_sites[kernel_site - __start_os_kernel_sites];
        __atomic_fetch_add(failed ? &counts->failed : &counts->reached, 1, __ATOMIC_RELAXED);
    }
}

void os_fault_share(void) {
    static const char variable[] = "OS_FAULT_TABLE"; /* its descriptor, for programs to come */
    char text[16];
    const char *given = getenv(variable);
    int fd = given != NULL ? atoi(given) : memfd_create("os_fault", 0);
    if (fd < 0 || ftruncate(fd, sizeof *table) != 0) abort();
    snprintf(text, sizeof text, "%d", fd);
    setenv(variable, text, 1);
    void *shared = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) abort();
    table = shared;
}

static enum os_fault_call kind_named(const char *name, size_t length) {
    enum os_fault_call kind = 0;
    while (kind < OS_FAULT_CALLS &&
           (strncmp(names[kind], name, length) != 0 || names[kind][length] != '\0')) {
        kind++;
    }
    return kind;
}

bool os_fault_knows(const char *name, size_t length) {
    return kind_named(name, length) < OS_FAULT_CALLS;
}

/* False for what the os layer offers and nobody in the library calls. */
static bool is_used(const char *function) {
    enum os_fault_call kind = kind_named(function, strlen(function));
    for (struct os_site *const *at = __start_os_sites; at < __stop_os_sites; at++) {
        if ((*at)->call == kind) return true;
    }
    return kind == OS_FAULT_CALLS;
}

static size_t report_sites(struct os_site *const *begin, struct os_site *const *end,
                           const struct counts *counts) {
    size_t never = 0;
    for (size_t i = 0; begin + i < end; i++) {
        bool missed = counts[i].failed == 0 && is_used(begin[i]->function);
        const char *file = strstr(begin[i]->file, "src/");
        never += missed;
        printf("%s%s:%d: %s: reached %zu times, failed %zu\n", missed ? "NEVER FAILED: " : "",
               file != NULL ? file : begin[i]->file, begin[i]->line, begin[i]->function,
               counts[i].reached, counts[i].failed);
    }
    return never;
}

size_t os_fault_report(void) {
    if (__stop_os_sites - __start_os_sites > SITES_MOST) abort();
    return report_sites(__start_os_sites, __stop_os_sites, table->sites) +
           report_sites(__start_os_kernel_sites, __stop_os_kernel_sites, table->kernel_sites);
}

/* ------------------------------------------------------------------ plans -------------------- */

static void set_plan(enum plan new_plan, size_t value) {
    __atomic_store_n(&plan, PLAN_NONE, __ATOMIC_RELAXED);
    __atomic_store_n(&parameter, value, __ATOMIC_RELAXED);
    __atomic_store_n(&seen, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&plan, new_plan, __ATOMIC_RELAXED);
}

void os_fault_none(void) {
    set_plan(PLAN_NONE, 0);
    os_fault_only(~0u);
}
void os_fault_from(size_t n) {
    set_plan(PLAN_FROM, n);
}
void os_fault_once(size_t n) {
    set_plan(PLAN_ONCE, n);
}
void os_fault_one_in(size_t n, uint64_t seed) {
    __atomic_store_n(&random_state, seed | 1, __ATOMIC_RELAXED);
    set_plan(PLAN_ONE_IN, n);
}
void os_fault_budget(size_t bytes, size_t most) {
    budget = bytes;
    reserve_most = most;
    set_plan(PLAN_BUDGET, 0);
}
void os_fault_occupied(bool now) {
    __atomic_store_n(&occupied, now, __ATOMIC_RELAXED);
}
void os_fault_only(unsigned calls) {
    __atomic_store_n(&only, calls, __ATOMIC_RELAXED);
}
size_t os_fault_seen(void) {
    return __atomic_load_n(&seen, __ATOMIC_RELAXED);
}
size_t os_fault_failed(enum os_fault_call call) {
    return __atomic_load_n(&table->failed[call], __ATOMIC_RELAXED);
}
void os_fault_hook(os_fault_hook_fn *new_hook) {
    hook = new_hook;
}

void os_fault_lock_hook(os_fault_lock_fn *new_hook) {
    __atomic_store_n(&lock_hook, new_hook, __ATOMIC_RELAXED);
}
void os_fault_lock_taken(void) {
    os_fault_lock_fn *now = __atomic_load_n(&lock_hook, __ATOMIC_RELAXED);
    if (now != NULL) now();
}

/* Take `size` bytes from the budget; false if there are not as many. */
static bool take(size_t size) {
    size_t left = __atomic_load_n(&budget, __ATOMIC_RELAXED);
    do {
        if (size > left) return false;
    } while (!__atomic_compare_exchange_n(&budget, &left, left - size, true, __ATOMIC_RELAXED,
                                          __ATOMIC_RELAXED));
    return true;
}

/* What strict overcommit says. Memory counts from where it becomes writable to where it is
 * unmapped. */
static bool exceeds_budget(long number, size_t size, size_t third) {
    switch (number) {
    case SYS_mmap:
        return (third & PROT_WRITE) != 0 ? !take(size) : size > reserve_most;
    case SYS_mprotect:
        return (third & PROT_WRITE) != 0 && !take(size);
    case SYS_mremap: /* `third` is the new size */
        if (third > size) return !take(third - size);
        __atomic_fetch_add(&budget, size - third, __ATOMIC_RELAXED);
        return false;
    case SYS_munmap:
        if (kind_here() != OS_FAULT_RESERVE) {
            __atomic_fetch_add(&budget, size, __ATOMIC_RELAXED);
        }
        return false;
    default:
        return false;
    }
}

static bool fails(size_t order) {
    size_t value = __atomic_load_n(&parameter, __ATOMIC_RELAXED);
    enum os_fault_call kind = kind_here();
    if (kind < OS_FAULT_CALLS && (__atomic_load_n(&only, __ATOMIC_RELAXED) & (1u << kind)) == 0) {
        return false;
    }
    switch (__atomic_load_n(&plan, __ATOMIC_RELAXED)) {
    case PLAN_FROM:
        return order >= value;
    case PLAN_ONCE:
        return order == value;
    case PLAN_ONE_IN: {
        uint64_t x = __atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        return value != 0 && (x ^ (x >> 31)) % value == 0;
    }
    default:
        return false;
    }
}

/* ------------------------------------------------------------------ the kernel --------------- */

long __real_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f);

/* What was done before the call failed: nothing, half or nearly all, in turn. Where somebody else
 * may be in the way, he is, every other time. */
static long fail(size_t order, long number, long a, long b, long c, long d) {
    if (number == SYS_mmap && (d & MAP_FIXED_NOREPLACE) != 0 && order % 2 == 0) return -EEXIST;
    size_t page = lu__os_page(), pages = (size_t)b / page;
    long front = (long)((order % 3 == 0 ? 0 : order % 3 == 1 ? pages / 2 : pages - 1) * page);
    if (front > 0 && (number == SYS_mprotect || number == SYS_madvise)) {
        (void)__real_lu__kernel_memory_call(number, a, front, c, 0, 0, 0);
    }
    return -ENOMEM;
}

long __wrap_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f);
long __wrap_lu__kernel_memory_call(long number, long a, long b, long c, long d, long e, long f) {
    struct os_site *const *here = site, *const *kernel_here = kernel_site;
    size_t order = __atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
    os_fixed_check(number, d);
    if (hook != NULL) {
        bool first = here != NULL && !__atomic_exchange_n(&been_here[here - __start_os_sites], true,
                                                          __ATOMIC_RELAXED);
        hook(order, kind_here(), first);
        site = here;
        kernel_site = kernel_here;
    }
    bool failed = __atomic_load_n(&plan, __ATOMIC_RELAXED) == PLAN_BUDGET
                      ? exceeds_budget(number, (size_t)b, (size_t)c)
                      : fails(order);
    count(false);
    if (failed) count(true);
    if (__atomic_load_n(&occupied, __ATOMIC_RELAXED) && number == SYS_mmap &&
        (d & MAP_FIXED_NOREPLACE) != 0) {
        return -EEXIST;
    }
    return failed ? fail(order, number, a, b, c, d)
                  : __real_lu__kernel_memory_call(number, a, b, c, d, e, f);
}
