/*
 * child.c - starts the command, waits for it, and reads what it used.
 *
 *     lucid                      child
 *     fork ───────────────────▶  waits for a byte on the release pipe
 *     (child_calls.c attaches)
 *     clock, release ─────────▶  environment, stdin, stdout; reports the faults so far; execve
 *     report pipe: end of file   the program runs            (or: reports errno, exits)
 *     wait4 ◀──────────────────  end; rusage
 *
 * The report pipe is close-on-exec, so its end of file means that execve went well; that is how
 * 126 and 127 are told from a program that exits with these statuses by itself.
 *
 * Exactness: the clock starts right before the release. Faults that the child took between fork
 * and execve are ours, so they are subtracted. The kernel's peak RSS covers that time as well, but
 * a forked copy of this small program has less than any program after its loader has run.
 */
#include "run/child.h"

#include "run/sample.h"
#include "frame/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct child_report {
    int error;
    bool in_setup;
    int64_t minor_faults, major_faults;
};

/* ------------------------------------------------------------------ signals ------------------ */

static const int passed_on[] = {SIGTERM, SIGHUP};
static const int left_to_child[] = {SIGINT, SIGQUIT};
static struct sigaction old_passed_on[TOOL_COUNT_OF(passed_on)];
static struct sigaction old_left[TOOL_COUNT_OF(left_to_child)];
static volatile pid_t signal_target;

static void pass_on(int signal_number) {
    int saved = errno;
    if (signal_target > 0) kill(signal_target, signal_number);
    errno = saved;
}

