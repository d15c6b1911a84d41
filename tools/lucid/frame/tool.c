/*
 * tool.c - the small things that every subcommand needs: dying, memory, argument parsing.
 *
 * A command that runs out of memory can do nothing useful, so allocation here ends the program;
 * no caller checks for NULL. Messages go to stderr in one piece, "lucid: " in front. Our own
 * failures always have the exit status 125, so that a script can tell them from the child's, and
 * what the user should do otherwise has the 2 of the usual tools; argp's messages are cut to their
 * first line, which has the mistake.
 */
#include "frame/frame.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void say(const char *format, va_list args) {
    fputs("lucid: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void tool_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    exit(TOOL_FAILED);
}

void tool_bad_input(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    exit(TOOL_USAGE);
}

void tool_warn(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void *tool_alloc(size_t count, size_t size) {
    void *block = calloc(count != 0 ? count : 1, size);
    if (block == NULL) tool_die("out of memory");
    return block;
}

void *tool_grow(void *block, size_t count, size_t size) {
    void *larger = reallocarray(block, count, size);
    if (larger == NULL) tool_die("out of memory");
    return larger;
}

char *tool_format(const char *format, ...) {
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0) tool_die("out of memory");
    return text;
}

void tool_need_program(const char *program, const char *package, const char *option) {
    const char *path = getenv("PATH");
    char *copy = tool_format("%s", path != NULL ? path : "/usr/bin:/bin");
    char *rest = copy;
    bool found = false;
    for (char *place = strsep(&rest, ":"); place != NULL && !found; place = strsep(&rest, ":")) {
        char *file = tool_format("%s/%s", place[0] != '\0' ? place : ".", program);
        found = access(file, X_OK) == 0;
        free(file);
    }
    free(copy);
    if (!found)
        tool_die("%s needs %s, which is not in PATH (Debian package %s)", option, program, package);
}

int tool_create_file(const char *path, bool force) {
    struct stat status;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST) {
        if (stat(path, &status) == 0 && S_ISREG(status.st_mode) && !force)
            tool_bad_input("%s exists; --force overwrites it", path);
        fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
    }
    if (fd < 0) tool_bad_input("cannot write %s: %s", path, strerror(errno));
    return fd;
}

/* ------------------------------------------------------------------ arguments ---------------- */

static argp_parser_t inner_parser;
static FILE *first_line;
static bool line_begun, line_ended;

/* The write function of a stream: the first line if it is a message, with our name in front. */
static ssize_t write_first_line(void *cookie, const char *text, size_t length) {
    (void)cookie;
    if (!line_begun && length > 0) {
        line_begun = true;
        line_ended = text[0] != 'l';
    }
    for (size_t i = 0; i < length && !line_ended; i++) {
        fputc(text[i], stderr);
        line_ended = text[i] == '\n';
    }
    return (ssize_t)length;
}

/* argp's message is followed by a line on where to find help; getopt writes its messages by itself,
 * and only that line comes this way. */
static error_t outer_parser(int key, char *arg, struct argp_state *state) {
    if (key == ARGP_KEY_INIT && first_line != NULL) state->err_stream = first_line;
    return inner_parser != NULL ? inner_parser(key, arg, state) : ARGP_ERR_UNKNOWN;
}

void tool_parse(const struct argp *parser, int argc, char **argv, void *input) {
    struct argp outer = *parser;
    cookie_io_functions_t functions = {.write = write_first_line};
    first_line = fopencookie(NULL, "w", functions);
    if (first_line != NULL) setvbuf(first_line, NULL, _IONBF, 0);
    inner_parser = parser->parser;
    outer.parser = outer_parser;
    if (argp_parse(&outer, argc, argv, ARGP_IN_ORDER, NULL, input) != 0)
        tool_bad_input("cannot read the arguments");
    if (first_line != NULL) fclose(first_line);
    first_line = NULL;
}

error_t tool_parse_common(int key, char *arg, struct tool_common *common) {
    switch (key) {
    case 'a':
        common->allocators = arg;
        return 0;
    case 'o':
        common->output = arg;
        return 0;
    case TOOL_KEY_FORCE:
        common->force = true;
        return 0;
    case TOOL_KEY_HTML:
        common->html = arg;
        return 0;
    case TOOL_KEY_JSON:
        common->json = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

char **tool_take_command(struct argp_state *state) {
    char **command = &state->argv[state->next - 1];
    state->next = state->argc;
    return command;
}

unsigned tool_parse_number(struct argp_state *state, const char *text, unsigned least,
                           const char *option) {
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    bool digits = text[0] >= '0' && text[0] <= '9' && *end == '\0';
    if (!digits || number < least || number > 1000000)
        argp_error(state, "%s takes a number from %u to 1000000, not '%s'", option, least, text);
    return (unsigned)number;
}
