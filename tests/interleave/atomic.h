/*
 * atomic.h - every atomic access of the library becomes a place where the explorer may switch.
 *
 * Included by force in front of each file of the library that is built for this test. In a macro
 * its own name is not expanded again, so the builtins themselves are still reached. A value to be
 * stored is computed before the switch, as the processor may: what other threads do in between is
 * then not in it. Accesses that are marked by LU_RELAXED are made atomic (__SANITIZE_THREAD__), so
 * they are such places, too.
 */
#ifndef INTERLEAVE_ATOMIC_H
#define INTERLEAVE_ATOMIC_H

#define __SANITIZE_THREAD__ 1

#include <stddef.h>
#include <string.h>

/* The thread is about to access `address`; another one may go on first. */
void interleave_point(const volatile void *address);

#define __atomic_load_n(p, order) (interleave_point(p), __atomic_load_n(p, order))
#define __atomic_store_n(p, value, order)             \
    ({                                                \
        __typeof__(*(p)) interleave_value = (value);  \
        interleave_point(p);                          \
        __atomic_store_n(p, interleave_value, order); \
    })
#define __atomic_exchange_n(p, value, order) \
    (interleave_point(p), __atomic_exchange_n(p, value, order))
#define __atomic_compare_exchange_n(p, expected, value, weak, order, failed) \
    (interleave_point(p), __atomic_compare_exchange_n(p, expected, value, weak, order, failed))
#define __atomic_fetch_add(p, value, order) \
    (interleave_point(p), __atomic_fetch_add(p, value, order))
#define __atomic_fetch_sub(p, value, order) \
    (interleave_point(p), __atomic_fetch_sub(p, value, order))
#define __atomic_add_fetch(p, value, order) \
    (interleave_point(p), __atomic_add_fetch(p, value, order))

/* What is cleared in one go others may see before anything else is done to it. */
static inline __attribute__((unused)) void *interleave_memset(void *at, int byte, size_t size) {
    memset(at, byte, size);
    if (size >= 4096) interleave_point(at);
    return at;
}
#define memset(at, byte, size) interleave_memset(at, byte, size)

#endif
