/*
 * lab_run.c - one run of an experiment: its probes, its checks, its document.
 *
 * The document begins with what is expected; then come the sections that the experiment adds, the
 * table of checks, and the verdict. "results" in its JSON has the checks and all facts again, for
 * programs.
 */
#include "lab/lab_run.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lab/lab_facts.h"
#include "frame/frame.h"

struct check {
    char *of, *what;
    bool holds;
};

struct gathered {
    const char *of; /* the allocator's name, or "" */
    char *probe;    /* its arguments               */
    struct lab_facts *facts;
};

struct lab {
    const struct lab_experiment *experiment;
    const struct allocator_list *allocators;
    bool may_overcommit;
    struct document *document;
    struct check *checks;
    size_t check_count;
    struct gathered *gathered;
    size_t gathered_count;
};

struct lab *lab_start(const struct lab_experiment *experiment,
                      const struct allocator_list *allocators, bool may_overcommit) {
    struct lab *lab = tool_alloc(1, sizeof *lab);
    lab->experiment = experiment;
    lab->allocators = allocators;
    lab->may_overcommit = may_overcommit;
    lab->document = document_create(experiment->title);
    document_text(lab->document, "%s", experiment->expect);
    return lab;
}

void lab_run(struct lab *lab) {
    lab->experiment->run(lab);
}

void lab_end_run(struct lab *lab) {
    for (size_t i = 0; i < lab->check_count; i++) {
        free(lab->checks[i].of);
        free(lab->checks[i].what);
    }
    for (size_t i = 0; i < lab->gathered_count; i++) {
        lab_facts_destroy(lab->gathered[i].facts);
        free(lab->gathered[i].probe);
    }
    free(lab->checks);
    free(lab->gathered);
    document_destroy(lab->document);
    free(lab);
}

/* ------------------------------------------------------------------ for experiments ---------- */

struct document *lab_document(struct lab *lab) {
    return lab->document;
}

size_t lab_count(const struct lab *lab) {
    return lab->allocators->count;
}

const char *lab_name(const struct lab *lab, size_t which) {
    return lab->allocators->at[which].name;
}

bool lab_is_ptmalloc(const struct lab *lab, size_t which) {
    const char *name = lab_name(lab, which);
    return strcmp(name, "glibc") == 0 || strcmp(name, "pt") == 0;
}

bool lab_is_lucid(const struct lab *lab, size_t which) {
    return strcmp(lab_name(lab, which), "lucid") == 0;
}

bool lab_is_known(const struct lab *lab, size_t which) {
    return lab_is_ptmalloc(lab, which) || lab_is_lucid(lab, which);
}

bool lab_may_overcommit(const struct lab *lab) {
    return lab->may_overcommit;
}

static char *join(const char *const *words) {
    char *text = tool_format("%s", words[0]);
    for (size_t i = 1; words[i] != NULL; i++) text = lab_append(text, " %s", words[i]);
    return text;
}

static const struct lab_facts *gather(struct lab *lab, const struct lab_launch *launch) {
    char *probe = join(launch->arguments);
    const char *of = launch->allocator != NULL ? launch->allocator->name
                     : launch->under != NULL   ? launch->under
                                               : "";
    output_progress("%s %s: %s", lab->experiment->name, of, probe);
    struct lab_facts *facts = lab_facts_gather(launch);
    output_progress_end();
    lab->gathered = tool_grow(lab->gathered, lab->gathered_count + 1, sizeof lab->gathered[0]);
    lab->gathered[lab->gathered_count++] = (struct gathered){of, probe, facts};
    return facts;
}

/* The same of one that must end well. */
static const struct lab_facts *gather_sound(struct lab *lab, const struct lab_launch *launch) {
    const struct lab_facts *facts = gather(lab, launch);
    const char *of = launch->allocator != NULL ? launch->allocator->name : "";
    if (lab_end(facts) != 0) {
        lab_check(lab, of, false, "the probe '%s' ended with %d: %s", launch->arguments[0],
                  lab_end(facts), lab_complaint(facts));
    }
    return facts;
}

