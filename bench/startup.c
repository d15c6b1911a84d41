/*
 * startup.c - a process that allocates once and ends, many times over.
 *
 * The program starts itself with the argument "child"; the child allocates one block and sends its
 * own peak of resident memory through a pipe. Memory in the report is that of the children.
 */
#include "common.h"

#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 400, PIPE = 3 };

extern char **environ;

static int be_child(void) {
    struct bench_block block = bench_mark(malloc(100), 100, 1);
    bench_check(&block);
    free(block.at);
    uint64_t peak = bench_peak_rss();
    return write(PIPE, &peak, sizeof(peak)) == sizeof(peak) ? 0 : 1;
}

static uint64_t run_child(const posix_spawn_file_actions_t *actions, int from_child) {
    char *arguments[] = {(char[]){"startup"}, (char[]){"child"}, NULL};
    uint64_t peak;
    pid_t pid;
    int status;
    if (posix_spawn(&pid, "/proc/self/exe", actions, NULL, arguments, environ) != 0)
        bench_fail("cannot start a process");
    if (waitpid(pid, &status, 0) != pid || status != 0) bench_fail("a child failed");
    if (read(from_child, &peak, sizeof(peak)) != sizeof(peak)) bench_fail("a child said nothing");
    return peak;
}

int main(int argc, char **argv) {
    struct bench bench;
    posix_spawn_file_actions_t actions;
    int ends[2];
    if (argc == 2 && strcmp(argv[1], "child") == 0) return be_child();
    bench_init(&bench, "startup", NULL, argc, argv);
    uint64_t processes = bench_scaled(&bench, PROCESSES), most = 0, last = 0, sum = 0;
    if (pipe(ends) != 0) bench_fail("no pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], PIPE);

    bench_start(&bench);
    for (uint64_t i = 0; i < processes; i++) {
        last = run_child(&actions, ends[0]);
        most = last > most ? last : most;
        sum += last;
    }
    bench_stop(&bench);
    posix_spawn_file_actions_destroy(&actions);
    bench_report_rss(&bench, processes, most, last, sum / processes);
    return 0;
}
