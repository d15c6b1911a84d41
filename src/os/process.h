/*
 * process.h - is this still the process that it was? See process.c.
 */
#ifndef LU_PROCESS_H
#define LU_PROCESS_H

#include "base/base.h"

/* What the word of a thread is while all is well. Added to the name of a thread that has one, whose
 * top bit is set as well, it carries; what else stands there does not, nor with no name. */
#define LU_PROCESS_KNOWN 0x80000000u

/* The word of threads that have none yet. Atomic. */
extern uint32_t lu__process_first LU_HIDDEN;
/* False if copies are not known by a page. */
bool lu__process_is_known(void);
/* Where a thread looks from now on. */
const uint32_t *lu__process_word(void);

#if defined(__SANITIZE_THREAD__)
#define LU_PROCESS_ATOMIC 1
#elif defined(__has_feature)
#define LU_PROCESS_ATOMIC __has_feature(thread_sanitizer)
#else
#define LU_PROCESS_ATOMIC 0
#endif

/* What stands in a thread's word. Acquire; partner: the release that ends lu__process_see. On
 * x86-64 every load is one, and one that the compiler takes for any other costs a register less. */
LU_INLINE uint32_t lu__process_load(const uint32_t *word) {
#if defined(__x86_64__) && !LU_PROCESS_ATOMIC
    return *word;
#else
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#endif
}

/* Puts the library in order in a process that was made by copying another one, with one thread of
 * those that there were. `alone`: the caller is that thread, and no other uses the library yet;
 * else that thread may be anywhere where it holds no lock. */
typedef void lu__process_order_fn(bool alone);

/* Once, before there is a second thread. Without, copies are known only to fork's handler. */
void lu__process_begin(lu__process_order_fn *order);
/* What else is to be put in order, by a part that is not always there: stores. */
void lu__process_also(lu__process_order_fn *order);
/* `count` threads, the caller's included, have taken locks so far. Before it takes its first. */
void lu__process_meet(uint32_t count);
/* The word may not be LU_PROCESS_KNOWN: find out why, put the process in order or wait until who
 * does that has. `name` is the caller's; `alone`: it was given before the process was copied. */
void lu__process_see(uint32_t name, bool alone);
/* A lock was waited for, for long, and its holder seems to be missing: if the caller, which has a
 * name, shares its memory with nobody, the process is a copy: put it in order. */
void lu__process_doubt(void);
/* The caller, called `name`, is in the child of fork and alone: put it in order. */
void lu__process_forked(uint32_t name);
/* Give the page back: the library is unloaded, and no lock is taken any more. */
void lu__process_end(void);

#endif
