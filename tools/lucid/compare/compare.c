/*
 * compare.c - `lucid compare`: programs on several allocators, many times.
 *
 *     round 1:  A B C      each round runs every command on every allocator once and starts with
 *     round 2:  B C A      another allocator, so that what else the machine does, and what one run
 *     round 3:  C A B      leaves in the caches for the next, falls on all of them alike
 *     then:     A B C      with --syscalls: once more each, under strace, untimed
 *
 * This file has the arguments and the runs; figures are compare_figures.c's, the report is
 * compare_report.c's. The commands' output goes to /dev/null and the report to stdout, as hyperfine
 * has it. A run that fails ends the comparison unless --ignore-failure is given: times of a program
 * that broke off mean nothing. What --plot and --syscalls need is looked for before the first run.
 */
#include "compare/compare.h"

#include "compare/comparison.h"
#include "frame/frame.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <wordexp.h>

enum { KEY_COMMANDS = 256, KEY_SYSCALLS, KEY_PLOT };

struct arguments {
    struct tool_common common;
    struct allocator_list allocators;
    char ***commands; /* each a list of words, ended by NULL */
    size_t command_count;
    unsigned repeats, warmups;
    bool ignore_failure, syscalls;
    const char *plot;
};

static const struct argp_option options[] = {
    {"allocators", 'a', "LIST", 0,
     "Allocators, separated by commas; ratios are against the first (default: glibc,lucid)", 0},
    {"command", 'c', "TEXT", 0, "A command in one argument; may be repeated", 0},
    {"commands", KEY_COMMANDS, "FILE", 0,
     "Read such commands from FILE, one a line; empty lines and lines with # in front are none", 0},
    {"repeats", 'r', "N", 0, "Run N times on each (default: 5)", 0},
    {"warmup", 'w', "N", 0, "Before that, run N times on each without measuring (default: 1)", 0},
    {"ignore-failure", 'i', NULL, 0, "Go on when a run fails", 0},
    {"syscalls", KEY_SYSCALLS, NULL, 0,
     "Count the system calls in one more run on each, with strace", 0},
    {"json", TOOL_KEY_JSON, NULL, 0, "Report as JSON (schema lucid-compare-2), every run included",
     0},
    {"output", 'o', "FILE", 0, "Write the report to FILE instead of standard output", 0},
    {"plot", KEY_PLOT, "FILE", 0, "Draw time against memory as SVG, with gnuplot", 0},
    {"force", TOOL_KEY_FORCE, NULL, 0, "Overwrite files that exist", 0},
    {0},
};

static const char doc[] =
    "Run commands on several allocators, interleaved, and compare time and memory."
    "\vAn allocator is " ALLOCATOR_NAMES ". The output of a COMMAND is thrown "
    "away; its standard input is rewound if it is a file and empty otherwise.\n\n"
    "The exit status is 0, 2 if lucid cannot take the arguments, 125 if it or a run of COMMAND "
    "fails, 126 if COMMAND cannot be executed, 127 if it is not found.";

/* ------------------------------------------------------------------ arguments ---------------- */

static void add_command(struct arguments *args, char **words) {
    args->commands = tool_grow(args->commands, args->command_count + 1, sizeof(char **));
    args->commands[args->command_count++] = words;
}

static void add_words(struct arguments *args, char *const *words) {
    size_t count = 0;
    while (words[count] != NULL) count++;
    char **copy = tool_alloc(count + 1, sizeof(char *));
    for (size_t i = 0; i < count; i++) copy[i] = tool_format("%s", words[i]);
    add_command(args, copy);
}

/* A shell would be measured with the command, and waits for it at the end with little memory of its
 * own. So it is used only where there is something for it to do: a line that is only words is split
 * by us, and words like A=B in front of it are env's. */
