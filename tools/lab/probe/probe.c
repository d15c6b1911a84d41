/*
 * probe.c - the program lucid-probe: the table of measurements, and what they share.
 *
 * See probe.h. Numbers are formatted with snprintf into buffers on the stack; for what is printed
 * here glibc's takes no memory from malloc.
 */
#include "probe/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "probe/probe_list.h"

enum { FACT_FD = 3 };

/* ------------------------------------------------------------------ facts -------------------- */

static void write_all(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t done = write(fd, text, length);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) _exit(1);
        text += done;
        length -= (size_t)done;
    }
}

static int facts = STDOUT_FILENO;

static void tell(const char *text, size_t length) {
    write_all(facts, text, length);
}

/* A line of the given words; what is too long is cut. */
static void tell_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell_line(const char *format, ...) {
    char line[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
    line[length] = '\n';
    tell(line, (size_t)length + 1);
}

void probe_number(const char *name, double value) {
    tell_line("= %s %.17g", name, value);
}

void probe_point(const char *series, double x, double y) {
    tell_line("+ %s %.17g %.17g", series, x, y);
}

void probe_text(const char *name, const char *format, ...) {
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tell_line(": %s %s", name, text);
}

void probe_die(const char *format, ...) {
    char text[300];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text - 1, format, args);
    va_end(args);
    if (length > (int)sizeof text - 2) length = (int)sizeof text - 2;
    text[length] = '\n';
    write_all(STDERR_FILENO, text, (size_t)length + 1);
    _exit(1);
}

size_t probe_argument(int argc, char **argv, int which) {
    char *end = NULL;
    if (which >= argc) probe_die("%s: argument %d is missing", argv[0], which);
    size_t value = strtoul(argv[which], &end, 10);
    if (*end != '\0' || end == argv[which])
        probe_die("%s: '%s' is no number", argv[0], argv[which]);
    return value;
}

/* ------------------------------------------------------------------ figures of the process --- */

size_t probe_page(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void read_file(const char *path, char *text, size_t room) {
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) probe_die("cannot read %s", path);
    for (ssize_t got = 1; got > 0 && length < room - 1; length += (size_t)(got > 0 ? got : 0)) {
        got = read(fd, text + length, room - 1 - length);
    }
    close(fd);
    text[length] = '\0';
}

/* A line of smaps_rollup, in bytes, and what is swapped out, which is no less the process's: the
 * kernel counts the pages then, where statm may be late by 64 pages for each thread. */
static size_t rollup(const char *name) {
    static const char swapped[] = "\nSwap:";
    char text[4096];
    read_file("/proc/self/smaps_rollup", text, sizeof text);
    const char *line = strstr(text, name), *swap = strstr(text, swapped);
    if (line == NULL) probe_die("smaps_rollup has no %s", name);
    size_t kib = strtoul(line + strlen(name), NULL, 10);
    if (swap != NULL) kib += strtoul(swap + sizeof swapped - 1, NULL, 10);
    return kib * 1024;
}

size_t probe_mapped(void) {
    char text[128];
    read_file("/proc/self/statm", text, sizeof text);
    return strtoul(text, NULL, 10) * probe_page();
}

size_t probe_resident(void) {
    return rollup("\nRss:");
}

size_t probe_anonymous(void) {
    return rollup("\nAnonymous:");
}

size_t probe_faults(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (size_t)used.ru_minflt;
}

static uint64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t probe_now_ns(void) {
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t probe_worked_ns(void) {
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

bool probe_is_mapped(const void *address) {
    unsigned char residence;
    uintptr_t page = (uintptr_t)address & ~(uintptr_t)(probe_page() - 1);
    return mincore((void *)page, 1, &residence) == 0;
}

void probe_touch(void *block, size_t bytes) {
    volatile char *at = block;
    for (size_t i = 0; i < bytes; i += probe_page()) at[i] = 1;
}

/* ------------------------------------------------------------------ maps --------------------- */

static void read_map(char *line, struct probe_map *map, char permissions[5]) {
    char *at = line;
    map->start = strtoul(at, &at, 16);
    map->end = strtoul(at + 1, &at, 16);
    memcpy(permissions, at + 1, 4);
    permissions[4] = '\0';
    const char *name = strpbrk(at, "[/");
    size_t length = name != NULL ? strlen(name) : 0;
    if (length >= sizeof map->name) name += length - sizeof map->name + 1;
    snprintf(map->name, sizeof map->name, "%s", name != NULL ? name : "");
}

void probe_each_map(void (*each)(void *arg, const struct probe_map *map, const char *permissions),
                    void *arg) {
    static char text[1 << 18];
    read_file("/proc/self/maps", text, sizeof text);
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        struct probe_map map;
        char permissions[5];
        if (line[0] == '\0') continue;
        read_map(line, &map, permissions);
        each(arg, &map, permissions);
    }
}

struct wanted {
    uintptr_t address;
    struct probe_map *map;
    bool found;
};

static void compare(void *arg, const struct probe_map *map, const char *permissions) {
    struct wanted *wanted = arg;
    (void)permissions;
    if (wanted->address < map->start || wanted->address >= map->end) return;
    *wanted->map = *map;
    wanted->found = true;
}

bool probe_map_of(const void *address, struct probe_map *map) {
    struct wanted wanted = {(uintptr_t)address, map, false};
    probe_each_map(compare, &wanted);
    return wanted.found;
}

/* ------------------------------------------------------------------ children ----------------- */

double probe_in_child(double (*function)(size_t argument), size_t argument) {
    int ends[2], status;
    double result = 0;
    if (pipe(ends) != 0) probe_die("cannot make a pipe");
    pid_t pid = fork();
    if (pid < 0) probe_die("cannot fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody would wait for what it finds */
        result = function(argument);
        write_all(ends[1], (const char *)&result, sizeof result);
        _exit(0);
    }
    close(ends[1]);
    bool told = read(ends[0], &result, sizeof result) == (ssize_t)sizeof result;
    close(ends[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0 || !told) {
        probe_die("a child ended with status 0x%x", (unsigned)status);
    }
    return result;
}

/* ------------------------------------------------------------------ main --------------------- */

int main(int argc, char **argv) {
    if (fcntl(FACT_FD, F_GETFD) >= 0) facts = FACT_FD;
    for (const struct probe *probe = probes; argc > 1 && probe->name != NULL; probe++) {
        if (strcmp(probe->name, argv[1]) == 0) return probe->run(argc - 1, argv + 1);
    }
    probe_die("lucid-probe: measures for 'lucid lab'; it has no '%s'", argc > 1 ? argv[1] : "");
}