const struct lab_facts *lab_probe(struct lab *lab, size_t which, const char *const *arguments) {
    return gather_sound(lab, &(struct lab_launch){.allocator = &lab->allocators->at[which],
                                                  .arguments = arguments});
}

const struct lab_facts *lab_probe_that_may_die(struct lab *lab, size_t which,
                                               const char *const *arguments, const char *options) {
    return gather(lab, &(struct lab_launch){.allocator = &lab->allocators->at[which],
                                            .options = options,
                                            .arguments = arguments});
}

const struct lab_facts *lab_probe_alone(struct lab *lab, const char *const *arguments) {
    return gather_sound(lab, &(struct lab_launch){.arguments = arguments});
}

const struct lab_facts *lab_probe_under(struct lab *lab, const char *program,
                                        const char *const *arguments) {
    return gather(lab, &(struct lab_launch){.under = program, .arguments = arguments});
}

void lab_check(struct lab *lab, const char *of, bool holds, const char *format, ...) {
    va_list args;
    char *what = NULL;
    va_start(args, format);
    if (vasprintf(&what, format, args) < 0) tool_die("out of memory");
    va_end(args);
    for (char *c = what; *c != '\0'; c++) {
        if (*c == '|' || *c == '\n') *c = ' '; /* parts of tables */
    }
    lab->checks = tool_grow(lab->checks, lab->check_count + 1, sizeof lab->checks[0]);
    lab->checks[lab->check_count++] = (struct check){tool_format("%s", of), what, holds};
}

char *lab_append(char *text, const char *format, ...) {
    va_list args;
    char *more = NULL;
    va_start(args, format);
    if (vasprintf(&more, format, args) < 0) tool_die("out of memory");
    va_end(args);
    char *longer = tool_format("%s%s", text, more);
    free(more);
    free(text);
    return longer;
}

bool lab_near(double measured, double expected, double share) {
    return fabs(measured - expected) <= share * fabs(expected);
}

/* ------------------------------------------------------------------ the end ------------------ */

bool lab_holds(const struct lab *lab) {
    for (size_t i = 0; i < lab->check_count; i++) {
        if (!lab->checks[i].holds) return false;
    }
    return lab->check_count > 0;
}

static json_t *results(const struct lab *lab) {
    json_t *checks = json_array(), *facts = json_array();
    for (size_t i = 0; i < lab->check_count; i++) {
        const struct check *check = &lab->checks[i];
        json_array_append_new(checks, json_pack("{s:s, s:s, s:b}", "of", check->of, "measured",
                                                check->what, "holds", (int)check->holds));
    }
    for (size_t i = 0; i < lab->gathered_count; i++) {
        const struct gathered *gathered = &lab->gathered[i];
        json_array_append_new(facts,
                              json_pack("{s:s, s:s, s:O}", "of", gathered->of, "probe",
                                        gathered->probe, "facts", lab_facts_json(gathered->facts)));
    }
    return json_pack("{s:s, s:s, s:b, s:o, s:o}", "schema", "lucid-lab-1", "experiment",
                     lab->experiment->name, "holds", (int)lab_holds(lab), "checks", checks, "facts",
                     facts);
}

struct document *lab_finish(struct lab *lab) {
    document_table(lab->document, "Measured", "of|what was measured|holds");
    for (size_t i = 0; i < lab->check_count; i++) {
        const struct check *check = &lab->checks[i];
        document_row(lab->document, "%s|%s|%s", check->of, check->what,
                     check->holds ? "yes" : "NO");
    }
    document_text(lab->document, "%s: %s", lab->experiment->name,
                  lab_holds(lab) ? "holds" : "does not hold");
    json_object_set_new(document_json(lab->document), "results", results(lab));
    return lab->document;
}
