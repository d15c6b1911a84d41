/*
 * os_fault.c - a system layer that fails on demand.
 *
 * Linked with --wrap for each function of os.h that asks the kernel for something: the library's
 * calls arrive at __wrap_NAME here, which fails by plan or calls the real one. Failing means ENOMEM
 * and no effect, as the kernel does it. Thread safe.
 */
#include "os_fault.h"

#include <errno.h>

#include "os/os.h"

enum plan { PLAN_NONE, PLAN_FROM, PLAN_ONE_IN };

static enum plan plan;
static size_t parameter, seen, failed[OS_FAULT_CALLS];
static unsigned only = ~0u;
static uint64_t random_state;

static void set_plan(enum plan new_plan, size_t value) {
    __atomic_store_n(&plan, PLAN_NONE, __ATOMIC_RELAXED);
    parameter = value;
    __atomic_store_n(&seen, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&plan, new_plan, __ATOMIC_RELAXED);
}

void os_fault_none(void) {
    set_plan(PLAN_NONE, 0);
    only = ~0u;
}
void os_fault_from(size_t n) {
    set_plan(PLAN_FROM, n);
}
void os_fault_one_in(size_t n, uint64_t seed) {
    random_state = seed | 1;
    set_plan(PLAN_ONE_IN, n);
}
void os_fault_only(unsigned calls) {
    only = calls;
}
size_t os_fault_seen(void) {
    return __atomic_load_n(&seen, __ATOMIC_RELAXED);
}
size_t os_fault_failed(enum os_fault_call call) {
    return __atomic_load_n(&failed[call], __ATOMIC_RELAXED);
}

static bool fails(enum os_fault_call call) {
    size_t number = __atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
    if ((only & (1u << call)) == 0) return false;
    bool fail = false;
    switch (__atomic_load_n(&plan, __ATOMIC_RELAXED)) {
    case PLAN_FROM:
        fail = number >= parameter;
        break;
    case PLAN_ONE_IN: {
        uint64_t x = __atomic_fetch_add(&random_state, 0x9e3779b97f4a7c15u, __ATOMIC_RELAXED);
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        fail = (x ^ (x >> 31)) % parameter == 0;
        break;
    }
    case PLAN_NONE:
        break;
    }
    if (fail) __atomic_fetch_add(&failed[call], 1, __ATOMIC_RELAXED);
    return fail;
}

#define WRAP(call, name, parameters, arguments)                \
    int __real_##name parameters;                              \
    int __wrap_##name parameters;                              \
    int __wrap_##name parameters {                             \
        return fails(call) ? ENOMEM : __real_##name arguments; \
    }

WRAP(OS_FAULT_RESERVE, lu__os_reserve, (size_t size, size_t align, void **out), (size, align, out))
WRAP(OS_FAULT_COMMIT, lu__os_commit, (void *at, size_t size), (at, size))
WRAP(OS_FAULT_PURGE, lu__os_purge, (void *at, size_t size), (at, size))
WRAP(OS_FAULT_RENEW, lu__os_renew, (void *at, size_t size), (at, size))
WRAP(OS_FAULT_MAP, lu__os_map, (size_t size, size_t align, void **out), (size, align, out))
WRAP(OS_FAULT_UNMAP, lu__os_unmap, (void *at, size_t size), (at, size))
WRAP(OS_FAULT_REMAP, lu__os_remap, (void *at, size_t old_size, size_t new_size, void **out),
     (at, old_size, new_size, out))
WRAP(OS_FAULT_MOVE_PAGES, lu__os_move_pages, (void *from, void *to, size_t size), (from, to, size))

size_t __real_lu__os_purge_many(const struct lu__os_range *ranges, size_t count);
size_t __wrap_lu__os_purge_many(const struct lu__os_range *ranges, size_t count);
size_t __wrap_lu__os_purge_many(const struct lu__os_range *ranges, size_t count) {
    return fails(OS_FAULT_PURGE_MANY) ? 0 : __real_lu__os_purge_many(ranges, count);
}
