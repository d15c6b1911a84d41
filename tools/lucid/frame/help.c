/*
 * help.c - `lucid help` lists the commands; `lucid help NAME` prints what `lucid NAME --help`
 * prints, by calling that command with the one argument "--help", which argp answers and exits.
 */
#include "frame/commands.h"
#include "frame/frame.h"

#include <stdlib.h>

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    const struct tool_command **command = state->input;
    if (key != ARGP_KEY_ARG || *command != NULL) return ARGP_ERR_UNKNOWN;
    *command = tool_find_command(arg);
    if (*command == NULL) argp_error(state, "'%s' is not a command; 'lucid help' lists them", arg);
    return 0;
}

static void list_commands(void) {
    puts("Usage: lucid COMMAND [ARGUMENT...]\n\n"
         "lucid runs programs on the lucid memory allocator and shows what it did.\n");
    for (const struct tool_command *command = tool_commands; command->name != NULL; command++)
        printf("  %-10s %s\n", command->name, command->summary);
    puts("\n'lucid help COMMAND' explains one of them; the library itself is in liblucid(3).");
}

int tool_help_main(int argc, char **argv) {
    const struct argp parser = {NULL, parse_option, "[COMMAND]", "Explain a command.",
                                NULL, NULL,         NULL};
    const struct tool_command *command = NULL;
    tool_parse(&parser, argc, argv, &command);
    if (command == NULL) {
        list_commands();
        return 0;
    }
    char *name = tool_format("lucid %s", command->name);
    char *help[] = {name, (char[]){"--help"}, NULL};
    int status = command->main(2, help);
    free(name);
    return status;
}
