/*
 * lock.h - a small mutex on a futex, who may hold one, and in which order.
 *
 *     word  0 free     name * 2: held by the thread of that name     + 1: somebody may be asleep
 *
 * Without contention acquire and release are one atomic exchange each, with no call. Acquire uses a
 * compare-and-swap, because a plain exchange would overwrite the holder's name. A thread that finds
 * the lock held spins for a moment, then sets the lowest bit and sleeps until the holder, which
 * sees that bit as it releases, wakes one sleeper. A sleeper that takes the lock leaves the bit
 * set, because it cannot know whether it was the last; the price is one needless wake. The holder
 * is known at any instant, also in a signal handler between two instructions of acquire or release.
 *
 * The acquiring exchanges pair with the releasing exchange of lu__lock_release. Not recursive.
 * Zeroed memory is a free lock, without a rank.
 *
 * Inside. A signal handler that interrupted the holder of a lock must not wait for the lock, which
 * would never be released. So a thread marks itself as inside before it takes the first lock, until
 * it has released the last. A function that finds its own thread inside takes no lock: it does
 * without, or refuses (lu__inside_enter). Every function of the library has to do so; debug builds
 * check it at each acquire. Callbacks of the program run outside.
 *
 * Copies. In a process that is a copy of another, the holder of a lock may not exist. Every
 * function that takes a lock checks for that before it takes the first (process.h).
 *
 * Order. Locks are taken in the order of their ranks, so that no two threads wait for each other.
 * Debug builds check that as well, and fail at the first wrong acquire, whatever the other threads
 * do (after jemalloc's witness).
 */
#ifndef LU_LOCK_H
#define LU_LOCK_H

#include "base/base.h"
#include "base/violation.h"
#include "os/os.h"
#include "os/process.h"

/* A lock is taken only if its rank is above those of all locks held, unless it is only tried. */
enum lu__rank {
    LU_RANK_APART, /* of classic, which has rules of its own: not checked               */
    LU_RANK_HEAP,  /* one shared lu_heap                                                    */
    LU_RANK_CACHES,
    LU_RANK_CACHE, /* one object cache; many only by who holds that of CACHES: fork         */
    LU_RANK_POOL,
    LU_RANK_CHUNK,
    LU_RANK_WALK,
    LU_RANK_LEAF, /* no lock is taken above                                                */
    LU_RANKS
};

struct lu__lock {
    uint32_t word;
    uint32_t rank; /* enum lu__rank; of static locks only in debug builds */
};

#if LU_DEBUG >= 1
#define LU_LOCK_INIT(its_rank) \
    { .word = 0, .rank = (its_rank) }
#else
#define LU_LOCK_INIT(its_rank) \
    { .word = 0 } /* nothing that had to be written when loaded */
#endif

/* Tests are told of every lock that was just taken, in the middle of the library. */
#ifndef LU_LOCK_TAKEN
#define LU_LOCK_TAKEN(lock) ((void)0)
#endif

struct lu__lock_thread {
    uint32_t name;           /* top bit, and twice a number that no other thread has; 0: none yet */
    uint32_t inside;         /* 1: see above; 2: misuse was found inside, to be reported          */
    const uint32_t *process; /* says whether it is still the same one (process.h)         */
#if LU_DEBUG >= 1
    uint8_t held[LU_RANKS]; /* locks of each rank                           */
#endif
};
extern __thread struct lu__lock_thread lu__lock_thread
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* ---------------------------------------------------------------- inside */

#define LU_INSIDE 1u
#define LU_INSIDE_TO_TELL 2u

LU_INLINE uint32_t lu__inside_state(void) {
    return __atomic_load_n(&lu__lock_thread.inside, __ATOMIC_RELAXED);
}
LU_INLINE bool lu__is_inside(void) {
    return (lu__inside_state() & LU_INSIDE) != 0;
}
/* The compiler may not move what is done inside across the mark. */
LU_INLINE void lu__inside_set(uint32_t inside) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&lu__lock_thread.inside, inside, __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}
/* Mark the calling thread, which is not marked. */
LU_INLINE void lu__inside_begin(void) {
    lu__inside_set(lu__inside_state() | LU_INSIDE);
}
/* Mark the calling thread; lu__inside_leave removes the mark. False, with nothing done, if it is
 * marked already: the caller is a signal handler that interrupted it, or a function of the library
 * that was called inside. */
