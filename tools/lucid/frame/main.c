/*
 * main.c - the command `lucid`: finds the subcommand in the builtin table and calls it.
 *
 *     lucid run …       run/run.c               run a program on an allocator and report on it
 *     lucid compare …   compare/compare.c       run it on several allocators, interleaved
 *     lucid record …    trace/record.c          write down every call of its allocator
 *     lucid trace …     trace/trace_command.c   what such a recording has
 *     lucid replay …    replay/replay.c         make its calls again on other allocators
 *     lucid lab …       tools/lab/lab.c         experiments that show how malloc works
 *     lucid options     frame/options.c         the keys of LUCID_OPTIONS
 *     lucid version     frame/version.c
 *     lucid help [SUB]  frame/help.c
 *
 * To add a subcommand NAME:
 *  1. NAME.c with `tool_NAME_main` and its argp parser, in the folder that it is most akin to, or
 *     in one of its own; declared in that folder's header, which has the folder's name (of this
 *     folder, in commands.h), and included below.
 *  2. A line in the list of tools/lucid/CMakeLists.txt, and one in the table below.
 *  3. In man/lucid.1 a synopsis and a section; its name in tests/tools/test_other.py, which holds
 *     the table against the manual; and tests of what it does.
 *
 * A subcommand sees argv[0] = "lucid NAME", so that argp's own messages say which one they are of.
 * The program is one thread; nothing here locks.
 */
#include "frame/commands.h"

#include "compare/compare.h"
#include "frame/frame.h"
#include "lab/lab.h"
#include "replay/replay.h"
#include "run/run.h"
#include "trace/trace.h"

#include <stdlib.h>
#include <string.h>

const struct tool_command tool_commands[] = {
    {"run", "run a program on an allocator and report what it did", tool_run_main},
    {"compare", "run a program on several allocators, interleaved", tool_compare_main},
    {"record", "record every call of a program's allocator", tool_record_main},
    {"trace", "show and check what was recorded", tool_trace_main},
    {"replay", "replay a recording on other allocators", tool_replay_main},
    {"lab", "run experiments that show how malloc works", tool_lab_main},
    {"options", "list the keys of LUCID_OPTIONS and their values", tool_options_main},
    {"version", "print the version", tool_version_main},
    {"help", "explain a command", tool_help_main},
    {NULL, NULL, NULL},
};

const struct tool_command *tool_find_command(const char *name) {
    for (const struct tool_command *command = tool_commands; command->name != NULL; command++)
        if (strcmp(command->name, name) == 0) return command;
    return NULL;
}

/* `lucid --help` and `lucid --version` are the subcommands of these names. */
static const char *without_dashes(const char *word) {
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) return "help";
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) return "version";
    return word;
}

int main(int argc, char **argv) {
    tool_show_options();
    argp_err_exit_status = TOOL_USAGE;
    if (argc < 2) tool_bad_input("no command given; 'lucid help' lists them");
    if (strcmp(argv[1], REPLAY_DRIVER) == 0) return replay_driver_main(argc - 1, argv + 1);
    const char *name = without_dashes(argv[1]);
    const struct tool_command *command = tool_find_command(name);
    if (command == NULL) tool_bad_input("'%s' is not a command; 'lucid help' lists them", name);
    argv[1] = tool_format("lucid %s", command->name);
    int status = command->main(argc - 1, argv + 1);
    free(argv[1]);
    if (fflush(stdout) != 0 || ferror(stdout)) tool_die("cannot write to standard output");
    return status;
}
