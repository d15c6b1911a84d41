/* tool.h - what every file of the command `lucid` may use. */
#ifndef LUCID_TOOL_H
#define LUCID_TOOL_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Exit statuses of our own: bad input; and, as env(1), timeout(1) and nohup(1) have them, a failure
 * of the command itself, and a program that it cannot start. */
enum { TOOL_USAGE = 2, TOOL_FAILED = 125, TOOL_NOT_EXECUTABLE = 126, TOOL_NOT_FOUND = 127 };

#define TOOL_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* One subcommand: argv[0] is "lucid NAME"; returns the exit status of the program. */
struct tool_command {
    const char *name;
    const char *summary;
    int (*main)(int argc, char **argv);
};

/* The builtin table, ended by a NULL name (main.c). */
extern const struct tool_command tool_commands[];
const struct tool_command *tool_find_command(const char *name);

int tool_run_main(int argc, char **argv);
int tool_compare_main(int argc, char **argv);
int tool_record_main(int argc, char **argv);
int tool_trace_main(int argc, char **argv);
int tool_replay_main(int argc, char **argv);
int tool_lab_main(int argc, char **argv);
int tool_map_main(int argc, char **argv);
int tool_options_main(int argc, char **argv);
int tool_version_main(int argc, char **argv);
int tool_help_main(int argc, char **argv);

/* Print "lucid: …" on stderr and exit with TOOL_FAILED. */
_Noreturn void tool_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for what the user gave us and we cannot take (an unknown name, a file that cannot be
 * read or is there already): exit with TOOL_USAGE. */
_Noreturn void tool_bad_input(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same without the end. */
void tool_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* LUCID_OPTIONS is for programs that the command runs (environment.c). main calls the first; the
 * second makes the engine inside this process take them. */
void tool_show_options(void);
void tool_read_options(void);

/* Memory that cannot be missing; die otherwise. The caller frees. */
void *tool_alloc(size_t count, size_t size);
void *tool_grow(void *block, size_t count, size_t size);
char *tool_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Dies unless PATH has the program, which `option` needs and Debian's `package` brings. */
void tool_need_program(const char *program, const char *package, const char *option);

/* A new file at `path`, for writing, closed by exec. What is there already is bad input, but with
 * `force` it is emptied; a device or a pipe is opened as it is. */
int tool_create_file(const char *path, bool force);

/* Parse a subcommand's arguments with argp; errors are one line and the exit status TOOL_USAGE. */
void tool_parse(const struct argp *parser, int argc, char **argv, void *input);
/* A number of an option: from `least` up, or an argp error that names the option. */
unsigned tool_parse_number(struct argp_state *state, const char *text, unsigned least,
                           const char *option);

#endif
