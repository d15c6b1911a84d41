/*
 * trace_command.c - `lucid trace info|dump|check FILE`: what is in a trace.
 *
 *     info     figures of the whole                    text, or JSON (schema lucid-trace-info-1)
 *     dump     every event, one a line                 text, or one JSON object a line
 *     check    that all of it can be read, and what is strange about it; exit status 1 if it is
 *              not whole or does not make sense
 *
 *     cut      trace_cut.c
 *
 * A file that cannot be read is bad input (exit status 2), with the byte where it goes wrong.
 */
#include "frame/frame.h"
#include "trace/trace_cut.h"
#include "trace/trace.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum action { NONE, INFO, DUMP, CHECK };

struct arguments {
    enum action action;
    struct tool_common common;
    const char *file;
};

static const struct argp_option options[] = {
    {"json", TOOL_KEY_JSON, NULL, 0, "Print as JSON; of dump, an object a line", 0},
    {0},
};

static const char doc[] =
    "Show what is in a trace: figures (info), every event (dump), or whether it is sound (check). "
    "'lucid trace cut' makes a shorter one of it; it has options of its own."
    "\vFILE is a trace of 'lucid record' or a .rep trace of the malloc lab.\n\n"
    "The exit status is 0, 1 if check finds that the trace is not whole, 2 if it cannot be read.";

static enum action action_of(const char *word) {
    static const char *const words[] = {[INFO] = "info", [DUMP] = "dump", [CHECK] = "check"};
    for (size_t i = INFO; i < TOOL_COUNT_OF(words); i++)
        if (strcmp(words[i], word) == 0) return (enum action)i;
    return NONE;
}

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct arguments *args = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        if (args->action == NONE) {
            args->action = action_of(arg);
            if (args->action == NONE) argp_error(state, "'%s' is not info, dump or check", arg);
        } else if (args->file == NULL) {
            args->file = arg;
        } else {
            argp_error(state, "one file at a time, not '%s' as well", arg);
        }
        return 0;
    case ARGP_KEY_END:
        if (args->action == NONE) argp_error(state, "say info, dump or check");
        if (args->file == NULL) argp_error(state, "no file");
        return 0;
    default:
        return tool_parse_common(key, arg, &args->common);
    }
}

/* ------------------------------------------------------------------ info --------------------- */

static uint64_t file_bytes(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? (uint64_t)status.st_size : 0;
}

static json_t *info_json(const struct trace_info *info, const char *path) {
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
        "s:I, s:I, s:I, s:b, s:b}",
        "schema", "lucid-trace-info-1", "format", info->format, "command", info->command, //
        "file_bytes", (json_int_t)file_bytes(path), "chunks", (json_int_t)info->chunks,   //
        "events", (json_int_t)info->events, "allocs", (json_int_t)info->allocs,           //
        "frees", (json_int_t)info->frees, "resizes", (json_int_t)info->resizes,           //
        "threads", (json_int_t)info->threads, "blocks", (json_int_t)info->blocks,         //
        "duration_ns", (json_int_t)info->duration_ns,                                     //
        "live_blocks", (json_int_t)info->live_blocks, "live_bytes", (json_int_t)info->live_bytes,
        "peak_live_bytes", (json_int_t)info->peak_live_bytes, "total_bytes",
        (json_int_t)info->total_bytes, "unknown_frees", (json_int_t)info->unknown_frees,
        "double_allocs", (json_int_t)info->double_allocs, "repaired", (json_int_t)info->repaired,
        "lost", (json_int_t)info->lost, "torn", info->torn, "ended", info->ended);
}

static void print_count(struct output *out, const char *label, uint64_t count) {
    fprintf(out->to, "%-22s%s\n", label, cell_count((double)count).text);
}

static void print_bytes(struct output *out, const char *label, uint64_t bytes) {
    fprintf(out->to, "%-22s%s\n", label, cell_bytes((double)bytes).text);
}

static void print_info(struct output *out, const struct trace_info *info, const char *path) {
    fprintf(out->to, "%-22s%s\n", "format", info->format);
    if (info->command[0] != '\0') fprintf(out->to, "%-22s%s\n", "command", info->command);
    print_bytes(out, "file", file_bytes(path));
    print_count(out, "events", info->events);
    print_count(out, "  allocations", info->allocs);
    print_count(out, "  frees", info->frees);
    print_count(out, "  resizes", info->resizes);
    print_count(out, "threads", info->threads);
    fprintf(out->to, "%-22s%s\n", "duration", cell_seconds((double)info->duration_ns / 1e9).text);
    print_bytes(out, "allocated in all", info->total_bytes);
    print_bytes(out, "live, at most", info->peak_live_bytes);
    print_bytes(out, "live at the end", info->live_bytes);
    print_count(out, "  blocks", info->live_blocks);
    if (info->unknown_frees) print_count(out, "frees of unknown", info->unknown_frees);
    if (info->double_allocs) print_count(out, "frees put in", info->double_allocs);
    if (info->repaired) print_count(out, "put in order", info->repaired);
    if (info->lost) print_count(out, "not recorded", info->lost);
    fprintf(out->to, "%-22s%s\n", "end",
            info->torn    ? "torn"
            : info->ended ? "the program's exit"
                          : "none: the program was ended, or this is no recording");
}

