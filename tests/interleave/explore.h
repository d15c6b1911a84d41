/*
 * explore.h - run a script of a few threads in every order that their atomic accesses allow.
 *
 * A script has a function that prepares, up to three threads, and a function that checks. The
 * threads are coroutines of this process, each with its own copy of the library's thread-local
 * variables; one runs at a time, and at every atomic access any other may be let run instead. All
 * choices are tried, depth first, under sequential consistency, but for those that would take a
 * thread off the processor more than `preemptions` times in a run where it could have gone on.
 */
#ifndef EXPLORE_H
#define EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPLORE_THREADS = 3 };

struct script {
    const char *name;
    void (*prepare)(void);                  /* once; every run begins with what it left */
    void (*threads[EXPLORE_THREADS])(void); /* NULL at the end                          */
    void (*check)(void);                    /* after each run                           */
    unsigned preemptions;
};

/* Run `function` now and to its end, as thread `thread`: while preparing and checking. */
void explore_as(unsigned thread, void (*function)(void));
/* What glibc does when a thread ends: the destructor of the library's key. */
void explore_thread_end(void);
/* The running thread forks, and the process goes on as its child: all others are gone, wherever
 * they were, and the library puts itself in order. */
void explore_fork(void);
/* Which thread is running. */
unsigned explore_self(void);
/* Something is wrong: print it with the order that led to it, and end the program. */
__attribute__((noreturn, format(printf, 1, 2))) void explore_fail(const char *format, ...);
#define EXPLORE_CHECK(x) \
    ((x) ? (void)0 : explore_fail("%s:%d: not true: %s", __FILE__, __LINE__, #x))

/* scripts.c: ends with one without a name. */
extern const struct script scripts[];

#endif