static void add_line(struct arguments *args, char *line) {
    wordexp_t words = {.we_offs = 1};
    int error = wordexp(line, &words, WRDE_NOCMD | WRDE_DOOFFS);
    if (error == WRDE_SYNTAX) tool_bad_input("a quote or a brace is not closed: %s", line);
    if (error == WRDE_NOSPACE) tool_die("out of memory");
    if (error != 0) {
        add_words(args, (char *[]){"sh", "-c", line, NULL});
        return;
    }
    if (words.we_wordc == 0) tool_bad_input("there is no command in '%s'", line);
    words.we_wordv[0] = "env";
    bool assigns = strchr(words.we_wordv[1], '=') != NULL;
    add_words(args, words.we_wordv + (assigns ? 0 : 1));
    words.we_wordv[0] = NULL;
    wordfree(&words);
}

static void add_commands_of_file(struct arguments *args, const char *path) {
    char *line = NULL;
    size_t room = 0, before = args->command_count;
    FILE *file = fopen(path, "re");
    if (file == NULL) tool_bad_input("cannot read %s: %s", path, strerror(errno));
    while (getline(&line, &room, file) >= 0) {
        line[strcspn(line, "\n")] = '\0';
        char *start = line + strspn(line, " \t\r");
        if (start[0] != '\0' && start[0] != '#') add_line(args, start);
    }
    if (ferror(file)) tool_bad_input("cannot read %s: %s", path, strerror(errno));
    if (args->command_count == before) tool_bad_input("%s has no command", path);
    free(line);
    fclose(file);
}

static void commands_fini(struct arguments *args) {
    for (size_t c = 0; c < args->command_count; c++) {
        for (char **word = args->commands[c]; *word != NULL; word++) free(*word);
        free(args->commands[c]);
    }
    free(args->commands);
}

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct arguments *args = state->input;
    switch (key) {
    case 'a':
        allocator_add_all(&args->allocators, arg);
        return 0;
    case 'c':
        add_line(args, arg);
        return 0;
    case KEY_COMMANDS:
        add_commands_of_file(args, arg);
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
    case KEY_SYSCALLS:
        args->syscalls = true;
        return 0;
    case KEY_PLOT:
        args->plot = arg;
        return 0;
    case ARGP_KEY_ARG:
        add_words(args, tool_take_command(state));
        return 0;
    case ARGP_KEY_END:
        if (args->command_count == 0) argp_error(state, "no command to run");
        return 0;
    default:
        return tool_parse_common(key, arg, &args->common);
    }
}

/* ------------------------------------------------------------------ running ------------------ */

/* What is being run. */
struct place {
    const struct arguments *args;
    size_t command, allocator;
};

/* Ends the program if the run failed and that is not ignored. */
static void check_end(const struct place *place, const struct child_result *result) {
    const struct arguments *args = place->args;
    const char *program = args->commands[place->command][0];
    const char *name = args->allocators.at[place->allocator].name;
    if (result->start_error != 0) {
        tool_warn("cannot run %s: %s", program, strerror(result->start_error));
        exit(result->exit_status);
    }
    if (result->signal == SIGINT) exit(result->exit_status);
    if (result->exit_status == 0 || args->ignore_failure) return;
    struct cell number = {""};
    if (args->command_count > 1)
        snprintf(number.text, sizeof(number.text), " [%zu]", place->command + 1);
    if (result->signal != 0)
        tool_die("signal %d (%s) ended the command%s on %s; --ignore-failure goes on",
                 result->signal, strsignal(result->signal), number.text, name);
    tool_die("the command%s ended with exit status %d on %s; --ignore-failure goes on", number.text,
             result->exit_status, name);
}

static void show_progress(const struct place *place, const char *what) {
    const struct arguments *args = place->args;
    const char *name = args->allocators.at[place->allocator].name;
    if (args->command_count > 1)
        output_progress("%s: %s, command %zu of %zu", what, name, place->command + 1,
                        args->command_count);
    else
        output_progress("%s: %s", what, name);
}