/* ------------------------------------------------------------------ dump --------------------- */

static const char *name_of(enum trace_kind kind) {
    static const char *const names[] = {[TRACE_ALLOC] = "alloc",
                                        [TRACE_FREE] = "free",
                                        [TRACE_RESIZE] = "resize",
                                        [TRACE_THREAD_END] = "thread_end"};
    return names[kind];
}

static void dump_text(FILE *to, const struct trace_event *event) {
    fprintf(to, "%" PRIu64 " %" PRIu32 " %s", event->time_ns, event->thread, name_of(event->kind));
    if (event->kind == TRACE_RESIZE) fprintf(to, " %" PRIu64 " ->", event->old);
    if (event->kind != TRACE_THREAD_END) fprintf(to, " %" PRIu64, event->block);
    if (event->kind == TRACE_ALLOC || event->kind == TRACE_RESIZE)
        fprintf(to, " %" PRIu64 " bytes", event->size);
    if (event->zeroed) fputs(" zeroed", to);
    if (event->align != 0) fprintf(to, " align %" PRIu64, event->align);
    if (event->site != 0) fprintf(to, " from 0x%" PRIx64, event->site);
    fputc('\n', to);
}

static void dump_json(FILE *to, const struct trace_event *event) {
    fprintf(to, "{\"time_ns\": %" PRIu64 ", \"thread\": %" PRIu32 ", \"kind\": \"%s\"",
            event->time_ns, event->thread, name_of(event->kind));
    if (event->kind != TRACE_THREAD_END) fprintf(to, ", \"block\": %" PRIu64, event->block);
    if (event->kind == TRACE_RESIZE) fprintf(to, ", \"old\": %" PRIu64, event->old);
    if (event->kind == TRACE_ALLOC || event->kind == TRACE_RESIZE)
        fprintf(to, ", \"size\": %" PRIu64, event->size);
    if (event->zeroed) fputs(", \"zeroed\": true", to);
    if (event->align != 0) fprintf(to, ", \"align\": %" PRIu64, event->align);
    if (event->site != 0) fprintf(to, ", \"site\": \"0x%" PRIx64 "\"", event->site);
    fputs("}\n", to);
}

static void dump(struct output *out, struct trace *trace, bool json) {
    struct trace_event event;
    while (trace_next(trace, &event)) (json ? dump_json : dump_text)(out->to, &event);
}

/* ------------------------------------------------------------------ check -------------------- */

static void print_finding(struct output *out, const char *path, uint64_t count, const char *what) {
    if (count != 0) fprintf(out->to, "%s: %s %s\n", path, cell_count((double)count).text, what);
}

static void print_check(struct output *out, const struct trace_info *info, const char *path) {
    fprintf(out->to, "%s: %s events in %s chunks of %" PRIu32 " threads can be read\n", path,
            cell_count((double)info->events).text, cell_count((double)info->chunks).text,
            info->threads);
    if (info->torn) fprintf(out->to, "%s: torn: its end is missing\n", path);
    print_finding(out, path, info->double_allocs, "allocations at an address that was not freed");
    print_finding(out, path, info->lost, "events that could not be recorded");
    print_finding(out, path, info->unknown_frees, "frees of blocks from before the recording");
    print_finding(out, path, info->repaired, "events put in order by their addresses");
}

static int check(struct output *out, const struct trace_info *info, const struct arguments *args) {
    bool whole = !info->torn && info->double_allocs == 0 && info->lost == 0;
    if (args->common.json) {
        json_t *json = info_json(info, args->file);
        json_object_set_new(json, "schema", json_string("lucid-trace-check-1"));
        json_object_set_new(json, "whole", json_boolean(whole));
        output_json(out, json);
        json_decref(json);
    } else {
        print_check(out, info, args->file);
    }
    return whole ? 0 : 1;
}

int tool_trace_main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "cut") == 0) return trace_cut_main(argc - 1, argv + 1);
    const struct argp parser = {options, parse_option, "info|dump|check FILE", doc, NULL,
                                NULL,    NULL};
    struct arguments args = {.action = NONE};
    struct trace_error error;
    struct output out;
    int status = 0;
    tool_parse(&parser, argc, argv, &args);
    struct trace *trace = trace_open(args.file, &error);
    if (trace == NULL)
        tool_bad_input("%s: byte %" PRIu64 ": %s", args.file, error.offset, error.reason);
    output_open(&out, NULL, false, stdout);
    if (args.action == CHECK) {
        status = check(&out, trace_info(trace), &args);
    } else if (args.action == DUMP) {
        dump(&out, trace, args.common.json);
    } else if (args.common.json) {
        json_t *json = info_json(trace_info(trace), args.file);
        output_json(&out, json);
        json_decref(json);
    } else {
        print_info(&out, trace_info(trace), args.file);
    }
    output_close(&out);
    trace_close(trace);
    return status;
}
