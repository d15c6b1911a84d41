/*
 * spin.h - a lock of one byte for what is read and written rarely and in a few instructions.
 *
 * The base layer stands below the system layer and so cannot wait in the kernel: a thread that
 * finds the lock taken yields the processor. The lock is for state that the program sets now and
 * then (the path of an option, the violation handler), never for anything that an allocation uses.
 * Not recursive. Nothing may be called while it is held. After fork the child resets it, because
 * the holder may not exist there.
 *
 * A signal handler that reports misuse, or forks a child that does, must not find that its own
 * thread holds the lock, which would then never be released: so signals are blocked while it is
 * held. That takes two system calls, on rare paths.
 */
#ifndef LU_SPIN_H
#define LU_SPIN_H

#include "base/base.h"

#include <sched.h>
#include <signal.h>

/* Called before a lock is taken: the system layer checks whether the process is a copy of another
 * one, whose threads do not exist here (os/process.h). NULL until the library is loaded. */
extern void (*lu__spin_before)(void) LU_HIDDEN;

struct lu__spin {
    uint8_t taken; /* 1 while held */
};

/* *before receives the signals that were blocked, for lu__spin_release. */
LU_INLINE void lu__spin_acquire(struct lu__spin *spin, sigset_t *before) {
    sigset_t all;
    if (lu__spin_before != NULL) lu__spin_before();
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, before);
    while (__atomic_exchange_n(&spin->taken, 1, __ATOMIC_ACQUIRE) != 0) sched_yield();
}
/* The release that the acquire above waits for. */
LU_INLINE void lu__spin_release(struct lu__spin *spin, const sigset_t *before) {
    __atomic_store_n(&spin->taken, 0, __ATOMIC_RELEASE);
    (void)pthread_sigmask(SIG_SETMASK, before, NULL);
}
/* For the child of fork, which has one thread. */
LU_INLINE void lu__spin_reset(struct lu__spin *spin) {
    __atomic_store_n(&spin->taken, 0, __ATOMIC_RELAXED);
}

#endif
