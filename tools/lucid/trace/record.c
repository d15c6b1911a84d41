/*
 * record.c - `lucid record`: a program with every call of its allocator written down.
 *
 *     FILE is made ──▶ the command, with liblucid-record.so preloaded ──▶ FILE, raw
 *                                                                          │ trace_compact
 *     FILE is replaced, in one step, by the compact one  ◀── FILE.XXXXXX ──┘
 *
 * Whatever happens, FILE is readable: the command may be killed, and so may we. LUCID_RECORD tells
 * the library what to do (tools/record/file.c); the process that it names is the command's first,
 * also after it has executed another program.
 */
#include "run/run.h"
#include "frame/frame.h"
#include "trace/trace.h"
#include "trace/trace_chunks.h"
#include "trace/trace_compact.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { KEY_SITES = 256, KEY_CHILDREN };

struct arguments {
    struct tool_common common;
    char **command;
    bool sites, children, quiet;
};

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "Write the trace to FILE", 0},
    {"force", TOOL_KEY_FORCE, NULL, 0, "Overwrite FILE if it exists", 0},
    {"allocator", 'a', "ALLOCATOR", 0, "Run on ALLOCATOR (default: the program's own)", 0},
    {"sites", KEY_SITES, NULL, 0, "Record also where each call came from", 0},
    {"children", KEY_CHILDREN, NULL, 0,
     "Record processes that the command starts as well, each to FILE.PID", 0},
    {"quiet", 'q', NULL, 0, "Do not say what was recorded", 0},
    {0},
};

static const char doc[] =
    "Run COMMAND and record every call of malloc, free and their kin, with their threads and times."
    "\vALLOCATOR is " ALLOCATOR_NAMES ".\n\n"
    "'lucid trace' shows what is in FILE, 'lucid replay' replays it. Of a COMMAND that executes "
    "another program, that program is recorded. FILE is readable if COMMAND was killed.\n\n"
    "The exit status is that of COMMAND (128 + N if signal N ended it), 2 if lucid cannot take the "
    "arguments, 125 if it fails itself, 126 if COMMAND cannot be executed, 127 if it is not found.";

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct arguments *args = state->input;
    switch (key) {
    case 'q':
        args->quiet = true;
        return 0;
    case KEY_SITES:
        args->sites = true;
        return 0;
    case KEY_CHILDREN:
        args->children = true;
        return 0;
    case ARGP_KEY_ARG:
        args->command = tool_take_command(state);
        return 0;
    case ARGP_KEY_END:
        if (args->command == NULL) argp_error(state, "no command to record");
        if (args->common.output == NULL) argp_error(state, "no file to record to: -o FILE");
        return 0;
    default:
        return tool_parse_common(key, arg, &args->common);
    }
}

/* ------------------------------------------------------------------ before ------------------- */

/* The new, empty file; its absolute path, which the caller frees. */
static char *make_file(const struct arguments *args) {
    struct stat status;
    int fd = tool_create_file(args->common.output, args->common.force);
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        tool_bad_input("%s is not a regular file", args->common.output);
    close(fd);
    char *path = realpath(args->common.output, NULL);
    if (path == NULL) tool_die("%s: %s", args->common.output, strerror(errno));
    return path;
}

