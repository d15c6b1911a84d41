/*
 * plot.c - `lucid compare --plot`: time against memory, one point an allocator, drawn by gnuplot.
 *
 *     peak  |  x slow and fat
 *     RSS   |      x
 *           |  x----+            the Pareto front: no other allocator is at least as good in both
 *           |       |            and better in one; everything above and right of the line is
 *           |       x----- lean  beaten by a point on it
 *           +-------------
 *            fast      time
 *
 * The values are ratios to the first allocator, over several commands their geometric means; bars
 * show the interval of the time. gnuplot reads its script, data included, from a pipe, and its
 * standard output is the file, so no name has to be quoted for it.
 */
#include "compare/comparison.h"

#include "frame/frame.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GNUPLOT "gnuplot"

void plot_require(const char *option) {
    tool_need_program(GNUPLOT, "gnuplot-nox", option);
}

/* ------------------------------------------------------------------ points ------------------- */

struct point {
    const char *name;
    double time, memory;
    struct interval interval; /* of time */
};

static int by_time(const void *a, const void *b) {
    const struct point *x = a, *y = b;
    if (x->time != y->time) return x->time < y->time ? -1 : 1;
    return (x->memory > y->memory) - (x->memory < y->memory);
}

/* Sorted by time; the caller frees. */
static struct point *make_points(const struct comparison *comparison, size_t *count) {
    struct point *points = tool_alloc(comparison->allocators->count, sizeof(*points));
    *count = 0;
    for (size_t a = 0; a < comparison->allocators->count; a++) {
        struct ratios mean = compare_mean_ratios(comparison, a);
        struct point point = {comparison->allocators->at[a].name, mean.median[MEASURE_WALL],
                              mean.median[MEASURE_PEAK], mean.wall};
        if (!isnan(point.time) && !isnan(point.memory)) points[(*count)++] = point;
    }
    qsort(points, *count, sizeof(*points), by_time);
    return points;
}

/* ------------------------------------------------------------------ script ------------------- */

static void print_name(FILE *script, const char *name) {
    fputc('"', script);
    for (const char *c = name; *c != '\0'; c++)
        fputc(iscntrl((unsigned char)*c) || *c == '"' || *c == '\\' ? '?' : *c, script);
    fputc('"', script);
}

struct range {
    double low, high;
};

static void widen(struct range *range, double value) {
    range->low = fmin(range->low, value); /* which pass over what is not a number */
    range->high = fmax(range->high, value);
}

/* With a margin, wider to the right for the names; never empty. */
static void print_range(FILE *script, const char *axis, struct range range) {
    double margin = fmax((range.high - range.low) * 0.1, range.high * 0.01);
    fprintf(script, "set %srange [%.6g:%.6g]\n", axis, range.low - margin,
            range.high + (axis[0] == 'x' ? 2 : 1) * margin);
}

static void print_ranges(FILE *script, const struct point *points, size_t count) {
    struct range time = {INFINITY, 0}, memory = {INFINITY, 0};
    for (size_t i = 0; i < count; i++) {
        widen(&time, points[i].time);
        widen(&time, points[i].interval.low);
        widen(&time, points[i].interval.high);
        widen(&memory, points[i].memory);
    }
    print_range(script, "x", time);
    print_range(script, "y", memory);
}

/* Two tables: every point, and those on the front. */
static void print_data(FILE *script, const struct point *points, size_t count) {
    fputs("$points << END_OF_POINTS\n", script);
    for (size_t i = 0; i < count; i++) {
        print_name(script, points[i].name);
        fprintf(script, " %.6g %.6g %.6g %.6g\n", points[i].time, points[i].memory,
                points[i].interval.low, points[i].interval.high);
    }
    fputs("END_OF_POINTS\n$front << END_OF_FRONT\n", script);
    double least = INFINITY;
    for (size_t i = 0; i < count; i++) {
        if (points[i].memory >= least) continue;
        least = points[i].memory;
        fprintf(script, "%.6g %.6g\n", points[i].time, points[i].memory);
    }
    fputs("END_OF_FRONT\n", script);
}

static void print_script(FILE *script, const struct comparison *comparison) {
    size_t count;
    struct point *points = make_points(comparison, &count);
    if (count == 0) tool_die("there is nothing to plot: no run has both time and memory");
    fputs("set terminal svg size 800,600 dynamic background 'white' noenhanced\n"
          "set xlabel 'time, less is better'\nset ylabel 'peak RSS, less is better'\n"
          "set key below\nset grid\n",
          script);
    fprintf(script, "set title \"%zu command%s, %u runs each; ratios to \".",
            comparison->command_count, comparison->command_count == 1 ? "" : "s",
            comparison->repeats);
    print_name(script, comparison->allocators->at[0].name);
    fputc('\n', script);
    print_ranges(script, points, count);
    print_data(script, points, count);
    fputs("plot $front using 1:2 with steps dashtype 2 linecolor 'dark-red' notitle, "
          "$points using 2:3:4:5 with xerrorbars pointtype 7 linecolor 'dark-blue' "
          "title 'allocator, 95 % interval of time', "
          "$front using 1:2 with points pointtype 7 linecolor 'dark-red' title 'Pareto front', "
          "$points using 2:3:1 with labels left offset 1,0.6 notitle\n",
          script);
    free(points);
}

/* ------------------------------------------------------------------ gnuplot ------------------ */

static _Noreturn void become_gnuplot(int script_fd, int file_fd) {
    dup2(script_fd, STDIN_FILENO);
    dup2(file_fd, STDOUT_FILENO);
    execlp(GNUPLOT, GNUPLOT, "-", (char *)NULL);
    tool_warn("cannot run %s: %s", GNUPLOT, strerror(errno));
    _exit(TOOL_FAILED);
}

void plot_write(const char *path, int fd, const struct comparison *comparison) {
    int pipe_fds[2], status = 0;
    if (pipe2(pipe_fds, O_CLOEXEC) != 0) tool_die("cannot make a pipe: %s", strerror(errno));
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) tool_die("cannot start a process: %s", strerror(errno));
    if (pid == 0) become_gnuplot(pipe_fds[0], fd);
    close(pipe_fds[0]);
    close(fd);
    signal(SIGPIPE, SIG_IGN); /* should gnuplot end early, its status tells */
    FILE *script = fdopen(pipe_fds[1], "w");
    if (script == NULL) tool_die("out of memory");
    print_script(script, comparison);
    fclose(script);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) tool_die("cannot wait for %s: %s", GNUPLOT, strerror(errno));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        tool_die("%s failed and did not draw %s", GNUPLOT, path);
}
