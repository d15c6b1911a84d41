/*
 * compare_report.c - the report of `lucid compare`, as tables and as JSON.
 *
 *     lucid compare [1]: COMMAND                  with several commands, each has its number
 *
 *     allocator   wall min  ratio  wall median  ratio  95 % interval    user+sys  ratio
 *     glibc        1.420 s   1.00      1.441 s   1.00      1.00-1.00     1.401 s   1.00
 *     lucid        0.980 s   0.69      0.990 s   0.69      0.68-0.70     0.960 s   0.69
 *
 *     allocator   peak RSS  ratio    mean RSS  ratio   final RSS  ratio      faults  ratio  ...
 *
 * Several commands end with a table of geometric means. The JSON has the same figures, unrounded,
 * and every single run.
 */
#include "compare/comparison.h"

#include "run/run.h"
#include "frame/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ tables ------------------- */

static int name_width(const struct comparison *comparison) {
    size_t width = strlen("allocator");
    for (size_t a = 0; a < comparison->allocators->count; a++) {
        size_t length = strlen(comparison->allocators->at[a].name);
        width = length > width ? length : width;
    }
    return (int)width;
}

static void print_name(struct output *out, const struct comparison *comparison, size_t a) {
    fprintf(out->to, "%-*s", name_width(comparison), comparison->allocators->at[a].name);
}

static void print_heads(struct output *out, const struct comparison *comparison,
                        const char *heads) {
    fprintf(out->to, "%s%-*s%s%s\n", output_bold(out), name_width(comparison), "allocator", heads,
            output_plain(out));
}

static void print_ratio(struct output *out, int width, double ratio) {
    fprintf(out->to, "%s%*s%s", output_tint(out, ratio), width, cell_ratio(ratio).text,
            output_plain(out));
}

static struct cell cell_interval(struct interval interval) {
    struct cell cell = cell_ratio(NAN);
    if (!isnan(interval.low))
        snprintf(cell.text, sizeof(cell.text), "%.2f-%.2f", interval.low, interval.high);
    return cell;
}

static void print_times(struct output *out, const struct comparison *comparison, size_t command,
                        size_t a) {
    struct figure wall = compare_figure(comparison, command, a, MEASURE_WALL);
    struct figure cpu = compare_figure(comparison, command, a, MEASURE_CPU);
    struct ratios ratios = compare_ratios(comparison, command, a);
    print_name(out, comparison, a);
    fprintf(out->to, "%10s", cell_seconds(wall.min).text);
    print_ratio(out, 7, ratios.wall_min);
    fprintf(out->to, "%13s", cell_seconds(wall.median).text);
    print_ratio(out, 7, ratios.median[MEASURE_WALL]);
    fprintf(out->to, "%15s%12s", cell_interval(ratios.wall).text, cell_seconds(cpu.min).text);
    print_ratio(out, 7, ratios.cpu_min);
    fputc('\n', out->to);
}

static void print_bytes(struct output *out, double bytes, double ratio) {
    fprintf(out->to, "%11s", isnan(bytes) ? "-" : cell_bytes(bytes).text);
    print_ratio(out, 6, ratio);
}

static void print_memory(struct output *out, const struct comparison *comparison, size_t command,
                         size_t a) {
    static const enum measure shown[] = {MEASURE_PEAK, MEASURE_MEAN, MEASURE_FINAL};
    struct ratios ratios = compare_ratios(comparison, command, a);
    print_name(out, comparison, a);
    for (size_t i = 0; i < TOOL_COUNT_OF(shown); i++)
        print_bytes(out, compare_figure(comparison, command, a, shown[i]).median,
                    ratios.median[shown[i]]);
    struct figure faults = compare_figure(comparison, command, a, MEASURE_FAULTS);
    fprintf(out->to, "%11s", cell_count(faults.median).text);
    print_ratio(out, 6, ratios.median[MEASURE_FAULTS]);
    if (comparison->counts_syscalls) {
        double calls = (double)compare_series(comparison, command, a)->syscalls.total;
        fprintf(out->to, "%11s", cell_count(calls).text);
        print_ratio(out, 6, ratios.syscalls);
    }
    fputc('\n', out->to);
}

