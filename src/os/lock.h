/*
 * lock.h - a small mutex on a futex.
 *
 *     word  0 free     1 held     2 held, and somebody may be asleep
 *
 * Without contention acquire and release are one atomic exchange each, with no call. That of
 * acquire compares, for a blind one could overwrite a 2 and leave a sleeper asleep. Who finds the
 * lock held spins for a moment, then sets the word to 2 and sleeps until the holder, seeing the 2
 * as it releases, wakes one sleeper. A sleeper that takes the lock leaves the word at 2, since it
 * cannot know whether it was the last; the price is one needless wake.
 *
 * The acquiring exchanges pair with the releasing exchange of lu__lock_release. Not recursive, but
 * the holder is known: a fork handler may run in a signal handler that interrupted the holder, and
 * must not wait for itself. Zeroed memory is a free lock.
 */
#ifndef LU_LOCK_H
#define LU_LOCK_H

#include "base/base.h"
#include "os/os.h"

struct lu__lock {
    uint32_t word;
    uint32_t pad;
    void *owner; /* lu__lock_me() of the holder, or NULL; written by the holder, relaxed */
};

/* Its address stands for the thread; the value is not used. */
extern __thread char lu__thread_token
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

LU_COLD void lu__lock_acquire_slow(struct lu__lock *lock);

LU_INLINE void *lu__lock_me(void) {
    return &lu__thread_token;
}

LU_INLINE void lu__lock_acquire(struct lu__lock *lock) {
    uint32_t expected = 0;
    if (LU_UNLIKELY(!__atomic_compare_exchange_n(&lock->word, &expected, 1, false, __ATOMIC_ACQUIRE,
                                                 __ATOMIC_RELAXED)))
        lu__lock_acquire_slow(lock);
    __atomic_store_n(&lock->owner, lu__lock_me(), __ATOMIC_RELAXED);
}

/* True if the lock was free and is now the caller's. */
LU_INLINE LU_MUST_CHECK bool lu__lock_try(struct lu__lock *lock) {
    uint32_t expected = 0;
    if (!__atomic_compare_exchange_n(&lock->word, &expected, 1, false, __ATOMIC_ACQUIRE,
                                     __ATOMIC_RELAXED))
        return false;
    __atomic_store_n(&lock->owner, lu__lock_me(), __ATOMIC_RELAXED);
    return true;
}

LU_INLINE void lu__lock_release(struct lu__lock *lock) {
    __atomic_store_n(&lock->owner, NULL, __ATOMIC_RELAXED);
    if (LU_UNLIKELY(__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2))
        lu__os_wake(&lock->word, false);
}

/* True if the calling thread holds the lock. In a signal handler that came between the exchange
 * and the store of acquire, or between those of release, it says false. */
LU_INLINE bool lu__lock_is_mine(const struct lu__lock *lock) {
    return __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) == lu__lock_me();
}

/* Make it free, whoever held it: for the child of fork, which has one thread. */
LU_INLINE void lu__lock_reset(struct lu__lock *lock) {
    __atomic_store_n(&lock->owner, NULL, __ATOMIC_RELAXED);
    __atomic_store_n(&lock->word, 0, __ATOMIC_RELEASE);
}

#endif
