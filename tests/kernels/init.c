/*
 * init.c - the first process of a guest that runs the project's programs on another kernel
 * (scripts/kernels): mounts what they need, runs the lines of /plan one after the other, says on
 * the console what came of each, and switches the machine off.
 *
 *     plan line     ID SECONDS MIB [NAME=VALUE...] /PROGRAM [ARGUMENT...], with tabs between
 *     console       @kernel RELEASE VERSION, pages of N bytes, N processors
 *                   @start ID
 *                   @out TEXT, @err TEXT, @log TEXT     lines of stdout, stderr, the kernel
 *                   @end ID exit STATUS | signal NUMBER | timeout SECONDS, and milliseconds
 *                   @done
 *
 * MIB other than 0 has the program run in a memory control group with that limit. Its output goes
 * to files and is printed when it has ended; what is not printable becomes \xHH. A backslash does,
 * too. Whatever a program leaves running is killed before the next begins. What the kernel logged
 * meanwhile is printed of programs that were killed by SIGKILL or took too long.
 *
 * Linked statically: it must run where nothing is mounted yet. A failure here ends the machine with
 * a line that begins with "init:", and there is no @done.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MOST = 64, TEXT_MOST = 256 << 10, LOG_MOST = 8 << 10, READ_LOG = 3, CLEAR_LOG = 5 };

#define GROUP "/sys/fs/cgroup/program"
#define OUT "/tmp/out"
#define ERR "/tmp/err"

struct program {
    const char *id;
    long seconds;
    long mib;
    char *environment[WORDS_MOST + 1];
    char *arguments[WORDS_MOST + 1];
};

__attribute__((format(printf, 1, 2))) static void say(const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length >= (int)sizeof text) length = (int)sizeof text - 1;
    for (int done = 0; done < length;) {
        ssize_t wrote = write(1, text + done, (size_t)(length - done));
        if (wrote <= 0) return;
        done += (int)wrote;
    }
}

__attribute__((noreturn)) static void end_machine(void) {
    (void)tcdrain(1);
    (void)reboot(RB_POWER_OFF);
    for (;;) (void)pause();
}

static void require(bool condition, const char *what) {
    if (condition) return;
    say("init: %s: %s\n", what, strerror(errno));
    end_machine();
}

static void mount_at(const char *type, const char *path, const char *options) {
    require(mkdir(path, 0755) == 0 || errno == EEXIST, path);
    require(mount(type, path, type, 0, options) == 0 || errno == EBUSY, path);
}

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    require(fd >= 0, path);
    require(write(fd, text, strlen(text)) == (ssize_t)strlen(text), path);
    (void)close(fd);
}

static void set_up(void) {
    mount_at("devtmpfs", "/dev", NULL);
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; fd < 3; fd++) (void)dup2(console, fd);
    require(console >= 0, "/dev/console");
    mount_at("proc", "/proc", NULL);
    mount_at("sysfs", "/sys", NULL);
    mount_at("devpts", "/dev/pts", NULL);
    mount_at("tmpfs", "/dev/shm", NULL);
    mount_at("cgroup2", "/sys/fs/cgroup", NULL);
    write_file("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
    struct utsname name;
    require(uname(&name) == 0, "uname");
    say("@kernel %s %s, pages of %ld bytes, %ld processors\n", name.release, name.version,
        sysconf(_SC_PAGESIZE), sysconf(_SC_NPROCESSORS_ONLN));
}

/* One line in one piece: what the kernel says does not come between. */
static void say_line(const char *kind, const char *text, size_t length) {
    char line[4096];
    size_t used = (size_t)snprintf(line, sizeof line, "@%s ", kind);
    for (size_t i = 0; i < length && used < sizeof line - 8; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c >= ' ' && c < 127 && c != '\\') || c == '\t') {
            line[used++] = (char)c;
        } else {
            used += (size_t)snprintf(line + used, 5, "\\x%02x", c);
        }
    }
    line[used++] = '\n';
    for (size_t done = 0; done < used;) {
        ssize_t wrote = write(1, line + done, used - done);
        if (wrote <= 0) return;
        done += (size_t)wrote;
    }
}

static void say_lines(const char *kind, const char *text, size_t length) {
    while (length > 0) {
        const char *newline = memchr(text, '\n', length);
        size_t here = newline != NULL ? (size_t)(newline - text) : length;
        say_line(kind, text, here);
        here += newline != NULL;
        text += here;
        length -= here;
    }
}