static void print_command(struct output *out, const struct comparison *comparison, size_t command) {
    char *title = comparison->command_count > 1 ? tool_format("lucid compare [%zu]", command + 1)
                                                : tool_format("lucid compare");
    report_command(out, title, comparison->commands[command]);
    free(title);
    print_heads(out, comparison,
                "  wall min  ratio  wall median  ratio  95 % interval    user+sys  ratio");
    for (size_t a = 0; a < comparison->allocators->count; a++)
        print_times(out, comparison, command, a);
    fputc('\n', out->to);
    print_heads(out, comparison,
                comparison->counts_syscalls
                    ? "   peak RSS ratio   mean RSS ratio  final RSS ratio     faults ratio"
                      "   syscalls ratio"
                    : "   peak RSS ratio   mean RSS ratio  final RSS ratio     faults ratio");
    for (size_t a = 0; a < comparison->allocators->count; a++)
        print_memory(out, comparison, command, a);
    fputc('\n', out->to);
}

static void print_worst(struct output *out, struct worst worst) {
    struct cell cell = cell_ratio(worst.ratio);
    if (!isnan(worst.ratio))
        snprintf(cell.text, sizeof(cell.text), "%.2f [%zu]", worst.ratio, worst.command + 1);
    fprintf(out->to, "%s%14s%s", output_tint(out, worst.ratio), cell.text, output_plain(out));
}

static void print_means(struct output *out, const struct comparison *comparison) {
    fprintf(out->to, "%sgeometric means of the ratios, %zu commands; worst ratios [command]%s\n\n",
            output_bold(out), comparison->command_count, output_plain(out));
    print_heads(
        out, comparison,
        comparison->counts_syscalls
            ? "  wall min    wall  95 % interval  user+sys    peak    mean   final  faults"
              "  syscalls"
            : "  wall min    wall  95 % interval  user+sys    peak    mean   final  faults");
    for (size_t a = 0; a < comparison->allocators->count; a++) {
        struct ratios mean = compare_mean_ratios(comparison, a);
        print_name(out, comparison, a);
        print_ratio(out, 10, mean.wall_min);
        print_ratio(out, 8, mean.median[MEASURE_WALL]);
        fprintf(out->to, "%15s", cell_interval(mean.wall).text);
        print_ratio(out, 10, mean.cpu_min);
        for (int m = MEASURE_PEAK; m <= MEASURE_FAULTS; m++) print_ratio(out, 8, mean.median[m]);
        if (comparison->counts_syscalls) print_ratio(out, 10, mean.syscalls);
        fputc('\n', out->to);
    }
    fputc('\n', out->to);
    print_heads(out, comparison, "    worst wall    worst peak");
    for (size_t a = 0; a < comparison->allocators->count; a++) {
        print_name(out, comparison, a);
        print_worst(out, compare_worst(comparison, a, MEASURE_WALL));
        print_worst(out, compare_worst(comparison, a, MEASURE_PEAK));
        fputc('\n', out->to);
    }
    fputc('\n', out->to);
}

void compare_print_text(struct output *out, const struct comparison *comparison) {
    for (size_t c = 0; c < comparison->command_count; c++) print_command(out, comparison, c);
    if (comparison->command_count > 1) print_means(out, comparison);
    fprintf(out->to,
            "%u runs each, interleaved; user+sys is the least, RSS and faults the "
            "median;\nratios are against %s\n",
            comparison->repeats, comparison->allocators->at[0].name);
}

/* ------------------------------------------------------------------ JSON --------------------- */