LU_INLINE LU_MUST_CHECK bool lu__inside_enter(void) {
    uint32_t was = lu__inside_state();
    if (LU_UNLIKELY((was & LU_INSIDE) != 0)) return false;
    lu__inside_set(was | LU_INSIDE);
    return true;
}
/* The same in fewer instructions; false as well if misuse is to be reported. */
LU_INLINE LU_MUST_CHECK bool lu__inside_enter_quickly(void) {
    if (LU_UNLIKELY(lu__inside_state() != 0)) return false;
    lu__inside_set(LU_INSIDE);
    return true;
}
LU_INLINE void lu__inside_leave(void) {
    LU_ASSERT(lu__is_inside());
    uint32_t was = lu__inside_state();
    lu__inside_set(0);
    if (LU_UNLIKELY(was != LU_INSIDE)) lu__violation_tell_kept();
}
/* The same for a caller that did nothing: misuse that a signal handler found meanwhile is reported
 * by the next function that leaves, which is in the same call. */
LU_INLINE void lu__inside_undo(void) {
    lu__inside_set(lu__inside_state() & ~LU_INSIDE);
}
/* Misuse was found inside: returns true, and lu__inside_leave will report it. False: the thread is
 * not inside. */
LU_INLINE LU_MUST_CHECK bool lu__inside_tell_later(void) {
    if (!lu__is_inside()) return false;
    lu__inside_set(LU_INSIDE | LU_INSIDE_TO_TELL);
    return true;
}

/* ---------------------------------------------------------------- rules, in debug builds */

#if LU_DEBUG >= 1
void lu__lock_check(const struct lu__lock *lock);
LU_INLINE void lu__lock_count(const struct lu__lock *lock, int change) {
    uint8_t *held = &lu__lock_thread.held[lock->rank];
    *held = (uint8_t)(*held + change);
}
#else
LU_INLINE void lu__lock_check(const struct lu__lock *lock) {
    (void)lock;
}
LU_INLINE void lu__lock_count(const struct lu__lock *lock, int change) {
    (void)lock, (void)change;
}
#endif

/* ---------------------------------------------------------------- the lock */

LU_COLD void lu__lock_acquire_slow(struct lu__lock *lock);
LU_COLD uint32_t lu__lock_me_slow(void);
extern uint32_t lu__lock_names; /* given so far; relaxed atomic */

/* *me becomes the value of a lock's word while the calling thread holds it. False: the thread has
 * no name yet, or the process may be a copy, and the slow path has to find out. */
LU_INLINE LU_MUST_CHECK bool lu__lock_me_quickly(uint32_t *me) {
    /* Acquire: sees what another thread put in order. The name is read like any variable: a signal
     * handler may give one meanwhile, which the slow path sees. */
    return __builtin_add_overflow(lu__lock_thread.name, lu__process_load(lu__lock_thread.process),
                                  me);
}
LU_INLINE uint32_t lu__lock_me(void) {
    uint32_t me;
    return LU_LIKELY(lu__lock_me_quickly(&me)) ? me : lu__lock_me_slow();
}
/* Check whether the process is a copy, before a lock of another kind is taken. */
void lu__lock_see_process(void);
/* In the child of fork: put everything in order (lu__process_begin). */
void lu__lock_new_process(void);

/* For a lock in memory that was zeroed. */
LU_INLINE void lu__lock_init(struct lu__lock *lock, enum lu__rank rank) {
    lock->rank = rank;
}

