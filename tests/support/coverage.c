/*
 * coverage.c - part of the library in the preset `coverage`: what ran is also written down by a
 * process that ends in _exit or in abort, as children of fork and programs that misuse malloc do.
 *
 * Stands in for both functions of libc. What gcov does then may allocate, from a heap that was just
 * found damaged: if that ends here a second time, the process ends without more.
 */
#include <signal.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

void __gcov_dump(void);
__attribute__((noreturn, visibility("default"))) void _exit(int status);
__attribute__((noreturn, visibility("default"))) void abort(void);

static void dump_once(void) {
    static bool dumped;
    if (__atomic_exchange_n(&dumped, true, __ATOMIC_RELAXED)) return;
    __gcov_dump();
}

void _exit(int status) {
    dump_once();
    for (;;) syscall(SYS_exit_group, status);
}

void abort(void) {
    static const struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t set;
    dump_once();
    raise(SIGABRT); /* the program may have a handler */
    sigaction(SIGABRT, &by_default, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGABRT);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    raise(SIGABRT);
    for (;;) syscall(SYS_exit_group, 127);
}
