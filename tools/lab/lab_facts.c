/*
 * lab_facts.c - starts a probe in its own process and reads its facts.
 *
 * The probe writes to descriptor 3, apart from its output, one line for each fact:
 *
 *     = NAME NUMBER            a number
 *     : NAME TEXT…             a text, to the end of the line
 *     + NAME X Y               one more point of a series
 *
 * What it writes to standard error is kept too, for an allocator that finds misuse complains there;
 * its standard output is ours. Both pipes are read until they are closed, with one poll loop, and a
 * probe that takes more than a minute is killed.
 *
 * Where a probe runs should not show in what it measures. So the caller's LD_PRELOAD is not passed
 * on, transparent huge pages are switched off for it (one byte would make 2 MiB resident), the
 * stack may have 8 MiB (without a limit the kernel lays the address space out in another way), and
 * nothing that dies leaves a core file.
 */
#include "lab/lab_facts.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "frame/frame.h"

enum { FACT_FD = 3, SECONDS_MOST = 60, ARGUMENTS_MOST = 12, STARTED_NOT = 127 };
enum { STACK_BYTES = 8 * 1024 * 1024 };

struct points {
    char *name;
    double *x, *y;
    size_t count, room;
};

struct lab_facts {
    json_t *values; /* name -> number or text */
    struct points *series;
    size_t series_count;
    int end;
    char *complaint;
};

/* ------------------------------------------------------------------ lines -------------------- */

static struct points *points_of(struct lab_facts *facts, const char *name) {
    for (size_t i = 0; i < facts->series_count; i++) {
        if (strcmp(facts->series[i].name, name) == 0) return &facts->series[i];
    }
    facts->series = tool_grow(facts->series, facts->series_count + 1, sizeof *facts->series);
    struct points *points = &facts->series[facts->series_count++];
    *points = (struct points){.name = tool_format("%s", name)};
    return points;
}

static void add_point(struct lab_facts *facts, const char *name, double x, double y) {
    struct points *points = points_of(facts, name);
    if (points->count == points->room) {
        points->room = points->room != 0 ? 2 * points->room : 64;
        points->x = tool_grow(points->x, points->room, sizeof(double));
        points->y = tool_grow(points->y, points->room, sizeof(double));
    }
    points->x[points->count] = x;
    points->y[points->count++] = y;
}

static void read_line(struct lab_facts *facts, char *line) {
    if (line[0] == '\0' || line[1] != ' ') return;
    char *rest = line + 2, *name = strsep(&rest, " ");
    if (rest == NULL) return;
    switch (line[0]) {
    case '=':
        json_object_set_new(facts->values, name, json_real(strtod(rest, NULL)));
        return;
    case ':':
        json_object_set_new(facts->values, name, json_string(rest));
        return;
    case '+': {
        double x = strtod(rest, &rest);
        add_point(facts, name, x, strtod(rest, NULL));
        return;
    }
    default:
        return;
    }
}

static void read_lines(struct lab_facts *facts, char *text) {
    for (char *line = strsep(&text, "\n"); line != NULL; line = strsep(&text, "\n")) {
        read_line(facts, line);
    }
}

/* ------------------------------------------------------------------ the process -------------- */

struct process {
    pid_t pid;
    int facts, complaints; /* read ends */
};

static void limit_stack(void) {
    struct rlimit stack;
    if (getrlimit(RLIMIT_STACK, &stack) != 0) return;
    stack.rlim_cur = stack.rlim_max < STACK_BYTES ? stack.rlim_max : STACK_BYTES;
    (void)setrlimit(RLIMIT_STACK, &stack);
}