static json_t *number_json(double value) {
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *ratios_json(const struct ratios *ratios) {
    return json_pack(
        "{s:o, s:o, s:[o, o], s:o, s:o, s:o, s:o, s:o, s:o}", "wall_min",
        number_json(ratios->wall_min), "wall_median", number_json(ratios->median[MEASURE_WALL]),
        "wall_interval", number_json(ratios->wall.low), number_json(ratios->wall.high), "cpu_min",
        number_json(ratios->cpu_min), "peak_rss_median", number_json(ratios->median[MEASURE_PEAK]),
        "mean_rss_median", number_json(ratios->median[MEASURE_MEAN]), "final_rss_median",
        number_json(ratios->median[MEASURE_FINAL]), "faults_median",
        number_json(ratios->median[MEASURE_FAULTS]), "syscalls", number_json(ratios->syscalls));
}

static json_t *bytes_json(int64_t bytes) {
    return bytes != 0 ? json_integer((json_int_t)bytes) : json_null();
}

static json_t *runs_json(const struct comparison *comparison, const struct series *series) {
    json_t *runs = json_array();
    for (unsigned r = 0; r < comparison->repeats; r++) {
        const struct child_result *result = &series->runs[r];
        json_t *run = report_result_json(result);
        json_object_set_new(run, "mean_rss_bytes", bytes_json(result->mean_rss_bytes));
        json_object_set_new(run, "final_rss_bytes", bytes_json(result->final_rss_bytes));
        json_array_append_new(runs, run);
    }
    return runs;
}

static json_t *syscalls_json(const struct comparison *comparison, const struct series *series) {
    if (!comparison->counts_syscalls) return json_null();
    json_t *calls = json_object();
    for (size_t i = 0; i < series->syscalls.count; i++)
        json_object_set_new(calls, series->syscalls.at[i].name,
                            json_integer((json_int_t)series->syscalls.at[i].calls));
    return json_pack("{s:I, s:o}", "total", (json_int_t)series->syscalls.total, "calls", calls);
}

static json_t *series_json(const struct comparison *comparison, size_t command, size_t a) {
    const struct allocator *allocator = &comparison->allocators->at[a];
    const struct series *series = compare_series(comparison, command, a);
    struct ratios ratios = compare_ratios(comparison, command, a);
    json_t *object = json_pack("{s:s, s:s}", "allocator", allocator->name, "library",
                               allocator->library);
    for (int m = 0; m < MEASURE_COUNT; m++) {
        struct figure figure = compare_figure(comparison, command, a, (enum measure)m);
        json_object_set_new(object, compare_measure_key((enum measure)m),
                            json_pack("{s:o, s:o}", "min", number_json(figure.min), "median",
                                      number_json(figure.median)));
    }
    json_object_set_new(object, "syscalls", syscalls_json(comparison, series));
    json_object_set_new(object, "ratio_to_first", ratios_json(&ratios));
    json_object_set_new(object, "runs", runs_json(comparison, series));
    return object;
}

static json_t *worst_json(struct worst worst) {
    if (isnan(worst.ratio)) return json_null();
    return json_pack("{s:f, s:I}", "ratio", worst.ratio, "command", (json_int_t)worst.command);
}

static json_t *summary_json(const struct comparison *comparison, size_t a) {
    struct ratios mean = compare_mean_ratios(comparison, a);
    json_t *worst = json_object();
    for (int m = 0; m < MEASURE_COUNT; m++)
        json_object_set_new(worst, compare_measure_key((enum measure)m),
                            worst_json(compare_worst(comparison, a, (enum measure)m)));
    return json_pack("{s:s, s:o, s:o}", "allocator", comparison->allocators->at[a].name,
                     "geometric_mean", ratios_json(&mean), "worst", worst);
}

void compare_print_json(struct output *out, const struct comparison *comparison) {
    json_t *commands = json_array(), *summary = json_array();
    for (size_t c = 0; c < comparison->command_count; c++) {
        json_t *allocators = json_array();
        for (size_t a = 0; a < comparison->allocators->count; a++)
            json_array_append_new(allocators, series_json(comparison, c, a));
        json_array_append_new(commands, json_pack("{s:o, s:o}", "command",
                                                  report_command_json(comparison->commands[c]),
                                                  "allocators", allocators));
    }
    for (size_t a = 0; a < comparison->allocators->count; a++)
        json_array_append_new(summary, summary_json(comparison, a));
    json_t *json = json_pack("{s:s, s:i, s:i, s:o, s:o}", "schema", "lucid-compare-2", "repeats",
                             (int)comparison->repeats, "warmups", (int)comparison->warmups,
                             "commands", commands, "summary", summary);
    output_json(out, json);
    json_decref(json);
}
