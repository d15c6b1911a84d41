/*
 * lab_overcommit.c - changes vm.overcommit_memory and sees to it that it is changed back.
 *
 * The rule is everybody's, so it must not stay changed whatever happens to us. A child guards it:
 * it waits for the end of a pipe whose other end only this process has, and then writes the old
 * value.
 *
 *     lucid                        guard, a process of its own session, no signal but SIGKILL
 *     begin: fork ──────────────▶  read(pipe) …
 *     set(0), set(1), set(2)
 *     end, exit, a signal, kill -9:
 *        the pipe is closed ────▶  end of file: writes the old value, ends
 *
 * The guard has its file open before the rule changes and needs no memory after that. For one
 * thread; processes that are started meanwhile do not get the pipe (close-on-exec).
 */
#include "lab/lab_overcommit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "frame/frame.h"

static const char path[] = "/proc/sys/vm/overcommit_memory";

static struct {
    int rule_fd, pipe_fd;
    pid_t guard;
} state = {-1, -1, -1};

static bool write_mode(int fd, int mode) {
    char text[] = {(char)('0' + mode), '\n'};
    return pwrite(fd, text, sizeof text, 0) == (ssize_t)sizeof text;
}

int lab_overcommit_mode(void) {
    char text[8] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0 || text[0] < '0' || text[0] > '2') {
        tool_die("cannot read %s", path);
    }
    close(fd);
    return text[0] - '0';
}

void lab_overcommit_check(void) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        tool_bad_input("--overcommit cannot change the rule, which root may: %s: %s", path,
                       strerror(errno));
    }
    close(fd);
}

/* With all signals blocked. */
static _Noreturn void guard(int pipe_fd, int old) {
    char byte;
    setsid();
    while (read(pipe_fd, &byte, 1) < 0 && errno == EINTR) continue;
    _exit(write_mode(state.rule_fd, old) ? 0 : 1);
}

void lab_overcommit_begin(void) {
    int ends[2], old = lab_overcommit_mode();
    sigset_t all, before;
    state.rule_fd = open(path, O_WRONLY | O_CLOEXEC);
    if (state.rule_fd < 0) tool_die("cannot write %s: %s", path, strerror(errno));
    if (pipe2(ends, O_CLOEXEC) != 0) tool_die("cannot make a pipe: %s", strerror(errno));
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    state.guard = fork();
    if (state.guard < 0) tool_die("cannot fork: %s", strerror(errno));
    if (state.guard == 0) {
        close(ends[1]);
        guard(ends[0], old);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(ends[0]);
    state.pipe_fd = ends[1];
}

void lab_overcommit_set(int mode) {
    if (!write_mode(state.rule_fd, mode)) tool_die("cannot write %s: %s", path, strerror(errno));
}

void lab_overcommit_end(void) {
    int status;
    close(state.pipe_fd);
    while (waitpid(state.guard, &status, 0) < 0 && errno == EINTR) continue;
    close(state.rule_fd);
    if (status != 0) tool_die("%s could not be restored", path);
}
