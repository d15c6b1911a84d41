/*
 * options.c - `lucid options`: every key of LUCID_OPTIONS, its default, the value that a program
 * started now would have, and where that comes from.
 *
 * The engine's table of options is linked into this command, so what is listed is what this version
 * knows, and a bad key in the environment is reported here as in any program.
 */
#include "lucid/lucid.h"
#include "frame/commands.h"
#include "frame/frame.h"

#include <jansson.h>
#include <string.h>

enum { COLUMNS_ELSEWHERE = 100, BESIDE = 56, SUMMARY_LEAST = 24 };

static const struct argp_option options[] = {
    {"json", TOOL_KEY_JSON, NULL, 0, "List as JSON (schema lucid-options-1)", 0},
    {0},
};

static const char doc[] =
    "List the keys of LUCID_OPTIONS: default, effective value, origin."
    "\vSet them as LUCID_OPTIONS=key:value,key:value in a program's environment.";

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    return tool_parse_common(key, arg, state->input);
}

static void print_json(struct output *out) {
    json_t *list = json_array();
    lu_option_info_t info;
    for (size_t i = 0; lu_option_at(i, &info); i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:s}", "key", info.key, "summary",
                                        info.summary, "default", info.default_value, "value",
                                        info.value, "origin", info.origin));
    json_t *json = json_pack("{s:s, s:o}", "schema", "lucid-options-1", "options", list);
    output_json(out, json);
    json_decref(json);
}

/* Broken to fit; `over`: how much further than BESIDE the line has come already. */
static void print_summary(const struct output *out, const char *summary, size_t over) {
    size_t columns = output_columns(out) != 0 ? output_columns(out) : COLUMNS_ELSEWHERE;
    size_t room = columns > BESIDE + SUMMARY_LEAST ? columns - BESIDE : SUMMARY_LEAST;
    for (int before = 0; *summary != '\0'; before = BESIDE) {
        const char *line = summary;
        int length = (int)output_next_line(&summary, over < room ? room - over : 1);
        fprintf(out->to, "%*s%.*s\n", before, "", length, line);
        over = 0;
    }
}

/* How much longer a text is than its column. */
static size_t excess(const char *text, size_t column) {
    return strlen(text) > column ? strlen(text) - column : 0;
}

static void print_text(struct output *out) {
    lu_option_info_t info;
    fprintf(out->to, "%s%-16s %-12s %-12s %-12s %s%s\n", output_bold(out), "key", "default",
            "value", "origin", "what it is", output_plain(out));
    for (size_t i = 0; lu_option_at(i, &info); i++) {
        bool changed = strcmp(info.origin, "default") != 0;
        fprintf(out->to, "%-16s %-12s %s%-12s%s %-12s ", info.key, info.default_value,
                changed ? output_bold(out) : "", info.value, changed ? output_plain(out) : "",
                info.origin);
        print_summary(out, info.summary,
                      excess(info.key, 16) + excess(info.default_value, 12) +
                          excess(info.value, 12) + excess(info.origin, 12));
    }
}

int tool_options_main(int argc, char **argv) {
    const struct argp parser = {options, parse_option, NULL, doc, NULL, NULL, NULL};
    struct output out;
    struct tool_common common = {0};
    tool_parse(&parser, argc, argv, &common);
    tool_read_options();
    output_open(&out, NULL, false, stdout);
    if (common.json)
        print_json(&out);
    else
        print_text(&out);
    output_close(&out);
    return 0;
}
