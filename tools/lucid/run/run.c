/*
 * run.c - `lucid run`: a program on an allocator, and what that did.
 *
 * How often the command runs:
 *
 *     run                  once, timed
 *     run --syscalls       once timed, then once counted
 *     run --versus A …     per allocator once counted and once timed; the counted runs come first
 *                          and warm the page cache, the allocator asked for is timed last
 *
 * Only the timed run on the allocator asked for has the user's stdout and stderr; its end is the
 * exit status. Times never come from a counted run. The report goes to stderr, as that of perf
 * stat, so that the command's own output can be used.
 */
#include "run/report.h"
#include "run/statfiles.h"
#include "frame/frame.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { KEY_VERSUS = 256, KEY_SYSCALLS, KEY_NO_SYSCALLS };

struct arguments {
    struct tool_common common;
    char **command;
    struct allocator_list allocators; /* [0] is the one asked for */
    char **versus;
    size_t versus_count;
    int syscalls; /* -1: not said */
};

static const struct argp_option options[] = {
    {"allocator", 'a', "ALLOCATOR", 0, "Run on ALLOCATOR (default: lucid)", 0},
    {"versus", KEY_VERSUS, "ALLOCATOR", 0,
     "Run on ALLOCATOR as well and set the two against each other; may be repeated", 0},
    {"syscalls", KEY_SYSCALLS, NULL, 0,
     "Count the system calls for memory in a run of its own (default with --versus)", 0},
    {"no-syscalls", KEY_NO_SYSCALLS, NULL, 0, "Do not count them", 0},
    {"json", TOOL_KEY_JSON, NULL, 0, "Report as JSON (schema lucid-run-1)", 0},
    {"output", 'o', "FILE", 0, "Write the report to FILE instead of standard error", 0},
    {"force", TOOL_KEY_FORCE, NULL, 0, "Overwrite FILE if it exists", 0},
    {0},
};

static const char doc[] =
    "Run COMMAND on an allocator and report time, memory, page faults and what the allocator did."
    "\vALLOCATOR is " ALLOCATOR_NAMES ".\n\n"
    "With --versus and --syscalls COMMAND runs more than once, so it should be repeatable; its "
    "standard input is then rewound if it is a file and empty otherwise, and processes that it "
    "leaves behind in a counted run are killed.\n\n"
    "The exit status is that of COMMAND (128 + N if signal N ended it), 2 if lucid cannot "
    "take the arguments, 125 if it fails itself, 126 if COMMAND cannot be executed, 127 if it is "
    "not found.";

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct arguments *args = state->input;
    switch (key) {
    case KEY_VERSUS:
        args->versus = tool_grow(args->versus, args->versus_count + 1, sizeof(char *));
        args->versus[args->versus_count++] = arg;
        return 0;
    case KEY_SYSCALLS:
    case KEY_NO_SYSCALLS:
        args->syscalls = key == KEY_SYSCALLS;
        return 0;
    case ARGP_KEY_ARG:
        args->command = tool_take_command(state);
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "no command to run");
        return 0;
    default:
        return tool_parse_common(key, arg, &args->common);
    }
}

static void count_calls(struct run *run, const struct arguments *args) {
    struct child_plan plan = {
        .argv = args->command, .allocator = run->allocator, .quiet = true, .repeated = true};
    struct child_result ignored;
    output_progress("%s: counting system calls", run->allocator->name);
    int error = child_count_calls(&plan, &ignored, &run->counts);
    output_progress_end();
    run->counted = error == 0 && ignored.start_error == 0;
    if (ignored.signal == SIGINT) /* the user wants an end */
        exit(ignored.exit_status);
    if (error != 0) tool_warn("cannot count the system calls: %s", strerror(error));
    run->counted_exit_status = ignored.exit_status;
}

static void time_command(struct run *run, const struct arguments *args, bool shown) {
    struct statfiles files;
    statfiles_init(&files);
    struct child_plan plan = {.argv = args->command,
                              .allocator = run->allocator,
                              .lucid_options = files.lucid_options,
                              .quiet = !shown,
                              .repeated = args->versus_count > 0 || args->syscalls > 0};
    if (!shown) output_progress("%s: timing", run->allocator->name);
    child_run(&plan, &run->result);
    if (!shown) output_progress_end();
    run->stats = statfiles_read(&files, run->result.pid);
    statfiles_fini(&files);
}

/* False if the command could not be started. */
static bool run_all(struct run *runs, size_t run_count, const struct arguments *args) {
    bool versus = run_count > 1;
    bool counted = args->syscalls > 0 || (versus && args->syscalls != 0);
    for (size_t i = 0; versus && counted && i < run_count; i++) count_calls(&runs[i], args);
    for (size_t i = 1; i < run_count; i++) {
        time_command(&runs[i], args, false);
        if (runs[i].result.signal == SIGINT) /* the user wants an end */
            exit(runs[i].result.exit_status);
    }
    time_command(&runs[0], args, true);
    if (runs[0].result.start_error != 0) {
        tool_warn("cannot run %s: %s", args->command[0], strerror(runs[0].result.start_error));
        return false;
    }
    if (!versus && counted) count_calls(&runs[0], args);
    return true;
}

static void write_report(struct output *out, const struct run_report *report, bool as_json) {
    if (as_json) {
        json_t *json = report_json(report);
        output_json(out, json);
        json_decref(json);
    } else {
        fputc('\n', out->to);
        report_text(out, report);
    }
}

int tool_run_main(int argc, char **argv) {
    const struct argp parser = {options, parse_option, "[--] COMMAND [ARGUMENT...]", doc, NULL,
                                NULL,    NULL};
    struct arguments args = {.common.allocators = "lucid", .syscalls = -1};
    struct output out;
    tool_parse(&parser, argc, argv, &args);
    allocator_add(&args.allocators, args.common.allocators);
    for (size_t i = 0; i < args.versus_count; i++) allocator_add(&args.allocators, args.versus[i]);
    output_open(&out, args.common.output, args.common.force, stderr);

    size_t run_count = args.allocators.count;
    struct run *runs = tool_alloc(run_count, sizeof(*runs));
    for (size_t i = 0; i < run_count; i++) runs[i].allocator = &args.allocators.at[i];
    if (run_all(runs, run_count, &args)) {
        struct run_report report = {args.command, runs, run_count};
        write_report(&out, &report, args.common.json);
    }
    output_close(&out);
    int status = runs[0].result.exit_status;
    for (size_t i = 0; i < run_count; i++) json_decref(runs[i].stats.stats);
    free(runs);
    free(args.versus);
    allocator_list_fini(&args.allocators);
    return status;
}