/* `me` is lu__lock_me(). */
LU_INLINE bool lu__lock_take(struct lu__lock *lock, uint32_t me) {
    uint32_t expected = 0;
    return __atomic_compare_exchange_n(&lock->word, &expected, me, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* Acquire a leaf lock in a signal handler: its thread may hold any other lock, but not this one. */
LU_INLINE void lu__lock_acquire_above(struct lu__lock *lock) {
    uint32_t me;
    if (LU_UNLIKELY(!lu__lock_me_quickly(&me)) || LU_UNLIKELY(!lu__lock_take(lock, me)))
        lu__lock_acquire_slow(lock);
    lu__lock_count(lock, 1);
    LU_LOCK_TAKEN(lock);
}

LU_INLINE void lu__lock_acquire(struct lu__lock *lock) {
    lu__lock_check(lock);
    lu__lock_acquire_above(lock);
}

/* For a caller that has called lu__lock_me before, to look at something that is put in order in a
 * copy. */
LU_INLINE void lu__lock_acquire_as(struct lu__lock *lock, uint32_t me) {
    lu__lock_check(lock);
    if (LU_UNLIKELY(!lu__lock_take(lock, me))) lu__lock_acquire_slow(lock);
    lu__lock_count(lock, 1);
    LU_LOCK_TAKEN(lock);
}

/* True if the lock was free and is now the caller's. `me` as above. */
LU_INLINE LU_MUST_CHECK bool lu__lock_try_as(struct lu__lock *lock, uint32_t me) {
    LU_ASSERT(lock->rank == LU_RANK_APART || lu__is_inside());
    if (LU_UNLIKELY(!lu__lock_take(lock, me))) return false;
    lu__lock_count(lock, 1);
    LU_LOCK_TAKEN(lock);
    return true;
}

LU_INLINE LU_MUST_CHECK bool lu__lock_try(struct lu__lock *lock) {
    return lu__lock_try_as(lock, lu__lock_me());
}

/* The first half of lu__lock_release. True: somebody waits, and lu__lock_wake is the second. */
LU_INLINE LU_MUST_CHECK bool lu__lock_let_go(struct lu__lock *lock) {
    lu__lock_count(lock, -1);
    return LU_UNLIKELY((__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) & 1) != 0);
}
LU_INLINE void lu__lock_wake(struct lu__lock *lock) {
    lu__os_wake(&lock->word, false);
}

LU_INLINE void lu__lock_release(struct lu__lock *lock) {
    if (lu__lock_let_go(lock)) lu__lock_wake(lock);
}

/* For a structure that only one thread at a time uses: note that the calling thread uses it, or
 * that none does, so that lu__lock_is_mine and lu__lock_fork_child see it. */
LU_INLINE void lu__lock_note(struct lu__lock *lock) {
    __atomic_store_n(&lock->word, lu__lock_me(), __ATOMIC_RELAXED);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}
LU_INLINE void lu__lock_unnote(struct lu__lock *lock) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&lock->word, 0, __ATOMIC_RELAXED);
}

/* True if the calling thread holds the lock. */
LU_INLINE bool lu__lock_is_mine(const struct lu__lock *lock) {
    uint32_t name = __atomic_load_n(&lu__lock_thread.name, __ATOMIC_RELAXED);
    uint32_t holder = __atomic_load_n(&lock->word, __ATOMIC_RELAXED) & ~1u;
    return name != 0 && holder == (name & ~LU_PROCESS_KNOWN);
}

/* Make it free, whoever held it. */
LU_INLINE void lu__lock_reset(struct lu__lock *lock) {
    __atomic_store_n(&lock->word, 0, __ATOMIC_RELEASE);
}

/* In the child of fork, which has one thread: release the lock if another thread held it. True if
 * so: then the data that it guards may be half changed. */
LU_INLINE bool lu__lock_fork_child(struct lu__lock *lock) {
    bool held = __atomic_load_n(&lock->word, __ATOMIC_RELAXED) != 0;
    if (!held || lu__lock_is_mine(lock)) return false; /* the interrupted call goes on with it */
    lu__lock_reset(lock);
    return true;
}

#endif
