/*
 * process.h - is this process a copy of the one in which the library started? See process.c.
 */
#ifndef LU_PROCESS_H
#define LU_PROCESS_H

#include "base/base.h"

/* The value of a thread's word while all is well. Its top bit is set, and so is that of a thread's
 * name, so the sum of these two overflows. With any other value of the word, or for a thread
 * without a name, it does not. */
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

/* The thread's word. Acquire; partner: the release that ends lu__process_see. On x86-64 every load
 * is an acquire, and a load that the compiler takes for a plain one needs one register less. */
LU_INLINE uint32_t lu__process_load(const uint32_t *word) {
#if defined(__x86_64__) && !LU_PROCESS_ATOMIC
    return *word;
#else
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
#endif
}

/* Puts the library in order in a process that is a copy of another one, with one of its threads.
 * `alone`: the caller is that thread, and no other uses the library yet; else that thread may be
 * anywhere where it holds no lock. */
typedef void lu__process_order_fn(bool alone);

/* Called once, before there is a second thread. Without it only fork's handler notices copies. */
void lu__process_begin(lu__process_order_fn *order);
/* Something else to be put in order, by a part of the library that is not always linked: stores. */
void lu__process_also(lu__process_order_fn *order);
/* `count` threads, the caller's included, have taken locks so far. Before it takes its first. */
void lu__process_meet(uint32_t count);
/* The word is perhaps not LU_PROCESS_KNOWN: find out why, and put the process in order, or wait
 * until another thread has done so. `name` is the caller's; `alone`: it was given before the
 * process was copied. */
void lu__process_see(uint32_t name, bool alone);
/* The caller, which has a name, has waited long for a lock, and the holder may not exist. If the
 * caller shares its memory with no other thread, the process is a copy: put it in order. */
void lu__process_doubt(void);
/* The caller, called `name`, is in the child of fork and alone: put it in order. */
void lu__process_forked(uint32_t name);
/* Give the page back: the library is unloaded, and no lock is taken any more. */
void lu__process_end(void);

#endif
