/*
 * lock.c - the waiting half of the mutex in lock.h, and the token that names a thread.
 *
 * Critical sections under these locks are short (a list operation, at most a system call), so the
 * holder is likely to release within the time that going to sleep would take: a waiter first looks
 * at the word for a while, reading only, so that the holder's cache line stays its own. The spin is
 * bounded; after it the word says 2 and the kernel is asked to wait. The scheme is the third mutex
 * of U. Drepper, "Futexes Are Tricky" (2011).
 *
 * Any thread may come here at any time, and holds no other lock of the same kind while it sleeps
 * than those that the lock order of its caller allows.
 */
#include "os/lock.h"

#include "os/kernel.h"

enum { SPINS = 100 };

__thread char lu__thread_token __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* True if the lock became the caller's while it spun. */
static bool spin(struct lu__lock *lock) {
    for (int i = 0; i < SPINS; i++) {
        uint32_t seen = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
        if (seen == 0 && __atomic_compare_exchange_n(&lock->word, &seen, 1, false, __ATOMIC_ACQUIRE,
                                                     __ATOMIC_RELAXED))
            return true;
        lu__cpu_pause();
    }
    return false;
}

void lu__lock_acquire_slow(struct lu__lock *lock) {
    if (spin(lock)) return;
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0) lu__os_wait(&lock->word, 2);
}
