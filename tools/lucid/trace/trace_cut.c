/*
 * trace_cut.c - `lucid trace cut FILE -o OUT --events N`: the beginning of a recording.
 *
 * A recording is cut at a point in time, that of event N in the order of `lucid trace dump`: so
 * each thread's events are kept up to there, and nothing is kept that depends on what is not. The
 * result has N events, or some more if others happened in the same tick. It reads as if the program
 * had been ended then.
 */
#include "trace/trace_cut.h"

#include "frame/frame.h"
#include "trace/trace_compact.h"
#include "trace/trace.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { KEY_EVENTS = 256 };

struct arguments {
    struct tool_common common;
    const char *file;
    unsigned events;
};

static const struct argp_option options[] = {
    {"events", KEY_EVENTS, "N", 0, "Keep the first N events", 0},
    {"output", 'o', "OUT", 0, "Write the trace to OUT", 0},
    {"force", TOOL_KEY_FORCE, NULL, 0, "Overwrite OUT if it exists", 0},
    {0},
};

static const char doc[] = "Write the beginning of a trace of 'lucid record' to another file.";

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct arguments *args = state->input;
    switch (key) {
    case KEY_EVENTS:
        args->events = tool_parse_number(state, arg, 1, "--events");
        return 0;
    case ARGP_KEY_ARG:
        if (args->file != NULL) argp_error(state, "one file at a time, not '%s' as well", arg);
        args->file = arg;
        return 0;
    case ARGP_KEY_END:
        if (args->file == NULL) argp_error(state, "no file");
        if (args->common.output == NULL) argp_error(state, "say where to, with -o");
        if (args->events == 0) argp_error(state, "say how much, with --events");
        return 0;
    default:
        return tool_parse_common(key, arg, &args->common);
    }
}

/* Of event number `count`, or the last one if there are fewer. */
static uint64_t time_of_event(const char *path, unsigned count) {
    struct trace_error error;
    struct trace_event event;
    uint64_t time_ns = 0;
    struct trace *trace = trace_open(path, &error);
    if (trace == NULL) tool_bad_input("%s: byte %" PRIu64 ": %s", path, error.offset, error.reason);
    if (strcmp(trace_info(trace)->format, "rep") == 0)
        tool_bad_input("%s is no recording: only these can be cut", path);
    while (count-- > 0 && trace_next(trace, &event)) time_ns = event.time_ns;
    trace_close(trace);
    return time_ns;
}

static bool are_one_file(const char *one, const char *other) {
    struct stat a, b;
    return stat(one, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

int trace_cut_main(int argc, char **argv) {
    const struct argp parser = {options, parse_option, "FILE", doc, NULL, NULL, NULL};
    struct arguments args = {0};
    struct trace_error error;
    argv[0] = tool_format("lucid trace cut");
    tool_parse(&parser, argc, argv, &args);
    if (are_one_file(args.file, args.common.output))
        tool_bad_input("%s cannot be cut in place", args.file);
    uint64_t last_ns = time_of_event(args.file, args.events);
    int fd = tool_create_file(args.common.output, args.common.force);
    if (!trace_compact_until(args.file, fd, last_ns, &error)) {
        if (error.offset == UINT64_MAX) tool_die("%s %s", args.common.output, error.reason);
        tool_bad_input("%s: byte %" PRIu64 ": %s", args.file, error.offset, error.reason);
    }
    if (close(fd) != 0) tool_die("%s cannot be written", args.common.output);
    return 0;
}