static void set_surroundings(const struct lab_launch *launch) {
    static const struct rlimit none = {0, 0};
    unsetenv("LD_PRELOAD");
    if (launch->allocator != NULL) setenv("LD_PRELOAD", launch->allocator->library, 1);
    if (launch->options != NULL) setenv("LUCID_OPTIONS", launch->options, 1);
    limit_stack();
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static _Noreturn void become_probe(const char *path, const struct lab_launch *launch, int facts,
                                   int complaints) {
    char *argv[2 * ARGUMENTS_MOST + 2],
        *rest = launch->under != NULL ? strdup(launch->under) : NULL;
    size_t count = 0;
    while (rest != NULL && count < ARGUMENTS_MOST) argv[count++] = strsep(&rest, " ");
    argv[count++] = strdup(path);
    for (size_t i = 0; launch->arguments[i] != NULL && i < ARGUMENTS_MOST; i++) {
        argv[count++] = strdup(launch->arguments[i]);
    }
    argv[count] = NULL;
    set_surroundings(launch);
    int told = fcntl(facts, F_DUPFD_CLOEXEC, 10); /* the two may be in each other's way */
    int kept = fcntl(complaints, F_DUPFD_CLOEXEC, 10);
    dup2(told, FACT_FD);
    dup2(kept, STDERR_FILENO);
    execvp(argv[0], argv);
    dprintf(STDERR_FILENO, "cannot start %s: %s\n", argv[0], strerror(errno));
    _exit(STARTED_NOT);
}

static struct process start(const struct lab_launch *launch) {
    int facts[2], complaints[2];
    if (pipe2(facts, O_CLOEXEC) != 0 || pipe2(complaints, O_CLOEXEC) != 0) {
        tool_die("cannot make a pipe: %s", strerror(errno));
    }
    char *path = allocator_find_part("lucid-probe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) tool_die("cannot fork: %s", strerror(errno));
    if (pid == 0) become_probe(path, launch, facts[1], complaints[1]);
    free(path);
    close(facts[1]);
    close(complaints[1]);
    return (struct process){pid, facts[0], complaints[0]};
}

struct text {
    char *at;
    size_t length;
};

/* False at the end of the file. */
static bool read_more(int fd, struct text *text) {
    char buffer[4096];
    ssize_t got = read(fd, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) return true;
    if (got <= 0) return false;
    text->at = tool_grow(text->at, text->length + (size_t)got + 1, 1);
    memcpy(text->at + text->length, buffer, (size_t)got);
    text->length += (size_t)got;
    text->at[text->length] = '\0';
    return true;
}

/* A program that went wrong may say anything; documents are text. */
static void make_plain(char *text) {
    for (char *c = text; c != NULL && *c != '\0'; c++) {
        if ((*c < ' ' && *c != '\n') || *c > '~') *c = '?';
    }
}

/* False if it took too long. */
static bool read_both(const struct process *process, struct text *facts, struct text *complaints) {
    struct pollfd polled[] = {{process->facts, POLLIN, 0}, {process->complaints, POLLIN, 0}};
    struct text *texts[] = {facts, complaints};
    time_t deadline = time(NULL) + SECONDS_MOST;
    int open = 2;
    while (open > 0 && time(NULL) <= deadline) {
        int ready = poll(polled, 2, 1000);
        if (ready < 0 && errno != EINTR) tool_die("cannot poll: %s", strerror(errno));
        for (int i = 0; i < 2 && ready > 0; i++) {
            if (polled[i].revents == 0 || read_more(polled[i].fd, texts[i])) continue;
            close(polled[i].fd);
            polled[i].fd = -1; /* poll skips it */
            open--;
        }
    }
    if (open > 0) kill(process->pid, SIGKILL);
    for (int i = 0; i < 2; i++) {
        if (polled[i].fd >= 0) close(polled[i].fd);
    }
    return open == 0;
}

struct lab_facts *lab_facts_gather(const struct lab_launch *launch) {
    struct lab_facts *facts = tool_alloc(1, sizeof *facts);
    struct text told = {NULL, 0}, complaints = {NULL, 0};
    struct process process = start(launch);
    bool in_time = read_both(&process, &told, &complaints);
    make_plain(told.at);
    make_plain(complaints.at);
    int status = 0;
    while (waitpid(process.pid, &status, 0) < 0 && errno == EINTR) continue;
    facts->end = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    facts->complaint = tool_format("%s%s", in_time ? "" : "killed after a minute ",
                                   complaints.at != NULL ? complaints.at : "");
    free(complaints.at);
    facts->values = json_object();
    if (told.at != NULL) read_lines(facts, told.at);
    free(told.at);
    return facts;
}

void lab_facts_destroy(struct lab_facts *facts) {
    for (size_t i = 0; i < facts->series_count; i++) {
        free(facts->series[i].name);
        free(facts->series[i].x);
        free(facts->series[i].y);
    }
    free(facts->series);
    free(facts->complaint);
    json_decref(facts->values);
    free(facts);
}

/* ------------------------------------------------------------------ questions ---------------- */

double lab_number(const struct lab_facts *facts, const char *name) {
    const json_t *value = json_object_get(facts->values, name);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

const char *lab_text(const struct lab_facts *facts, const char *name) {
    const char *text = json_string_value(json_object_get(facts->values, name));
    return text != NULL ? text : "";
}

size_t lab_series(const struct lab_facts *facts, const char *name, const double **x,
                  const double **y) {
    for (size_t i = 0; i < facts->series_count; i++) {
        const struct points *points = &facts->series[i];
        if (strcmp(points->name, name) != 0) continue;
        *x = points->x;
        *y = points->y;
        return points->count;
    }
    *x = *y = NULL;
    return 0;
}

int lab_end(const struct lab_facts *facts) {
    return facts->end;
}

const char *lab_complaint(const struct lab_facts *facts) {
    return facts->complaint;
}

json_t *lab_facts_json(const struct lab_facts *facts) {
    for (size_t i = 0; i < facts->series_count; i++) {
        const struct points *points = &facts->series[i];
        json_t *list = json_array();
        for (size_t p = 0; p < points->count; p++) {
            json_array_append_new(list, json_pack("[f, f]", points->x[p], points->y[p]));
        }
        json_object_set_new(facts->values, points->name, list);
    }
    return facts->values;
}
