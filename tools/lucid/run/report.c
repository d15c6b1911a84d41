/*
 * report.c - the report of `lucid run`: one column per allocator, then what lucid did.
 *
 *                              glibc       lucid   lucid/glibc
 *     wall time              1.420 s     0.980 s          0.69
 *     ...
 *     memory calls               812         102          0.13
 *
 * The columns are: what the run is set against, in the order given; the allocator asked for; one
 * ratio for each of the former. All values are "less is better", so a ratio below 1 is a gain.
 */
#include "run/report.h"

#include "run/stats_text.h"
#include "frame/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LABEL_WIDTH = 24, COLUMN_WIDTH = 13 };

/* ------------------------------------------------------------------ rows --------------------- */

/* The rows of the table: how each reads its value and shows it. */
enum row_kind { ROW_SECONDS, ROW_BYTES, ROW_COUNT };

static double wall_of(const struct run *run) {
    return run->result.wall_seconds;
}
static double user_of(const struct run *run) {
    return run->result.user_seconds;
}
static double system_of(const struct run *run) {
    return run->result.system_seconds;
}
static double peak_of(const struct run *run) {
    return (double)run->result.peak_rss_bytes;
}
static double minor_of(const struct run *run) {
    return (double)run->result.minor_faults;
}
static double major_of(const struct run *run) {
    return (double)run->result.major_faults;
}

static const struct row {
    const char *label;
    const char *key; /* in the JSON of a result */
    enum row_kind kind;
    double (*value)(const struct run *run);
} rows[] = {
    {"wall time", "wall_seconds", ROW_SECONDS, wall_of},
    {"user time", "user_seconds", ROW_SECONDS, user_of},
    {"system time", "system_seconds", ROW_SECONDS, system_of},
    {"peak RSS", "peak_rss_bytes", ROW_BYTES, peak_of},
    {"page faults, minor", "minor_faults", ROW_COUNT, minor_of},
    {"page faults, major", "major_faults", ROW_COUNT, major_of},
};

static struct cell show(enum row_kind kind, double value) {
    switch (kind) {
    case ROW_SECONDS:
        return cell_seconds(value);
    case ROW_BYTES:
        return cell_bytes(value);
    case ROW_COUNT:
        break;
    }
    return cell_count(value);
}

/* ------------------------------------------------------------------ text --------------------- */

void report_command(struct output *out, const char *title, char *const *command) {
    fprintf(out->to, "%s%s:%s", output_bold(out), title, output_plain(out));
    for (char *const *word = command; *word != NULL; word++) {
        bool plain = **word != '\0' && strpbrk(*word, " \t\n\"'\\$*?;&|<>()") == NULL;
        fprintf(out->to, plain ? " %s" : " '%s'", *word);
    }
    fputs("\n\n", out->to);
}

static int width_of(const char *name) {
    int length = (int)strlen(name) + 2;
    return length > COLUMN_WIDTH ? length : COLUMN_WIDTH;
}

/* Column c of the table: those set against first, then the run itself. */
static const struct run *column(const struct run_report *report, size_t c) {
    return &report->runs[c + 1 < report->run_count ? c + 1 : 0];
}

static struct cell ratio_title(const struct run_report *report, size_t other) {
    struct cell title;
    snprintf(title.text, sizeof(title.text), "%.14s/%.14s", report->runs[0].allocator->name,
             report->runs[other].allocator->name);
    return title;
}

static void print_header(struct output *out, const struct run_report *report) {
    fprintf(out->to, "%s%-*s", output_bold(out), LABEL_WIDTH, "");
    for (size_t c = 0; c < report->run_count; c++) {
        const char *name = column(report, c)->allocator->name;
        fprintf(out->to, "%*s", width_of(name), name);
    }
    for (size_t other = 1; other < report->run_count; other++) {
        struct cell title = ratio_title(report, other);
        fprintf(out->to, "%*s", width_of(title.text), title.text);
    }
    fprintf(out->to, "%s\n", output_plain(out));
}

/* `values` in the order of report->runs; not a number: unknown. */
static void print_row(struct output *out, const struct run_report *report, const char *label,
                      enum row_kind kind, const double *values) {
    fprintf(out->to, "%-*s", LABEL_WIDTH, label);
    for (size_t c = 0; c < report->run_count; c++) {
        const struct run *run = column(report, c);
        double value = values[run - report->runs];
        struct cell cell = isnan(value) ? cell_ratio(value) : show(kind, value);
        fprintf(out->to, "%*s", width_of(run->allocator->name), cell.text);
    }
    for (size_t other = 1; other < report->run_count; other++) {
        double ratio = output_ratio(values[0], values[other]);
        struct cell title = ratio_title(report, other);
        fprintf(out->to, "%s%*s%s", output_tint(out, ratio), width_of(title.text),
                cell_ratio(ratio).text, output_plain(out));
    }
    fputc('\n', out->to);
}

static bool any_counted(const struct run_report *report) {
    for (size_t i = 0; i < report->run_count; i++)
        if (report->runs[i].counted) return true;
    return false;
}

static void print_calls(struct output *out, const struct run_report *report) {
    double *values = tool_alloc(report->run_count, sizeof(double));
    for (size_t i = 0; i < report->run_count; i++) {
        const struct run *run = &report->runs[i];
        values[i] = run->counted ? (double)run->counts.total : NAN;
    }
    print_row(out, report, "memory system calls", ROW_COUNT, values);
    for (int call = 0; call < CALL_COUNT; call++) {
        char label[LABEL_WIDTH];
        snprintf(label, sizeof(label), "  %s", child_call_name((enum memory_call)call));
        for (size_t i = 0; i < report->run_count; i++) {
            const struct run *run = &report->runs[i];
            values[i] = run->counted ? (double)run->counts.calls[call] : NAN;
        }
        print_row(out, report, label, ROW_COUNT, values);
    }
    free(values);
}

