/*
 * compare_figures.c - from the runs of `lucid compare` to its figures.
 *
 *     runs of one command on one allocator     figure    shortest and median
 *     two figures of one command               ratios    against the first allocator
 *     ratios of all commands                   means     geometric; and the worst of them
 *
 * Ratios are of medians, which the interval belongs to; of times there is the ratio of the shortest
 * as well, which other work on the machine disturbs least. A ratio to nothing (no page faults, an
 * unsampled run) is not a number, is shown as "-" or null, and is left out of the means.
 */
#include "compare/comparison.h"

#include "frame/frame.h"

#include <math.h>
#include <stdlib.h>

const char *compare_measure_key(enum measure measure) {
    static const char *const keys[MEASURE_COUNT] = {
        [MEASURE_WALL] = "wall_seconds",     [MEASURE_CPU] = "cpu_seconds",
        [MEASURE_PEAK] = "peak_rss_bytes",   [MEASURE_MEAN] = "mean_rss_bytes",
        [MEASURE_FINAL] = "final_rss_bytes", [MEASURE_FAULTS] = "faults",
    };
    return keys[measure];
}

static double known(int64_t bytes) {
    return bytes != 0 ? (double)bytes : NAN;
}

double compare_measure(const struct child_result *run, enum measure measure) {
    switch (measure) {
    case MEASURE_WALL:
        return run->wall_seconds;
    case MEASURE_CPU:
        return run->user_seconds + run->system_seconds;
    case MEASURE_PEAK:
        return known(run->peak_rss_bytes);
    case MEASURE_MEAN:
        return known(run->mean_rss_bytes);
    case MEASURE_FINAL:
        return known(run->final_rss_bytes);
    case MEASURE_FAULTS:
        return (double)(run->minor_faults + run->major_faults);
    case MEASURE_COUNT:
        break;
    }
    return NAN;
}

/* The values of all rounds; the caller frees. Sets `*complete` to whether all are known. */
static double *values_of(const struct comparison *comparison, size_t command, size_t allocator,
                         enum measure measure, bool *complete) {
    const struct series *series = compare_series(comparison, command, allocator);
    double *values = tool_alloc(comparison->repeats, sizeof(double));
    *complete = true;
    for (unsigned r = 0; r < comparison->repeats; r++) {
        values[r] = compare_measure(&series->runs[r], measure);
        if (isnan(values[r])) *complete = false;
    }
    return values;
}

struct figure compare_figure(const struct comparison *comparison, size_t command, size_t allocator,
                             enum measure measure) {
    bool complete;
    double *values = values_of(comparison, command, allocator, measure, &complete);
    struct figure figure = {NAN, NAN};
    if (complete)
        figure = (struct figure){statistics_min(values, comparison->repeats),
                                 statistics_median(values, comparison->repeats)};
    free(values);
    return figure;
}

/* The interval of wall times over commands `first` and those after it. */
static struct interval wall_interval(const struct comparison *comparison, size_t first,
                                     size_t count, size_t allocator) {
    struct paired *pairs = tool_alloc(count, sizeof(*pairs));
    bool complete;
    for (size_t c = 0; c < count; c++)
        pairs[c] = (struct paired){
            values_of(comparison, first + c, allocator, MEASURE_WALL, &complete),
            values_of(comparison, first + c, 0, MEASURE_WALL, &complete), comparison->repeats};
    struct interval interval = statistics_ratio_interval(pairs, count);
    for (size_t c = 0; c < count; c++) {
        free((double *)pairs[c].value);
        free((double *)pairs[c].base);
    }
    free(pairs);
    return interval;
}

static double syscalls_ratio(const struct comparison *comparison, size_t command,
                             size_t allocator) {
    if (!comparison->counts_syscalls) return NAN;
    return output_ratio((double)compare_series(comparison, command, allocator)->syscalls.total,
                        (double)compare_series(comparison, command, 0)->syscalls.total);
}

/* All but the interval, which takes long. */
static struct ratios point_ratios(const struct comparison *comparison, size_t command,
                                  size_t allocator) {
    struct ratios ratios = {.wall = {NAN, NAN}};
    for (int m = 0; m < MEASURE_COUNT; m++) {
        struct figure mine = compare_figure(comparison, command, allocator, (enum measure)m);
        struct figure base = compare_figure(comparison, command, 0, (enum measure)m);
        ratios.median[m] = output_ratio(mine.median, base.median);
        if (m == MEASURE_WALL) ratios.wall_min = output_ratio(mine.min, base.min);
        if (m == MEASURE_CPU) ratios.cpu_min = output_ratio(mine.min, base.min);
    }
    ratios.syscalls = syscalls_ratio(comparison, command, allocator);
    return ratios;
}

struct ratios compare_ratios(const struct comparison *comparison, size_t command,
                             size_t allocator) {
    struct ratios ratios = point_ratios(comparison, command, allocator);
    ratios.wall = wall_interval(comparison, command, 1, allocator);
    return ratios;
}

/* The geometric mean of one member, a double at `offset`, of all. */
static double mean_member(const struct ratios *all, size_t count, size_t offset) {
    double *values = tool_alloc(count, sizeof(double));
    for (size_t c = 0; c < count; c++)
        values[c] = *(const double *)((const char *)&all[c] + offset);
    double mean = statistics_geometric_mean(values, count);
    free(values);
    return mean;
}

struct ratios compare_mean_ratios(const struct comparison *comparison, size_t allocator) {
    size_t count = comparison->command_count;
    struct ratios *all = tool_alloc(count, sizeof(*all));
    for (size_t c = 0; c < count; c++) all[c] = point_ratios(comparison, c, allocator);
    struct ratios mean = {.wall_min = mean_member(all, count, offsetof(struct ratios, wall_min)),
                          .cpu_min = mean_member(all, count, offsetof(struct ratios, cpu_min)),
                          .syscalls = mean_member(all, count, offsetof(struct ratios, syscalls))};
    for (size_t m = 0; m < MEASURE_COUNT; m++)
        mean.median[m] = mean_member(all, count,
                                     offsetof(struct ratios, median) + m * sizeof(double));
    mean.wall = wall_interval(comparison, 0, count, allocator);
    free(all);
    return mean;
}

struct worst compare_worst(const struct comparison *comparison, size_t allocator,
                           enum measure measure) {
    struct worst worst = {NAN, 0};
    for (size_t c = 0; c < comparison->command_count; c++) {
        double ratio = point_ratios(comparison, c, allocator).median[measure];
        if (isnan(ratio) || ratio <= worst.ratio) continue;
        worst = (struct worst){ratio, c};
    }
    return worst;
}
