/*
 * compare.c - `lucid compare`: a program on several allocators, many times.
 *
 *     round 1:  A B C      each round runs every allocator once and starts with another one, so
 *     round 2:  B C A      that what else the machine does, and what one run leaves in the caches
 *     round 3:  C A B      for the next, falls on all of them alike
 *
 * Shown are the shortest time, which other work on the machine disturbs least, the median, and the
 * median of memory; ratios are against the first allocator named. The command's output goes to
 * /dev/null and the report to stdout, as hyperfine has it. A run that fails ends the comparison
 * unless --ignore-failure is given: times of a program that broke off mean nothing.
 */
#include "child.h"
#include "output.h"
#include "report.h"
#include "tool.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_JSON = 256 };

struct arguments {
    struct allocator_list allocators;
    unsigned repeats, warmups;
    bool json, ignore_failure;
    const char *output;
    char **command;
};

static const struct argp_option options[] = {
    {"allocators", 'a', "LIST", 0,
     "Allocators, separated by commas; ratios are against the first (default: glibc,lucid)", 0},
    {"repeats", 'r', "N", 0, "Run N times on each (default: 5)", 0},
    {"warmup", 'w', "N", 0, "Before that, run N times on each without measuring (default: 1)", 0},
    {"ignore-failure", 'i', NULL, 0, "Go on when a run fails", 0},
    {"json", KEY_JSON, NULL, 0, "Report as JSON (schema lucid-compare-1), every run included", 0},
    {"output", 'o', "FILE", 0, "Write the report to FILE instead of standard output", 0},
    {0},
};

static const char doc[] =
    "Run COMMAND on several allocators, interleaved, and compare time and memory."
    "\vAn allocator is lucid, glibc, jemalloc, mimalloc, tcmalloc, "
    "tcmalloc_minimal, or NAME=PATH of a library to preload. COMMAND's output is thrown away; its "
    "standard input is rewound if it is a file and empty otherwise.\n\n"
    "The exit status is 0, 125 if lucid itself or a run of COMMAND fails, 126 if COMMAND cannot "
    "be executed, 127 if it is not found.";

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct arguments *args = state->input;
    switch (key) {
    case 'a':
        allocator_add_all(&args->allocators, arg);
        return 0;
    case 'r':
        args->repeats = tool_parse_number(state, arg, 1, "--repeats");
        return 0;
    case 'w':
        args->warmups = tool_parse_number(state, arg, 0, "--warmup");
        return 0;
    case 'i':
        args->ignore_failure = true;
        return 0;
    case KEY_JSON:
        args->json = true;
        return 0;
    case 'o':
        args->output = arg;
        return 0;
    case ARGP_KEY_ARG:
        args->command = &state->argv[state->next - 1];
        state->next = state->argc;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "no command to run");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ------------------------------------------------------------------ running ------------------ */

/* Ends the program if the run failed and that is not ignored. */
static void check_end(const struct child_result *result, const struct allocator *allocator,
                      const struct arguments *args) {
    if (result->start_error != 0) {
        tool_warn("cannot run %s: %s", args->command[0], strerror(result->start_error));
        exit(result->exit_status);
    }
    if (result->signal == SIGINT) exit(result->exit_status);
    if (result->exit_status == 0 || args->ignore_failure) return;
    if (result->signal != 0)
        tool_die("signal %d (%s) ended the command on %s; --ignore-failure goes on", result->signal,
                 strsignal(result->signal), allocator->name);
    tool_die("the command ended with exit status %d on %s; --ignore-failure goes on",
             result->exit_status, allocator->name);
}

static void run_once(const struct arguments *args, size_t a, struct child_result *result) {
    const struct allocator *allocator = &args->allocators.at[a];
    struct child_plan plan = {
        .argv = args->command, .allocator = allocator, .quiet = true, .repeated = true};
    child_run(&plan, result);
    output_progress_end();
    check_end(result, allocator, args);
}

/* Runs of allocator a are results[a * repeats] and those after it. */
static void run_all(const struct arguments *args, struct child_result *results) {
    size_t count = args->allocators.count;
    unsigned rounds = args->warmups + args->repeats;
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            size_t a = (i + round) % count;
            struct child_result warmup;
            bool measured = round >= args->warmups;
            output_progress("%s round %u of %u: %s", measured ? "timed" : "warm-up",
                            measured ? round - args->warmups + 1 : round + 1,
                            measured ? args->repeats : args->warmups, args->allocators.at[a].name);
            run_once(args, a,
                     measured ? &results[a * args->repeats + (round - args->warmups)] : &warmup);
        }
    }
}

/* ------------------------------------------------------------------ figures ------------------ */

static double wall_of(const struct child_result *result) {
    return result->wall_seconds;
}
static double cpu_of(const struct child_result *result) {
    return result->user_seconds + result->system_seconds;
}
static double peak_of(const struct child_result *result) {
    return (double)result->peak_rss_bytes;
}
static double faults_of(const struct child_result *result) {
    return (double)(result->minor_faults + result->major_faults);
}

struct figure {
    double min, median;
};

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct figure figure_of(const struct child_result *results, size_t count,
                               double (*value)(const struct child_result *result)) {
    double *values = tool_alloc(count, sizeof(double));
    for (size_t i = 0; i < count; i++) values[i] = value(&results[i]);
    qsort(values, count, sizeof(double), by_value);
    struct figure figure = {values[0], (values[(count - 1) / 2] + values[count / 2]) / 2};
    free(values);
    return figure;
}

