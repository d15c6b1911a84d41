/*
 * lock.c - the waiting half of the mutex in lock.h, the names of threads, and the rules.
 *
 * Critical sections under these locks are short (a list operation, at most a system call), so the
 * holder is likely to release within the time that going to sleep would take. A waiter first spins
 * for a while, reading only, so that the holder keeps its cache line. The spin is bounded; after it
 * the waiter sets the lowest bit of the word and sleeps in the kernel. The scheme is the third
 * mutex of U. Drepper, "Futexes Are Tricky" (2011), with the holder's name in the word.
 *
 * Names are given out in order, at the first lock that a thread takes. After 2^29 threads they
 * repeat. lu__lock_is_mine could then answer wrongly only in a signal handler, and only if another
 * thread of the same name is still alive and holds that lock.
 *
 * Any thread that is inside may call these functions at any time.
 */
#include "os/lock.h"

#include "os/kernel.h"

enum { SPINS = 100, WAITS_LONG = 3 }; /* of LU_OS_WAIT_MS, one after the other */
#define NAMES (1u << 29) /* two of them and two top bits add up in lu__lock_me as they should */

__thread struct lu__lock_thread lu__lock_thread __attribute__((
    tls_model("initial-exec"), visibility("hidden"))) = {.process = &lu__process_first};
uint32_t lu__lock_names;

/* A signal handler that does the same may interrupt this anywhere. */
static uint32_t name_thread(void) {
    uint32_t count, none = 0;
    do {
        count = __atomic_add_fetch(&lu__lock_names, 1, __ATOMIC_RELAXED);
    } while (count % NAMES == 0);
    lu__process_meet(count);
    (void)__atomic_compare_exchange_n(&lu__lock_thread.name, &none,
                                      LU_PROCESS_KNOWN | count % NAMES << 1, false,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return lu__lock_thread.name;
}

uint32_t lu__lock_me_slow(void) {
    uint32_t name = __atomic_load_n(&lu__lock_thread.name, __ATOMIC_RELAXED);
    bool had_name = name != 0;
    if (!had_name) name = name_thread();
    lu__lock_thread.process = lu__process_word();
    lu__process_see(name & ~LU_PROCESS_KNOWN, had_name);
    return name & ~LU_PROCESS_KNOWN;
}

void lu__lock_see_process(void) {
    (void)lu__lock_me();
}

void lu__lock_new_process(void) {
    uint32_t name = __atomic_load_n(&lu__lock_thread.name, __ATOMIC_RELAXED);
    lu__process_forked((name != 0 ? name : name_thread()) & ~LU_PROCESS_KNOWN);
}

/* True if the lock became the caller's while it spun. */
static bool spin(struct lu__lock *lock, uint32_t me) {
    for (int i = 0; i < SPINS; i++) {
        uint32_t seen = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
        if (seen == 0 && __atomic_compare_exchange_n(&lock->word, &seen, me, false,
                                                     __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
        lu__cpu_pause();
    }
    return false;
}

/* The second thread waits for the first, or copies cannot be known: see process.c. */
static bool may_be_missing(const struct lu__lock *lock, uint32_t me) {
    uint32_t holder = __atomic_load_n(&lock->word, __ATOMIC_RELAXED) & ~1u;
    return (me == 2u << 1 && holder == 1u << 1) || !lu__process_is_known();
}

void lu__lock_acquire_slow(struct lu__lock *lock) {
    uint32_t me = lu__lock_me();
    LU_ASSERT(!lu__lock_is_mine(lock)); /* it would wait for ever */
    if (spin(lock, me)) return;
    for (uint32_t waits = 0;;) {
        (void)lu__lock_me(); /* a handler may have copied the process while it slept */
        if (waits == WAITS_LONG && may_be_missing(lock, me)) lu__process_doubt();
        uint32_t seen = __atomic_load_n(&lock->word, __ATOMIC_RELAXED);
        uint32_t next = seen != 0 ? seen | 1 : me | 1;
        if (next != seen && !__atomic_compare_exchange_n(&lock->word, &seen, next, false,
                                                         __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
            continue;
        }
        if (seen == 0) return;
        waits = !lu__os_wait(&lock->word, next) || waits == WAITS_LONG ? 0 : waits + 1;
    }
}

#if LU_DEBUG >= 1
void lu__lock_check(const struct lu__lock *lock) {
    uint32_t rank = lock->rank;
    if (rank == LU_RANK_APART) return;
    LU_ASSERT(lu__is_inside());
    bool may_nest = rank == LU_RANK_CACHE && lu__lock_thread.held[LU_RANK_CACHES] != 0;
    for (uint32_t above = may_nest ? rank + 1 : rank; above < LU_RANKS; above++) {
        LU_ASSERT(lu__lock_thread.held[above] == 0); /* else two threads may wait for each other */
    }
}
#endif