/* Differs from that of any other recording on this machine. */
static uint64_t new_session(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ------------------------------------------------------------------ afterwards --------------- */

struct recorded {
    uint64_t events, plain_bytes, file_bytes, lost;
    size_t threads;
};

static void add_up(const struct trace_chunks *chunks, struct recorded *sum) {
    for (size_t i = 0; i < chunks->count; i++) {
        const struct trace_place *place = &chunks->places[i];
        sum->threads += i == 0 || place[-1].thread != place->thread;
        sum->events += place->events;
        sum->plain_bytes += place->plain_bytes;
    }
    sum->file_bytes += chunks->file_bytes;
    sum->lost += chunks->end.lost;
}

/* Replace the raw trace at `path` by a compact one. False: it stays as it is. */
static bool compact(const char *path, struct recorded *sum) {
    struct trace_error error;
    struct trace_chunks chunks;
    struct stat status;
    char *scratch = tool_format("%s.XXXXXX", path);
    int fd = mkostemp(scratch, O_CLOEXEC);
    bool good = fd >= 0 && stat(path, &status) == 0 && fchmod(fd, status.st_mode & 0777) == 0;
    if (!good) {
        tool_warn("%s stays as it was recorded: %s: %s", path, scratch, strerror(errno));
    } else if (!(good = trace_compact(path, fd, &error))) {
        if (error.offset == UINT64_MAX)
            tool_warn("%s stays as it was recorded: %s: %s", path, scratch, error.reason);
        else
            tool_warn("%s stays as it was recorded: byte %llu: %s", path,
                      (unsigned long long)error.offset, error.reason);
    } else if (rename(scratch, path) != 0) {
        tool_warn("%s stays as it was recorded: %s", path, strerror(errno));
        good = false;
    }
    if (fd >= 0 && !good) unlink(scratch);
    if (fd >= 0) close(fd);
    free(scratch);
    if (good && trace_chunks_open(&chunks, path, &error)) {
        add_up(&chunks, sum);
        trace_chunks_close(&chunks);
    }
    return good;
}

/* True for the trace of a descendant: FILE.PID, of this session. */
static bool is_child_file(const char *directory, const char *name, const char *base,
                          uint64_t session) {
    size_t length = strlen(base);
    struct trace_chunks chunks;
    if (strncmp(name, base, length) != 0 || name[length] != '.' || name[length + 1] == '\0')
        return false;
    for (const char *c = name + length + 1; *c != '\0'; c++)
        if (!isdigit((unsigned char)*c)) return false;
    char *path = tool_format("%s/%s", directory, name);
    bool ours = trace_chunks_open(&chunks, path, NULL);
    free(path);
    if (!ours) return false;
    ours = chunks.session == session;
    trace_chunks_close(&chunks);
    return ours;
}

/* Returns how many files there were; `*good` becomes false if one stays raw. */
static size_t compact_children(const char *path, uint64_t session, struct recorded *sum,
                               bool *good) {
    char *directory = tool_format("%s", path), *base = strrchr(directory, '/') + 1;
    struct dirent **entries;
    size_t count = 0;
    base[-1] = '\0';
    int found = scandir(base == directory + 1 ? "/" : directory, &entries, NULL, alphasort);
    for (int i = 0; i < found; i++) {
        if (is_child_file(directory, entries[i]->d_name, base, session)) {
            char *file = tool_format("%s/%s", directory, entries[i]->d_name);
            *good = compact(file, sum) && *good;
            free(file);
            count++;
        }
        free(entries[i]);
    }
    if (found >= 0) free(entries);
    free(directory);
    return count;
}

static void tell(const char *path, const struct recorded *sum, size_t children) {
    char also[64] = "";
    if (children > 0) snprintf(also, sizeof(also), " and %zu of children", children);
    double bytes = output_ratio((double)sum->plain_bytes, (double)sum->events);
    tool_warn("%s%s: %s events of %zu thread%s, %.1f bytes each, %s compressed", path, also,
              cell_count((double)sum->events).text, sum->threads, sum->threads == 1 ? "" : "s",
              sum->events != 0 ? bytes : 0.0, cell_bytes((double)sum->file_bytes).text);
    if (sum->lost != 0)
        tool_warn("%s events could not be recorded", cell_count((double)sum->lost).text);
}

/* Make of what the recording left what is kept. False if that failed. */
static bool finish(const struct arguments *args, const char *path, uint64_t session) {
    struct recorded sum = {0};
    struct stat status;
    size_t children = 0;
    bool good = true;
    if (args->children) children = compact_children(path, session, &sum, &good);
    if (stat(path, &status) != 0 || status.st_size == 0) {
        unlink(path);
        tool_warn("nothing was recorded: %s is linked statically, has a malloc of its own, or "
                  "runs with other privileges",
                  args->command[0]);
        return false;
    }
    good = compact(path, &sum) && good;
    if (good && !args->quiet) tell(args->common.output, &sum, children);
    if (good && sum.events == 0)
        tool_warn("%s itself called no malloc that can be seen; --children records what it starts",
                  args->command[0]);
    return good;
}

int tool_record_main(int argc, char **argv) {
    const struct argp parser = {options, parse_option, "[--] COMMAND [ARGUMENT...]", doc, NULL,
                                NULL,    NULL};
    struct arguments args = {.command = NULL};
    struct allocator_list allocators = {NULL, 0};
    struct child_result result;
    tool_parse(&parser, argc, argv, &args);
    if (args.common.allocators != NULL) allocator_add(&allocators, args.common.allocators);
    char *library = allocator_find_recorder();
    char *path = make_file(&args);
    uint64_t session = new_session();
    char *setting = tool_format("%s%s:%llu:%s", args.sites ? "s" : "", args.children ? "c" : "",
                                (unsigned long long)session, path);
    struct child_plan plan = {.argv = args.command,
                              .allocator = allocators.count > 0 ? &allocators.at[0] : NULL,
                              .recorder = library,
                              .record = setting};
    child_run(&plan, &result);
    int status = result.exit_status;
    if (result.start_error != 0) {
        unlink(path);
        tool_warn("cannot run %s: %s", args.command[0], strerror(result.start_error));
    } else if (!finish(&args, path, session) && status == 0) {
        status = TOOL_FAILED;
    }
    free(setting);
    free(path);
    free(library);
    allocator_list_fini(&allocators);
    return status;
}
