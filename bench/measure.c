/*
 * measure.c - runs one program and writes what it used to a file.
 *
 *     measure FILE COMMAND [ARGUMENT...]
 *
 * The kernel's figure for the peak of a process includes the time before execve, when it still was
 * a copy of its parent. From a driver in Python that is more than many a program ever needs. This
 * parent is small: linked statically, it never allocates. Exit status: that of the command, 128 + N
 * after signal N, 127 if it was not started.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static void say(const char *what, const char *detail) {
    dprintf(STDERR_FILENO, "measure: %s: %s\n", what, detail);
}

int main(int argc, char **argv) {
    struct timespec start, end;
    struct rusage used;
    int status;
    if (argc < 3) {
        say("usage", "measure FILE COMMAND [ARGUMENT...]");
        return 125;
    }
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t child = fork();
    if (child == 0) {
        execvp(argv[2], argv + 2);
        say(argv[2], strerror(errno));
        _exit(127);
    }
    if (child < 0 || wait4(child, &status, 0, &used) != child) {
        say("cannot run the command", strerror(errno));
        return 125;
    }
    clock_gettime(CLOCK_MONOTONIC, &end);
    double wall = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
    int file = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (file < 0 ||
        dprintf(file,
                "{\"seconds\": %.6f, \"cpu_seconds\": %.6f, \"peak_rss\": %ld, \"faults\": %ld}\n",
                wall, seconds(used.ru_utime) + seconds(used.ru_stime), used.ru_maxrss * 1024,
                used.ru_minflt + used.ru_majflt) < 0) {
        say(argv[1], strerror(errno));
        return 125;
    }
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
