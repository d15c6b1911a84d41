/*
 * lab.c - `lucid lab`: experiments that show how malloc works, each run live.
 *
 *     lucid lab                        list them
 *     lucid lab NAME…|all              run them; the exit status is 0 if all hold, else 1
 *
 * An experiment that does not hold is a result, not an error: errors have the statuses of all
 * commands.
 */
#include "lab/lab.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/lab_overcommit.h"
#include "lab/lab_run.h"
#include "frame/frame.h"

enum { KEY_OVERCOMMIT = 256, DOES_NOT_HOLD = 1 };

struct arguments {
    struct tool_common common;
    bool overcommit;
    const struct lab_experiment **chosen;
    size_t count;
};

static const struct argp_option options[] = {
    {"allocator", 'a', "LIST", 0, "Run on these allocators (default: each experiment's own)", 0},
    {"json", TOOL_KEY_JSON, NULL, 0, "Print JSON (schema lucid-document/1; several in an array)",
     0},
    {"html", TOOL_KEY_HTML, "FILE", 0, "Also write a page with pictures to FILE", 0},
    {"output", 'o', "FILE", 0, "Print to FILE instead of standard output", 0},
    {"force", TOOL_KEY_FORCE, NULL, 0, "Overwrite FILE", 0},
    {"overcommit", KEY_OVERCOMMIT, NULL, 0,
     "With 'untouched': try vm.overcommit_memory 0, 1 and 2 on the whole system for a moment each, "
     "then restore it. Needs root; other programs may be refused memory meanwhile",
     0},
    {0},
};

static const char doc[] =
    "Run experiments that show how malloc works; without a NAME, list them."
    "\vAn experiment says what is expected and why, shows what it measured, and ends with 'holds' "
    "or 'does not hold'. 'all' runs all of them. LIST has the names that 'lucid run -a' knows, "
    "separated by commas.\n\nThe exit status is 0 if everything held, 1 if not, 2 for arguments "
    "that cannot be used, 125 if lucid itself fails.";

static const struct lab_experiment *find(const char *name) {
    for (const struct lab_experiment *const *at = lab_experiments; *at != NULL; at++) {
        if (strcmp((*at)->name, name) == 0) return *at;
    }
    return NULL;
}

static void choose(struct arguments *args, const struct lab_experiment *experiment) {
    args->chosen = tool_grow(args->chosen, args->count + 1, sizeof(*args->chosen));
    args->chosen[args->count++] = experiment;
}

static void choose_by_name(struct arguments *args, const char *name) {
    if (strcmp(name, "all") == 0) {
        for (const struct lab_experiment *const *at = lab_experiments; *at != NULL; at++) {
            choose(args, *at);
        }
        return;
    }
    const struct lab_experiment *experiment = find(name);
    if (experiment == NULL) {
        tool_bad_input("no experiment is called '%s'; 'lucid lab' lists them", name);
    }
    choose(args, experiment);
}

static error_t parse_option(int key, char *arg, struct argp_state *state) {
    struct arguments *args = state->input;
    switch (key) {
    case KEY_OVERCOMMIT:
        args->overcommit = true;
        return 0;
    case ARGP_KEY_ARG:
        choose_by_name(args, arg);
        return 0;
    default:
        return tool_parse_common(key, arg, &args->common);
    }
}

static void list(struct output *out, bool json) {
    json_t *all = json_array();
    for (const struct lab_experiment *const *at = lab_experiments; *at != NULL; at++) {
        const struct lab_experiment *experiment = *at;
        const char *on = experiment->allocators != NULL ? experiment->allocators : "";
        if (json) {
            json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:s}", "name", experiment->name,
                                                 "title", experiment->title, "expect",
                                                 experiment->expect, "allocators", on));
        } else {
            fprintf(out->to, "  %s%-12s%s %s\n", output_bold(out), experiment->name,
                    output_plain(out), experiment->title);
        }
    }
    if (json) {
        json_t *document = json_pack("{s:s, s:O}", "schema", "lucid-lab-list-1", "experiments",
                                     all);
        output_json(out, document);
        json_decref(document);
    } else {
        fputs("\n'lucid lab NAME' runs one, 'lucid lab all' all of them.\n", out->to);
    }
    json_decref(all);
}

/* True if it held. With `all`, its JSON goes there. */
static bool run_one(const struct arguments *args, const struct lab_experiment *experiment,
                    struct output *out, json_t *all) {
    struct allocator_list allocators = {NULL, 0};
    const char *names = args->common.allocators != NULL ? args->common.allocators
                                                        : experiment->allocators;
    if (experiment->allocators != NULL) allocator_add_all(&allocators, names);
    struct lab *lab = lab_start(experiment, &allocators, args->overcommit);
    if (experiment->allocators == NULL && args->common.allocators != NULL) {
        document_text(lab_document(lab),
                      "(It needs no allocator of a real process: -a is not used.)");
    }
    lab_run(lab);
    struct document *document = lab_finish(lab);
    if (all != NULL) {
        json_array_append(all, document_json(document));
    } else if (args->common.json) {
        output_json(out, document_json(document));
    } else {
        document_print(document, out);
    }
    if (args->common.html != NULL)
        document_write_html(document, args->common.html, args->common.force);
    bool holds = lab_holds(lab);
    lab_end_run(lab);
    allocator_list_fini(&allocators);
    return holds;
}

/* True if all held. */
static bool run_all(const struct arguments *args, struct output *out) {
    json_t *all = args->common.json && args->count > 1 ? json_array() : NULL;
    bool hold = true;
    for (size_t i = 0; i < args->count; i++) hold &= run_one(args, args->chosen[i], out, all);
    if (all != NULL) output_json(out, all);
    json_decref(all);
    return hold;
}

/* What cannot be done is said before the work. */
static void check_arguments(const struct arguments *args) {
    struct allocator_list known = {NULL, 0};
    bool untouched = false;
    for (size_t i = 0; i < args->count; i++) {
        untouched |= strcmp(args->chosen[i]->name, "untouched") == 0;
    }
    if (args->common.allocators != NULL) allocator_add_all(&known, args->common.allocators);
    allocator_list_fini(&known);
    if (args->common.html != NULL && args->count != 1) {
        tool_bad_input("--html is for one experiment, not %zu", args->count);
    }
    if (args->common.html != NULL && !args->common.force && access(args->common.html, F_OK) == 0) {
        tool_bad_input("%s exists; --force overwrites it", args->common.html);
    }
    if (args->overcommit && !untouched) {
        tool_bad_input("--overcommit is for the experiment 'untouched'");
    }
    if (args->overcommit) lab_overcommit_check();
}

int tool_lab_main(int argc, char **argv) {
    const struct argp parser = {options, parse_option, "[NAME...|all]", doc, NULL, NULL, NULL};
    struct arguments args = {0};
    struct output out;
    tool_parse(&parser, argc, argv, &args);
    check_arguments(&args);
    output_open(&out, args.common.output, args.common.force, stdout);
    int status = 0;
    if (args.count == 0) {
        list(&out, args.common.json);
    } else if (!run_all(&args, &out)) {
        status = DOES_NOT_HOLD;
    }
    output_close(&out);
    free(args.chosen);
    return status;
}
