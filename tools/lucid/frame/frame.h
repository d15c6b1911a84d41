/*
 * frame.h - what every file of the command `lucid` may use: how it ends, memory, new files,
 * arguments (tool.c); where reports go and how numbers look in them (output.c).
 */
#ifndef LUCID_FRAME_H
#define LUCID_FRAME_H

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct json_t;

/* Exit statuses of our own: bad input; and, as env(1), timeout(1) and nohup(1) have them, a failure
 * of the command itself, and a program that it cannot start. */
enum { TOOL_USAGE = 2, TOOL_FAILED = 125, TOOL_NOT_EXECUTABLE = 126, TOOL_NOT_FOUND = 127 };

#define TOOL_COUNT_OF(a) (sizeof(a) / sizeof((a)[0]))

/* Print "lucid: …" on stderr and exit with TOOL_FAILED. */
_Noreturn void tool_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for what the user gave us and we cannot take (an unknown name, a file that cannot be
 * read or is there already): exit with TOOL_USAGE. */
_Noreturn void tool_bad_input(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same without the end. */
void tool_warn(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* LUCID_OPTIONS is for programs that the command runs (environment.c): make the engine inside this
 * process take them. */
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
/* What options say that mean the same in every subcommand that has them. A subcommand has this in
 * its own arguments, its table of options says which of them it knows, and by which words, and its
 * parser leaves to tool_parse_common what it does not know itself. */
enum { TOOL_KEY_FORCE = 0x1000, TOOL_KEY_HTML, TOOL_KEY_JSON };
struct tool_common {
    const char *allocators; /* -a: a name, or several parted by commas   */
    const char *output;     /* -o: a file, not the stream that is usual  */
    const char *html;       /* --html: a file for a page                 */
    bool json, force;
};
/* 0, or ARGP_ERR_UNKNOWN for other keys. */
error_t tool_parse_common(int key, char *arg, struct tool_common *common);
/* At the first argument that is no option: it and all behind it, a command ended by NULL. */
char **tool_take_command(struct argp_state *state);
/* A number of an option: from `least` up, or an argp error that names the option. */
unsigned tool_parse_number(struct argp_state *state, const char *text, unsigned least,
                           const char *option);

/* ------------------------------------------------------------------ output ------------------- */

struct output {
    FILE *to;
    bool colour; /* `to` is a terminal, and neither NO_COLOR nor TERM=dumb forbids it */
};

/* `path` NULL: `standard`. Ends the program if the file cannot be made, or is there already and not
 * to be overwritten by `force`. */
void output_open(struct output *out, const char *path, bool force, FILE *standard);
/* Dies if something could not be written. */
void output_close(struct output *out);
void output_json(struct output *out, const struct json_t *value);

/* Characters in a line of the terminal, at least 40; 0: it is none, or does not tell. */
size_t output_columns(const struct output *out);

/* The next line of *text in `width` columns, broken at a blank if there is one: its bytes. *text
 * then begins the line after it. */
size_t output_next_line(const char **text, size_t width);

/* "" without colour. */
const char *output_bold(const struct output *out);
/* Of a ratio where less is better: green below 0.97, red above 1.03. */
const char *output_tint(const struct output *out, double ratio);
const char *output_plain(const struct output *out);

/* One short text; cells are passed by value so that several fit in one expression. */
struct cell {
    char text[32];
};
struct cell cell_seconds(double seconds); /* "1.234 s", "56.78 ms"         */
struct cell cell_bytes(double bytes);     /* "12.3 MiB"   */
struct cell cell_count(double count);     /* "1,234,567"  */
struct cell cell_ratio(double ratio);     /* "0.97", "-" if it is not a number */
/* a / b; not a number where b is 0. */
double output_ratio(double a, double b);

/* A line on stderr that the next one replaces; nothing if stderr is no terminal. */
void output_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void output_progress_end(void);

#endif