static void say_file(const char *kind, const char *path) {
    static char text[TEXT_MOST];
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    for (ssize_t got; (got = read(fd, text + length, sizeof text - length)) > 0;) {
        length += (size_t)got;
    }
    (void)close(fd);
    (void)unlink(path);
    say_lines(kind, text, length);
}

static void say_log(void) {
    static char text[LOG_MOST];
    int length = klogctl(READ_LOG, text, sizeof text);
    if (length > 0) say_lines("log", text, (size_t)length);
}

/* Split a line of the plan; false if it is none. */
static bool read_program(char *line, struct program *program) {
    size_t variables = 0, arguments = 0;
    *program = (struct program){.id = strsep(&line, "\t")};
    char *seconds = strsep(&line, "\t"), *mib = strsep(&line, "\t");
    if (seconds == NULL || mib == NULL) return false;
    program->seconds = strtol(seconds, NULL, 10);
    program->mib = strtol(mib, NULL, 10);
    for (char *word; (word = strsep(&line, "\t")) != NULL;) {
        bool variable = arguments == 0 && word[0] != '/';
        size_t *count = variable ? &variables : &arguments;
        if (*count == WORDS_MOST) return false;
        (variable ? program->environment : program->arguments)[(*count)++] = word;
    }
    return arguments > 0;
}

__attribute__((noreturn)) static void become(const struct program *program) {
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    (void)setsid();
    if (program->mib != 0) write_file(GROUP "/cgroup.procs", "0");
    int in = open("/dev/null", O_RDONLY);
    int out = open(OUT, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    int err = open(ERR, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    if (in < 0 || out < 0 || err < 0 || chdir("/tmp") != 0) _exit(126);
    (void)dup2(in, 0);
    (void)dup2(out, 1);
    (void)dup2(err, 2);
    for (int fd = 3; fd < 64; fd++) (void)close(fd);
    (void)execve(program->arguments[0], program->arguments, program->environment);
    say("%s: %s\n", program->arguments[0], strerror(errno));
    _exit(127);
}

static long now_ms(void) {
    struct timespec time;
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* Wait for `child`, and for whatever else ends meanwhile. False: it took too long. */
static bool wait_for(pid_t child, long seconds, int *status) {
    sigset_t ends;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGCHLD);
    for (long until = now_ms() + seconds * 1000; now_ms() < until;) {
        int other;
        for (pid_t ended; (ended = waitpid(-1, &other, WNOHANG)) > 0;) {
            if (ended != child) continue;
            *status = other;
            return true;
        }
        (void)sigtimedwait(&ends, NULL, &(struct timespec){.tv_sec = 1});
    }
    return false;
}

static void run(const struct program *program) {
    int status = 0;
    char text[64];
    say("@start %s\n", program->id);
    if (program->mib != 0) {
        require(mkdir(GROUP, 0755) == 0, GROUP);
        (void)snprintf(text, sizeof text, "%ldM", program->mib);
        write_file(GROUP "/memory.max", text);
    }
    (void)klogctl(CLEAR_LOG, NULL, 0);
    long begin = now_ms();
    pid_t child = fork();
    require(child >= 0, "fork");
    if (child == 0) become(program);
    bool ended = wait_for(child, program->seconds, &status);
    long took = now_ms() - begin;
    (void)kill(-1, SIGKILL);
    while (waitpid(-1, NULL, 0) > 0) {
    }
    if (program->mib != 0) require(rmdir(GROUP) == 0, "rmdir " GROUP);
    say_file("out", OUT);
    say_file("err", ERR);
    if (!ended || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)) say_log();
    if (!ended) {
        say("@end %s timeout %ld %ld\n", program->id, program->seconds, took);
    } else if (WIFSIGNALED(status)) {
        say("@end %s signal %d %ld\n", program->id, WTERMSIG(status), took);
    } else {
        say("@end %s exit %d %ld\n", program->id, WEXITSTATUS(status), took);
    }
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    sigset_t ends;
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &ends, NULL);
    set_up();
    FILE *plan = fopen("/plan", "re");
    require(plan != NULL, "/plan");
    for (ssize_t length; (length = getline(&line, &room, plan)) > 0;) {
        struct program program;
        if (line[length - 1] == '\n') line[length - 1] = '\0';
        errno = 0;
        require(read_program(line, &program), line);
        run(&program);
    }
    say("@done\n");
    end_machine();
}
