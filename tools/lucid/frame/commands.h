/* commands.h - the subcommands of `lucid`, and those that tell of the command itself. */
#ifndef LUCID_COMMANDS_H
#define LUCID_COMMANDS_H

/* One subcommand: argv[0] is "lucid NAME"; returns the exit status of the program. */
struct tool_command {
    const char *name;
    const char *summary;
    int (*main)(int argc, char **argv);
};

/* The builtin table, ended by a NULL name (main.c). */
extern const struct tool_command tool_commands[];
const struct tool_command *tool_find_command(const char *name);

int tool_options_main(int argc, char **argv);
int tool_version_main(int argc, char **argv);
int tool_help_main(int argc, char **argv);

/* Give LUCID_OPTIONS, which was hidden from the engine in this process, its name back
 * (environment.c). */
void tool_show_options(void);

#endif
