/* comparison.h - what the files of `lucid compare` share: the plan, the runs, and their figures. */
#ifndef LUCID_COMPARISON_H
#define LUCID_COMPARISON_H

#include "run/run.h"
#include "frame/frame.h"
#include "compare/statistics.h"

/* All runs of one command on one allocator. */
struct series {
    struct child_result *runs; /* one a round */
    struct syscall_counts syscalls;
};

struct comparison {
    const struct allocator_list *allocators; /* ratios are to the first */
    char *const *const *commands;            /* each a list of words, ended by NULL */
    size_t command_count;
    unsigned repeats, warmups;
    bool counts_syscalls;
    struct series *series; /* command by command, in each allocator by allocator */
};

static inline struct series *compare_series(const struct comparison *comparison, size_t command,
                                            size_t allocator) {
    return &comparison->series[command * comparison->allocators->count + allocator];
}

/* ---- figures (compare_figures.c) ---- */

/* What is measured in each run. Less is better for all of them. */
enum measure {
    MEASURE_WALL,
    MEASURE_CPU,
    MEASURE_PEAK,
    MEASURE_MEAN,
    MEASURE_FINAL,
    MEASURE_FAULTS,
    MEASURE_COUNT
};
/* As in the JSON report. */
const char *compare_measure_key(enum measure measure);
/* In one run; not a number where it is not known. */
double compare_measure(const struct child_result *run, enum measure measure);

struct figure {
    double min, median; /* not numbers where a run does not know the measure */
};
struct figure compare_figure(const struct comparison *comparison, size_t command, size_t allocator,
                             enum measure measure);

/* Against the first allocator. For several commands: geometric means of the ratios. */
struct ratios {
    double wall_min, cpu_min;
    double median[MEASURE_COUNT];
    struct interval wall; /* 95 % bootstrap interval of median[MEASURE_WALL] */
    double syscalls;      /* not a number if not counted */
};
struct ratios compare_ratios(const struct comparison *comparison, size_t command, size_t allocator);
struct ratios compare_mean_ratios(const struct comparison *comparison, size_t allocator);

/* The greatest median ratio over all commands, and the command's index. */
struct worst {
    double ratio;
    size_t command;
};
struct worst compare_worst(const struct comparison *comparison, size_t allocator,
                           enum measure measure);

/* ---- reports (compare_report.c, plot.c) ---- */

void compare_print_text(struct output *out, const struct comparison *comparison);
/* Schema "lucid-compare-2". */
void compare_print_json(struct output *out, const struct comparison *comparison);

/* Time against memory, as SVG, by gnuplot, into the file `fd`, which is called `path` and is
 * closed. plot_require dies if gnuplot is not installed. */
void plot_require(const char *option);
void plot_write(const char *path, int fd, const struct comparison *comparison);

#endif
