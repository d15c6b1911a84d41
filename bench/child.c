/*
 * child.c - the processes that bench_measure starts.
 *
 * SIGCHLD is blocked and waited for with a time limit, so that waiting and sampling need neither a
 * second thread nor a signal handler, and the end of a child is noticed at once.
 */
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { TICK_NANOSECONDS = 10000000 };
#define STOP_NANOSECONDS 10000000000u

static sigset_t child_signal, signals_before;

void child_init(void) {
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_signal, &signals_before);
}

/* In the child. */
static _Noreturn void execute(char **arguments, enum child_role role, pid_t parent) {
    sigprocmask(SIG_SETMASK, &signals_before, NULL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(MEASURE_FAILED);
    if (role == CHILD_SERVER) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        dup2(null, STDIN_FILENO);
        dup2(STDERR_FILENO, STDOUT_FILENO);
    }
    if (role == CHILD_CLIENT) unsetenv("LD_PRELOAD");
    execvp(arguments[0], arguments);
    measure_say(arguments[0], strerror(errno));
    _exit(MEASURE_NOT_STARTED);
}

bool child_start(struct child *child, char **arguments, enum child_role role) {
    pid_t parent = getpid();
    *child = (struct child){.pid = fork()};
    if (child->pid == 0) execute(arguments, role, parent);
    if (child->pid > 0) return true;
    measure_say("cannot start a process", strerror(errno));
    child->pid = 0;
    return false;
}

void child_tick(void) {
    const struct timespec tick = {0, TICK_NANOSECONDS};
    sigtimedwait(&child_signal, NULL, &tick);
}

bool child_ended(struct child *child) {
    if (child->pid != 0 && wait4(child->pid, &child->status, WNOHANG, &child->used) == child->pid)
        child->pid = 0;
    return child->pid == 0;
}

int child_exit_status(const struct child *child) {
    return WIFSIGNALED(child->status) ? MEASURE_SIGNALLED + WTERMSIG(child->status)
                                      : WEXITSTATUS(child->status);
}

bool child_stop(struct child *child) {
    if (child_ended(child)) return true;
    kill(child->pid, SIGTERM);
    for (uint64_t end = proc_now() + STOP_NANOSECONDS; proc_now() < end; child_tick())
        if (child_ended(child)) return true;
    kill(child->pid, SIGKILL);
    while (!child_ended(child)) child_tick();
    return false;
}
