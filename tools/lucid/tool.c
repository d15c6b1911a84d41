/*
 * tool.c - the small things that every subcommand needs: dying, memory, argument parsing.
 *
 * A command that runs out of memory can do nothing useful, so allocation here ends the program;
 * no caller checks for NULL. Messages go to stderr in one piece, "lucid: " in front, and our own
 * failures always have the exit status 125, so that a script can tell them from the child's.
 */
#include "tool.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
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

void tool_parse(const struct argp *parser, int argc, char **argv, void *input) {
    if (argp_parse(parser, argc, argv, ARGP_IN_ORDER, NULL, input) != 0)
        tool_die("cannot read the arguments");
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