static void print_endings(struct output *out, const struct run_report *report) {
    for (size_t i = 0; i < report->run_count; i++) {
        const struct child_result *result = &report->runs[i].result;
        const char *name = report->runs[i].allocator->name;
        if (result->signal != 0)
            fprintf(out->to, "%s: ended by signal %d (%s)\n", name, result->signal,
                    strsignal(result->signal));
        else if (result->exit_status != 0)
            fprintf(out->to, "%s: exit status %d\n", name, result->exit_status);
        if (report->runs[i].counted && report->runs[i].counted_exit_status != result->exit_status)
            fprintf(out->to, "%s: the counted run ended otherwise, with exit status %d\n", name,
                    report->runs[i].counted_exit_status);
    }
}

static void print_stats(struct output *out, const struct run *run) {
    const char *name = run->allocator->name;
    if (run->stats.stats != NULL)
        stats_text_print(out, name, run->result.pid, &run->stats);
    else if (strcmp(name, "lucid") == 0 && run->result.signal != 0)
        fputs("\nlucid wrote no statistics: a signal ended the program\n", out->to);
    else if (strcmp(name, "lucid") == 0)
        fputs("\nlucid wrote no statistics: is the program statically linked or set-user-ID, or "
              "does it end by _exit, as sh does?\n",
              out->to);
}

void report_text(struct output *out, const struct run_report *report) {
    double *values = tool_alloc(report->run_count, sizeof(double));
    report_command(out, "lucid run", report->command);
    print_header(out, report);
    for (size_t r = 0; r < TOOL_COUNT_OF(rows); r++) {
        for (size_t i = 0; i < report->run_count; i++) values[i] = rows[r].value(&report->runs[i]);
        print_row(out, report, rows[r].label, rows[r].kind, values);
    }
    if (any_counted(report)) print_calls(out, report);
    print_endings(out, report);
    free(values);
    for (size_t i = 0; i < report->run_count; i++) print_stats(out, &report->runs[i]);
}

/* ------------------------------------------------------------------ JSON --------------------- */

json_t *report_command_json(char *const *command) {
    json_t *words = json_array();
    for (char *const *word = command; *word != NULL; word++) {
        json_t *text = json_string(*word); /* NULL where a word is no UTF-8 */
        json_array_append_new(words, text != NULL ? text : json_string("(not UTF-8)"));
    }
    return words;
}

json_t *report_result_json(const struct child_result *result) {
    struct run run = {.result = *result};
    json_t *object = json_pack("{s:I, s:i}", "pid", (json_int_t)result->pid, "exit_status",
                               result->exit_status);
    json_object_set_new(object, "signal",
                        result->signal != 0 ? json_integer(result->signal) : json_null());
    for (size_t r = 0; r < TOOL_COUNT_OF(rows); r++) {
        double value = rows[r].value(&run);
        json_object_set_new(object, rows[r].key,
                            rows[r].kind == ROW_SECONDS ? json_real(value)
                                                        : json_integer((json_int_t)value));
    }
    return object;
}

static json_t *counts_json(const struct run *run) {
    if (!run->counted) return json_null();
    json_t *object = json_pack("{s:I}", "total", (json_int_t)run->counts.total);
    for (int call = 0; call < CALL_COUNT; call++)
        json_object_set_new(object, child_call_name((enum memory_call)call),
                            json_integer((json_int_t)run->counts.calls[call]));
    return object;
}

static json_t *ratio_json(double a, double b) {
    double ratio = output_ratio(a, b);
    return isnan(ratio) ? json_null() : json_real(ratio);
}

/* The run asked for, divided by `other`. */
static json_t *ratios_json(const struct run *main_run, const struct run *other) {
    json_t *object = json_object();
    for (size_t r = 0; r < TOOL_COUNT_OF(rows); r++)
        json_object_set_new(object, rows[r].key,
                            ratio_json(rows[r].value(main_run), rows[r].value(other)));
    json_object_set_new(
        object, "memory_calls",
        main_run->counted && other->counted
            ? ratio_json((double)main_run->counts.total, (double)other->counts.total)
            : json_null());
    return object;
}

static json_t *run_json(const struct run *run) {
    json_t *object = report_result_json(&run->result);
    const struct allocator *allocator = run->allocator;
    json_object_set_new(object, "allocator", json_string(allocator->name));
    json_object_set_new(object, "library", json_string(allocator->library));
    json_object_set_new(object, "memory_calls", counts_json(run));
    json_object_set_new(object, "stats",
                        run->stats.stats != NULL ? json_incref(run->stats.stats) : json_null());
    json_object_set_new(object, "stats_pid",
                        run->stats.stats != NULL ? json_integer(run->stats.pid) : json_null());
    json_object_set_new(object, "other_processes_with_stats",
                        json_integer((json_int_t)run->stats.others));
    return object;
}

json_t *report_json(const struct run_report *report) {
    json_t *versus = json_array();
    for (size_t i = 1; i < report->run_count; i++) {
        json_t *other = run_json(&report->runs[i]);
        json_object_set_new(other, "ratio", ratios_json(&report->runs[0], &report->runs[i]));
        json_array_append_new(versus, other);
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "schema", "lucid-run-1", "command",
                     report_command_json(report->command), "run", run_json(&report->runs[0]),
                     "versus", versus);
}