void child_signals_begin(pid_t child) {
    struct sigaction pass = {.sa_handler = pass_on, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    signal_target = child;
    for (size_t i = 0; i < TOOL_COUNT_OF(passed_on); i++)
        sigaction(passed_on[i], &pass, &old_passed_on[i]);
    for (size_t i = 0; i < TOOL_COUNT_OF(left_to_child); i++)
        sigaction(left_to_child[i], &ignore, &old_left[i]);
}

void child_signals_end(void) {
    for (size_t i = 0; i < TOOL_COUNT_OF(passed_on); i++)
        sigaction(passed_on[i], &old_passed_on[i], NULL);
    for (size_t i = 0; i < TOOL_COUNT_OF(left_to_child); i++)
        sigaction(left_to_child[i], &old_left[i], NULL);
    signal_target = 0;
}

/* ------------------------------------------------------------------ in the child ------------- */

static void put_on(int fd, int target) {
    if (fd >= 0 && fd != target) {
        dup2(fd, target);
        close(fd);
    }
}

/* A run among several must not find its stdin eaten by the one before: a file is opened anew at
 * the place where ours stands, everything else is replaced by /dev/null. */
static void give_fresh_stdin(void) {
    struct stat status;
    off_t at = lseek(0, 0, SEEK_CUR);
    int fd = -1;
    if (fstat(0, &status) == 0 && S_ISREG(status.st_mode) && at >= 0) {
        fd = open("/proc/self/fd/0", O_RDONLY);
        if (fd >= 0) lseek(fd, at, SEEK_SET);
    }
    put_on(fd >= 0 ? fd : open("/dev/null", O_RDONLY), 0);
}

char *child_preload(const struct allocator *allocator) {
    const char *before = getenv("LD_PRELOAD");
    bool more = before != NULL && before[0] != '\0';
    return tool_format("%s%s%s", allocator->library, more ? ":" : "", more ? before : "");
}

static void set_environment(const struct child_plan *plan) {
    if (plan->allocator != NULL) {
        char *preload = child_preload(plan->allocator);
        setenv("LD_PRELOAD", preload, 1);
        free(preload);
    }
    if (plan->recorder != NULL) {
        struct allocator recorder = {.library = strdupa(plan->recorder)};
        char *preload = child_preload(&recorder);
        char *record = tool_format("%d:%s", (int)getpid(), plan->record);
        setenv("LD_PRELOAD", preload, 1);
        setenv("LUCID_RECORD", record, 1);
        free(record);
        free(preload);
    }
    if (plan->lucid_options != NULL) setenv("LUCID_OPTIONS", plan->lucid_options, 1);
}

static void send_report(int fd, const struct child_report *report) {
    ssize_t written = write(fd, report, sizeof(*report));
    (void)written; /* the reader takes a missing report for a failure */
}

static _Noreturn void become_command(const struct child_plan *plan, int (*before_exec)(void),
                                     int wait_fd, int report_fd) {
    struct child_report report = {0, true, 0, 0};
    struct rusage used;
    char byte;
    while (read(wait_fd, &byte, 1) < 0 && errno == EINTR) continue;
    set_environment(plan);
    if (plan->repeated) give_fresh_stdin();
    if (plan->quiet) {
        put_on(open("/dev/null", O_WRONLY), 1);
        dup2(1, 2);
    }
    report.error = before_exec != NULL ? before_exec() : 0;
    if (getrusage(RUSAGE_SELF, &used) == 0) {
        report.minor_faults = used.ru_minflt;
        report.major_faults = used.ru_majflt;
    }
    send_report(report_fd, &report);
    if (report.error != 0) _exit(TOOL_FAILED);
    execvp(plan->argv[0], plan->argv);
    report.error = errno;
    report.in_setup = false;
    send_report(report_fd, &report);
    _exit(TOOL_FAILED);
}

/* ------------------------------------------------------------------ in the parent ------------ */

void child_start(const struct child_plan *plan, int (*before_exec)(void),
                 struct child_process *process) {
    int release[2], report[2];
    if (pipe2(release, O_CLOEXEC) != 0 || pipe2(report, O_CLOEXEC) != 0)
        tool_die("cannot make a pipe: %s", strerror(errno));
    fflush(NULL);
    process->pid = fork();
    if (process->pid < 0) tool_die("cannot start a process: %s", strerror(errno));
    if (process->pid == 0) {
        close(release[1]);
        close(report[0]);
        become_command(plan, before_exec, release[0], report[1]);
    }
    close(release[0]);
    close(report[1]);
    process->release_fd = release[1];
    process->report_fd = report[0];
}

static bool read_report(int fd, struct child_report *report) {
    ssize_t got;
    do got = read(fd, report, sizeof(*report));
    while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(*report);
}

int child_release(struct child_process *process, bool *in_setup, int64_t *minor_faults,
                  int64_t *major_faults) {
    struct child_report first = {0, true, 0, 0};
    if (process->release_fd >= 0) {
        close(process->release_fd); /* end of file releases it as a byte does */
        process->release_fd = -1;
    }
    bool told = read_report(process->report_fd, &first);
    struct child_report second = first;
    bool failed = told && first.error == 0 && read_report(process->report_fd, &second);
    close(process->report_fd);
    *minor_faults = first.minor_faults;
    *major_faults = first.major_faults;
    *in_setup = failed ? second.in_setup : true;
    return failed ? second.error : first.error;
}

void child_note_end(struct child_result *result, int wait_status) {
    result->signal = WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : 0;
    result->exit_status = result->signal != 0 ? 128 + result->signal : WEXITSTATUS(wait_status);
}

void child_note_start_error(struct child_result *result, int error) {
    result->start_error = error;
    result->exit_status = error == ENOENT ? TOOL_NOT_FOUND : TOOL_NOT_EXECUTABLE;
}

static double seconds_of(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static double seconds_between(const struct timespec *from, const struct timespec *to) {
    return (double)(to->tv_sec - from->tv_sec) + (double)(to->tv_nsec - from->tv_nsec) / 1e9;
}

/* Look at the memory of process `pid` until it ends; it is not waited for. */
static struct sampled sample_until_end(pid_t pid) {
    struct sampler sampler;
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) tool_die("cannot watch the command (Linux 5.3 can): %s", strerror(errno));
    struct pollfd end = {.fd = pidfd, .events = POLLIN};
    sampler_init(&sampler, pid);
    int wait_ms = SAMPLE_FIRST_MS;
    while (poll(&end, 1, wait_ms) <= 0) {
        sampler_take(&sampler);
        wait_ms = SAMPLE_INTERVAL_MS;
    }
    struct sampled sampled = sampler_fini(&sampler);
    close(pidfd);
    return sampled;
}

static void note_samples(struct child_result *result, const struct sampled *sampled) {
    if (sampled->peak > result->peak_rss_bytes) result->peak_rss_bytes = sampled->peak;
    result->final_rss_bytes = sampled->final;
    result->mean_rss_bytes = sampled->mean;
}

void child_run(const struct child_plan *plan, struct child_result *result) {
    struct child_process process;
    struct timespec start, end;
    struct rusage used;
    int64_t minor_before, major_before;
    int wait_status;
    bool in_setup;
    memset(result, 0, sizeof(*result));
    child_start(plan, NULL, &process);
    child_signals_begin(process.pid);
    clock_gettime(CLOCK_MONOTONIC, &start);
    int error = child_release(&process, &in_setup, &minor_before, &major_before);
    struct sampled sampled = {0, 0, 0};
    if (plan->sampled) sampled = sample_until_end(process.pid);
    while (wait4(process.pid, &wait_status, 0, &used) < 0)
        if (errno != EINTR) tool_die("cannot wait for the command: %s", strerror(errno));
    clock_gettime(CLOCK_MONOTONIC, &end);
    child_signals_end();
    result->pid = process.pid;
    child_note_end(result, wait_status);
    if (error != 0) child_note_start_error(result, error);
    result->wall_seconds = seconds_between(&start, &end);
    result->user_seconds = seconds_of(used.ru_utime);
    result->system_seconds = seconds_of(used.ru_stime);
    result->peak_rss_bytes = (int64_t)used.ru_maxrss * 1024;
    note_samples(result, &sampled);
    result->minor_faults = used.ru_minflt - minor_before;
    result->major_faults = used.ru_majflt - major_before;
}
