/*
 * replay_real.c - a program on a real allocator, in a process of its own.
 *
 * The process is this command again, with the allocator preloaded and two descriptors inherited:
 *
 *     LD_PRELOAD=libjemalloc.so.2 lucid replay-driver 5 6        (replay_driver.c)
 *
 * It writes the outcome into memory that is shared with us. That the allocator which was asked for
 * did the work is checked there: a library that has no malloc would be measured as glibc's.
 */
#include "replay/replay.h"
#include "replay/replay_parts.h"

#include "run/run.h"
#include "frame/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static int inherited(int fd) {
    int copy = fcntl(fd, F_DUPFD, 3); /* without close-on-exec */
    if (copy < 0) _exit(TOOL_FAILED);
    return copy;
}

static _Noreturn void become_driver(const struct replay_memory *program,
                                    const struct replay_memory *outcome,
                                    const struct allocator *allocator) {
    char *preload = child_preload(allocator);
    char *from = tool_format("%d", inherited(program->fd));
    char *to = tool_format("%d", inherited(outcome->fd));
    char *argv[] = {(char[]){"lucid"}, (char[]){REPLAY_DRIVER}, from, to, NULL};
    setenv("LD_PRELOAD", preload, 1);
    prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0); /* as programs have it */
    execv("/proc/self/exe", argv);
    _exit(TOOL_FAILED);
}

void replay_process(const struct replay_memory *program, const struct allocator *allocator,
                    struct replay_target *target) {
    struct replay_outcome *outcome = target->outcome;
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) tool_die("cannot start a process: %s", strerror(errno));
    if (pid == 0) become_driver(program, &target->memory, allocator);
    child_signals_begin(pid);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) tool_die("cannot wait for a process: %s", strerror(errno));
    child_signals_end();
    if (WIFSIGNALED(status)) {
        replay_fail(outcome, "signal %d ended the process", WTERMSIG(status));
    } else if (WEXITSTATUS(status) != 0) {
        replay_fail(outcome, "the process ended with status %d", WEXITSTATUS(status));
    } else if (allocator->library[0] == '/' && strcmp(outcome->library, allocator->library) != 0) {
        tool_bad_input("%s: %s has no malloc: that of %s was called", target->name,
                       allocator->library, outcome->library);
    }
    outcome->finished = outcome->error[0] == '\0';
}