static void run_once(const struct place *place, const char *what, struct child_result *result) {
    struct child_plan plan = {.argv = place->args->commands[place->command],
                              .allocator = &place->args->allocators.at[place->allocator],
                              .quiet = true,
                              .repeated = true,
                              .sampled = true};
    show_progress(place, what);
    child_run(&plan, result);
    output_progress_end();
    check_end(place, result);
}

static void run_round(const struct arguments *args, struct comparison *comparison, unsigned round) {
    bool measured = round >= args->warmups;
    unsigned number = measured ? round - args->warmups : round;
    struct cell what;
    snprintf(what.text, sizeof(what.text), "%s round %u of %u", measured ? "timed" : "warm-up",
             number + 1, measured ? args->repeats : args->warmups);
    for (size_t c = 0; c < args->command_count; c++) {
        for (size_t i = 0; i < args->allocators.count; i++) {
            struct place place = {args, c, (i + round) % args->allocators.count};
            struct child_result warmup;
            struct series *series = compare_series(comparison, c, place.allocator);
            run_once(&place, what.text, measured ? &series->runs[number] : &warmup);
        }
    }
}

static void count_syscalls(const struct arguments *args, struct comparison *comparison) {
    for (size_t c = 0; c < args->command_count; c++) {
        for (size_t a = 0; a < args->allocators.count; a++) {
            struct place place = {args, c, a};
            struct child_result result;
            show_progress(&place, "counting system calls");
            syscalls_count(args->commands[c], &args->allocators.at[a], &result,
                           &compare_series(comparison, c, a)->syscalls);
            output_progress_end();
            check_end(&place, &result);
        }
    }
}

/* ------------------------------------------------------------------ the command -------------- */

static void comparison_init(struct comparison *comparison, const struct arguments *args) {
    size_t count = args->command_count * args->allocators.count;
    *comparison = (struct comparison){
        .allocators = &args->allocators,
        .commands = (char *const *const *)args->commands,
        .command_count = args->command_count,
        .repeats = args->repeats,
        .warmups = args->warmups,
        .counts_syscalls = args->syscalls,
        .series = tool_alloc(count, sizeof(struct series)),
    };
    for (size_t i = 0; i < count; i++)
        comparison->series[i].runs = tool_alloc(args->repeats, sizeof(struct child_result));
}

static void comparison_fini(struct comparison *comparison) {
    for (size_t i = 0; i < comparison->command_count * comparison->allocators->count; i++) {
        free(comparison->series[i].runs);
        syscalls_fini(&comparison->series[i].syscalls);
    }
    free(comparison->series);
}

int tool_compare_main(int argc, char **argv) {
    const struct argp parser = {options, parse_option, "[--] [COMMAND [ARGUMENT...]]", doc, NULL,
                                NULL,    NULL};
    struct arguments args = {.repeats = 5, .warmups = 1};
    struct comparison comparison;
    struct output out;
    tool_parse(&parser, argc, argv, &args);
    if (args.allocators.count == 0) allocator_add_all(&args.allocators, "glibc,lucid");
    if (args.syscalls) syscalls_require("--syscalls");
    int plot = -1;
    if (args.plot != NULL) {
        plot_require("--plot");
        plot = tool_create_file(args.plot, args.common.force);
    }
    output_open(&out, args.common.output, args.common.force, stdout);
    comparison_init(&comparison, &args);
    for (unsigned round = 0; round < args.warmups + args.repeats; round++)
        run_round(&args, &comparison, round);
    if (args.syscalls) count_syscalls(&args, &comparison);
    if (args.common.json)
        compare_print_json(&out, &comparison);
    else
        compare_print_text(&out, &comparison);
    output_close(&out);
    if (args.plot != NULL) plot_write(args.plot, plot, &comparison);
    comparison_fini(&comparison);
    commands_fini(&args);
    allocator_list_fini(&args.allocators);
    return 0;
}