struct figures {
    struct figure wall, cpu, peak, faults;
};

static struct figures figures_of(const struct arguments *args, const struct child_result *results,
                                 size_t a) {
    const struct child_result *mine = &results[a * args->repeats];
    return (struct figures){
        figure_of(mine, args->repeats, wall_of), figure_of(mine, args->repeats, cpu_of),
        figure_of(mine, args->repeats, peak_of), figure_of(mine, args->repeats, faults_of)};
}

/* ------------------------------------------------------------------ reports ------------------ */

static void print_ratio(struct output *out, double value, double first) {
    double ratio = output_ratio(value, first);
    fprintf(out->to, "%s%7s%s", output_tint(out, ratio), cell_ratio(ratio).text, output_plain(out));
}

static int name_width(const struct arguments *args) {
    size_t width = strlen("allocator");
    for (size_t a = 0; a < args->allocators.count; a++)
        if (strlen(args->allocators.at[a].name) > width)
            width = strlen(args->allocators.at[a].name);
    return (int)width;
}

static void print_text(struct output *out, const struct arguments *args,
                       const struct child_result *results) {
    int width = name_width(args);
    struct figures first = figures_of(args, results, 0);
    report_command(out, "lucid compare", args->command);
    fprintf(out->to, "%s%-*s%12s%7s%12s%12s%7s%12s%7s%12s%7s%s\n", output_bold(out), width,
            "allocator", "wall min", "ratio", "wall median", "user+sys", "ratio", "peak RSS",
            "ratio", "faults", "ratio", output_plain(out));
    for (size_t a = 0; a < args->allocators.count; a++) {
        struct figures mine = figures_of(args, results, a);
        fprintf(out->to, "%-*s%12s", width, args->allocators.at[a].name,
                cell_seconds(mine.wall.min).text);
        print_ratio(out, mine.wall.min, first.wall.min);
        fprintf(out->to, "%12s%12s", cell_seconds(mine.wall.median).text,
                cell_seconds(mine.cpu.min).text);
        print_ratio(out, mine.cpu.min, first.cpu.min);
        fprintf(out->to, "%12s", cell_bytes(mine.peak.median).text);
        print_ratio(out, mine.peak.median, first.peak.median);
        fprintf(out->to, "%12s", cell_count(mine.faults.median).text);
        print_ratio(out, mine.faults.median, first.faults.median);
        fputc('\n', out->to);
    }
    fprintf(out->to,
            "\n%u runs each, interleaved; user+sys is the least, RSS and faults the median; "
            "ratios are against %s\n",
            args->repeats, args->allocators.at[0].name);
}

static json_t *figure_json(struct figure figure) {
    return json_pack("{s:f, s:f}", "min", figure.min, "median", figure.median);
}

static json_t *ratio_json(double value, double first) {
    return first != 0 ? json_real(value / first) : json_null();
}

static json_t *allocator_json(const struct arguments *args, const struct child_result *results,
                              size_t a) {
    const struct allocator *allocator = &args->allocators.at[a];
    struct figures mine = figures_of(args, results, a);
    struct figures first = figures_of(args, results, 0);
    json_t *runs = json_array();
    for (unsigned r = 0; r < args->repeats; r++)
        json_array_append_new(runs, report_result_json(&results[a * args->repeats + r]));
    json_t *ratios = json_pack("{s:o, s:o, s:o, s:o}", "wall_min",
                               ratio_json(mine.wall.min, first.wall.min), "cpu_min",
                               ratio_json(mine.cpu.min, first.cpu.min), "peak_rss_median",
                               ratio_json(mine.peak.median, first.peak.median), "faults_median",
                               ratio_json(mine.faults.median, first.faults.median));
    return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "allocator", allocator->name,
                     "library", allocator->library, "wall_seconds", figure_json(mine.wall),
                     "cpu_seconds", figure_json(mine.cpu), "peak_rss_bytes", figure_json(mine.peak),
                     "faults", figure_json(mine.faults), "ratio_to_first", ratios, "runs", runs);
}

static void print_json(struct output *out, const struct arguments *args,
                       const struct child_result *results) {
    json_t *allocators = json_array();
    for (size_t a = 0; a < args->allocators.count; a++)
        json_array_append_new(allocators, allocator_json(args, results, a));
    json_t *json = json_pack("{s:s, s:o, s:i, s:o}", "schema", "lucid-compare-1", "command",
                             report_command_json(args->command), "repeats", (int)args->repeats,
                             "allocators", allocators);
    output_json(out, json);
    json_decref(json);
}

int tool_compare_main(int argc, char **argv) {
    const struct argp parser = {options, parse_option, "[--] COMMAND [ARGUMENT...]", doc, NULL,
                                NULL,    NULL};
    struct arguments args = {.repeats = 5, .warmups = 1};
    struct output out;
    tool_parse(&parser, argc, argv, &args);
    if (args.allocators.count == 0) allocator_add_all(&args.allocators, "glibc,lucid");
    output_open(&out, args.output, stdout);
    struct child_result *results = tool_alloc(args.allocators.count * args.repeats,
                                              sizeof(*results));
    run_all(&args, results);
    if (args.json)
        print_json(&out, &args, results);
    else
        print_text(&out, &args, results);
    output_close(&out);
    free(results);
    allocator_list_fini(&args.allocators);
    return 0;
}
